# SPDX-License-Identifier: Apache-2.0
"""How much of the surface the views saw, and whether anything was left unpainted."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from engine.finish import seen_share
from engine.finish.bake import bake_views, part
from engine.made import Made

BLACK = 2 / 255
DARK = 12 / 255  # what a model painted so dark may end up black: tones move by a few levels until then
AROUND = 8  # seen texels that say what an unseen one should look like


def coverage(made: Made) -> float:
    """Share 0..1 of the surface's area that some view sees well enough to paint."""
    return seen_share(made.mesh, made.texels, made.baked.owner >= 0)


def after_fill(left: np.ndarray, made: Made) -> float:
    """Share 0..1 of the area whose texels have a colour in the finished texture. left: bool[M], see `left_black`."""
    return seen_share(made.mesh, made.texels, ~left)


def left_black(texture: np.ndarray, made: Made) -> np.ndarray:
    """bool[M]: texels of charts (their borders included) that are `black` in the finished texture f32[T,T,3] although no
    view painted them so: neither the views themselves there, nor, where none sees them, the seen texels nearest in space,
    are below 12/255 in all channels."""
    left = black(texture.reshape(-1, 3)[made.texels.index])
    chosen = np.flatnonzero(left)
    if not len(chosen):
        return left
    baked = bake_views(made.views, part(made.texels, chosen), made.mesh, made.job.cameras, made.rasterizer, bands=())
    painted = (baked.owner >= 0) & (baked.colour < DARK).all(1)
    known, unseen = np.flatnonzero(made.baked.owner >= 0), np.flatnonzero(baked.owner < 0)
    if len(known) and len(unseen):
        tree = cKDTree(made.texels.position[known])
        _, near = tree.query(made.texels.position[chosen[unseen]], k=min(AROUND, len(known)))
        around = made.colour[known[near.reshape(len(unseen), -1)]].mean(1)
        painted[unseen] = (around < DARK).all(1)
    left[chosen[painted]] = False
    return left


def black(colour: np.ndarray) -> np.ndarray:
    """bool[M]: no number, or all three channels of f32[M,3] below 2/255."""
    return ~np.isfinite(colour).all(1) | (colour < BLACK).all(1)
