# SPDX-License-Identifier: Apache-2.0
"""Screen-space arithmetic shared by every map between texels and pixels.

`screen` arrays hold, per view and vertex, homogeneous clip `x, y, w` and the positive view distance `d`
(so orthographic cameras, whose `w` is 1, are tested by the same formulas). Nothing divides by a vertex's
`w`, so triangles that reach behind the camera need no special case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from blender_addon.jobs.folder import Camera
from engine.cameras import clip_positions, stack, toward_eye
from engine.raster import Rasterizer
from engine.raster.jit import plain, spread


@dataclass(frozen=True)
class Screen:
    """One mesh seen by `N` cameras, before any image size is chosen."""

    vertices: np.ndarray   # f64[N,V,4] clip x, y, w and view distance d of every vertex
    matrices: np.ndarray   # f64[N,4,4] world (homogeneous) -> x, y, w, d
    toward: np.ndarray     # f64[N,4] eye position and 1, or the unit direction to an orthographic eye and 0
    triangles: np.ndarray  # i32[F,3]
    clip: np.ndarray       # f64[N,V,4] OpenGL clip positions, what rasterizers take

    @property
    def views(self) -> int:
        return len(self.matrices)

    def only(self, views: Sequence[int]) -> Screen:
        """Some of the cameras, in the order given."""
        some = list(views)
        return replace(self, vertices=self.vertices[some], matrices=self.matrices[some], toward=self.toward[some],
                       clip=self.clip[some])


def look(positions: np.ndarray, triangles: np.ndarray, cameras: Sequence[Camera]) -> Screen:
    """Project `positions` f32[V,3] (world units) by every camera."""
    view, projection = stack(cameras)
    clip = clip_positions(positions, cameras)
    matrices = projection @ view
    matrices[:, 2], matrices[:, 3] = matrices[:, 3], -view[:, 2]
    vertices = np.empty_like(clip)
    vertices[..., :2], vertices[..., 2] = clip[..., :2], clip[..., 3]
    vertices[..., 3] = (positions @ matrices[:, 3, :3].T + matrices[:, 3, 3]).T
    return Screen(vertices, matrices, plain(toward_eye(cameras), np.float64), plain(triangles, np.int32), clip)


def by_view(work: Callable[[int], object], views: int) -> list:
    """`[work(0), work(1), ...]`, shared among the threads."""
    results = [None] * views

    def worker(numbers):
        for i in numbers:
            results[i] = work(i)

    spread(views, worker)
    return results


def by_groups(screen: Screen, rasterizer: Rasterizer, side: int) -> Iterator[tuple[range, np.ndarray]]:
    """Rasterize at `side`^2 pixels a few views at a time, so that supersampling stays within 128 MB."""
    step = max(1, 2**25 // (side * side))
    for first in range(0, screen.views, step):
        group = range(first, min(first + step, screen.views))
        yield group, rasterizer.triangle_ids(screen.clip[first : group.stop], screen.triangles, side, side)


def uv_per_pixel(screen: Screen, ids: np.ndarray, corners: np.ndarray) -> float:
    """Median UV area behind a pixel of `ids` i32[N,H,W] that shows the mesh; 0 if none does."""
    view, row, column = np.nonzero(ids >= 0)
    triangle = ids[view, row, column]
    a, b, c = (screen.vertices[view, screen.triangles[triangle, k]] for k in range(3))
    extent = np.abs((a[:, :3] * np.cross(b[:, :3], c[:, :3])).sum(1)) * ids.shape[1] * ids.shape[2] / 4
    area = uv_areas(corners[triangle])
    w = (a[:, 2] + b[:, 2] + c[:, 2]) / 3
    good = (extent > 0) & (area > 0) & (w > 0)
    return float(np.median(area[good] * w[good] ** 3 / extent[good])) if good.any() else 0.0


def uv_areas(corners: np.ndarray) -> np.ndarray:
    """Twice the UV area f64[F] of triangles f32[F,3,2]: per unit of barycentric area."""
    edge = (corners[:, 1:] - corners[:, :1]).astype(np.float64)
    return np.abs(edge[:, 0, 0] * edge[:, 1, 1] - edge[:, 0, 1] * edge[:, 1, 0])
