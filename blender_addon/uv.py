# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions about a UV map, in numpy: has it changed, which part of a texture does it use, do parts share texture?"""

import zlib
from collections.abc import Iterable

import numpy as np

from .jobs.errors import SettingsError

GRID = 256  # cells per side of the sampling grid: 0.0015 % of the texture each
_JITTER = (0.5 + 0.137, 0.5 - 0.213)  # sample points off every grid line, so that shared edges count once
_CHUNK = 2_000_000  # candidate samples held in memory at once


def chosen(obj, name: str) -> str:
    """The name of the UV map that is painted: `name` if it is not empty, else the active one. Raises SettingsError."""
    layers = obj.data.uv_layers
    if name and name not in layers:
        there = ", ".join(layer.name for layer in layers)
        raise SettingsError(f"'{obj.name}' has no UV map named '{name[:60]}' (uv_map); it has: {there}.",
                            "Choose one of these, or leave UV Map empty for the active one.", key="uv_map")  # fmt: skip
    return name or layers.active.name


def fingerprint(uvs: np.ndarray) -> dict[str, int]:
    """Loop count and CRC-32 of a UV layer, f32[L,2]: equal exactly when the layer is the same."""
    uvs = np.ascontiguousarray(uvs, np.float32)
    return {"loops": len(uvs), "crc": zlib.crc32(uvs)}


def coverages(uvs: np.ndarray, triangle_uvs: np.ndarray, tile: np.ndarray, cell: np.ndarray) -> dict[int, np.ndarray]:
    """`coverage` of each texture, by its number. tile i64[F,2] and cell i64[F], -1 for none: see `jobs.uv_tiles`."""
    if not tile.any() and not cell.any():
        return {0: coverage(uvs, triangle_uvs)}
    found = {}
    for number in np.unique(cell[cell >= 0]).tolist():
        own = cell == number
        local = (uvs[triangle_uvs[own]] - tile[own, None]).astype(np.float32).reshape(-1, 2)
        found[number] = coverage(local, np.arange(len(local), dtype=np.int32).reshape(-1, 3))
    return found


def coverage(uvs: np.ndarray, triangle_uvs: np.ndarray, grid: int = GRID) -> np.ndarray:
    """How many triangles cover each sample point of a grid over the 0-1 square, i32[grid, grid] (row 0 at v = 0)."""
    count = np.zeros(grid * grid, np.int32)
    finite = np.clip(np.nan_to_num(uvs, posinf=2, neginf=-1), -1, 2) * grid - np.float32(_JITTER)
    low = np.full((len(triangle_uvs), 2), grid, np.int32)
    high = np.full((len(triangle_uvs), 2), -1, np.int32)
    for axis in (0, 1):
        a, b, c = (finite[triangle_uvs[:, k], axis] for k in range(3))
        low[:, axis] = np.maximum(np.ceil(np.minimum(np.minimum(a, b), c)), 0)
        high[:, axis] = np.minimum(np.floor(np.maximum(np.maximum(a, b), c)), grid - 1)
    some = np.flatnonzero((high >= low).all(axis=1))
    size = (high[some] - low[some] + 1).astype(np.int64)
    area = size.prod(axis=1)
    for part in np.split(np.arange(len(some)), _cuts(area)):
        _sample(count, finite, triangle_uvs[some[part]], low[some[part]], size[part], area[part], grid)
    return count.reshape(grid, grid)


def _cuts(area: np.ndarray) -> np.ndarray:
    """Where to split a list of triangles so that each part has about _CHUNK samples."""
    parts = np.cumsum(area) // _CHUNK
    return np.flatnonzero(np.diff(parts)) + 1


def _sample(count, uvs, corners, low, size, area, grid) -> None:
    owner = np.repeat(np.arange(len(area)), area)
    within = np.arange(area.sum()) - np.repeat(np.cumsum(area) - area, area)
    x = low[owner, 0] + within % size[owner, 0]
    y = low[owner, 1] + within // size[owner, 0]
    a, b, c = (uvs[corners[:, k]].astype(np.float64)[owner] for k in range(3))
    edges = [
        (q[:, 0] - p[:, 0]) * (y - p[:, 1]) - (q[:, 1] - p[:, 1]) * (x - p[:, 0]) for p, q in ((a, b), (b, c), (c, a))
    ]
    hit = np.logical_and.reduce([e > 0 for e in edges]) | np.logical_and.reduce([e < 0 for e in edges])
    np.add(count, np.bincount(y[hit] * grid + x[hit], minlength=grid * grid), out=count, casting="unsafe")


def overlap_share(counts: Iterable[np.ndarray]) -> float:
    """Share of the covered samples (0..1) of textures that more than one triangle covers."""
    counts = list(counts)
    covered = sum(np.count_nonzero(count) for count in counts)
    return sum(np.count_nonzero(count > 1) for count in counts) / covered if covered else 0.0
