# SPDX-License-Identifier: Apache-2.0
"""A picture whose style the model takes over: IP-Adapter (Ye et al. 2023), in the layout it is published in.

    image_encoder/config.json  image_encoder/model.safetensors  ip-adapter_*.safetensors

The adapter's extra attention is put into the U-Net when the model is loaded; how strong it is belongs to the job.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import interpolate

from blender_addon.jobs.errors import ModelError
from engine.models.folders import ModelFolder, check_safetensors, load_part

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the pictures that CLIP was trained on
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
FAULTS = (KeyError, ValueError, RuntimeError, AttributeError, IndexError, SafetensorError)


@dataclass(frozen=True)
class Style:
    """A loaded adapter. `deep`: it reads the image encoder's last layer but one (the "plus" adapters)."""

    encoder: nn.Module = field(repr=False)
    unet: nn.Module = field(repr=False)
    deep: bool
    name: str = ""

    @torch.no_grad()
    def features(self, picture: Tensor) -> Tensor:
        """What the adapter reads of a picture [1,3,H,W] in -1..1, [2, 1, 1, ...]: nothing's first, then its own."""
        side = self.encoder.config.image_size
        small = interpolate(_square(picture.float()), (side, side), mode="bicubic", antialias=True).clamp(-1, 1)
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
        pixels = (((small.cpu() + 1) / 2 - mean) / deviation).to(self.encoder.device, self.encoder.dtype)
        if self.deep:
            own, none = (self.encoder(one, output_hidden_states=True).hidden_states[-2]
                         for one in (pixels, torch.zeros_like(pixels)))  # fmt: skip
        else:
            own = self.encoder(pixels).image_embeds
            none = torch.zeros_like(own)
        return torch.stack([none, own])[:, :, None]

    @contextmanager
    def strength(self, scale: float) -> Iterator[None]:
        """While this lasts, the adapter's attention counts `scale` times."""
        processors = [one for one in self.unet.attn_processors.values() if hasattr(one, "scale")]
        before = [one.scale for one in processors]
        for one in processors:
            one.scale = [scale] * len(one.scale)
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


def load_style(folder: ModelFolder, file: str, unet: nn.Module, dtype: torch.dtype, device: torch.device) -> Style:
    """Puts the adapter in `folder` into the U-Net. `file`: which weights, where it holds several; "" the only ones.

    Raises `ModelError` for absent, pickled or damaged parts, and for an adapter made for another U-Net.
    """
    path = _weights(folder, file)
    check_safetensors(path, folder.name)
    encoder = load_part(_encoder_folder(folder, path), "image_encoder", ("CLIPVisionModelWithProjection",), dtype)
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    try:
        with safe_open(path, framework="pt", device="cpu") as weights:
            for key in weights.keys():
                part, _, name = key.partition(".")
                if part in parts:
                    parts[part][name] = weights.get_tensor(key)
        if not all(parts.values()):
            raise ModelError(f'"{path.name}" of "{folder.name}" is no IP-Adapter.', "Choose the adapter's own file.")
        unet._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)  # diffusers' own way in; it has no public one
    except FAULTS as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(f'The style adapter "{path.name}" does not fit this model: {said}',
                         "SD 1.5 and SDXL need different IP-Adapters.") from error  # fmt: skip
    deep = "latents" in parts["image_proj"]
    encoder.to(device)
    unet.to(device=device, dtype=dtype)
    return Style(encoder, unet, deep, folder.name)


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


def _encoder_folder(folder: ModelFolder, weights: Path) -> ModelFolder:
    """Where image_encoder is: beside the weights, or beside their folder (as h94/IP-Adapter lies on the hub)."""
    for place in (weights.parent, folder.path):
        if (place / "image_encoder").is_dir():
            return ModelFolder(place, folder.name, folder.revision)
    return folder
