# SPDX-License-Identifier: Apache-2.0
"""Pictures that a job was given, read to the bit: 8 and 16 bits per channel, colour and alpha.

Pillow cuts 16-bit colour to 8 bits, so plain PNG files are read here; it reads the rare kinds (palettes, less than 8
bits, interlaced). No size is believed before it was weighed: the header decides how many bytes may come out.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from blender_addon.jobs.errors import JobError
from blender_addon.jobs.files import naming
from blender_addon.jobs.png import MAX_PICTURE_BYTES, MAX_SIDE, PngHeader, parse_header, png_bytes
from engine.raster.jit import kernel

FAULTS = (OSError, ValueError, SyntaxError, zlib.error, struct.error, EOFError, Image.DecompressionBombError)


def read_picture(path: Path) -> np.ndarray:
    """The pixels u8 or u16 [H,W,C] of a PNG file, row 0 on top; C as in it (1 grey, 2 grey + alpha, 3 RGB, 4 RGBA).

    Palettes become RGB or RGBA. JobError names the file and the fault: no PNG, damaged, larger than 16384 per side.
    """
    path = Path(path)
    with naming(path):
        if path.stat().st_size > MAX_PICTURE_BYTES:
            raise JobError(f"{path}: longer than the {MAX_PICTURE_BYTES:,} bytes allowed.")
        data = path.read_bytes()
    return decode_png(data, str(path))


def decode_png(data: bytes, name: str) -> np.ndarray:
    """`read_picture` of a file in memory; `name` is for the sentence of the JobError."""
    header = parse_header(data, name)
    try:
        if header.depth < 8 or header.kind == 3 or header.interlaced or _keyed(data):
            return _by_pillow(data, header, name)
        return _plain(data, header)
    except FAULTS as error:
        raise JobError(f"{name}: is damaged ({error}).", "Save the picture again.") from None


def colours(pixels: np.ndarray) -> np.ndarray:
    """The same picture as RGB or RGBA [H,W,3 or 4]: grey is repeated, nothing is rounded."""
    channels = pixels.shape[2]
    return pixels if channels > 2 else pixels[..., [0, 0, 0, 1][: channels + 2]]


def brightness(pixels: np.ndarray) -> np.ndarray:
    """A mask f32[H,W] in 0..1 of a picture: the mean of its colours as stored, times alpha."""
    peak = np.float32(np.iinfo(pixels.dtype).max)
    channels = pixels.shape[2]
    grey = pixels[..., : channels - (channels % 2 == 0)].astype(np.float32).mean(2) / peak
    return grey * (pixels[..., -1] / peak) if channels % 2 == 0 else grey


def as_png(data: bytes, name: str) -> bytes:
    """A picture file of any kind (PNG, JPEG, TIFF, WebP ...) as a PNG file; a PNG comes back as it is.

    JobError if it cannot be read or is larger than 16384 per side.
    """
    if data[:4] == b"\x89PNG":
        parse_header(data, name)
        return data
    try:
        with Image.open(io.BytesIO(data)) as image:
            if max(image.size) > MAX_SIDE:
                raise JobError(f"{name}: is {image.width:,} x {image.height:,} pixels; 1 to {MAX_SIDE:,} per side are "
                               "allowed.", "Scale it down.")
            wanted = "RGBA" if "A" in image.getbands() or "transparency" in image.info else "RGB"
            return png_bytes(np.asarray(image.convert(wanted)))
    except FAULTS as error:
        raise JobError(f"{name}: cannot be read as a picture ({error}).", "Save it as PNG.") from None


def _keyed(data: bytes) -> bool:
    """Whether one colour stands for transparency (a tRNS chunk before the picture)."""
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in (b"tRNS", b"IDAT", b"IEND"):
            return kind == b"tRNS"
        at += 12 + length
    return False


def _by_pillow(data: bytes, header: PngHeader, name: str) -> np.ndarray:
    if header.depth == 16:
        raise JobError(f"{name}: is an interlaced or keyed PNG of 16 bits, which cannot be read.",
                       "Save it without interlacing and with an alpha channel.")
    with Image.open(io.BytesIO(data)) as image:
        transparent = "A" in image.getbands() or "transparency" in image.info
        grey = image.mode in ("1", "L", "LA", "I;16") and not transparent
        return np.atleast_3d(np.asarray(image.convert("L" if grey else "RGBA" if transparent else "RGB")))


def _plain(data: bytes, header: PngHeader) -> np.ndarray:
    pixel = header.channels * header.depth // 8
    line = header.width * pixel + 1
    expected = line * header.height
    inflate, out, filled = zlib.decompressobj(), np.empty(expected, np.uint8), 0
    for part in _image_data(data):
        while part:
            piece = inflate.decompress(part, max(expected - filled, 1))
            if filled + len(piece) > expected:
                raise ValueError("it holds more than its header says")
            out[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
            filled += len(piece)
            part = inflate.unconsumed_tail if piece else b""
    if filled != expected:
        raise ValueError("it ends early")
    rows = out.reshape(header.height, line)
    if int(rows[:, 0].max()) > 4:
        raise ValueError("a row has an unknown filter")
    undo_filters(rows, pixel)
    pixels = np.ascontiguousarray(rows[:, 1:])
    if header.depth == 16:
        pixels = pixels.view(">u2").astype(np.uint16)
    return pixels.reshape(header.height, header.width, header.channels)


def _image_data(data: bytes):
    """The compressed data of the picture, chunk by chunk, each with its checksum compared."""
    at = 8
    while True:
        if at + 12 > len(data):
            raise ValueError("it is cut off")
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if len(body) < length or at + 12 + length > len(data):
            raise ValueError("it is cut off")
        if kind == b"IEND":
            return
        if kind == b"IDAT":
            if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(data[at + 8 + length : at + 12 + length], "big"):
                raise ValueError("a checksum does not match")
            yield body
        at += 12 + length


@kernel
def undo_filters(rows, pixel):
    """PNG's filters (specification 9.2) undone in place; rows u8[H, 1 + W pixel] with the filter's number first."""
    height, line = rows.shape
    for r in range(height):
        kind = rows[r, 0]
        if kind == 0:
            continue
        for c in range(1, line):
            left = np.int32(rows[r, c - pixel]) if c > pixel else np.int32(0)
            above = np.int32(rows[r - 1, c]) if r > 0 else np.int32(0)
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = above
            elif kind == 3:
                guess = (left + above) // 2
            else:
                corner = np.int32(rows[r - 1, c - pixel]) if c > pixel and r > 0 else np.int32(0)
                whole = left + above - corner
                to_left, to_above, to_corner = abs(whole - left), abs(whole - above), abs(whole - corner)
                if to_left <= to_above and to_left <= to_corner:
                    guess = left
                elif to_above <= to_corner:
                    guess = above
                else:
                    guess = corner
            rows[r, c] = np.uint8((np.int32(rows[r, c]) + guess) & 255)
