# SPDX-License-Identifier: Apache-2.0
"""Small test meshes with UVs, built in numpy: friendly ones, and nasty ones that a rasterizer must survive.

Each function returns the engine's four arrays; `SHAPES` names them all. World is Z up; sizes are about 2 units.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Shape(NamedTuple):
    """positions f32[V,3], triangles i32[F,3], uvs f32[U,2], triangle_uvs i32[F,3]."""

    positions: np.ndarray
    triangles: np.ndarray
    uvs: np.ndarray
    triangle_uvs: np.ndarray


def shape(positions, triangles, uvs, triangle_uvs) -> Shape:
    return Shape(
        np.asarray(positions, np.float32).reshape(-1, 3),
        np.asarray(triangles, np.int32).reshape(-1, 3),
        np.asarray(uvs, np.float32).reshape(-1, 2),
        np.asarray(triangle_uvs, np.int32).reshape(-1, 3),
    )


def grid(columns: int, rows: int, surface) -> Shape:
    """A sheet of 2·columns·rows triangles; `surface(s, t)` gives positions for s, t in 0..1; uv = inset (s, t)."""
    s, t = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1))
    s, t = s.ravel(), t.ravel()
    corner = (np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)).ravel()
    right, up = corner + 1, corner + columns + 1
    triangles = np.stack([corner, right, up + 1, corner, up + 1, up], 1).reshape(-1, 3)
    return shape(surface(s, t), triangles, np.stack([s, t], 1) * 0.94 + 0.03, triangles)


def separate_charts(positions, triangles) -> Shape:
    """Gives every triangle a chart of its own in a square grid, half a cell each, with a gap."""
    count = len(triangles)
    side = int(np.ceil(np.sqrt(count)))
    cell = np.stack([np.arange(count) % side, np.arange(count) // side], 1)[:, None]
    uvs = (cell + np.array([[0.1, 0.1], [0.9, 0.13], [0.12, 0.9]])) / side
    return shape(positions, triangles, uvs, np.arange(3 * count))


def join(*parts: Shape) -> Shape:
    """One mesh of several; their UV maps are scaled into equal cells side by side."""
    side = int(np.ceil(np.sqrt(len(parts))))
    positions, triangles, uvs, triangle_uvs, base, uv_base = [], [], [], [], 0, 0
    for i, part in enumerate(parts):
        positions.append(part.positions)
        triangles.append(part.triangles + base)
        uvs.append((part.uvs + [i % side, i // side]) / side)
        triangle_uvs.append(part.triangle_uvs + uv_base)
        base, uv_base = base + len(part.positions), uv_base + len(part.uvs)
    return shape(*(np.concatenate(x) for x in (positions, triangles, uvs, triangle_uvs)))


def quad() -> Shape:
    return grid(1, 1, lambda s, t: np.stack([2 * s - 1, 0 * s, 2 * t - 1], 1))


def cube(size=1.0, centre=(0.0, 0.0, 0.0)) -> Shape:
    """Six charts, normals outward."""
    faces = []
    for axis in range(3):
        for sign in (-1.0, 1.0):

            def face(s, t, axis=axis, sign=sign):
                u = 2 * s - 1 if sign > 0 else 1 - 2 * s
                p = np.empty((len(s), 3))
                p[:, axis], p[:, (axis + 1) % 3], p[:, (axis + 2) % 3] = sign, u, 2 * t - 1
                return p * size + centre

            faces.append(grid(1, 1, face))
    return join(*faces)


def uv_sphere(columns=24, rows=12) -> Shape:
    """With zero-area triangles at both poles, as a plain latitude-longitude grid has."""

    def surface(s, t):
        around, up = 2 * np.pi * s, np.pi * (t - 0.5)
        ring = np.where((t == 0) | (t == 1), 0.0, np.cos(up))
        return np.stack([ring * np.cos(around), ring * np.sin(around), np.sin(up)], 1)

    return grid(columns, rows, surface)


def icosphere(levels=2) -> Shape:
    """Every triangle in a chart of its own."""
    g = (1 + 5**0.5) / 2
    points = [[-1, g, 0], [1, g, 0], [-1, -g, 0], [1, -g, 0], [0, -1, g], [0, 1, g]]
    points += [[0, -1, -g], [0, 1, -g], [g, 0, -1], [g, 0, 1], [-g, 0, -1], [-g, 0, 1]]
    faces = [[0, 11, 5], [0, 5, 1], [0, 1, 7], [0, 7, 10], [0, 10, 11], [1, 5, 9], [5, 11, 4], [11, 10, 2]]
    faces += [[10, 7, 6], [7, 1, 8], [3, 9, 4], [3, 4, 2], [3, 2, 6], [3, 6, 8], [3, 8, 9], [4, 9, 5]]
    faces += [[2, 4, 11], [6, 2, 10], [8, 6, 7], [9, 8, 1]]
    positions, triangles = np.array(points, float), np.array(faces)
    for _ in range(levels):
        edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        unique, index = np.unique(edges, axis=0, return_inverse=True)
        middle = index.reshape(-1, 3) + len(positions)
        positions = np.concatenate([positions, positions[unique].mean(1)])
        a, b, c = triangles.T
        ab, bc, ca = middle.T
        triangles = np.stack([a, ab, ca, b, bc, ab, c, ca, bc, ab, bc, ca], 1).reshape(-1, 3)
    return separate_charts(positions / np.linalg.norm(positions, axis=1, keepdims=True), triangles)


def torus(columns=32, rows=16, ring=0.7, tube=0.3) -> Shape:
    def surface(s, t):
        around, across = 2 * np.pi * s, 2 * np.pi * t
        radius = ring + tube * np.cos(across)
        return np.stack([radius * np.cos(around), radius * np.sin(around), tube * np.sin(across)], 1)

    return grid(columns, rows, surface)


def cylinder(columns=24) -> Shape:
    def side(s, t):
        return np.stack([0.6 * np.cos(2 * np.pi * s), 0.6 * np.sin(2 * np.pi * s), 2 * t - 1], 1)

    def disc(height, sign):
        def surface(s, t):
            around = sign * 2 * np.pi * s
            return np.stack([0.6 * t * np.cos(around), 0.6 * t * np.sin(around), height + 0 * t], 1)

        return surface

    return join(grid(columns, 4, side), grid(columns, 2, disc(1.0, -1)), grid(columns, 2, disc(-1.0, 1)))


def l_shape() -> Shape:
    """Two boxes that touch in a face: inner faces coincide."""
    return join(cube(0.5, (-0.5, 0.0, -0.5)), cube(0.5, (0.5, 0.0, -0.5)), cube(0.5, (-0.5, 0.0, 0.5)))


def thin_fins(count=7) -> Shape:
    """Boxes 2 by 0.01 by 1 side by side: narrow gaps, thin walls."""
    parts = []
    for x in np.linspace(-0.8, 0.8, count):
        box = cube()
        parts.append(box._replace(positions=(box.positions * [0.005, 1.0, 0.5] + [x, 0, 0]).astype(np.float32)))
    return join(*parts)


def interpenetrating() -> Shape:
    turned = cube(0.6, (0.3, 0.2, 0.1))
    angle = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    return join(cube(0.6), turned._replace(positions=(turned.positions @ angle.T).astype(np.float32)))


def random_soup(count=150, seed=0) -> Shape:
    random = np.random.default_rng(seed)
    positions = random.uniform(-1, 1, (count, 1, 3)) + random.normal(0, 0.25, (count, 3, 3))
    return separate_charts(positions, np.arange(3 * count).reshape(-1, 3))


def zero_area() -> Shape:
    """A cube among triangles that are points, segments, and repeated corners; some have no area in UV only."""
    box = cube(0.7)
    random = np.random.default_rng(1)
    a, b = random.uniform(-1, 1, (2, 8, 3))
    points = np.stack([a, a, a], 1)
    segments = np.stack([a, b, (a + b) / 2], 1)
    dead = separate_charts(np.concatenate([points, segments]), np.arange(48).reshape(-1, 3))
    flat = cube(0.3, (0.0, 0.0, 0.9))
    flat = flat._replace(uvs=np.full_like(flat.uvs, 0.5))
    repeated = shape(box.positions, box.triangles[:, [0, 0, 1]], box.uvs, box.triangle_uvs)
    return join(box, dead, flat, repeated)


def duplicated() -> Shape:
    """Every triangle of a torus three times: with turned corners, and flipped, from copied vertices."""
    base = torus(16, 8)
    turned = base._replace(triangles=base.triangles[:, [1, 2, 0]], triangle_uvs=base.triangle_uvs[:, [1, 2, 0]])
    flipped = base._replace(triangles=base.triangles[:, [2, 1, 0]], triangle_uvs=base.triangle_uvs[:, [2, 1, 0]])
    return join(base, turned, flipped)


def needles(count=60) -> Shape:
    """Slivers two units long and 1e-2 to 1e-6 wide."""
    random = np.random.default_rng(2)
    direction = random.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    across = np.cross(direction, random.normal(size=(count, 3)))
    across *= 10.0 ** random.uniform(-6, -2, (count, 1)) / np.linalg.norm(across, axis=1, keepdims=True)
    centre = random.uniform(-0.3, 0.3, (count, 3))
    corners = np.stack([centre - direction, centre + direction, centre + across], 1)
    return separate_charts(corners, np.arange(3 * count).reshape(-1, 3))


def tiny() -> Shape:
    """A torus a hundred thousand times too small."""
    base = torus()
    return base._replace(positions=base.positions * np.float32(1e-5))


def huge() -> Shape:
    """A torus a hundred thousand times too large."""
    base = torus()
    return base._replace(positions=base.positions * np.float32(1e5))


def one_triangle() -> Shape:
    return separate_charts([[-0.9, 0.1, -0.8], [0.8, -0.2, -0.6], [0.1, 0.0, 0.9]], [[0, 1, 2]])


SHAPES = {
    function.__name__: function
    for function in (
        quad, cube, uv_sphere, icosphere, torus, cylinder, l_shape, thin_fins, interpenetrating, random_soup,
        zero_area, duplicated, needles, tiny, huge, one_triangle,
    )
}  # fmt: skip
