# SPDX-License-Identifier: Apache-2.0
"""Colours for texels that no view sees, from their neighbours on the surface, never from neighbours in the UV map.

The surface is thinned to cells of about 1/200 of the object's size. Colours spread over the unseen cells like heat
between seen ones (a harmonic fill: no patches, no edges), along links that prefer equal normals, so that the two
sides of a thin wall stay apart. Then each unseen texel blends the cells around it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from engine.raster.jit import thread_count

CELLS = 200         # cells along the diagonal of the object
NEIGHBOURS = 8
GUESS = 1e-3        # pull of the nearest seen colours: they decide beyond about 16 cells from the border
GREY = 0.5
TEXELS = 2**18      # at a time
ENOUGH = 2_000_000  # known texels

Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Some texels: position f32[K,3] and normal f32[K,3] in the world, colour f32[K,3], known bool[K]."""


def fill_unseen(position: np.ndarray, normal: np.ndarray, colour: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Colours f32[M,3] with every texel that is not `known` bool[M] filled. position, normal: f32[M,3] world."""
    if known.all():
        return colour
    values = (position, normal, colour, known)
    parts = (tuple(array[first : first + TEXELS] for array in values) for first in range(0, len(known), TEXELS))
    filler = Filler.of(parts, position.min(0), position.max(0), 1 + len(known) // ENOUGH)
    out, lost = colour.copy(), np.flatnonzero(~known)
    for first in range(0, len(lost), TEXELS):
        rows = lost[first : first + TEXELS]
        out[rows] = filler.colours(position[rows], normal[rows])
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


@dataclass(frozen=True)
class Filler:
    """The surface thinned to cells, every one with a colour. `cells` is None where nothing was known."""

    cells: Cells | None
    cell: float
    tree: cKDTree | None

    @classmethod
    def of(cls, parts: Iterable[Part], low: np.ndarray, high: np.ndarray, every: int = 1) -> Filler:
        """From all texels, a part at a time; low, high: f32[3] corners of their bounding box in the world.

        every: of the known ones it takes each so-many-th; there are far fewer cells than texels.
        """
        corners = np.asarray([low, high], np.float64)
        # float32 positions far from the origin know no finer cells; a single point needs some cell
        cell = max(float(np.linalg.norm(corners[1] - corners[0])) / CELLS, 1e-6 * float(np.abs(corners).max()), 1e-15)
        sums: tuple[list, list] = ([], [])
        for position, normal, colour, known in parts:
            for chosen, into in zip((np.flatnonzero(known)[::every], np.flatnonzero(~known)), sums, strict=True):
                if len(chosen):
                    into.append(thin(position[chosen], normal[chosen], colour[chosen], low, cell))
        if not sums[0]:
            return cls(None, cell, None)
        seen = means(sums[0])
        if not sums[1]:
            return cls(seen, cell, cKDTree(seen.position))
        unseen = means(sums[1])
        near = nearest(cKDTree(seen.position), unseen.position, min(NEIGHBOURS, len(seen.position)))
        guess = blend(unseen, seen, near, cell)
        unseen.colour[:] = spread_heat(unseen, seen, guess, cell)
        both = Cells(*(np.concatenate([a, b]) for a, b in zip(seen.arrays, unseen.arrays, strict=True)))
        return cls(both, cell, cKDTree(both.position))

    def colours(self, position: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Colours f32[K,3] at position, normal f32[K,3], blended from the cells around; grey where nothing was known."""
        if self.cells is None:
            return np.full((len(position), 3), GREY, np.float32)
        near = nearest(self.tree, position, min(NEIGHBOURS, len(self.cells.position)))
        return blend(Cells(position, normal, position), self.cells, near, self.cell)


def nearest(tree: cKDTree, points: np.ndarray, count: int) -> np.ndarray:
    """The `count` nearest of the tree's points, i64[K,count]."""
    return tree.query(points, count, workers=thread_count())[1].reshape(len(points), count)


def thin(position: np.ndarray, normal: np.ndarray, colour: np.ndarray, low: np.ndarray, cell: float) -> np.ndarray:
    """Sums over the texels in each occupied box of side `cell` and octant of the normal: f64[K,11] of key, position,
    normal, colour, count. Positions are summed from `low`, so that huge coordinates keep their digits."""
    offset = position - np.asarray(low, np.float64)
    box = np.floor(offset / cell).astype(np.int64)
    octant = (normal > 0) @ np.array([1, 2, 4])
    key = ((box[:, 0] * (CELLS + 2) + box[:, 1]) * (CELLS + 2) + box[:, 2]) * 8 + octant
    values = np.concatenate([offset + low, normal, colour, np.ones((len(key), 1))], 1)
    return added(key, values)


def added(key: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rows of equal key added up: f64[K,1+C], the key first."""
    keys, group = np.unique(key, return_inverse=True)
    sums = [np.bincount(group.reshape(-1), values[:, k], len(keys)) for k in range(values.shape[1])]
    return np.stack([keys.astype(np.float64), *sums], 1)


def means(sums: list[np.ndarray]) -> Cells:
    """The cells of the sums of all parts."""
    rows = np.concatenate(sums)
    total = added(rows[:, 0].astype(np.int64), rows[:, 1:])[:, 1:]
    position, normal, colour = (total[:, k : k + 3] / total[:, 9:] for k in (0, 3, 6))
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    return Cells(*(a.astype(np.float32) for a in (position, normal, colour)))


def alike(normal: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How well normals f32[K,n,3] go with normals f32[K,3]: 1 if equal, 1/8 at a right angle, near 0 if opposite."""
    return ((1 + np.einsum("kd,knd->kn", normal, other)) / 2).clip(0, 1) ** 3 + 1e-6


def blend(where: Cells, cells: Cells, near: np.ndarray, cell: float) -> np.ndarray:
    """Mean colour of cells `near` i64[K,n], weighted by distance and normal."""
    away = ((where.position[:, None] - cells.position[near]) ** 2).sum(2)
    weight = alike(where.normal, cells.normal[near]) / (away / cell**2 + 0.09) ** 1.5
    return np.einsum("kn,knd->kd", weight / weight.sum(1, keepdims=True), cells.colour[near]).astype(np.float32)


def spread_heat(unseen: Cells, seen: Cells, guess: np.ndarray, cell: float) -> np.ndarray:
    """Harmonic colours of the unseen cells between the seen ones; `guess` where nothing seen is linked."""
    position, normal = (np.concatenate(pair) for pair in zip(unseen.arrays[:2], seen.arrays[:2], strict=True))
    count, number = min(NEIGHBOURS + 1, len(position)), len(unseen.position)
    away, near = cKDTree(position).query(unseen.position, count, workers=thread_count())
    away, near = away.reshape(number, count), near.reshape(number, count)
    link = alike(unseen.normal, normal[near]) / ((away / cell) ** 2 + 0.09) * 0.09
    link *= (near != np.arange(number)[:, None]) & (away < 4 * cell)
    rows = np.repeat(np.arange(number), count)
    graph = coo_matrix((link.ravel(), (rows, near.ravel())), shape=(number, len(position))).tocsr()
    inner, outer = graph[:, :number], graph[:, number:]
    inner = inner.maximum(inner.T)
    degree = np.asarray(inner.sum(1)).ravel() + np.asarray(outer.sum(1)).ravel() + GUESS
    solver = splu((diags(degree) - inner).tocsc())
    return solver.solve(outer @ seen.colour.astype(np.float64) + GUESS * guess)
