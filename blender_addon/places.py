# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things are: the engine, the jobs, the textures, and folders of ours that survive updates of the extension."""

import os
from pathlib import Path

import bpy

from . import client, preferences, setup
from .jobs.errors import UserError


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
    """Where the artist wants textures, else beside the .blend; None (pack) where that needs a .blend and it is unsaved."""
    path, wanted = blend or bpy.data.filepath, bpy.context.scene.tweed.save_to.strip() or "//textures"
    if os.path.isabs(wanted) and not wanted.startswith("//"):
        return Path(wanted)
    return Path(os.path.normpath(Path(path).parent / wanted.removeprefix("//"))) if path else None


def words_root() -> Path:
    """A folder with the bundled models' lists of words: the engine's, or what lies here of one that is elsewhere."""
    found = place()
    return setup.script().parent if found.host else found.folder


def choose_remote(host: str, folder: str, online: bool) -> None:
    """Make a machine the place of the engine. Raises EngineMissing, UserError; then nothing has changed."""
    found, chosen = client.remote_place(host, folder, "preferences"), preferences.get()
    client.require_online(found, online)
    if chosen is None:
        raise UserError("Tweed runs without preferences here.", "Set TWEED_REMOTE before Blender starts.")
    chosen.remote_host, chosen.remote_folder, chosen.engine_where = found.host, found.far, "REMOTE"
    bpy.context.preferences.is_dirty = True  # so that Blender saves them at its end


def place() -> client.Place:
    """Where the engine is. Raises EngineMissing."""
    chosen = preferences.get()
    if chosen and chosen.engine_where == "REMOTE":
        return client.remote_place(chosen.remote_host, chosen.remote_folder, "preferences")
    python, root = (chosen.engine_python, chosen.engine_root) if chosen else ("", "")
    return client.find_engine(bpy.path.abspath(python) if python else "", bpy.path.abspath(root) if root else "")
