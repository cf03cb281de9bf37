# SPDX-License-Identifier: Apache-2.0
"""The map views -> texels where the views live on a card: the pairs are moved there once, and weighed there.

What `Pairs.weights` and `Pairs.as_map` compute in main memory, to rounding. A new sharpness changes the values of the
map and neither its rows nor its columns, so nothing is moved when it comes; entries whose weight is 0 stay in. Every
sum is a gather by one reader, in a fixed order (`sparse.bags`), so the same input gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .gather import LEAST, UNSEEN, Pairs
from .sparse import bags


@dataclass(frozen=True)
class PlacedMap:
    """A sparse map whose entries live on a device; see `SparseMap`."""

    offsets: Tensor  # i32[R]
    columns: Tensor  # i32[K]
    values: Tensor   # f32[K]

    def __call__(self, x: Tensor) -> Tensor:
        """Map `x` [size,C] on that device to [R,C] in x's dtype; half precision is summed in float32."""
        if not len(self.columns):
            return x.new_zeros(len(self.offsets), x.shape[1])
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        return bags(x.to(dtype), self.columns, self.offsets, self.values.to(dtype)).to(x.dtype)


class PlacedPairs:
    """The pairs that show a texel, and their taps, on a device."""

    def __init__(self, pairs: Pairs, device: torch.device):
        kept = np.flatnonzero(pairs.trust > UNSEEN)
        texel, share = pairs.texel()[kept], pairs.share[kept]
        pair, tap = np.nonzero(share > 0)
        columns = pairs.base[kept][pair] + (tap & 1) + (tap >> 1) * pairs.width

        def put(values: np.ndarray, kind: type = np.int32) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values, kind)).to(device)

        self.texel, self.pair, self.columns = put(texel), put(pair), put(columns)
        self.each = torch.arange(len(kept), dtype=torch.int32, device=device)
        self.steep, self.trust = put(pairs.steep[kept], np.float32), put(pairs.trust[kept], np.float32)
        self.share = put(share[pair, tap], np.float32)
        self.starts, self.offsets = (put(starts(rows, pairs.texels)) for rows in (texel, texel[pair]))

    def weighed(self, power: float) -> tuple[PlacedMap, Tensor]:
        """The map pixels -> texels at that exponent, whose rows sum to 1 where seen, and the sum of weights f32[M]."""
        if not len(self.each):
            return PlacedMap(self.offsets, self.columns, self.share), self.share.new_zeros(len(self.starts))
        weight = torch.add(self.trust, self.steep, alpha=power)
        best = bags(weight[:, None], self.each, self.starts, mode="max")[:, 0]
        weight = weight - best[self.texel]
        weight = torch.where(weight > float(LEAST), weight.exp(), 0.0)
        total = bags(weight[:, None], self.each, self.starts)[:, 0]
        weight = weight / total[self.texel]
        return PlacedMap(self.offsets, self.columns, weight[self.pair] * self.share), total


def starts(rows: np.ndarray, count: int) -> np.ndarray:
    """Where each of `count` rows begins among entries whose rows i64[K], rising, are given."""
    return np.searchsorted(rows, np.arange(count))
