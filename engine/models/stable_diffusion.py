# SPDX-License-Identifier: Apache-2.0
"""Stable Diffusion 1.x and 2.x with ControlNets, the 2.x model that reads depth, InstructPix2Pix, and `swatch`."""

from __future__ import annotations

from typing import Any

from blender_addon.jobs.errors import ModelError
from engine.models.controls import without_embedding
from engine.models.edits import takes_instructions
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

CONTROL_CLASSES = ("ControlNetModel",)
# ControlNets of published models, by the width of the text features their U-Net reads and by what they follow.
USUAL_CONTROL = {
    (768, "depth"): "lllyasviel/control_v11f1p_sd15_depth",
    (768, "normal"): "lllyasviel/control_v11p_sd15_normalbae",
    (768, "canny"): "lllyasviel/control_v11p_sd15_canny",
    (1024, "depth"): "thibaud/controlnet-sd21-depth-diffusers",
    (1024, "normal"): "thibaud/controlnet-sd21-normalbae-diffusers",
    (1024, "canny"): "thibaud/controlnet-sd21-canny-diffusers",
}
USUAL_STYLE = {"auto": ("h94/IP-Adapter", "models/ip-adapter_sd15.safetensors"),
               "plus": ("h94/IP-Adapter", "models/ip-adapter-plus_sd15.safetensors")}  # fmt: skip


def load(wanted: Wanted) -> UNetModel:
    """Reads all parts of the folder (and the ControlNets from their own), checks that they fit, and moves them."""
    scheduler = wanted.scheduler()
    parts = load_parts(wanted, [
        ("tokenizer", ("CLIPTokenizer",), None), ("text_encoder", ("CLIPTextModel",), wanted.exact),
        ("vae", VAES, wanted.exact), ("unet", ("UNet2DConditionModel",), wanted.number),
    ], CONTROL_CLASSES)  # fmt: skip
    extra = _check_fit(wanted, parts)
    style = wanted_style(wanted, parts["unet"])
    depot = settle(wanted, parts)
    unet, card = parts["unet"], wanted.folder.card()
    defaults = card.get("defaults", {})
    codec = codec_of(wanted, parts, depot)
    return UNetModel(
        name=wanted.folder.name,
        view_size=int(card.get("view_size") or unet.config.sample_size * codec.factor),
        default_guidance=float(defaults.get("guidance", 7.5)),
        default_guidance_rescale=float(defaults.get("guidance_rescale", 0.0)),
        default_steps=int(defaults.get("steps", 30)),
        known_words=card.get("words"),
        info=model_info(wanted, parts["plan"]),
        unet=unet,
        controlnets=tuple(without_embedding(net) for net in parts["controlnets"]),
        codec_=codec,
        readers=(ClipText(parts["tokenizer"], parts["text_encoder"]),),
        scheduler=scheduler,
        device=wanted.device,
        dtype=wanted.number,
        depot=depot,
        style=style,
        multiview=parts.get("multiview"),
        extra=extra,
    )


def usual_control(folder: ModelFolder, kind: str) -> str:
    """The hub id of the ControlNet of that kind that fits a published model without one; "": it needs none."""
    config = folder.json("unet/config.json")
    if takes_instructions(folder) or (kind == "depth" and config.get("in_channels") == 5):
        return ""  # the picture to be changed, or the depth that it reads itself, shows the shape
    found = USUAL_CONTROL.get((config.get("cross_attention_dim"), kind))
    if found is None:
        raise ModelError(
            f'Model "{folder.name}" has no ControlNet for {kind}, which it needs to follow the mesh.',
            "Put a ControlNet into its controlnet folder, or name one after a plus sign: MODEL+CONTROLNET.",
        )
    return found


def usual_style(folder: ModelFolder, word: str) -> tuple[str, str] | None:
    """(repository, file) of the usual style adapter, "auto" or "plus"; None where none was published, as for SD 2.x."""
    return None if family_name(folder) == "SD 2.1" else USUAL_STYLE.get(word)


def family_name(folder: ModelFolder) -> str:
    """What the catalogue calls the family that adapters and LoRAs are made for; "" for swatch, which has none."""
    if folder.card():
        return ""
    return "SD 2.1" if folder.json("unet/config.json").get("cross_attention_dim") == 1024 else "SD 1.5"


def multiview_base(folder: ModelFolder) -> str:
    """What the multi-view adapters made for this family are called; "": none was published, as for SD 1.x."""
    return "sd21" if family_name(folder) == "SD 2.1" else ""


def _check_fit(wanted: Wanted, parts: dict[str, Any]) -> str:
    """What the U-Net takes besides the latents: "", "depth" or "image".

    Raises `ModelError` where parts of different models were put together, or the family cannot feed them.
    """
    name, unet = wanted.folder.name, parts["unet"].config
    latents = parts["vae"].config.latent_channels
    extra = {latents: "", latents + 1: "depth", 2 * latents: "image"}.get(unet.in_channels)
    if extra is None:
        raise ModelError(
            f'The U-Net of model "{name}" takes {unet.in_channels} channels and its autoencoder makes {latents}.',
            "Choose a text-to-image, depth-to-image or InstructPix2Pix model: inpainting models have other inputs.",
        )
    check_text_width(name, unet.cross_attention_dim, parts["text_encoder"].config.hidden_size)
    keys = ("cross_attention_dim", "block_out_channels", *([] if extra else ["in_channels"]))
    check_controls_fit(name, parts["unet"], parts["controlnets"], keys)
    return extra

