# SPDX-License-Identifier: Apache-2.0
"""Canonical spaces: where the wanted thing lives, and how the views look at it.

A UV texture is one; so is a panorama, a tile, an anagram. A space is three linear maps and a mask; it
knows nothing of models or samplers. A new space is one module and one line in `SPACES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

SPACES: dict[str, str] = {"uv": "engine.spaces.uv"}
"""The module of each kind of space, by name."""


class Octaves(Protocol):
    """A linear map from `size` coefficients of broad patterns [size, C] to all that a canonical image holds [M, C]."""

    size: int

    def __call__(self, coefficients: Tensor) -> Tensor: ...

    def transpose(self) -> Octaves:
        """The adjoint, as a map of the same kind."""
        ...


class CanonicalSpace(Protocol):
    """What a method asks of a space. Derive from it to inherit `merge` and `sync`.

    `N` views of `C` channels, `H` by `W`; the canonical image has the shape the space likes, channels
    first. Every map is linear in its argument and works on any number of channels, in the argument's
    dtype. Views, canonical images and whatever is given back live on the device of `mask`. Nothing here keeps a state,
    except the sharpness of the weights.
    """

    channels: int
    """Channels `C` of the noise."""
    mask: Tensor
    """[N, 1, H, W] in 0..1: 1 where a pixel sees the space and some view's pixels reach it; soft at borders."""

    def project(self, z: Tensor) -> Tensor:
        """The views [N, C, H, W] of a canonical image, as images are seen (filtered). 0 where mask is 0."""
        ...

    def unproject(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted sum of the views in canonical shape, and the sum of weights (broadcastable to it).

        Two results of different views can be added, so views may be streamed. Both are 0 where no view looks.
        """
        ...

    def project_noise(self, generator: torch.Generator) -> Tensor:
        """Fresh noise for the views [N, C, H, W]: unit variance, shared where they agree.

        It is drawn on the generator's device and handed over on the space's. Not `project` of noise, which loses
        variance. On spaces whose projection only copies, it is `project` of the first normal field drawn.
        """
        ...

    def sharpen(self, power: float) -> None:
        """Set the exponent of the view weights: 1 blends, 128 lets the best view win. May do nothing.

        It is called again and again with the same number, which must cost nothing.
        """

    def only(self, views: Sequence[int]) -> CanonicalSpace:
        """The same canonical image seen by some of the views, in the order given, none twice.

        Its `project` gives those views as before, also what only the others reach; the others no longer take part in
        `unproject`. Cheap enough to do for each view.
        """
        ...

    def facing(self) -> Tensor:
        """How straight each view looks at each place [N, ...]: the cosine, 0..1, less near edges; 0 where it does not.

        Of the canonical shape without its channels. Whose view of a place is the best is decided by it.
        """
        ...

    def merge(self, views: Tensor) -> Tensor:
        """The canonical image the views agree on best: the weighted mean; 0 where no view looks."""
        total, weight = self.unproject(views)
        return total / weight.clamp_min(torch.finfo(weight.dtype).tiny)

    def sync(self, views: Tensor) -> Tensor:
        """The views of their own merge, `project(merge(views))`; override with a faster composition."""
        return self.project(self.merge(views))

    def backproject(self, views: Tensor) -> Tensor:
        """The adjoint of `project`: <project(z), views> = <z, backproject(views)>; carries a gradient of the views to z.

        Taken by automatic differentiation where a space does not know it; override with a transposed map.
        """
        blank = torch.zeros_like(self.merge(views))
        return torch.func.vjp(self.project, blank)[1](views)[0]

    def octaves(self) -> Octaves | None:
        """The canonical image as a sum of coarse to fine patterns; None where the space knows no neighbourhood."""
        return None
