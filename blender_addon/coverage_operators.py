# SPDX-License-Identifier: GPL-3.0-or-later
"""Coverage as heat over the mesh in the 3D views. A drawing only: no attribute, material or object is made."""

import bpy
import numpy as np

from . import coverage, properties, scene, session
from .jobs.coverage import cameras_for
from .operators import reports
from .translation import told

_LIFT = 0.002  # of the object's size, so that the drawing lies over the surface


class _Shown:
    """What is drawn now, and for which objects it was measured: where one has moved, nothing is drawn."""

    handle = None
    places: dict[str, tuple]
    words = ""

    def __init__(self):
        self.places = {}


shown = _Shown()


class TWEED_OT_coverage(bpy.types.Operator):
    bl_idname = "tweed.coverage"
    bl_label = "Show Coverage"
    bl_description = "Measure what the cameras see and draw it over the mesh: green is seen straight, red by no view"
    bl_options = {"REGISTER"}

    objects: properties.objects_property()

    @reports
    def execute(self, context):
        objects = scene.named_or_chosen(context, self.objects)
        group = context.scene.tweed
        mesh = scene.export(context, objects).mesh
        if group.rig == "scene":
            cameras = scene.cameras(context)
        else:
            cameras = cameras_for(properties.full_values(group), mesh)
        found = coverage.measure(mesh, cameras)
        hide()
        shown.words = f"{len(cameras)} view{'s' if len(cameras) > 1 else ''}: {found.words}"
        shown.places = {obj.name: _place(obj) for obj in objects}
        if not bpy.app.background:
            _show(mesh, coverage.colours(found.best))
        self.report({"INFO"}, told(self, shown.words))


class TWEED_OT_coverage_hide(bpy.types.Operator):
    bl_idname = "tweed.coverage_hide"
    bl_label = "Hide Coverage"
    bl_description = "Take the drawing of the coverage away"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        if not shown.words:
            cls.poll_message_set("No coverage is shown")
            return False
        return True

    def execute(self, context):
        hide()
        return {"FINISHED"}


def _place(obj) -> tuple:
    return tuple(value for row in obj.matrix_world for value in row)


def _show(mesh, colours) -> None:
    import gpu  # cannot be used without a window
    from gpu_extras.batch import batch_for_shader

    corners = mesh.positions[mesh.triangles].astype(np.float32)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    shared = np.zeros((len(mesh.positions), 3), np.float32)  # lifted along the vertices' normals, so that no cracks open
    for corner in range(3):
        np.add.at(shared, mesh.triangles[:, corner], cross)
    normal = (shared / np.maximum(np.linalg.norm(shared, axis=1), 1e-20)[:, None])[mesh.triangles]
    lift = _LIFT * float(np.ptp(mesh.positions, axis=0).max())
    shader = gpu.shader.from_builtin("FLAT_COLOR")
    batch = batch_for_shader(
        shader, "TRIS", {"pos": (corners + lift * normal).reshape(-1, 3), "color": np.repeat(colours, 3, axis=0)}
    )

    def draw():
        if any(bpy.data.objects.get(name) is None or _place(bpy.data.objects[name]) != was
               for name, was in shown.places.items()):  # fmt: skip
            return
        gpu.state.depth_test_set("LESS_EQUAL")
        gpu.state.blend_set("ALPHA")
        gpu.state.face_culling_set("BACK")
        batch.draw(shader)
        gpu.state.face_culling_set("NONE")
        gpu.state.blend_set("NONE")
        gpu.state.depth_test_set("NONE")

    shown.handle = bpy.types.SpaceView3D.draw_handler_add(draw, (), "WINDOW", "POST_VIEW")
    _redraw()


def hide() -> None:
    """Nothing is drawn any more. At another file's loading and at the end of the extension too."""
    if shown.handle is not None:
        bpy.types.SpaceView3D.draw_handler_remove(shown.handle, "WINDOW")
        shown.handle = None
    shown.places, shown.words = {}, ""
    _redraw()


def _redraw() -> None:
    session.redraw()
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


CLASSES = (TWEED_OT_coverage, TWEED_OT_coverage_hide)
