# SPDX-License-Identifier: GPL-3.0-or-later
"""The buttons. Each is a thin shell around one function; errors become reports (a RuntimeError for scripts)."""

import functools
from pathlib import Path

import bpy

from . import material, properties, scene, session, unwrap
from .jobs.errors import Cancelled, TweedError, UserError
from .translation import told


def reports(execute):
    """Turn a TweedError into Blender's red report and {'CANCELLED'}."""

    @functools.wraps(execute)
    def wrapped(self, context):
        try:
            return execute(self, context) or {"FINISHED"}
        except TweedError as error:
            log = getattr(error, "log", "")
            said = told(self, " ".join(filter(None, (error.message, error.action))))
            self.report({"ERROR"}, said + (f"\n{log}" if log else ""))
        except Cancelled:
            self.report({"WARNING"}, told(self, "Cancelled; nothing was changed"))
        session.redraw()
        return {"CANCELLED"}

    return wrapped


class TWEED_OT_generate(bpy.types.Operator):
    bl_idname = "tweed.generate"
    bl_label = "Generate Texture"
    bl_description = "Paint the selected mesh as the text says, and put the texture on its material"
    bl_options = {"REGISTER"}
    __annotations__ = properties.operator_annotations() | {
        "objects": properties.objects_property(),
        "wait": properties.wait_property(),
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
        values = properties.wanted(group, properties.operator_values(self.properties))
        session.begin(context, scene.named_or_chosen(context, self.objects), values)
        if not (self.wait or bpy.app.background):
            session.follow()
            return
        outcome = session.finish()
        for remark in outcome.remarks:
            self.report({"INFO"}, told(self, remark))
        self.report({"INFO"}, told(self, outcome.message))


class TWEED_OT_cancel(bpy.types.Operator):
    bl_idname = "tweed.cancel"
    bl_label = "Cancel"
    bl_description = "Stop making the texture; nothing is changed"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        run = session.running()
        if run is None:
            cls.poll_message_set("No texture is being made")
        elif run.state == "cancelling":
            cls.poll_message_set("The engine is stopping already")
            return False
        return run is not None

    def execute(self, context):
        session.cancel()
        return {"FINISHED"}


class OnTextured:
    """For operators on objects that carry a texture of ours."""

    objects: properties.objects_property()

    @classmethod
    def poll(cls, context):
        if session.running():
            cls.poll_message_set(session.BUSY)
            return False
        return True


class TWEED_OT_revert(OnTextured, bpy.types.Operator):
    bl_idname = "tweed.revert"
    bl_label = "Revert"
    bl_description = "Take the last texture off the selected objects; their material is as before"
    bl_options = {"REGISTER", "UNDO"}

    @reports
    def execute(self, context):
        names = material.revert(scene.named_or_chosen(context, self.objects))
        session.now.outcome = None
        self.report({"INFO"}, told(self, f"Reverted {', '.join(dict.fromkeys(names))}"))


class TWEED_OT_apply_result(bpy.types.Operator):
    bl_idname = "tweed.apply_result"
    bl_label = "Apply"
    bl_description = "Put the texture of a finished job on the objects that it was made for"
    bl_options = {"REGISTER"}

    job: bpy.props.StringProperty(
        name="Job", description="Folder of the job; empty: the last one", subtype="DIR_PATH", options={"SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context):
        if session.running():
            cls.poll_message_set(session.BUSY)
            return False
        return True

    @reports
    def execute(self, context):
        outcome = session.now.outcome
        if not self.job and not (outcome and outcome.folder):
            raise UserError("There is no result to apply.", "Choose a job's folder.")
        folder = Path(bpy.path.abspath(self.job)) if self.job else outcome.folder
        self.report({"INFO"}, told(self, session.apply_folder(folder).message))
        session.redraw()


class TWEED_OT_make_uvs(bpy.types.Operator):
    bl_idname = "tweed.make_uvs"
    bl_label = "Make UVs"
    bl_description = 'Unwrap the selected meshes into a new UV map "Tweed UV"; UV maps that exist are not touched'
    bl_options = {"REGISTER", "UNDO"}

    objects: properties.objects_property()

    @reports
    def execute(self, context):
        unwrap.make_uvs(context, scene.named_or_chosen(context, self.objects))


class TWEED_OT_engine_start(bpy.types.Operator):
    bl_idname = "tweed.engine_start"
    bl_label = "Start Engine"
    bl_description = "Load the engine now, so that the first texture starts sooner"
    bl_options = {"REGISTER"}

    @reports
    def execute(self, context):
        session.start_engine()


class TWEED_OT_engine_stop(bpy.types.Operator):
    bl_idname = "tweed.engine_stop"
    bl_label = "Stop Engine"
    bl_description = "End the engine and free its memory"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        if session.running():
            cls.poll_message_set(session.BUSY)
            return False
        if session.now.engine is None:
            cls.poll_message_set("The engine is not running")
            return False
        return True

    def execute(self, context):
        session.stop_engine()
        session.redraw()
        return {"FINISHED"}


class TWEED_OT_open_log(bpy.types.Operator):
    bl_idname = "tweed.open_log"
    bl_label = "Open Log"
    bl_description = "Open the engine's log file"
    bl_options = {"REGISTER", "INTERNAL"}

    @classmethod
    def poll(cls, context):
        if session.now.engine is None or not session.now.engine.log.is_file():
            cls.poll_message_set("The engine has not run yet")
            return False
        return True

    def execute(self, context):
        bpy.ops.wm.path_open(filepath=str(session.now.engine.log))
        return {"FINISHED"}


CLASSES = (
    TWEED_OT_generate,
    TWEED_OT_cancel,
    TWEED_OT_revert,
    TWEED_OT_apply_result,
    TWEED_OT_make_uvs,
    TWEED_OT_engine_start,
    TWEED_OT_engine_stop,
    TWEED_OT_open_log,
)
