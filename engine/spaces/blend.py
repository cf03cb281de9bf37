# SPDX-License-Identifier: Apache-2.0
"""Other ways to blend views than by one set of weights: detail and broad tones apart, variance kept.

A `Blended` space is a space; methods do not notice. With L a blur in view space and S_p the space's own agreement at
sharpness p, two bands agree as S_4 (L x) + S_128 (x - L x): broad tones come from all views, so that the borders between
best views do not show; detail comes from the best view, so that it does not ghost (Burt and Adelson 1983).

A mean has less variance than what it is the mean of. If w are the weights at a texel, d the views' deviations from the
broad tones and rho their correlation between views, Var(sum w d) = Var(d) q with q = Q + rho (1 - Q), Q = sum w^2.
Dividing by sqrt(q) gives it back (VCD-Texture, Liu et al. 2024, aligns variances to the same end).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from engine.spaces import CanonicalSpace

BROAD = 4.0  # sharpness of the broad tones
LOUDEST = 1.5  # how much a mean may be amplified


class Blended(CanonicalSpace):
    """`space`, blended by bands (`bands`) or at its own sharpness, with the variance kept (`preserve`) or not.

    blur: standard deviation in pixels of the views, between broad tones and detail. `sharpen` is the detail's.
    """

    def __init__(self, space: CanonicalSpace, blur: float, *, bands: bool, preserve: bool):
        self.space, self.bands, self.preserve = space, bands, preserve
        self.mask, self.channels = space.mask, space.channels
        self.blur = Blur(space.mask, blur)
        self.power = 1.0
        self.squares: dict[float, Tensor] = {}

    def sharpen(self, power: float) -> None:
        self.power = power
        self.space.sharpen(power)

    def project(self, z: Tensor) -> Tensor:
        return self.space.project(z)

    def project_noise(self, generator: torch.Generator) -> Tensor:
        return self.space.project_noise(generator)

    def unproject(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """The blend times the weight of its detail, and that weight. Not to be added up over parts of the views."""
        merged = self.merge(views)
        weight = self.space.unproject(views[:, :1])[1]
        return merged * weight, weight

    def merge(self, views: Tensor) -> Tensor:
        return sum(z if gain is None else z * gain
                   for z, gain in ((self.space.merge(part), gain) for part, gain in self._parts(views)))

    def sync(self, views: Tensor) -> Tensor:
        agreed = 0
        for part, gain in self._parts(views):
            agreed = agreed + self.space.sync(part)
            if gain is not None:
                agreed = agreed + self.space.project((gain - 1) * self.space.merge(part))
        return agreed

    def _parts(self, views: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
        """What sums to the views, each with the space sharpened as it wants it, and its amplification if any."""
        broad = self.blur(views)
        if not self.bands:
            yield broad, None
            yield views - broad, self._gain(views - broad)
            return
        self.space.sharpen(BROAD)
        if self.preserve:
            mask = self.mask.to(views)
            mean = ((mask * broad).sum((0, 2, 3), keepdim=True) / mask.sum().clamp_min(1)).expand_as(broad)
            yield mean, None
            broad, views = broad - mean, views - mean
            yield broad, self._gain(broad)
        else:
            yield broad, None
        self.space.sharpen(self.power)
        yield views - broad, None

    def _gain(self, deviations: Tensor) -> Tensor:
        """What gives the merged deviations their variance back, broadcastable to them: 1 to `LOUDEST`."""
        merged, spread = self.space.merge(deviations), self.space.merge(deviations.square())
        q = self._square().to(merged)
        alone = (1 - q) * spread
        shared = ((merged.square() - q * spread).sum() / alone.sum().clamp_min(1e-30)).clamp(0, 1)
        return (q + shared * (1 - q)).clamp_min(1e-6).rsqrt().clamp(max=LOUDEST)

    def _square(self) -> Tensor:
        """Q of every texel: 1 where one view decides, 1/n where n count alike; made once per sharpness."""
        power = BROAD if self.bands else self.power
        if power not in self.squares:
            one = torch.zeros_like(self.mask[:, :, :1, :1]).expand_as(self.mask).clone()
            total = 0
            for view in range(len(one)):
                one[view] = 1
                total = total + self.space.merge(one).square()
                one[view] = 0
            self.squares = {power: total}
        return self.squares[power]


class Blur:
    """A Gaussian of `sigma` pixels over what the mask shows: sum m x / sum m around each pixel, 0 where there is none.

    Wide ones are made on averages of blocks, about two per sigma, and interpolated: the width takes that into account.
    """

    def __init__(self, mask: Tensor, sigma: float):
        self.mask, self.block = mask, max(1, int(sigma / 2))
        rest = math.sqrt(max(sigma**2 - self.block**2 / 4, 0.01) if self.block > 1 else sigma**2) / self.block
        place = torch.arange(-math.ceil(3 * rest), math.ceil(3 * rest) + 1, dtype=torch.float64)
        bell = torch.exp(-0.5 * (place / max(rest, 1e-6)) ** 2)
        self.bell = bell / bell.sum()
        self.placed: Tensor | None = None  # the bell, and what of it lies on the mask: where and as the views are
        self.share: Tensor | None = None

    def __call__(self, views: Tensor) -> Tensor:
        """The broad tones [N,C,H,W] of views; linear, a constant stays."""
        mask = self.mask.to(views)
        if self.share is None or self.share.dtype != views.dtype or self.share.device != views.device:
            self.placed = self.bell.to(views)
            self.share = self._spread(mask).clamp_min(1e-6)
        return self._spread(mask * views) / self.share

    def _spread(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        small = pad(x.reshape(n * c, 1, height, width), (0, -width % self.block, 0, -height % self.block))
        if self.block > 1:
            small = avg_pool2d(small, self.block)
        bell, reach = self.placed, len(self.bell) // 2
        small = conv2d(small, bell.view(1, 1, -1, 1), padding=(reach, 0))
        small = conv2d(small, bell.view(1, 1, 1, -1), padding=(0, reach))
        if self.block > 1:
            small = interpolate(small, scale_factor=self.block, mode="bilinear")
        return small[..., :height, :width].reshape(x.shape)
