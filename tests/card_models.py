# SPDX-License-Identifier: Apache-2.0
"""Tiny random models of every family, and what can be added to them, for jobs on a pretended card: written when asked
for, once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel
from safetensors.torch import save_file

from blender_addon.jobs.png import png_bytes
from tests.tiny_families import (
    DEEP,
    SD3_SCHEDULER,
    XL_SCHEDULER,
    write_tiny_flux,
    write_tiny_multiview,
    write_tiny_sd3,
    write_tiny_xl,
)
from tests.tiny_models import SD15_SCHEDULER, SD21_SCHEDULER, SWATCH_SCHEDULER, randomize, tiny_unet, write_tiny_model
from tests.tiny_styles import write_style


def other_unet(folder: Path, channels: int, pipeline: str) -> Path:
    """The model in `folder` with a U-Net that takes more than latents."""
    shutil.rmtree(folder / "unet")
    randomize(tiny_unet(channels)).save_pretrained(folder / "unet")
    index = json.loads((folder / "model_index.json").read_text()) | {"_class_name": pipeline}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


MODELS: dict[str, Callable[[Path], Path]] = {
    "sd15": lambda folder: write_tiny_model(folder, SD15_SCHEDULER),
    "sd21": lambda folder: write_tiny_model(folder, SD21_SCHEDULER, control_reads_text=False),
    "taesd": lambda folder: write_tiny_model(folder, SD15_SCHEDULER, codec="AutoencoderTiny"),
    "linear": lambda folder: write_tiny_model(folder, SWATCH_SCHEDULER, codec="LinearPatchCodec"),
    "depth": lambda folder: other_unet(write_tiny_model(folder, control=False), 5, "StableDiffusionDepth2ImgPipeline"),
    "edit": lambda folder: other_unet(write_tiny_model(folder, control=False), 8,
                                      "StableDiffusionInstructPix2PixPipeline"),
    "xl": write_tiny_xl,
    "xl union": lambda folder: write_tiny_xl(folder, "union"),
    "xl deep": lambda folder: write_tiny_xl(folder, "", blocks=DEEP),
    "sd3": write_tiny_sd3,
    "sd3 plain": lambda folder: write_tiny_sd3(folder, control=False, dual=()),
    "sd3 without t5": lambda folder: write_tiny_sd3(folder, t5=False),
    "flux": lambda folder: write_tiny_flux(folder, "union"),
    "flux plain": lambda folder: write_tiny_flux(folder, ""),
    "flux joined": lambda folder: write_tiny_flux(folder, "joined"),
    "schnell": lambda folder: write_tiny_flux(folder, "plain", told=False),
}  # fmt: skip


class Shelf:
    """The models and additions written so far, in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def model(self, name: str) -> Path:
        path = self.folder / name.replace(" ", "-")
        return path if path.exists() else MODELS[name](path)

    def style(self, name: str) -> Path:
        """An IP-Adapter for the model of that name."""
        path = self.folder / f"style-{name.replace(' ', '-')}"
        if path.exists():
            return path
        torch.manual_seed(7)
        kind, part, layout = {"sd3 plain": (SD3Transformer2DModel, "transformer", "sd3"),
                              "flux plain": (FluxTransformer2DModel, "transformer", "flux")}.get(
            name, (UNet2DConditionModel, "unet", "plus"))  # fmt: skip
        return write_style(path, kind.from_pretrained(self.model(name) / part), layout)

    @cached_property
    def multiview(self) -> Path:
        """An MV-Adapter for "xl deep"."""
        unet = UNet2DConditionModel.from_pretrained(self.model("xl deep") / "unet")
        return write_tiny_multiview(self.folder / "mv", unet)

    @cached_property
    def lora(self) -> Path:
        """A LoRA for "sd15", of the U-Net and the text encoder."""
        generator, names = torch.Generator().manual_seed(1), {
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q": 32,
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj": 16,
        }  # fmt: skip
        path = self.folder / "style.safetensors"
        save_file({f"{name}.lora_{half}.weight": torch.randn(*shape, generator=generator)
                   for name, side in names.items() for half, shape in (("down", (2, side)), ("up", (side, 2)))}, path)
        return path

    @cached_property
    def tiny_vae(self) -> Path:
        torch.manual_seed(5)
        randomize(AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4,
                                  num_encoder_blocks=(1,) * 4, num_decoder_blocks=(1,) * 4)
                  ).save_pretrained(self.folder / "tiny-vae")  # fmt: skip
        return self.folder / "tiny-vae"

    @cached_property
    def picture(self) -> Path:
        """A picture of 64 px, of random colours."""
        path = self.folder / "picture.png"
        values = torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
        path.write_bytes(png_bytes(values.numpy()))
        return path
