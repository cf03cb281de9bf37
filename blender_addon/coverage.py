# SPDX-License-Identifier: GPL-3.0-or-later
"""How well the cameras of a rig see a surface, estimated from points on it, and shown over it without touching it.

Points are spread evenly over the surface; per camera the nearest of them in each cell of a coarse grid hides what lies
clearly behind it. That takes a second for a million triangles where rays would take minutes. The engine's own figure,
counted in texels, comes with the result.
"""

from dataclasses import dataclass

import numpy as np

from .jobs.arrays import MeshArrays
from .jobs.folder import Camera

SAMPLES = 300_000
SIDE = 128  # cells of the grid: so many that a surface which fills half of a view has some 18 points in each
STEEPEST = 75.0  # degrees between normal and view beyond which the engine lets no view count
WELL = 45.0
_MARGIN = 1.5  # cells that a point may lie behind the nearest one, besides what its slope explains


@dataclass(frozen=True)
class Coverage:
    """best: f32[F], cosine of the best view of each triangle, 0 where none sees it. seen, well: shares of the area."""

    best: np.ndarray
    seen: float
    well: float

    @property
    def words(self) -> str:
        """For the panel and the report."""
        missing = "" if self.seen > 0.9995 else f", {1 - self.seen:.1%} by none"
        return f"{self.seen:.1%} of the surface is seen{missing}; {self.well:.0%} within {WELL:.0f}°."


def measure(mesh: MeshArrays, cameras: tuple[Camera, ...], samples: int = SAMPLES, seed: int = 0) -> Coverage:
    """What `cameras` see of `mesh`. Triangles without area count nothing."""
    corners = mesh.positions[mesh.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.sqrt(np.einsum("ij,ij->i", normal, normal))
    area = np.cumsum(length, dtype=np.float64)
    if not area[-1] > 0:
        return Coverage(np.zeros(len(corners), np.float32), 0.0, 0.0)
    normal /= np.maximum(length, np.float32(1e-30))[:, None]
    random = np.random.default_rng(seed)
    face = np.searchsorted(area, np.sort(random.random(samples)) * area[-1]).clip(0, len(corners) - 1)
    u, v = random.random((2, samples), np.float32)[:, :, None]
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = corners[face].transpose(1, 0, 2)
    spread = a + u * (b - a) + v * (c - a)
    points, facing = np.concatenate([spread, corners.mean(axis=1)]), np.concatenate([normal[face], normal])
    best = np.zeros(len(points), np.float32)
    for camera in cameras:
        np.maximum(best, _cosines(points, facing, samples, camera), out=best)
    owner = np.concatenate([face, np.arange(len(corners))])
    mean = np.bincount(owner, best, minlength=len(corners)) / np.bincount(owner, minlength=len(corners))
    of_samples = best[:samples]
    return Coverage(mean.astype(np.float32), float((of_samples > 0).mean()),
                    float((of_samples >= np.cos(np.radians(WELL))).mean()))  # fmt: skip


def _cosines(points: np.ndarray, normals: np.ndarray, occluders: int, camera: Camera) -> np.ndarray:
    """f32[P] in 0..1: cosine between normal and direction to the camera; 0 where it is too steep, hidden or outside.

    The first `occluders` points hide others.
    """
    view, projection = camera.view.astype(np.float32), camera.projection.astype(np.float32)
    eye = points @ view[:3, :3].T
    eye += view[:3, 3]
    depth = -eye[:, 2]
    if flat := camera.projection[3, 3] == 1:
        cosine = normals @ view[2, :3]
    else:
        cosine = -np.einsum("ij,ij->i", normals @ view[:3, :3].T, eye)
        cosine /= np.maximum(np.sqrt(np.einsum("ij,ij->i", eye, eye)), np.float32(1e-30))
    scale = np.float32(1) if flat else np.maximum(depth, np.float32(1e-30))
    x = (projection[0, 0] * eye[:, 0] - projection[0, 2] * depth) / scale
    y = (projection[1, 1] * eye[:, 1] - projection[1, 2] * depth) / scale
    inside = (np.abs(x) < 1) & (np.abs(y) < 1) & (depth > 0)
    cell = ((y.clip(-1, 1) + 1) * (SIDE / 2)).astype(np.int32).clip(0, SIDE - 1) * SIDE
    cell += ((x.clip(-1, 1) + 1) * (SIDE / 2)).astype(np.int32).clip(0, SIDE - 1)
    order = np.flatnonzero(inside[:occluders])
    order = order[np.argsort(-depth[order])]
    nearest = np.full(SIDE * SIDE, np.inf, np.float32)
    nearest[cell[order]] = depth[order]  # the last written, the nearest, stays
    rows = np.flatnonzero(inside & (cosine >= np.cos(np.radians(STEEPEST))))
    width = 2 / SIDE * (scale if flat else scale[rows]) / projection[0, 0]
    slope = np.sqrt(np.maximum(1 / cosine[rows] ** 2 - 1, 0))
    rows = rows[depth[rows] <= nearest[cell[rows]] + width * (_MARGIN + 1.5 * slope)]
    seen = np.zeros(len(points), np.float32)
    seen[rows] = np.minimum(cosine[rows], 1)
    return seen


def colours(best: np.ndarray) -> np.ndarray:
    """f32[F,4]: red where no view sees a triangle, orange to green the straighter the best one looks at it."""
    t = ((best - np.cos(np.radians(STEEPEST))) / (1 - np.cos(np.radians(STEEPEST)))).clip(0, 1)[:, None]
    ramp = np.array([[0.95, 0.45, 0.05], [0.85, 0.85, 0.1], [0.1, 0.7, 0.2]])
    low = np.where(t < 0.5, ramp[0] + 2 * t * (ramp[1] - ramp[0]), ramp[1] + (2 * t - 1) * (ramp[2] - ramp[1]))
    rgb = np.where((best > 0)[:, None], low, np.array([0.8, 0.0, 0.15]))
    return np.concatenate([rgb, np.full((len(best), 1), 0.75)], 1).astype(np.float32)
