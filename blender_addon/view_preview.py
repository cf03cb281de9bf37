# SPDX-License-Identifier: GPL-3.0-or-later
"""The views of the rig drawn into the 3D views: where each stands, where it looks, its name. A drawing only.

It follows the panel while it is shown, so that a slider can be dragged; extra views, which take a while to find, are
those of the moment when it was switched on, until the panel is changed.
"""

import bpy
import numpy as np

from . import properties, scene
from .drawings import Drawing, redraw
from .jobs.coverage import cameras_for
from .jobs.errors import TweedError
from .jobs.rigs import OF_VIEWS, views_of
from .jobs.view_lists import read_names
from .operators import reports
from .translation import shown as told_as

_LENGTH = 0.3  # of a drawn frustum, in sizes of the mesh
_ON, _OFF = (0.96, 0.62, 0.15, 1.0), (0.5, 0.5, 0.5, 0.7)
_EDGES = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1), (1, 5), (2, 5))  # the last two: which way is up


class _Shown(Drawing):
    """What is drawn now, and for what the panel was set to."""

    positions: np.ndarray | None = None
    key: tuple = ()
    drawn_as: tuple = ()
    cameras: tuple = ()


shown = _Shown()


class TWEED_OT_preview_views(bpy.types.Operator):
    bl_idname = "tweed.preview_views"
    bl_label = "Show Views"
    bl_description = "Draw where the views stand and look, with their names; press again to take it away"
    bl_options = {"REGISTER"}

    objects: properties.objects_property()

    @classmethod
    def poll(cls, context):
        if context.scene.tweed.rig == "scene":
            cls.poll_message_set("The scene's cameras are drawn by Blender itself")
            return False
        return True

    @reports
    def execute(self, context):
        if shown.positions is not None:
            hide()
            return
        objects, group = scene.named_or_chosen(context, self.objects), context.scene.tweed
        mesh = scene.export(context, objects).mesh
        shown.cameras = cameras_for(_all_on(group), mesh)
        shown.positions, shown.key = mesh.positions, _key(context)
        shown.begin(objects, POST_VIEW=_draw_lines, POST_PIXEL=_draw_names)


def hide() -> None:
    """Nothing is drawn any more. At another file's loading and at the end of the extension too."""
    shown.positions, shown.key, shown.drawn_as, shown.cameras = None, (), (), ()
    shown.end()


def follow(context) -> None:
    """Called where the panel is drawn: the 3D views are drawn anew when what they show was set otherwise."""
    if shown.positions is None:
        return
    wanted = (*_key(context), properties.full_values(context.scene.tweed)["skip_views"])
    if wanted != shown.drawn_as:
        shown.drawn_as = wanted
        redraw()


def views(context) -> list[tuple]:
    """(camera of the job, whether it is on) as the panel is set now; nothing where that cannot be, or the mesh has moved."""
    if shown.positions is None or not shown.stands:
        return []
    group = context.scene.tweed
    try:
        if group.rig == "scene":
            return []  # Blender draws them itself
        if shown.key != _key(context):
            shown.cameras, shown.key = views_of(_all_on(group), shown.positions), _key(context)
        skipped = read_names(properties.full_values(group)["skip_views"])
    except TweedError:  # the panel says it
        return []
    return [(camera, camera.name not in skipped) for camera in shown.cameras]


def frustum(camera, length: float) -> np.ndarray:
    """f32[6,3]: where a view looks from, the corners of what it sees `length` before it, and a mark above the upper edge.

    A view without perspective is drawn from the middle of its own near plane.
    """
    eye = np.linalg.inv(camera.view)[:3, 3]
    right, up, back = camera.view[:3, :3]
    x, y = 1 / camera.projection[0, 0], 1 / camera.projection[1, 1]
    if camera.projection[3, 3] != 1:  # with perspective the frame grows with the distance
        x, y = x * length, y * length
    else:
        x, y = min(x, length), min(y, length)
    middle = eye - back * length
    corners = [middle + sx * x * right + sy * y * up for sx, sy in ((-1, 1), (1, 1), (1, -1), (-1, -1))]
    return np.array([eye, *corners, middle + 1.5 * y * up], np.float32)


def _all_on(group) -> dict:
    return properties.full_values(group) | dict.fromkeys(OF_VIEWS, "")


def _key(context) -> tuple:
    values = properties.full_values(context.scene.tweed)
    return tuple(values[name] for name in ("rig", "views", "extra_views", "lens"))


def _length() -> float:
    return _LENGTH * float(np.ptp(shown.positions, axis=0).max() or 1.0)


def _draw_lines() -> None:
    import gpu  # cannot be used without a window
    from gpu_extras.batch import batch_for_shader

    shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
    shader.bind()
    shader.uniform_float("viewportSize", gpu.state.viewport_get()[2:])
    shader.uniform_float("lineWidth", 1.5 * (bpy.context.preferences.system.ui_scale or 1.0))
    gpu.state.blend_set("ALPHA")
    gpu.state.depth_test_set("LESS_EQUAL")
    for on, colour in ((False, _OFF), (True, _ON)):
        lines = [frustum(camera, _length())[list(edge)] for camera, used in views(bpy.context) if used == on for edge in _EDGES]
        if lines:
            shader.uniform_float("color", colour)
            batch_for_shader(shader, "LINES", {"pos": np.concatenate(lines)}).draw(shader)
    gpu.state.depth_test_set("NONE")
    gpu.state.blend_set("NONE")


def _draw_names() -> None:
    import blf
    from bpy_extras.view3d_utils import location_3d_to_region_2d

    context, scale = bpy.context, bpy.context.preferences.system.ui_scale or 1.0
    blf.size(0, 11 * scale)
    blf.enable(0, blf.SHADOW)
    blf.shadow(0, 3, 0, 0, 0, 0.8)
    for camera, on in views(context):
        at = location_3d_to_region_2d(context.region, context.region_data, frustum(camera, _length())[5])
        if at is not None:
            label = told_as(camera.name.removeprefix("Tweed ").capitalize())
            blf.color(0, *(_ON if on else _OFF))
            blf.position(0, at.x - blf.dimensions(0, label)[0] / 2, at.y + 4 * scale, 0)
            blf.draw(0, label)
    blf.disable(0, blf.SHADOW)


CLASSES = (TWEED_OT_preview_views,)
