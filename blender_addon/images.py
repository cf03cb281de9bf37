# SPDX-License-Identifier: GPL-3.0-or-later
"""The texture file: is it whole, and how it becomes a Blender image (a file beside the .blend, or packed into it)."""

import os
import shutil
import struct
import zlib
from pathlib import Path

import bpy

from .jobs.errors import EngineError, UserError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNK = 1 << 30  # bytes; more than any texture we ask for


def check_png(path: Path, size: int) -> None:
    """Raise EngineError unless `path` is a whole, undamaged PNG of `size` x `size` pixels (checksums, no decoding)."""
    try:
        with open(path, "rb") as file:
            if file.read(8) != _SIGNATURE:
                raise _broken(f"{path} is not a PNG picture.")
            kind, body = _chunk(file, path)
            found = struct.unpack(">II", body[:8])
            if kind != b"IHDR" or found != (size, size):
                raise _broken(f"{path} is {found[0]} x {found[1]} pixels; {size} x {size} were asked for.")
            while kind != b"IEND":
                kind, body = _chunk(file, path)
    except (OSError, struct.error) as fault:
        raise _broken(f"The texture {path} cannot be read ({fault}).") from None


def _chunk(file, path: Path) -> tuple[bytes, bytes]:
    head = file.read(8)
    length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
    body, checksum = file.read(min(length, _MAX_CHUNK)), file.read(4)
    if len(checksum) < 4:
        raise _broken(f"{path} is cut off.")
    if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
        raise _broken(f"{path} is damaged.")
    return kind, body


def _broken(message: str) -> EngineError:
    return EngineError(message, "Generate again; if it happens again, report it.")


def load(png: Path, size: int, name: str, textures: Path | None, undo) -> tuple[bpy.types.Image, Path, list[str]]:
    """A new image of the file's pixels, the file it came from, and remarks. Raises EngineError if it is not whole."""
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
