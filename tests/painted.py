# SPDX-License-Identifier: Apache-2.0
"""Meshes painted with a colour for each point in space, and views of them: what maps and bakes are tested against."""

from __future__ import annotations

import numpy as np
import torch

from blender_addon.jobs.arrays import MeshArrays
from blender_addon.jobs.folder import Camera
from blender_addon.jobs.rigs import look_at, perspective
from engine.mesh import Mesh, from_arrays
from engine.raster.gbuffer import GBuffer, render_gbuffer, resolve
from engine.raster.numba_backend import NumbaRasterizer
from engine.spaces.uv import UVTexture
from tests import shapes

RASTERIZER = NumbaRasterizer()


def mesh_of(shape: shapes.Shape) -> Mesh:
    return from_arrays(MeshArrays(*shape, None, None, None))


def colour_of(position: np.ndarray) -> np.ndarray:
    """A smooth colour for every point in space."""
    x, y, z = (position[..., k].astype(np.float64) for k in range(3))
    return 0.5 + 0.5 * np.stack([np.sin(2.5 * x + 0.3), np.sin(2.1 * y + 1), np.cos(2.3 * z)], -1)


def seen_by(space: UVTexture, mesh: Mesh, cameras) -> GBuffer:
    return resolve(space.ids, space.screen.clip, mesh, cameras)


def painted_views(buffer: GBuffer, background: float = 0.0) -> torch.Tensor:
    """Views [N,3,H,H] of the colour in space."""
    rgb = np.where(buffer.mask[..., None], colour_of(buffer.position), background)
    return torch.from_numpy(rgb).float().permute(0, 3, 1, 2).contiguous()


def whole(space: UVTexture) -> torch.Tensor:
    """Pixels bool[N,H,H] that the texture alone decides."""
    return (space.mask[:, 0] > 0.999) & torch.from_numpy(space.ids >= 0)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10(((a - b).double() ** 2).mean() + 1e-20))


def at(views: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    return views.permute(0, 2, 3, 1)[where]


def front(eye=(0, -5, 0), target=(0, 0, 0), projection=None) -> Camera:
    return Camera("one", look_at(np.array(eye, float), np.array(target, float)),
                  perspective(35, 0.5, 20) if projection is None else projection)


def flat(scale: float) -> np.ndarray:
    """An orthographic projection of half height `scale`, 0.5..20."""
    projection = np.diag([1 / scale, 1 / scale, -2 / 19.5, 1.0])
    projection[2, 3] = -20.5 / 19.5
    return projection


def two_quads() -> Mesh:
    """A wall one unit wide, and one of the same size a unit behind it."""
    wall = shapes.quad()
    return mesh_of(shapes.join(wall, wall._replace(positions=wall.positions + np.float32([0, 1, 0]))))


def rendered_views(
    mesh: Mesh, cameras, size: int, paint=colour_of, background: float = 0.0, samples: int = 3
) -> torch.Tensor:
    """Antialiased views [N,3,size,size] of a mesh painted with `paint(position)`."""
    buffer = render_gbuffer(RASTERIZER, mesh, cameras, size * samples, size * samples)
    rgb = np.where(buffer.mask[..., None], paint(buffer.position), background)
    small = rgb.reshape(len(rgb), size, samples, size, samples, 3).mean((2, 4))
    return torch.from_numpy(small).float().permute(0, 3, 1, 2).contiguous()
