# SPDX-License-Identifier: GPL-3.0-or-later
"""From Blender to numpy: which objects, are they fit, their evaluated triangles in world space, the scene's cameras.

Nothing in here changes the scene. Objects are remembered by `session_uid` and name, never by a stored reference:
undo makes such references invalid.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

import bpy
import numpy as np

from . import current, paths, slots, uv
from .atlas import atlas_of
from .jobs.errors import MeshError, UserError
from .jobs.folder import Camera, MeshArrays, needs_texture

_SESSION = secrets.token_hex(8)  # uids mean something only within one Blender and one loaded file
_loads = 0


@dataclass(frozen=True)
class Exported:
    """What a job needs to know of the objects, and what the artist should know of them.

    `pictures` are PNG files by kind and `size` the side of the texture to start from, where the job wants one.
    """

    mesh: MeshArrays
    records: list[dict]
    remarks: list[str]
    pictures: dict[str, bytes] = field(default_factory=dict)
    size: int | None = None


@dataclass(frozen=True)
class Target:
    """An object found again, with the slots (indices) that get the texture, and the others that its faces use.

    Both are of the exported mesh. `number` is of its set of textures, from 1; 0 where there is one for all.
    """

    object: bpy.types.Object
    uv_map: str
    slots: tuple[int, ...]
    remarks: list[str] = field(default_factory=list)
    others: tuple[int, ...] = ()
    number: int = 0


def note_load() -> None:
    """Another file was loaded: uids of before say nothing any more."""
    global _loads
    _loads += 1


def origin(scene_name: str = "") -> dict:
    """Where a job comes from, for finding its objects again."""
    return {
        "blend": bpy.data.filepath,
        "session": f"{_SESSION}-{_loads}",
        "scene": scene_name,
        "blender": bpy.app.version_string,
    }


def chosen(context) -> list[bpy.types.Object]:
    """The meshes a click is about: the selected ones, or those being edited or painted."""
    if context.mode != "OBJECT" and context.object is not None:
        objects = list(context.objects_in_mode or [context.object])
    else:
        objects = context.selected_objects
    return [o for o in objects if o.type == "MESH"]


def named_or_chosen(context, names: str) -> list:
    """The objects of an operator: those it names, with commas between, or else the selected ones."""
    return by_names(names) if names else chosen(context)


def by_names(names: str) -> list[bpy.types.Object]:
    """Objects from a comma-separated list of names (a name may itself contain commas). Raises UserError."""
    if names in bpy.data.objects:
        return [bpy.data.objects[names]]
    found = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name not in bpy.data.objects:
            meshes = ", ".join(o.name for o in bpy.data.objects if o.type == "MESH")
            raise UserError(f"There is no object named '{name}'.", f"Meshes in this file: {meshes or 'none'}.")
        found.append(bpy.data.objects[name])
    return found


def check(objects) -> None:
    """Refuse in a sentence what cannot be textured; cheap enough for every redraw. Raises UserError, MeshError."""
    if not objects:
        raise UserError("No mesh is selected.", "Select the mesh to texture.")
    for obj in objects:
        if obj.type != "MESH":
            raise MeshError(f"'{obj.name}' is not a mesh.", "Convert it: Object > Convert > Mesh.")
        if obj.library:
            raise MeshError(
                f"'{obj.name}' is linked from another file and cannot be changed here.",
                "Make it local (Object > Relations > Make Local) or make a library override.",
            )
        if not obj.material_slots and obj.data.library:
            raise MeshError(
                f"The mesh of '{obj.name}' is linked from another file and has no material slot.",
                "Make the mesh local: Object > Relations > Make Local > Selected Objects and Data.",
            )
        if not obj.data.polygons and obj.mode != "EDIT" and not obj.modifiers:
            raise MeshError(f"'{obj.name}' has no faces.", "Add faces to it, or choose another object.")
        if not obj.data.uv_layers:
            raise MeshError(f"'{obj.name}' has no UV map.", "Press Make UVs, or unwrap it yourself in the UV editor.")


def export(context, objects, settings: dict | None = None, masks: Mapping[str, bytes] | None = None) -> Exported:
    """The evaluated meshes of `objects`, joined, in world space. Raises UserError, MeshError; changes nothing.

    With `settings` also what they want of the objects' texture: its pixels and the region that may change; without, what
    is painted is as the panel is set. `masks` are the region as PNG files by the names of the textures, in place of the
    image that the settings name.
    """
    check(objects)
    region = settings["region"] if settings else "all"
    for obj in objects:
        if obj.mode == "EDIT":
            obj.update_from_editmode()
    panel = context.scene.tweed
    chosen = slots.wanted(objects, settings["slots"] if settings else panel.slots)
    maps = [uv.chosen(obj, settings["uv_map"] if settings else panel.uv_map) for obj in objects]
    depsgraph = context.evaluated_depsgraph_get()
    parts, records, remarks = [], [], []
    for index, (obj, painted, uv_map) in enumerate(zip(objects, chosen, maps, strict=True)):
        part, notes = _export_one(obj, uv_map, depsgraph, index, region)
        parts.append(part)
        records.append(_record(obj, uv_map, part, painted))
        remarks += [*notes, *_material_remarks(obj, records[-1])]
    mode, wish = (settings["uv_tiles"], settings["atlas"]) if settings else (panel.uv_tiles, panel.atlas)
    atlas, notes = atlas_of(objects, parts, chosen, mode, wish)
    remarks += notes
    records = [record | ({"texture": atlas.number(i)} if atlas.number(i) else {}) for i, record in enumerate(records)]
    mesh = _join(parts)
    current.check_region(region, mesh.region, objects, atlas.painted)
    style = {"style": paths.style_png(settings["style_image"])} if settings and settings["style_image"] else {}
    if settings is None or not needs_texture(settings):
        return Exported(mesh, records, remarks, style)
    pictures, size = current.pictures(objects, records, settings, atlas, masks)
    return Exported(mesh, records, remarks, pictures | style, size)


def _export_one(obj, uv_map: str, depsgraph, index: int, region: str) -> tuple[MeshArrays, list[str]]:
    remarks = []
    evaluated = obj.evaluated_get(depsgraph)
    mesh = evaluated.to_mesh(preserve_all_data_layers=True, depsgraph=depsgraph)
    try:
        if mesh.polygons and uv_map in mesh.uv_layers:
            part = _read(mesh, uv_map, obj, index, region)
            if len(mesh.materials) > len(obj.material_slots):
                remarks.append(f"A modifier of '{obj.name}' sets materials of its own; those keep their look.")
        else:
            base = evaluated.original.to_mesh()
            try:
                if not base.polygons:
                    raise MeshError(f"'{obj.name}' has no faces.", "Add faces to it, or choose another object.")
                part = _read(base, uv_map, obj, index, region)
            finally:
                evaluated.original.to_mesh_clear()
            remarks.append(
                f"A modifier of '{obj.name}' drops the UV map '{uv_map}'; the mesh without modifiers is used."
            )
    finally:
        evaluated.to_mesh_clear()
    _check_numbers(obj, part)
    if obj.matrix_world.determinant() < 0:
        remarks.append(f"The scale of '{obj.name}' is negative; its faces are turned to point outwards.")
    return part, remarks


def _material_remarks(obj, record: dict) -> list[str]:
    used, painted = len(record["slots"]), record.get("paint")
    if used < 2:
        return []
    if painted is None:
        return [f"'{obj.name}' has {used} materials; each is kept and gets the texture."]
    verb = "is" if len(painted) == 1 else "are"
    return [f"{len(painted)} of {used} materials of '{obj.name}' {verb} painted; the others keep their look."]


def _read(mesh, uv_map: str, obj, index: int, region: str) -> MeshArrays:
    """One mesh as arrays, moved to world space; a mirroring matrix turns the winding round."""
    mesh.calc_loop_triangles()
    attributes = mesh.attributes  # many times faster than the same values through vertices, loops and polygons
    loops, faces = len(mesh.loops), len(mesh.loop_triangles)
    local = _get(attributes["position"].data, "vector", (len(mesh.vertices), 3))
    corner = _get(attributes[".corner_vert"].data, "value", (loops,), np.int32)
    uvs = _get(mesh.uv_layers[uv_map].uv, "vector", (loops, 2))
    triangle_loops = _get(mesh.loop_triangles, "loops", (faces, 3), np.int32)
    polygons = _get(mesh.loop_triangle_polygons, "value", (faces,), np.int32)
    materials = np.zeros(len(mesh.polygons), np.int32)
    if "material_index" in attributes:
        materials = _get(attributes["material_index"].data, "value", (len(mesh.polygons),), np.int32)
    corner_normals = _get(mesh.corner_normals, "vector", (loops, 3))
    matrix = np.array(obj.matrix_world, np.float64)
    linear = matrix[:3, :3]
    determinant = np.linalg.det(linear)
    if not np.isfinite(matrix).all() or abs(determinant) < 1e-24:
        raise MeshError(f"The scale of '{obj.name}' is zero.", "Give it a size: Object > Clear > Scale.")
    if determinant < 0:
        triangle_loops = np.ascontiguousarray(triangle_loops[:, [0, 2, 1]])
    positions = local @ linear.T.astype(np.float32) + matrix[:3, 3].astype(np.float32)
    normals = corner_normals @ np.linalg.inv(linear).astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", normals, normals))
    normals /= np.maximum(lengths, np.float32(1e-20))[:, None]
    triangles = np.take(corner, triangle_loops)
    return MeshArrays(
        positions=positions,
        triangles=triangles,
        uvs=uvs,
        triangle_uvs=triangle_loops,
        normals=np.take(normals, triangle_loops, axis=0),
        objects=np.full(faces, index, np.int32),
        materials=np.take(materials, polygons),
        region=current.region_weights(mesh, obj, region, triangles, polygons),
    )


def _get(collection, name: str, shape: tuple[int, ...], dtype=np.float32) -> np.ndarray:
    values = np.empty(shape, dtype)
    collection.foreach_get(name, values.reshape(-1))
    return values


def _check_numbers(obj, part: MeshArrays) -> None:
    if not np.isfinite(part.positions).all():
        bad = np.count_nonzero(~np.isfinite(part.positions).all(axis=1))
        raise MeshError(
            f"'{obj.name}' has {bad} vertices whose position is not a number.",
            "Delete those vertices, or undo the edit that made them.",
        )
    if not np.isfinite(part.uvs).all():
        bad = np.count_nonzero(~np.isfinite(part.uvs).all(axis=1))
        raise MeshError(f"The UV map of '{obj.name}' has {bad} points that are not numbers.", "Unwrap the mesh again.")


def _record(obj, name: str, part: MeshArrays, painted: frozenset[int] | None) -> dict:
    """What job.json remembers of an object. name: of its UV map; painted: slots that the artist has chosen."""
    used = [int(i) for i in np.unique(part.materials)]
    return {
        "name": obj.name,
        "uid": obj.session_uid,
        "uv_map": name,
        "fingerprint": _fingerprint(obj, name),
        "slots": used,
        "triangles": len(part.triangles),
        **({} if painted is None else {"paint": [slot for slot in used if slot in painted]}),
    }


def _fingerprint(obj, uv_map: str) -> dict[str, int]:
    """Of the mesh before modifiers, also while it is being edited."""
    mesh = obj.original.to_mesh() if obj.mode == "EDIT" else obj.data
    try:
        return uv.fingerprint(_get(mesh.uv_layers[uv_map].uv, "vector", (len(mesh.loops), 2)))
    finally:
        if obj.mode == "EDIT":
            obj.original.to_mesh_clear()


def _join(parts: list[MeshArrays]) -> MeshArrays:
    if len(parts) == 1:
        return parts[0]
    vertex = np.cumsum([0] + [len(p.positions) for p in parts])
    loop = np.cumsum([0] + [len(p.uvs) for p in parts])
    whole = {
        name: np.concatenate([getattr(p, name) for p in parts])
        for name in ("positions", "uvs", "normals", "objects", "materials", "region")
        if getattr(parts[0], name) is not None
    }
    return MeshArrays(
        triangles=np.concatenate([p.triangles + np.int32(v) for p, v in zip(parts, vertex[:-1], strict=True)]),
        triangle_uvs=np.concatenate([p.triangle_uvs + np.int32(u) for p, u in zip(parts, loop[:-1], strict=True)]),
        **whole,
    )


def cameras(context, every: bool = False) -> tuple[Camera, ...]:
    """The cameras of the scene that are in use, or every one, as square views, by name. Raises UserError for none."""
    depsgraph = context.evaluated_depsgraph_get()
    found = []
    there = sorted((o for o in context.scene.objects if o.type == "CAMERA"), key=lambda o: o.name)
    for obj in (o for o in there if every or o.data.tweed.use):
        view = np.array(obj.matrix_world.normalized().inverted(), np.float64)
        projection = np.array(obj.calc_matrix_camera(depsgraph, x=1, y=1), np.float64)
        own = obj.data.tweed
        found.append(Camera(obj.name, view, projection, own.prompt.strip(), own.avoid.strip()))
    if there and not found:
        raise UserError("Every camera of the scene is switched off.", "Switch one on in the Cameras panel.")
    if not found:
        raise UserError("The scene has no camera.", "Add cameras, or set Cameras to Auto.")
    return tuple(found)


def find_targets(records: list[dict], origin_then: dict, *, any_file: bool = False) -> list[Target]:
    """The job's objects as they are now. Raises UserError with what has changed; `any_file` trusts names alone."""
    here = origin()
    same_load = origin_then.get("session") == here["session"]
    same_file = bool(here["blend"]) and origin_then.get("blend") == here["blend"]
    if not (same_load or same_file or any_file):
        name = records[0].get("name", "")
        raise UserError(
            f"The texture was made for '{name}' in {origin_then.get('blend') or 'a file that was not saved'}; "
            "another file is open now.",
            "Open that file and press Apply.",
        )
    return [_find(record, same_load) for record in records]


def _find(record: dict, same_load: bool) -> Target:
    name, remarks = record["name"], []
    if same_load:
        obj = next((o for o in bpy.data.objects if o.session_uid == record["uid"]), None)
    else:
        obj = bpy.data.objects.get(name)
    if obj is None or obj.type != "MESH":
        raise UserError(f"'{name}' is not in the file any more.", "Undo its deletion and press Apply.")
    if obj.name != name:
        remarks.append(f"'{name}' is called '{obj.name}' now and got its texture.")
    check([obj])
    if obj.mode == "EDIT":
        obj.update_from_editmode()
    uv_map = record["uv_map"]
    if uv_map not in obj.data.uv_layers or _fingerprint(obj, uv_map) != record["fingerprint"]:
        raise UserError(
            f"The mesh or the UV map '{uv_map}' of '{obj.name}' has changed since the texture was started.",
            "Undo that change and press Apply, or generate again.",
        )
    there = [i for i in record["slots"] if i < max(1, len(obj.material_slots))] or [0]
    painted = tuple(i for i in there if i in record.get("paint", there))
    others, number = tuple(i for i in there if i not in painted), record.get("texture", 0)
    return Target(obj, uv_map, painted, remarks, others, number if isinstance(number, int) else 0)
