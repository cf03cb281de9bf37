# SPDX-License-Identifier: Apache-2.0
"""One view after the other: each continues what the others painted (TEXTure, Text2Tex).

A view is denoised while the pixels it must keep are held at their noised selves, and written to the canonical image at
once. TEXTure (Richardson et al. 2023) does each view once, refining with a checkerboard what it sees straighter than
before. Text2Tex (Chen et al. 2023) generates what is new, then updates at partial strength what it sees best, and ends
with the views that have most to do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from blender_addon.jobs.errors import SettingsError
from engine.methods.task import Facts, Method, Task
from engine.methods.trimap import Canvas, Trimap, around
from engine.sampling import sample
from engine.schedule import Level

BLOCK = 2  # cells of the latents per side of a square of the checkerboard
AS_GOOD_AS_NOTHING = 0.01  # share of a view that is new; below it the view only refines
WORTH_UPDATING = 0.05  # share of a view below which Text2Tex leaves it
TIRED = 0.01  # a chosen view's heat, each time


class Painter:
    """The state of a run: the canvas, the noise, and how many view denoisings are done."""

    def __init__(self, task: Task):
        self.task, self.settings, self.count = task, task.settings, len(task.space.mask)
        cell = task.pixels.mask.shape[-1] // task.space.mask.shape[-1]
        self.canvas = Canvas(task.pixels, cell, task.start, task.region)
        self.noise = self.fresh_noise()
        self.strength, self.made, self.total = start_strength(task.settings), 0, calls(task.settings, self.count)

    def fresh_noise(self) -> Tensor:
        field = self.task.space.project_noise(self.task.generator)
        if self.settings["noise"] == "shared":
            return field
        generator = self.task.generator
        drawn = torch.randn(field.shape, generator=generator, device=generator.device, dtype=field.dtype)
        return drawn.to(field.device)

    def paint(self, view: int, refine: Tensor) -> None:
        """A view's turn: what is new from noise, and what it refines. Without anything new, at partial strength.

        It always takes as many denoisings, in smaller steps at partial strength, so that their number is foreseen.
        """
        settings, canvas, new = self.settings, self.canvas, self.canvas.new(view)
        trimap = canvas.trimap(view, new, refine)
        levels, partial = self.task.levels(settings["steps"], self.strength), settings["refine_strength"]
        if trimap.new_share >= AS_GOOD_AS_NOTHING or partial >= self.strength:
            self._visit(view, new, trimap, levels, self.strength)
            return
        finer = self.task.levels(math.ceil((len(levels) - 1) / partial) + 1, partial)
        self._visit(view, new, trimap, finer[-len(levels) :], partial)

    def update(self, view: int) -> None:
        """Text2Tex's update of what the view sees best, at partial strength."""
        nothing = torch.zeros_like(self.canvas.known)
        trimap = self.canvas.trimap(view, nothing, self.canvas.best_seen(view))
        partial = min(self.strength, self.settings["refine_strength"])
        self._visit(view, nothing, trimap, self.task.levels(self.settings["steps"], partial), partial, again=True)

    def hottest(self, chosen: Sequence[int]) -> int:
        """The view with most to do; of equals the first."""
        return max(range(self.count), key=lambda view: self.canvas.heat(view) * TIRED ** chosen.count(view))

    def images(self) -> Tensor:
        return torch.cat([self.canvas.look(view) for view in range(self.count)])

    def _visit(self, view: int, new: Tensor, trimap: Trimap, levels: list[Level], strength: float,
               again: bool = False) -> None:
        """Denoise a view and write it.

        What was painted is not repainted from the noise it came from: with `swatch` that overdoes it, 12 % of the
        colours saturate after Text2Tex's updates instead of 2 %.
        """
        task, settings, codec = self.task, self.settings, self.task.codec
        field = self.fresh_noise() if again or strength < self.strength else self.noise
        noise, scene = field[view : view + 1], self.canvas.look(view)
        holder = Holder(codec, scene.to(noise), trimap, noise.shape[-2:])
        early = set() if again else set(levels[: (len(levels) - 1) // 2])
        x = holder.noised(noise, levels[0], bool(early), strength)
        denoiser = task.denoiser.only([view])

        def told(done: int, total: int, x0: Tensor) -> None:
            self.made += 1
            task.watch(self.made, self.total, lambda: torch.cat(
                [codec.decode(x0, refine=False) if k == view else self.canvas.look(k) for k in range(self.count)]))

        x = sample(lambda x, level: holder.hold(denoiser(x, level), level in early), x, levels, settings["sampler"],
                   lambda: self.fresh_noise()[view : view + 1], settings["eta"], told)
        self.canvas.write(view, codec.decode(x).to(self.canvas.z), trimap, new, settings["refine_margin"])


class Holder:
    """What is kept of a view while it is denoised; in its early half also every other square of what is refined."""

    def __init__(self, codec: Any, scene: Tensor, trimap: Trimap, size: Sequence[int]):
        """scene: the view [1, 3, H, W] as it is. size: height and width of the latents."""
        self.codec, self.scene, self.latents = codec, scene, codec.encode(scene)
        squares = interpolate(checkerboard(*size)[None, None].to(scene), scene.shape[-2:], mode="nearest")
        kept = trimap.kept.to(scene)
        self.pixels = kept, torch.maximum(kept, trimap.refined.to(scene) * squares)
        cell = scene.shape[-1] // size[-1]
        self.some = tuple(bool(mask.any()) for mask in self.pixels)  # asked once, not in each step
        self.cells = tuple(-torch.nn.functional.max_pool2d(-mask, cell) > 0 for mask in self.pixels)

    def noised(self, noise: Tensor, level: Level, early: bool, strength: float) -> Tensor:
        """The state [1, C, h, w] at the first level.

        What is kept is at its noised self, alpha x0 + sigma eps; the rest is noise, or at partial strength what is
        there, noised.
        """
        there = level.alpha * self.latents + level.sigma * noise
        if strength < 1:
            return there
        return torch.where(self.cells[early], there, noise * math.hypot(level.alpha, level.sigma))

    def hold(self, x0: Tensor, early: bool) -> Tensor:
        """The clean estimate with what is kept put in: by pixels where the codec is linear, else by whole cells.

        A sampler that steps from it takes the kept places along alpha x0 + sigma eps with the eps they started with
        (or with as much of it exchanged as anywhere).
        """
        pixels = self.pixels[early]
        if not self.some[early]:
            return x0
        if self.codec.cheap_codec:
            return x0 + self.codec.encode(pixels * (self.scene - self.codec.decode(x0, refine=False)))
        return torch.where(self.cells[early], self.latents, x0)


def checkerboard(height: int, width: int) -> Tensor:
    """[height, width] of 0 and 1 in squares of 2 by 2 cells."""
    rows, columns = torch.arange(height) // BLOCK, torch.arange(width) // BLOCK
    return ((rows[:, None] + columns) % 2).float()


def paint(task: Task) -> Tensor:
    """The images of views painted one after the other; see `Method`."""
    settings, painter = task.settings, Painter(task)
    canvas, both = painter.canvas, settings["iterative_style"] == "texture"
    order = list(range(painter.count)) if task.directions is None else around(task.directions)
    updates, chosen = updates_in(settings, painter.count), []
    for turn in range(painter.count):
        view = painter.hottest(chosen) if settings["iterative_order"] == "heat" else order[turn]
        chosen.append(view)
        refine = canvas.better_seen(view, settings["refine_margin"])
        painter.paint(view, refine if both else torch.zeros_like(refine))
        if not both and updates and turn and worth_updating(canvas, view):
            painter.update(view)
            updates -= 1
    chosen = []
    for _ in range(updates):
        chosen.append(painter.hottest(chosen))
        painter.update(chosen[-1])
    return painter.images()


def worth_updating(canvas: Canvas, view: int) -> bool:
    stale = canvas.best_seen(view) & (canvas.owner != view)
    return canvas.trimap(view, torch.zeros_like(stale), stale).refined_share > WORTH_UPDATING


def start_strength(settings: Mapping[str, Any]) -> float:
    return settings["strength"] if settings["start"] != "nothing" else 1.0


def kept_steps(steps: int, strength: float) -> int:
    return min(steps, max(1, int(steps * strength)))


def updates_in(settings: Mapping[str, Any], views: int) -> int:
    """Updates in a run. Text2Tex has one after each view but the first; those not needed are left for the end."""
    style, asked = settings["iterative_style"], settings["update_views"]
    if style == "texture":
        return max(asked, 0)
    return views - 1 + (views if asked < 0 else asked)


def calls(settings: Mapping[str, Any], views: int) -> int:
    strength, steps = start_strength(settings), settings["steps"]
    update = kept_steps(steps, min(strength, settings["refine_strength"]))
    return views * kept_steps(steps, strength) + updates_in(settings, views) * update


def check(settings: Mapping[str, Any], facts: Facts) -> None:
    if facts.views < 1:
        raise SettingsError("No views are left to paint.", "Set views to at least 1, or use cameras that see the mesh.",
                            key="views")


METHOD = Method(paint, calls, check)
