# SPDX-License-Identifier: Apache-2.0
"""The rasterizer that runs everywhere: exact, and the same picture for any number of threads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .scan import scan


@dataclass(frozen=True)
class NumbaRasterizer:
    """See `engine.raster.Rasterizer`; the rules are in scan.py."""

    name: str = "numba"

    def triangle_ids(self, clip: np.ndarray, triangles: np.ndarray, height: int, width: int) -> np.ndarray:
        return scan(clip, triangles, height, width)[0]
