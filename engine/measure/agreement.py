# SPDX-License-Identifier: Apache-2.0
"""Do the views agree with each other before the bake, and does the finished texture look like them? PSNR in dB."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.finish.agreement import agreement
from engine.made import Made

from .stage import Stage

BEST = 100.0  # dB; what equal images get
INNER = 2.0  # pixels from a silhouette or depth edge from where a pixel's colour is the surface's alone


def psnr(squares: float) -> float:
    """10 log10(1 / mean squared error) of values in 0..1, at most `BEST`."""
    return float(min(-10 * np.log10(max(squares, 1e-30)), BEST))


def between_views(made: Made) -> float | None:
    """PSNR between all pairs of decoded views on the points that both see within 60 degrees of the normal."""
    return agreement(made.views, made.pairs)


def with_render(views: Tensor, texture: np.ndarray, stage: Stage) -> float | None:
    """PSNR between `views` [N,3,H,H] in 0..1 of the stage's cameras and renders of `texture` there, inside surfaces."""
    inside = torch.from_numpy((stage.edge > INNER)[:, None]) & (stage.mask > 0.999)
    if not inside.any():
        return None
    apart = (stage.render(texture) - views.detach().float().cpu().clamp(0, 1)) ** 2
    return psnr(float(apart.permute(0, 2, 3, 1)[inside[:, 0]].double().mean()))
