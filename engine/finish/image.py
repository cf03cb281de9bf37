# SPDX-License-Identifier: Apache-2.0
"""Textures as PNG files: 8-bit sRGB values as they are, with the settings that made them as text."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from blender_addon.jobs.files import atomic_write_bytes


def to_bytes(rgb: np.ndarray) -> np.ndarray:
    """u8[...,3] of sRGB values f32 in 0..1, rounded; values outside are clipped."""
    return to_whole(rgb, np.uint8)


def to_words(rgb: np.ndarray) -> np.ndarray:
    """u16[...,3] of sRGB values f32 in 0..1, rounded; values outside are clipped."""
    return to_whole(rgb, np.uint16)


def to_whole(rgb: np.ndarray, kind: type) -> np.ndarray:
    """0..1 as whole numbers up to the largest of `kind`, some rows at a time: textures are large."""
    out, peak = np.empty(rgb.shape, kind), np.iinfo(kind).max
    for first in range(0, len(rgb), 256):
        out[first : first + 256] = np.round(np.clip(rgb[first : first + 256], 0, 1).astype(np.float64) * peak)
    return out


def write_png(path: Path, rgb: np.ndarray, about: Mapping[str, object] | None = None) -> None:
    """Replace the file by `rgb` [H,W,3], u8 or sRGB f32 in 0..1. `about`: prompt, seed, model, ... kept as text.

    The file is whole or untouched. UserError if there is no room or no permission.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"an image is [H,W,3], got {rgb.shape}")
    text = PngInfo()
    for key, value in {"Software": "Tweed", **(about or {})}.items():
        text.add_itxt(str(key)[:79], str(value))
    buffer = BytesIO()
    pixels = rgb if rgb.dtype == np.uint8 else to_bytes(rgb)
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", pnginfo=text, compress_level=4)
    atomic_write_bytes(Path(path), buffer.getvalue())
