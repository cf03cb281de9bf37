# SPDX-License-Identifier: Apache-2.0
"""What a method is given, and what it promises. Methods know nothing else of models, meshes or files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.denoiser import ViewDenoiser
from engine.schedule import Level
from engine.spaces import CanonicalSpace

Images = Callable[[], Tensor]
"""Gives the views as they are now, RGB [N, 3, H, W] in -1..1; asked only when somebody wants to see them."""

Watch = Callable[[int, int, Images], None]
"""Told (view denoisings done, in all, images) from time to time; may raise `Cancelled`, which is let pass."""


class Codec(Protocol):
    """The model's way between latents and images; every `Model` is one."""

    cheap_codec: bool  # linear, and costs nothing

    def encode(self, rgb: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor, refine: bool = True) -> Tensor: ...


@dataclass(frozen=True)
class Task:
    """One job as a method sees it. `N` views; images are RGB [N, 3, H, W] in -1..1, latents [N, C, h, w].

    Views, latents, start and region live where the spaces' masks do, on the model's card or in main memory; what the
    generator draws is drawn on its own device and moved there.

    denoiser: of latents; prompts, depth and guidance are bound in.
    space, pixels: the same canonical space as latents and as images see it.
    levels: `levels(steps, strength)`, the model's own noise levels from noise (strength 1) or part of the way to clean.
    generator: the only source of chance.
    start: images of the texture the object has, what no view sees grey; None to start from nothing.
    region: [M] in 0..1 for the texels of `pixels`: 1 may change, 0 stays as in `start`; None: all may.
    directions: [N, 3] unit vectors from the object to the cameras, z up; None where there are no cameras.
    """

    denoiser: ViewDenoiser
    space: CanonicalSpace
    pixels: CanonicalSpace
    codec: Codec
    levels: Callable[..., list[Level]]
    settings: Mapping[str, Any]
    generator: torch.Generator
    watch: Watch
    start: Tensor | None = None
    region: Tensor | None = None
    directions: Tensor | None = None


@dataclass(frozen=True)
class Facts:
    """What is known before a model is loaded, enough to refuse what cannot work. `edits`: the model takes instructions
    (None: not known yet)."""

    views: int
    starts: bool  # there is a texture to start from
    edits: bool | None = None


def no_objection(settings: Mapping[str, Any], facts: Facts) -> None:
    """For methods that can do whatever the schema allows."""


def as_the_model(settings: Mapping[str, Any], guidance: float) -> float:
    """For methods that are guided as strongly as the model likes it."""
    return guidance


@dataclass(frozen=True)
class Method:
    """One way to a texture.

    paint: the clean images [N, 3, H, W] that agree, in -1..1 and not clamped.
    calls: how many view denoisings (one view, once through the networks, guidance included) `paint` will take, from the
        settings and the number of views. `watch` counts up to exactly this number.
    check: raises `SettingsError` naming the setting and the remedy for what this method cannot do.
    guidance: the scale used where the settings leave it open, from the settings and the model's own default.
    """

    paint: Callable[[Task], Tensor]
    calls: Callable[[Mapping[str, Any], int], int]
    check: Callable[[Mapping[str, Any], Facts], None] = no_objection
    guidance: Callable[[Mapping[str, Any], float], float] = as_the_model
