# SPDX-License-Identifier: Apache-2.0
"""A mesh with a real UV map from nothing but arithmetic, for the demo where there is no Blender."""

from __future__ import annotations

import math
from pathlib import Path


def write_ring(file: Path, around: int = 96, across: int = 48, radius: float = 1.0, thickness: float = 0.42) -> Path:
    """Write a torus in the XY plane as a Wavefront OBJ: around x across quads, one UV chart that fills the square."""
    lines = ["# Tweed demo ring"]
    for i in range(around):
        a = 2 * math.pi * i / around
        for j in range(across):
            b = 2 * math.pi * j / across
            r = radius + thickness * math.cos(b)
            x, y, z = r * math.cos(a), r * math.sin(a), thickness * math.sin(b)
            lines.append(f"v {x:.6f} {z:.6f} {-y:.6f}")  # OBJ files are Y up
    for i in range(around + 1):
        lines += [f"vt {i / around:.6f} {j / across:.6f}" for j in range(across + 1)]
    for i in range(around):
        for j in range(across):
            corners = []
            for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1)):
                vertex = (i + di) % around * across + (j + dj) % across + 1
                corners.append(f"{vertex}/{(i + di) * (across + 1) + j + dj + 1}")
            lines.append("f " + " ".join(corners))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
