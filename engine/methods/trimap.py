# SPDX-License-Identifier: Apache-2.0
"""The canonical image while it is painted view by view: what is there, who painted it, what the next view may change.

Every pixel of a view is one of three (TEXTure, Richardson et al. 2023): *generate*, nobody has painted there;
*refine*, this view looks straighter at it than the one that painted it; *keep*, the rest. Sizes are in cells of the
latents, of which TEXTure's 1200 px renders have 64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from engine.spaces import CanonicalSpace

GRAZING = 0.1  # a view that looks flatter than this paints only what no view sees better (Text2Tex: view_threshold)
DILATE = 9 / 1200 * 64  # radius by which new places reach over what is painted: a square of 19 px
OPEN = 2 / 1200 * 64  # radius of the opening that clears specks of refinement: 5 px
FADE = 10 / 1200 * 64  # radius over which what is written fades into what is kept: 21 px
WHOLE = 0.999  # of a pixel's texels: all of them, but for rounding
NEW, UPDATED, OLD = 1.0, 0.5, 0.1  # worth of a pixel in a view's heat (Text2Tex: QUAD_WEIGHTS)


@dataclass(frozen=True)
class Trimap:
    """What a view may change, as masks [1, 1, H, W] of 0 and 1. Background is neither free nor kept."""

    fresh: Tensor  # nobody has painted there
    refined: Tensor  # painted, and this view may do it better
    free: Tensor  # may change: fresh, a little around it, and refined
    kept: Tensor  # painted, and stays
    new_share: float  # of the pixels that show the object, 0..1
    refined_share: float


class Canvas:
    """The canonical image of colours `z` [3, ...] and, of the same shape without channels:

    known: has a colour. done: painted by a view; what was there at the start is known, not done.
    best: how straight the view that painted it looks, 0..1. owner: that view; -1 for nobody, or where several mix.
    """

    def __init__(self, pixels: CanonicalSpace, cell: int, start: Tensor | None = None, region: Tensor | None = None):
        """cell: pixels per side of a cell of the latents. start, region: as in `Task`."""
        self.cell, self.views = cell, [pixels.only([view]) for view in range(len(pixels.mask))]
        self.facing = pixels.facing()
        most, self.straightest = self.facing.max(0)
        self.shows = self.facing > torch.where(most > GRAZING, GRAZING, 0.5 * most)
        self.region = torch.ones_like(most) if region is None else region.to(most)
        self.known, self.done = torch.zeros_like(most, dtype=torch.bool), torch.zeros_like(most, dtype=torch.bool)
        self.best, self.owner = torch.zeros_like(most), torch.full_like(self.straightest, -1)
        self.z = most.new_zeros(3, *most.shape)
        self.pictures: list[Tensor | None] = [None] * len(self.views)
        if start is not None:
            self.z, self.known = pixels.merge(start.to(most)), most > 0
            self.pictures = list(start.to(most).split(1))
        self.given, self.untouched = self.z, self.known

    def new(self, view: int) -> Tensor:
        """bool [...]: what the view shows and nobody has painted."""
        return self.shows[view] & ~self.done & (self.region > 0)

    def better_seen(self, view: int, margin: float) -> Tensor:
        """bool [...]: painted by a view that looks less straight, by a margin (TEXTure's refine)."""
        return self._painted(view) & (self.facing[view] > self.best + margin)

    def best_seen(self, view: int) -> Tensor:
        """bool [...]: painted, and no view looks straighter than this one (Text2Tex's update)."""
        return self._painted(view) & (self.straightest == view)

    def _painted(self, view: int) -> Tensor:
        return self.shows[view] & self.done & (self.region > 0)

    def heat(self, view: int) -> float:
        """How much there is to do in a view (Text2Tex, Chen et al. 2023): its pixels by their worth."""
        worth = torch.where(self.new(view), NEW, torch.where(self.best_seen(view), UPDATED, OLD))
        one = self.views[view]
        return float((one.mask * one.project((worth * self.shows[view])[None].to(self.z))).sum())

    def trimap(self, view: int, new: Tensor, refine: Tensor) -> Trimap:
        """The two sets of places as pixels of the view, cleaned up."""
        one = self.views[view]
        layers = torch.stack([new, refine, self.known, self.shows[view]]).to(self.z)
        fresh, refined, known, shown = (one.mask * one.project(layers)).split(1, 1)
        total = max(float(shown.sum()), 1e-9)
        shares = float(fresh.sum()) / total, float(refined.sum()) / total
        fresh = (fresh > 0.5).to(self.z)
        around = dilated(fresh, round(DILATE * self.cell))
        refined = opened((refined > 0.5).to(self.z), round(OPEN * self.cell)) * (1 - around)
        free = torch.maximum(around, refined)
        return Trimap(fresh, refined, free, (known > WHOLE).to(self.z) * (1 - free), *shares)

    def look(self, view: int) -> Tensor:
        """The view [1, 3, H, W] as it is: its own pixels where it painted, the canonical image where others did.

        A view that has painted nothing takes the mean colour where nobody has, for codecs see across cells.
        """
        one, own = self.views[view], self.pictures[view]
        mine = (self.owner == view) | self.untouched
        seen = one.project(torch.cat([self.z * self.known, torch.stack([self.known, mine]).to(self.z)]))
        others = seen[:, :3] / seen[:, 3:4].clamp_min(1e-6)
        if own is None:
            known = one.mask * (seen[:, 3:4] > WHOLE)
            own = (others * known).sum((2, 3), keepdim=True) / known.sum().clamp_min(1e-6)
        return own + one.mask * (seen[:, 3:4] - seen[:, 4:]) * (others - own)

    def write(self, view: int, picture: Tensor, trimap: Trimap, new: Tensor, margin: float) -> None:
        """Take what is free in the picture [1, 3, H, W] of a view: fully where it is new, fading towards what is kept.

        A place gathers from free pixels alone, if it has any, and once more what two resamplings blurred. Where the
        view that painted looks straighter by more than the margin nothing is taken.
        """
        one, straight = self.views[view], self.facing[view]
        share = one.merge(torch.maximum(trimap.fresh, faded(trimap.free, round(FADE * self.cell))))
        weight = one.merge(trimap.free)

        def gathered(image: Tensor) -> Tensor:
            masked = one.merge(image * trimap.free) / weight.clamp_min(0.01)
            return torch.where(weight >= 0.01, masked, one.merge(image))

        colour = gathered(picture)
        inside = one.project((straight > 0)[None].to(self.z)) > WHOLE
        colour = colour + gathered((picture - one.project(colour)) * inside)
        allowed = self.shows[view] & (self.region > 0) & (straight + margin >= self.best)
        share = torch.where(new, 1.0, share[0].clamp(0, 1)) * allowed
        taken = share > 0
        self.z = (1 - share) * self.z + share * (self.region * colour + (1 - self.region) * self.given)
        self.owner = torch.where((share > WHOLE) & (self.region == 1), view, torch.where(taken, -1, self.owner))
        mostly = new | (share >= 0.5)
        self.best = torch.where(mostly, straight, self.best)
        self.done, self.known, self.untouched = self.done | mostly, self.known | taken, self.untouched & ~taken
        old = self.pictures[view]
        if old is not None:
            picture = torch.where(one.project(taken[None].to(self.z)) > 0, picture, old)
        self.pictures[view] = picture


def around(directions: Tensor) -> list[int]:
    """TEXTure's order: from the first view to both sides in turn and to the back, then from above and from below.

    directions: [N, 3] unit vectors to the cameras, z up. Above and below is beyond 55 degrees, as in the prompts.
    """
    x, y, z = directions.double().unbind(1)
    level = z.abs() < torch.sin(torch.deg2rad(torch.tensor(55.0))).double()
    turn = torch.rad2deg(torch.atan2(x, -y))
    turn = (turn - turn[level][0] + 180) % 360 - 180 if level.any() else turn
    rounded = [round(float(angle), 3) for angle in turn]
    return sorted(range(len(z)), key=lambda i: (0, abs(rounded[i]), rounded[i] < 0) if level[i] else (1, -float(z[i])))


def dilated(mask: Tensor, radius: int) -> Tensor:
    """The mask [1, 1, H, W], grown by a square of 2 radius + 1."""
    return max_pool2d(mask, 2 * radius + 1, 1, radius)


def opened(mask: Tensor, radius: int) -> Tensor:
    """The mask without what a square of 2 radius + 1 does not fit into."""
    return dilated(1 - dilated(1 - mask, radius), radius)


def faded(mask: Tensor, radius: int) -> Tensor:
    """The mask, falling to 0 within `radius` of its borders."""
    mean = avg_pool2d(mask, 2 * radius + 1, 1, radius, count_include_pad=False)
    return mask * (2 * mean - 1).clamp(0, 1)
