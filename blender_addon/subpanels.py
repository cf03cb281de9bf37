# SPDX-License-Identifier: GPL-3.0-or-later
"""The closed sub-panels: cameras, method, guidance, edit, output, history. Rows come from the settings schema."""

import bpy

from . import panels, session, thumbnails, view_operators
from .jobs.settings import SETTINGS

_ON_MAIN = ("prompt", "avoid", "quality", "seed")  # and the size
_STATES = {"done": "CHECKMARK", "failed": "ERROR", "cancelled": "CANCEL", "unfinished": "QUESTION", "damaged": "FILE_HIDDEN"}


class _Sub(panels.Tab):
    bl_parent_id = "TWEED_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context):
        return panels.engine_usable()


def _settings(layout, context, *groups, also=()) -> None:
    """A row for each setting of these groups that the chosen method reads, and for those named besides."""
    layout.use_property_split = True
    layout.use_property_decorate = False
    group, column = context.scene.tweed, layout.column()
    for name, setting in SETTINGS.items():
        if (setting.group in groups or name in also) and name not in _ON_MAIN and hasattr(group, name):
            if group.method in setting.used_by:
                row = column.row()
                row.enabled = not (name == "views" and group.rig == "scene")  # then every camera is a view
                row.prop(group, name)


class TWEED_PT_cameras(_Sub, bpy.types.Panel):
    bl_idname = "TWEED_PT_cameras"
    bl_label = "Cameras"

    def draw(self, context):
        layout = self.layout
        _settings(layout, context, "Cameras", also=("views", "direction_prompts"))
        if context.scene.tweed.rig != "scene":
            layout.operator("tweed.add_cameras", icon="OUTLINER_OB_CAMERA")
            return
        column = layout.column(align=True)
        column.use_property_split = False
        for obj in view_operators.scene_cameras(context):
            row = column.row(align=True)
            row.prop(obj.data.tweed, "use", text="")
            row.label(text=obj.name)
            words = row.row()
            words.enabled = obj.data.tweed.use
            words.prop(obj.data.tweed, "prompt", text="", placeholder="Words for this view")


class TWEED_PT_method(_Sub, bpy.types.Panel):
    bl_idname = "TWEED_PT_method"
    bl_label = "Method"

    def draw(self, context):
        _settings(self.layout, context, "Method", "Iterative", "Distilled", also=("steps",))


class TWEED_PT_guidance(_Sub, bpy.types.Panel):
    bl_idname = "TWEED_PT_guidance"
    bl_label = "Model & Guidance"

    def draw(self, context):
        _settings(self.layout, context, "Model", "Guidance", "Control", "Style", also=("view_size",))


class TWEED_PT_edit(_Sub, bpy.types.Panel):
    bl_idname = "TWEED_PT_edit"
    bl_label = "Edit Existing"

    def draw(self, context):
        _settings(self.layout, context, "Edit")


class TWEED_PT_output(_Sub, bpy.types.Panel):
    bl_idname = "TWEED_PT_output"
    bl_label = "Output"

    def draw(self, context):
        _settings(self.layout, context, "Output", also=("rasterizer",))


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
            panels.text_lines(layout, context, "Textures that you make are listed here.", "INFO")
        layout.operator("tweed.copy_report", icon="COPYDOWN")


def _draw_queue(layout) -> None:
    waiting = session.now.waiting
    if waiting:
        box = layout.box()
        box.label(text=f"{len(waiting)} waiting", icon="SORTTIME")
        for index, job in enumerate(waiting):
            row = box.row(align=True)
            row.label(text=f"{', '.join(job.objects)}: {job.values.get('prompt', '')}")
            up = row.row(align=True)
            up.enabled = index > 0
            up.operator("tweed.queue_up", text="", icon="TRIA_UP").index = index
            row.operator("tweed.queue_remove", text="", icon="X").index = index
    layout.operator("tweed.queue_add", icon="ADD")


def _draw_entry(layout, context, entry) -> None:
    box = layout.box()
    icon = thumbnails.icon(entry.picture)
    if icon:
        box.template_icon(icon_value=icon, scale=4)
    words = entry.prompt or entry.id
    panels.text_lines(box, context, words, _STATES[entry.state])
    if entry.state == "done":
        size = panels.properties.size_label(entry.settings.get("texture_size", 1024))
        box.label(text=f"{size} · seed {entry.settings.get('seed', 0)} · {session.duration(entry.seconds)}")
    elif entry.message:
        panels.text_lines(box, context, entry.message)
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
    TWEED_PT_guidance,
    TWEED_PT_edit,
    TWEED_PT_output,
    TWEED_PT_history,
)
