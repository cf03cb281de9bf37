# SPDX-License-Identifier: Apache-2.0
"""Jobs in worlds small enough to solve by hand, as a method sees them: any denoiser, any toy space, no codec loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from blender_addon.jobs.settings import resolve
from engine.denoiser import Denoiser
from engine.methods.task import Task
from engine.schedule import Level, levels_from_config
from engine.spaces import CanonicalSpace

VP = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
      "steps_offset": 1}


class Same:
    """A codec that does nothing: latents are images."""

    cheap_codec = True

    def encode(self, rgb: Tensor) -> Tensor:
        return rgb

    def decode(self, latents: Tensor, refine: bool = True) -> Tensor:
        return latents


@dataclass
class Counted:
    """Any denoiser, of all views or some: counts view denoisings, in itself and in those made by `only`."""

    denoiser: Denoiser
    views: tuple[int, ...]
    count: list[int] = field(default_factory=lambda: [0])

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        assert len(x) == len(self.views), f"{len(x)} views given to the denoiser of {self.views}"
        self.count[0] += len(x)
        return self.denoiser(x, level)

    def only(self, views: Sequence[int]) -> Counted:
        return Counted(self.denoiser, tuple(self.views[view] for view in views), self.count)

    def unguided(self) -> Counted:
        return self


@dataclass
class Watched:
    """What a method told: (done, total, images) each time."""

    told: list[tuple[int, int, Tensor]] = field(default_factory=list)

    def __call__(self, done: int, total: int, images) -> None:
        self.told.append((done, total, images()))


def toy_task(denoiser: Denoiser, space: CanonicalSpace, seed: int = 0, start: Tensor | None = None,
             region: Tensor | None = None, **settings) -> Task:
    """A job whose latents are its images. `space` has 3 channels if the images shall look like images."""
    generator = torch.Generator().manual_seed(seed)
    given = {"prompt": "x", "start": "nothing" if start is None else "texture", **settings}
    views = tuple(range(len(space.mask)))
    return Task(Counted(denoiser, views), space, space, Same(), lambda steps, strength=1.0: levels_from_config(
        VP, steps, strength), resolve(given), generator, Watched(), start, region)
