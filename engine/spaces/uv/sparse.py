# SPDX-License-Identifier: Apache-2.0
"""A sparse linear map between rows of pixels and rows of texels, on any torch device."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


@dataclass(frozen=True)
class SparseMap:
    """`R` rows, each a weighted sum of some of `size` inputs. A row without entries gives zero.

    Applied as `embedding_bag`, the one spelling that is fast on CPU, CUDA and MPS alike (torch's CSR matrices
    have no MPS kernel, and no int32 indices here on CPU). `include_last_offset` is avoided: wrong on MPS in 2.13.
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
        dtype = x.dtype if x.dtype == torch.float64 else torch.float32
        columns, offsets, values = self._on(x.device, dtype)
        return embedding_bag(columns, x.to(dtype).contiguous(), offsets, mode="sum", per_sample_weights=values).to(x.dtype)

    def _on(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        key = (device, dtype)
        if key not in self._placed:
            columns, offsets, values = (torch.from_numpy(a) for a in (self.columns, self.offsets[:-1], self.values))
            self._placed[key] = columns.to(device), offsets.to(device), values.to(device, dtype)
        return self._placed[key]

    def transpose(self) -> "SparseMap":
        """The adjoint: `<A x, y> == <x, A.transpose() y>`."""
        rows = np.repeat(np.arange(self.rows, dtype=np.int32), np.diff(self.offsets))
        order = np.argsort(self.columns, kind="stable")
        offsets = np.zeros(self.size + 1, np.int32)
        np.cumsum(np.bincount(self.columns, minlength=self.size), out=offsets[1:])
        return SparseMap(offsets, rows[order], self.values[order], self.rows)

    def row_sums(self) -> np.ndarray:
        """f64[R]: what the map makes of a constant 1."""
        return np.bincount(np.repeat(np.arange(self.rows), np.diff(self.offsets)), self.values.astype(np.float64),
                           minlength=self.rows)
