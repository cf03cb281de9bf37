# SPDX-License-Identifier: GPL-3.0-or-later
"""Texture files: are they whole, and how they become a Blender image (files beside the .blend, or packed into it)."""

import glob
import os
import shutil
import struct
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import bpy

from .jobs.errors import EngineError, UserError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ANY = "<UDIM>"  # stands for the number of a tile in a path of Blender's
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


def load(
    pictures: Mapping[int, Path], size: int, name: str, textures: Path | None, undo
) -> tuple[bpy.types.Image, Path, list[str]]:
    """A new image of the files' pixels, the file it came from, and remarks. Raises EngineError if one is not whole.

    `pictures` are files by the numbers of their UDIM tiles; 0 for a plain picture, which is alone then. The path of
    tiles has <UDIM> in place of the number.
    """
    for picture in pictures.values():
        check_png(picture, size)
    remarks, stem, copies = [], bpy.path.clean_name(name), None
    if textures is not None:
        try:
            copies = _copy_files(pictures, textures, stem, undo)
        except OSError as fault:
            remarks.append(f"{textures} cannot be written ({fault.strerror}); the texture is packed into the .blend.")
    files = copies or pictures
    first = next(iter(files.values()))
    try:
        image = bpy.data.images.load(str(first))
    except RuntimeError as fault:
        raise UserError(f"Blender cannot load {first} ({fault}).", "Generate again.") from None
    undo.callback(bpy.data.images.remove, image)
    image.name = name
    path = first if 0 in files else _set_tiles(image, files)
    if copies is None:
        image.pack()
        for packed in image.packed_files:  # the names of the files, should they be unpacked
            packed.filepath = f"//textures/{_file_name(stem, packed.tile_number if 0 not in files else 0)}"
        image.filepath_raw = f"//textures/{stem}.png" if 0 in files else f"//textures/{stem}.{_ANY}.png"
    else:
        image.filepath_raw = _relative(path)
    return image, path, remarks


def _set_tiles(image, files: Mapping[int, Path]) -> Path:
    """Make an image of UDIM tiles of one that shows the first of them; gives the path of them all."""
    number, first = next(iter(files.items()))
    path = first.with_name(first.name.replace(f".{number}.", f".{_ANY}."))
    image.source = "TILED"
    image.filepath = str(path)  # from here on there is a tile for every file that fits
    for tile in [tile for tile in image.tiles if tile.number not in files][: max(0, len(image.tiles) - 1)]:
        image.tiles.remove(tile)
    if image.tiles[0].number not in files:
        image.tiles[0].number = number
    there = {tile.number for tile in image.tiles}
    for number in files:
        if number not in there:
            image.tiles.new(number)
    return path


def _copy_files(pictures: Mapping[int, Path], folder: Path, stem: str, undo) -> dict[int, Path]:
    """All of them into the folder under names that are free, or none. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    free, number = stem, 1
    while any((folder / _file_name(free, tile)).exists() for tile in pictures) or _has_tiles(folder, free):
        free, number = f"{stem}.{number:03}", number + 1
    with ExitStack() as copied:
        paths = {}
        for tile, picture in pictures.items():
            paths[tile] = folder / _file_name(free, tile)
            copied.callback(paths[tile].unlink, missing_ok=True)
            _copy_file(picture, paths[tile])
        undo.callback(copied.pop_all().close)
    return paths


def _file_name(stem: str, tile: int) -> str:
    return f"{stem}.{tile}.png" if tile else f"{stem}.png"


def _has_tiles(folder: Path, stem: str) -> bool:
    """Whether tiles of that name are there: Blender would take them for more tiles of ours."""
    return any(folder.glob(f"{glob.escape(stem)}.[12][0-9][0-9][0-9].png"))


def _copy_file(png: Path, path: Path) -> None:
    part = path.with_suffix(".part")
    try:
        shutil.copyfile(png, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _relative(path: Path) -> str:
    """Relative to the .blend where there is one on the same drive."""
    try:
        return bpy.path.relpath(str(path)) if bpy.data.filepath else str(path)
    except ValueError:
        return str(path)
