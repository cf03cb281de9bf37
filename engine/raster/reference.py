# SPDX-License-Identifier: Apache-2.0
"""The slow, obvious rasterizer that the others are tested against: float64, pure torch, no clipping, no snapping.

Every pixel's ray meets every triangle in homogeneous coordinates (Olano and Greer, "Triangle scan conversion using
2D homogeneous coordinates", 1997), so a triangle that reaches behind the camera is no special case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

DEPTH_STEPS = 2**32 - 256  # equal depths are those that agree to this share of the near..far range
NOTHING = 2**63 - 1
FLAT = 1e-13  # a triangle whose corners are this close to a line through the eye, or to a line, is not seen
TOGETHER = 2**20  # pixels times triangles


@dataclass(frozen=True)
class ReferenceRasterizer:
    """See `engine.raster.Rasterizer`. A pixel centre exactly on an edge counts as inside."""

    name: str = "reference"

    def triangle_ids(self, clip: np.ndarray, triangles: np.ndarray, height: int, width: int) -> np.ndarray:
        x = (2 * torch.arange(width, dtype=torch.float64) + 1) / width - 1
        y = 1 - (2 * torch.arange(height, dtype=torch.float64) + 1) / height
        y, x = torch.meshgrid(y, x, indexing="ij")
        views = [front(vertices, triangles, x.reshape(-1), y.reshape(-1)) for vertices in clip]
        return np.array(views, np.int32).reshape(len(clip), height, width)


def front(vertices: np.ndarray, triangles: np.ndarray, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """Ids i32[P] of the front triangle at image points x, y f64[P] in -1..1, of clip-space vertices f64[V,4]."""
    corners = torch.as_tensor(vertices, dtype=torch.float64)[torch.as_tensor(triangles).long()]  # [F,3,4]
    point = torch.stack([x, y, torch.ones_like(x)])
    nearest = torch.full_like(x, NOTHING, dtype=torch.int64)
    step = max(1, TOGETHER // max(1, len(x)))
    for first in range(0, len(corners), step):
        depth = depths(corners[first : first + step], point)
        number = torch.arange(first, first + len(depth))[:, None]
        keys = torch.where(depth >= 0, (depth << 31) | number, NOTHING)
        nearest = torch.minimum(nearest, keys.amin(0))
    return torch.where(nearest < NOTHING, nearest & (2**31 - 1), -1).to(torch.int32).numpy()


def depths(corners: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """Depths i64[F,P] in 0..DEPTH_STEPS of triangles f64[F,3,4] at points f64[3,P]; -1 where a triangle is not seen."""
    flat = corners[:, :, [0, 1, 3]]
    edges = torch.linalg.cross(flat[:, [1, 2, 0]], flat[:, [2, 0, 1]])
    volume = (flat[:, 0] * edges[:, 0]).sum(1)
    solid = volume.abs() > FLAT * flat.norm(dim=2).prod(1)
    areas = edges @ point  # f64[F,3,P]
    weights = areas / areas.sum(1, keepdim=True)  # barycentrics on the triangle; NaN if it is seen edge-on
    z, w = (corners[:, :, k, None].mul(weights).sum(1) for k in (2, 3))
    depth = z / w * 0.5 + 0.5
    seen = solid[:, None] & (weights >= 0).all(1) & (w > 0) & (depth >= 0) & (depth <= 1)
    return torch.where(seen, (depth * DEPTH_STEPS).nan_to_num(0).long(), -1)
