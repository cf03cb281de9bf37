# SPDX-License-Identifier: Apache-2.0
"""Noise that is white in every view and still agrees between views.

Noise must not be projected like an image (bilinear lookup leaves 0.44 of its variance, nearest no agreement). Each
pixel sums the canonical noise over its area and divides by what that does to the variance:

    n = sum_k c_k f_k / sqrt(sum_k c_k^2),   f ~ N(0, 1) on the texture's texels,

with `c_k` the number of the pixel's S x S subsamples in texel `k` (research/sync-algorithms.md 8.2). The variance is
one whatever the UV layout. Where a texel is larger than a pixel, or part of the pixel is background, independent
noise makes up the rest: `sqrt(a) n + sqrt(1 - a) e`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.raster import Rasterizer

from .kernels import noise_of_view
from .screen import Screen, by_groups, by_view, uv_areas, uv_per_pixel
from .sparse import SparseMap

TEXELS_PER_PIXEL = 47.0  # by area: lag-1 correlation 0.08, cross-view correlation 0.6


@dataclass(frozen=True)
class NoiseMap:
    """Canonical noise on `size`^2 texels -> noise on `views` views of `side`^2 pixels."""

    map: SparseMap        # texels [size^2] -> pixels [N*side^2], unit variance where shared is not 0
    shared: np.ndarray    # f32[N,1,side,side] share `a` of the pixel's variance that comes from the texture
    size: int

    def only(self, views: Sequence[int]) -> NoiseMap:
        """The same noise for some of the views; the part that a view does not share is drawn for these alone."""
        return NoiseMap(self.map.parts(self.shared[0].size, views), self.shared[list(views)], self.size)

    def draw(self, generator: torch.Generator, channels: int) -> Tensor:
        """Fresh noise f32[N,channels,side,side] on the generator's device, unit variance everywhere."""
        device, (views, _, side, _) = generator.device, self.shared.shape
        field = torch.randn(self.size * self.size, channels, generator=generator, device=device)
        own = torch.randn(views, channels, side, side, generator=generator, device=device)
        shared = torch.from_numpy(self.shared).to(device)
        seen = self.map(field).view(views, side, side, channels).permute(0, 3, 1, 2)
        return shared.sqrt() * seen + (1 - shared).sqrt() * own


def noise_map(screen: Screen, rasterizer: Rasterizer, corners: np.ndarray, side: int, size: int | None = None,
              samples: int = 8) -> NoiseMap:
    """Build the map for views of `side`^2 pixels.

    corners: f32[F,3,2] uv. size: texels per side; chosen so that a typical pixel
    holds 47 texels if None, within 64..4096. samples: subsamples per pixel side.
    """
    if size is None:
        ids = rasterizer.triangle_ids(screen.clip, screen.triangles, side, side)
        area = uv_per_pixel(screen, ids, corners)
        size = int(np.clip(np.sqrt(TEXELS_PER_PIXEL / area), 64, 4096)) if area > 0 else 64
    density = uv_areas(corners) * size * size
    shared = np.zeros((screen.views, 1, side, side), np.float32)
    counts, columns, values = [], [], []

    def one(i, ids):
        room = int((ids.reshape(side, samples, side, samples) >= 0).any((1, 3)).sum()) * samples * samples
        count = np.zeros(side * side, np.int32)
        column, value = np.empty(room, np.int32), np.empty(room, np.float32)
        last = noise_of_view(ids, samples, screen.vertices[i], screen.triangles, corners, density, size,
                             count, column, value, shared[i, 0])
        return count, column[:last].copy(), value[:last].copy()

    for group, ids in by_groups(screen, rasterizer, side * samples):
        for count, column, value in by_view(lambda k, group=group, ids=ids: one(group[k], ids[k]), len(group)):
            counts.append(count), columns.append(column), values.append(value)
    offsets = np.zeros(screen.views * side * side + 1, np.int32)
    np.cumsum(np.concatenate(counts), out=offsets[1:])
    return NoiseMap(SparseMap(offsets, np.concatenate(columns), np.concatenate(values), size * size), shared, size)
