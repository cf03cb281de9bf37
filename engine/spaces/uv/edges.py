# SPDX-License-Identifier: Apache-2.0
"""Where a view's surfaces end: near silhouettes and depth edges colours bleed across, so a view counts less there."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

from .kernels import breaks_of_view
from .screen import Screen, by_view


def breaks(screen: Screen, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a pixel and its right neighbour, and it and the one below, show different surfaces.

    ids: i32[N,H,W]. Returns two bool[N,H,W]; the last column (row) is False. Background next to surface is a break.
    """
    right, below = np.zeros(ids.shape, bool), np.zeros(ids.shape, bool)
    by_view(lambda i: breaks_of_view(ids[i], screen.vertices[i], screen.triangles, right[i], below[i]), len(ids))
    return right, below


def edge_distance(screen: Screen, ids: np.ndarray) -> np.ndarray:
    """f32[N,H,W]: pixels from each pixel to the nearest one at an edge of its surface; 0 on the background."""
    right, below = breaks(screen, ids)
    inside = ids >= 0
    edge = right | below
    edge[:, :, 1:] |= right[:, :, :-1]
    edge[:, 1:] |= below[:, :-1]
    edge[:, [0, -1]] |= inside[:, [0, -1]]
    edge[:, :, [0, -1]] |= inside[:, :, [0, -1]]
    edge |= ~inside
    return np.stack(by_view(lambda i: distance_transform_edt(~edge[i]).astype(np.float32), len(ids)))
