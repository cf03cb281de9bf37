# SPDX-License-Identifier: Apache-2.0
"""Colours for texels that no view sees, from their neighbours on the surface, never from neighbours in the UV map.

The surface is thinned to cells of about 1/200 of the object's size. Colours spread over the unseen cells like heat
between seen ones (a harmonic fill: no patches, no edges), along links that prefer equal normals, so that the two
sides of a thin wall stay apart. Then each unseen texel blends the cells around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

CELLS = 200         # cells along the diagonal of the object
NEIGHBOURS = 8
GUESS = 1e-3        # pull of the nearest seen colours: they decide beyond about 16 cells from the border
GREY = 0.5
ENOUGH = 2_000_000  # texels


def fill_unseen(position: np.ndarray, normal: np.ndarray, colour: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Colours f32[M,3] with every texel that is not `known` bool[M] filled. position, normal: f32[M,3] world."""
    if known.all():
        return colour
    if not known.any():
        return np.full_like(colour, GREY)
    cell = cell_size(position)
    seen, unseen = thin(position, normal, colour, known, cell), thin(position, normal, colour, ~known, cell)
    reach = cKDTree(seen.position)
    near = reach.query(unseen.position, NEIGHBOURS)[1] if len(seen.position) >= NEIGHBOURS else None
    if near is None:
        near = np.tile(np.arange(len(seen.position)), (len(unseen.position), 1))
    guess = blend(unseen, seen, near, cell)
    unseen.colour[:] = spread_heat(unseen, seen, guess, cell)
    both = Cells(*(np.concatenate([a, b]) for a, b in zip(seen.arrays, unseen.arrays, strict=True)))
    out = colour.copy()
    lost = np.flatnonzero(~known)
    tree, count = cKDTree(both.position), min(NEIGHBOURS, len(both.position))
    for first in range(0, len(lost), 2**18):
        rows = lost[first : first + 2**18]
        texels = Cells(position[rows], normal[rows], colour[rows])
        near = tree.query(texels.position, count)[1].reshape(len(rows), count)
        out[rows] = blend(texels, both, near, cell)
    return out


@dataclass(frozen=True)
class Cells:
    """Pieces of surface: position f32[K,3], unit normal f32[K,3], colour f32[K,3]."""

    position: np.ndarray
    normal: np.ndarray
    colour: np.ndarray

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.position, self.normal, self.colour


def cell_size(position: np.ndarray) -> float:
    return max(float(np.linalg.norm(position.max(0) - position.min(0))) / CELLS, 1e-12)


def thin(position: np.ndarray, normal: np.ndarray, colour: np.ndarray, chosen: np.ndarray, cell: float) -> Cells:
    """One cell per occupied box of side `cell` and octant of the normal: the means of the chosen texels in it.

    Of more than two million texels it takes every second, third, ...: there are far fewer cells.
    """
    rows = np.flatnonzero(chosen)
    rows = rows[:: 1 + len(rows) // ENOUGH]
    position, normal, colour = position[rows], normal[rows], colour[rows]
    box = np.floor((position - position.min(0)) / cell).astype(np.int64)
    octant = (normal > 0) @ np.array([1, 2, 4])
    key = ((box[:, 0] * (CELLS + 2) + box[:, 1]) * (CELLS + 2) + box[:, 2]) * 8 + octant
    _, group, count = np.unique(key, return_inverse=True, return_counts=True)
    means = [np.stack([np.bincount(group, a[:, k], len(count)) for k in range(3)], 1) / count[:, None]
             for a in (position, normal, colour)]
    means[1] /= np.maximum(np.linalg.norm(means[1], axis=1, keepdims=True), 1e-9)
    return Cells(*(m.astype(np.float32) for m in means))


def alike(normal: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How well normals f32[K,n,3] go with normals f32[K,3]: 1 if equal, 1/8 at a right angle, near 0 if opposite."""
    return ((1 + np.einsum("kd,knd->kn", normal, other)) / 2).clip(0, 1) ** 3 + 1e-6


def blend(where: Cells, cells: Cells, near: np.ndarray, cell: float) -> np.ndarray:
    """Mean colour of cells `near` i64[K,n], weighted by distance and normal."""
    away = ((where.position[:, None] - cells.position[near]) ** 2).sum(2)
    weight = alike(where.normal, cells.normal[near]) / (away + (0.3 * cell) ** 2) ** 1.5
    return np.einsum("kn,knd->kd", weight / weight.sum(1, keepdims=True), cells.colour[near]).astype(np.float32)


def spread_heat(unseen: Cells, seen: Cells, guess: np.ndarray, cell: float) -> np.ndarray:
    """Harmonic colours of the unseen cells between the seen ones; `guess` where nothing seen is linked."""
    position, normal = (np.concatenate(pair) for pair in zip(unseen.arrays[:2], seen.arrays[:2], strict=True))
    count, number = min(NEIGHBOURS + 1, len(position)), len(unseen.position)
    away, near = cKDTree(position).query(unseen.position, count)
    away, near = away.reshape(number, count), near.reshape(number, count)
    link = alike(unseen.normal, normal[near]) / (away**2 + (0.3 * cell) ** 2) * (0.3 * cell) ** 2
    link *= (near != np.arange(number)[:, None]) & (away < 4 * cell)
    rows = np.repeat(np.arange(number), count)
    graph = coo_matrix((link.ravel(), (rows, near.ravel())), shape=(number, len(position))).tocsr()
    inner, outer = graph[:, :number], graph[:, number:]
    inner = inner.maximum(inner.T)
    degree = np.asarray(inner.sum(1)).ravel() + np.asarray(outer.sum(1)).ravel() + GUESS
    solver = splu((diags(degree) - inner).tocsc())
    return solver.solve(outer @ seen.colour.astype(np.float64) + GUESS * guess)
