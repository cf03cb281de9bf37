# SPDX-License-Identifier: Apache-2.0
"""How much fine detail renders have: the energy of the finest band inside the object."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

TAPS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # its transfer at f cycles per pixel is cos(pi f)^4
INNER = 3.0  # pixels from a silhouette or depth edge: the filter reaches 2


def fine_energy(views: Tensor, edge: np.ndarray) -> float | None:
    """Mean square of `views` [N,C,H,H] in 0..1 minus their binomial blur, over pixels away from edges and channels.

    edge: f32[N,H,H] of a `Stage`. None if no pixel is far enough from an edge.
    """
    inside = torch.from_numpy(edge > INNER)
    if not inside.any():
        return None
    band = fine_band(views.detach().float().cpu())
    return float((band**2).permute(0, 2, 3, 1)[inside].double().mean())


def fine_band(views: Tensor) -> Tensor:
    """What a 5 x 5 binomial blur takes away. A wave of (f, g) cycles per pixel keeps 1 - cos(pi f)^4 cos(pi g)^4 of its
    amplitude."""
    channels = views.shape[1]
    taps = torch.tensor(TAPS)
    kernel = (taps[:, None] * taps).expand(channels, 1, 5, 5)
    return views - conv2d(pad(views, (2, 2, 2, 2), mode="reflect"), kernel, groups=channels)
