# SPDX-License-Identifier: GPL-3.0-or-later
"""Coverage as heat over the mesh in the 3D views. A drawing only: no attribute, material or object is made."""

import bpy
import numpy as np

from . import coverage, properties, scene
from .drawings import Drawing
from .jobs.coverage import cameras_for
from .operators import reports
from .translation import told

_LIFT = 0.002  # of the object's size, so that the drawing lies over the surface


class _Shown(Drawing):
    """What is drawn now, and what it says."""

    words = ""


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
        shown.words = f"{len(cameras)} view{'s' if len(cameras) > 1 else ''}: {found.words}"
        shown.begin(objects, POST_VIEW=_drawer(mesh, coverage.colours(found.best)))
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


def _drawer(mesh, colours):
    """What draws the triangles; they are handed to the card when it is first asked to."""
    given, made = [mesh, colours], []

    def draw():
        import gpu  # cannot be used without a window

        if not shown.stands:
            return
        if not made:
            made.extend(_batch(*given))
            given.clear()  # the card has it now
        batch, shader = made
        gpu.state.depth_test_set("LESS_EQUAL")
        gpu.state.blend_set("ALPHA")
        gpu.state.face_culling_set("BACK")
        batch.draw(shader)
        gpu.state.face_culling_set("NONE")
        gpu.state.blend_set("NONE")
        gpu.state.depth_test_set("NONE")

    return draw


def _batch(mesh, colours) -> tuple:
    import gpu
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
    return batch, shader


def hide() -> None:
    """Nothing is drawn any more. At another file's loading and at the end of the extension too."""
    shown.words = ""
    shown.end()


CLASSES = (TWEED_OT_coverage, TWEED_OT_coverage_hide)
