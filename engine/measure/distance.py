# SPDX-License-Identifier: Apache-2.0
"""How far a set of pictures is from another, in the eyes of a network that reads them."""

from __future__ import annotations

import numpy as np

FEWEST = 4


def kid(one: np.ndarray, other: np.ndarray) -> float | None:
    """Kernel distance of two sets of features f[n,d] and f[m,d]: the unbiased squared MMD with (x.y / d + 1)^3.

    Binkowski et al. 2018 (Demystifying MMD GANs), eq. 3. Its mean over equal distributions is 0, so it may be
    negative; None for fewer than 4 pictures on a side.
    """
    if min(len(one), len(other)) < FEWEST:
        return None
    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    width = x.shape[1]
    xx, yy, xy = ((a @ b.T / width + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    same = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(same - 2 * xy.mean())


def kid_spread(one: np.ndarray, other: np.ndarray, rounds: int = 20, seed: int = 0) -> float | None:
    """Standard deviation of `kid` over random halves of both sets; how much of a difference is chance."""
    if min(len(one), len(other)) < 2 * FEWEST:
        return None
    random = np.random.default_rng(seed)

    def half(rows: np.ndarray) -> np.ndarray:
        return rows[random.permutation(len(rows))[: len(rows) // 2]]

    found = [kid(half(one), half(other)) for _ in range(rounds)]
    return float(np.std(found) / np.sqrt(2))
