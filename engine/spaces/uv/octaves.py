# SPDX-License-Identifier: Apache-2.0
"""The texture as a sum of patterns from broad to fine, laid out in space and not on the UV map.

Optimized texel by texel, a large even colour takes as many independent decisions as it has texels. Coefficients on
grids of falling cell size, interpolated between their corners, let one number move a whole region; mipmaps of the UV
square would do the same, but would tie together whatever charts happen to be packed side by side, and cut every
surface at its seams (the grids of Instant NGP, Mueller et al. 2022, without the hash: only touched corners are kept).
"""

from __future__ import annotations

import numpy as np

from .sparse import SparseMap

COARSEST = 4    # cells along the longest side
FINEST = 4.0    # texels per cell
MOST = 7        # grids


def octave_map(position: np.ndarray) -> SparseMap:
    """The map from the coefficients of all grids to the texels at `position` f32[M,3]; each grid's shares sum to 1.

    Cells halve from grid to grid, from a quarter of the longest extent to about four texels. Points that all lie in one
    place, or fewer than eight, give one grid of a single cell.
    """
    count = len(position)
    low = position.min(0) if count else np.zeros(3)
    extent = float((position.max(0) - low).max()) if count else 0.0
    columns, values, size = [], [], 0
    for cells in _resolutions(count):
        place = (position.astype(np.float64) - low) / extent * cells if extent > 0 else np.zeros((count, 3))
        corner = np.minimum(np.floor(place), cells - 1).astype(np.int64)
        between = place - corner
        keys, shares = [], []
        for offset in np.ndindex(2, 2, 2):
            x, y, z = (corner + offset).T
            keys.append((x * (cells + 1) + y) * (cells + 1) + z)
            shares.append(np.where(offset, between, 1 - between).prod(1))
        used, index = np.unique(np.stack(keys, 1), return_inverse=True)
        columns.append(index.reshape(count, 8) + size)
        values.append(np.stack(shares, 1))
        size += len(used)
    entries = 8 * len(columns)
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(entries)
    column, value = np.concatenate(columns, 1).ravel(), np.concatenate(values, 1).ravel()
    return SparseMap(offsets, column.astype(np.int32), value.astype(np.float32), size)


def _resolutions(count: int) -> list[int]:
    """Cells along the longest side. A surface fills a square whose side holds about sqrt(count / 2) texels."""
    finest = np.sqrt(count / 2) / FINEST
    found = [COARSEST * 2**k for k in range(MOST) if COARSEST * 2**k <= finest]
    return found or [1]
