# SPDX-License-Identifier: Apache-2.0
"""View -> texels: the filtered texture lookup of every pixel, as a sparse map.

Each pixel averages `samples x samples` bilinear lookups, about one per texel (4x4 of them remove 14 dB of aliasing on
dense texels, research/rasterizers.md 3c). Where texels are about as large as pixels one lookup, at the centre, is
enough: the texture was gathered from pixels, and averaging over the pixel again only blurs it. A tap on another chart,
or on a texel without a value, is dropped and the rest renormalised, so rows of covered pixels sum to exactly 1.
"""

from __future__ import annotations

import numpy as np

from engine.raster import Rasterizer

from .kernels import lookup_of_view
from .screen import Screen, by_groups, by_view
from .sparse import SparseMap

MOST = 192  # distinct texels one pixel may read
LEAST = 0.15  # of a row's largest: smaller shares are left out, half of all, with no difference to be measured


def lookup_map(screen: Screen, rasterizer: Rasterizer, side: int, samples: int, corners: np.ndarray, charts: np.ndarray,
               slot: np.ndarray, texel_charts: np.ndarray) -> tuple[SparseMap, np.ndarray]:
    """The map texels -> pixels of `N` views of `side`^2, and the soft coverage f32[N,1,side,side].

    corners: f32[F,3,2] uv. charts: i32[F]. slot: i32[T,T] row in the list of texels, -1 where there is no texel or it
    has no value. texel_charts: i32[M]. Coverage is the share of a pixel's subsamples that found a texel.
    """
    coverage = np.zeros((screen.views, 1, side, side), np.float32)
    counts, columns, values = [], [], []

    def one(i, ids):
        covered = (ids >= 0).reshape(side, samples, side, samples).any((1, 3))
        room = min(MOST, 4 * samples * samples)
        count = np.zeros(side * side, np.int32)
        column, value = np.empty(int(covered.sum()) * room, np.int32), np.empty(int(covered.sum()) * room, np.float32)
        last = lookup_of_view(ids, samples, screen.vertices[i], screen.triangles, corners, charts, slot, texel_charts,
                              room, count, column, value, coverage[i, 0])
        return count, column[:last].copy(), value[:last].copy()

    for group, ids in by_groups(screen, rasterizer, side * samples):
        for count, column, value in by_view(lambda k, group=group, ids=ids: one(group[k], ids[k]), len(group)):
            counts.append(count), columns.append(column), values.append(value)
    offsets = np.zeros(coverage.size + 1, np.int32)
    np.cumsum(np.concatenate(counts), out=offsets[1:])
    lookup = SparseMap(offsets, np.concatenate(columns), np.concatenate(values), len(texel_charts))
    return lookup.without_small(LEAST), coverage
