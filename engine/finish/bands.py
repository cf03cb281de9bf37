# SPDX-License-Identifier: Apache-2.0
"""Blurring views without blending across silhouettes or depth edges."""

from __future__ import annotations

import numpy as np

from engine.raster.jit import kernel, spread

PASSES = 3  # of the recursive filter: fewer leave streaks


def smooth(views: np.ndarray, right: np.ndarray, below: np.ndarray, sigma: float) -> np.ndarray:
    """Blur of `sigma` pixels that stops at the breaks: the recursive filter of Gastal and Oliveira (2011, 5.2)."""
    out = np.array(views, np.float32, order="C")

    def worker(numbers):
        for i in numbers:
            for k in range(PASSES):
                reach = sigma * np.sqrt(3) * 2 ** (PASSES - k - 1) / np.sqrt(4**PASSES - 1)
                feedback = np.float32(np.exp(-np.sqrt(2) / reach))
                smooth_rows(out[i], right[i], feedback)
                smooth_rows(out[i].transpose(1, 0, 2), below[i].T, feedback)

    spread(len(out), worker)
    return out


@kernel
def smooth_rows(image, cut, feedback):
    rows, columns, channels = image.shape
    for r in range(rows):
        for c in range(1, columns):
            if not cut[r, c - 1]:
                for k in range(channels):
                    image[r, c, k] += feedback * (image[r, c - 1, k] - image[r, c, k])
        for c in range(columns - 2, -1, -1):
            if not cut[r, c]:
                for k in range(channels):
                    image[r, c, k] += feedback * (image[r, c + 1, k] - image[r, c, k])
