# SPDX-License-Identifier: GPL-3.0-or-later
"""The closed sub-panels: cameras, method, model, guidance, edit, output, machine, history. Rows come from the settings schema."""

import bpy

from . import coverage_operators, current, model_panel, one_view, panels, scene, session, slot_rows, thumbnails, view_operators, view_preview, view_rows
from .jobs.errors import UserError
from .jobs.rigs import OF_VIEWS
from .jobs.settings import SETTINGS
from .rows import text_lines
from .translation import shown

_ON_MAIN = ("prompt", "avoid", "quality", "seed")  # and the size
_STATES = {"done": "CHECKMARK", "failed": "ERROR", "cancelled": "CANCEL", "unfinished": "QUESTION", "damaged": "FILE_HIDDEN"}


class _Sub(panels.Tab):
    bl_parent_id = "TWEED_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context):
        return panels.engine_usable()


def _settings(layout, context, *groups, also=(), shut=()) -> None:
    """A row for each setting of these groups that the chosen method reads, and then for those named besides.

    shut: those that say nothing as the others are set; they are greyed.
    """
    layout.use_property_split = True
    layout.use_property_decorate = False
    group, column = context.scene.tweed, layout.column()
    own = [name for name, setting in SETTINGS.items() if setting.group in groups and name not in also]
    for name in [*own, *also]:
        setting = SETTINGS[name]
        if name in _ON_MAIN + OF_VIEWS or not hasattr(group, name) or group.method not in setting.used_by:
            continue
        row = column.row()
        # with the scene's cameras every one of them is a view, with a lens of its own
        row.enabled = name not in shut and not (name in ("views", "extra_views", "lens") and group.rig == "scene")
        if name == "region_mask":
            row.prop_search(group, name, bpy.data, "images")
            continue
        if name == "uv_map":
            obj = context.object
            if obj is not None and obj.type == "MESH":
                row.prop_search(group, name, obj.data, "uv_layers", icon="GROUP_UVS")
            continue
        if name == "slots":
            row.prop(group, name, placeholder="All")
            slot_rows.draw(column, context)
            continue
        row.prop(group, name)
        if setting.special is not None and getattr(group, name) == setting.special:
            hint = row.row()
            hint.alignment = "RIGHT"
            hint.label(text="off" if setting.special_help.startswith("no") else "auto")  # "none", "no previews"


class TWEED_PT_cameras(_Sub, bpy.types.Panel):
    bl_idname = "TWEED_PT_cameras"
    bl_label = "Cameras"

    def draw(self, context):
        layout = self.layout
        _settings(layout, context, "Cameras", also=("views", "extra_views", "lens", "direction_prompts"))
        row = layout.row(align=True)
        row.operator("tweed.coverage", icon="SHADING_RENDERED")
        if coverage_operators.shown.words:
            row.operator("tweed.coverage_hide", text="", icon="X")
            text_lines(layout, context, coverage_operators.shown.words, "INFO")
        pressed = view_preview.shown.positions is not None
        view_preview.follow(context)
        layout.operator("tweed.preview_views", icon="HIDE_OFF" if pressed else "HIDE_ON", depress=pressed)
        row = layout.row(align=True)
        row.operator("tweed.add_cameras", icon="OUTLINER_OB_CAMERA")
        row.operator("tweed.camera_from_view", icon="VIEW_CAMERA")
        column = layout.column(align=True)
        column.use_property_split = False
        if context.scene.tweed.rig != "scene":
            view_rows.draw(column, context.scene.tweed)
            return
        view_rows.draw_choice(column, context.scene.tweed)
        say = {"words": "prompt", "avoid": "avoid"}[context.scene.tweed.rows.say]
        for obj in view_operators.scene_cameras(context):
            label = obj.name.removeprefix("Tweed ")  # ours
            view_rows.draw_row(column, obj.name, label[:1].upper() + label[1:], obj.data.tweed, "use", say)


class TWEED_PT_method(_Sub, bpy.types.Panel):
    bl_idname = "TWEED_PT_method"
    bl_label = "Method"

    def draw(self, context):
        _settings(self.layout, context, "Method", "Iterative", "Distilled", also=("steps",))


class TWEED_PT_model(_Sub, bpy.types.Panel):
    bl_idname = "TWEED_PT_model"
    bl_label = "Model"

    def draw(self, context):
        names = [name for name, setting in SETTINGS.items() if setting.group == "Model"]
        model_panel.draw(self.layout, context, names)
        _settings(self.layout, context, also=("view_size",))


class TWEED_PT_guidance(_Sub, bpy.types.Panel):
    bl_idname = "TWEED_PT_guidance"
    bl_label = "Guidance"

    def draw(self, context):
        _settings(self.layout, context, "Guidance")


class TWEED_PT_edit(_Sub, bpy.types.Panel):
    bl_idname = "TWEED_PT_edit"
    bl_label = "Edit Existing"

    def draw(self, context):
        group = context.scene.tweed
        shut = {"strength": group.start != "texture", "feather": group.region == "all",
                "region_mask": group.region != "mask"}  # fmt: skip
        _settings(self.layout, context, "Edit", shut=[name for name, is_shut in shut.items() if is_shut])
        if group.region == "mask":
            self.layout.operator("tweed.mask_new", icon="BRUSH_DATA")
        try:
            current.check_choice(scene.chosen(context), group.region, group.region_mask)
        except UserError as error:
            text_lines(self.layout, context, f"{error.message} {error.action}", "ERROR")
        one_view.draw(self.layout, context)


class TWEED_PT_output(_Sub, bpy.types.Panel):
    bl_idname = "TWEED_PT_output"
    bl_label = "Output"

    def draw(self, context):
        _settings(self.layout, context, "Output")
        self.layout.prop(context.scene.tweed, "save_to", placeholder="//textures")
        if session.textures_folder() is None:
            text_lines(self.layout, context, "Packed into the .blend, which is not saved yet.", "INFO")


class TWEED_PT_machine(_Sub, bpy.types.Panel):
    bl_idname = "TWEED_PT_machine"
    bl_label = "Memory & Speed"

    def draw(self, context):
        _settings(self.layout, context, "Machine")


class TWEED_PT_history(_Sub, bpy.types.Panel):
    bl_idname = "TWEED_PT_history"
    bl_label = "History & Queue"

    def draw(self, context):
        layout = self.layout
        _draw_queue(layout)
        row = layout.row()
        row.label(text="Newest first", icon="TIME")
        row.operator("tweed.refresh_history", text="", icon="FILE_REFRESH", emboss=False)
        entries = session.past()[:8]
        for entry in entries:
            _draw_entry(layout, context, entry)
        if not entries:
            text_lines(layout, context, "Textures that you make are listed here.", "INFO")
        layout.operator("tweed.copy_report", icon="COPYDOWN")


def _draw_queue(layout) -> None:
    waiting = session.now.waiting
    if waiting:
        box = layout.box()
        box.label(text=shown(f"{len(waiting)} waiting"), icon="SORTTIME")
        for index, job in enumerate(waiting):
            row = box.row(align=True)
            row.label(text=f"{', '.join(job.objects)}: {job.values.get('prompt', '')}")
            for name, icon, last in (("up", "TRIA_UP", 0), ("down", "TRIA_DOWN", len(waiting) - 1)):
                move = row.row(align=True)
                move.enabled = index != last
                move.operator(f"tweed.queue_{name}", text="", icon=icon).index = index
            row.operator("tweed.queue_remove", text="", icon="X").index = index
    layout.operator("tweed.queue_add", icon="ADD")


def _draw_entry(layout, context, entry) -> None:
    box = layout.box()
    icon = thumbnails.icon(entry.picture)
    if icon:
        box.template_icon(icon_value=icon, scale=4)
    words = entry.prompt or entry.id
    text_lines(box, context, words, _STATES[entry.state])
    if entry.state == "done":
        size = panels.properties.size_label(entry.settings.get("texture_size", 1024))
        box.label(text=shown(f"{size} · seed {entry.settings.get('seed', 0)} · {session.duration(entry.seconds)}"))
    elif entry.message:
        text_lines(box, context, entry.message)
    row = box.row(align=True)
    if entry.state == "done":
        row.operator("tweed.apply_result", icon="IMPORT").job = str(entry.folder)
    if entry.settings:
        row.operator("tweed.redo_settings", text="Settings", icon="COPYDOWN").job = str(entry.folder)
    row.operator("wm.path_open", text="", icon="FILE_FOLDER").filepath = str(entry.folder)
    row.operator("tweed.forget_job", text="", icon="TRASH").job = str(entry.folder)


CLASSES = (
    TWEED_PT_cameras,
    TWEED_PT_method,
    TWEED_PT_model,
    TWEED_PT_guidance,
    TWEED_PT_edit,
    TWEED_PT_output,
    TWEED_PT_machine,
    TWEED_PT_history,
)
