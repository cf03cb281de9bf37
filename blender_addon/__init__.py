# SPDX-License-Identifier: GPL-3.0-or-later
"""Tweed: textures for your mesh from a sentence. Importable without Blender (the engine imports `blender_addon.jobs`)."""


def register():
    from . import addon

    addon.register()


def unregister():
    from . import addon

    addon.unregister()
