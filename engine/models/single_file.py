# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in one .safetensors file, as artists share them, with the layout of the original training code.

The file holds weights only. Configs and tokenizer come from a diffusers folder of the same family: one beside the file
with its name (dream.safetensors and dream/), else the family's base model on the hub, whose small text files are enough
and stay in the cache for offline use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from blender_addon.jobs.errors import ModelError
from engine.models.folders import ModelFolder, check_safetensors
from engine.models.hub import fetch

FAULTS = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)


@dataclass(frozen=True)
class Layout:
    """One family's single files. mark: a key that only they have. base: whose configs and tokenizers fit."""

    mark: str
    base: str
    pipeline: str
    encoders: Mapping[str, str]  # part -> class


LAYOUTS = (
    Layout("conditioner.embedders.1.model.positional_embedding", "stabilityai/stable-diffusion-xl-base-1.0",
           "StableDiffusionXLPipeline",
           {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}),
    Layout("cond_stage_model.model.positional_embedding", "stabilityai/stable-diffusion-2-1", "StableDiffusionPipeline",
           {"text_encoder": "CLIPTextModel"}),
    Layout("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
           "stable-diffusion-v1-5/stable-diffusion-v1-5", "StableDiffusionPipeline", {"text_encoder": "CLIPTextModel"}),
)  # fmt: skip
NOT_YET = {"joint_blocks": "SD 3.x", "double_blocks": "FLUX"}
PARTS = ("unet", "vae", "scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")


def open_single_file(path: Path) -> tuple[ModelFolder, str, dict[str, Any]]:
    """(folder with the configs, pipeline class, the loaded parts) of a checkpoint.

    Raises `ModelError` for pickles, damaged files, unknown layouts, and where no configs are to be had.
    """
    name = path.name
    if path.suffix != ".safetensors":
        raise ModelError(f'"{name}" is no .safetensors file; other checkpoints are pickles, which can run code.',
                         "Use a version of it in .safetensors.")  # fmt: skip
    check_safetensors(path, name)
    layout = _layout(path)
    base = _configs(path, layout)
    try:
        weights = load_file(path)
        parts = _parts(weights, base.path, layout)
    except FAULTS as error:
        said = " ".join(str(error).split())[:300]
        raise ModelError(f'"{name}" could not be loaded with the configs in {base.path}: {said}',
                         "The configs must be of the family the checkpoint was made from.") from error  # fmt: skip
    for part, module in parts.items():
        empty = [key for key, weight in module.named_parameters() if weight.is_meta]
        if empty:
            raise ModelError(f'"{name}" lacks {len(empty)} weights of its {part}, the first is {empty[0]}.',
                             "Use a full checkpoint, not a pruned or partial one.")  # fmt: skip
        module.eval().requires_grad_(False)
    return ModelFolder(base.path, path.stem, base.revision), layout.pipeline, parts


def _layout(path: Path) -> Layout:
    with path.open("rb") as file:
        keys = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    for layout in LAYOUTS:
        if layout.mark in keys:
            return layout
    for mark, family in NOT_YET.items():
        if any(mark in key for key in keys):
            raise ModelError(f'"{path.name}" is a {family} checkpoint; Tweed reads those from diffusers folders only.',
                             "Give the model's folder or hub id, or convert it once with diffusers.")  # fmt: skip
    raise ModelError(f'"{path.name}" is no checkpoint of SD 1.x, 2.x or SDXL.',
                     "LoRAs go into the lora setting, ControlNets after a plus sign; other models need their folder.")


def _configs(path: Path, layout: Layout) -> ModelFolder:
    beside = path.with_suffix("")
    if beside.is_dir():
        return ModelFolder(beside, path.stem)
    try:
        return fetch(layout.base, PARTS, weights=False)
    except ModelError as error:
        raise ModelError(
            f'"{path.name}" holds weights only, and the configs of its family are not on this machine.',
            f"Connect to the internet once (a few files of {layout.base} are needed, no weights), or put a diffusers "
            f'folder of the same family beside the file and name it "{beside.name}".',
        ) from error


def _parts(weights: dict[str, torch.Tensor], base: Path, layout: Layout) -> dict[str, Any]:
    import transformers
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm

    options: dict[str, Any] = {"config": str(base), "local_files_only": True, "torch_dtype": torch.float32}
    parts = {
        "unet": UNet2DConditionModel.from_single_file(dict(weights), subfolder="unet", **options),
        "vae": AutoencoderKL.from_single_file(dict(weights), subfolder="vae", **options),
    }
    for part, named in layout.encoders.items():
        parts[part] = create_diffusers_clip_model_from_ldm(
            getattr(transformers, named), dict(weights), subfolder=part, config=str(base), torch_dtype=torch.float32,
            local_files_only=True,
        )  # fmt: skip
    return parts
