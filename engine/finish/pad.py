# SPDX-License-Identifier: Apache-2.0
"""Colours around the charts, so that filtering and mip-maps never mix in a background. Charts are not touched."""

from __future__ import annotations

import numpy as np

from engine.raster.jit import kernel


def pad_charts(image: np.ndarray, covered: np.ndarray, padding: int = 16, into: np.ndarray | None = None) -> np.ndarray:
    """A texture f32[T,T,3] with a colour everywhere; written to `into`, which may be the image itself.

    covered: bool[T,T], texels of charts, which stay as they are. Up to `padding` texels away the nearest chart
    continues with its border colour, halfway to the next chart; beyond, colours fade into the mean around (push-pull).
    """
    out = np.empty_like(image) if into is None else into
    if not covered.any():
        out[:] = 0.5
        return out
    nearest = np.where(covered, np.arange(covered.size, dtype=np.int32).reshape(covered.shape), np.int32(-1))
    find_nearest(nearest)
    if out is not image:
        out[:] = image
    reached = covered.copy()
    take_nearest(nearest, padding, out, reached)
    del nearest
    push_pull(out, reached)
    return out


def push_pull(image: np.ndarray, known: np.ndarray) -> None:
    """Fill texels that are not `known` from ever coarser means of those that are, in place (Gortler et al. 1996)."""
    if known.all():
        return
    size = len(image)
    half = (size + 1) // 2
    coarse, found = np.zeros((half, half, 3), np.float32), np.zeros((half, half), bool)
    halve(image, known, coarse, found)
    if size > 1:
        push_pull(coarse, found)
    enlarge_into(coarse, image, known)


@kernel
def find_nearest(nearest):
    """Number of the nearest covered texel for all, in place, by two sweeps (Danielsson 1980; off by under a texel)."""
    size = nearest.shape[1]
    for sweep in range(2):
        for step in range(nearest.shape[0]):
            r = step if sweep == 0 else nearest.shape[0] - 1 - step
            before = -1 if sweep == 0 else 1
            for c in range(size):
                for dc in range(-1, 2):
                    improve(nearest, r, c, r + before, c + dc)
            for c in range(1, size):
                improve(nearest, r, c, r, c - 1)
            for c in range(size - 2, -1, -1):
                improve(nearest, r, c, r, c + 1)


@kernel
def improve(nearest, r, c, r2, c2):
    size = nearest.shape[1]
    if r2 < 0 or c2 < 0 or r2 >= nearest.shape[0] or c2 >= size:
        return
    other = nearest[r2, c2]
    if other < 0:
        return
    own = nearest[r, c]
    away = (other // size - r) ** 2 + (other % size - c) ** 2
    if own < 0 or away < (own // size - r) ** 2 + (own % size - c) ** 2:
        nearest[r, c] = other


@kernel
def take_nearest(nearest, padding, image, reached):
    size = nearest.shape[1]
    for r in range(nearest.shape[0]):
        for c in range(size):
            if reached[r, c]:
                continue
            row, column = nearest[r, c] // size, nearest[r, c] % size
            if (row - r) ** 2 + (column - c) ** 2 <= padding * padding:
                for k in range(3):
                    image[r, c, k] = image[row, column, k]
                reached[r, c] = True


@kernel
def halve(image, known, coarse, found):
    size = known.shape[0]
    for r in range(coarse.shape[0]):
        for c in range(coarse.shape[1]):
            number = 0
            for tap in range(4):
                r2, c2 = 2 * r + (tap >> 1), 2 * c + (tap & 1)
                if r2 < size and c2 < size and known[r2, c2]:
                    number += 1
                    for k in range(3):
                        coarse[r, c, k] += image[r2, c2, k]
            if number:
                found[r, c] = True
                for k in range(3):
                    coarse[r, c, k] /= number


@kernel
def enlarge_into(coarse, image, known):
    """Bilinear values of `coarse` for the texels of `image` that are not known."""
    most = coarse.shape[0] - 1
    for r in range(known.shape[0]):
        for c in range(known.shape[1]):
            if known[r, c]:
                continue
            y, x = (r - 0.5) / 2, (c - 0.5) / 2
            top, left = int(np.floor(y)), int(np.floor(x))
            for k in range(3):
                total = 0.0
                for tap in range(4):
                    share = (y - top if tap >> 1 else 1 - y + top) * (x - left if tap & 1 else 1 - x + left)
                    total += share * coarse[min(max(top + (tap >> 1), 0), most), min(max(left + (tap & 1), 0), most), k]
                image[r, c, k] = total
