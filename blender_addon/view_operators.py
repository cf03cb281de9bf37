# SPDX-License-Identifier: GPL-3.0-or-later
"""The cameras of a rig as cameras of the scene, to be moved, switched off and given words of their own."""

import math
from dataclasses import replace

import bpy
import numpy as np
from mathutils import Matrix

from . import properties, scene, session, tile_count
from .jobs.arrays import MeshArrays
from .jobs.coverage import cameras_for
from .jobs.errors import UserError
from .jobs.records import Camera
from .jobs.rigs import FILL, OF_VIEWS, perspective, views_of
from .jobs.view_lists import read_names, read_words
from .operators import reports
from .translation import told

COLLECTION = "Tweed Cameras"
FROM_VIEW = "From View"
_SENSOR = 36.0  # mm, of a 3D view: half the longer side of the region is seen at `lens` mm


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
        rig = _add_rig(context, scene.export(context, scene.chosen(context)).mesh)
        self.report({"INFO"}, told(self, f"{len(rig)} cameras added to the collection {COLLECTION}"))


def _collection(context) -> bpy.types.Collection:
    """The collection of our cameras, in the scene."""
    collection = bpy.data.collections.get(COLLECTION) or bpy.data.collections.new(COLLECTION)
    if COLLECTION not in {child.name for child in context.scene.collection.children_recursive}:
        context.scene.collection.children.link(collection)
    return collection


def _add_rig(context, mesh: MeshArrays) -> list[bpy.types.Object]:
    """Make the views of the rig, and the extra ones, into cameras, with their ticks and words, and use those."""
    group = context.scene.tweed
    values = properties.full_values(group)
    skipped = read_names(values["skip_views"])
    words, avoids = read_words(values["view_prompts"]), read_words(values["view_avoids"])
    rig = _rig(group, mesh.positions)
    on = sum(view.name not in skipped for view in rig)
    extra = cameras_for(values, mesh)[on:] if on else ()
    said = [replace(view, prompt=words.get(view.name, ""), avoid=avoids.get(view.name, "")) for view in rig]
    return add_cameras(context, [*said, *extra], skipped)


def add_cameras(context, views, skipped=()) -> list[bpy.types.Object]:
    """Make views into the cameras that jobs of this scene use; those in `skipped` are switched off."""
    collection = _collection(context)
    for other in scene_cameras(context):
        other.data.tweed.use = False  # those that were there have another purpose
    made = [camera_object(view) for view in views]
    for view, obj in zip(views, made, strict=True):
        obj.data.tweed.use = view.name not in skipped
        collection.objects.link(obj)
    context.scene.tweed.rig = "scene"
    return made


def _rig(group, positions: np.ndarray) -> tuple[Camera, ...]:
    """All views of the panel's rig, also those that are switched off."""
    return views_of(properties.full_values(group) | dict.fromkeys(OF_VIEWS, ""), positions)


class TWEED_OT_look_from(bpy.types.Operator):
    bl_idname = "tweed.look_from"
    bl_label = "Look from Here"
    bl_description = "Turn this 3D view to where the view looks, and as near as it shows the same part of the mesh"
    bl_options = {"REGISTER"}

    view: bpy.props.StringProperty(name="View", description="Name of the view, or of the camera", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context):
        if context.area is None or context.area.type != "VIEW_3D":
            cls.poll_message_set("Works in a 3D view")
            return False
        return True

    @reports
    def execute(self, context):
        group = context.scene.tweed
        positions = scene.export(context, scene.chosen(context)).mesh.positions
        cameras = scene.cameras(context, every=True) if group.rig == "scene" else _rig(group, positions)
        found = next((camera for camera in cameras if camera.name == self.view), None)
        if found is None:
            raise UserError(f"There is no view named '{self.view}'.", f"Views: {', '.join(c.name for c in cameras)}.")
        window = next(region for region in context.area.regions if region.type == "WINDOW")
        look(context.space_data, window.width, window.height, found, positions)
        context.area.tag_redraw()


def look(space, width: int, height: int, camera: Camera, positions: np.ndarray) -> None:
    """Turn a 3D view to where a view looks, so near that what this sees of the points [V,3] fills the shorter side.

    The 3D view's lens stays as it is, so that perspective may differ.
    """
    region, axes = space.region_3d, camera.view[:3, :3]
    points = positions[np.isfinite(positions).all(axis=1)].astype(np.float64)
    clip = np.concatenate([points, np.ones((len(points), 1))], 1) @ (camera.projection @ camera.view).T
    seen = points[(np.abs(clip[:, :2]) <= clip[:, 3:]).all(axis=1)]
    points = seen if len(seen) else points
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    eye = np.linalg.inv(camera.view)[:3, 3]
    target = eye + axes[2] * ((middle - eye) @ axes[2])
    x, y, back = ((points - target) @ axes.T).T
    away = np.maximum(np.abs(x), np.abs(y)) * space.lens / _SENSOR * max(width, height) / min(width, height) / FILL
    flat = camera.projection[3, 3] == 1
    region.view_perspective = "ORTHO" if flat else "PERSP"
    region.view_rotation = Matrix(axes.T.tolist()).to_quaternion()
    region.view_location = target.tolist()
    region.view_distance = float((away if flat else away + back).max())


class TWEED_OT_camera_from_view(bpy.types.Operator):
    bl_idname = "tweed.camera_from_view"
    bl_label = "From View"
    bl_description = ("Add a camera that sees the selected mesh as this 3D view does now. "
                      "The views of a rig become cameras of the scene first, so that this one joins them")  # fmt: skip
    bl_options = {"REGISTER", "UNDO"}

    only: bpy.props.BoolProperty(
        name="Only This View", description="Switch every other camera off", options={"SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context):
        if context.area is None or context.area.type != "VIEW_3D":
            cls.poll_message_set("Works in a 3D view")
            return False
        if context.space_data.region_3d.view_perspective == "CAMERA":
            cls.poll_message_set("This 3D view looks through a camera already: tick that one, or leave its view")
            return False
        return True

    @reports
    def execute(self, context):
        mesh = scene.export(context, scene.chosen(context)).mesh
        window = next(region for region in context.area.regions if region.type == "WINDOW")
        view = from_view(context.space_data, window.width, window.height, mesh.positions)
        if context.scene.tweed.rig != "scene":
            _add_rig(context, mesh)
        if self.only:
            for other in scene_cameras(context):
                other.data.tweed.use = False
        obj = camera_object(view)
        _collection(context).objects.link(obj)
        session.redraw()
        self.report({"INFO"}, told(self, f"Added the camera {obj.name}; it is one of {_count(context)} views"))


def _count(context) -> int:
    return sum(obj.data.tweed.use for obj in scene_cameras(context))


def from_view(space, width: int, height: int, positions: np.ndarray) -> Camera:
    """A square view from where a 3D view looks, as wide as what it shows of the points [V,3] needs. Raises UserError.

    The 3D view's own lens: half the longer side of the region is seen under atan(36 mm / lens), and without
    perspective it is view_distance * 36 mm / lens long.
    """
    region, longest = space.region_3d, max(width, height)
    turned = region.view_rotation.inverted().to_matrix().to_4x4()
    view = np.array(  # what `view_matrix` will be when the region is drawn next
        Matrix.Translation((0, 0, -region.view_distance)) @ turned @ Matrix.Translation(-region.view_location), np.float64
    )
    right, up, back = (positions @ view[:3, :3].T + view[:3, 3]).T.astype(np.float64)
    reach = _SENSOR / space.lens
    flat = region.view_perspective == "ORTHO"
    ahead = np.isfinite(back) if flat else back < 0
    depth = np.full(np.count_nonzero(ahead), region.view_distance) if flat else -back[ahead]
    x, y = right[ahead] / depth, up[ahead] / depth
    frame = np.array([width, height]) / longest * reach
    if not len(x) or (np.array([x.min(), y.min()]) > frame).any() or (np.array([x.max(), y.max()]) < -frame).any():
        raise UserError("This 3D view shows nothing of the selected mesh.", "Turn it to the mesh (View > Frame Selected).")
    half = min(float(max(np.abs(x).max(), np.abs(y).max())) / FILL, reach) if ahead.all() else reach
    half = max(half, 1e-3 * reach)
    near, far = float((-back[ahead]).min()), float((-back[ahead]).max())
    margin = 0.1 * max(far - near, 1e-3 * abs(far), 1e-6)
    if not flat:
        near = max(near - margin, 0.5 * near) if ahead.all() else 1e-3 * far
        return Camera(FROM_VIEW, view, perspective(math.degrees(2 * math.atan(half)), near, far + margin))
    projection = np.eye(4)
    projection[0, 0] = projection[1, 1] = 1 / (half * region.view_distance)
    near, far = near - margin, far + margin
    projection[2, 2], projection[2, 3] = -2 / (far - near), -(far + near) / (far - near)
    return Camera(FROM_VIEW, view, projection)


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


def new_mask(size: int, names) -> bpy.types.Image:
    """A black image of one picture, or of the UDIM tiles of these names."""
    if names == ("",):
        image = bpy.data.images.new("Tweed Mask", size, size)
    else:
        image = bpy.data.images.new("Tweed Mask", size, size, tiled=True)
        image.tiles[0].number = int(names[0])
        for name in names[1:]:
            image.tiles.active = image.tiles.new(int(name))
            with bpy.context.temp_override(edit_image=image):
                bpy.ops.image.tile_fill(color=(0, 0, 0, 1), width=size, height=size)
        image.tiles.active_index = 0
    image.colorspace_settings.name = "Non-Color"
    return image


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
        if context.mode != "PAINT_TEXTURE":
            bpy.ops.object.mode_set(mode="TEXTURE_PAINT")
        tiles = tile_count.names([context.object], properties.full_values(context.scene.tweed))
        image = new_mask(self.size, tiles)
        paint = context.scene.tool_settings.image_paint
        paint.mode, paint.canvas = "IMAGE", image
        group = context.scene.tweed
        group.region, group.region_mask = "mask", image.name
        self.report({"INFO"}, told(self, f"Paint white into '{image.name}' where the texture may change"))


CLASSES = (TWEED_OT_add_cameras, TWEED_OT_look_from, TWEED_OT_camera_from_view, TWEED_OT_mask_new)
