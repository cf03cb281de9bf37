# SPDX-License-Identifier: GPL-3.0-or-later
"""A tick for each material of the selected objects: which of them are painted."""

import bpy

from . import scene, session, slots
from .operators import reports


class TWEED_OT_slot_toggle(bpy.types.Operator):
    bl_idname = "tweed.slot_toggle"
    bl_label = "Paint This Material"
    bl_description = "Whether faces of this material are painted; otherwise they keep their look"
    bl_options = {"REGISTER", "UNDO"}

    name: bpy.props.StringProperty(
        name="Material", description="Its name, or #2 for the second slot", options={"SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context):
        if not scene.chosen(context):
            cls.poll_message_set("Select the mesh to texture")
            return False
        return True

    @reports
    def execute(self, context):
        group = context.scene.tweed
        group.slots = slots.turned(scene.chosen(context), group.slots, self.name)
        session.redraw()


def draw(layout, context) -> None:
    """The ticks, where there is something to choose."""
    objects = scene.chosen(context)
    there = list(dict.fromkeys(entry for obj in objects for entry in slots.entries(obj)))
    if len(there) < 2:
        return
    painted = slots.ticked(objects, context.scene.tweed.slots)
    split = layout.split(factor=0.4)  # below the names' field
    split.label(text="")
    column = split.column(align=True)
    for entry in there:
        row = column.row()
        row.alignment = "LEFT"
        icon = "CHECKBOX_HLT" if entry in painted else "CHECKBOX_DEHLT"
        row.operator("tweed.slot_toggle", text=entry, icon=icon, emboss=False).name = entry


CLASSES = (TWEED_OT_slot_toggle,)
