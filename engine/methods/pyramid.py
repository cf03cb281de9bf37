# SPDX-License-Identifier: Apache-2.0
"""How a distilled image moves: a step toward what views show, or Adam on a sum of broad and fine patterns."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.spaces import CanonicalSpace

BETAS = (0.9, 0.99)

Bounds = tuple[Tensor, Tensor] | None
"""The least and the greatest values of an image, broadcastable to it."""


class Pyramid:
    """A canonical image of `space`, 0 at first, and Adam (Kingma and Ba 2015) on what it is a sum of.

    Spaces without octaves have one pattern per texel and nothing else.
    """

    def __init__(self, space: CanonicalSpace, like: Tensor, rate: float):
        """`like` gives the canonical shape, dtype and device."""
        self.fine, self.octaves, self.sums = torch.zeros_like(like), space.octaves(), None
        self.parameters = [self.fine]
        if self.octaves is not None:
            self.sums = self.octaves.transpose()
            self.parameters.append(like.new_zeros(self.octaves.size, len(like)))
        self.optimizer = torch.optim.Adam(self.parameters, rate, BETAS, eps=1e-15)

    def image(self) -> Tensor:
        """The canonical image as it is now, not to be changed."""
        if self.octaves is None:
            return self.fine
        return self.fine + self.octaves(self.parameters[1]).t()

    def step(self, gradient: Tensor, rate: float, bounds: Bounds = None) -> None:
        """Move against a gradient in the image, and back into the bounds. Values that are no numbers count as 0."""
        gradient = finite(gradient)
        self.fine.grad = gradient
        if self.sums is not None:
            self.parameters[1].grad = self.sums(gradient.t())
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        if bounds is not None:
            image = self.image()
            self.fine += image.clamp(*bounds) - image


class Plain:
    """A canonical image, 0 at first, that takes steps as they are."""

    def __init__(self, like: Tensor):
        self.now = torch.zeros_like(like)

    def image(self) -> Tensor:
        """The canonical image as it is now, not to be changed."""
        return self.now

    def step(self, gradient: Tensor, rate: float, bounds: Bounds = None) -> None:
        """As `Pyramid.step`."""
        self.now = self.now - rate * finite(gradient)
        if bounds is not None:
            self.now = self.now.clamp(*bounds)


def finite(values: Tensor) -> Tensor:
    return torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
