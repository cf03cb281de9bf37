# SPDX-License-Identifier: GPL-3.0-or-later
"""The cameras of a rig as cameras of the scene, to be moved, switched off and given words of their own."""

import math

import bpy
from mathutils import Matrix

from . import properties, scene
from .jobs.rigs import build_rig
from .operators import reports

COLLECTION = "Tweed Cameras"


class TweedCamera(bpy.types.PropertyGroup):
    """What a camera of the scene is to a job."""

    use: bpy.props.BoolProperty(
        name="Use", description="Paint the view of this camera when Cameras is set to Scene", default=True
    )
    prompt: bpy.props.StringProperty(
        name="Prompt", description="Added to the prompt for this view only", maxlen=2000
    )
    avoid: bpy.props.StringProperty(name="Avoid", description="What this view should not look like", maxlen=2000)


class TWEED_OT_add_cameras(bpy.types.Operator):
    bl_idname = "tweed.add_cameras"
    bl_label = "Add to Scene"
    bl_description = "Make the views of this rig into cameras of the scene, and use those from now on"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        if context.scene.tweed.rig == "scene":
            cls.poll_message_set("The scene's own cameras are in use already")
            return False
        return True

    @reports
    def execute(self, context):
        group = context.scene.tweed
        exported = scene.export(context, scene.chosen(context))
        rig = build_rig(group.rig, properties.planned(group)["views"], exported.mesh.positions)
        collection = bpy.data.collections.get(COLLECTION)
        if collection is None:
            collection = bpy.data.collections.new(COLLECTION)
        if COLLECTION not in {child.name for child in context.scene.collection.children_recursive}:
            context.scene.collection.children.link(collection)
        for other in [o for o in context.scene.objects if o.type == "CAMERA"]:
            other.data.tweed.use = False  # those that were there have another purpose
        for view in rig:
            collection.objects.link(camera_object(view))
        group.rig = "scene"
        self.report({"INFO"}, f"{len(rig)} cameras added to the collection {COLLECTION}")


def camera_object(view) -> bpy.types.Object:
    """A camera object that sees what the job's camera sees (square views)."""
    data = bpy.data.cameras.new(f"Tweed {view.name}")
    scale, near, far = _lens(view.projection)
    if view.projection[3, 3] == 1:  # flat
        data.type, data.ortho_scale = "ORTHO", 2 / scale
    else:
        data.angle = 2 * math.atan(1 / scale)
    data.clip_start, data.clip_end = near, far
    data.tweed.prompt, data.tweed.avoid = view.prompt, view.avoid
    obj = bpy.data.objects.new(data.name, data)
    obj.matrix_world = Matrix(view.view.tolist()).inverted()
    return obj


def _lens(projection) -> tuple[float, float, float]:
    """Scale, near and far of an OpenGL projection, perspective or flat."""
    a, b = projection[2, 2], projection[2, 3]
    if projection[3, 3] == 1:
        return projection[0, 0], (b + 1) / a, (b - 1) / a
    return projection[0, 0], b / (a - 1), b / (a + 1)


def scene_cameras(context) -> list[bpy.types.Object]:
    """The cameras of the scene, by name."""
    return sorted((o for o in context.scene.objects if o.type == "CAMERA"), key=lambda o: o.name)


class TWEED_OT_mask_new(bpy.types.Operator):
    bl_idname = "tweed.mask_new"
    bl_label = "New Mask"
    bl_description = "Make a black image, choose it as the region's mask, and paint white into it in Texture Paint mode"
    bl_options = {"REGISTER", "UNDO"}

    size: bpy.props.IntProperty(name="Size", default=1024, min=64, max=8192, subtype="PIXEL")

    @classmethod
    def poll(cls, context):
        if context.object is None or context.object.type != "MESH" or context.object.library:
            cls.poll_message_set("Select the mesh to paint on")
            return False
        return True

    @reports
    def execute(self, context):
        scene.check([context.object])
        image = bpy.data.images.new("Tweed Mask", self.size, self.size)
        image.colorspace_settings.name = "Non-Color"
        paint = context.scene.tool_settings.image_paint
        paint.mode, paint.canvas = "IMAGE", image
        group = context.scene.tweed
        group.region, group.region_mask = "mask", image.name
        if context.mode != "PAINT_TEXTURE":
            bpy.ops.object.mode_set(mode="TEXTURE_PAINT")
        self.report({"INFO"}, f"Paint white into '{image.name}' where the texture may change")


CLASSES = (TWEED_OT_add_cameras, TWEED_OT_mask_new)
