# SPDX-License-Identifier: Apache-2.0
"""How much of the surface the views saw, and whether anything was left unpainted."""

from __future__ import annotations

import numpy as np

from engine.finish import seen_share
from engine.made import Made

BLACK = 2 / 255


def coverage(made: Made) -> float:
    """Share 0..1 of the surface's area that some view sees well enough to paint."""
    return seen_share(made.mesh, made.texels, made.baked.owner >= 0)


def after_fill(texture: np.ndarray, made: Made) -> float:
    """Share 0..1 of the area whose texels have a colour in the finished texture: finite and not `black`."""
    colour = texture.reshape(-1, 3)[made.texels.index]
    return seen_share(made.mesh, made.texels, ~black(colour))


def black_texels(texture: np.ndarray, made: Made) -> int:
    """How many texels of charts (their borders included) are black in the finished texture f32[T,T,3]."""
    return int(np.count_nonzero(black(texture.reshape(-1, 3)[made.texels.index])))


def black(colour: np.ndarray) -> np.ndarray:
    """bool[M]: no number, or all three channels of f32[M,3] below 2/255. A model's black is hardly ever that dark."""
    return ~np.isfinite(colour).all(1) | (colour < BLACK).all(1)
