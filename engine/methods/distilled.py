# SPDX-License-Identifier: Apache-2.0
"""Distilling: the texture is optimized until its noisy views look right to the model (SDS and its relatives).

The loop remembers the texture and, with the objective "carried", the noise of each view. In each iteration it chooses a
few views and a noise level, makes the views noisy, asks the denoiser, and moves the texture against the residual of
`engine.methods.objectives`: by its weighted mean over the views ("merge", a Gauss-Newton step, in closed form), or by
Adam on its gradient through the linear maps view -> texture ("adam"). No derivative of a network is taken, so any
device that can denoise can distil.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from blender_addon.jobs.errors import SettingsError
from engine.device import constant
from engine.methods.objectives import OBJECTIVES, Objective, Question, carried, weight
from engine.methods.pyramid import Bounds, Plain, Pyramid, finite
from engine.methods.task import Codec, Facts, Method, Task
from engine.schedule import Level
from engine.spaces import CanonicalSpace

LADDER = 200  # noise levels to choose from
CLIP = 1.0    # of the gradient, per latent value
ADAM_RATE = 0.03  # how far a colour of -1 to 1 may move in the first iteration
FADE = 0.1    # of Adam's rate, from the first iteration to the last
SHARPNESS = 4.0  # of the views' weights in a merged step: soft, since every view gets its turn
JITTER = 0.05  # of falling noise levels, either way; none with carried noise, which walks a path


@dataclass(frozen=True)
class Canvas:
    """How the image being optimized is seen by the denoiser, and the way back for a gradient.

    looks: the space of each view by itself. base: views [N,...] of what is there already. share: how far each texel may
    change, 0..1, broadcastable to z. codec: None where z holds latents, else views are images and pass through it.
    bounds: of z where it holds colours: none are outside of -1..1, where high guidance would go.
    """

    looks: Sequence[CanonicalSpace]
    base: Tensor
    share: Tensor
    codec: Codec | None
    bounds: Bounds = None

    def views(self, z: Tensor, chosen: Sequence[int], soft: bool = True) -> Tensor:
        """Views [K,...] of base and z; `soft` mixes them at silhouettes, as the pixels of an image do."""
        change = self.share * z
        seen = torch.cat([look.project(change) * (look.mask.to(z) if soft else 1) for look in self.at(chosen)])
        return rows(self.base, chosen) + seen

    def latents(self, z: Tensor, chosen: Sequence[int]) -> Tensor:
        views = self.views(z, chosen)
        return views if self.codec is None else self.codec.encode(views)

    def gradient(self, latents: Tensor, gradient: Tensor, chosen: Sequence[int]) -> Tensor:
        """The gradient in z, from that in the latents of the chosen views.

        Through a codec the loss is that of the decoded images: a step of the latents is decoded, nothing is
        differentiated, and where the codec is linear this is exact.
        """
        pieces = zip(self.at(chosen), self.decoded(latents, gradient).split(1), strict=True)
        return self.share * sum(look.backproject(look.mask.to(piece) * piece) for look, piece in pieces)

    def residual(self, latents: Tensor, residual: Tensor, chosen: Sequence[int]) -> Tensor:
        """The weighted mean of the residual in z. Where another view sees a texel better, as much less of it."""
        total, weights = 0, 0
        for look, piece in zip(self.at(chosen), self.decoded(latents, residual).split(1), strict=True):
            part, share = look.unproject(look.mask.to(piece) * piece)
            total, weights = total + part, weights + share
        return self.share * total / weights.clamp_min(1.0)

    def decoded(self, latents: Tensor, step: Tensor) -> Tensor:
        """What is gone from the decoded views when `step` is taken from their latents."""
        if self.codec is None:
            return step
        return self.codec.decode(latents, refine=False) - self.codec.decode(latents - step, refine=False)

    def at(self, chosen: Sequence[int]) -> list[CanonicalSpace]:
        return [self.looks[view] for view in chosen]


@dataclass
class Walk:
    """The state of the loop: the image that moves, and each view's noise where the objective carries it."""

    task: Task
    objective: Objective
    canvas: Canvas
    image: Plain | Pyramid
    rate: float
    noise: Tensor | None

    def ask(self, chosen: list[int], level: Level, climb: Sequence[Level], progress: float) -> None:
        """One iteration: what the model would change of the chosen views, and the texture moved that way."""
        task, canvas, objective = self.task, self.canvas, self.objective
        denoiser = task.denoiser.only(chosen)
        plain = task.denoiser.unguided().only(chosen) if objective.inverts else denoiser
        latents = canvas.latents(self.image.image(), chosen)
        noise = fresh_noise(task, latents, chosen) if self.noise is None else rows(self.noise, chosen)
        asked = Question(latents, noise, level, climb)
        residual = finite(objective.residual(denoiser, plain, asked))
        if self.noise is not None:
            self.noise[constant(tuple(chosen), torch.long, self.noise.device)] = carried(asked, residual)
        if isinstance(self.image, Pyramid):
            gradient = (weight(level) * residual).clamp(-CLIP, CLIP)
            self.image.step(canvas.gradient(latents, gradient, chosen), self.rate * FADE**progress, canvas.bounds)
        else:
            self.image.step(canvas.residual(latents, residual, chosen), self.rate, canvas.bounds)


def paint(task: Task) -> Tensor:
    """The images of a texture distilled from the denoiser; see `Method`."""
    settings, generator, views = task.settings, task.generator, range(len(task.pixels.mask))
    walk = begin(task)
    canvas, ladder = walk.canvas, task.levels(LADDER)[:-1]
    turns = take_turns(len(views), settings["distill_views"], generator)
    iterations, climbs = settings["iterations"], settings["inversion_steps"] if walk.objective.inverts else 0
    jitter = 0.0 if walk.objective.carries else JITTER
    done, total = 0, calls(settings, len(views))

    def images() -> Tensor:
        seen = canvas.views(walk.image.image(), views)
        return seen if canvas.codec is not None else task.codec.decode(seen, refine=False)

    for k in range(iterations):
        chosen, progress = next(turns), k / max(iterations - 1, 1)
        time = draw_time(settings, progress, generator, jitter)
        climb = [rung(ladder, time * step / (climbs + 1)) for step in range(1, climbs + 1)]
        walk.ask(chosen, rung(ladder, time), climb, progress)
        done += len(chosen) * (1 + climbs)
        task.watch(done, total, images)
    return finished(task, canvas, walk.image.image())


def begin(task: Task) -> Walk:
    """The loop before its first iteration. What the settings leave open, the objective decides."""
    settings, objective = task.settings, OBJECTIVES[task.settings["objective"]]
    space, canvas = make_canvas(task)
    step = objective.step if settings["distill_step"] == "auto" else settings["distill_step"]
    usual = ADAM_RATE if step == "adam" else objective.rate
    rate = settings["distill_rate"] if settings["distill_rate"] >= 0 else usual
    blank = space.merge(torch.zeros_like(canvas.base))
    for look in canvas.looks:
        look.sharpen(SHARPNESS)
    image = Pyramid(space, blank, rate) if step == "adam" else Plain(blank)
    every = list(range(len(canvas.base)))
    noise = fresh_noise(task, canvas.latents(blank, every), every) if objective.carries else None
    return Walk(task, objective, canvas, image, rate, noise)


def make_canvas(task: Task) -> tuple[CanonicalSpace, Canvas]:
    """The texture as pixels where the codec costs nothing, else as latents, so that no autoencoder runs in the loop."""
    mask, wanted = task.pixels.mask, task.settings["distill_space"]
    base = mask.new_zeros(len(mask), 3, *mask.shape[-2:]) if task.start is None else task.start
    share = mask.new_ones(()) if task.region is None else task.region.to(base)
    if wanted == "pixel" or (wanted == "auto" and task.codec.cheap_codec):
        there = task.pixels.merge(base)
        return task.pixels, Canvas(each_view(task.pixels), base, share, task.codec, (-1 - there, 1 - there))
    latents = task.codec.encode(base)
    if task.region is not None:
        seen = task.pixels.project(share.expand_as(task.pixels.merge(base)))[:, :1]
        share = task.space.merge(interpolate(seen, latents.shape[-2:], mode="area"))
    return task.space, Canvas(each_view(task.space), latents, share, None)


def each_view(space: CanonicalSpace) -> list[CanonicalSpace]:
    return [space.only([view]) for view in range(len(space.mask))]


def finished(task: Task, canvas: Canvas, z: Tensor) -> Tensor:
    """The images, once more on the texture with the decoder's detail; where nothing may change they are the start's."""
    views, codec = canvas.views(z, range(len(canvas.base)), soft=canvas.codec is None), task.codec
    if canvas.codec is None:
        decoded = codec.decode(views)
        before = torch.zeros_like(decoded) if task.start is None else task.start
    else:
        before, decoded = views, codec.decode(codec.encode(views)) if codec.cheap_codec else views
    task.pixels.sharpen(task.settings["sharpness_end"])
    share = 1.0 if task.region is None else task.region.to(before)
    images = before + task.pixels.project(share * task.pixels.merge(decoded - before))
    return images if task.start is not None else bleed(images, task.pixels.mask.to(images))


def bleed(images: Tensor, mask: Tensor) -> Tensor:
    """Images whose pixels next to the surface, and in small holes of it, have its colour: finishing reads them too."""
    known = (mask > 0).to(images)
    near = avg_pool2d(known, 5, 1, 2)
    return torch.where((mask > 0) | (near == 0), images, avg_pool2d(images * known, 5, 1, 2) / near.clamp_min(1e-9))


def draw_time(settings: Mapping[str, Any], progress: float, generator: torch.Generator, jitter: float) -> float:
    """How much noise to add next, as a share of the model's timesteps; a start texture allows its strength at most."""
    low, high = settings["t_min"], highest(settings)
    u = float(torch.rand((), generator=generator, device=generator.device))
    if settings["distill_times"] == "falling":
        u = min(max(1 - progress + jitter * (2 * u - 1), 0.0), 1.0)
    return low + (high - low) * u


def highest(settings: Mapping[str, Any]) -> float:
    return settings["t_max"] if settings["start"] == "nothing" else min(settings["t_max"], settings["strength"])


def rung(ladder: Sequence[Level], time: float) -> Level:
    """The level nearest to a share 0..1 of the way from clean to noise."""
    return ladder[min(max(round((1 - time) * len(ladder)), 0), len(ladder) - 1)]


def fresh_noise(task: Task, latents: Tensor, chosen: Sequence[int]) -> Tensor:
    if task.settings["noise"] == "independent":
        at = task.generator.device
        return torch.randn(latents.shape, generator=task.generator, device=at, dtype=latents.dtype).to(latents.device)
    return rows(task.space.project_noise(task.generator), chosen).to(latents)


def rows(views: Tensor, chosen: Sequence[int]) -> Tensor:
    """Some of the views; their numbers are moved to where those are only once."""
    return views[constant(tuple(chosen), torch.long, views.device)]


def take_turns(views: int, at_once: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Batches of views for ever: each round is a random order of all of them, cut into batches as equal as can be."""
    while True:
        order = torch.randperm(views, generator=generator, device=generator.device)
        for batch in order.tensor_split(rounds(views, at_once)):
            yield batch.tolist()


def rounds(views: int, at_once: int) -> int:
    """Iterations until every view had its turn."""
    return -(-views // at_once)


def calls(settings: Mapping[str, Any], views: int) -> int:
    full, rest = divmod(settings["iterations"], rounds(views, settings["distill_views"]))
    sizes = [len(batch) for batch in torch.arange(views).tensor_split(rounds(views, settings["distill_views"]))]
    inverted = settings["inversion_steps"] if OBJECTIVES[settings["objective"]].inverts else 0
    return (full * views + sum(sizes[:rest])) * (1 + inverted)


def guidance(settings: Mapping[str, Any], usual: float) -> float:
    """Score distillation needs more guidance than denoising does (see docs/methods/distilled.md)."""
    return usual * OBJECTIVES[settings["objective"]].guidance if usual > 1 else usual


def check(settings: Mapping[str, Any], facts: Facts) -> None:
    """Raises `SettingsError` where some view would never be looked at, or there is no noise to choose from."""
    views, at_once, needed = facts.views, settings["distill_views"], rounds(facts.views, settings["distill_views"])
    if settings["iterations"] < needed:
        raise SettingsError(
            f"iterations is {settings['iterations']}; {views} views, {at_once} at a time, need {needed} to be seen once.",
            f"Set iterations to {50 * needed} or more, or use fewer views.", key="iterations")
    if settings["t_min"] >= settings["t_max"]:
        raise SettingsError(f"t_min is {settings['t_min']:g} and t_max is {settings['t_max']:g}; t_min must be lower.",
                            "Lower t_min or raise t_max.", key="t_min")
    if settings["t_min"] >= highest(settings):
        raise SettingsError(
            f"strength is {settings['strength']:g}, which leaves no noise level above t_min, {settings['t_min']:g}.",
            "Raise strength or lower t_min.", key="strength")


METHOD = Method(paint, calls, check, guidance)
