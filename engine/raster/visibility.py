# SPDX-License-Identifier: Apache-2.0
"""Which view sees which texel: the 2 x 2 plane-extrapolated test (research/rasterizers.md 4).

Against exact ray casting, at cos > 0.2 and 2048 pixels, it loses at most 0.05 % of the visible texels and lets at
most 1 % through that are hidden; duplicated surfaces lose none. A depth map with a bias loses 10 to 20 %.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def visible(
    texels: TexelMap,
    mesh: Mesh,
    cameras: Sequence[Camera],
    rasterizer: Rasterizer,
    resolution: int,
    tolerance: float = TOLERANCE,
) -> np.ndarray:
    """bool[N,M]: whether each view sees each texel, inside its frame and with nothing in front.

    `resolution` is the side in pixels of the images drawn for the test: 2048 or twice the view's size, whichever is
    more. Faces count from both sides, as Blender shows them.
    """
    away, toward = plain(-stack(cameras)[0][:, 2], np.float64), plain(toward_eye(cameras), np.float64)
    view, projection = stack(cameras)
    matrices = plain(projection @ view, np.float64)
    triangles = plain(mesh.triangles, np.int32)
    position, normal = plain(texels.position, np.float32), plain(texels.normal, np.float32)
    owner = plain(texels.triangle, np.int32)
    seen = np.empty((len(cameras), len(owner)), np.bool_)
    pieces = slices(len(owner), TEXELS)
    together = max(1, PIXELS // (resolution * resolution))
    for first in range(0, len(cameras), together):
        group = range(first, min(first + together, len(cameras)))
        clip = clip_positions(mesh.positions, cameras[first : group.stop])
        ids = plain(rasterizer.triangle_ids(clip, triangles, resolution, resolution), np.int32)
        distance = mesh.positions @ away[first : group.stop, :3].T + away[first : group.stop, 3]
        distance = plain(distance.T, np.float64)

        def worker(numbers, first=first, ids=ids, clip=clip, distance=distance):
            for number in numbers:
                n, piece = divmod(number, len(pieces))
                rows = pieces[piece]
                see_texels(rows.start, rows.stop, position, normal, owner, matrices[first + n], away[first + n],
                           toward[first + n], ids[n], clip[n], distance[n], triangles, tolerance, STEEPEST,
                           seen[first + n])  # fmt: skip

        spread(len(group) * len(pieces), worker)
    return seen
