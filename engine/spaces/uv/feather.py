# SPDX-License-Identifier: Apache-2.0
"""Soft edges: a view counts less near silhouettes and depth edges, where diffusion bleeds across them."""

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


def feather(screen: Screen, ids: np.ndarray, reach: float = 2.0, least: float = 0.02) -> np.ndarray:
    """f32[N,H,W]: `least` at an edge, rising to 1 at `reach` pixels from it; 0 on the background."""
    right, below = breaks(screen, ids)
    inside = ids >= 0
    edge = right | below
    edge[:, :, 1:] |= right[:, :, :-1]
    edge[:, 1:] |= below[:, :-1]
    edge[:, [0, -1]] |= inside[:, [0, -1]]
    edge[:, :, [0, -1]] |= inside[:, :, [0, -1]]

    def one(i):
        away = distance_transform_edt(~(edge[i] | ~inside[i])) if edge[i].any() else np.full(ids.shape[1:], np.inf)
        return np.clip(away / max(reach, 1e-6), least, 1.0).astype(np.float32) * inside[i]

    return np.stack(by_view(one, len(ids)))
