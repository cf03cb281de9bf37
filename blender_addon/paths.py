# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that settings name: made absolute, because the engine has a working folder of its own, and the style picture read.

A path may begin with // (beside the .blend), with ~, or with the folder Blender was started in.
"""

from pathlib import Path

import bpy

from . import current
from .jobs.catalogue import entry
from .jobs.controls import parse_loras
from .jobs.errors import JobError, UserError
from .jobs.png import parse_header

# How the paths lie in a setting's text: one alone, several joined by a plus sign, several with commas and weights.
PLAIN = ("vae", "preview_vae", "style_image", "style_adapter", "multiview")
JOINED = ("model",)
WEIGHTED = ("lora",)
LARGEST_STYLE = 1024  # pixels on the longer side; style adapters look at 224


def absolute(values: dict) -> dict:
    """The settings with every path in them absolute; names that are no files here stay. Raises UserError."""
    found = dict(values)
    for name in PLAIN:
        if found.get(name):
            found[name] = _absolute(found[name], name)
    for name in JOINED:
        if found.get(name) and not Path(found[name]).exists():  # a plus sign in a path that exists is part of it
            found[name] = "+".join(_absolute(part, name) for part in found[name].split("+"))
        elif found.get(name):
            found[name] = _absolute(found[name], name)
    for name in WEIGHTED:
        if found.get(name):
            found[name] = ", ".join(f"{_absolute(path, name)}:{weight:g}" for path, weight in parse_loras(found[name]))
    return found


def _absolute(text: str, setting: str) -> str:
    name = text.strip()
    if name.startswith("//"):
        if not bpy.data.filepath:
            raise UserError(
                f"{name} ({setting}) lies beside the .blend, and this file has not been saved.",
                "Save the file, or give the whole path.",
            )
        return bpy.path.abspath(name)
    path = Path(name).expanduser()
    if entry(name) is None and not path.is_absolute() and path.exists():
        return str(path.absolute())
    return str(path) if name.startswith("~") else name


def style_png(name: str) -> bytes:
    """The style picture as a PNG file of moderate size, from any format that Blender reads. Raises UserError."""
    path = Path(_absolute(name, "style_image"))
    if not path.is_file():
        raise UserError(f"There is no style image {path}.", "Choose the picture again, or leave Style Image empty.")
    stored = _small_png(path)
    if stored is not None:
        return stored
    try:
        image = bpy.data.images.load(str(path))
    except RuntimeError as fault:
        raise UserError(f"Blender cannot load {path} ({fault}).", "Choose another picture.") from None
    try:
        width, height = image.size
        if not width or not height:
            raise UserError(f"{path} is no picture that Blender can read.", "Choose another picture.")
        share = min(1.0, LARGEST_STYLE / max(width, height))
        if share < 1:
            image.scale(max(1, round(width * share)), max(1, round(height * share)))
        return current.color_png(image)
    finally:
        bpy.data.images.remove(image)


def _small_png(path: Path) -> bytes | None:
    """The file itself if it is a PNG and small enough."""
    try:
        with open(path, "rb") as file:
            header = parse_header(file.read(64), path.name)
            if max(header.width, header.height) > LARGEST_STYLE:
                return None
            file.seek(0)
            return file.read()
    except (OSError, JobError):
        return None
