# SPDX-License-Identifier: Apache-2.0
"""The models: one contract, one module per family, found by the names an artist can type.

`load_model("swatch", device)` loads the bundled model. A name can also be the path of a diffusers folder or the id of a
model on the Hugging Face hub ("org/name", "org/name@revision"), each with "+" and the folder or id of a ControlNet
when the folder has none of its own. A new family is one module and one line in `FAMILIES`.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from blender_addon.jobs.errors import ModelError
from engine.models.folders import CARD, ModelFolder, Report, verify_manifest
from engine.models.hub import PINNED, fetch, is_hub_id

if TYPE_CHECKING:
    from engine.denoiser import Denoiser
    from engine.schedule import Level

# Pipeline class in model_index.json -> the module that loads it. Its `load` and `PARTS` are all that is asked of it.
FAMILIES = {
    "StableDiffusionPipeline": "engine.models.stable_diffusion",
    "StableDiffusionControlNetPipeline": "engine.models.stable_diffusion",
    "SwatchPipeline": "engine.models.stable_diffusion",
    "SwatchPipeline": "engine.models.stable_diffusion",
}
BUNDLED = {"swatch": Path(__file__).parent / "swatch"}
NO_CONTROL = "none"  # in place of a ControlNet's name: the prompt alone decides


class Model(Protocol):
    """What every family offers. Images are float32 RGB in -1..1, latents float32 with unit variance, channels first."""

    name: str
    view_size: int  # pixels per side the model was trained at
    factor: int  # view pixels per latent cell
    channels: int  # latent channels
    default_guidance: float
    default_guidance_rescale: float
    default_steps: int
    cheap_codec: bool  # encode and decode are linear and cost nothing: views can be joined as pixels in each step
    known_words: dict[str, Any] | None  # what a small model knows, phrases by kind as in swatch.json; None: any words
    info: dict[str, Any]  # licence, fingerprint, revision, versions, dtype: for reports

    def encode(self, rgb: torch.Tensor) -> torch.Tensor:
        """Images [N,3,H,W] -> latents [N,C,H/factor,W/factor]."""

    def decode(self, latents: torch.Tensor, refine: bool = True) -> torch.Tensor:
        """Latents -> images [N,3,H,W], not clamped. `refine` False: the quick version, where there is one."""

    def levels(self, steps: int, strength: float = 1.0) -> list[Level]:
        """The noise levels this model was trained for, from noise (strength 1) or part of the way, to clean."""

    def prompt_notes(self, prompt: str) -> list[str]:
        """Sentences about what the model will not read of `prompt`; empty when it reads all of it."""

    def denoiser(
        self,
        prompts: list[str],
        avoids: list[str],
        control: torch.Tensor | None,
        guidance: float,
        guidance_rescale: float = 0.0,
        control_scale: float = 1.0,
        chunk: int | None = None,
    ) -> Denoiser:
        """D(x, level) -> x0 for N views; `control` is depth [N,1,H,W] in 0..1, near is bright, background is 0."""


def load_model(
    name: str,
    device: torch.device,
    dtype: torch.dtype | None = None,
    progress: Report | None = None,
) -> Model:
    """Loads a model onto `device`. Raises `ModelError` saying what is missing or broken and what to do about it."""
    if not name.strip():
        raise ModelError("No model was chosen.", 'Choose "swatch", a folder, or the id of a model on the hub.')
    base, control = split_name(name.strip())
    folder = find_folder(base)
    verify_manifest(folder)
    family = importlib.import_module(FAMILIES[family_of(folder)])
    return family.load(folder, _control_folder(family, folder, control), device, dtype, progress or _silent)


def split_name(name: str) -> tuple[str, str]:
    """"base+control" as (base, control), control "" where none is named. A "+" in an existing path is part of it."""
    if Path(name).expanduser().is_dir():
        return name, ""
    base, _, control = name.rpartition("+")
    return (base, control) if base else (name, "")


def find_folder(name: str, parts: tuple[str, ...] | None = None) -> ModelFolder:
    """The folder of a bundled model, a path, or a hub id. `parts`: what to fetch from the hub (default: a pipeline)."""
    if name in BUNDLED:
        path = Path(os.environ.get(f"TWEED_{name.upper()}") or BUNDLED[name])
        if not (path / CARD).exists():
            raise ModelError(
                f'The bundled model "{name}" is not in {path}.',
                "Get the whole repository again (with its engine/models folder), or choose another model.",
            )
        return ModelFolder(path, name)
    path = Path(name).expanduser()
    if path.is_dir():
        return ModelFolder(path.resolve(), path.resolve().name)
    if path.is_file():
        raise ModelError(
            f'"{path}" is a single-file checkpoint, and Tweed reads diffusers folders.',
            "Convert it once with diffusers: StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER).",
        )
    if is_hub_id(name) and not path.is_absolute():
        return fetch(name, PIPELINE_PARTS if parts is None else parts)
    known = ", ".join(f'"{word}"' for word in BUNDLED)
    raise ModelError(
        f'There is no model "{name}": no folder of that name, and it is no hub id.',
        f"Choose {known}, the path of a diffusers folder, or an id such as {next(iter(PINNED))}.",
    )


PIPELINE_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler", "controlnet")


def family_of(folder: ModelFolder) -> str:
    """The pipeline class the folder is made for. Folders without a model_index.json are told by their U-Net."""
    if not (folder.path / "model_index.json").exists() and folder.has("unet"):
        return "StableDiffusionPipeline"
    named = str(folder.json("model_index.json").get("_class_name", ""))
    if named not in FAMILIES:
        raise ModelError(
            f'Model "{folder.name}" is made for {named or "an unnamed pipeline"}, which Tweed cannot run yet.',
            f"Choose a model made for one of: {', '.join(name for name in FAMILIES if name.startswith('Stable'))}.",
        )
    return named


def available_models(verify: bool = False) -> dict[str, str]:
    """Bundled models by name -> "ready" or what is wrong with them. `verify` also compares every checksum."""
    states = {}
    for name in BUNDLED:
        try:
            verify_manifest(find_folder(name), contents=verify)
            states[name] = "ready"
        except ModelError as error:
            states[name] = error.message
    return states


def _control_folder(family: Any, folder: ModelFolder, control: str) -> ModelFolder | None:
    """Where the ControlNet is: as named, else inside the model, else the family's usual one. None: without."""
    if control == NO_CONTROL:
        return None
    if control:
        return find_folder(control, parts=())
    if folder.has("controlnet"):
        return ModelFolder(folder.path / "controlnet", folder.name, folder.revision)
    return find_folder(family.usual_control(folder), parts=())


def _silent(part: str, done: int, total: int) -> None:
    """Nobody watches this loading."""
