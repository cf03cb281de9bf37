# SPDX-License-Identifier: Apache-2.0
"""The soft border inside a region of a surface: how far each texel is from what must not change."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.ndimage import binary_dilation
from scipy.spatial import cKDTree

from engine.mesh import Mesh
from engine.raster.texels import TexelMap

CELLS = 128  # along the object's longest side at most, for finding the texels near a border
LARGEST = 4.0  # texels larger than this many median ones count as this large: slivers of a chart are no measure
# 6 sides and 8 corners of a cube: every normal is within 28 degrees of one of them
FACING = np.array([d for d in product((-1, 0, 1), repeat=3) if np.abs(d).sum() in (1, 3)], np.float64)
FACING /= np.linalg.norm(FACING, axis=1, keepdims=True)
OPPOSITE = -0.5  # cosine to a facing: below -0.88 on the other side of a thin sheet, above -0.47 round a right angle


def feathered(weights: np.ndarray, texels: TexelMap, mesh: Mesh, width: float) -> np.ndarray:
    """Weights f32[M] in 0..1 that rise from 0 at the region's border to `weights` at `width` texels inside.

    The distance is taken on the surface (through space, to texels outside that do not face away), so a cut between two
    charts is no border and the two sides of a thin sheet do not touch. 0 gives the weights as they are.
    """
    if width <= 0:
        return weights
    away = border_distance(weights <= 0, texels, mesh, width)
    t = np.clip((away - 0.5) / width, 0, 1)
    return (weights * t * t * (3 - 2 * t)).astype(np.float32)


def border_distance(outside: np.ndarray, texels: TexelMap, mesh: Mesh, most: float) -> np.ndarray:
    """Distance f64[M], in texels, to the nearest texel `outside` bool[M]; infinite beyond about `most`, 0 outside."""
    away = np.where(outside, 0.0, np.inf)
    if not outside.any() or outside.all():
        return away
    size = texel_sizes(texels, mesh)
    reach = (most + 1) * float(size[~outside].max())
    near = near_border(texels.position, outside, reach)
    facing = np.argmax(texels.normal @ FACING.T, 1)
    for number in np.unique(facing[near & ~outside]):
        rows = np.flatnonzero(near & ~outside & (facing == number))
        pool = np.flatnonzero(near & outside)
        pool = pool[texels.normal[pool] @ FACING[number] > OPPOSITE]
        if len(pool):
            found, _ = cKDTree(texels.position[pool]).query(texels.position[rows], distance_upper_bound=reach)
            away[rows] = found / size[rows]
    return away


def texel_sizes(texels: TexelMap, mesh: Mesh) -> np.ndarray:
    """Side f64[M] of each texel on the surface, in world units."""
    a, b, c = mesh.positions[mesh.triangles].astype(np.float64).transpose(1, 0, 2)
    world = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    first, second, third = mesh.uvs[mesh.triangle_uvs].astype(np.float64).transpose(1, 0, 2)
    one, other = second - first, third - first
    square = np.abs(one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]) * texels.size**2
    side = np.sqrt(world / np.maximum(square, 1e-12))[texels.triangle]
    return np.minimum(side, LARGEST * np.median(side))


def near_border(position: np.ndarray, outside: np.ndarray, reach: float) -> np.ndarray:
    """bool[M]: points f32[M,3] that may lie within `reach` of one of the other kind."""
    low, high = position.min(0).astype(np.float64), position.max(0).astype(np.float64)
    cell = max(reach, float((high - low).max()) / CELLS, 1e-12)
    place = tuple(((position - low) / cell).astype(np.int64).T)
    shape = tuple(((high - low) / cell).astype(np.int64) + 1)
    near = np.zeros(len(position), bool)
    for kind in (outside, ~outside):
        grid = np.zeros(shape, bool)
        grid[tuple(axis[kind] for axis in place)] = True
        near |= ~kind & binary_dilation(grid, np.ones((3, 3, 3)))[place]
    return near
