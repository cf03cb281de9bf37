# SPDX-License-Identifier: GPL-3.0-or-later
"""How many textures a job on some objects would make, for what the panel foresees: cheap enough for every redraw.

UVs are read without modifiers and once for each change of a mesh, of which Blender's dependency graph tells.
"""

import bpy
import numpy as np

from . import slots, uv
from .jobs import uv_tiles
from .jobs.errors import UserError

Places = dict[int, frozenset[tuple[int, int]]]
"""The tiles (u, v) that the faces of each material slot lie in."""

_FAR = 1 << 20  # tiles farther away are taken to be this far: there UDIM has none
_known: dict[tuple[int, str], Places] = {}  # by the mesh's uid and the UV map's name


def textures(objects, settings: dict) -> int:
    """Of a job with these settings; 1 where it will be refused."""
    return len(names(objects, settings))


def names(objects, settings: dict) -> tuple[str, ...]:
    """The names of the textures, "" for a plain one. What will be refused counts as one plain texture."""
    try:
        chosen = slots.wanted(objects, settings["slots"])
        tiles = set()
        for obj, wanted in zip(objects, chosen, strict=True):
            places = _places(obj, uv.chosen(obj, settings["uv_map"]))
            tiles.update(*(found for slot, found in places.items() if wanted is None or slot in wanted))
        return uv_tiles.textures_of(np.array(sorted(tiles), np.int64).reshape(-1, 2), settings["uv_tiles"]).names
    except UserError:
        return ("",)


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
    for key in [key for key in _known if key[0] in changed]:
        del _known[key]


@bpy.app.handlers.persistent
def forget(*_) -> None:
    """For undo, redo and another file."""
    _known.clear()
