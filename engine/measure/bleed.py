# SPDX-License-Identifier: Apache-2.0
"""Background colour on the surface: texels more like what was behind the object than like their surroundings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from engine.made import Made
from engine.raster.gbuffer import render_gbuffer
from engine.spaces.uv.edges import edge_distance
from engine.spaces.uv.screen import look

CELLS = 48  # along the object's diagonal: a texel's surroundings are the cell it is in
CLEAR = 0.12  # distance in RGB between background and surroundings below which nothing can be said
NEAR = 3.0  # pixels from a silhouette or depth edge


@dataclass(frozen=True)
class Bleed:
    """Shares 0..1 of all texels. `share` counts every texel that looks like background; a grey pattern on a grey
    background does so too, so `excess` is how much of it is due to nearness to edges, where bleeding comes from."""

    share: float
    excess: float


def bleed(made: Made) -> Bleed:
    """Bleeding in the finished colours of a job's texels."""
    size = made.views.shape[-1]
    cameras = made.job.cameras
    buffer = render_gbuffer(made.rasterizer, made.mesh, cameras, size, size)
    away = edge_distance(look(made.mesh.positions, made.mesh.triangles, cameras), buffer.triangle)
    behind = backgrounds(made.views, buffer.mask)
    seen = made.baked.owner >= 0
    owner = made.baked.owner[seen].astype(np.int64)
    position = made.texels.position[seen]
    near = nearness(position, owner, cameras, away) < NEAR
    return count(made.colour[seen], position, made.texels.normal[seen], behind[owner], near, len(seen))


def count(colour: np.ndarray, position: np.ndarray, normal: np.ndarray, behind: np.ndarray, near: np.ndarray,
          total: int) -> Bleed:  # fmt: skip
    """Bleeding among texels with colour, position, normal f32[K,3], the background `behind` each f32[K,3], and `near`
    bool[K] an edge; shares are of `total` texels."""
    around = surroundings(position, normal, colour)
    to_behind, to_around = np.linalg.norm(colour - behind, axis=1), np.linalg.norm(colour - around, axis=1)
    like = (to_behind < to_around) & (np.linalg.norm(around - behind, axis=1) > CLEAR)
    usual = float(like[~near].mean()) if (~near).any() else 0.0
    beyond = float(like[near].sum()) - usual * int(near.sum())
    return Bleed(float(like.sum()) / max(total, 1), max(beyond, 0.0) / max(total, 1))


def backgrounds(views: Tensor, mask: np.ndarray) -> np.ndarray:
    """Median colour f32[N,3] of the pixels of each view [N,3,H,H] off the mesh (mask bool[N,H,H]); the mean over the
    views for one without any, mid-grey if none has any."""
    pixels = views.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    found = [
        np.median(view[~inside], axis=0) if (~inside).any() else None for view, inside in zip(pixels, mask, strict=True)
    ]
    known = [one for one in found if one is not None]
    usual = np.mean(known, axis=0) if known else np.full(3, 0.5)
    return np.stack([usual if one is None else one for one in found]).astype(np.float32)


def nearness(position: np.ndarray, owner: np.ndarray, cameras, away: np.ndarray) -> np.ndarray:
    """Pixels f32[K] between where each point is in its owner's view and the nearest edge there."""
    side = away.shape[-1]
    out = np.zeros(len(position), np.float32)
    for i, camera in enumerate(cameras):
        rows = np.flatnonzero(owner == i)
        matrix = camera.projection @ camera.view
        clip = position[rows].astype(np.float64) @ matrix[:, :3].T + matrix[:, 3]
        ndc = clip[:, :2] / clip[:, 3:]
        column = np.clip((ndc[:, 0] * 0.5 + 0.5) * side, 0, side - 1).astype(np.int64)
        row = np.clip((0.5 - ndc[:, 1] * 0.5) * side, 0, side - 1).astype(np.int64)
        out[rows] = away[i, row, column]
    return out


def surroundings(position: np.ndarray, normal: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Mean colour f32[K,3] of the texels in a cell: a box of 1/48 of the object's diagonal, one octant of normals."""
    cell = max(float(np.linalg.norm(position.max(0) - position.min(0))) / CELLS, 1e-12)
    box = np.floor((position - position.min(0)) / cell).astype(np.int64)
    key = ((box[:, 0] * (CELLS + 2) + box[:, 1]) * (CELLS + 2) + box[:, 2]) * 8 + (normal > 0) @ np.array([1, 2, 4])
    _, group, count_ = np.unique(key, return_inverse=True, return_counts=True)
    return np.stack([np.bincount(group, colour[:, k])[group] / count_[group] for k in range(3)], 1).astype(np.float32)
