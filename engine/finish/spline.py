# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PLR0913  (kernels: arrays in, arrays out)
"""Reading views between their pixels without blurring them: cubic splines through the pixels, inside one surface.

A bilinear lookup halfway between pixels keeps 71 % of a wave of four pixels, a cubic spline 97 %. Splines need
coefficients (Unser 1999, "Splines: a perfect fit", box 2), made here piece by piece between the edges of surfaces, so that
neither background nor another surface rings into a texture. Near edges texels read bilinearly.
"""

from __future__ import annotations

import numpy as np

from engine.raster.jit import kernel, slices, spread
from engine.spaces.uv.gather import Pairs

POLE = np.float32(np.sqrt(3) - 2)
CLEAR = np.float32(1.5)  # pixels from an edge of the surface, from where all sixteen taps lie on it
TERMS = 16  # of the series that starts a row: the pole's 16th power is below a billionth
TEXELS = 16384  # per piece of work


def coefficients(views: np.ndarray, right: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Spline coefficients f32[N,H,W,3] of `views` f32[N,H,W,3]; right, below: bool[N,H,W], see `spaces.uv.edges.breaks`."""
    out = np.array(views, np.float32, order="C")

    def worker(numbers):
        for i in numbers:
            filter_rows(out[i], right[i])
            filter_rows(out[i].transpose(1, 0, 2), below[i].T)

    spread(len(out), worker)
    return out


def collect_sharp(pairs: Pairs, weight: np.ndarray, pixels: np.ndarray, spline: np.ndarray) -> np.ndarray:
    """Weighted means f32[M,3] of the views at their texels, 0 where none sees one. pixels, spline: f32[N*H*W,3]."""
    out = np.zeros((pairs.texels, 3), np.float32)
    pieces = slices(pairs.texels, TEXELS)

    def worker(numbers):
        for n in numbers:
            read_texels(pieces[n].start, pieces[n].stop, pairs.start, weight, pairs.share, pairs.base, pairs.edge,
                        pairs.width, pixels, spline, out)

    spread(len(pieces), worker)
    return out


@kernel
def filter_rows(image, cut):
    """From values to coefficients along the rows, each piece between cuts on its own, mirrored at its ends."""
    rows, columns, channels = image.shape
    for r in range(rows):
        first = 0
        while first < columns:
            last = first
            while last < columns - 1 and not cut[r, last]:
                last += 1
            length = last - first + 1
            if length > 1:
                for k in range(channels):
                    start, power = image[r, first, k], POLE
                    for i in range(1, TERMS):
                        at = i % (2 * length - 2)
                        at = at if at < length else 2 * length - 2 - at
                        start += power * image[r, first + at, k]
                        power *= POLE
                    image[r, first, k] = start
                    for c in range(first + 1, last + 1):
                        image[r, c, k] += POLE * image[r, c - 1, k]
                    image[r, last, k] = POLE / (POLE * POLE - 1) * (image[r, last, k] + POLE * image[r, last - 1, k])
                    for c in range(last - 1, first - 1, -1):
                        image[r, c, k] = POLE * (image[r, c + 1, k] - image[r, c, k])
                    for c in range(first, last + 1):
                        image[r, c, k] *= 6
            first = last + 1


@kernel
def read_texels(first, last, start, weight, share, base, edge, width, pixels, spline, out):
    wx, wy = np.empty(4, np.float32), np.empty(4, np.float32)
    for m in range(first, last):
        for pair in range(start[m], start[m + 1]):
            if weight[pair] == 0:
                continue
            a, b, c, d = share[pair, 0], share[pair, 1], share[pair, 2], share[pair, 3]
            if edge[pair] >= CLEAR:
                for axis in range(2):
                    t = b + d if axis == 0 else c + d
                    w = wx if axis == 0 else wy
                    w[0] = (1 - t) ** 3 / 6
                    w[1] = 2 / 3 - t * t * (1 - t / 2)
                    w[2] = 2 / 3 - (1 - t) * (1 - t) * (1 + t) / 2
                    w[3] = t**3 / 6
                for row in range(4):
                    place = base[pair] + (row - 1) * width - 1
                    for column in range(4):
                        value = weight[pair] * wy[row] * wx[column]
                        for k in range(3):
                            out[m, k] += value * spline[place + column, k]
            else:
                for tap in range(4):
                    value = weight[pair] * share[pair, tap]
                    if value > 0:
                        place = base[pair] + (tap & 1) + (tap >> 1) * width
                        for k in range(3):
                            out[m, k] += value * pixels[place, k]
