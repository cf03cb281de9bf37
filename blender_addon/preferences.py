# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension's preferences: where the engine is, what it computes on, where jobs are kept."""

import bpy

from .jobs.settings import SETTINGS
from .properties import make


class TweedPreferences(bpy.types.AddonPreferences):
    bl_idname = __package__

    engine_where: bpy.props.EnumProperty(
        name="Engine",
        items=(
            ("HERE", "This Computer", "Textures are made on this computer"),
            ("REMOTE", "Remote", "Textures are made on another machine, reached over ssh"),
        ),
        default="HERE",
        description="Where textures are made",
    )
    remote_host: bpy.props.StringProperty(
        name="Remote Machine",
        description="user@host, a name of your ssh configuration, or user@host:2222 for another port. "
        "ssh must get in without asking for anything",
    )
    remote_folder: bpy.props.StringProperty(
        name="Remote Folder",
        description="Where Tweed lies on the remote machine; empty: where its install.py has set it up",
    )
    engine_python: bpy.props.StringProperty(
        name="Engine Python",
        subtype="FILE_PATH",
        description="The Python of the engine's virtual environment; empty: found by itself",
    )
    engine_root: bpy.props.StringProperty(
        name="Engine Folder", subtype="DIR_PATH", description="The folder that holds the engine; empty: found by itself"
    )
    jobs_folder: bpy.props.StringProperty(
        name="Jobs Folder",
        subtype="DIR_PATH",
        description="Where jobs and their results are kept; empty: in the extension's own folder",
    )
    device: make(SETTINGS["device"])
    compare_button: bpy.props.BoolProperty(
        name="Compare Button",
        description="A button at the corner of the 3D view; while it is held, the material shows as it was before",
        default=True,
    )

    def draw(self, context):
        from . import panels  # the panel draws the same engine line

        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        panels.draw_engine(layout, context, with_settings=False)
        column = layout.column()
        column.row().prop(self, "engine_where", expand=True)
        remote = self.engine_where == "REMOTE"
        places = ("remote_host", "remote_folder") if remote else ("engine_root", "engine_python")
        for name in (*places, "device", "jobs_folder", "compare_button"):
            column.prop(self, name)
        panels.draw_outcome(layout, context)


def get(context=None):
    """The preferences, or None where the extension runs without them (registered from source)."""
    addon = (context or bpy.context).preferences.addons.get(__package__)
    return addon.preferences if addon else None
