# SPDX-License-Identifier: GPL-3.0-or-later
"""Buttons about models: get one, set what suits it, and choose files and folders for the settings that name them."""

import textwrap

import bpy

from . import models, session
from .jobs.errors import UserError
from .operators import reports
from .places import words_root
from .translation import told

_FOLDERS = ("model", "vae", "preview_vae")
_FILTERS = {
    "lora": "*.safetensors",
    "style_adapter": "*.safetensors",
    "multiview": "*.safetensors",
    "style_image": "*.png;*.jpg;*.jpeg;*.webp;*.tif;*.tiff;*.exr",
}


class TWEED_OT_pick_path(bpy.types.Operator):
    bl_idname = "tweed.pick_path"
    bl_label = "Choose"
    bl_description = "Choose the file or folder in the file browser; a LoRA is added to those that are there"
    bl_options = {"REGISTER", "UNDO"}

    setting: bpy.props.StringProperty(name="Setting", options={"SKIP_SAVE", "HIDDEN"})
    filepath: bpy.props.StringProperty(name="File", subtype="FILE_PATH", options={"SKIP_SAVE"})
    directory: bpy.props.StringProperty(name="Folder", subtype="DIR_PATH", options={"SKIP_SAVE"})
    filter_glob: bpy.props.StringProperty(default="", options={"SKIP_SAVE", "HIDDEN"})

    def invoke(self, context, event):
        self.filter_glob = _FILTERS.get(self.setting, "")
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    @reports
    def execute(self, context):
        group = context.scene.tweed
        if self.setting not in (*_FOLDERS, *_FILTERS):
            raise UserError(f"{self.setting!r} names no file.", f"One of {', '.join((*_FOLDERS, *_FILTERS))} does.")
        path = (self.directory or self.filepath) if self.setting in _FOLDERS else self.filepath
        if not path:
            raise UserError("Nothing was chosen.", "Choose a file or a folder.")
        path = path.rstrip("/\\") or path
        if self.setting == "lora" and group.lora.strip():
            path = f"{group.lora.rstrip(', ')}, {path}"
        setattr(group, self.setting, path)
        models.forget_states()


class TWEED_OT_model_add(bpy.types.Operator):
    bl_idname = "tweed.model_add"
    bl_label = "Download"
    bl_description = "Download this model into the cache that all programs share; it can be stopped, and goes on where it was"
    bl_options = {"REGISTER"}

    name: bpy.props.StringProperty(name="Model", description="An id of the Hugging Face hub", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context):
        if session.now.download is not None:
            cls.poll_message_set("A model is being downloaded; wait for it, or stop it first")
            return False
        return True

    @reports
    def execute(self, context):
        name = self.name or next(iter(models.missing(context.scene.tweed.model)), "")
        if not models.is_hub_id(name):
            raise UserError(f"{name!r} is no id of the hub." if name else "The model is on this machine.",
                            "Give an id such as stabilityai/sdxl-turbo.")  # fmt: skip
        session.get_model(name)


class TWEED_OT_model_add_stop(bpy.types.Operator):
    bl_idname = "tweed.model_add_stop"
    bl_label = "Stop Downloading"
    bl_description = "Stop; what has come is kept for the next time"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context):
        if session.now.download is None:
            cls.poll_message_set("No model is being downloaded")
            return False
        return True

    def execute(self, context):
        session.stop_download()
        return {"FINISHED"}


class TWEED_OT_model_words(bpy.types.Operator):
    bl_idname = "tweed.model_words"
    bl_label = "Words It Knows"
    bl_description = "Show the materials, colors and wear that this model was trained on; other words have little effect"
    bl_options = {"REGISTER"}

    def invoke(self, context, event):
        told = self.execute(context)
        return context.window_manager.invoke_popup(self, width=560) if told == {"FINISHED"} else told

    def draw(self, context):
        column = self.layout.column(align=True)
        for kind, known in models.words(context.scene.tweed.model, words_root()).items():
            column.label(text=kind)
            for line in textwrap.wrap(", ".join(known), 86):
                column.label(text=line, icon="BLANK1")

    @reports
    def execute(self, context):
        name = context.scene.tweed.model
        found = models.words(name, words_root())
        if not found:
            raise UserError(f"{name} has no list of words.", "Describe the surface in any words.")
        for kind, known in found.items():
            self.report({"INFO"}, told(self, f"{kind}: {', '.join(known)}"))


class TWEED_OT_suit_model(bpy.types.Operator):
    bl_idname = "tweed.suit_model"
    bl_label = "Set These"
    bl_description = "Set the panel to what this model works best with"
    bl_options = {"REGISTER", "UNDO"}

    @reports
    def execute(self, context):
        group = context.scene.tweed
        found = models.suits(group.model, group.lora)
        if not found:
            raise UserError(f"Nothing particular is known of {group.model}.", "Its own settings are used.")
        for name, value in found.items():
            setattr(group, name, value)


CLASSES = (TWEED_OT_pick_path, TWEED_OT_model_add, TWEED_OT_model_add_stop, TWEED_OT_model_words, TWEED_OT_suit_model)
