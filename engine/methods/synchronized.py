# SPDX-License-Identifier: Apache-2.0
"""Synchronized denoising: all views are denoised together and agree on one canonical image in each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from blender_addon.jobs.errors import SettingsError
from engine.denoiser import Denoiser
from engine.methods.cases import At, Maps, pick_case
from engine.methods.task import Codec, Facts, Method, Task
from engine.sampling import Noise, OnStep, Step, pick_sampler, sample, start
from engine.schedule import Level
from engine.spaces import CanonicalSpace
from engine.spaces.around import Sync, WithOutside, hold, keep_outside, partly, through_pixels
from engine.spaces.blend import Blended

LATE = 0.6  # progress from which on latents may agree as pixels
BROAD_TONES = 8.0  # cells of the latents: what is larger is a broad tone


@dataclass(frozen=True)
class Known:
    """Texels that are given and stay: `values` in canonical shape, `where` 0..1 broadcastable to them.

    In latents as the denoiser has them, or in RGB when the views agree as pixels.
    """

    values: Tensor
    where: Tensor


@dataclass(frozen=True)
class Given:
    """What may be given beyond the settings.

    pixels: the codec, and the canonical space as decoded views see it: the views agree as images.
    known: texels that stay as they are.
    x: the noisy views [N, C, H, W] at the first level; drawn when None. Canonical cases start from their merge, which
        keeps the noise only where merging undoes projecting.
    clean: clean views [N, C, H, W] to start from instead (SDEdit): the state is theirs, noised to the first level with
        the noise it would have started as.
    pixel_steps: the numbers of the steps in which they do; in the others they agree as latents. None: in all.
    """

    pixels: tuple[Codec, CanonicalSpace] | None = None
    known: Known | None = None
    x: Tensor | None = None
    clean: Tensor | None = None
    pixel_steps: Collection[int] | None = None


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
        raise _no_image(settings)
    return True


def _no_image(settings: Mapping[str, Any]) -> SettingsError:
    return SettingsError(f"sync_space is 'pixel', but case {settings['case']!r} averages noise, which is no image.",
                         "Set sync_space to 'latent' or case to 'instance-x0'.", key="sync_space")


def which_steps(settings: Mapping[str, Any], total: int) -> list[int]:
    """The numbers of the `pixel_steps` among `total`, evenly over the last 40 % (at 60, 70, 80 and 90 % if 4)."""
    late = range(math.ceil(LATE * total), total)
    wanted = min(settings["pixel_steps"], len(late))
    return [late[k * len(late) // wanted] for k in range(wanted)]


def what_agrees(settings: Mapping[str, Any], codec: Codec | None, pixel_space: CanonicalSpace | None,
                total: int) -> Given:
    """Whether the views agree as latents or as pixels, in which of the `total` steps; the settings decide."""
    if wants_pixels(settings, codec):
        if pixel_space is None:
            raise ValueError("views that agree as pixels need a pixel_space")
        return Given((codec, pixel_space))
    if settings["pixel_steps"] and codec is not None:
        return Given((codec, pixel_space), pixel_steps=which_steps(settings, total))
    return Given()


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
    """The clean views [N, C, H, W], as the denoiser has them, that agree on one canonical image.

    Args:
        codec: decodes and encodes the views when they agree as pixels.
        pixel_space: the same canonical space as the decoded views see it; needed when they agree as pixels.
        others: see `denoise_together`.
    """
    given = what_agrees(settings, codec, pixel_space, len(levels) - 1)
    return denoise_together(denoiser, space, levels, settings, generator, on_step, given)


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
        settings: those of the schema's table `synchronized`.
        generator: the only source of chance. What it draws is moved to where the space is; there the state lives.
        on_step: told (calls done, K, x0 views) after each call; what it raises, as `Cancelled`, ends the run.
    """
    case, step, total = pick_case(settings["case"]), pick_sampler(settings["sampler"]), len(levels) - 1
    synced = round(settings["sync_until"] * total)

    def noise() -> Tensor:
        field = space.project_noise(generator)
        return field if settings["noise"] == "shared" else _normal_like(field, generator)

    ramp = Ramp(settings, levels[:total])
    views = _instance_side(space, ramp, noise, given)
    side = _canonical_side(space, ramp, noise, generator, given) if case.canonical and synced else views
    taken = views if case.averages == "xt" else side  # where steps are taken: their noise and x0 live there

    def walk(denoiser: Denoiser, state: Tensor, first: int, last: int, step: Step, taken: Side) -> Tensor:
        told = None if on_step is None else lambda k, _, x0: on_step(first + k, total, taken.views_of(x0))
        return sample(lambda s, level: taken.lock(denoiser(s, level)), state, levels[first : last + 1], step,
                      taken.noise, settings["eta"], told)

    if given.clean is not None:
        state = levels[0].alpha * side.enter(given.clean) + levels[0].sigma * side.noise()
    else:
        state = start(side.noise(), levels[0]) if given.x is None else side.enter(given.x)
    state = walk(case.denoiser(denoiser, side.at), state, 0, synced, case.step(step, side.at), taken)
    return walk(denoiser, side.views_of(state), synced, total, step, views)


class Ramp:
    """What changes from step to step: how sharp the weights are, how far the views agree; straight lines both."""

    def __init__(self, settings: Mapping[str, Any], levels: Sequence[Level]):
        self.settings = settings
        self.number = {level: k for k, level in enumerate(levels)}

    def between(self, first: str, last: str, level: Level) -> float:
        progress = self.number[level] / max(len(self.number) - 1, 1)
        return self.settings[first] + (self.settings[last] - self.settings[first]) * progress

    def sharpen(self, space: CanonicalSpace, level: Level) -> None:
        start = "sharpness_end" if self.settings["blend"] == "bands" else "sharpness_start"
        space.sharpen(self.between(start, "sharpness_end", level))

    def blended(self, space: CanonicalSpace, latent: CanonicalSpace) -> CanonicalSpace:
        """`space`, blended as the settings say. A blur of latent cells has the same extent in larger views."""
        bands, preserve = self.settings["blend"] == "bands", self.settings["preserve_variance"]
        if not bands and not preserve:
            return space
        return Blended(space, BROAD_TONES * space.mask.shape[-1] / latent.mask.shape[-1], bands=bands, preserve=preserve)


@dataclass(frozen=True)
class Side:
    """Where the state lives: the maps at a level, its noise, its way to and from views, known texels put in."""

    at: At
    noise: Noise
    enter: Sync
    views_of: Sync
    lock: Sync


def _instance_side(space: CanonicalSpace, ramp: Ramp, noise: Noise, given: Given) -> Side:
    """The state is the noisy views."""
    codec, known, lock = None, given.known, _itself
    images = latents = ramp.blended(space, space)
    as_images = as_latents = keep_outside(latents)
    if given.pixels is not None:
        codec, images = given.pixels[0], ramp.blended(given.pixels[1], space)
        as_images = through_pixels(keep_outside(images), codec)
    if known is not None:
        as_pixels = codec is not None and given.pixel_steps is None
        lock = hold(images if as_pixels else latents, known.values, known.where)
        lock = through_pixels(lock, codec) if as_pixels else lock

    def at(level: Level) -> Maps:
        imaged = given.pixel_steps is None or ramp.number[level] in given.pixel_steps
        ramp.sharpen(images if imaged else latents, level)
        agree, share = as_images if imaged else as_latents, ramp.between("agree_start", "agree_end", level)
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
    agreeing = ramp.blended(space, space)
    both = WithOutside(agreeing, x)

    def at(level: Level) -> Maps:
        ramp.sharpen(agreeing, level)
        return Maps(both.project, both.merge)

    lock = _itself if known is None else both.hold(known.values, known.where)
    return Side(at, lambda: both.noise(generator, noise), both.merge, both.project, lock)


def _itself(x: Tensor) -> Tensor:
    return x


def _normal_like(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)


def paint(task: Task) -> Tensor:
    """The images of views denoised together; see `Method`."""
    settings, codec = task.settings, task.codec
    starts = task.start is not None and settings["start"] == "texture"
    levels = task.levels(settings["steps"], settings["strength"] if starts else 1.0)

    def told(done: int, total: int, x0: Tensor) -> None:
        task.watch(done * len(x0), total * len(x0), lambda: codec.decode(x0, refine=False))

    given = what_agrees(settings, codec, task.pixels, len(levels) - 1)
    given = replace(given, clean=codec.encode(task.start) if starts else None, known=known_texels(task, given))
    return codec.decode(denoise_together(task.denoiser, task.space, levels, settings, task.generator, told, given))


def known_texels(task: Task, given: Given) -> Known | None:
    """What lies outside the job's region, as the texels on which the views agree: RGB or latents."""
    if task.region is None:
        return None
    kept = 1 - task.region[None]
    if given.pixels is not None and given.pixel_steps is None:
        return Known(task.pixels.merge(task.start), kept)
    seen = adaptive_avg_pool2d(task.pixels.project(kept), task.space.mask.shape[-2:])
    return Known(task.space.merge(task.codec.encode(task.start)), task.space.merge(seen))


def calls(settings: Mapping[str, Any], views: int) -> int:
    steps = settings["steps"]
    strength = settings["strength"] if settings["start"] != "nothing" else 1.0
    return views * min(steps, max(1, int(steps * strength)))


def check(settings: Mapping[str, Any], facts: Facts) -> None:
    """Refuses what a case cannot do, before a model is loaded."""
    case = pick_case(settings["case"])
    clean = not case.canonical and case.averages == "x0"
    if settings["pixel_steps"] and not clean:
        raise SettingsError(f"pixel_steps is {settings['pixel_steps']}, but case {settings['case']!r} averages no clean "
                            "views.", "Set pixel_steps to 0 or case to 'instance-x0'.", key="pixel_steps")
    if settings["sync_space"] == "pixel" and case.canonical:
        raise _no_image(settings)
    for key in ("agree_start", "agree_end"):
        if settings[key] < 1 and case.canonical:
            raise SettingsError(f"{key} is {settings[key]:g}, but in case {settings['case']!r} there is one texture, "
                                "with which views cannot agree in part.",
                                f"Set {key} to 1 or case to 'instance-x0'.", key=key)


METHOD = Method(paint, calls, check)
