# SPDX-License-Identifier: Apache-2.0
"""Changing the texture an object has by an instruction, with a denoiser that sees the views as they were.

"joint" is synchronized denoising with such a denoiser: one pass, all views at once. "dataset" is Instruct-NeRF2NeRF
(Haque et al. 2023): an edited picture is kept for every view; one view after the other is looked up in the texture,
noised by a random amount, edited, and put back. There is no radiance field to train: what the pictures agree on is
their merge, in closed form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from blender_addon.jobs.errors import SettingsError
from engine.methods import synchronized
from engine.methods.task import Facts, Method, Task
from engine.sampling import sample
from engine.schedule import Level
from engine.spaces.around import hold, keep_outside

LEAST, MOST = 0.02, 0.98  # noise of an edit, as a share of the model's steps (in2n's configuration)
FINEST = 999  # levels to choose from: one for each that a model was trained with, all of which every spacing reaches


def paint(task: Task) -> Tensor:
    """The images of edited views; see `Method`. `task.start` are the views as they were."""
    if task.settings["edit_update"] == "dataset":
        return paint_dataset(task)
    return synchronized.paint(replace(task, settings={**task.settings, "start": "nothing"}))


def paint_dataset(task: Task) -> Tensor:
    """One view after the other, `edit_rounds` times around; each edit takes `steps` network calls."""
    settings, space, codec, before = task.settings, task.pixels, task.codec, task.start
    space.sharpen(settings["sharpness_end"])
    agreed = keep_outside(space)
    fixed = hold(space, space.merge(before), 1 - task.region[None]) if task.region is not None else None
    pictures, steps, views = before.clone(), settings["steps"], len(before)
    total = settings["edit_rounds"] * views * steps
    done = 0
    for _ in range(settings["edit_rounds"]):
        for view in range(views):
            share = LEAST + (MOST - LEAST) * float(torch.rand((), generator=task.generator))
            now = agreed(pictures)

            def told(k: int, _: int, x0: Tensor, done=done, now=now) -> None:
                task.watch(done + k, total, lambda: now)

            latents = edited(task, view, codec.encode(now[view : view + 1]), share, told)
            pictures[view] = codec.decode(latents)[0]
            if fixed is not None:
                pictures = fixed(pictures)
            done += steps
    return agreed(pictures)


def edited(task: Task, view: int, clean: Tensor, share: float, told) -> Tensor:
    """The latents [1, C, h, w] of one view, noised to the level `share` 0..1 from the clean end and denoised again."""
    levels = levels_from(task, share)
    noise = torch.randn(clean.shape, generator=task.generator, device=task.generator.device, dtype=clean.dtype)
    x = levels[0].alpha * clean + levels[0].sigma * noise.to(clean.device)
    return sample(task.denoiser.only([view]), x, levels, "ddim", on_step=told)


def levels_from(task: Task, share: float) -> list[Level]:
    """`steps + 1` levels, evenly from `share` of the way up the model's noise to clean; each is a level of training."""
    steps, ladder = task.settings["steps"], task.levels(FINEST)
    climbed = max(round(share * FINEST), steps)
    return [ladder[FINEST - round(climbed * k / steps)] for k in range(steps, -1, -1)]


def calls(settings: Mapping[str, Any], views: int) -> int:
    rounds = settings["edit_rounds"] if settings["edit_update"] == "dataset" else 1
    return rounds * views * settings["steps"]


def check(settings: Mapping[str, Any], facts: Facts) -> None:
    """Refuses a model that takes no instructions, and an object without a texture."""
    if facts.edits is False:
        raise SettingsError(
            f"method is 'edit', and the model '{settings['model']}' takes no instructions.",
            "Describe the whole surface and use start 'texture' with a strength, or choose an InstructPix2Pix model.",
            key="model")  # fmt: skip
    if not facts.starts:
        raise SettingsError("method is 'edit', and there is no texture to be changed.",
                            "Choose an object with an image on its Base Color, or generate a texture first.",
                            key="method")  # fmt: skip
    if settings["edit_update"] == "joint":
        synchronized.METHOD.check(settings, facts)


METHOD = Method(paint, calls, check)
