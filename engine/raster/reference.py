# SPDX-License-Identifier: Apache-2.0
"""The slow, obvious rasterizer that the others are tested against: float64, pure torch, no clipping, no snapping.

Every pixel's ray is intersected with every triangle in homogeneous coordinates (Olano and Greer, "Triangle scan
conversion using 2D homogeneous coordinates", 1997), so a triangle that reaches behind the camera is no special case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

DEPTH_STEPS = 2**32 - 256  # equal depths are those that agree to this share of the near..far range


@dataclass(frozen=True)
class ReferenceRasterizer:
    """See `engine.raster.Rasterizer`. A pixel centre exactly on an edge counts as inside."""

    name: str = "reference"

    def triangle_ids(self, clip: np.ndarray, triangles: np.ndarray, height: int, width: int) -> np.ndarray:
        clip, triangles = torch.as_tensor(clip, dtype=torch.float64), torch.as_tensor(triangles).long()
        views = [one_view(vertices, triangles, height, width) for vertices in clip]
        return torch.stack(views).numpy() if views else np.empty((0, height, width), np.int32)


def one_view(vertices: torch.Tensor, triangles: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Ids i32[H,W] of clip-space vertices f64[V,4]."""
    x = (2 * torch.arange(width, dtype=torch.float64) + 1) / width - 1
    y = 1 - (2 * torch.arange(height, dtype=torch.float64) + 1) / height
    nearest = torch.full((height, width), DEPTH_STEPS + 1, dtype=torch.int64)
    ids = torch.full((height, width), -1, dtype=torch.int32)
    for number, corners in enumerate(vertices[triangles]):  # f64[3,4], lowest number first
        depth = depths(corners, x[None, :], y[:, None])
        closer = depth < nearest
        nearest = torch.where(closer, depth, nearest)
        ids = torch.where(closer, number, ids)
    return ids


def depths(corners: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Depth i64[H,W] in 0..DEPTH_STEPS of one triangle f64[3,4] at the pixel centres; above that where it is not seen."""
    point = corners[:, [0, 1, 3]]
    edges = torch.linalg.cross(point[[1, 2, 0]], point[[2, 0, 1]])
    areas = edges[:, 0, None, None] * x + edges[:, 1, None, None] * y + edges[:, 2, None, None]
    weights = areas / areas.sum(0)  # barycentrics on the triangle, NaN if it is seen edge-on
    z, w = torch.einsum("khw,kc->chw", weights, corners[:, 2:])
    depth = z / w * 0.5 + 0.5
    seen = (weights >= 0).all(0) & (w > 0) & (depth >= 0) & (depth <= 1)
    return torch.where(seen, (depth * DEPTH_STEPS).long(), DEPTH_STEPS + 2)
