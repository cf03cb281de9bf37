# SPDX-License-Identifier: GPL-3.0-or-later
"""The texture file: is it whole, and how it becomes a Blender image (a file beside the .blend, or packed into it)."""

import os
import shutil
import struct
from pathlib import Path

import bpy

from .jobs.errors import EngineError, UserError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def check_png(path: Path, size: int) -> None:
    """Raise EngineError unless `path` is a complete PNG of `size` x `size` pixels. Reads the chunk heads only."""
    try:
        with open(path, "rb") as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(0)
            if file.read(8) != _SIGNATURE:
                raise EngineError(f"{path} is not a PNG picture.", "Generate again; if it happens again, report it.")
            kind, first = b"", True
            while kind != b"IEND":
                head = file.read(8)
                if len(head) < 8:
                    raise EngineError(f"{path} is cut off.", "Generate again; if it happens again, report it.")
                count, kind = struct.unpack(">I4s", head)
                if first:
                    found = struct.unpack(">II", file.read(8))
                    if kind != b"IHDR" or found != (size, size):
                        raise EngineError(f"{path} is {found[0]} x {found[1]} pixels; {size} x {size} were asked for.",
                                          "Generate again; if it happens again, report it.")
                    count, first = count - 8, False
                if file.tell() + count + 4 > length:
                    raise EngineError(f"{path} is cut off.", "Generate again; if it happens again, report it.")
                file.seek(count + 4, os.SEEK_CUR)
    except (OSError, struct.error) as fault:
        raise EngineError(f"The texture {path} cannot be read ({fault}).", "Generate again.") from None


def load(png: Path, size: int, name: str, textures: Path | None, undo) -> tuple[bpy.types.Image, Path, list[str]]:
    """A new image with the file's pixels, the file it came from, and remarks. Raises EngineError for a file that is not whole."""
    check_png(png, size)
    remarks = []
    path = None
    if textures is not None:
        try:
            path = _copy_file(png, textures, bpy.path.clean_name(name), undo)
        except OSError as fault:
            remarks.append(f"{textures} cannot be written ({fault.strerror}); the texture is packed into the .blend.")
    try:
        image = bpy.data.images.load(str(path or png))
    except RuntimeError as fault:
        raise UserError(f"Blender cannot load {path or png} ({fault}).", "Generate again.") from None
    undo.callback(bpy.data.images.remove, image)
    image.name = name
    if tuple(image.size) != (size, size):
        raise EngineError(f"Blender cannot decode {png}.", "Generate again; if it happens again, report it.")
    if path is None:
        image.pack()
        image.filepath_raw = f"//textures/{bpy.path.clean_name(name)}.png"
    else:
        image.filepath_raw = _relative(path)
    return image, path or png, remarks


def _copy_file(png: Path, folder: Path, stem: str, undo) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path, number = folder / f"{stem}.png", 1
    while path.exists():
        path, number = folder / f"{stem}.{number:03}.png", number + 1
    undo.callback(path.unlink, missing_ok=True)
    part = path.with_suffix(".part")
    try:
        shutil.copyfile(png, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _relative(path: Path) -> str:
    """Relative to the .blend where there is one on the same drive."""
    try:
        return bpy.path.relpath(str(path)) if bpy.data.filepath else str(path)
    except ValueError:
        return str(path)
