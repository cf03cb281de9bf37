# SPDX-License-Identifier: GPL-3.0-or-later
"""Buttons for jobs that wait and jobs of the past, for setting the engine up, and for reporting a fault."""

import json
import platform
from pathlib import Path

import bpy

from . import history, preferences, properties, scene, session
from .jobs.errors import UserError
from .jobs.folder import VERSION
from .jobs.rigs import names_left
from .jobs.settings import resolve
from .operators import reports
from .rows import text_lines
from .translation import told


def _entry(folder: str) -> history.Entry:
    """The past job in that folder. Raises UserError."""
    path = Path(bpy.path.abspath(folder))
    if not folder or not path.is_dir():
        raise UserError(f"There is no job in {folder or '(nothing)'}.", "It may have been deleted; refresh the list.")
    return history.read(path)


class TWEED_OT_queue_add(bpy.types.Operator):
    bl_idname = "tweed.queue_add"
    bl_label = "Add to Queue"
    bl_description = "Paint the selected mesh with these settings as soon as the jobs before it are done"
    bl_options = {"REGISTER"}
    __annotations__ = properties.operator_annotations() | {
        "objects": properties.objects_property()
    }

    @reports
    def execute(self, context):
        values = properties.wanted(context.scene.tweed, properties.operator_values(self.properties))
        ordered = values.get("method") == "edit" and values.get("instruction", "").strip()
        if not values.get("prompt", "").strip() and not ordered:
            raise UserError("The prompt is empty.", "Write what the surface should look like.")
        settings = resolve(values)
        if settings["rig"] != "scene":
            names_left(settings)
        objects = scene.named_or_chosen(context, self.objects)
        session.wait_in_line(objects, values)


class _OnWaiting:
    """For operators on one of the jobs that wait."""

    index: bpy.props.IntProperty(name="Place", description="Place in the queue, from 0", min=0, options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context):
        if not session.now.waiting:
            cls.poll_message_set("No job is waiting")
            return False
        return True

    def place(self) -> int:
        if self.index >= len(session.now.waiting):
            raise UserError(f"There is no waiting job number {self.index + 1}.", "Look at the queue again.")
        return self.index


class TWEED_OT_queue_remove(_OnWaiting, bpy.types.Operator):
    bl_idname = "tweed.queue_remove"
    bl_label = "Remove"
    bl_description = "Take this job out of the queue"
    bl_options = {"REGISTER"}

    @reports
    def execute(self, context):
        del session.now.waiting[self.place()]
        session.redraw()


class TWEED_OT_queue_up(_OnWaiting, bpy.types.Operator):
    bl_idname = "tweed.queue_up"
    bl_label = "Earlier"
    bl_description = "Let this job run before the one above it"
    bl_options = {"REGISTER"}

    @reports
    def execute(self, context):
        place = self.place()
        if place:
            waiting = session.now.waiting
            waiting[place - 1], waiting[place] = waiting[place], waiting[place - 1]
        session.redraw()


class TWEED_OT_queue_down(_OnWaiting, bpy.types.Operator):
    bl_idname = "tweed.queue_down"
    bl_label = "Later"
    bl_description = "Let the job below this one run first"
    bl_options = {"REGISTER"}

    @reports
    def execute(self, context):
        place, waiting = self.place(), session.now.waiting
        if place + 1 < len(waiting):
            waiting[place], waiting[place + 1] = waiting[place + 1], waiting[place]
        session.redraw()


class _OnPast:
    """For operators on one of the jobs of the past."""

    job: bpy.props.StringProperty(name="Job", description="Folder of the job", subtype="DIR_PATH", options={"SKIP_SAVE"})


class TWEED_OT_redo_settings(_OnPast, bpy.types.Operator):
    bl_idname = "tweed.redo_settings"
    bl_label = "Use These Settings"
    bl_description = "Set the panel to the prompt, seed and settings of this job"
    bl_options = {"REGISTER", "UNDO"}

    @reports
    def execute(self, context):
        entry = _entry(self.job)
        if not entry.settings:
            raise UserError(f"The settings of {entry.id} cannot be read: {entry.message}.", "Choose another job.")
        properties.set_panel(context.scene.tweed, entry.settings)


class TWEED_OT_forget_job(_OnPast, bpy.types.Operator):
    bl_idname = "tweed.forget_job"
    bl_label = "Delete Job"
    bl_description = "Delete this job's folder. Textures that are on materials are elsewhere and stay"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        if session.running():
            cls.poll_message_set("A texture is being made; wait for it, or cancel it first")
            return False
        return True

    def invoke(self, context, event):
        return context.window_manager.invoke_confirm(self, event)

    @reports
    def execute(self, context):
        history.forget(_entry(self.job), session.jobs_folder())
        outcome = session.now.outcome
        if outcome and outcome.folder and not outcome.folder.exists():
            session.now.outcome = None
        session.now.entries = None
        session.redraw()


class TWEED_OT_refresh_history(bpy.types.Operator):
    bl_idname = "tweed.refresh_history"
    bl_label = "Refresh"
    bl_description = "Read the jobs folder again"
    bl_options = {"REGISTER", "INTERNAL"}

    def execute(self, context):
        session.now.entries = None
        session.redraw()
        return {"FINISHED"}


class TWEED_OT_engine_setup(bpy.types.Operator):
    bl_idname = "tweed.engine_setup"
    bl_label = "Set Up"
    bl_description = "Download and install the engine for this user. It can be stopped, and goes on where it was"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        if session.now.installer is not None and session.now.installer.state == "running":
            cls.poll_message_set("The engine is being set up already")
            return False
        return True

    @reports
    def execute(self, context):
        session.set_up()


class TWEED_OT_engine_setup_stop(bpy.types.Operator):
    bl_idname = "tweed.engine_setup_stop"
    bl_label = "Stop Setting Up"
    bl_description = "Stop the installer; what it has downloaded is kept for the next time"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        if session.now.installer is None:
            cls.poll_message_set("Nothing is being set up")
            return False
        return True

    def execute(self, context):
        session.stop_set_up()
        return {"FINISHED"}


class TWEED_OT_engine_remote(bpy.types.Operator):
    bl_idname = "tweed.engine_remote"
    bl_label = "Use a Remote Machine"
    bl_description = "Make textures on another machine that ssh reaches without asking for anything"
    bl_options = {"REGISTER"}

    host: bpy.props.StringProperty(name="Machine", description="user@host, or user@host:2222 for another port")
    folder: bpy.props.StringProperty(
        name="Folder", description="Where Tweed lies there; empty: where its install.py has set it up"
    )

    def invoke(self, context, event):
        chosen = preferences.get(context)
        if chosen:
            self.host, self.folder = chosen.remote_host, chosen.remote_folder
        return context.window_manager.invoke_props_dialog(self, width=400)

    def draw(self, context):
        self.layout.use_property_split = True
        self.layout.prop(self, "host", placeholder="user@host")
        self.layout.prop(self, "folder", placeholder="found by itself")
        words = "Tweed must be set up there (install.py), and ssh must ask for nothing."
        text_lines(self.layout, context, words, "INFO")

    @reports
    def execute(self, context):
        session.use_remote(self.host, self.folder)


class TWEED_OT_copy_report(bpy.types.Operator):
    bl_idname = "tweed.copy_report"
    bl_label = "Copy Report"
    bl_description = "Copy versions, settings and the end of the engine's log, for a bug report. Nothing is sent anywhere"
    bl_options = {"REGISTER"}

    @reports
    def execute(self, context):
        context.window_manager.clipboard = report_text(context)
        self.report({"INFO"}, told(self, "The report is on the clipboard"))


def report_text(context) -> str:
    """What a bug report needs: versions, the machine, the settings that were changed, the end of the engine's log."""
    engine, outcome = session.now.engine, session.now.outcome
    facts = {
        "tweed": VERSION,
        "blender": bpy.app.version_string,
        "system": platform.platform(),
        "engine": f"{engine.info.version} on {engine.info.device}" if engine and engine.info else "not running",
        "settings": properties.panel_values(context.scene.tweed),
        "outcome": f"{outcome.kind}: {outcome.message} {outcome.action}" if outcome else "none",
    }
    tail = engine.log.read_text("utf-8", "replace")[-4000:] if engine and engine.log.is_file() else ""
    return json.dumps(facts, indent=1, ensure_ascii=False) + ("\n\n" + tail if tail else "") + "\n"


CLASSES = (
    TWEED_OT_queue_add,
    TWEED_OT_queue_remove,
    TWEED_OT_queue_up,
    TWEED_OT_queue_down,
    TWEED_OT_redo_settings,
    TWEED_OT_forget_job,
    TWEED_OT_refresh_history,
    TWEED_OT_engine_setup,
    TWEED_OT_engine_setup_stop,
    TWEED_OT_engine_remote,
    TWEED_OT_copy_report,
)
