# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PLR0913  (kernels: arrays in, arrays out)
"""Borders between views levelled, where they could not fade into each other: one view's sight ends where another's begins.

Texels of one chart that lie side by side and are another view's each show a step beyond what the colours beside them change
by. Each side takes half of it, and inside a view's own texels the correction fades out, as at the seams between charts
(`seams`). Along a border where two views did fade into each other there is no such step, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.mesh import Mesh
from engine.raster.jit import kernel
from engine.spaces.uv.charts import chart_ids

from .seams import REACH, correct
from .sheet import Sheet

FEWEST = 4.0  # texels
ALONG = 8.0   # squared texels, see `seams.ALONG`: wider than there, since a step between two texels is noisy
FAINT = np.float32(0.5 / 255)  # a smaller step is left


@dataclass(frozen=True)
class Borders:
    """`K` places between two texels."""

    place: np.ndarray  # f64[K,2] row and column
    chart: np.ndarray  # i32[K]
    views: np.ndarray  # i16[K,2] owners of the upper or left texel, and of the other
    step: np.ndarray   # f32[K,3] from the first side to the second


def level_borders(mesh: Mesh, sheets: Sequence[Sheet]) -> None:
    """Take the steps between views off the sheets' images, in place."""
    charts = chart_ids(mesh.triangle_uvs)
    for sheet in sheets:
        grain = max(sheet.uv.size // 1024, 1)  # a large texture shows the same borders on more texels
        found = find_borders(sheet, charts, grain)
        reach = max(REACH * sheet.uv.size / 1024, FEWEST)
        for side, sign in ((0, np.float32(0.5)), (1, np.float32(-0.5))):
            correct(sheet, charts, found.place, found.chart, sign * found.step, np.ones(len(found.step), np.float32), reach,
                    found.views[:, side], ALONG * grain**2)  # fmt: skip


def find_borders(sheet: Sheet, charts: np.ndarray, grain: int = 1) -> Borders:
    """Where the owner changes inside a chart, and by what step in colour.

    charts: i32[F] of the mesh's triangles. grain: one place in so many along a border is kept, as if by chance.
    """
    count = np.zeros(1, np.int64)
    nowhere = (np.zeros((0, 2)), np.zeros(0, np.int32), np.zeros((0, 2), np.int16), np.zeros((0, 3), np.float32))
    scan(sheet.uv.ids, charts, sheet.owner, sheet.image, grain, count, *nowhere)
    total = int(count[0])
    found = Borders(np.zeros((total, 2)), np.zeros(total, np.int32), np.zeros((total, 2), np.int16),
                    np.zeros((total, 3), np.float32))  # fmt: skip
    count[0] = 0
    scan(sheet.uv.ids, charts, sheet.owner, sheet.image, grain, count, found.place, found.chart, found.views, found.step)
    return found


@kernel
def scan(ids, charts, owner, image, grain, count, place, chart, views, step):
    """Count the places at borders; write them as far as there is room.

    The step is the difference of two texels, or that less the mean change beside them, whichever is smaller; none if the
    two have different signs, or where the colours change as much right beside: a picture may have an edge there.
    """
    size = len(ids)
    jump = np.empty(3, np.float32)
    for r in range(size):
        for c in range(size):
            if ids[r, c] < 0 or owner[r, c] < 0:
                continue
            chance = (r * 73856093 ^ c * 19349663) & 0xFFFFFFFF
            chance = ((chance ^ (chance >> 13)) * 1540483477) & 0xFFFFFFFF
            if (chance ^ (chance >> 15)) % grain:
                continue
            for down in range(2):
                r2, c2 = r + down, c + 1 - down
                if r2 >= size or c2 >= size or ids[r2, c2] < 0 or owner[r2, c2] < 0 or owner[r2, c2] == owner[r, c]:
                    continue
                if charts[ids[r2, c2]] != charts[ids[r, c]]:
                    continue
                r0, c0, r3, c3 = r - down, c - 1 + down, r2 + down, c2 + 1 - down
                before = r0 >= 0 and c0 >= 0 and ids[r0, c0] >= 0 and owner[r0, c0] == owner[r, c]
                after = r3 < size and c3 < size and ids[r3, c3] >= 0 and owner[r3, c3] == owner[r2, c2]
                largest, beside = FAINT, np.float32(0)
                for k in range(3):
                    plain = image[r2, c2, k] - image[r, c, k]
                    ahead = image[r, c, k] - image[r0, c0, k] if before else np.float32(0)
                    behind = image[r3, c3, k] - image[r2, c2, k] if after else np.float32(0)
                    rest = plain - (ahead + behind) / max(before + after, 1)
                    beside = max(beside, abs(ahead), abs(behind))
                    jump[k] = 0.0
                    if plain * rest > 0:
                        jump[k] = rest if abs(rest) < abs(plain) else plain
                    largest = max(largest, abs(jump[k]))
                if largest <= max(FAINT, beside):
                    jump[:] = 0
                n = count[0]
                count[0] += 1
                if n < len(chart):
                    place[n, 0], place[n, 1] = r + 0.5 * down, c + 0.5 * (1 - down)
                    chart[n] = charts[ids[r, c]]
                    views[n, 0], views[n, 1] = owner[r, c], owner[r2, c2]
                    for k in range(3):
                        step[n, k] = jump[k]
