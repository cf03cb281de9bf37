# SPDX-License-Identifier: GPL-3.0-or-later
"""Tweed: textures for your mesh from a sentence. Imports without Blender: the engine uses `jobs`."""


def register():
    from . import addon

    addon.register()


def unregister():
    from . import addon

    addon.unregister()
