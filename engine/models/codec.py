# SPDX-License-Identifier: Apache-2.0
"""Autoencoders: between images and the latents that a model denoises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from engine.device import free_memory, memory_guard
from engine.models.depot import Depot

CODECS = ("AutoencoderKL", "AutoencoderTiny", "LinearPatchCodec")
LINEAR_CODECS = ("LinearPatchCodec",)
DECODER_MAPS = 12  # peak memory of en- or decoding one view, counted in full-size feature maps of the first level's width


@dataclass(frozen=True)
class Codec:
    """Images float32 [N,3,H,W] in -1..1 <-> latents float32 [N,C,H/factor,W/factor] with unit variance.

    quick: a small decoder of the same latents (TinyVAE) for previews; None: the codec itself.
    """

    module: nn.Module = field(repr=False)
    device: torch.device
    quick: nn.Module | None = field(default=None, repr=False)
    depot: Depot | None = field(default=None, repr=False)

    @property
    def linear(self) -> bool:
        """Encode and decode are linear and cost nothing."""
        return type(self.module).__name__ in LINEAR_CODECS

    @property
    def factor(self) -> int:
        """View pixels per latent cell."""
        config = self.module.config
        if "patch_size" in config and self.linear:
            return int(config["patch_size"])
        return 2 ** (len(config.get("block_out_channels") or config["encoder_block_out_channels"]) - 1)

    @property
    def channels(self) -> int:
        return int(self.module.config.latent_channels)

    @property
    def chunk(self) -> int | None:
        return None if self.linear else 1  # a large autoencoder is bound by its own work, not by launches

    @torch.no_grad()
    def encode(self, rgb: Tensor) -> Tensor:
        """The mode, not a sample."""
        with memory_guard(self.device, "Encoding the views"):
            self._bring()
            return torch.cat([self._encode(piece) for piece in rgb.split(self.chunk or len(rgb))]).to(rgb.device)

    def _bring(self) -> None:
        if self.depot is not None:
            self.depot.bring("codec")

    def _encode(self, rgb: Tensor) -> Tensor:
        rgb = rgb.to(self.device, self.module.dtype)
        with in_tiles(self.module, working_bytes(self.module, rgb.shape[-2] * rgb.shape[-1]), self.device):
            encoded = self.module.encode(rgb)
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        scale, shift = latent_scale(self.module)
        return (latents.float() - shift) * scale

    @torch.no_grad()
    def decode(self, latents: Tensor, refine: bool = True) -> Tensor:
        """Images, about -1..1 and not clamped. `refine` False: the quick version, where there is one."""
        with memory_guard(self.device, "Decoding the views"):
            if refine or self.quick is None:
                self._bring()
            pieces = [self._decode(piece, refine) for piece in latents.split(self.chunk or len(latents))]
            return torch.cat(pieces).to(latents.device)

    def _decode(self, latents: Tensor, refine: bool) -> Tensor:
        module = self.module if refine or self.quick is None else self.quick
        scale, shift = latent_scale(module)
        latents = (latents.to(self.device, torch.float32) / scale + shift).to(module.dtype)
        if self.linear:
            return module.decode(latents, refine=refine).sample.float()
        pixels = latents.shape[-2] * latents.shape[-1] * self.factor**2
        with in_tiles(module, working_bytes(module, pixels), self.device):
            return module.decode(latents).sample.float()


@contextmanager
def in_tiles(module: nn.Module, needed: int, device: torch.device) -> Iterator[None]:
    """While this lasts, the autoencoder works tile by tile if it can and `needed` bytes are more than what is free."""
    tiled = hasattr(module, "enable_tiling") and needed > free_memory(device)
    if tiled:
        module.enable_tiling()
    try:
        yield
    finally:
        if tiled:
            module.disable_tiling()


def working_bytes(module: nn.Module, pixels: int) -> int:
    """Memory that en- or decoding one image takes at its peak (an estimate; see DECODER_MAPS). 0 for a linear codec."""
    if type(module).__name__ in LINEAR_CODECS:
        return 0
    widths = module.config.get("block_out_channels") or module.config["decoder_block_out_channels"]
    return DECODER_MAPS * widths[0] * pixels * module.dtype.itemsize


def latent_scale(module: nn.Module) -> tuple[float, float]:
    """(scale, shift) with latents = (encoded - shift) * scale."""
    return float(module.config.get("scaling_factor") or 1.0), float(module.config.get("shift_factor") or 0.0)
