# SPDX-License-Identifier: Apache-2.0
"""Every setting of a job, once. The panel, the command lines, presets, docs and validation read this table."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import SettingsError
from .schema import EVERY_METHOD, Setting

CASES = ("instance-eps", "instance-x0", "instance-xt", "canonical-eps", "canonical-x0", "canonical-xt")

# What one word on the panel sets together. Explicit values win over it.
QUALITIES: dict[str, dict[str, int]] = {
    "draft": {"views": 6, "steps": 12, "texture_size": 512},
    "standard": {"views": 8, "steps": 20, "texture_size": 1024},
    "high": {"views": 10, "steps": 30, "texture_size": 2048},
}
_STANDARD = QUALITIES["standard"]

_TABLE = (
    Setting("prompt", str, "", "What the surface should look like; it cannot be empty.", "Prompt", "Prompt", 0, 2000),
    Setting("avoid", str, "", "What it should not look like.", "Avoid", "Prompt", 0, 2000),
    Setting(
        "direction_prompts",
        bool,
        True,
        "Tell a model that knows such words which side each view sees (front, side, back, top, bottom).",
        "Direction Words",
        "Prompt",
    ),
    Setting(
        "model",
        str,
        "swatch",
        "The bundled model's name, a folder in diffusers layout, or a Hugging Face id.",
        "Model",
        "Model",
        1,
        1000,
    ),
    Setting(
        "quality",
        str,
        "standard",
        "Sets views, steps and texture size together; each can still be given by itself.",
        "Quality",
        "Quality",
        choices=tuple(QUALITIES),
        choice_help=("Fast look at the idea", "Everyday result", "Final result"),
    ),
    Setting(
        "views",
        int,
        _STANDARD["views"],
        "How many cameras see the object; more cover it better and take longer.",
        "Views",
        "Quality",
        1,
        64,
    ),
    Setting(
        "steps",
        int,
        _STANDARD["steps"],
        "Denoising steps; more bring finer detail and take longer.",
        "Steps",
        "Quality",
        1,
        200,
    ),
    Setting(
        "texture_size",
        int,
        _STANDARD["texture_size"],
        "Side of the square texture.",
        "Texture Size",
        "Quality",
        64,
        8192,
        multiple=8,
        unit="px",
        aliases=("--size",),
    ),
    Setting(
        "view_size",
        int,
        0,
        "Side of each square view the model paints.",
        "View Size",
        "Quality",
        64,
        2048,
        multiple=8,
        special=0,
        special_help="the model's own size",
        unit="px",
    ),
    Setting(
        "seed",
        int,
        0,
        "The same seed and settings give the same texture on the same machine.",
        "Seed",
        "Quality",
        0,
        2**31 - 1,
    ),
    Setting(
        "guidance",
        float,
        -1.0,
        "How strongly the prompt is followed; too much oversaturates.",
        "Prompt Strength",
        "Guidance",
        0.0,
        50.0,
        special=-1.0,
        special_help="the model's own",
    ),
    Setting(
        "guidance_rescale",
        float,
        -1.0,
        "Takes back the contrast that a strong prompt adds (0 none, 1 all).",
        "Rescale",
        "Guidance",
        0.0,
        1.0,
        special=-1.0,
        special_help="the model's own",
    ),
    Setting(
        "control_scale",
        float,
        1.0,
        "How strongly the depth of the mesh guides the model.",
        "Depth Strength",
        "Guidance",
        0.0,
        2.0,
    ),
    Setting(
        "rig",
        str,
        "auto",
        "Where the cameras stand.",
        "Cameras",
        "Cameras",
        choices=("auto", "ring", "scene"),
        choice_help=(
            "All around, from above and below",
            "A level ring around the object",
            "The cameras of the Blender scene",
        ),
    ),
    Setting(
        "method",
        str,
        "synchronized",
        "How the views come to agree on one texture.",
        "Method",
        "Method",
        choices=EVERY_METHOD,
        choice_help=("All views are denoised together and agree at every step",),
    ),
    Setting(
        "case",
        str,
        "instance-x0",
        "Where the denoising happens (the views or the texture) and what is averaged; also 1 to 6.",
        "Synchronize",
        "Method",
        choices=CASES,
        choice_help=(
            "Case 1: views, predicted noise",
            "Case 2: views, predicted clean image (SyncTweedies)",
            "Case 3: views, noisy image",
            "Case 4: texture, predicted noise",
            "Case 5: texture, predicted clean image (SyncMVD)",
            "Case 6: texture, noisy image (MultiDiffusion)",
        ),
    ),
    Setting(
        "sync_space",
        str,
        "auto",
        "Whether views are averaged as latents or as pixels.",
        "Average In",
        "Method",
        choices=("auto", "latent", "pixel"),
        choice_help=("What suits the model", "The model's latents", "Decoded pixels; slower with a large decoder"),
    ),
    Setting(
        "sync_until",
        float,
        1.0,
        "Share of the steps during which the views are kept in agreement.",
        "Agree Until",
        "Method",
        0.0,
        1.0,
    ),
    Setting(
        "sharpness_start",
        float,
        1.0,
        "Exponent of the view weights at the first step (1 blends softly).",
        "Sharpness Start",
        "Method",
        0.0,
        1024.0,
    ),
    Setting(
        "sharpness_end",
        float,
        128.0,
        "Exponent of the view weights at the last step (large lets the best view win).",
        "Sharpness End",
        "Method",
        0.0,
        1024.0,
    ),
    Setting(
        "noise",
        str,
        "shared",
        "Whether the views start from one noise on the surface or each from its own.",
        "Noise",
        "Method",
        choices=("shared", "independent"),
        choice_help=("One noise on the surface, seen by every view", "Each view its own"),
    ),
    Setting(
        "sampler",
        str,
        "ddim",
        "How a step is taken.",
        "Sampler",
        "Method",
        choices=("ddim", "euler", "euler-ancestral", "ddpm", "dpm++2m", "flow-euler"),
        choice_help=(
            "First order; deterministic at eta 0",
            "First order, deterministic",
            "Euler with fresh noise at every step",
            "Fresh noise at every step, as the model was trained",
            "Second order, for fewer steps",
            "Euler, under the name flow-matching models know",
        ),
    ),
    Setting("eta", float, 0.0, "Fresh noise per step of the ddim sampler (0 none, 1 all).", "Eta", "Method", 0.0, 1.0),
    Setting(
        "padding",
        int,
        16,
        "How far colours are carried past the borders of UV islands.",
        "Padding",
        "Output",
        0,
        256,
        unit="texels",
    ),
    Setting(
        "contact_sheet",
        bool,
        False,
        "Also render the textured mesh from eight directions into one picture.",
        "Contact Sheet",
        "Output",
    ),
    Setting(
        "preview_every",
        int,
        4,
        "Steps between two preview images.",
        "Preview Every",
        "Output",
        1,
        200,
        special=0,
        special_help="no previews",
        unit="steps",
    ),
    Setting(
        "device",
        str,
        "auto",
        "What computes.",
        "Device",
        "Machine",
        choices=("auto", "cpu", "cuda", "mps"),
        choice_help=("The best one found", "Processor", "NVIDIA or AMD graphics card", "Apple graphics"),
    ),
    Setting(
        "rasterizer",
        str,
        "auto",
        "What finds the triangle under each pixel.",
        "Rasterizer",
        "Machine",
        choices=("auto", "numba", "nvdiffrast", "reference"),
        choice_help=(
            "The best one allowed",
            "Everywhere, any use",
            "CUDA; research and evaluation only",
            "Slow and exact, for tests",
        ),
    ),
)

SETTINGS: dict[str, Setting] = {setting.name: setting for setting in _TABLE}


def resolve(values: Mapping[str, Any], *, require_prompt: bool = True) -> dict[str, Any]:
    """Gives every setting of a job, checked: given values, then what the quality sets, then defaults.

    SettingsError names the key, what was found and what is allowed.
    """
    given = check(values)
    if require_prompt and not given.get("prompt"):
        raise SettingsError(
            f"The prompt is empty (prompt); allowed: text of 1 to {SETTINGS['prompt'].maximum} characters.",
            "Write what the surface should look like.",
            key="prompt",
        )
    defaults = {name: setting.default for name, setting in SETTINGS.items()}
    quality = given.get("quality", defaults["quality"])
    return {**defaults, **QUALITIES[quality], **given}


def check(values: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the given settings only, and gives them back as plain values, without adding any."""
    if not isinstance(values, Mapping):
        raise SettingsError(f"The settings are {type(values).__name__}; expected names with values.")
    given = {}
    for name, value in values.items():
        setting = SETTINGS.get(name) if isinstance(name, str) else None
        if setting is None:
            raise unknown_setting(name, SETTINGS)
        given[name] = setting.check(normalise_case(value) if name == "case" else value)
    return given


def quality_of(values: Mapping[str, Any]) -> str:
    """Names the quality that full settings amount to: draft, standard, high, or "custom"."""
    for quality, sets in QUALITIES.items():
        if all(values.get(name) == value for name, value in sets.items()):
            return quality
    return "custom"


def normalise_case(value: Any) -> Any:
    """Turns 2 or "2" into "instance-x0" (the cases' numbers in the literature); leaves the rest alone."""
    if isinstance(value, str) and value.strip() in tuple("123456"):
        return CASES[int(value) - 1]
    number = isinstance(value, int) and not isinstance(value, bool)
    return CASES[value - 1] if number and 1 <= value <= 6 else value


def unknown_setting(name: Any, known: Iterable[str]) -> SettingsError:
    """Gives the error for a name that is no setting, with the nearest one as the suggestion."""
    names = list(known)
    near = difflib.get_close_matches(str(name)[:60], names, n=1)
    action = f"Did you mean {near[0]}?" if near else ""
    return SettingsError(f"Unknown setting {str(name)[:60]!r}; allowed: {', '.join(names)}.", action, key=str(name))
