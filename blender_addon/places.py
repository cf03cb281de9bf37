# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things are: the engine, the jobs, the textures, and folders of ours that survive updates of the extension."""

from pathlib import Path

import bpy

from . import client, preferences


def user_folder(name: str) -> Path:
    """A folder of ours that survives updates of the extension."""
    try:
        return Path(bpy.utils.extension_path_user(__package__, path=name, create=True))
    except ValueError:  # not an extension: registered from source
        return Path(bpy.utils.user_resource("CONFIG", path=f"tweed/{name}", create=True))


def jobs_folder() -> Path:
    chosen = preferences.get()
    if chosen and chosen.jobs_folder:
        return Path(bpy.path.abspath(chosen.jobs_folder))
    return user_folder("jobs")


def textures_folder(blend: str = "") -> Path | None:
    """Beside the .blend, or None (pack) while it is unsaved."""
    path = blend or bpy.data.filepath
    return Path(path).parent / "textures" if path else None


def place() -> client.EnginePlace:
    """Where the engine is. Raises EngineMissing."""
    chosen = preferences.get()
    python, root = (chosen.engine_python, chosen.engine_root) if chosen else ("", "")
    return client.find_engine(bpy.path.abspath(python) if python else "", bpy.path.abspath(root) if root else "")
