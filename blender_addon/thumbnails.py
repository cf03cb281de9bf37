# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures for the panel: a job's preview as an icon, loaded again when its file has changed."""

from pathlib import Path

import bpy.utils.previews

LARGEST = 4 * 1024**2  # bytes; ours have about 100 kB
KEPT = 64

_collection = None
_times: dict[str, float] = {}


def start() -> None:
    global _collection  # noqa: PLW0603 one collection per Blender, as Blender wants it
    _collection = bpy.utils.previews.new()


def stop() -> None:
    global _collection  # noqa: PLW0603
    bpy.utils.previews.remove(_collection)
    _collection = None
    _times.clear()


def icon(picture: Path) -> int:
    """The icon of a picture file, or 0 while there is none."""
    if _collection is None:
        return 0
    try:
        facts = picture.stat()
    except OSError:
        return 0
    if not 0 < facts.st_size <= LARGEST:
        return 0
    name = str(picture)
    if _times.get(name) != facts.st_mtime:
        if name not in _collection and len(_collection) >= KEPT:
            _collection.clear()
            _times.clear()
        if name in _collection:
            del _collection[name]
        _collection.load(name, name, "IMAGE")
        _times[name] = facts.st_mtime
    return _collection[name].icon_id
