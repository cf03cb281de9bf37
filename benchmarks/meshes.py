# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.meshes FOLDER [NAME ...]`: a dozen meshes to judge textures on, made from code, as .glb files.

Some come with their own UVs (strips, patches, mirrored halves), the others are unwrapped by xatlas.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from engine.finish.image import write_png
from engine.mesh import Mesh, from_arrays
from engine.mesh_io import Part, joined, save_glb, unwrapped

GAP = 0.02  # of a cell of the UV map, left free on each side of a chart


class Sheet(NamedTuple):
    """A piece of surface with one chart: positions f64[V,3], triangles i64[F,3], uvs f64[V,2] in 0..1."""

    positions: np.ndarray
    triangles: np.ndarray
    uvs: np.ndarray


def sheet(columns: int, rows: int, surface: Callable, s=(0.0, 1.0), t=(0.0, 1.0)) -> Sheet:
    """A grid over `surface(s, t) -> [V,3]`, outward where s runs right and t up as seen from outside."""
    one, other = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1))
    one, other = one.ravel(), other.ravel()
    corner = (np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)).ravel()
    right, up = corner + 1, corner + columns + 1
    triangles = np.stack([corner, right, up + 1, corner, up + 1, up], 1).reshape(-1, 3)
    points = surface(s[0] + (s[1] - s[0]) * one, t[0] + (t[1] - t[0]) * other)
    return Sheet(np.round(points, 6), triangles, np.stack([one, other], 1))


def packed(sheets: Sequence[Sheet]) -> Mesh:
    """The sheets with their charts in equal cells."""
    side = int(np.ceil(np.sqrt(len(sheets))))
    cells = [((one.uvs * (1 - 2 * GAP) + GAP) + [i % side, i // side]) / side for i, one in enumerate(sheets)]
    return from_arrays(joined([Part(str(i), one.positions, one.triangles, uvs, None)
                               for i, (one, uvs) in enumerate(zip(sheets, cells, strict=True))]))  # fmt: skip


def atlas(sheets: Sequence[Sheet]) -> Mesh:
    """The sheets unwrapped by xatlas as one mesh; corners at the same place are one."""
    return from_arrays(unwrapped([Part("mesh", *merged(sheets), None, None)], []))


def merged(sheets: Sequence[Sheet]) -> tuple[np.ndarray, np.ndarray]:
    base = np.cumsum([0] + [len(one.positions) for one in sheets])
    return (np.concatenate([one.positions for one in sheets]),
            np.concatenate([one.triangles + start for one, start in zip(sheets, base[:-1], strict=True)]))  # fmt: skip


def box(size: Sequence[float], centre: Sequence[float] = (0, 0, 0), cells: int = 2) -> list[Sheet]:
    """Six faces of a box of these edge lengths."""
    half, faces = np.asarray(size, float) / 2, []
    for axis in range(3):
        for sign in (-1.0, 1.0):

            def face(s, t, axis=axis, sign=sign):
                p = np.empty((len(s), 3))
                p[:, axis], p[:, (axis + 1) % 3], p[:, (axis + 2) % 3] = sign, sign * (2 * s - 1), 2 * t - 1
                return p * half + centre

            faces.append(sheet(cells, cells, face))
    return faces


def tube(path: Callable, radius: float, columns: int, rows: int, s=(0.0, 1.0), axis=(0.0, 0.0, 1.0)) -> Sheet:
    """A tube around `path(s) -> [n,3]`, which nowhere runs along `axis`."""

    def surface(u, v):
        step = 1e-4
        ahead = path(u + step) - path(u - step)
        ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
        side = np.cross(ahead, axis)
        side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
        turn = 2 * np.pi * v[:, None]
        return path(u) + radius * (np.cos(turn) * side + np.sin(turn) * np.cross(side, ahead))

    return sheet(columns, rows, surface, s)


def lathe(profile: Sequence[tuple[float, float]], columns: int, parts: int = 1, rows: int = 6) -> list[Sheet]:
    """A profile of (radius, height) turned around the z axis, in `parts` charts around."""
    points = np.asarray(profile, float)
    along = np.linspace(0, 1, len(points))

    def surface(s, t):
        radius, height = np.interp(t, along, points[:, 0]), np.interp(t, along, points[:, 1])
        turn = 2 * np.pi * np.where(s == 1, 0.0, s)
        return np.stack([radius * np.cos(turn), radius * np.sin(turn), height], 1)

    return [
        sheet(columns // parts, rows * (len(points) - 1), surface, (i / parts, (i + 1) / parts)) for i in range(parts)
    ]


def bumps(p: np.ndarray, waves: int, seed: int, pitch: float = 6.0) -> np.ndarray:
    """A smooth random height f64[n] of about -1..1 for points f64[n,3]."""
    random = np.random.default_rng(seed)
    direction, phase = random.normal(0, pitch, (waves, 3)), random.uniform(0, 2 * np.pi, waves)
    return np.sin(p @ direction.T + phase).sum(1) / np.sqrt(waves)


def torus_knot() -> Mesh:
    def path(s):
        a = 2 * np.pi * s
        ring = 0.62 + 0.24 * np.cos(3 * a)
        return np.stack([ring * np.cos(2 * a), ring * np.sin(2 * a), 0.3 * np.sin(3 * a)], 1)

    return atlas([tube(path, 0.13, 240, 16)])


def gear(teeth: int = 14) -> Mesh:
    angle = np.arange(4 * teeth) * 2 * np.pi / (4 * teeth)
    outer = np.where(np.arange(4 * teeth) % 4 < 2, 1.0, 0.8)
    rim = np.stack([outer * np.cos(angle), outer * np.sin(angle)], 1)
    hole = 0.35 * np.stack([np.cos(angle), np.sin(angle)], 1)
    rim, hole = np.concatenate([rim, rim[:1]]), np.concatenate([hole, hole[:1]])

    def between(a, b, low, high):
        def surface(s, t):
            i = np.rint(s * 4 * teeth).astype(int)
            flat = a[i] * (1 - t[:, None]) + b[i] * t[:, None]
            return np.concatenate([flat, (low + (high - low) * t)[:, None]], 1)

        return sheet(4 * teeth, 3, surface)

    h = 0.22
    return atlas(
        [between(rim, rim, -h, h), between(rim, hole, h, h), between(hole, hole, h, -h), between(hole, rim, -h, -h)]
    )


def vase() -> Mesh:
    profile = [(0.01, -1), (0.42, -1), (0.62, -0.55), (0.66, -0.2), (0.4, 0.35), (0.24, 0.6), (0.3, 0.85), (0.44, 1.0),
               (0.4, 1.0), (0.26, 0.84), (0.2, 0.6), (0.36, 0.35), (0.6, -0.2), (0.01, -0.9)]  # fmt: skip
    return packed(lathe(profile, 72, parts=4))


def chair() -> Mesh:
    legs = [box((0.14, 0.14, 0.9), (x, y, -0.55)) for x in (-0.4, 0.4) for y in (-0.4, 0.4)]
    slats = [box((0.16, 0.08, 0.8), (x, 0.42, 0.4)) for x in (-0.36, -0.12, 0.12, 0.36)]
    parts = [box((1.0, 1.0, 0.14), (0, 0, -0.06)), box((1.0, 0.12, 0.18), (0, 0.42, 0.86)), *legs, *slats]
    return atlas([face for part in parts for face in part])


def terrain() -> Mesh:
    def ground(s, t):
        flat = np.stack([2 * s - 1, 2 * t - 1, 0 * s], 1)
        return flat + np.array([0, 0, 0.16]) * bumps(flat, 12, 3, 4.0)[:, None]

    return packed([sheet(120, 120, ground)])


def spiky_ball() -> Mesh:
    faces = cube_sphere(24, 1)
    grown = []
    for one in faces:
        p = one.positions
        height = np.maximum(np.prod(np.cos(4.5 * p), axis=1), 0) ** 2
        grown.append(one._replace(positions=np.round(p * (0.65 + 0.5 * height[:, None]), 6)))
    return atlas(grown)


def spring() -> Mesh:
    def path(s):
        a = 2 * np.pi * 4 * s
        return np.stack([0.6 * np.cos(a), 0.6 * np.sin(a), 1.7 * s - 0.85], 1)

    parts = [tube(path, 0.14, 60, 14, (i / 8, (i + 1) / 8)) for i in range(8)]
    return packed([part for part in parts])


def cube_sphere(cells: int, patches: int) -> list[Sheet]:
    """A unit sphere of 6 x patches^2 charts with cells^2 squares each."""
    faces = []
    for axis in range(3):
        for sign in (-1.0, 1.0):

            def face(s, t, axis=axis, sign=sign):
                p = np.empty((len(s), 3))
                a, b = np.tan(np.pi / 4 * (2 * s - 1)), np.tan(np.pi / 4 * (2 * t - 1))
                p[:, axis], p[:, (axis + 1) % 3], p[:, (axis + 2) % 3] = sign, sign * a, b
                return p / np.linalg.norm(p, axis=1, keepdims=True)

            steps = np.arange(patches + 1) / patches
            faces += [sheet(cells, cells, face, (steps[i], steps[i + 1]), (steps[j], steps[j + 1]))
                      for i in range(patches) for j in range(patches)]  # fmt: skip
    return faces


def rock() -> Mesh:
    """209,952 triangles, 54 charts."""
    grown = []
    for one in cube_sphere(44, 3):
        p = one.positions
        height = 0.1 * bumps(p, 10, 1, 3.0) + 0.03 * bumps(p, 40, 2, 14.0)
        grown.append(one._replace(positions=np.round(p * (0.85 + height[:, None]), 6)))
    return packed(grown)


def mirrored() -> Mesh:
    """A mask whose halves use the same UVs."""

    def half(s, t):
        turn, rise = np.pi / 2 * s, np.pi * (0.06 + 0.88 * t) - np.pi / 2
        p = np.stack([np.sin(turn) * np.cos(rise), -np.cos(turn) * np.cos(rise), np.sin(rise)], 1)
        p *= 1 + 0.1 * np.cos(6 * turn)[:, None] * np.cos(3 * rise)[:, None]
        return p * [0.8, 0.5, 1.0]

    right = sheet(40, 60, half)
    back = sheet(40, 60, lambda s, t: half(1 - s, t) * [1, -0.6, 1])
    both = []
    for one in (right, back):
        mirror = one._replace(positions=one.positions * [-1, 1, 1], triangles=one.triangles[:, ::-1])
        both.append((one, mirror))
    parts = []
    for i, (one, mirror) in enumerate(both):
        uvs = (one.uvs * 0.96 + 0.02) * [0.5, 1] + [0.5 * i, 0]
        parts += [
            Part("a", one.positions, one.triangles, uvs, None),
            Part("b", mirror.positions, mirror.triangles, uvs, None),
        ]
    return from_arrays(joined(parts))


def cup() -> Mesh:
    profile = [
        (0.01, -0.7),
        (0.55, -0.7),
        (0.6, -0.2),
        (0.62, 0.7),
        (0.55, 0.7),
        (0.53, -0.2),
        (0.48, -0.6),
        (0.01, -0.6),
    ]

    def handle(s):
        a = np.pi * (s - 0.5)
        return np.stack([0.58 + 0.42 * np.cos(a), 0 * a, 0.42 * np.sin(a)], 1)

    return packed([*lathe(profile, 64, parts=4), tube(handle, 0.09, 40, 12, axis=(0.0, 1.0, 0.0))])


def fins() -> Mesh:
    """A heat sink: nine thin plates on a base, deep gaps between them."""
    plates = [box((0.06, 1.4, 0.7), (x, 0, 0.2), 4) for x in np.linspace(-0.7, 0.7, 9)]
    return atlas([face for part in [box((1.6, 1.5, 0.2), (0, 0, -0.25), 4), *plates] for face in part])


MESHES: dict[str, Callable[[], Mesh]] = {
    function.__name__: function
    for function in (torus_knot, gear, vase, chair, terrain, spiky_ball, spring, rock, mirrored, cup, fins)
}


def sphere() -> Mesh:
    return packed(cube_sphere(24, 1))


MESHES["sphere"] = sphere


def write(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Write the named meshes (all of them if none is named) that are not there yet. Returns their files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name in names or MESHES:
        path = folder / f"{name}.glb"
        files.append(path)
        if not path.exists():
            with TemporaryDirectory() as scratch:
                grey = Path(scratch) / "grey.png"
                write_png(grey, np.full((4, 4, 3), 0.5, np.float32))
                save_glb(path, MESHES[name](), grey)
    return files


if __name__ == "__main__":
    for file in write(Path(sys.argv[1]), sys.argv[2:]):
        print(file)
