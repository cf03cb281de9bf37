# SPDX-License-Identifier: Apache-2.0
"""Several textures of one mesh laid side by side, so that everything else knows a single UV square.

UDIM tiles, and faces that are seen but not painted, each get a cell of one square. The maps of the denoising loop work
on that square; only the finish asks for the windows, and makes one texture for each that is painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from blender_addon.jobs.arrays import MeshArrays
from blender_addon.jobs.errors import MeshError
from engine.mesh import Mesh, check_indices

SLACK = 1e-4   # UVs this little across a tile's border are on it
MARGIN = 0.02  # of a cell on each side, so that the borders of charts in neighbouring cells stay apart
MOST = 64      # textures in one job


@dataclass(frozen=True)
class Window:
    """Where a texture's UV square lies in the common one: `common = (local - shift) / scale`."""

    name: str                   # "" for a plain texture, "1001" ... for a UDIM tile
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def local(self, uvs: np.ndarray) -> np.ndarray:
        """UVs [...,2] of the common square as the texture's own, in the same dtype."""
        return (uvs * np.float64(self.scale) + np.asarray(self.shift)).astype(uvs.dtype)

    def of(self, mesh: Mesh) -> Mesh:
        """The mesh with this texture's own UVs; faces of other textures lie outside its 0-1 square."""
        return mesh if self.scale == 1.0 else replace(mesh, uvs=self.local(mesh.uvs))


PLAIN = (Window(""),)


def lay_out(arrays: MeshArrays, mode: str = "auto", painted: np.ndarray | None = None) -> tuple[MeshArrays, tuple[Window, ...]]:
    """The mesh with UVs in one square, and the windows of the textures to be painted.

    mode: what UVs outside 0-1 mean. "udim": each tile from 1001 on is a texture of its own. "repeat": one texture that
    repeats, so charts are moved back by whole tiles, where they show the same. "auto": UDIM if there are faces in
    several tiles and all tiles exist in UDIM, else repeat.
    painted: bool[F], None for all. Other faces are seen by the views, and neither take nor give texture.

    Raises MeshError for faces across the border of a tile, tiles that UDIM has not, and more than 64 textures.
    """
    uvs, corners = arrays.uvs, arrays.triangle_uvs
    if len(corners) == 0 or len(uvs) == 0 or not np.isfinite(uvs).all() or len(corners) != len(arrays.triangles):
        return arrays, PLAIN  # the mesh's own checks say what is wrong
    check_indices(corners, len(uvs), "UV point")
    whole = np.ones(len(corners), bool) if painted is None else painted
    tile = tiles_of(uvs, corners)
    places, number = np.unique(tile[whole], axis=0, return_inverse=True) if whole.any() else (tile[:0], tile[:0, 0])
    if not len(places):
        raise MeshError("No face is to be painted.", "Choose a material that some face of the object uses.")
    if len(places) == 1 and not places.any() and whole.all():
        return arrays, PLAIN
    real = bool(((places >= 0) & (places < [10, 100])).all())
    if mode == "udim" and not real:
        bad = next(p for p in places.tolist() if not (0 <= p[0] < 10 and 0 <= p[1] < 100))
        raise MeshError(f"Some UVs lie in tile {tuple(bad)}, which UDIM has not; its tiles are 1001 and up.",
                        "Move them to the right and up in the UV editor, or set uv_tiles to repeat.")
    if mode == "repeat" or (mode == "auto" and (len(places) == 1 or not real)):
        places, number = np.zeros((1, 2), np.int64), np.zeros(len(number), np.int64)
        names = [""]
    else:
        names = [str(1001 + u + 10 * v) for u, v in places.tolist()]
    if len(names) > MOST:
        raise MeshError(f"The UVs use {len(names)} UDIM tiles; at most {MOST} can be painted in one job.", "Paint fewer objects.")
    cell = np.full(len(corners), -1, np.int64)
    cell[whole] = number.reshape(-1)
    return placed(arrays, tile, cell, names)


def tiles_of(uvs: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The tile i64[F,2] of each face of UVs f32[U,2], corners i32[F,3]. Raises MeshError if faces lie across borders."""
    points = uvs[corners].astype(np.float64)
    tile = np.floor(points.mean(1)).astype(np.int64)
    inside = points - tile[:, None]
    across = ((inside < -SLACK) | (inside > 1 + SLACK)).any((1, 2))
    if across.any():
        share = max(100 * float(across.mean()), 0.1)
        raise MeshError(
            f"{share:.1f} % of the faces have UVs across the border of the 0-1 square or of a tile: there the texture "
            "would have to repeat.", "In the UV editor, select all and use UV > Pack Islands, or move these islands "
            "into one tile.")  # fmt: skip
    return tile


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
