# SPDX-License-Identifier: Apache-2.0
"""MV-Adapter (Huang et al. 2024): weights that make the views of one batch look at each other, as they are published.

One safetensors file, named as published: mvadapter_tg2mv_sdxl (follows the mesh), mvadapter_t2mv_sdxl (is told where
the cameras stand), and the same for sd21. It holds for each self-attention of the U-Net

    <processor>.to_q_mv.weight  .to_k_mv.weight  .to_v_mv.weight  .to_out_mv.0.weight  .to_out_mv.0.bias

whose answer is added to that of the self-attention, and a T2I-Adapter (`adapter.*`) that reads six channels. The noise
levels are shifted as in its training. What was learnt here and synchronization add up: this one makes the views alike,
that one makes them agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from blender_addon.jobs.errors import ModelError, SettingsError
from blender_addon.jobs.records import Camera
from engine.models.folders import ModelFolder, check_safetensors
from engine.models.view_attention import SELF_ATTENTION
from engine.models.view_lines import AlongLines, SharedLines, shared_lines
from engine.schedule import alphas_cumprod

PUBLISHED = "huanngzh/mv-adapter"
CHANNELS = 6
SHIFT = 8.0  # signal-to-noise ratio at the noisiest level is divided by this, at the cleanest by 1
FAULTS = (KeyError, ValueError, RuntimeError, OSError, SafetensorError)


@dataclass(frozen=True)
class MultiViewGuide:
    """What a job tells the adapter. image: [N,6,H,W] in 0..1. lines: along which the views look at each other."""

    image: Tensor
    lines: SharedLines


class Adapter(nn.Module):
    """The loaded weights: one set of layers for each self-attention of `unet`, and the encoder of the six channels."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        from diffusers import T2IAdapter

        self.names = [name for name in unet.attn_processors if name.endswith(SELF_ATTENTION)]
        attentions = [unet.get_submodule(name.removesuffix(".processor")) for name in self.names]
        self.layers = nn.ModuleList(Layers(one.to_q.in_features, one.to_q.out_features) for one in attentions)
        widths, large = tuple(unet.config.block_out_channels), is_large(unet)
        self.encoder = T2IAdapter(
            CHANNELS, (*widths, widths[-1]) if large else widths, unet.config.layers_per_block,
            16 if large else 8, "full_adapter_xl" if large else "full_adapter",
        )  # fmt: skip

    @property
    def multiple(self) -> int:
        """What the sides of a view in pixels must be multiples of."""
        return self.encoder.config.downscale_factor

    def published(self) -> dict[str, str]:
        """Names of the weights as published -> here."""
        names = {f"{name}.{key}": f"layers.{k}.{key}" for k, name in enumerate(self.names)
                 for key, _ in self.layers[k].named_parameters()}  # fmt: skip
        return names | {key: f"encoder.{key}" for key, _ in self.encoder.named_parameters()}

    @torch.no_grad()
    def features(self, image: Tensor) -> list[Tensor]:
        """What is added to the U-Net's features at each depth, each [N,c,h,w], of the six channels [N,6,H,W]."""
        weight = next(self.encoder.parameters())
        return self.encoder(image.to(weight.device, weight.dtype))

    @contextmanager
    def looking_along(self, unet: nn.Module, lines: SharedLines | None, shape: tuple[int, int]) -> Iterator[None]:
        """While this lasts, the U-Net's self-attention also looks along the lines. Its batch is all views, once or
        several times over, of latents `shape`. What else its self-attention does stays: the answers add up."""
        if lines is None:
            yield
            return
        before = dict(unet.attn_processors)
        layers = dict(zip(self.names, self.layers, strict=True))
        unet.set_attn_processor({name: AlongLines(inner, layers[name], lines, shape) if name in layers else inner
                                 for name, inner in before.items()})  # fmt: skip
        try:
            yield
        finally:
            unet.set_attn_processor(before)


class Layers(nn.Module):
    """The adapter's own attention beside one self-attention of the U-Net, under the names it is published with."""

    def __init__(self, outer: int, inner: int):
        super().__init__()
        self.to_q_mv, self.to_k_mv, self.to_v_mv = (nn.Linear(outer, inner, bias=False) for _ in range(3))
        self.to_out_mv = nn.ModuleList([nn.Linear(inner, outer)])


def is_large(unet: nn.Module) -> bool:
    """Whether a U-Net is SDXL's."""
    return unet.config.addition_embed_type == "text_time"


def load_adapter(folder: ModelFolder, file: str, unet: nn.Module, dtype: torch.dtype) -> Adapter:
    """The adapter in `folder`, for this U-Net, on the CPU.

    Raises `ModelError` for absent, pickled or damaged weights, and for those made for another U-Net or another task.
    """
    path = folder.path / file
    check_safetensors(path, folder.name)
    with torch.device("meta"):
        adapter = Adapter(unet)
    names = adapter.published()
    try:
        with safe_open(path, framework="pt", device="cpu") as weights:
            found = {key: weights.get_tensor(key) for key in weights.keys()}
    except FAULTS as error:
        raise ModelError(f'"{path.name}" could not be read: {error}', "Copy or download it again.") from error
    _check_keys(path.name, names, found, adapter.state_dict())
    weights = {names[key]: tensor.to(dtype) for key, tensor in found.items()}
    adapter.load_state_dict(weights, assign=True)
    return adapter.eval().requires_grad_(False)


def _check_keys(
    file: str, names: Mapping[str, str], found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> None:
    """Raises `ModelError` naming the first weight that is missing, strange or of another size."""
    if any("_ref." in key for key in found):
        raise ModelError(f'"{file}" paints from a picture (it holds {next(key for key in found if "_ref." in key)}).',
                         "Choose an adapter that needs none: mvadapter_tg2mv_sdxl.safetensors.")  # fmt: skip
    remedy = "SDXL and SD 2.1 need different files: mvadapter_tg2mv_sdxl and mvadapter_tg2mv_sd21."
    for word, keys in (("lacks", names.keys() - found.keys()), ("has the strange weight", found.keys() - names.keys())):
        if keys:
            raise ModelError(f'The multi-view adapter "{file}" does not fit this model: it {word} {min(keys)}'
                             f"{f' and {len(keys) - 1} more' if len(keys) > 1 else ''}.", remedy)  # fmt: skip
    for key, tensor in found.items():
        if tensor.shape != expected[names[key]].shape:
            raise ModelError(f'The multi-view adapter "{file}" does not fit this model: {key} is {tuple(tensor.shape)} '
                             f"and should be {tuple(expected[names[key]].shape)}.", remedy)  # fmt: skip


def follows_geometry(name: str) -> bool:
    """Whether the adapter of that name is shown the mesh (tg2mv), or is told where the cameras stand (t2mv).

    Both are published with the same weights' names and sizes, so only the file's name tells. Raises SettingsError.
    """
    path = Path(name).expanduser()
    file = path.name if path.is_file() else _in_folder(path) if path.is_dir() else "tg2mv"
    for pattern, follows in ((r"tg2mv", True), (r"(?<![a-z])t2mv", False)):
        if re.search(pattern, file):
            return follows
    raise SettingsError(f'Whether "{file}" follows the mesh or the cameras cannot be told.',
                        "Give the file its published name, such as mvadapter_tg2mv_sdxl.safetensors.",
                        key="multiview")  # fmt: skip


def _in_folder(path: Path, base: str = "") -> str:
    """The file to take in a folder: the one that follows the mesh, for `base` ("sdxl", "sd21"), or the only one."""
    found = sorted(one.name for one in path.glob("*.safetensors"))
    usual = [name for name in found if "tg2mv" in name and base in name]
    if len(found) != 1 and not usual:
        said = f"holds {', '.join(found[:6])}" if found else "holds no .safetensors file"
        raise SettingsError(f"multiview is {path}, which {said}.", "Give the adapter's own file.", key="multiview")
    return usual[0] if usual else found[0]


def usual_file(path: Path, base: str) -> str:
    """The file of an adapter's folder that fits models of the kind `base`: "sdxl" or "sd21"."""
    return _in_folder(path, base)


def lines_of(name: str, cameras: Sequence[Camera], points: np.ndarray) -> SharedLines:
    """Along which lines the cameras look at each other with the adapter of that name. `points` [P,3] of the mesh.

    Raises SettingsError where there are none: the adapter would do nothing that it was trained for.
    """
    corners = np.asarray([np.min(points, 0), np.max(points, 0)])
    box = np.stack(np.meshgrid(*corners.T), -1).reshape(-1, 3)
    lines = shared_lines(cameras, box, columns=follows_geometry(name))
    if not any(len(line.views) > 1 and not line.columns for line in lines.lines):
        raise SettingsError(
            "multiview looks along rows of pixels that show the same height, and no two of the "
            f"{len(cameras)} views do.",
            "Set lens to parallel, rig to box and views to 6; or use the scene's cameras, orthographic, level, of one "
            "scale; or leave multiview empty.", key="multiview",
        )  # fmt: skip
    return lines


def shifted(config: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's config with the noise levels the adapter was trained at: log SNR lower by (t / last t) log 8."""
    power = alphas_cumprod({**config, "rescale_betas_zero_snr": False})
    ratio = power / (1 - power) * SHIFT ** -(np.arange(len(power)) / (len(power) - 1))
    power = ratio / (1 + ratio)
    betas = 1 - power / np.concatenate([[1.0], power[:-1]])
    return {**config, "trained_betas": betas.tolist()}
