# SPDX-License-Identifier: Apache-2.0
"""Worlds small enough to solve by hand: exact denoisers of Gaussian data, and spaces written as matrices.

The whole engine runs on them on a CPU in seconds, without weights, with a known answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.schedule import Level
from engine.spaces import CanonicalSpace

SETTINGS = {
    "case": "instance-x0", "sampler": "ddim", "eta": 0.0, "noise": "shared", "sync_space": "latent",
    "sync_until": 1.0, "sharpness_start": 1.0, "sharpness_end": 128.0,
    "blend": "sharpest", "preserve_variance": False, "agree_start": 1.0, "agree_end": 1.0, "pixel_steps": 0,
}


@dataclass(frozen=True)
class GaussianDenoiser:
    """The exact denoiser of views drawn from N(mean, covariance), each view and channel by itself.

    `covariance` [P, P] over the P = H W pixels of a view; `mean` broadcasts to [N, C, H, W].
    D(x) = mean + alpha C (alpha^2 C + sigma^2)^-1 (x - alpha mean).
    """

    covariance: Tensor
    mean: Tensor | float = 0.0
    spectrum: Tensor = field(init=False)
    basis: Tensor = field(init=False)

    def __post_init__(self):
        values, vectors = torch.linalg.eigh(self.covariance)
        object.__setattr__(self, "spectrum", values.clamp_min(0))
        object.__setattr__(self, "basis", vectors)

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        gain = level.alpha * self.spectrum / (level.alpha**2 * self.spectrum + level.sigma**2)
        off = (x - level.alpha * self.mean).flatten(2) @ self.basis
        return self.mean + ((off * gain) @ self.basis.T).view(x.shape)


class RandomDenoiser:
    """A fixed random nonlinear network per pixel and its neighbours, the same for every view; float64."""

    def __init__(self, channels: int = 3, seed: int = 0):
        g = torch.Generator().manual_seed(seed)
        self.first = torch.randn(16, channels, 3, 3, generator=g, dtype=torch.float64) / (3 * channels**0.5)
        self.last = torch.randn(channels, 16, 3, 3, generator=g, dtype=torch.float64) / 12

    def network(self, x: Tensor, timestep: float) -> Tensor:
        """The raw output, of whatever kind the caller says it is."""
        hidden = torch.tanh(_circular(x, self.first) + timestep / 1000)
        return _circular(hidden, self.last)

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        return self.network(x, level.timestep)


def _circular(x: Tensor, kernel: Tensor) -> Tensor:
    return torch.nn.functional.conv2d(torch.nn.functional.pad(x, (1, 1, 1, 1), mode="circular"), kernel)


class MatrixSpace(CanonicalSpace):
    """A space given by two matrices: `projection` [N H W, Z] and unprojection weights [Z, N H W]; z is [C, Z].

    Weights are `(taps * cosine^power)`, relative to each texel's largest cosine, so that no power underflows.
    """

    def __init__(self, projection: Tensor, taps: Tensor, shape: tuple[int, int, int], channels: int = 1,
                 cosine: Tensor | None = None, noise: Tensor | None = None, mask: Tensor | None = None):
        self.projection, self.taps, self.shape, self.channels = projection, taps, shape, channels
        self.cosine = taps.new_ones(()) if cosine is None else cosine
        self.best = self.cosine.amax(1, keepdim=True).clamp_min(1e-300) if self.cosine.ndim else self.cosine
        self.spread = noise if noise is not None else projection
        self.spread = self.spread / self.spread.square().sum(1, keepdim=True).sqrt().clamp_min(1e-300)
        n, h, w = shape
        self.mask = taps.new_ones(n, 1, h, w) if mask is None else mask
        self.sharpen(1.0)

    def sharpen(self, power: float) -> None:
        self.weights = self.taps
        if self.cosine.ndim:
            self.weights = self.taps * (self.cosine / self.best) ** power

    def project(self, z: Tensor) -> Tensor:
        n, h, w = self.shape
        return (z @ self.projection.T).view(-1, n, h, w).transpose(0, 1)

    def unproject(self, views: Tensor) -> tuple[Tensor, Tensor]:
        flat = views.transpose(0, 1).flatten(1)
        return flat @ self.weights.T, self.weights.sum(1)

    def only(self, views: Sequence[int]) -> MatrixSpace:
        n, h, w = self.shape
        part, rows = copy(self), torch.arange(n * h * w).view(n, h * w)[list(views)].flatten()
        part.projection, part.spread, part.taps = self.projection[rows], self.spread[rows], self.taps[:, rows]
        part.cosine = self.cosine[:, rows] if self.cosine.ndim else self.cosine
        part.shape, part.mask = (len(views), h, w), self.mask[list(views)]
        part.sharpen(1.0)
        return part

    def facing(self) -> Tensor:
        n, h, w = self.shape
        cosine = self.cosine * (self.taps > 0)
        return cosine.view(-1, n, h * w).amax(2).T.clone()

    def project_noise(self, generator: torch.Generator) -> Tensor:
        n, h, w = self.shape
        z = torch.randn(self.channels, self.spread.shape[1], generator=generator, dtype=self.taps.dtype)
        return (z @ self.spread.T).view(-1, n, h, w).transpose(0, 1)


def gather_space(index: Tensor, texels: int, channels: int = 1, cosine: Tensor | None = None) -> MatrixSpace:
    """Views that copy texels: `index` [N, H, W] into Z texels, by nearest. A P = I where all texels are seen.

    Crops, permutations, a plane seen through windows and the identity are all of this kind.
    """
    projection = torch.nn.functional.one_hot(index.flatten(), texels).double()
    weight = projection.T.contiguous()
    if cosine is not None:
        cosine = torch.where(weight > 0, cosine.flatten()[None].double(), 0.0)
    return MatrixSpace(projection, weight, tuple(index.shape), channels, cosine)


def identity(views: int = 3, height: int = 4, width: int = 6, channels: int = 2) -> MatrixSpace:
    """Every pixel is its own texel: nothing is shared, synchronizing changes nothing."""
    count = views * height * width
    return gather_space(torch.arange(count).view(views, height, width), count, channels)


def permutations(views: int = 3, side: int = 4, channels: int = 2, seed: int = 1) -> MatrixSpace:
    """Every view shows all texels, each in its own order (an anagram)."""
    g = torch.Generator().manual_seed(seed)
    index = torch.stack([torch.randperm(side * side, generator=g) for _ in range(views)])
    return gather_space(index.view(views, side, side), side * side, channels)


def crops(texels: int = 32, width: int = 16, stride: int = 8, channels: int = 2) -> MatrixSpace:
    """Overlapping windows on a circle of texels (a panorama that closes)."""
    starts = torch.arange(0, texels, stride)
    index = (starts[:, None] + torch.arange(width)) % texels
    return gather_space(index[:, None, :], texels, channels)


def plane(side: int = 8, window: int = 5, channels: int = 2) -> MatrixSpace:
    """Four overlapping square windows on a flat texture."""
    grid = torch.arange(side * side).view(side, side)
    low = side - window
    index = torch.stack([grid[a : a + window, b : b + window] for a in (0, low) for b in (0, low)])
    return gather_space(index, side * side, channels)


def soft(channels: int = 3) -> MatrixSpace:
    """Three views that mix texels at random and cover their pixels in part."""
    g = torch.Generator().manual_seed(4)
    projection = torch.rand(3 * 20, 30, generator=g, dtype=torch.float64) ** 8
    projection = projection / projection.sum(1, keepdim=True)
    mask = torch.rand(3, 1, 4, 5, generator=g, dtype=torch.float64)
    return MatrixSpace(projection, projection.T.contiguous(), (3, 4, 5), channels, mask=mask)


EXACT = {"identity": identity, "permutations": permutations, "crops": crops, "plane": plane}


class CircleWorld(CanonicalSpace):
    """A texture around a circle, seen by orthographic cameras around it: lossy, as a mesh is.

    `research/sync-algorithms.md` §8.3: 8 views of 96 pixels, of which those within 75 degrees of the
    viewing direction count, on 4096 texels. Pixels copy the nearest texel, texels the nearest pixel; with
    `filtered`, pixels average the texels under them and texels interpolate. Channels are seeds.
    """

    def __init__(self, channels: int = 1, views: int = 8, pixels: int = 96, texels: int = 4096, filtered: bool = False):
        self.channels, self.texels, self.filtered = channels, texels, filtered
        limit, turn = torch.tensor(75.0).deg2rad().double(), 2 * torch.pi
        offset = (torch.arange(views, dtype=torch.float64) * turn / views)[:, None]
        centre = (torch.arange(pixels, dtype=torch.float64) + 0.5) / pixels * 2 - 1
        kept = centre.abs() < limit.sin()
        self.angle = centre[kept].asin()  # [W], the surface angle each pixel sees, from its view's direction
        fine = (((torch.arange(pixels * 8, dtype=torch.float64) + 0.5) / (pixels * 8) * 2 - 1).asin()).view(pixels, 8)

        def texel(angle):
            return ((angle % turn) / turn * texels).long() % texels
        self.centre = texel(self.angle + offset)  # [N, W]
        self.area = texel(fine[kept] + offset[..., None])  # [N, W, 8]: the texels under each pixel
        twins = (self.area[..., :, None] == self.area[..., None, :]).sum((2, 3))
        self.spread = twins.double().sqrt()
        around = (torch.arange(texels, dtype=torch.float64) + 0.5) / texels * turn
        relative = (around - offset + torch.pi) % turn - torch.pi  # [N, Z]
        self.nearest = (relative[..., None] - self.angle).abs().argmin(-1)
        across = relative.clamp(-torch.pi / 2, torch.pi / 2).sin()
        place = ((across + 1) / 2 * pixels - 0.5 - kept.nonzero()[0, 0]).clamp(0, len(self.angle) - 1)
        self.below = place.floor().long().clamp(max=len(self.angle) - 2)
        self.between = place - self.below
        self.cosine = torch.where(relative.abs() < limit, relative.cos(), 0.0)
        self.best = self.cosine.amax(0)
        self.mask = torch.ones(views, 1, 1, len(self.angle), dtype=torch.float64)
        self.sharpen(1.0)

    def sharpen(self, power: float) -> None:
        self.weights = (self.cosine / self.best) ** power

    def project(self, z: Tensor) -> Tensor:
        views = z[:, self.area].mean(-1) if self.filtered else z[:, self.centre]
        return views.transpose(0, 1)[:, :, None]

    def unproject(self, views: Tensor) -> tuple[Tensor, Tensor]:
        flat = views[:, :, 0]

        def at(pixel):
            return flat.gather(2, pixel[:, None].expand(-1, flat.shape[1], -1))
        if self.filtered:
            t = self.between[:, None]
            seen = (1 - t) * at(self.below) + t * at(self.below + 1)
        else:
            seen = at(self.nearest)
        return (seen * self.weights[:, None]).sum(0), self.weights.sum(0)

    def project_noise(self, generator: torch.Generator) -> Tensor:
        z = torch.randn(self.channels, self.texels, generator=generator, dtype=torch.float64)
        return (z[:, self.area].sum(-1) / self.spread).transpose(0, 1)[:, :, None]

    def only(self, views: Sequence[int]) -> CircleWorld:
        part, some = copy(self), list(views)
        for name in ("centre", "area", "spread", "nearest", "below", "between", "cosine", "mask"):
            setattr(part, name, getattr(self, name)[some])
        part.sharpen(1.0)
        return part

    def facing(self) -> Tensor:
        return self.cosine

    def prior(self) -> GaussianDenoiser:
        """The exact denoiser of a broad pattern (12 pixels wide) with fine detail (1.5 pixels), variance 1."""
        pixel = 2 / 96
        apart = self.angle[:, None] - self.angle
        return GaussianDenoiser(0.7 * torch.exp(-0.5 * (apart / (12 * pixel)) ** 2)
                                + 0.3 * torch.exp(-0.5 * (apart / (1.5 * pixel)) ** 2))
