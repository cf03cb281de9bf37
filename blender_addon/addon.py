# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that Blender is told of, in order; `unregister` takes it back in reverse."""

import atexit

import bpy

from . import command, operators, panels, preferences, properties, scene, session

CLASSES = (properties.TweedSettings, preferences.TweedPreferences, *operators.CLASSES, *panels.CLASSES)
_commands = []


@bpy.app.handlers.persistent
def _file_loaded(*_):
    scene.note_load()
    session.redraw()


def register():
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.tweed = bpy.props.PointerProperty(type=properties.TweedSettings)
    bpy.app.handlers.load_post.append(_file_loaded)
    _commands.append(bpy.utils.register_cli_command("tweed", command.main))
    atexit.register(session.shutdown)


def unregister():
    atexit.unregister(session.shutdown)
    session.shutdown()
    bpy.utils.unregister_cli_command(_commands.pop())
    bpy.app.handlers.load_post.remove(_file_loaded)
    del bpy.types.Scene.tweed
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
