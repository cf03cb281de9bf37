# SPDX-License-Identifier: Apache-2.0
"""Which view sees which texel: the 2 x 2 plane-extrapolated test (research/rasterizers.md 4).

Against exact ray casting, at cos > 0.2 and 2048 pixels, it loses at most 0.05 % of the visible texels and lets at
most 1 % through that are hidden; duplicated surfaces lose none. A depth map with a bias loses 10 to 20 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blender_addon.jobs.folder import Camera
from engine.cameras import clip_positions, stack, toward_eye
from engine.mesh import Mesh

from . import Rasterizer
from .jit import plain, slices, spread
from .resolve import see_texels
from .texels import TexelMap

TOLERANCE = 5e-4  # share of the distance by which a texel may lie behind the surface in front of it
STEEPEST = 0.02  # |cosine| below which a surface is seen edge-on
TEXELS = 16384  # per piece of work
PIXELS = 2**25  # drawn at once


@dataclass(frozen=True)
class Sight:
    """Some cameras' images of which triangle is in front, ready to be asked about texels."""

    ids: np.ndarray  # i32[N,R,R]
    clip: np.ndarray  # f64[N,V,4]
    distance: np.ndarray  # f64[N,V] view distance of the vertices
    matrices: np.ndarray  # f64[N,4,4] world to clip
    away: np.ndarray  # f64[N,4] view distance of a point
    toward: np.ndarray  # f64[N,4] see `toward_eye`
    triangles: np.ndarray  # i32[F,3]

    def visible(self, texels: TexelMap, tolerance: float = TOLERANCE) -> np.ndarray:
        """bool[N,M]: whether each view sees each texel, inside its frame and with nothing in front."""
        position, normal = plain(texels.position, np.float32), plain(texels.normal, np.float32)
        owner = plain(texels.triangle, np.int32)
        seen = np.empty((len(self.ids), len(owner)), np.bool_)
        pieces = slices(len(owner), TEXELS)

        def worker(numbers):
            for number in numbers:
                n, piece = divmod(number, len(pieces))
                rows = pieces[piece]
                see_texels(rows.start, rows.stop, position, normal, owner, self.matrices[n], self.away[n],
                           self.toward[n], self.ids[n], self.clip[n], self.distance[n], self.triangles, tolerance,
                           STEEPEST, seen[n])  # fmt: skip

        spread(len(self.ids) * len(pieces), worker)
        return seen


def sight(mesh: Mesh, cameras: Sequence[Camera], rasterizer: Rasterizer, resolution: int) -> Sight:
    """Draw the mesh for the test, in images of side `resolution`: 2048 or twice the view's size, whichever is more."""
    view, projection = stack(cameras)
    away, triangles = plain(-view[:, 2], np.float64), plain(mesh.triangles, np.int32)
    clip = clip_positions(mesh.positions, cameras)
    ids = plain(rasterizer.triangle_ids(clip, triangles, resolution, resolution), np.int32)
    distance = plain((mesh.positions @ away[:, :3].T + away[:, 3]).T, np.float64)
    return Sight(ids, clip, distance, plain(projection @ view, np.float64), away, plain(toward_eye(cameras), np.float64),
                 triangles)


def visible(
    texels: TexelMap,
    mesh: Mesh,
    cameras: Sequence[Camera],
    rasterizer: Rasterizer,
    resolution: int,
    tolerance: float = TOLERANCE,
) -> np.ndarray:
    """bool[N,M]: whether each view sees each texel, inside its frame and with nothing in front.

    `resolution`: see `sight`. A few views at a time. Faces count from both sides, as Blender shows them.
    """
    together = max(1, PIXELS // (resolution * resolution))
    groups = [cameras[first : first + together] for first in range(0, len(cameras), together)]
    parts = [sight(mesh, group, rasterizer, resolution).visible(texels, tolerance) for group in groups]
    return np.concatenate(parts) if parts else np.zeros((0, len(texels.triangle)), bool)
