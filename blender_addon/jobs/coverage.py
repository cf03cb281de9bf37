# SPDX-License-Identifier: Apache-2.0
"""How well the cameras of a rig see a surface, estimated from points on it, and which cameras more would see most of the
rest. Standard library and numpy only.

Points are spread evenly over the surface; per camera the nearest of them in each cell of a coarse grid hides what lies
clearly behind it. That takes a second for a million triangles where rays would take minutes. The engine's own figure,
counted in texels, comes with the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .arrays import MeshArrays
from .records import Camera
from .rigs import angles_of, rig_at, views_of

SAMPLES = 300_000
SIDE = 128  # cells of the grid: so many that a surface which fills half of a view has some 18 points in each
STEEPEST = 75.0  # degrees between normal and view beyond which the engine lets no view count
WELL = 45.0
GAIN = 0.01  # of the surface: a camera that is worth less is not added
FEWER = 24_000  # points for choosing among candidates, on a grid of as many per cell
CANDIDATES = 48
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


@dataclass(frozen=True)
class _Points:
    """`P` points spread evenly over a surface; the first `occluders` hide others, the rest are the triangles' middles."""

    place: np.ndarray   # f32[P,3]
    normal: np.ndarray  # f32[P,3]
    face: np.ndarray    # i64[P] triangle
    occluders: int


def _spread(mesh: MeshArrays, samples: int, seed: int) -> _Points | None:
    """Samples of the surface by area, and the middle of each triangle; None for a mesh without area."""
    corners = mesh.positions[mesh.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.sqrt(np.einsum("ij,ij->i", normal, normal))
    area = np.cumsum(length, dtype=np.float64)
    if not (len(area) and area[-1] > 0):
        return None
    normal /= np.maximum(length, np.float32(1e-30))[:, None]
    random = np.random.default_rng(seed)
    face = np.searchsorted(area, np.sort(random.random(samples)) * area[-1]).clip(0, len(corners) - 1)
    u, v = random.random((2, samples), np.float32)[:, :, None]
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = corners[face].transpose(1, 0, 2)
    places = np.concatenate([a + u * (b - a) + v * (c - a), corners.mean(axis=1)])
    return _Points(places, np.concatenate([normal[face], normal]), np.concatenate([face, np.arange(len(corners))]), samples)


def measure(mesh: MeshArrays, cameras: Sequence[Camera], samples: int = SAMPLES, seed: int = 0) -> Coverage:
    """What `cameras` see of `mesh`. Triangles without area count nothing."""
    points, faces = _spread(mesh, samples, seed), len(mesh.triangles)
    if points is None:
        return Coverage(np.zeros(faces, np.float32), 0.0, 0.0)
    best = np.zeros(len(points.place), np.float32)
    for camera in cameras:
        np.maximum(best, _cosines(points, camera), out=best)
    mean = np.bincount(points.face, best, minlength=faces) / np.bincount(points.face, minlength=faces)
    of_samples = best[:samples]
    return Coverage(mean.astype(np.float32), float((of_samples > 0).mean()),
                    float((of_samples >= np.cos(np.radians(WELL))).mean()))  # fmt: skip


def cameras_for(settings: Mapping[str, Any], mesh: MeshArrays) -> tuple[Camera, ...]:
    """The cameras of a job with these settings: its rig's, and the extra ones."""
    return with_more(views_of(settings, mesh.positions), mesh, settings["extra_views"])


def with_more(cameras: Sequence[Camera], mesh: MeshArrays, most: int, seed: int = 0) -> tuple[Camera, ...]:
    """The cameras and up to `most` more, from wherever around the object they see most of what is seen badly or not at all.

    Greedy, as in view planning (Pito 1999; Text2Tex chooses its next view so): of `CANDIDATES` directions all around, below
    included, the one with the largest gain comes next, until a camera would gain less than `GAIN` of the surface. A point
    counts half when it is seen at all, and the rest as the best view comes from 75 to within 45 degrees of its normal.
    """
    points = _spread(mesh, FEWER, seed) if most > 0 else None
    if points is None:
        return tuple(cameras)
    points = replace(points, place=points.place[:FEWER], normal=points.normal[:FEWER], face=points.face[:FEWER])
    side = round(SIDE * (FEWER / SAMPLES) ** 0.5)
    worth = np.zeros(FEWER, np.float32)
    for camera in cameras:
        np.maximum(worth, _worth(_cosines(points, camera, side)), out=worth)
    more = rig_at(angles_of("sphere", CANDIDATES), mesh.positions)
    values = np.stack([_worth(_cosines(points, camera, side)) for camera in more])
    found = list(cameras)
    for _ in range(most):
        gains = np.maximum(values - worth, 0).mean(1)
        best = int(np.argmax(gains))
        if gains[best] < GAIN:
            break
        worth = np.maximum(worth, values[best])
        found.append(replace(more[best], name=_new_name(more[best].name.partition(" #")[0], {one.name for one in found})))
    return tuple(found)


def _worth(cosine: np.ndarray) -> np.ndarray:
    low, high = np.cos(np.radians([STEEPEST, WELL]))
    return np.where(cosine > 0, 0.5 + 0.5 * ((cosine - low) / (high - low)).clip(0, 1), 0).astype(np.float32)


def _new_name(name: str, taken: set[str]) -> str:
    number = 2
    found = name
    while found in taken:
        found, number = f"{name} #{number}", number + 1
    return found


def _cosines(spread: _Points, camera: Camera, side: int = SIDE) -> np.ndarray:
    """f32[P] in 0..1: cosine between normal and direction to the camera; 0 where it is too steep, hidden or outside."""
    points, normals, occluders = spread.place, spread.normal, spread.occluders
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
    cell = ((y.clip(-1, 1) + 1) * (side / 2)).astype(np.int32).clip(0, side - 1) * side
    cell += ((x.clip(-1, 1) + 1) * (side / 2)).astype(np.int32).clip(0, side - 1)
    order = np.flatnonzero(inside[:occluders])
    order = order[np.argsort(-depth[order])]
    nearest = np.full(side * side, np.inf, np.float32)
    nearest[cell[order]] = depth[order]  # the last written, the nearest, stays
    rows = np.flatnonzero(inside & (cosine >= np.cos(np.radians(STEEPEST))))
    width = 2 / side * (scale if flat else scale[rows]) / projection[0, 0]
    slope = np.sqrt(np.maximum(1 / cosine[rows] ** 2 - 1, 0))
    rows = rows[depth[rows] <= nearest[cell[rows]] + width * (_MARGIN + 1.5 * slope)]
    seen = np.zeros(len(points), np.float32)
    seen[rows] = np.minimum(cosine[rows], 1)
    return seen
