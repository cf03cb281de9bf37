# SPDX-License-Identifier: GPL-3.0-or-later
"""Presets: the shipped ones and the artist's own, TOML files that hold only what differs from the defaults."""

import re

import bpy

from . import properties, session
from .jobs.errors import UserError
from .jobs.presets import SHIPPED, read_preset, write_preset
from .jobs.rigs import OF_VIEWS
from .operators import reports
from .translation import told

_NAME = re.compile(r"[^\W_][\w .+-]{0,60}")
# What belongs to the picture and not to the way of making it.
_ASIDE = ("prompt", "avoid", "seed", *OF_VIEWS, "slots", "uv_map")


def folder():
    """Where the artist's own presets are."""
    return session.user_folder("presets")


def available() -> dict:
    """Preset files by name, the artist's own last; those of the same name replace the shipped ones."""
    found = {}
    for place in (SHIPPED, folder()):
        found |= {path.stem: path for path in sorted(place.glob("*.toml"))}
    return found


class TWEED_MT_presets(bpy.types.Menu):
    bl_idname = "TWEED_MT_presets"
    bl_label = "Presets"

    def draw(self, context):
        for name in available():
            self.layout.operator("tweed.preset_load", text=name.replace("_", " ").title()).name = name
        self.layout.separator()
        self.layout.operator("tweed.preset_save", icon="ADD")


class TWEED_OT_preset_load(bpy.types.Operator):
    bl_idname = "tweed.preset_load"
    bl_label = "Load Preset"
    bl_description = "Set the panel to a preset; prompt and seed stay"
    bl_options = {"REGISTER", "UNDO"}

    name: bpy.props.StringProperty(name="Name", options={"SKIP_SAVE"})

    @reports
    def execute(self, context):
        found = available()
        if self.name not in found:
            raise UserError(f"There is no preset {self.name!r}.", f"There are: {', '.join(found)}.")
        group = context.scene.tweed
        kept = {name: value for name, value in properties.panel_values(group).items() if name in _ASIDE}
        locked = group.seed_lock
        properties.set_panel(group, read_preset(found[self.name]) | kept)
        group.seed_lock = locked


class TWEED_OT_preset_save(bpy.types.Operator):
    bl_idname = "tweed.preset_save"
    bl_label = "Save as Preset"
    bl_description = "Keep the settings of the panel under a name, without prompt and seed"
    bl_options = {"REGISTER"}

    name: bpy.props.StringProperty(name="Name", description="Letters, digits, spaces", options={"SKIP_SAVE"})

    def invoke(self, context, event):
        return context.window_manager.invoke_props_dialog(self)

    @reports
    def execute(self, context):
        name = self.name.strip()
        if not _NAME.fullmatch(name):
            raise UserError(f"{name!r} cannot be a preset's name.", "Use letters, digits, spaces, dots and dashes.")
        values = properties.panel_values(context.scene.tweed)
        write_preset(folder() / f"{name}.toml", {k: v for k, v in values.items() if k not in _ASIDE}, name)
        self.report({"INFO"}, told(self, f"Saved the preset {name}"))


CLASSES = (TWEED_MT_presets, TWEED_OT_preset_load, TWEED_OT_preset_save)
