# SPDX-License-Identifier: Apache-2.0
"""Several textures of one mesh laid side by side, so that everything else knows a single UV square.

UDIM tiles, the textures of several objects, and faces that are seen but not painted, each get a cell of one square. The
maps of the denoising loop work on that square; only the finish asks for the windows, and makes one texture for each
that is painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from blender_addon.jobs.arrays import MeshArrays
from blender_addon.jobs.uv_tiles import place_of, sets_of, textures_of, tiles_of
from engine.mesh import Mesh, check_indices

MARGIN = 0.02  # of a cell on each side, so that the borders of charts in neighbouring cells stay apart


@dataclass(frozen=True)
class Window:
    """Where a texture's UV square lies in the common one: `common = (local - shift) / scale`."""

    name: str                   # "" for a plain texture, "1001" ... for a UDIM tile; of sets see `uv_tiles.in_set`
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    @property
    def number(self) -> int:
        """Of the set of textures that it is in, from 1; 0 where there are none."""
        place = place_of(self.name)
        return place[0] if place else 0

    def local(self, uvs: np.ndarray) -> np.ndarray:
        """UVs [...,2] of the common square as the texture's own, in the same dtype."""
        return (uvs * np.float64(self.scale) + np.asarray(self.shift)).astype(uvs.dtype)

    def common(self, uvs: np.ndarray) -> np.ndarray:
        """UVs f64[...,2] of the texture as those of the common square: the reverse of `local`."""
        return (uvs - np.asarray(self.shift)) / self.scale

    def holds(self, mesh: Mesh) -> np.ndarray:
        """bool[F]: the faces that this texture is of."""
        if self.scale == 1.0:
            return np.ones(len(mesh.triangle_uvs), bool)
        middle = self.local(mesh.uvs[mesh.triangle_uvs].astype(np.float64).mean(1))
        return ((middle > -MARGIN) & (middle < 1 + MARGIN)).all(1)  # neighbouring cells are farther away than twice that

    def of(self, mesh: Mesh) -> Mesh:
        """The mesh with this texture's own UVs; faces of other textures lie outside its 0-1 square."""
        return mesh if self.scale == 1.0 else replace(mesh, uvs=self.local(mesh.uvs))


PLAIN = (Window(""),)


def share_of(windows: Sequence[Window]) -> float:
    """The part 0..1 of the common UV square that is these textures'."""
    return sum(window.scale**-2 for window in windows)


def lay_out(arrays: MeshArrays, mode: str = "auto", painted: np.ndarray | None = None,
            sets: np.ndarray | None = None) -> tuple[MeshArrays, tuple[Window, ...]]:  # fmt: skip
    """The mesh with UVs in one square, and the windows of the textures to be painted: those of `uv_tiles.textures_of`.

    painted: bool[F], None for all. Other faces are seen by the views, and neither take nor give texture.
    sets: i64[F] the set of textures that a face takes part in, from 1; None: all faces are in one.

    Raises MeshError for faces across the border of a tile, tiles that UDIM has not, and more than 64 textures.
    """
    uvs, corners = arrays.uvs, arrays.triangle_uvs
    if len(corners) == 0 or len(uvs) == 0 or not np.isfinite(uvs).all() or len(corners) != len(arrays.triangles):
        return arrays, PLAIN  # the mesh's own checks say what is wrong
    check_indices(corners, len(uvs), "UV point")
    tile = tiles_of(uvs, corners, painted)
    textures = textures_of(tile, mode, painted) if sets is None else sets_of(tile, sets, mode, painted)
    if textures.whole and textures.names == ("",) and not tile.any():
        return arrays, PLAIN
    return placed(arrays, tile, textures.cell, textures.names)


def placed(arrays: MeshArrays, tile: np.ndarray, cell: np.ndarray, names: Sequence[str]) -> tuple[MeshArrays, tuple[Window, ...]]:
    """Faces of cell i64[F] moved from their tile i64[F,2] into their cell; -1: into one more, of which there is no window."""
    count = len(names) + bool((cell < 0).any())
    if count == 1:
        side, margin = 1, 0.0
    else:
        side, margin = int(np.ceil(np.sqrt(count))), MARGIN
    cell = np.where(cell < 0, count - 1, cell)
    shrink = (1 - 2 * margin) / side
    keys, point = np.unique(np.stack([arrays.triangle_uvs.reshape(-1).astype(np.int64), np.repeat(cell, 3),
                                      *np.repeat(tile, 3, 0).T], 1), axis=0, return_inverse=True)  # fmt: skip
    local = np.clip(arrays.uvs[keys[:, 0]].astype(np.float64) - keys[:, 2:], 0, 1)
    corner = np.stack([keys[:, 1] % side, keys[:, 1] // side], 1)
    uvs = ((corner + margin) / side + local * shrink).astype(np.float32)
    windows = tuple(Window(name, 1 / shrink, (-(i % side + margin) / side / shrink, -(i // side + margin) / side / shrink))
                    if side > 1 else Window(name) for i, name in enumerate(names))  # fmt: skip
    return replace(arrays, uvs=uvs, triangle_uvs=point.reshape(-1, 3).astype(np.int32)), windows
