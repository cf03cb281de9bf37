# SPDX-License-Identifier: GPL-3.0-or-later
"""Which objects share textures: all of them one set, or each a set of its own. In numpy; objects are asked their name only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from . import uv
from .jobs import uv_tiles
from .jobs.errors import MeshError

_SHARED_TOLD = 0.005  # share of doubly covered texture that is worth a remark
_SHARED_BETWEEN = 0.001  # the same between two objects, which can have no common texture then
_REMEDY = "Set Textures (in Output) to Each, or give them one layout: select all, Edit Mode, UV > Pack Islands."


@dataclass(frozen=True)
class Atlas:
    """The sets of textures of a job: for each the objects (by index) that have it, and what its textures are.

    The `cell` of a set's textures is of the faces of its objects, one after the other. Where there are several sets, an
    object without painted faces is in none. `painted` bool[F] is of all faces of all objects.
    """

    sets: tuple[tuple[int, ...], ...]
    textures: tuple[uv_tiles.Textures, ...]
    painted: np.ndarray

    def number(self, index: int) -> int:
        """Of an object's set, from 1; 0 where there is only one, or the object is in none."""
        if len(self.sets) == 1:
            return 0
        return next((k + 1 for k, members in enumerate(self.sets) if index in members), 0)


@dataclass(frozen=True)
class _Part:
    """An object's mesh with what is painted of it: tile i64[F,2], painted bool[F]."""

    name: str
    mesh: object
    tile: np.ndarray
    painted: np.ndarray
    known: list  # (cell, counts): what was counted last


def atlas_of(objects, meshes, chosen, mode: str, wish: str) -> tuple[Atlas, list[str]]:
    """The textures that these UVs ask for, and remarks on shared ones. Raises MeshError for what no texture can serve.

    meshes: MeshArrays of each object. chosen: for each the slots that are painted, or None. mode, wish: the settings
    `uv_tiles` and `atlas`.
    """
    painted = [
        np.ones(len(mesh.triangles), bool) if wanted is None else np.isin(mesh.materials, sorted(wanted))
        for mesh, wanted in zip(meshes, chosen, strict=True)
    ]
    parts = [
        _Part(obj.name, mesh, uv_tiles.tiles_of(mesh.uvs, mesh.triangle_uvs, paint, f"'{obj.name}'"), paint, [])
        for obj, mesh, paint in zip(objects, meshes, painted, strict=True)
    ]
    bearing = [index for index, part in enumerate(parts) if part.painted.any()]
    sets, remarks = (tuple(range(len(parts))),), []
    if wish == "each" and len(bearing) > 1:
        sets = tuple((index,) for index in bearing)
    elif wish == "auto" and len(bearing) > 1 and _clash(parts, _textures(parts, mode)):
        sets = tuple((index,) for index in bearing)
        remarks = [f"{len(sets)} textures, one for each object, since their UVs overlap."]
    uv_tiles.check_count(len(sets))
    textures = tuple(_textures([parts[index] for index in members], mode) for members in sets)
    uv_tiles.check_count(sum(len(one.names) for one in textures))
    for members, one in zip(sets, textures, strict=True):
        own = [parts[index] for index in members]
        remarks += ([one.words] if one.words else []) + _shared(own, one)
        clash = _clash(own, one)
        if clash:
            raise clash
    return Atlas(sets, textures, np.concatenate(painted)), list(dict.fromkeys(remarks))


def _textures(parts: Sequence[_Part], mode: str) -> uv_tiles.Textures:
    tile, painted = np.concatenate([part.tile for part in parts]), np.concatenate([part.painted for part in parts])
    return uv_tiles.textures_of(tile, mode, painted)


def _counted(parts: Sequence[_Part], textures: uv_tiles.Textures) -> Iterable[Mapping[int, np.ndarray]]:
    """How often each part covers the sample points of each texture; counted anew only where another texture is meant."""
    cells = np.split(textures.cell, np.cumsum([len(part.tile) for part in parts])[:-1])
    for part, cell in zip(parts, cells, strict=True):
        if not (part.known and np.array_equal(part.known[0], cell)):
            part.known[:] = [cell, uv.coverages(part.mesh.uvs, part.mesh.triangle_uvs, part.tile, cell)]
        yield part.known[1]


def _shared(parts: Sequence[_Part], textures: uv_tiles.Textures) -> list[str]:
    """Remarks on parts of objects that share texture. Raises MeshError for an object whose UVs have no area."""
    remarks = []
    for part, counts in zip(parts, _counted(parts, textures), strict=True):
        if part.painted.any() and not any(count.any() for count in counts.values()):
            raise MeshError(f"The UV map of '{part.name}' has no area.", "Unwrap the mesh: UV > Smart UV Project.")
        shared = uv.overlap_share(counts.values())
        if shared > _SHARED_TOLD:
            remarks.append(f"UVs of '{part.name}' overlap: {shared:.0%} of its texture is shared by several parts.")
    return remarks


def _clash(parts: Sequence[_Part], textures: uv_tiles.Textures) -> MeshError | None:
    """Why these objects can have no common textures; None where they can."""
    found = first_clash(_counted(parts, textures))
    if found is None:
        return None
    index, cell = found
    where = f"tile {textures.names[cell]}" if textures.names[cell] else "the UV square"
    others = " or ".join(f"'{part.name}'" for part in parts[:index])
    return MeshError(f"'{parts[index].name}' uses the same part of {where} as {others}.", _REMEDY)


def first_clash(counted: Iterable[Mapping[int, np.ndarray]]) -> tuple[int, int] | None:
    """(object, texture) where one covers what those before it cover. counted: see `uv.coverages`, for each object."""
    taken = {}
    for index, counts in enumerate(counted):
        for cell, count in counts.items():
            before = taken.setdefault(cell, np.zeros(count.shape, bool))
            if np.count_nonzero(before & (count > 0)) > _SHARED_BETWEEN * np.count_nonzero(count):
                return index, cell
            before |= count > 0
    return None
