# SPDX-License-Identifier: Apache-2.0
"""The depth image that a depth ControlNet expects."""

from __future__ import annotations

import numpy as np

from .gbuffer import GBuffer


def control_depth(gbuffer: GBuffer, farthest: float = 0.1) -> np.ndarray:
    """Inverse depth f32[N,H,W] per view: 1 at the nearest pixel, `farthest` at the farthest, 0 on the background.

    Depth ControlNets were trained on such images (MiDaS: relative inverse depth). A view whose pixels are all equally
    far is 1 on the mesh.
    """
    mask = gbuffer.mask
    inverse = np.where(mask, 1 / np.maximum(gbuffer.depth, np.float32(1e-30)), 0)
    near = inverse.max((1, 2), keepdims=True)
    far = np.where(mask, inverse, np.inf).min((1, 2), keepdims=True)
    with np.errstate(invalid="ignore"):  # an empty view: 0 - inf
        share = np.where(near > far, (inverse - far) / np.maximum(near - far, 1e-30), 1)
    return np.where(mask, farthest + (1 - farthest) * share, 0).astype(np.float32)
