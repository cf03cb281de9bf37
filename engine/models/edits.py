# SPDX-License-Identifier: Apache-2.0
"""Models that change a picture by an instruction (InstructPix2Pix, Brooks et al. 2023): a U-Net with a second input.

Its first convolution takes the noisy latents and the latents of the picture to be changed. The latter are as the
autoencoder makes them, not scaled, as in the published weights and in diffusers' pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from blender_addon.jobs.errors import SettingsError
from engine.models.folders import ModelFolder

PIPELINE = "StableDiffusionInstructPix2PixPipeline"
IMAGE_GUIDANCE = 1.5  # of the paper


@dataclass(frozen=True)
class EditGuidance:
    """Two scales (eq. 3): e = e(0,0) + s_I (e(0,I) - e(0,0)) + s_T (e(T,I) - e(0,I)), with s_I `image` and s_T `text`.

    Parts are [avoided text and no picture, avoided text and picture, instruction and picture]. With both scales 1 the
    equation is e(T,I) alone, and there is one part.
    """

    text: float
    image: float = IMAGE_GUIDANCE

    @property
    def parts(self) -> int:
        return 1 if self.text == self.image == 1 else 3

    def active(self, timestep: float) -> bool:
        return True

    def combine(self, outputs: Tensor) -> Tensor:
        if len(outputs) == 1:
            return outputs[0]
        nothing, seen, told = outputs
        return nothing + self.image * (seen - nothing) + self.text * (told - seen)

    def texts(self, prompts: Sequence[str], avoids: Sequence[str]) -> list[str]:
        """The texts of all parts, part by part."""
        return list(prompts) if self.parts == 1 else [*avoids, *avoids, *prompts]

    def beside(self, image: Tensor) -> Tensor:
        """What is joined to the noisy latents, [parts, N, C, h, w], of the latents `image` [N, C, h, w]."""
        return image[None] if self.parts == 1 else torch.stack([torch.zeros_like(image), image, image])


def raw_latents(model: Any, image: Tensor) -> Tensor:
    """Latents [N,C,h,w] of images [N,3,H,W] in -1..1, as the autoencoder makes them."""
    config = model.codec.config
    scale, shift = float(config.get("scaling_factor") or 1.0), float(config.get("shift_factor") or 0.0)
    return (model.encode(image) / scale + shift).to(model.device, model.dtype)


def takes_instructions(folder: ModelFolder) -> bool:
    """Whether the U-Net in a folder has room for a second picture."""
    if not folder.has("unet") or not folder.has("vae"):
        return False
    channels = folder.json("vae/config.json").get("latent_channels", 4)
    return folder.json("unet/config.json").get("in_channels") == 2 * channels


def check_use(name: str, edits: bool, image: Tensor | None) -> None:
    """SettingsError if a model that changes pictures is given none, or another one is given one."""
    if edits and image is None:
        raise SettingsError(f'"{name}" changes a picture by an instruction and cannot paint from a description.',
                            "Set method to 'edit', or choose a text-to-image model.", key="model")
    if image is not None and not edits:
        raise SettingsError(f'"{name}" cannot follow an instruction.',
                            "Choose an InstructPix2Pix model, or another method.", key="model")
