# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PLR0913  (kernels: arrays in, arrays out)
"""Which view paints where, with soft borders: each view has a territory, and neighbours fade into each other across it.

The best view of a texel changes from one texel to the next, and near silhouettes, where all views are poor, it changes back
and forth. So the best view is found for texels as large as pixels, carried into the views' own pixels and blurred there,
inside one surface: a share of 1 in the middle of a territory, 1/2 on its border, 0 beyond. A texel reads the shares and
weighs its views by them. Only within the blur do two views mix, so detail stays that of one view elsewhere.
"""

from __future__ import annotations

import numpy as np

from engine.raster.jit import kernel, slices, spread
from engine.spaces.uv.gather import UNSEEN, Pairs
from engine.spaces.uv.kernels import LOWEST

from .bands import smooth

WIDTH = 1 / 128     # of a view's side: blur of a border, as wide as the finest band that `match` makes agree
SHARP = 128.0       # exponent of the weights that choose the best view
LEAST = np.float32(1e-3)   # share of a view outside its territory, for texels that no other view shows
CUT = np.float32(0.02)     # a view with less of a texel than this is left out
POOR = np.float32(0.1)     # weight at a surface's very edge, and of a pixel that only repeats its neighbours
SLOPE = np.float32(2.0)    # exponent of the cosine inside a border
TEXELS = 16384  # per piece of work


def territories(pairs: Pairs, right: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Shares f32[N*H*W] in 0..1. pairs: texels about as large as pixels; right, below: see `spaces.uv.edges.breaks`."""
    shape = (pairs.views, pairs.height, pairs.width)
    total = np.zeros((pairs.views * pairs.height * pairs.width, 2), np.float32)
    carry(pairs.start, pairs.view, pairs.steep, pairs.trust, np.float32(SHARP), pairs.share, pairs.base, pairs.width, total)
    both = smooth(total.reshape(*shape, 2), right, below, WIDTH * pairs.height).reshape(-1, 2)
    return np.where(both[:, 1] > 1e-4, both[:, 0] / np.maximum(both[:, 1], 1e-4), 0).astype(np.float32)


def shared_weights(pairs: Pairs, shares: np.ndarray, stale: np.ndarray) -> np.ndarray:
    """Weights f32[P] of the pairs, sum 1 over a seen texel's views. shares: see `territories`.

    stale: f32[P] in 0..1, how much of what a pair reads only repeats its neighbours.
    """
    weight = np.zeros(len(pairs.base), np.float32)
    pieces = slices(pairs.texels, TEXELS)

    def worker(numbers):
        for n in numbers:
            weigh_shares(pieces[n].start, pieces[n].stop, pairs.start, pairs.steep, pairs.trust, pairs.edge,
                         np.float32(pairs.reach), np.float32(LOWEST), pairs.share, pairs.base, pairs.width, shares, stale,
                         weight)

    spread(len(pieces), worker)
    return weight


@kernel
def carry(start, view, steep, trust, power, share, base, width, total):
    for m in range(len(start) - 1):
        best, winner = UNSEEN, -1
        for k in range(start[m], start[m + 1]):
            if trust[k] > UNSEEN and trust[k] + power * steep[k] > best:
                best, winner = trust[k] + power * steep[k], k
        for k in range(start[m], start[m + 1]):
            if trust[k] > UNSEEN:
                for tap in range(4):
                    place = base[k] + (tap & 1) + (tap >> 1) * width
                    if share[k, tap] > 0:
                        total[place, 1] += share[k, tap]
                        if k == winner:
                            total[place, 0] += share[k, tap]


@kernel
def weigh_shares(first, last, start, steep, trust, edge, reach, lowest, share, base, width, shares, stale, weight):
    for m in range(first, last):
        best = np.float32(0)
        for k in range(start[m], start[m + 1]):
            if trust[k] <= UNSEEN:
                continue
            own = np.float32(0)
            for tap in range(4):
                if share[k, tap] > 0:
                    own += share[k, tap] * shares[base[k] + (tap & 1) + (tap >> 1) * width]
            soft = min(max(edge[k] / reach, lowest), np.float32(1))  # is in `trust`, and its root in `steep`
            cosine = np.exp(steep[k]) / np.sqrt(soft)
            rest = np.exp(trust[k]) / soft * max(soft, POOR) * max(1 - stale[k], POOR)
            weight[k] = max(own, LEAST) * cosine**SLOPE * rest
            best = max(best, weight[k])
        if best == 0:
            continue
        total = np.float32(0)
        for k in range(start[m], start[m + 1]):
            if weight[k] < CUT * best:
                weight[k] = 0
            total += weight[k]
        for k in range(start[m], start[m + 1]):
            weight[k] /= total
