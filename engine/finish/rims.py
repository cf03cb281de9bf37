# SPDX-License-Identifier: Apache-2.0
"""Pixels on the rim of a surface, where the picture already shows what lies behind."""

from __future__ import annotations

import numpy as np

from engine.raster.jit import kernel, spread


def clean_rims(views: np.ndarray, away: np.ndarray, right: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Give each pixel at an edge of its surface the mean of its neighbours inside, in place; one without any stays.

    Returns bool[N,H,W]: the pixels that got a mean, and so say nothing of their own.

    views: f32[N,H,W,3]. away: f32[N,H,W] pixels to the nearest edge, 0 at edges. right, below: bool[N,H,W], see
    `spaces.uv.edges.breaks`: a neighbour beyond a break is none.
    """
    given = np.zeros(away.shape, bool)

    def worker(numbers):
        for i in numbers:
            inward(views[i].copy(), away[i], right[i], below[i], views[i], given[i])

    spread(len(views), worker)
    return given


@kernel
def inward(before, away, right, below, out, given):
    height, width = away.shape
    for r in range(height):
        for c in range(width):
            if away[r, c] != 0:
                continue
            count = 0
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            for dr in range(-1, 2):
                for dc in range(-1, 2):
                    r2, c2 = r + dr, c + dc
                    if r2 < 0 or c2 < 0 or r2 >= height or c2 >= width or away[r2, c2] < 1:
                        continue
                    across_here = dc != 0 and right[r, min(c, c2)]
                    across_there = dc != 0 and right[r2, min(c, c2)]
                    down_here = dr != 0 and below[min(r, r2), c]
                    down_there = dr != 0 and below[min(r, r2), c2]
                    if (across_here or down_there) and (down_here or across_there):
                        continue
                    count += 1
                    red += before[r2, c2, 0]
                    green += before[r2, c2, 1]
                    blue += before[r2, c2, 2]
            given[r, c] = count > 0
            if count:
                out[r, c, 0], out[r, c, 1], out[r, c, 2] = red / count, green / count, blue / count
