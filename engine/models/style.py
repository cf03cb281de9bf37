# SPDX-License-Identifier: Apache-2.0
"""A picture whose style the model takes over: IP-Adapter (Ye et al. 2023), in the layouts it is published in.

    image_encoder/config.json  image_encoder/model.safetensors  ip-adapter_*.safetensors

The image encoder can be a folder of its own: SD 3.5's and FLUX's adapters are published without one.
The adapter's extra attention is put into the network when the model is loaded; how strong it is belongs to the job.
Known are, for U-Nets (h94/IP-Adapter), the plain ones, "plus" and "full"; for SD 3.5 InstantX's; for FLUX XLabs'. What
each reads of the picture and what stands for no picture is that of the family's diffusers pipeline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import interpolate

from blender_addon.jobs.errors import ModelError
from engine.models.folders import ModelFolder, check_safetensors, load_part
from engine.models.loading import Wanted

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the pictures that CLIP was trained on
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
FAULTS = (KeyError, ValueError, RuntimeError, AttributeError, IndexError, SafetensorError)
CLIP = "CLIPVisionModelWithProjection"
NO_FEATURES, MEAN_GREY, BLACK = "no features", "mean grey", "black"  # what stands for no picture


@dataclass(frozen=True)
class Layout:
    """One published kind of adapter, told by the weight `key` of its "image_proj".

    `reads`: the weight whose last dimension is that of what it reads. `deep`: it reads the tokens of the encoder's
    last layer but one, and not the summary. `none`: what stands for no picture, in the parts of avoided texts.
    """

    key: str
    reads: str
    deep: bool
    none: str


@dataclass(frozen=True)
class Kind:
    """What the adapters of a network have in common. `renamed`: beginnings of keys, as published, to diffusers'."""

    layouts: tuple[Layout, ...]
    encoder: str = CLIP
    mean: tuple[float, ...] = MEAN
    deviation: tuple[float, ...] = DEVIATION
    renamed: Mapping[str, str] = field(default_factory=dict)


KINDS = {
    "UNet2DConditionModel": Kind((
        Layout("proj.weight", "proj.weight", False, NO_FEATURES),  # plain: one layer
        Layout("latents", "proj_in.weight", True, MEAN_GREY),  # "plus": a resampler
        Layout("proj.3.weight", "proj.0.weight", True, MEAN_GREY),  # "full": every token
    )),
    "FluxTransformer2DModel": Kind((Layout("proj.weight", "proj.weight", False, BLACK),), renamed={
        "ip_adapter_proj_model": "image_proj", "double_blocks": "ip_adapter", "processor.": "",
        "ip_adapter_double_stream_k_proj": "to_k_ip", "ip_adapter_double_stream_v_proj": "to_v_ip",
    }),
    "SD3Transformer2DModel": Kind(
        (Layout("time_embedding.linear_1.weight", "proj_in.weight", True, NO_FEATURES),), "SiglipVisionModel",
        (0.5,) * 3, (0.5,) * 3,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Style:
    """A loaded adapter in its network, a U-Net or a transformer.

    The image encoder waits in main memory: it sees one picture in a job. device, dtype: of the network when it runs.
    """

    encoder: nn.Module = field(repr=False)
    network: nn.Module = field(repr=False)
    layout: Layout
    device: torch.device
    dtype: torch.dtype
    name: str = ""

    @torch.no_grad()
    def features(self, picture: Tensor) -> Tensor:
        """What the adapter reads of a picture [1,3,H,W] in -1..1, [2, 1, 1, ...]: nothing's first, then its own."""
        side = self.encoder.config.image_size
        small = interpolate(_square(picture.float()), (side, side), mode="bicubic", antialias=True).clamp(-1, 1)
        self.encoder.to(self.device)
        try:
            return self._features(small)
        finally:
            self.encoder.to("cpu")

    def _features(self, small: Tensor) -> Tensor:
        pixels = self._pixels(small)
        own = self._seen(pixels)
        if self.layout.none == NO_FEATURES:
            none = torch.zeros_like(own)
        else:
            grey = self.layout.none == MEAN_GREY
            none = self._seen(torch.zeros_like(pixels) if grey else self._pixels(torch.full_like(small, -1)))
        return torch.stack([none, own])[:, :, None]

    def _pixels(self, small: Tensor) -> Tensor:
        kind = KINDS[type(self.network).__name__]
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (kind.mean, kind.deviation))
        return (((small.cpu() + 1) / 2 - mean) / deviation).to(self.encoder.device, self.encoder.dtype)

    def _seen(self, pixels: Tensor) -> Tensor:
        if self.layout.deep:
            return self.encoder(pixels, output_hidden_states=True).hidden_states[-2]
        return self.encoder(pixels).image_embeds

    def bound(self, picture: Tensor, views: int, parts: int) -> Tensor:
        """What every view of every part is given, [parts, views, 1, ...]: nothing but in the prompts' part."""
        none, own = self.features(picture).to(self.device, self.dtype)
        both = torch.stack([*[none] * (parts - 1), own])
        return both.expand(parts, views, *both.shape[2:])

    @contextmanager
    def strength(self, scale: float) -> Iterator[None]:
        """While this lasts, the adapter's attention counts `scale` times."""
        processors = [one for one in self.network.attn_processors.values() if hasattr(one, "scale")]
        before = [one.scale for one in processors]
        for one in processors:  # a list where several adapters could be, as in U-Nets and FLUX
            one.scale = [scale] * len(one.scale) if isinstance(one.scale, list) else scale
        try:
            yield
        finally:
            for one, scales in zip(processors, before, strict=True):
                one.scale = scales


def _square(picture: Tensor) -> Tensor:
    """The middle square of a picture [1,3,H,W]."""
    height, width = picture.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[..., top : top + side, left : left + side]


def wanted_style(wanted: Wanted, network: nn.Module) -> Style | None:
    """The style adapter that a model is to be loaded with, in its network; None without one."""
    if wanted.style is None:
        return None
    return load_style(*wanted.style, network, wanted.number, wanted.device, wanted.style_encoder)


def lacks_encoder(folder: ModelFolder, file: str, network: str) -> bool:
    """Whether the adapter lies without an image encoder, and is one for networks of the class `network`, as far as the
    names of its weights tell.

    Raises `ModelError` for absent, pickled or damaged weights.
    """
    path, kind = _weights(folder, file), KINDS.get(network)
    check_safetensors(path, folder.name)
    if kind is None or any((place / "image_encoder").is_dir() for place in _places(folder, path)):
        return False
    try:
        with safe_open(path, framework="pt", device="cpu") as weights:
            names = [name for part, name, _ in _named(weights.keys(), kind) if part == "image_proj"]
    except SafetensorError:
        return False  # loading it says more
    return any(layout.key in names for layout in kind.layouts)


def load_style(
    folder: ModelFolder, file: str, network: nn.Module, dtype: torch.dtype, device: torch.device,
    encoder: ModelFolder | None = None,
) -> Style:
    """Puts the adapter in `folder` into the network. `file`: which weights, where it holds several; "" the only ones.
    `encoder`: the folder of the image encoder where it is not beside the weights.

    Raises `ModelError` for absent, pickled or damaged parts, for an adapter made for another network, and for a layout
    or an image encoder that does not fit.
    """
    path, kind = _weights(folder, file), KINDS[type(network).__name__]
    check_safetensors(path, folder.name)
    try:
        with safe_open(path, framework="pt", device="cpu") as weights:
            parts = _parts(weights, kind)
        layout = _layout(path, folder.name, parts, kind)
        place, part = _encoder_folder(folder, path, layout, parts["image_proj"][layout.reads].shape[-1], encoder)
        sees = load_part(place, part, (kind.encoder,), dtype)
        # diffusers' own way in; it has no public one
        network._load_ip_adapter_weights([parts] if kind.encoder == CLIP else parts, low_cpu_mem_usage=False)
    except FAULTS as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(f'The style adapter "{path.name}" does not fit this model: {said}',
                         "Each of SD 1.5, SDXL, SD 3.5 and FLUX needs its own IP-Adapter.") from error  # fmt: skip
    network.to(dtype=dtype)  # the adapter's layers are new; where they go is planned with the network
    return Style(sees, network, layout, device, dtype, folder.name)


def _parts(weights: Any, kind: Kind) -> dict[str, dict[str, Tensor]]:
    """The adapter's two halves under diffusers' names."""
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for part, name, key in _named(weights.keys(), kind):
        if part in parts:
            parts[part][name] = weights.get_tensor(key)
    return parts


def _named(keys: Iterable[str], kind: Kind) -> Iterator[tuple[str, str, str]]:
    """(half, name in it, key as published) of each weight."""
    for key in keys:
        name = key
        for old, new in kind.renamed.items():
            name = name.replace(old, new)
        part, _, rest = name.partition(".")
        yield part, rest, key


def _layout(path: Path, name: str, parts: Mapping[str, Mapping[str, Tensor]], kind: Kind) -> Layout:
    if not all(parts.values()):
        raise ModelError(f'"{path.name}" of "{name}" is no IP-Adapter for this model.',
                         "Choose the adapter's own file.")  # fmt: skip
    found = next((one for one in kind.layouts if one.key in parts["image_proj"]), None)
    if found is None:
        raise ModelError(
            f'The style adapter "{path.name}" has a layout that is not known here: image_proj.'
            f'{min(parts["image_proj"])}.',
            "Use a plain, plus or full IP-Adapter made for this model; those for faces (FaceID) read other features.",
        )
    return found


def _weights(folder: ModelFolder, file: str) -> Path:
    if file:
        return folder.path / file
    found = sorted(folder.path.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    if not found and any(path.suffix == ".bin" for path in folder.path.iterdir()):
        raise ModelError(f'The style adapter "{folder.name}" has only pickled weights (.bin), which Tweed never opens.',
                         "Use its .safetensors file.")  # fmt: skip
    if not found:
        raise ModelError(f'There is no style adapter in {folder.path}.', "Put its .safetensors file there.")
    names = ", ".join(path.name for path in found[:6])
    raise ModelError(f'{folder.path} holds several style adapters: {names}.', "Keep one of them in the folder.")


def _places(folder: ModelFolder, weights: Path) -> tuple[Path, ...]:
    """Where an image encoder may be: beside the weights, beside their folder, or in the models/ there, as
    h94/IP-Adapter has it on the hub, whose sdxl_models/ has another one."""
    return weights.parent, folder.path, weights.parent.parent, weights.parent.parent / "models"


def _encoder_folder(
    folder: ModelFolder, weights: Path, layout: Layout, width: int, own: ModelFolder | None
) -> tuple[ModelFolder, str]:
    """(folder, part) of the image encoder that makes what the adapter reads, `width` numbers."""
    found = []
    choices = [(ModelFolder(place, folder.name, folder.revision), "image_encoder")
               for place in _places(folder, weights)] if own is None else [(own, ".")]  # fmt: skip
    for place, part in choices:
        if (place.path / part).is_dir():
            makes = _width(place.json(f"{part}/config.json"), layout)
            if makes in (None, width):
                return place, part
            found.append(makes)
    if found:
        raise ModelError(
            f'The style adapter "{weights.name}" reads {width} numbers, and its image encoder makes {found[0]}.',
            "Put the image encoder that it was made with beside it, as image_encoder.",
        )
    return folder, "image_encoder"


def _width(config: Mapping[str, Any], layout: Layout) -> int | None:
    """How many numbers an image encoder makes, for each token or as the summary; None where its config is silent."""
    vision = config.get("vision_config") or {}  # of a whole CLIP
    if layout.deep:
        return vision.get("hidden_size") or config.get("hidden_size")
    return config.get("projection_dim")
