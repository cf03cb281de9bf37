# SPDX-License-Identifier: Apache-2.0
"""The rules by which rasterizers are compared, and slow truths to compare them with.

Agreement: a back end's answer at a pixel is one that the float64 reference gives at the pixel's centre, or at one of
eight points `slack` of a pixel around it. So back ends differ at edge pixels only, in coverage and in depth order.
"""

from __future__ import annotations

import numpy as np
import torch

from blender_addon.jobs.arrays import MeshArrays
from blender_addon.jobs.folder import Camera
from blender_addon.jobs.rigs import look_at, perspective
from engine.mesh import Mesh, from_arrays
from engine.raster.reference import front
from tests.shapes import Shape

SLACK = 1 / 2048  # vertices snap to 1/4096 pixel


def mesh_of(shape: Shape) -> Mesh:
    return from_arrays(MeshArrays(*shape))


def camera(eye, target=(0.0, 0.0, 0.0), fov=40.0, near=0.1, far=100.0, name="test") -> Camera:
    return Camera(name, look_at(np.asarray(eye, float), np.asarray(target, float)), perspective(fov, near, far))


def orthographic(eye, target=(0.0, 0.0, 0.0), half=1.5, near=0.1, far=100.0) -> Camera:
    projection = np.diag([1 / half, 1 / half, -2 / (far - near), 1.0])
    projection[2, 3] = -(far + near) / (far - near)
    return Camera("orthographic", look_at(np.asarray(eye, float), np.asarray(target, float)), projection)


def disagreements(ids: np.ndarray, clip: np.ndarray, triangles: np.ndarray, slack: float = SLACK) -> np.ndarray:
    """Pixels [K,3] (view, row, column) of ids i32[N,H,W] that the rule does not allow."""
    height, width = ids.shape[1:]
    wrong = []
    rows, columns = (grid.reshape(-1) for grid in np.mgrid[:height, :width])
    for view, vertices in enumerate(clip):
        doubtful = np.flatnonzero(at_points(vertices, triangles, rows, columns, ids.shape) != ids[view].reshape(-1))
        for dy, dx in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
            r, c = rows[doubtful], columns[doubtful]
            there = at_points(vertices, triangles, r + dy * slack, c + dx * slack, ids.shape)
            doubtful = doubtful[there != ids[view, r, c]]
        wrong += [(view, rows[k], columns[k]) for k in doubtful]
    return np.array(wrong, int).reshape(-1, 3)


def at_points(vertices, triangles, rows, columns, shape) -> np.ndarray:
    x = torch.as_tensor((2 * columns + 1) / shape[2] - 1, dtype=torch.float64)
    y = torch.as_tensor(1 - (2 * rows + 1) / shape[1], dtype=torch.float64)
    return front(vertices, triangles, x, y)


def hits(origins: np.ndarray, directions: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Moeller and Trumbore's ray-triangle test: distance f64[K,F] in units of the direction, inf where missed.

    origins and directions f64[K,3], corners f64[F,3,3]. Independent of everything in engine.raster.
    """
    a, b, c = corners.transpose(1, 0, 2)
    p = np.cross(directions[:, None], (c - a)[None])
    determinant = ((b - a) * p).sum(2)
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = origins[:, None] - a
        u = (offset * p).sum(2) / determinant
        q = np.cross(offset, (b - a)[None])
        v = (directions[:, None] * q).sum(2) / determinant
        t = ((c - a) * q).sum(2) / determinant
        inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (determinant != 0)
    return np.where(inside, t, np.inf)
