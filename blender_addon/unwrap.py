# SPDX-License-Identifier: GPL-3.0-or-later
"""A UV map for meshes that have none, with Blender's own Smart UV Project. Existing UV maps are never edited."""

import math

import bpy

from .jobs.errors import MeshError, UserError

LAYER = "Tweed UV"


def make_uvs(context, objects) -> None:
    """Add the UV map "Tweed UV" to each mesh and make it active; selection and mode stay. Raises UserError."""
    meshes = [o for o in objects if o.type == "MESH"]
    if not meshes:
        raise UserError("No mesh is selected.", "Select the mesh to unwrap.")
    for obj in meshes:
        if obj.library or obj.data.library or obj.data.override_library:
            raise MeshError(
                f"The mesh of '{obj.name}' is linked from another file.",
                "Make it local: Object > Relations > Make Local.",
            )
        if not obj.data.polygons and obj.mode != "EDIT":
            raise MeshError(f"'{obj.name}' has no faces.", "Add faces to it, or choose another object.")
        if obj.name not in context.view_layer.objects or obj.hide_get():
            raise MeshError(f"'{obj.name}' is hidden.", "Show it first.")
    layer = context.view_layer
    active, mode = layer.objects.active, context.mode
    selected = [o for o in layer.objects if o.select_get()]
    if mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    try:
        for obj in selected:
            obj.select_set(False)
        for obj in meshes:
            obj.select_set(True)
            if LAYER not in obj.data.uv_layers:
                obj.data.uv_layers.new(name=LAYER)
            obj.data.uv_layers.active = obj.data.uv_layers[LAYER]
        layer.objects.active = meshes[0]
        _project(meshes)
    finally:
        for obj in layer.objects:
            obj.select_set(obj in selected)
        layer.objects.active = active
        if mode.startswith("EDIT"):
            bpy.ops.object.mode_set(mode="EDIT")


def _project(meshes) -> None:
    """Smart UV Project over all faces of the selected meshes together; the face selection is put back."""
    chosen = {}
    for obj in meshes:
        chosen[obj] = [False] * len(obj.data.polygons)
        obj.data.polygons.foreach_get("select", chosen[obj])
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        bpy.ops.mesh.select_all(action="SELECT")
        bpy.ops.uv.smart_project(angle_limit=math.radians(66), island_margin=0.005, margin_method="FRACTION")
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")
    for obj in meshes:
        obj.data.polygons.foreach_set("select", chosen[obj])
