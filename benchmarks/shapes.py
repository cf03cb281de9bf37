# SPDX-License-Identifier: Apache-2.0
"""Meshes for the benchmarks, made in numpy."""

from __future__ import annotations

import numpy as np

from engine.mesh import Mesh, corner_normals


def bumpy_torus(columns: int, rows: int) -> Mesh:
    """A torus of 2 x columns x rows triangles with bumps, one chart, UVs inside 0..1."""
    u, v = np.meshgrid(np.arange(columns + 1) / columns, np.arange(rows + 1) / rows, indexing="ij")
    a, b = 2 * np.pi * u, 2 * np.pi * v
    radius = 0.3 + 0.02 * np.sin(24 * a) * np.sin(10 * b)
    around = 0.7 + radius * np.cos(b)
    positions = np.stack([around * np.cos(a), around * np.sin(a), radius * np.sin(b)], -1).reshape(-1, 3).astype(np.float32)
    uvs = (np.stack([u, v], -1).reshape(-1, 2) * 0.98 + 0.01).astype(np.float32)
    i, j = (grid.ravel() for grid in np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij"))
    corner = i * (rows + 1) + j
    triangles = np.concatenate([
        np.stack([corner, corner + rows + 1, corner + rows + 2], 1), np.stack([corner, corner + rows + 2, corner + 1], 1)
    ]).astype(np.int32)  # fmt: skip
    return Mesh(positions, triangles, uvs, triangles, corner_normals(positions, triangles))
