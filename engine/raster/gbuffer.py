# SPDX-License-Identifier: Apache-2.0
"""What every pixel of every view sees. The same code for every back end, from its triangle ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blender_addon.jobs.folder import Camera
from engine.cameras import clip_positions, stack, toward_eye
from engine.mesh import Mesh

from . import Rasterizer
from .jit import plain, slices, spread
from .resolve import resolve_rows

ROWS = 64  # per piece of work


@dataclass(frozen=True)
class GBuffer:
    """Images of N views, H by W, row 0 on top. Everything is 0 where no triangle is seen."""

    triangle: np.ndarray  # i32[N,H,W] number of the triangle, -1 for none
    barycentrics: np.ndarray  # f32[N,H,W,3] perspective-correct weights of its corners, in 0..1, sum 1
    depth: np.ndarray  # f32[N,H,W] view distance along -Z, world units, positive
    position: np.ndarray  # f32[N,H,W,3] world
    normal: np.ndarray  # f32[N,H,W,3] the triangle's own unit normal in the world, on the side it was modelled
    uv: np.ndarray  # f32[N,H,W,2]
    cosine: np.ndarray  # f32[N,H,W] |cos| between normal and ray, 0..1: a face seen from behind counts as seen
    footprint: np.ndarray  # f32[N,H,W] share of the UV square that one pixel covers, 0..1

    @property
    def mask(self) -> np.ndarray:
        """bool[N,H,W]: where a triangle is seen."""
        return self.triangle >= 0


def render_gbuffer(rasterizer: Rasterizer, mesh: Mesh, cameras: Sequence[Camera], height: int, width: int) -> GBuffer:
    """Draw the mesh in every camera. Costs 56 bytes per pixel and view."""
    clip = clip_positions(mesh.positions, cameras)
    return resolve(rasterizer.triangle_ids(clip, mesh.triangles, height, width), clip, mesh, cameras)


def resolve(ids: np.ndarray, clip: np.ndarray, mesh: Mesh, cameras: Sequence[Camera]) -> GBuffer:
    """The G-buffer of triangle ids i32[N,H,W] that were drawn from clip positions f64[N,V,4]."""
    ids, clip = plain(ids, np.int32), plain(clip, np.float64)
    geometry = (
        plain(mesh.positions, np.float32), plain(mesh.triangles, np.int32),
        plain(mesh.uvs, np.float32), plain(mesh.triangle_uvs, np.int32),
    )  # fmt: skip
    away, toward = plain(-stack(cameras)[0][:, 2], np.float64), plain(toward_eye(cameras), np.float64)
    images = [np.zeros((*ids.shape, *extra), np.float32) for extra in ((3,), (), (3,), (3,), (2,), (), ())]
    pieces = [(view, rows) for view in range(len(ids)) for rows in slices(ids.shape[1], ROWS)]

    def worker(numbers):
        for number in numbers:
            view, rows = pieces[number]
            outputs = [image[view] for image in images]
            resolve_rows(rows.start, rows.stop, ids[view], clip[view], *geometry, away[view], toward[view], *outputs)

    spread(len(pieces), worker)
    return GBuffer(ids, *images)
