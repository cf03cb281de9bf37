# SPDX-License-Identifier: GPL-3.0-or-later
"""How many textures a job on some objects would make, for what the panel foresees: cheap enough for every redraw.

UVs are read without modifiers, once for each change of a mesh, of which Blender's dependency graph tells.
"""

import bpy
import numpy as np

from . import atlas, slots, uv
from .jobs import uv_tiles
from .jobs.errors import UserError

Places = dict[int, frozenset[tuple[int, int]]]
"""The tiles (u, v) that the faces of each material slot lie in."""

_FAR = 1 << 20  # tiles farther away are taken to be this far: there UDIM has none
_SAMPLED = 100_000  # faces of a mesh that are looked at for what part of a texture it uses
_known: dict[tuple[int, str], Places] = {}  # by the mesh's uid and the UV map's name
_covers: dict[tuple, dict[tuple[int, int], np.ndarray]] = {}  # by those and the slots: bits of `uv.coverage` of each tile
_together: dict[tuple, bool] = {}  # by those of all objects and the settings: whether they can share textures


def textures(objects, settings: dict) -> int:
    """Of a job with these settings; 1 where it will be refused."""
    return len(names(objects, settings))


def names(objects, settings: dict) -> tuple[str, ...]:
    """The names of the textures, "" for a plain one. What will be refused counts as one plain texture."""
    try:
        chosen = slots.wanted(objects, settings["slots"])
        maps = [uv.chosen(obj, settings["uv_map"]) for obj in objects]
        found = []
        for obj, uv_map, wanted in zip(objects, maps, chosen, strict=True):
            places = _places(obj, uv_map)
            tiles = set().union(*(tiles for slot, tiles in places.items() if wanted is None or slot in wanted))
            if tiles:
                found.append((obj, uv_map, wanted, tiles))
        mode, wish = settings["uv_tiles"], settings["atlas"]
        several = 1 < len(found) <= uv_tiles.MOST and wish != "one"
        if several and (wish == "each" or not _fit_together(found, mode)):
            own = [uv_tiles.textures_of(_rows(tiles), mode).names for _, _, _, tiles in found]
            return tuple(uv_tiles.in_set(number + 1, name) for number, names in enumerate(own) for name in names)
        return uv_tiles.textures_of(_rows(set().union(*(tiles for *_, tiles in found))), mode).names
    except UserError:
        return ("",)


def _rows(tiles: set[tuple[int, int]]) -> np.ndarray:
    return np.array(sorted(tiles), np.int64).reshape(-1, 2)


def _fit_together(found, mode: str) -> bool:
    """Whether the UVs of these objects lie side by side: looked at once for each change, on some of the faces."""
    keys = tuple((obj.data.session_uid, uv_map, wanted) for obj, uv_map, wanted, _ in found)
    if (keys, mode) not in _together:
        tiles = _rows(set().union(*(tiles for *_, tiles in found)))
        cells = dict(zip(map(tuple, tiles.tolist()), uv_tiles.textures_of(tiles, mode).cell.tolist(), strict=True))
        counted = (_counts(obj, key, cells) for (obj, *_), key in zip(found, keys, strict=True))
        _together[keys, mode] = len(set(keys)) == len(keys) and atlas.first_clash(counted) is None
    return _together[keys, mode]


def _counts(obj, key: tuple, cells: dict[tuple[int, int], int]) -> dict[int, np.ndarray]:
    """How often an object covers the sample points of each texture; cells: the texture of each tile."""
    if key not in _covers:
        _covers[key] = _cover(obj.data, *key[1:])
    found = {}
    for tile, bits in _covers[key].items():
        grid = np.unpackbits(bits, count=uv.GRID**2).reshape(uv.GRID, uv.GRID)
        cell = cells.get(tile, 0)
        found[cell] = found[cell] | grid if cell in found else grid
    return found


def _cover(mesh, uv_map: str, wanted: frozenset[int] | None) -> dict[tuple[int, int], np.ndarray]:
    mesh.calc_loop_triangles()
    loops, materials = np.empty(len(mesh.loop_triangles) * 3, np.int32), np.empty(len(mesh.loop_triangles), np.int32)
    mesh.loop_triangles.foreach_get("loops", loops)
    mesh.loop_triangles.foreach_get("material_index", materials)
    loops = loops.reshape(-1, 3)
    if wanted is not None:
        loops = loops[np.isin(materials, sorted(wanted))]
    loops = loops[:: 1 + len(loops) // _SAMPLED]
    uvs = np.empty((len(mesh.loops), 2), np.float32)
    mesh.uv_layers[uv_map].uv.foreach_get("vector", uvs.reshape(-1))
    tile = np.clip(np.floor(uvs[loops].mean(1)), -_FAR, _FAR - 1).astype(np.int64)
    tiles, number = np.unique(tile, axis=0, return_inverse=True)
    counts = uv.coverages(uvs, loops, tile, number.reshape(-1))
    return {tuple(tiles[k].tolist()): np.packbits(count > 0) for k, count in counts.items()}


def _places(obj, uv_map: str) -> Places:
    mesh = obj.data
    key = (mesh.session_uid, uv_map)
    if key not in _known and obj.mode != "EDIT":  # while it is edited the mesh is as it was before
        _known[key] = _read(mesh, uv_map)
    return _known.get(key, {})


def _read(mesh, uv_map: str) -> Places:
    starts = np.empty(len(mesh.polygons), np.int32)
    materials = np.empty(len(mesh.polygons), np.int32)
    mesh.polygons.foreach_get("loop_start", starts)
    mesh.polygons.foreach_get("material_index", materials)
    uvs = np.empty((len(mesh.loops), 2), np.float32)
    mesh.uv_layers[uv_map].uv.foreach_get("vector", uvs.reshape(-1))
    if not len(starts) or not np.isfinite(uvs).all():
        return {}
    used = np.flatnonzero(np.bincount(materials)).tolist()
    if uvs.min() >= 0 and uvs.max() <= 1:
        return dict.fromkeys(used, frozenset([(0, 0)]))
    middle = np.add.reduceat(uvs, starts) / np.diff(starts, append=len(uvs))[:, None]
    tile = np.clip(np.floor(middle), -_FAR, _FAR - 1).astype(np.int64)
    keys = (tile[:, 1] + _FAR) * 2 * _FAR + tile[:, 0] + _FAR
    found = {slot: np.unique(keys[materials == slot]).tolist() for slot in used}
    return {slot: frozenset((key % (2 * _FAR) - _FAR, key // (2 * _FAR) - _FAR) for key in rows) for slot, rows in found.items()}


@bpy.app.handlers.persistent
def note_change(_scene, depsgraph) -> None:
    """For `depsgraph_update_post`: forget what is known of the meshes that have changed, unless by sculpting or painting."""
    if bpy.context.mode == "SCULPT" or bpy.context.mode.startswith("PAINT"):
        return
    changed = {update.id.original.session_uid for update in depsgraph.updates
               if update.is_updated_geometry and isinstance(update.id, bpy.types.Mesh)} if _known else ()  # fmt: skip
    for known in (_known, _covers):
        for key in [key for key in known if key[0] in changed]:
            del known[key]
    if changed:
        _together.clear()


@bpy.app.handlers.persistent
def forget(*_) -> None:
    """For undo, redo and another file."""
    _known.clear()
    _covers.clear()
    _together.clear()
