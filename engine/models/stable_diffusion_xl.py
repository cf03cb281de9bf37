# SPDX-License-Identifier: Apache-2.0
"""Stable Diffusion XL (Podell et al. 2023) and its distilled forms: two text encoders, sizes told to the U-Net."""

from __future__ import annotations

from typing import Any

from blender_addon.jobs.errors import ModelError
from engine.models.controls import without_embedding
from engine.models.folders import ModelFolder
from engine.models.loading import (
    VAES,
    Wanted,
    check_controls_fit,
    check_text_width,
    codec_of,
    load_parts,
    model_info,
    settle,
)
from engine.models.style import wanted_style
from engine.models.text import ClipText
from engine.models.unet import UNetModel

CONTROL_CLASSES = ("ControlNetModel", "ControlNetUnionModel")
USUAL_CONTROL = {
    "depth": "diffusers/controlnet-depth-sdxl-1.0",
    "canny": "diffusers/controlnet-canny-sdxl-1.0",
    "normal": "xinsir/controlnet-union-sdxl-1.0",
}
USUAL_STYLE = {"auto": ("h94/IP-Adapter", "sdxl_models/ip-adapter_sdxl_vit-h.safetensors"),
               "plus": ("h94/IP-Adapter", "sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors")}  # fmt: skip
TIME_IDS = 6  # sizes the U-Net is told; the refiner is told five


def load(wanted: Wanted) -> UNetModel:
    """Reads all parts of the folder (and the ControlNets from their own), checks that they fit, and moves them.

    The published autoencoder overflows in float16 (`force_upcast` in its config) and then runs in float32; the one of
    madebyollin/sdxl-vae-fp16-fix does not need that.
    """
    scheduler = wanted.scheduler()
    parts = load_parts(wanted, [
        ("tokenizer", ("CLIPTokenizer",), None), ("tokenizer_2", ("CLIPTokenizer",), None),
        ("text_encoder", ("CLIPTextModel",), wanted.exact),
        ("text_encoder_2", ("CLIPTextModelWithProjection",), wanted.exact),
        ("vae", VAES, wanted.exact), ("unet", ("UNet2DConditionModel",), wanted.number),
    ], CONTROL_CLASSES)  # fmt: skip
    _check_fit(wanted, parts)
    style = wanted_style(wanted, parts["unet"])
    depot = settle(wanted, parts)
    unet, codec = parts["unet"], codec_of(wanted, parts, depot, upcast=True)
    index = wanted.folder.json("model_index.json")
    return UNetModel(
        name=wanted.folder.name,
        view_size=int(unet.config.sample_size * codec.factor),
        default_guidance=5.0,
        default_guidance_rescale=0.0,
        default_steps=30,
        known_words=None,
        info=model_info(wanted, parts["plan"]),
        unet=unet,
        controlnets=tuple(without_embedding(net) for net in parts["controlnets"]),
        codec_=codec,
        readers=tuple(ClipText(parts[f"tokenizer{k}"], parts[f"text_encoder{k}"], True) for k in ("", "_2")),
        scheduler=scheduler,
        device=wanted.device,
        dtype=wanted.number,
        depot=depot,
        style=style,
        multiview=parts.get("multiview"),
        empty_is_zero=bool(index.get("force_zeros_for_empty_prompt", True)),
    )


def usual_control(folder: ModelFolder, kind: str) -> str:
    """The hub id of the ControlNet of that kind to take when none is named."""
    return USUAL_CONTROL[kind]


def usual_style(folder: ModelFolder, word: str) -> tuple[str, str] | None:
    """(repository, file) of the usual style adapter, "auto" or "plus"."""
    return USUAL_STYLE.get(word)


def family_name(folder: ModelFolder) -> str:
    """What the catalogue calls the family."""
    return "SDXL"


def multiview_base(folder: ModelFolder) -> str:
    """What the multi-view adapters made for this family are called."""
    return "sdxl"


def _check_fit(wanted: Wanted, parts: dict[str, Any]) -> None:
    """Raises `ModelError` where parts of different models were put together, or the family cannot feed them."""
    name, unet = wanted.folder.name, parts["unet"].config
    latents = parts["vae"].config.latent_channels
    if unet.in_channels != latents:
        raise ModelError(
            f'The U-Net of model "{name}" takes {unet.in_channels} channels and its autoencoder makes {latents}.',
            "Choose a text-to-image model: inpainting and edit models of this family have other inputs.",
        )
    encoders = [parts["text_encoder"].config, parts["text_encoder_2"].config]
    check_text_width(name, unet.cross_attention_dim, sum(one.hidden_size for one in encoders))
    told = unet.projection_class_embeddings_input_dim
    expected = TIME_IDS * (unet.addition_time_embed_dim or 0) + encoders[1].projection_dim
    if unet.addition_embed_type != "text_time" or told != expected:
        raise ModelError(
            f'The U-Net of model "{name}" is told {told} numbers besides the text, and this family has {expected}.',
            "Choose a base model: the refiner is told other numbers and is not needed.",
        )
    keys = ("in_channels", "cross_attention_dim", "block_out_channels")
    check_controls_fit(name, parts["unet"], parts["controlnets"], keys)
