# SPDX-License-Identifier: GPL-3.0-or-later
"""One view of a texture, done anew: chosen by a click on the surface or by name, with words of its own."""

import bpy
from bpy_extras.view3d_utils import region_2d_to_origin_3d, region_2d_to_vector_3d
from mathutils import Vector

from . import ownership, properties, scene, session
from .jobs.errors import TweedError, UserError
from .operators import reports
from .rows import text_lines
from .translation import told


class TWEED_OT_pick_view(bpy.types.Operator):
    bl_idname = "tweed.pick_view"
    bl_label = "Pick on Mesh"
    bl_description = "Click a spot of the textured mesh: the view that painted it is chosen. Right click or Esc: nothing is"
    bl_options = {"REGISTER", "UNDO"}

    objects: properties.objects_property()
    origin: bpy.props.FloatVectorProperty(name="From", description="Where the ray starts", options={"SKIP_SAVE"})
    direction: bpy.props.FloatVectorProperty(
        name="Direction", description="Where the ray goes", default=(0.0, 0.0, -1.0), options={"SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context):
        if context.mode not in ("OBJECT", "PAINT_TEXTURE", "SCULPT"):
            cls.poll_message_set("Works in Object, Texture Paint and Sculpt Mode; or choose the view by name")
            return False
        return True

    def invoke(self, context, event):
        if context.area is None or context.area.type != "VIEW_3D":
            self.report({"ERROR"}, told(self, "Clicking works in a 3D view; or choose the view by name."))
            return {"CANCELLED"}
        context.window.cursor_modal_set("EYEDROPPER")
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context, event):
        if event.type in ("RIGHTMOUSE", "ESC"):
            context.window.cursor_modal_restore()
            return {"CANCELLED"}
        if event.type != "LEFTMOUSE" or event.value != "PRESS":
            return {"PASS_THROUGH"} if event.type in ("MIDDLEMOUSE", "WHEELUPMOUSE", "WHEELDOWNMOUSE") else {"RUNNING_MODAL"}
        context.window.cursor_modal_restore()
        place = next((r for r in context.area.regions if r.type == "WINDOW"), None)
        at = (event.mouse_x - place.x, event.mouse_y - place.y)
        view = context.space_data.region_3d
        self.origin = region_2d_to_origin_3d(place, view, at)
        self.direction = region_2d_to_vector_3d(place, view, at)
        return self.execute(context)

    @reports
    def execute(self, context):
        objects = scene.named_or_chosen(context, self.objects)
        found = ownership.source(objects, session.jobs_folder())
        view = ownership.clicked(context, found, objects, Vector(self.origin), Vector(self.direction).normalized())
        group = context.scene.tweed
        group.view, group.view_prompt, group.view_avoid = view.name, view.prompt, view.avoid
        share = found.share(found.names().index(view.name))
        self.report({"INFO"}, told(self, f"Painted by the view '{view.name}', as {share:.0%} of the texture"))


class TWEED_OT_regenerate_view(bpy.types.Operator):
    bl_idname = "tweed.regenerate_view"
    bl_label = "Redo This View"
    bl_description = "Paint again what this view painted; the rest of the texture stays as it is"
    bl_options = {"REGISTER"}
    __annotations__ = {
        "objects": properties.objects_property(),
        "view": bpy.props.StringProperty(
            name="View", description="Name of the view; empty: the one chosen in the panel", options={"SKIP_SAVE"}
        ),
        "wait": properties.wait_property(),
        **{
            name: properties.make(properties.SETTINGS[name], options={"SKIP_SAVE"})
            for name in ("prompt", "avoid", "seed", "strength", "feather", "steps")
        },
    }

    @classmethod
    def poll(cls, context):
        if session.running():
            cls.poll_message_set(session.BUSY)
            return False
        return True

    @reports
    def execute(self, context):
        group = context.scene.tweed
        objects = scene.named_or_chosen(context, self.objects)
        found = ownership.source(objects, session.jobs_folder())
        targets = scene.find_targets(found.objects, {}, any_file=True)
        ownership.check_shown(found, targets)
        asked = self.properties.is_property_set
        given = {name: getattr(self, name) for name in ("seed", "strength", "feather", "steps") if asked(name)}
        given.setdefault("seed", group.seed if group.seed_lock else properties.new_seed())
        values, part = ownership.again(
            found, self.view or group.view,
            self.prompt if asked("prompt") else group.view_prompt,
            self.avoid if asked("avoid") else group.view_avoid, given,
        )  # fmt: skip
        session.begin(context, [target.object for target in targets], values, part)
        if not (self.wait or bpy.app.background):
            session.follow()
            return
        outcome = session.finish()
        self.report({"INFO"}, told(self, " ".join([*outcome.remarks, outcome.message])))


def draw(layout, context) -> None:
    """The box in Edit Existing."""
    group, objects = context.scene.tweed, scene.chosen(context)
    box = layout.box()
    box.label(text="One View", icon="CAMERA_DATA")
    try:
        ownership.maps_of(ownership.views_folder(ownership.job_of(objects, session.jobs_folder())))
        if not ownership.names_now(objects, session.jobs_folder()):
            raise UserError("The views of this texture are not known.", "Generate it again.")
    except TweedError as error:
        text_lines(box, context, f"{error.message} {error.action}", "INFO")
        return
    row = box.row(align=True)
    row.prop(group, "view")
    row.operator("tweed.pick_view", text="", icon="EYEDROPPER")
    box.prop(group, "view_prompt")
    box.prop(group, "view_avoid")
    row = box.row()
    row.enabled = bool(group.view)
    row.operator("tweed.regenerate_view", icon="FILE_REFRESH")
    if not group.view:
        text_lines(box, context, "Choose a view, or pick a spot that it painted.", "INFO")


def offered(_group, context, typed: str) -> list[str]:
    """Views of the selected objects' texture whose names have the typed words."""
    names = ownership.names_now(scene.chosen(context), session.jobs_folder())
    return [name for name in names if typed.lower() in name.lower()] or list(names)


CLASSES = (TWEED_OT_pick_view, TWEED_OT_regenerate_view)
