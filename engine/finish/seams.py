# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PLR0913  (kernels: arrays in, arrays out)
"""Chart borders levelled: the two sides of a seam are one edge in space, so they must show one colour.

Along every seam the colours of both sides are read on the edge itself; each side takes half the difference, and inside a
chart the correction fades out over `REACH` texels. What no view has seen is a guess: it follows what was seen on the other
side, and no seen texel follows a guess. Charts of several UDIM tiles are levelled together.

Two ways of reading must say so before anything is changed. Texels just outside a chart show the nearest point of the
surface, that is of the edge: they see no step where a picture changes colour along a crease, but may lie on a rim. Texels
inside, continued to the edge along the slope of their colours, are clear of rims, but take a change of colour along a
crease for a step. Of the two steps the smaller counts, none if they have different signs. (A lookup between texels at
the edge mixes both kinds and so reads up to 1/4 texel inside: where colour changes by g per texel it finds, and would take
off, a step of g / 3 in the mean that nobody painted.)
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
HOLD = 0.02    # squared texels
WIDE = 3.0     # texels around a place that say what it looks like
ROWS = 64
PLACES = 8192   # per piece of work
ANY = -2       # instead of a view: texels of all views, and of none
ROUNDS = 2     # a correction that fades is not quite the difference where seams meet


@dataclass(frozen=True)
class Seams:
    """`K` places along the seams, each from both sides. UV in 0..1 of the mesh's own map."""

    uv: np.ndarray        # f32[K,2,2]
    along: np.ndarray     # f32[K,2,2] unit direction of the edge in UV
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
    along = np.stack([ends[side][:, 1] - ends[side][:, 0] for side in (one, other)], 1)
    along /= np.maximum(np.linalg.norm(along, axis=2, keepdims=True), 1e-30)
    return Seams(np.stack(sides, 1).astype(np.float32), along[edge].astype(np.float32),
                 (np.stack([one[edge], other[edge]], 1) // 3).astype(np.int32))  # fmt: skip


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
        colour, known = np.full((2, len(seams.uv), 2, 3), np.nan, np.float32), np.zeros((len(seams.uv), 2), np.float32)
        for (rows, inside), sheet in zip(places, sheets, strict=True):
            read(rows, inside, seams.along, sheet.uv.ids, charts, own, sheet.image, sheet.owner, colour, known)
        step, good = steps(colour)
        share = (1.02 - known) / (2.04 - known.sum(1, keepdims=True))
        if not number and good.any():
            first = float(np.linalg.norm(step[good], axis=1).mean())
        for (rows, inside), sheet in zip(places, sheets, strict=True):
            for side, sign in ((0, 1), (1, -1)):
                chosen = good & inside[:, side]
                change = sign * share[chosen, side, None] * step[chosen]
                correct(sheet, charts, rows[chosen, side], own[chosen, side], change, known[chosen].min(1), reach)
    return first


def located(seams: Seams, sheet: Sheet) -> tuple[np.ndarray, np.ndarray]:
    """Row and column f64[K,2,2] of the places in a sheet, and bool[K,2] whether they lie in it."""
    uv = sheet.window.local(seams.uv)
    inside = ((uv > -1e-6) & (uv < 1 + 1e-6)).all(2)
    return np.stack([(1 - uv[..., 1]) * sheet.uv.size - 0.5, uv[..., 0] * sheet.uv.size - 0.5], 2), inside


def steps(colour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The step f32[K,3] from the first side to the second, and whether it is known bool[K]. colour: see `read`."""
    outer, inner = colour[..., 1, :] - colour[..., 0, :]
    outer, inner = np.where(np.isfinite(outer), outer, inner), np.where(np.isfinite(inner), inner, outer)
    step = np.where(outer * inner > 0, np.sign(inner) * np.minimum(np.abs(outer), np.abs(inner)), 0)
    return step, np.isfinite(outer).all(1)


def read(places: np.ndarray, inside: np.ndarray, along: np.ndarray, ids: np.ndarray, charts: np.ndarray, own: np.ndarray,
         image: np.ndarray, owner: np.ndarray, colour: np.ndarray, known: np.ndarray) -> None:  # fmt: skip
    """Fill colour f32[2,K,2,3] for the places inside a tile: as the texels outside the chart say, and those inside it.

    nan where there is no such texel of the place's own chart. known: f32[K,2], share of the texels that some view sees.
    """
    pieces = slices(len(places), PLACES)

    def worker(numbers):
        for n in numbers:
            read_edges(pieces[n].start, pieces[n].stop, places, inside, along, ids, charts, own, image, owner, *colour, known)

    spread(len(pieces), worker)


@kernel
def read_edges(first, last, places, inside, along, ids, charts, own, image, owner, outer, inner, known):
    """Least squares: of the border texels a line along the edge, of the texels inside a plane, both read at the place.

    Weights fall off linearly with the distance along the edge. `HOLD` keeps slopes that are hardly known at 0.
    """
    size = len(image)
    line, plane = np.empty((3, 2), np.float64), np.empty((3, 3), np.float64)
    for p in range(first, last):
        for side in range(2):
            if not inside[p, side]:
                continue
            y, x = places[p, side, 0], places[p, side, 1]
            down, right = -along[p, side, 1], along[p, side, 0]
            line[:], plane[:] = 0, 0
            seen, count = 0, 0
            n0, nt, ntt = 0.0, 0.0, 0.0
            m0, mt, ms, mtt, mts, mss = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for r in range(max(int(np.ceil(y - WIDE)), 0), min(int(np.floor(y + WIDE)) + 1, size)):
                for c in range(max(int(np.ceil(x - WIDE)), 0), min(int(np.floor(x + WIDE)) + 1, size)):
                    f = ids[r, c]
                    if f == -1 or charts[f if f >= 0 else -2 - f] != own[p, side]:
                        continue
                    t, s = (r - y) * down + (c - x) * right, (r - y) * right - (c - x) * down
                    if f < 0:
                        w = 1 - abs(t) / 2
                        if w > 0 and abs(s) < 1.5:
                            n0, nt, ntt = n0 + w, nt + w * t, ntt + w * t * t
                            for k in range(3):
                                line[k, 0] += w * image[r, c, k]
                                line[k, 1] += w * t * image[r, c, k]
                    else:
                        w = 1 - np.sqrt(t * t + s * s) / WIDE
                        if w > 0:
                            seen, count = seen + (owner[r, c] >= 0), count + 1
                            m0, mt, ms = m0 + w, mt + w * t, ms + w * s
                            mtt, mts, mss = mtt + w * t * t, mts + w * t * s, mss + w * s * s
                            for k in range(3):
                                plane[k, 0] += w * image[r, c, k]
                                plane[k, 1] += w * t * image[r, c, k]
                                plane[k, 2] += w * s * image[r, c, k]
            if count:
                known[p, side] = seen / count
            if n0 > 0.3:
                ntt += HOLD * n0
                for k in range(3):
                    outer[p, side, k] = (ntt * line[k, 0] - nt * line[k, 1]) / (ntt * n0 - nt * nt)
            if m0 > 0.3:
                mtt, mss = mtt + HOLD * m0, mss + HOLD * m0
                a, b, c2 = mtt * mss - mts * mts, mts * ms - mt * mss, mt * mts - mtt * ms
                whole = m0 * a + mt * b + ms * c2
                for k in range(3):
                    inner[p, side, k] = (a * plane[k, 0] + b * plane[k, 1] + c2 * plane[k, 2]) / whole


def correct(sheet: Sheet, charts: np.ndarray, places: np.ndarray, own: np.ndarray, change: np.ndarray, firm: np.ndarray,
            reach: float, views: np.ndarray | None = None, along: float = ALONG) -> None:  # fmt: skip
    """Add `change` f32[K,3] at the places f64[K,2] (row, column) of charts `own` i32[K], fading over `reach` texels.

    firm: f32[K] in 0..1, the share of the change that texels take which a view has seen. views: i16[K], only texels that
    this view owns take a change; None: all do.
    """
    views = np.full(len(own), ANY, np.int16) if views is None else views
    order = np.argsort(places[:, 0], kind="stable")
    places, own, change, firm, views = (np.ascontiguousarray(a[order]) for a in (places, own, change, firm, views))
    image, ids, owner = sheet.image, sheet.uv.ids, sheet.owner
    bands = slices(len(image), ROWS)
    edges = np.searchsorted(places[:, 0], [[band.start - reach, band.stop + reach] for band in bands])

    def worker(numbers):
        for n in numbers:
            rows = bands[n]
            first, last = edges[n]
            if last > first:
                fade_band(rows.start, image[rows], ids[rows], owner[rows], charts, places[first:last], own[first:last],
                          change[first:last], firm[first:last], views[first:last], reach, along)  # fmt: skip

    spread(len(bands), worker)


@kernel
def fade_band(above, image, ids, owner, charts, places, own, change, firm, views, reach, along):
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
                if away >= reach * reach or charts[f] != own[p] or (views[p] != ANY and views[p] != owner[r, c]):
                    continue
                nearest[r, c] = min(nearest[r, c], away)
                weight = 1 / (away + along) ** 2
                total[r, c, 3] += weight
                share = firm[p] if owner[r, c] >= 0 else np.float32(1)
                for k in range(3):
                    total[r, c, k] += weight * share * change[p, k]
    for r in range(rows):
        for c in range(size):
            if total[r, c, 3] > 0:
                fade = (1 - np.sqrt(nearest[r, c]) / reach) ** 2
                for k in range(3):
                    image[r, c, k] = min(max(image[r, c, k] + fade * total[r, c, k] / total[r, c, 3], 0.0), 1.0)
