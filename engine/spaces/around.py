# SPDX-License-Identifier: Apache-2.0
"""What goes around a space's maps: pixels it does not cover, agreement in part, agreement through a codec.

Every function here takes a map views -> views and gives one, so they compose.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from engine.spaces import CanonicalSpace

Sync = Callable[[Tensor], Tensor]


def keep_outside(space: CanonicalSpace) -> Sync:
    """The space's `sync` where its mask is 1, the views' own pixels where it is 0, a blend between."""
    spread: list[Tensor] = []  # the mask laid out as the views are: broadcast, it takes four times as long

    def kept(views: Tensor) -> Tensor:
        if not spread or (spread[0].shape, spread[0].dtype, spread[0].device) != (views.shape, views.dtype, views.device):
            spread[:] = [torch.empty_like(views).copy_(space.mask)]
        return torch.lerp(views, space.sync(views), spread[0])
    return kept


def partly(sync: Sync, strength: float) -> Sync:
    """`strength` 0..1 of the way to agreement (the lambda of SyncSDE, Lee et al. 2025)."""
    return lambda views: torch.lerp(views, sync(views), strength)


def through_pixels(sync: Sync, codec) -> Sync:
    """Agreement of latents [N, C, h, w] by way of their images: x + E(sync(D x) - D x), the change alone encoded if E is linear.

    Otherwise x + E(sync(D x)) - E(D x). Either way what the codec loses on the round trip stays in x, so nothing changes
    where the images agree already. A codec's learned detail is left out (`refine` False): encoding would drop it again,
    and it would cost a third of a step.
    """
    def synced(latents: Tensor) -> Tensor:
        images = codec.decode(latents, refine=False)
        if codec.cheap_codec:
            return latents + codec.encode(sync(images) - images)
        return latents + codec.encode(sync(images)) - codec.encode(images)
    return synced


def hold(space: CanonicalSpace, values: Tensor, where: Tensor) -> Sync:
    """Views with known texels put in: `values` in canonical shape, `where` in 0..1, broadcastable to them."""
    mask = space.mask.to(values)
    held = mask * space.project(where * values)
    left = 1 - mask * space.project(where.to(values).expand_as(values))
    return lambda views: left * views + held


class WithOutside:
    """A space whose canonical image also remembers the pixels the space does not cover.

    Canonical methods keep their state on the texture; the background of each view needs a state too. Here it
    is one: `[z, views]`, laid out in a row. Projecting takes z where the mask is at least one half (a
    hard cut, because a blend of two noisy images has too little noise) and the views' own pixels elsewhere.
    """

    def __init__(self, space: CanonicalSpace, views: Tensor):
        """`views` gives shapes, dtype and device; its values do not matter."""
        self.space = space
        self.inside = space.mask.to(views.device) >= 0.5
        self.everywhere = bool(self.inside.all())
        self.views_shape, self.dtype = views.shape, views.dtype
        self.shape = space.merge(views).shape
        self.loudness = self._loudness()

    def _loudness(self) -> Tensor:
        """Standard deviation of canonical noise that pixels inside see with unit variance on average.

        Filtering averages noise away: var (P n) = sum P^2 < 1 for white n. Measured on random signs, it is
        exactly 1 where projecting only copies, whatever the signs.
        """
        fixed = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, self.shape, generator=fixed).to(self.inside.device, self.dtype) * 2 - 1
        seen = self.space.project(signs).square() * self.inside
        count = self.inside.expand(self.views_shape).sum()
        return (count / seen.sum()).sqrt() if count else torch.ones_like(seen.sum())

    def join(self, z: Tensor, views: Tensor) -> Tensor:
        return torch.cat([z.flatten(), views.flatten()])

    def split(self, both: Tensor) -> tuple[Tensor, Tensor]:
        cut = self.shape.numel()
        return both[:cut].view(self.shape), both[cut:].view(self.views_shape)

    def project(self, both: Tensor) -> Tensor:
        z, views = self.split(both)
        return torch.where(self.inside, self.space.project(z), views)

    def merge(self, views: Tensor) -> Tensor:
        return self.join(self.space.merge(views), views)

    def sync(self, views: Tensor) -> Tensor:
        return self.project(self.merge(views))

    def noise(self, generator: torch.Generator, outside: Callable[[], Tensor]) -> Tensor:
        """White noise on the canonical image, as loud as pixels need it; `outside()` gives the views', if they show."""
        device = self.inside.device
        z = torch.randn(self.shape, generator=generator, device=generator.device, dtype=self.dtype).to(device)
        return self.join(self.loudness * z, z.new_zeros(self.views_shape) if self.everywhere else outside())

    def hold(self, values: Tensor, where: Tensor) -> Sync:
        """The canonical image with known texels put in."""
        def held(both: Tensor) -> Tensor:
            z, views = self.split(both)
            return self.join((1 - where) * z + where * values, views)
        return held
