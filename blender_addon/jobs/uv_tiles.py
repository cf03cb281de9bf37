# SPDX-License-Identifier: Apache-2.0
"""Which textures a UV map asks for, and which face belongs to which: one, or one for each UDIM tile.

Several objects may have a set of textures each: "set1" is the plain texture of the first, "set2.1001" a tile of the
second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from .errors import MeshError

SLACK = 1e-4  # UVs this little across a tile's border are on it
MOST = 64     # textures in one job
FIRST, LAST = 1001, 2000  # UDIM's numbers: ten tiles in a row, a hundred rows
_AT_ONCE = 1 << 20  # faces whose corners are held in floating point
_NAME = re.compile(r"(?:set([1-9][0-9]?)(?:\.([0-9]{4}))?|([0-9]{4}))?")


@dataclass(frozen=True)
class Textures:
    """What is to be painted. `names` has "" for a plain texture, "1001" ... for UDIM tiles; of sets see `in_set`.

    `cell` i64[F] is the texture of each face as an index of `names`, -1 for faces that are not painted. `home` is UDIM's
    number of the tile in which all painted faces lie; None where they lie in several, or in one that UDIM has not.
    """

    names: tuple[str, ...]
    cell: np.ndarray
    home: int | None = None

    @property
    def whole(self) -> bool:
        """Whether it is a single texture of all faces."""
        return len(self.names) == 1 and not (self.cell < 0).any()

    @property
    def words(self) -> str:
        """What will be written, where it is more than a plain picture."""
        if self.names == ("",):
            return ""
        return f"{len(self.names)} UDIM tile{'s' if len(self.names) > 1 else ''}: {', '.join(self.names)}."


def number_of(u: int, v: int) -> int:
    """UDIM's number of the tile that (u, v) is in, both rounded down: 1001 for (0, 0), 1012 for (1, 1)."""
    return FIRST + u + 10 * v


def is_tile(text: str) -> bool:
    """Whether it is the number of a UDIM tile."""
    return text.isascii() and text.isdigit() and len(text) == 4 and FIRST <= int(text) <= LAST


def in_set(number: int, name: str) -> str:
    """A texture's name, "" or a tile's, as that of a set: "set2", "set2.1001"; 0: there are no sets."""
    if not number:
        return name
    return f"set{number}.{name}" if name else f"set{number}"


def place_of(name: str) -> tuple[int, int] | None:
    """(set, UDIM tile) that a texture's name says, 0 for none; None for what is no such name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    number, tile = int(found[1] or 0), found[2] or found[3] or ""
    return None if number > MOST or (tile and not is_tile(tile)) else (number, int(tile or 0))


def check_count(count: int) -> None:
    """Refuse more textures than a job may have. Raises MeshError."""
    if count > MOST:
        raise MeshError(f"The objects would get {count} textures; at most {MOST} can be painted in one job.",
                        "Choose fewer objects, or give some of them one layout (UV > Pack Islands).")  # fmt: skip


def sets_of(tile: np.ndarray, number: np.ndarray, mode: str = "auto", painted: np.ndarray | None = None) -> Textures:
    """The textures for faces in these tiles i64[F,2] that are of these sets i64[F], from 1; each set is as in `textures_of`.

    Raises MeshError as that does, and for more than 64 textures in all sets.
    """
    painted = np.ones(len(tile), bool) if painted is None else painted
    cell, names = np.full(len(tile), -1, np.int64), []
    for one in np.unique(number[painted]).tolist():
        rows = np.flatnonzero((number == one) & painted)
        own = textures_of(tile[rows], mode)
        cell[rows] = own.cell + len(names)
        names += [in_set(one, name) for name in own.names]
    if not names:
        return textures_of(tile, mode, painted)  # which says that nothing is painted
    check_count(len(names))
    return Textures(tuple(names), cell)


def textures_of(tile: np.ndarray, mode: str = "auto", painted: np.ndarray | None = None) -> Textures:
    """The textures for faces in these tiles i64[F,2].

    mode: what UVs outside 0-1 mean. "udim": each tile from 1001 on is a texture of its own. "repeat": one texture that
    repeats, so charts are moved back by whole tiles, where they show the same. "auto": UDIM if there are faces in
    several tiles and all tiles exist in UDIM, else repeat.
    painted: bool[F], None for all. Other faces are seen by the views, and neither take nor give texture.

    Raises MeshError for no faces to paint, tiles that UDIM has not, and more than 64 textures.
    """
    whole = np.ones(len(tile), bool) if painted is None else painted
    if not whole.any():
        raise MeshError("No face is to be painted.", "Choose a material that some face of the object uses.")
    cell = np.full(len(tile), -1, np.int64)
    cell[whole] = 0
    if not tile[whole].any() and (whole.all() or mode != "udim"):
        return Textures(("",), cell, FIRST)
    places, number = _different(tile[whole])
    real = bool(((places >= 0) & (places < [10, 100])).all())
    home = number_of(*places[0].tolist()) if real and len(places) == 1 else None
    if mode == "udim" and not real:
        bad = next(p for p in places.tolist() if not (0 <= p[0] < 10 and 0 <= p[1] < 100))
        raise MeshError(f"Some UVs lie in tile {tuple(bad)}, which UDIM has not; its tiles are 1001 and up.",
                        "Move them to the right and up in the UV editor, or set uv_tiles to repeat.")  # fmt: skip
    if mode == "repeat" or (mode == "auto" and (len(places) == 1 or not real)):
        return Textures(("",), cell, home)
    names = tuple(str(number_of(u, v)) for u, v in places.tolist())
    if len(names) > MOST:
        raise MeshError(f"The UVs use {len(names)} UDIM tiles; at most {MOST} can be painted in one job.",
                        "Paint fewer objects.")  # fmt: skip
    cell[whole] = number
    return Textures(names, cell, home)


def _different(tile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows i64[N,2] of [F,2] in the order of UDIM's numbers, and the number i64[F] of each."""
    low = tile.min(0)
    width = int(tile[:, 0].max() - low[0]) + 1
    keys, number = np.unique((tile[:, 1] - low[1]) * width + tile[:, 0] - low[0], return_inverse=True)
    return np.stack([keys % width, keys // width], 1) + low, number.reshape(-1)


def tiles_of(uvs: np.ndarray, corners: np.ndarray, painted: np.ndarray | None = None, whose: str = "") -> np.ndarray:
    """The tile i64[F,2] of each face of UVs f32[U,2], corners i32[F,3]. Raises MeshError if faces lie across borders.

    painted: bool[F], None for all; other faces may lie as they like. `whose` is said of the faces that are refused.
    """
    if not len(corners) or (uvs.min() >= 0 and uvs.max() <= 1):
        return np.zeros((len(corners), 2), np.int64)
    parts = [_tiles_of(uvs, corners[start : start + _AT_ONCE]) for start in range(0, len(corners), _AT_ONCE)]
    tile, across, edge = (np.concatenate(part) for part in zip(*parts, strict=True))
    across = across if painted is None else across & painted
    if across.any():
        share = max(100 * float(across.mean()), 0.1)
        of = f" of {whose}" if whose else ""
        raise MeshError(
            f"{share:.1f} % of the faces{of} have UVs across the border of the 0-1 square or of a tile: "
            "there the texture would have to repeat.", "In the UV editor, select all and use UV > Pack Islands, or "
            "move these islands into one tile.")  # fmt: skip
    return _without_slivers(tile, edge)


def _tiles_of(uvs: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of faces: tile i64[F,2], bool[F] across a border, and bool[F,2] if all of one lies on the lower border."""
    points = uvs[corners].astype(np.float64)
    tile = np.floor(points.mean(1)).astype(np.int64)
    inside = points - tile[:, None]
    return tile, ((inside < -SLACK) | (inside > 1 + SLACK)).any((1, 2)), (inside <= SLACK).all(1)


def _without_slivers(tile: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """Faces without area on the border of two tiles go to one that others are in: they make no texture of their own."""
    if not edge.any():
        return tile
    thin, thick = np.flatnonzero(edge.any(1)), tile[~edge.any(1)]
    full = {tuple(row) for row in _different(thick)[0].tolist()} if len(thick) else set()
    cases, number = np.unique(np.concatenate([tile[thin], edge[thin]], 1), axis=0, return_inverse=True)
    moved = [_neighbour(u, v, on_u, on_v, full) for u, v, on_u, on_v in cases.tolist()]
    out = tile.copy()
    out[thin] = np.asarray(moved)[number.reshape(-1)]
    return out


def _neighbour(u: int, v: int, on_u: int, on_v: int, full: set[tuple[int, int]]) -> tuple[int, int]:
    near = [(u - du, v - dv) for du in range(on_u + 1) for dv in range(on_v + 1)]
    return next((place for place in near if place in full), (u, v))
