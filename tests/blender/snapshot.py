# SPDX-License-Identifier: Apache-2.0
"""Everything an artist could notice about the open file, as one comparable value."""

import zlib

import bpy
import numpy as np

_COLLECTIONS = (
    "objects",
    "meshes",
    "materials",
    "images",
    "scenes",
    "collections",
    "cameras",
    "lights",
    "node_groups",
    "worlds",
    "texts",
)
_SIMPLE = ("BOOLEAN", "INT", "FLOAT", "STRING", "ENUM")
# Blender's own bookkeeping: changes with every redraw, evaluation or undo step.
_VOLATILE = {
    "is_evaluated",
    "is_updated",
    "is_updated_data",
    "session_uid",
    "tag",
    "is_runtime_data",
    "frame_current_final",
    "bindcode",
    "channels",
    "is_dirty",
    "is_float",
    "has_data",
    "depth",
    "texture_color_mode",
    "frame_float",
    "use_nodes",
    "filepath_raw",
    "is_library_indirect",
}


def scene_snapshot() -> dict:
    """Objects, meshes, materials with all nodes and links, images, scenes, selection, mode; by name."""
    shot = {kind: {block.name_full: _block(kind, block) for block in getattr(bpy.data, kind)} for kind in _COLLECTIONS}
    context = bpy.context
    shot["context"] = {
        "mode": context.mode,
        "active": getattr(context.object, "name", None),
        "selected": sorted(o.name for o in context.selected_objects),
    }
    return shot


def difference(before: dict, after: dict, path: str = "") -> list[str]:
    """The paths at which two snapshots differ, for a readable assertion."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for key in dict.fromkeys([*before, *after])
            for line in difference(before.get(key, "(absent)"), after.get(key, "(absent)"), f"{path}/{key}")
        ]
    return [] if before == after else [f"{path}: {before!r} -> {after!r}"]


def _block(kind: str, block) -> dict:
    values = _simple(block) | {
        "users": block.users,
        "custom": {
            k: repr(_plain(block[k])) for k in block.keys() if k != "cycles" and (kind, k) != ("scenes", "tweed")
        },
    }
    if kind == "objects":
        values["data"] = getattr(block.data, "name_full", None)
        values["slots"] = [(s.link, getattr(s.material, "name_full", None)) for s in block.material_slots]
        values["modifiers"] = [_simple(m) for m in block.modifiers]
        values["matrix"] = tuple(tuple(row) for row in block.matrix_world)
    if kind == "meshes":
        values |= _mesh(block)
    if kind == "images":
        values["packed"] = block.packed_file.size if block.packed_file else None
    if kind == "scenes":
        values |= {
            "render": _simple(block.render),
            "view": _simple(block.view_settings),
            "display": _simple(block.display_settings),
            "tweed": {
                p: getattr(block.tweed, p)
                for p in block.tweed.bl_rna.properties.keys()
                if p not in ("rna_type", "name")
            },
        }
    if getattr(block, "node_tree", None) and kind in ("materials", "worlds", "lights"):
        values["tree"] = _tree(block.node_tree)
    return values


def _plain(value):
    return value.to_dict() if hasattr(value, "to_dict") else value


def _simple(struct) -> dict:
    values = {}
    for prop in struct.bl_rna.properties:
        if prop.type in _SIMPLE and prop.identifier not in _VOLATILE and not prop.is_runtime:
            value = getattr(struct, prop.identifier)
            values[prop.identifier] = repr(
                value[:] if getattr(prop, "array_length", 0) and not isinstance(value, (str, set)) else value
            )
    return values


def _tree(tree) -> dict:
    nodes = {}
    for node in tree.nodes:
        nodes[node.name] = _simple(node) | {
            "kind": node.bl_idname,
            "parent": getattr(node.parent, "name", None),
            "image": getattr(getattr(node, "image", None), "name", None),
            "inputs": [
                repr(
                    s.default_value[:]
                    if hasattr(s.default_value, "__len__") and not isinstance(s.default_value, str)
                    else s.default_value
                )
                for s in node.inputs
                if hasattr(s, "default_value")
            ],
        }
    links = sorted(
        (a.from_node.name, a.from_socket.identifier, a.to_node.name, a.to_socket.identifier) for a in tree.links
    )
    return {"nodes": nodes, "links": links, "active": getattr(tree.nodes.active, "name", None)}


def _mesh(mesh) -> dict:
    if mesh.is_editmode:
        return {}
    values = {
        "counts": (len(mesh.vertices), len(mesh.edges), len(mesh.loops), len(mesh.polygons)),
        "materials": [getattr(m, "name_full", None) for m in mesh.materials],
        "uv_layers": [(layer.name, layer.active, layer.active_render) for layer in mesh.uv_layers],
    }
    positions = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", positions)
    values["positions"] = zlib.crc32(positions)
    for layer in mesh.uv_layers:
        uvs = np.empty(len(mesh.loops) * 2, np.float32)
        layer.uv.foreach_get("vector", uvs)
        values[f"uv {layer.name}"] = zlib.crc32(uvs)
    slots = np.empty(len(mesh.polygons), np.int32)
    mesh.polygons.foreach_get("material_index", slots)
    values["material_index"] = zlib.crc32(slots)
    return values
