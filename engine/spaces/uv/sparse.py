# SPDX-License-Identifier: Apache-2.0
"""A sparse linear map between rows of pixels and rows of texels, on any torch device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from engine.raster.jit import kernel, slices, spread

ROWS = 16384  # per piece of work


@dataclass(frozen=True)
class SparseMap:
    """`R` rows, each a weighted sum of some of `size` inputs. A row without entries gives zero.

    Applied by a kernel of ours in float32 on the CPU (five times as fast as torch's on three channels), and elsewhere
    by `bags`. The entries are moved to a device once, when they are first needed there.
    """

    offsets: np.ndarray  # i32[R+1]
    columns: np.ndarray  # i32[K]
    values: np.ndarray   # f32[K]
    size: int
    _placed: dict = field(default_factory=dict, repr=False, compare=False)

    @property
    def rows(self) -> int:
        return len(self.offsets) - 1

    def __call__(self, x: Tensor) -> Tensor:
        """Map `x` [size,C] to [R,C] in x's dtype (half precision is summed in float32) on x's device."""
        if x.shape[0] != self.size:
            raise ValueError(f"this map takes {self.size} rows, got a tensor of shape {tuple(x.shape)}")
        if self.rows == 0 or len(self.columns) == 0:
            return x.new_zeros(self.rows, x.shape[1])
        if x.device.type == "cpu" and x.dtype == torch.float32 and not x.requires_grad:
            return self._on_cpu(x)
        dtype = x.dtype if x.dtype == torch.float64 else torch.float32
        columns, offsets, values = self._on(x.device, dtype)
        return bags(x.to(dtype), columns, offsets, values).to(x.dtype)

    def _on_cpu(self, x: Tensor) -> Tensor:
        source, out = x.contiguous().numpy(), np.empty((self.rows, x.shape[1]), np.float32)
        pieces = slices(self.rows, ROWS)

        def worker(numbers):
            for n in numbers:
                rows = pieces[n]
                multiply(rows.start, rows.stop, self.offsets, self.columns, self.values, source, out)

        spread(len(pieces), worker)
        return torch.from_numpy(out)

    def _on(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        key = (device, dtype)
        if key not in self._placed:
            columns, offsets, values = (torch.from_numpy(a) for a in (self.columns, self.offsets[:-1], self.values))
            self._placed[key] = columns.to(device), offsets.to(device), values.to(device, dtype)
        return self._placed[key]

    def transpose(self) -> SparseMap:
        """The adjoint: `<A x, y> == <x, A.transpose() y>`."""
        rows = np.repeat(np.arange(self.rows, dtype=np.int32), np.diff(self.offsets))
        order = np.argsort(self.columns, kind="stable")
        offsets = np.zeros(self.size + 1, np.int32)
        np.cumsum(np.bincount(self.columns, minlength=self.size), out=offsets[1:])
        return SparseMap(offsets, rows[order], self.values[order], self.rows)

    def parts(self, length: int, chosen: Sequence[int]) -> SparseMap:
        """Some of the map's parts of `length` rows each, in the order given."""
        cuts = [(self.offsets[k * length], self.offsets[(k + 1) * length]) for k in chosen]
        counts = [np.diff(self.offsets[k * length : (k + 1) * length + 1]) for k in chosen]
        offsets = np.zeros(length * len(cuts) + 1, np.int32)
        if cuts:
            np.cumsum(np.concatenate(counts), out=offsets[1:])
        columns, values = (np.concatenate([part[:0], *(part[first:last] for first, last in cuts)])
                           for part in (self.columns, self.values))
        return SparseMap(offsets, columns, values, self.size)

    def without_small(self, least: float) -> SparseMap:
        """The map without entries below `least` (0..1) of their row's largest, rows scaled back to their sums.

        For entries that are not negative; no row is lost.
        """
        rows = np.repeat(np.arange(self.rows), np.diff(self.offsets))
        largest = np.zeros(self.rows, np.float32)
        used = np.flatnonzero(np.diff(self.offsets))
        largest[used] = np.maximum.reduceat(self.values, self.offsets[used]) if len(used) else 0
        kept = self.values >= least * largest[rows]
        before = np.bincount(rows, self.values, self.rows)
        after = np.bincount(rows[kept], self.values[kept], self.rows)
        offsets = np.zeros(self.rows + 1, np.int32)
        np.cumsum(np.bincount(rows[kept], minlength=self.rows), out=offsets[1:])
        scale = (before / np.where(after > 0, after, 1)).astype(np.float32)
        return SparseMap(offsets, self.columns[kept], self.values[kept] * scale[rows[kept]], self.size)

    def row_sums(self) -> np.ndarray:
        """f64[R]: what the map makes of a constant 1."""
        return np.bincount(np.repeat(np.arange(self.rows), np.diff(self.offsets)), self.values.astype(np.float64),
                           minlength=self.rows)


def bags(x: Tensor, columns: Tensor, offsets: Tensor, values: Tensor | None = None, mode: str = "sum") -> Tensor:
    """For each row the weighted sum ("sum") or the greatest ("max") of the rows of x [size,C] that its entries name,
    those from its offset to the next; 0 for none.

    `embedding_bag` is the one spelling that CUDA and MPS share. It gathers: by its published kernel each number of the
    answer is summed by one thread, entry after entry, so that it is the same in every run, which a scattering
    `index_add` on CUDA is not; and nobody waits for the card. `include_last_offset` is avoided: wrong on MPS in torch
    2.13.
    """
    return embedding_bag(columns, x.contiguous(), offsets, mode=mode, per_sample_weights=values)


@kernel
def multiply(first, last, offsets, columns, values, x, out):
    if x.shape[1] == 3:  # colours: sums stay in registers
        for r in range(first, last):
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            for k in range(offsets[r], offsets[r + 1]):
                value, column = values[k], columns[k]
                red += value * x[column, 0]
                green += value * x[column, 1]
                blue += value * x[column, 2]
            out[r, 0], out[r, 1], out[r, 2] = red, green, blue
        return
    for r in range(first, last):
        for c in range(x.shape[1]):
            out[r, c] = 0.0
        for k in range(offsets[r], offsets[r + 1]):
            value, column = values[k], columns[k]
            for c in range(x.shape[1]):
                out[r, c] += value * x[column, c]
