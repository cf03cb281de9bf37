# SPDX-License-Identifier: GPL-3.0-or-later
"""The tiles of a UDIM image, each as an image of its own for as long as it is looked at.

Blender's Python gives the pixels of the first tile only. The others are read from where they are stored, beside the
.blend or packed into it; what was painted and not saved, or has no file, from a copy that Blender writes.
"""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import bpy
import numpy as np

from .jobs.errors import UserError

T = TypeVar("T")


def numbers(image) -> list[int]:
    return [tile.number for tile in image.tiles]


def read(image, wanted: Iterable[int], take: Callable[[bpy.types.Image], T]) -> dict[int, T]:
    """What `take` makes of each wanted tile, an image that is gone afterwards. Raises UserError for one that cannot be read."""
    found = {tile.number: tile for tile in image.tiles}
    wanted = list(wanted)
    with tempfile.TemporaryDirectory(prefix="tweed-") as folder:
        fresh = [number for number in wanted if _is_newer(image, found[number])]
        copies = _copies(image, Path(folder)) if fresh else {}
        return {number: _taken(image, number, copies.get(number) if number in fresh else None, Path(folder), take)
                for number in wanted}  # fmt: skip


def _is_newer(image, tile) -> bool:
    """Whether a tile may be other than what is stored of it. Blender 4.2 does not say which tiles were filled anew."""
    return image.is_dirty or getattr(tile, "is_generated_tile", not image.is_float)


def _copies(image, folder: Path) -> dict[int, Path]:
    """Files of the tiles as they are now: floating point as EXR, which keeps it, else PNG; those that Blender can write."""
    dirty, kind = image.is_dirty, image.file_format
    pattern = folder / ("copy.<UDIM>.exr" if image.is_float else "copy.<UDIM>.png")
    parameters = bpy.types.Image.bl_rna.functions["save"].parameters
    try:
        image.file_format = "OPEN_EXR" if image.is_float else "PNG"
        image.save(filepath=str(pattern), **({"save_copy": True} if "save_copy" in parameters else {}))
    except RuntimeError as fault:
        if dirty:
            empty = next((tile.number for tile in image.tiles if not tile.size[0]), None)
            why = f"its tile {empty} is empty" if empty else str(fault).strip()
            raise UserError(f"The tiles of '{image.name}' cannot be copied: {why}.",
                            "Fill it or take it away in the Image Editor's sidebar, or save the image.") from None
    finally:
        image.file_format = kind
        if dirty and not image.is_dirty:  # Blender 4.2 takes a copy for the saved file
            values = np.empty(len(image.pixels), np.float32)
            image.pixels.foreach_get(values)
            image.pixels.foreach_set(values)
    paths = {number: Path(str(pattern).replace("<UDIM>", str(number))) for number in numbers(image)}
    return {number: path for number, path in paths.items() if path.is_file()}


def _taken(image, number: int, copy: Path | None, folder: Path, take: Callable[[bpy.types.Image], T]) -> T:
    path = copy or _stored(image, number, folder)
    lost = UserError(f"The tile {number} of '{image.name}' cannot be loaded: {path}.", "Find its file: File > External Data.")
    try:
        single = bpy.data.images.load(str(path))
    except RuntimeError:
        raise lost from None
    try:
        if not single.size[0]:
            raise lost
        single.name = f"{image.name}, tile {number}"
        single.colorspace_settings.name = image.colorspace_settings.name
        if copy is None or not image.is_float:  # an EXR file is multiplied with its alpha, whatever the image says
            single.alpha_mode = image.alpha_mode
        return take(single)
    finally:
        bpy.data.images.remove(single)


def _stored(image, number: int, folder: Path) -> Path:
    packed = next((file for file in image.packed_files if file.tile_number == number), None)
    if packed is not None:
        path = folder / f"packed.{number}{Path(packed.filepath).suffix}"
        path.write_bytes(packed.packed_file.data)
        return path
    column, row = (number - 1001) % 10, (number - 1001) // 10
    name = image.filepath.replace("<UDIM>", str(number)).replace("<UVTILE>", f"u{column + 1}_v{row + 1}")
    return Path(bpy.path.abspath(name, library=image.library))
