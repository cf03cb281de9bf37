# SPDX-License-Identifier: Apache-2.0
"""Synchronized denoising: all views are denoised together and agree on one canonical image in each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from blender_addon.jobs.errors import SettingsError
from engine.denoiser import Denoiser
from engine.methods.cases import At, Maps, pick_case
from engine.sampling import Noise, OnStep, Step, pick_sampler, sample, start
from engine.schedule import Level
from engine.spaces import CanonicalSpace
from engine.spaces.around import Sync, WithOutside, hold, keep_outside, partly, through_pixels


Ramp = Callable[[Level], float]


class Codec(Protocol):
    """The model's way between latents and images; every `Model` is one."""

    cheap_codec: bool  # linear, and costs nothing

    def encode(self, rgb: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor, refine: bool = True) -> Tensor: ...


@dataclass(frozen=True)
class Known:
    """Texels that are given and stay: `values` in canonical shape, `where` 0..1 broadcastable to them.

    In latents as the denoiser has them, or in RGB when the views agree as pixels.
    """

    values: Tensor
    where: Tensor


def _fully(progress: float) -> float:
    return 1.0


@dataclass(frozen=True)
class Given:
    """What may be given beyond the settings.

    pixels: the codec, and the canonical space as decoded views see it: the views agree as images.
    known: texels that stay as they are.
    strength: how far views move to their agreement, 0..1, by progress 0..1; instance cases only.
    x: the noisy views [N, C, H, W] at the first level; drawn when None. Canonical cases start from their merge, which
        keeps the noise only where merging undoes projecting.
    """

    pixels: tuple[Codec, CanonicalSpace] | None = None
    known: Known | None = None
    strength: Callable[[float], float] = _fully
    x: Tensor | None = None


def wants_pixels(settings: Mapping[str, Any], codec: Codec | None) -> bool:
    """Whether `run` averages images instead of latents, and so needs a `pixel_space`.

    "auto" does where encoding costs nothing and clean views are averaged (case 2). Asked for by name, pixels
    also serve cases 1 and 3 when the codec is linear.

    Raises:
        SettingsError: pixels were asked for by name, and what the case averages is no image.
    """
    case, asked = pick_case(settings["case"]), settings["sync_space"]
    if codec is None or asked == "latent":
        return False
    clean = not case.canonical and case.averages == "x0"
    if asked == "auto":
        return clean and codec.cheap_codec
    if not clean and (case.canonical or not codec.cheap_codec):
        raise SettingsError(f"sync_space is 'pixel', but case {settings['case']!r} averages noise, which is no image.",
                            "Set sync_space to 'latent' or case to 'instance-x0'.", key="sync_space")
    return True


def run(
    denoiser: Denoiser,
    space: CanonicalSpace,
    levels: Sequence[Level],
    settings: Mapping[str, Any],
    generator: torch.Generator,
    codec: Codec | None = None,
    on_step: OnStep | None = None,
    *,
    pixel_space: CanonicalSpace | None = None,
) -> Tensor:
    """The clean views [N, C, H, W] that agree on one canonical image; the method's entry in `METHODS`.

    Args:
        codec: decodes and encodes the views when they agree as pixels.
        pixel_space: the same canonical space as the decoded views see it; needed when `wants_pixels`.
        others: see `denoise_together`.
    """
    pixels = None
    if wants_pixels(settings, codec):
        if pixel_space is None:
            raise ValueError("views that agree as pixels need a pixel_space")
        pixels = codec, pixel_space
    return denoise_together(denoiser, space, levels, settings, generator, on_step, Given(pixels))


def denoise_together(
    denoiser: Denoiser,
    space: CanonicalSpace,
    levels: Sequence[Level],
    settings: Mapping[str, Any],
    generator: torch.Generator,
    on_step: OnStep | None = None,
    given: Given = Given(),  # noqa: B008 frozen
) -> Tensor:
    """The clean views [N, C, H, W] of a case, in agreement up to `sync_until` of the steps and free afterwards.

    Args:
        denoiser: all views at once; prompts, control and guidance bound in.
        space: the canonical space as the denoiser sees it (latent size); gives the noise, in C channels.
        levels: K + 1 of them, noise falling, for K denoiser calls.
        settings: case, sampler, eta, noise, sharpness_start, sharpness_end, sync_until.
        generator: the only source of chance; the state lives on its device.
        on_step: told (calls done, K, x0 views) after each call; what it raises, as `Cancelled`, ends the run.
    """
    case, step, total = pick_case(settings["case"]), pick_sampler(settings["sampler"]), len(levels) - 1
    synced = round(settings["sync_until"] * total)

    def noise() -> Tensor:
        field = space.project_noise(generator)
        return field if settings["noise"] == "shared" else _normal_like(field, generator)

    codec, agreeing = given.pixels or (None, space)
    ramp = _ramp(agreeing, levels[:total], settings["sharpness_start"], settings["sharpness_end"])
    views = _instance_side(agreeing, codec, ramp, noise, given)
    side = _canonical_side(space, ramp, noise, generator, given) if case.canonical and synced else views
    taken = views if case.averages == "xt" else side  # where steps are taken: their noise and x0 live there

    def walk(denoiser: Denoiser, state: Tensor, first: int, last: int, step: Step, taken: Side) -> Tensor:
        told = None if on_step is None else lambda k, _, x0: on_step(first + k, total, taken.views_of(x0))
        return sample(lambda s, level: taken.lock(denoiser(s, level)), state, levels[first : last + 1], step,
                      taken.noise, settings["eta"], told)

    state = start(side.noise(), levels[0]) if given.x is None else side.enter(given.x)
    state = walk(case.denoiser(denoiser, side.at), state, 0, synced, case.step(step, side.at), taken)
    return walk(denoiser, side.views_of(state), synced, total, step, views)


def _ramp(space: CanonicalSpace, levels: Sequence[Level], first: float, last: float) -> Ramp:
    """A function of the level: sharpens the space's weights in a straight line, and tells the progress 0..1."""
    progress = {level: k / max(len(levels) - 1, 1) for k, level in enumerate(levels)}

    def at(level: Level) -> float:
        space.sharpen(first + (last - first) * progress[level])
        return progress[level]

    return at


@dataclass(frozen=True)
class Side:
    """Where the state lives: the maps at a level, its noise, its way to and from views, known texels put in."""

    at: At
    noise: Noise
    enter: Sync
    views_of: Sync
    lock: Sync


def _instance_side(space: CanonicalSpace, codec: Codec | None, ramp: Ramp, noise: Noise, given: Given) -> Side:
    """The state is the noisy views."""
    agree, lock, known = keep_outside(space), _itself, given.known
    if known is not None:
        lock = hold(space, known.values, known.where)
    if codec is not None:
        agree = through_pixels(agree, codec)
        lock = lock if known is None else through_pixels(lock, codec)

    def at(level: Level) -> Maps:
        share = given.strength(ramp(level))
        return Maps(sync=agree if share == 1 else partly(agree, share))

    return Side(at, noise, _itself, _itself, lock)


def _canonical_side(
    space: CanonicalSpace, ramp: Ramp, noise: Noise, generator: torch.Generator, given: Given
) -> Side:
    """The state is a noisy canonical image, with the views' pixels outside of it."""
    x, known = given.x, given.known
    if x is None:  # only its shape is wanted: the generator stays as it is
        twin = torch.Generator(generator.device)
        twin.set_state(generator.get_state())
        x = space.project_noise(twin)
    both = WithOutside(space, x)

    def at(level: Level) -> Maps:
        ramp(level)
        return Maps(both.project, both.merge)

    lock = _itself if known is None else both.hold(known.values, known.where)
    return Side(at, lambda: both.noise(generator, noise), both.merge, both.project, lock)


def _itself(x: Tensor) -> Tensor:
    return x


def _normal_like(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
