# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PLR0913  (kernels: arrays in, arrays out)
"""Texel -> view: where each texel is seen, which pixels it reads there, and how much that view counts.

A texel reads the four pixels around its projection. A pixel that shows the background or another surface is
dropped and the rest renormalised (+4 to +11 dB, research/rasterizers.md 3c and 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import cos, radians

import numpy as np

from engine.mesh import Mesh
from engine.raster.jit import kernel, slices, spread
from engine.raster.texels import TexelMap

from .kernels import LOWEST, pairs_of_view
from .screen import Screen, by_view, uv_areas
from .sparse import SparseMap

UNSEEN = np.float32(-1e30)
LEAST = np.float32(np.log(1e-4))
TEXELS = 16384  # per piece of work


@dataclass(frozen=True)
class Pairs:
    """Texel-view pairs, grouped by texel. Pixels are numbered `(view * H + row) * W + column`."""

    start: np.ndarray   # i64[M+1] first pair of each texel
    view: np.ndarray    # i16[P]
    base: np.ndarray    # i32[P] top left of the four pixels
    share: np.ndarray   # f32[P,4] bilinear shares of the pixels kept, sum 1; all 0 for a pair without any
    steep: np.ndarray   # f32[P] log of the cosine between surface and view, less near edges
    trust: np.ndarray   # f32[P] log of what does not depend on the sharpness: footprint, feather, side; or UNSEEN
    edge: np.ndarray    # f32[P] pixels to the nearest edge of the surface in the view
    reach: float        # pixels from an edge within which a view counts less
    height: int
    width: int
    views: int

    @property
    def texels(self) -> int:
        return len(self.start) - 1

    @property
    def cosine(self) -> np.ndarray:
        """f32[P] between the surface's smooth normal and the view, 0.02..1; 0 for a pair without pixels."""
        return np.exp(self.steep) / np.sqrt(np.clip(self.edge / self.reach, LOWEST, 1)) * (self.trust > UNSEEN)

    def seen(self) -> np.ndarray:
        """bool[M]: texels that some view shows."""
        good = np.concatenate([[0], np.cumsum(self.trust > UNSEEN)])
        return good[self.start[1:]] > good[self.start[:-1]]

    def texel(self) -> np.ndarray:
        """i64[P]: the texel of each pair."""
        return np.repeat(np.arange(self.texels), np.diff(self.start))

    def only(self, views: Sequence[int]) -> Pairs:
        """The pairs of some of the views, which are numbered in the order given."""
        number = np.full(self.views, -1, np.int64)
        number[list(views)] = np.arange(len(views))
        kept = number[self.view] >= 0
        start = np.zeros(self.texels + 1, np.int64)
        np.cumsum(np.bincount(self.texel()[kept], minlength=self.texels), out=start[1:])
        view, old = number[self.view[kept]], self.view[kept].astype(np.int64)
        base = (self.base[kept] + (view - old) * self.height * self.width).astype(np.int32)
        return replace(self, start=start, view=view.astype(np.int16), base=base, share=self.share[kept],
                       steep=self.steep[kept], trust=self.trust[kept], edge=self.edge[kept], views=len(views))

    def best(self, power: float) -> np.ndarray:
        """f32[M]: log of the largest weight among a texel's views, which `weights` divides by; UNSEEN without any."""
        value = np.where(self.trust > UNSEEN, self.trust + np.float32(power) * self.steep, UNSEEN)
        out, some = np.full(self.texels, UNSEEN), self.start[1:] > self.start[:-1]
        if some.any():
            out[some] = np.maximum.reduceat(value, self.start[:-1][some])
        return out

    def feathered(self, reach: float) -> Pairs:
        """The same with a further feather, `reach` pixels wide: for bands of broad tones."""
        return replace(self, trust=self.trust + np.log(np.clip(self.edge / reach, LOWEST, 1)))

    def reaching(self, reach: float) -> Pairs:
        """A copy whose views count less within `reach` pixels of an edge, instead of within `self.reach`."""
        change = np.log(np.clip(self.edge / reach, LOWEST, 1)) - np.log(np.clip(self.edge / self.reach, LOWEST, 1))
        return replace(self, steep=self.steep + change / 2, trust=np.where(self.trust > UNSEEN, self.trust + change, UNSEEN),
                       reach=reach)

    def weights(self, power: float) -> tuple[np.ndarray, np.ndarray]:
        """Normalised weights f32[P] (sum 1 over a seen texel's views) and their total f32[M] before that.

        `W = trust * (cosine / best cosine)^power`, taken in logarithms, so power 128 does not underflow. The total
        lies in 1..N: how many views share a texel; 0 where none sees it. Weights below 1e-4 of the best are 0.
        """
        weight, total = np.zeros(len(self.base), np.float32), np.zeros(self.texels, np.float32)
        self._in_slices(lambda rows: weigh(rows.start, rows.stop, self.start, self.steep, self.trust, power,
                                           weight, total))
        return weight, total

    def collect(self, weight: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Weighted sums f32[M,C] of pixels f32[N*H*W,C]: what `as_map` would give, without making it."""
        out = np.empty((self.texels, pixels.shape[1]), np.float32)
        self._in_slices(lambda rows: collect_taps(rows.start, rows.stop, self.start, weight, self.share, self.base,
                                                  self.width, pixels, out))
        return out

    def as_map(self, weight: np.ndarray) -> SparseMap:
        """The map pixels -> texels for `weights`; its rows sum to 1 where seen."""
        offsets = np.zeros(self.texels + 1, np.int32)
        self._in_slices(lambda rows: count_taps(rows.start, rows.stop, self.start, weight, self.share, offsets))
        np.cumsum(offsets, out=offsets)
        columns, values = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.float32)
        self._in_slices(lambda rows: fill_taps(rows.start, rows.stop, self.start, weight, self.share, self.base,
                                               self.width, offsets, columns, values))
        return SparseMap(offsets, columns, values, self.views * self.height * self.width)

    def _in_slices(self, work: Callable[[slice], None]) -> None:
        pieces = slices(self.texels, TEXELS)
        spread(len(pieces), lambda numbers: [work(pieces[n]) for n in numbers])


def texel_pairs(mesh: Mesh, screen: Screen, ids: np.ndarray, away: np.ndarray, texels: TexelMap, seen_by: np.ndarray,
                reach: float = 2.0, steepest: float = 75.0) -> Pairs:
    """Pair texels (of a map, or a part of one) with the views that show them.

    ids: i32[N,H,W] triangle per pixel, -1 none. away: f32[N,H,W] `edge_distance`, feathered over `reach` pixels.
    seen_by: bool[N,M]. Beyond `steepest` degrees a view does not count; the triangles' own normals decide that, but the
    weights follow the mesh's smooth ones, so that they do not jump at every facet.
    """
    views, height, width = ids.shape
    if height < 2 or width < 2:
        raise ValueError(f"views need at least 2x2 pixels, got {height}x{width}")
    density = uv_areas(mesh.uvs[mesh.triangle_uvs]) * texels.size**2
    smooth = np.einsum("mk,mkd->md", texels.barycentrics, mesh.normals[texels.triangle])
    length = np.linalg.norm(smooth, axis=1, keepdims=True)
    smooth = np.where(length > 1e-6, smooth / np.maximum(length, 1e-6), texels.normal).astype(np.float32)
    start = np.zeros(len(texels.triangle) + 1, np.int64)
    np.cumsum(seen_by.sum(0), out=start[1:])
    total = int(start[-1])
    view, base = np.zeros(total, np.int16), np.zeros(total, np.int32)
    share, trust = np.zeros((total, 4), np.float32), np.full(total, UNSEEN)
    steep, edge = np.zeros(total, np.float32), np.zeros(total, np.float32)
    slot = start[:-1] + np.cumsum(seen_by, 0) - seen_by
    surface, lowest = (texels.position, texels.normal, smooth, texels.triangle), cos(radians(steepest))

    def one(i):
        pairs_of_view(i, *surface, seen_by[i], slot[i], screen.vertices[i], screen.matrices[i], screen.toward[i],
                      screen.triangles, density, ids[i], away[i], reach, lowest, view, base, share, steep, trust, edge)

    by_view(one, views)
    return Pairs(start, view, base, share, steep, trust, edge, reach, height, width, views)


@kernel
def weigh(first, last, start, steep, trust, power, weight, total):
    for m in range(first, last):
        best = UNSEEN
        for k in range(start[m], start[m + 1]):
            if trust[k] > UNSEEN:
                best = max(best, np.float32(trust[k] + power * steep[k]))
        if best <= UNSEEN:
            continue
        sum_ = np.float32(0.0)
        for k in range(start[m], start[m + 1]):
            relative = np.float32(trust[k] + power * steep[k]) - best
            if relative > LEAST:
                weight[k] = np.exp(relative)
                sum_ += weight[k]
        for k in range(start[m], start[m + 1]):
            weight[k] /= sum_
        total[m] = sum_


@kernel
def collect_taps(first, last, start, weight, share, base, width, pixels, out):
    channels = pixels.shape[1]
    for m in range(first, last):
        red, green, blue = np.float32(0), np.float32(0), np.float32(0)
        for c in range(channels):
            out[m, c] = 0.0
        for k in range(start[m], start[m + 1]):
            if weight[k] == 0:
                continue
            for tap in range(4):
                value = weight[k] * share[k, tap]
                if value == 0:
                    continue
                pixel = base[k] + (tap & 1) + (tap >> 1) * width
                if channels == 3:  # colours: sums stay in registers
                    red += value * pixels[pixel, 0]
                    green += value * pixels[pixel, 1]
                    blue += value * pixels[pixel, 2]
                else:
                    for c in range(channels):
                        out[m, c] += value * pixels[pixel, c]
        if channels == 3:
            out[m, 0], out[m, 1], out[m, 2] = red, green, blue


@kernel
def count_taps(first, last, start, weight, share, offsets):
    for m in range(first, last):
        number = 0
        for k in range(start[m], start[m + 1]):
            if weight[k] > 0:
                for tap in range(4):
                    number += share[k, tap] > 0
        offsets[m + 1] = number


@kernel
def fill_taps(first, last, start, weight, share, base, width, offsets, columns, values):
    for m in range(first, last):
        place = offsets[m]
        for k in range(start[m], start[m + 1]):
            if weight[k] > 0:
                for tap in range(4):
                    if share[k, tap] > 0:
                        columns[place] = base[k] + (tap & 1) + (tap >> 1) * width
                        values[place] = weight[k] * share[k, tap]
                        place += 1
