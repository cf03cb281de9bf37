# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that Blender is told of, in order; `unregister` takes it back in reverse."""

import atexit

import bpy

from . import command, compare, coverage_operators, job_operators, model_operators, one_view, operators, panels, preferences, preset_operators, properties, scene, session, slot_rows, subpanels, thumbnails, tile_count, translation, view_operators, view_preview, view_rows

CLASSES = (
    view_rows.TweedViews,
    properties.TweedSettings,
    view_operators.TweedCamera,
    preferences.TweedPreferences,
    *operators.CLASSES,
    *compare.CLASSES,
    *job_operators.CLASSES,
    *view_operators.CLASSES,
    *model_operators.CLASSES,
    *one_view.CLASSES,
    *coverage_operators.CLASSES,
    *view_preview.CLASSES,
    *preset_operators.CLASSES,
    *slot_rows.CLASSES,
    *panels.CLASSES,
    *subpanels.CLASSES,
)
_commands = []


@bpy.app.handlers.persistent
def _file_loaded(*_):
    scene.note_load()
    tile_count.forget()
    coverage_operators.hide()
    view_preview.hide()
    session.now.entries = None
    session.recover()
    session.redraw()


def _object_menu(menu, context):
    menu.layout.separator()
    menu.layout.operator("tweed.generate", text="Generate Texture (Tweed)", icon="SHADERFX")


def register():
    thumbnails.start()
    translation.register()
    translation.mark(CLASSES)
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.tweed = bpy.props.PointerProperty(type=properties.TweedSettings)
    bpy.types.Camera.tweed = bpy.props.PointerProperty(type=view_operators.TweedCamera)
    bpy.types.VIEW3D_MT_object.append(_object_menu)
    bpy.app.handlers.load_post.append(_file_loaded)
    bpy.app.handlers.depsgraph_update_post.append(tile_count.note_change)
    for after in (bpy.app.handlers.undo_post, bpy.app.handlers.redo_post):
        after.append(tile_count.forget)
    _commands.append(bpy.utils.register_cli_command("tweed", command.main))
    atexit.register(session.shutdown)


def unregister():
    atexit.unregister(session.shutdown)
    session.shutdown()
    coverage_operators.hide()
    view_preview.hide()
    bpy.utils.unregister_cli_command(_commands.pop())
    bpy.app.handlers.load_post.remove(_file_loaded)
    bpy.app.handlers.depsgraph_update_post.remove(tile_count.note_change)
    for after in (bpy.app.handlers.undo_post, bpy.app.handlers.redo_post):
        after.remove(tile_count.forget)
    bpy.types.VIEW3D_MT_object.remove(_object_menu)
    del bpy.types.Camera.tweed
    del bpy.types.Scene.tweed
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
    translation.unregister()
    thumbnails.stop()
