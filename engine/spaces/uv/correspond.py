# SPDX-License-Identifier: Apache-2.0
"""Which pixel of another view shows the same point: for attention across views."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .kernels import correspond_views
from .screen import Screen


def correspondence(screen: Screen, ids: np.ndarray, i: int, j: int) -> tuple[Tensor, Tensor]:
    """Position f32[H,W,2] in view `j` (x right, y down, in pixels; centres at .5) of what view `i` shows, and
    bool[H,W] whether it is visible there. ids: i32[N,H,W].
    """
    height, width = ids.shape[1:]
    place, valid = np.zeros((height, width, 2), np.float32), np.zeros((height, width), bool)
    correspond_views(ids[i], ids[j], screen.vertices[i], screen.vertices[j], screen.triangles, place, valid)
    return torch.from_numpy(place), torch.from_numpy(valid)
