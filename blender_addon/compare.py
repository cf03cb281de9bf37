# SPDX-License-Identifier: GPL-3.0-or-later
"""Before and after: a toggle for the panel, and a button in the 3D view that shows the material as it was while it is held.

A button of a panel acts when it is let go, so it cannot be held; a gizmo acts when it is pressed.
"""

import bpy
from mathutils import Matrix

from . import material, preferences, properties, scene, session
from .operators import OnTextured, reports
from .translation import told

_RADIUS = 14.0  # of the button, in points as Blender's navigation buttons have it
_MARGIN = 10.0


class TWEED_OT_compare(OnTextured, bpy.types.Operator):
    bl_idname = "tweed.compare"
    bl_label = "Compare"
    bl_description = "Show the material as it was before; press again for the texture"
    bl_options = {"REGISTER"}

    @reports
    def execute(self, context):
        shown = material.compare(scene.named_or_chosen(context, self.objects))
        self.report({"INFO"}, told(self, "Texture shown" if shown else "Shown as before; press Compare again for the texture"))


class TWEED_OT_compare_hold(OnTextured, bpy.types.Operator):
    bl_idname = "tweed.compare_hold"
    bl_label = "Hold to Compare"
    bl_description = "Show the material as it was before while the button, or the key that this is put on, is held"
    bl_options = {"INTERNAL"}  # what it shows is put back, so there is nothing to undo

    def invoke(self, context, event):
        if event.value == "RELEASE":
            self.report({"WARNING"}, told(self, "Nothing is held down; use Compare"))
            return {"CANCELLED"}
        self.held, self.names = event.type, [obj.name for obj in scene.named_or_chosen(context, self.objects)]
        if self._turn(context) != {"FINISHED"}:
            return {"CANCELLED"}
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context, event):
        if event.type == self.held and event.value == "RELEASE" or event.type in ("ESC", "WINDOW_DEACTIVATE"):
            return self._turn(context)
        return {"RUNNING_MODAL"}

    def cancel(self, context):
        """Blender ends it, with the window for one."""
        self._turn(context)

    @reports
    def _turn(self, context):
        material.compare([bpy.data.objects[name] for name in self.names if name in bpy.data.objects])
        context.area.tag_redraw()


class TWEED_GGT_compare(bpy.types.GizmoGroup):
    bl_idname = "TWEED_GGT_compare"
    bl_label = "Tweed: Hold to Compare"
    bl_space_type = "VIEW_3D"
    bl_region_type = "WINDOW"
    bl_options = {"PERSISTENT", "SCALE"}

    @classmethod
    def poll(cls, context):
        wishes = preferences.get(context)
        if (wishes and not wishes.compare_button) or session.running():
            return False
        obj = context.object  # the active one only: this is asked at every redraw of the 3D view
        chosen = obj is not None and obj.type == "MESH" and (context.mode != "OBJECT" or obj.select_get())
        return chosen and bool(material.textured([obj]))

    def setup(self, context):
        button = self.gizmos.new("GIZMO_GT_button_2d")
        button.icon = "ARROW_LEFTRIGHT"
        button.draw_options = {"BACKDROP", "OUTLINE"}
        button.show_drag = False
        button.color, button.alpha = (0.0, 0.0, 0.0), 0.4
        button.color_highlight, button.alpha_highlight = (0.5, 0.5, 0.5), 0.5
        button.scale_basis = _RADIUS
        button.target_set_operator("tweed.compare_hold")
        self.button = button

    def draw_prepare(self, context):
        region, scale = context.region, context.preferences.system.ui_scale or 1.0
        side = next((r.width for r in context.area.regions if r.type == "UI"), 0)
        shift = side if context.preferences.system.use_region_overlap else 0
        away = (_RADIUS + _MARGIN) * scale
        self.button.matrix_basis = Matrix.Translation((region.width - shift - away, away, 0.0))


CLASSES = (TWEED_OT_compare, TWEED_OT_compare_hold, TWEED_GGT_compare)
