# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PLR0913  (kernels: arrays in, arrays out)
"""Chart borders levelled: the two sides of a seam are one edge in space, so they must show one colour.

Along every seam the colours of both sides are read where the edge is; each side takes half the difference, and inside
a chart the correction fades out over `REACH` texels. Charts of several UDIM tiles are levelled together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.mesh import Mesh
from engine.raster.jit import kernel, slices, spread
from engine.spaces.uv.charts import chart_ids

from .sheet import Sheet

REACH = 12.0   # texels, of a texture of 1024; in proportion for others, at least
LEAST = 4.0    # texels
PER_TEXEL = 1.0  # places along a seam
WELD = 2**20   # steps along the object's longest side: vertices on the same step are one
ALONG = 2.0    # squared texels: steps are averaged over about twice its root along a seam, so that noise stays
ROWS = 64
ROUNDS = 2     # a correction that fades is not quite the difference where seams meet


@dataclass(frozen=True)
class Seams:
    """`K` places along the seams, each from both sides. UV in 0..1 of the mesh's own map."""

    uv: np.ndarray        # f32[K,2,2]
    triangle: np.ndarray  # i32[K,2]


def find_seams(mesh: Mesh, size: int) -> Seams:
    """Places along all edges that two triangles share in space and not in the UV map, one per texel of a `size` texture.

    An edge of more than two triangles is a seam between each and the next.
    """
    low, extent = mesh.positions.min(0), max(float(np.ptp(mesh.positions, axis=0).max()), 1e-30)
    grid = np.rint((mesh.positions.astype(np.float64) - low) * (WELD / extent)).astype(np.int64)
    _, place = np.unique((grid[:, 0] << 42) | (grid[:, 1] << 21) | grid[:, 2], return_inverse=True)
    place = place.reshape(-1)[mesh.triangles]
    turn = np.array([1, 2, 0])
    a, b = place.reshape(-1), place[:, turn].reshape(-1)
    corners = mesh.uvs[mesh.triangle_uvs]
    uv_a, uv_b = corners.reshape(-1, 2), corners[:, turn].reshape(-1, 2)
    swap = (a > b)[:, None]
    low, high = np.minimum(a, b).astype(np.int64), np.maximum(a, b)
    ends = np.stack([np.where(swap, uv_b, uv_a), np.where(swap, uv_a, uv_b)], 1)
    key = low * (int(place.max(initial=0)) + 1) + high
    order = np.argsort(key, kind="stable")
    one, other = order[:-1], order[1:]
    apart = np.abs(ends[one] - ends[other]).max((1, 2)) * size > 0.05
    met = (key[one] == key[other]) & (low[one] != high[one]) & apart
    one, other = one[met], other[met]
    long = np.maximum(*(np.linalg.norm(ends[side][:, 1] - ends[side][:, 0], axis=1) for side in (one, other))) * size
    steps = np.clip(np.ceil(long * PER_TEXEL), 1, 4 * size).astype(np.int64)
    edge = np.repeat(np.arange(len(one)), steps)
    part = (np.arange(len(edge)) - np.repeat(np.cumsum(steps) - steps, steps) + 0.5) / np.maximum(steps[edge], 1)
    sides = [ends[side][edge, 0] * (1 - part[:, None]) + ends[side][edge, 1] * part[:, None] for side in (one, other)]
    return Seams(np.stack(sides, 1).astype(np.float32), (np.stack([one[edge], other[edge]], 1) // 3).astype(np.int32))


def level_seams(mesh: Mesh, sheets: Sequence[Sheet]) -> float:
    """Make both sides of every seam agree, in place. Returns the mean step (RGB distance) that there was.

    mesh: with the UVs of all tiles side by side, of which the sheets are windows. Sides on no sheet, or under another
    chart, stay out of it.
    """
    size = sheets[0].uv.size
    seams = find_seams(mesh, max(round(size * sheet.window.scale) for sheet in sheets))
    if not len(seams.uv):
        return 0.0
    charts = chart_ids(mesh.triangle_uvs)
    own, reach = charts[seams.triangle], max(REACH * size / 1024, LEAST)
    places = [located(seams, sheet) for sheet in sheets]
    first = 0.0
    for number in range(ROUNDS):
        colour = np.full((len(seams.uv), 2, 3), np.nan, np.float32)
        for (rows, inside), sheet in zip(places, sheets, strict=True):
            read(rows, inside, sheet.uv.ids, charts, own, sheet.image, colour)
        step = colour[:, 1] - colour[:, 0]
        good = np.isfinite(step).all(1)
        if not number and good.any():
            first = float(np.linalg.norm(step[good], axis=1).mean())
        for (rows, inside), sheet in zip(places, sheets, strict=True):
            for side, share in ((0, np.float32(0.5)), (1, np.float32(-0.5))):
                chosen = good & inside[:, side]
                correct(sheet.image, sheet.uv.ids, charts, rows[chosen, side], own[chosen, side], share * step[chosen], reach)
    return first


def located(seams: Seams, sheet: Sheet) -> tuple[np.ndarray, np.ndarray]:
    """Row and column f64[K,2,2] of the places in a sheet, and bool[K,2] whether they lie in it."""
    uv = sheet.window.local(seams.uv)
    inside = ((uv > -1e-6) & (uv < 1 + 1e-6)).all(2)
    return np.stack([(1 - uv[..., 1]) * sheet.uv.size - 0.5, uv[..., 0] * sheet.uv.size - 0.5], 2), inside


def read(places: np.ndarray, inside: np.ndarray, ids: np.ndarray, charts: np.ndarray, own: np.ndarray, image: np.ndarray,
         colour: np.ndarray) -> None:  # fmt: skip
    """Fill colour f32[K,2,3] for the places inside a tile: bilinear, from texels of the place's own chart."""
    size = len(image)
    for side in range(2):
        chosen = np.flatnonzero(inside[:, side])
        place = places[chosen, side]
        top = np.floor(place).astype(np.int64)
        total, weight = np.zeros((len(chosen), 3), np.float32), np.zeros((len(chosen), 1), np.float32)
        for tap in range(4):
            spot = top + [tap >> 1, tap & 1]
            share = (1 - np.abs(place - spot)).clip(0, 1).prod(1)
            row, column = np.clip(spot, 0, size - 1).T
            f = ids[row, column]
            share = share * (f != -1) * (charts[np.where(f < 0, np.maximum(-2 - f, 0), f)] == own[chosen, side])
            total += share[:, None].astype(np.float32) * image[row, column]
            weight += share[:, None].astype(np.float32)
        colour[chosen, side] = np.where(weight > 0.05, total / np.maximum(weight, 0.05), np.nan)


def correct(image: np.ndarray, ids: np.ndarray, charts: np.ndarray, places: np.ndarray, own: np.ndarray,
            change: np.ndarray, reach: float) -> None:  # fmt: skip
    """Add `change` f32[K,3] at the places f64[K,2] (row, column) of charts `own` i32[K], fading over `reach` texels."""
    order = np.argsort(places[:, 0], kind="stable")
    places, own, change = (np.ascontiguousarray(a[order]) for a in (places, own, change))
    bands = slices(len(image), ROWS)
    edges = np.searchsorted(places[:, 0], [[band.start - reach, band.stop + reach] for band in bands])

    def worker(numbers):
        for n in numbers:
            rows = bands[n]
            first, last = edges[n]
            if last > first:
                fade_band(rows.start, image[rows], ids[rows], charts, places[first:last], own[first:last],
                          change[first:last], reach, ALONG)  # fmt: skip

    spread(len(bands), worker)


@kernel
def fade_band(above, image, ids, charts, places, own, change, reach, along):
    """Blend the changes of the places around each texel by about distance^-4, times (1 - nearest / reach)^2."""
    rows, size = ids.shape
    total = np.zeros((rows, size, 4), np.float32)
    nearest = np.full((rows, size), np.float32(reach * reach))
    for p in range(len(places)):
        y, x = places[p, 0] - above, places[p, 1]
        for r in range(max(int(np.ceil(y - reach)), 0), min(int(np.floor(y + reach)), rows - 1) + 1):
            for c in range(max(int(np.ceil(x - reach)), 0), min(int(np.floor(x + reach)), size - 1) + 1):
                f = ids[r, c]
                if f == -1:
                    continue
                if f < 0:
                    f = -2 - f
                away = (r - y) ** 2 + (c - x) ** 2
                if away >= reach * reach or charts[f] != own[p]:
                    continue
                nearest[r, c] = min(nearest[r, c], away)
                weight = 1 / (away + along) ** 2
                total[r, c, 3] += weight
                for k in range(3):
                    total[r, c, k] += weight * change[p, k]
    for r in range(rows):
        for c in range(size):
            if total[r, c, 3] > 0:
                fade = (1 - np.sqrt(nearest[r, c]) / reach) ** 2
                for k in range(3):
                    image[r, c, k] = min(max(image[r, c, k] + fade * total[r, c, k] / total[r, c, 3], 0.0), 1.0)
