# SPDX-License-Identifier: Apache-2.0
"""PNG pictures of a job: the header, read before anything is believed, and a writer for 8 and 16 bits per channel."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import JobError
from .files import naming

MAX_SIDE = 16384
MAX_PICTURE_BYTES = 3 * 1024**3
SIGNATURE = b"\x89PNG\r\n\x1a\n"

_HEADER_BYTES = 33  # signature, length, "IHDR", 13 bytes, checksum
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type: grey, RGB, palette, grey and alpha, RGBA
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_KINDS = {1: 0, 2: 4, 3: 2, 4: 6}
_BAND = 1 << 24  # bytes compressed at a time


@dataclass(frozen=True)
class PngHeader:
    """What a PNG says of itself. `kind` is the colour type: 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA."""

    width: int
    height: int
    depth: int
    kind: int
    interlaced: bool

    @property
    def channels(self) -> int:
        return _CHANNELS[self.kind]


def png_header(path: Path) -> PngHeader:
    """Reads the first 33 bytes of a PNG file. JobError names the file and the fault: no PNG, damaged, too large."""
    path = Path(path)
    with naming(path), open(path, "rb") as file:
        head = file.read(_HEADER_BYTES)
        size = path.stat().st_size
    if size > MAX_PICTURE_BYTES:
        raise JobError(f"{path}: {size:,} bytes; at most {MAX_PICTURE_BYTES:,} are allowed.")
    return parse_header(head, str(path))


def parse_header(data: bytes, name: str) -> PngHeader:
    """The header of a PNG in memory; `name` is for the sentence of the JobError."""
    if data[:8] != SIGNATURE:
        raise JobError(f"{name}: is no PNG picture.", "Save it as PNG.")
    head = data[:_HEADER_BYTES]
    checksum = struct.pack(">I", zlib.crc32(head[12:29]))
    if len(head) < _HEADER_BYTES or head[8:16] != b"\0\0\0\rIHDR" or head[29:] != checksum:
        raise JobError(f"{name}: is a damaged PNG picture.", "Save it again.")
    width, height, depth, kind, compression, filtering, interlace = struct.unpack(">2I5B", head[16:29])
    if not 0 < width <= MAX_SIDE or not 0 < height <= MAX_SIDE:
        raise JobError(f"{name}: is {width:,} x {height:,} pixels; 1 to {MAX_SIDE:,} per side are allowed.",
                       "Scale it down.")
    if depth not in _DEPTHS.get(kind, ()) or compression or filtering or interlace > 1:
        raise JobError(f"{name}: is a PNG picture of a kind that does not exist.", "Save it again.")
    return PngHeader(width, height, depth, kind, bool(interlace))


def png_bytes(pixels: np.ndarray, about: Mapping[str, object] | None = None, level: int = 4) -> bytes:
    """A PNG file of `pixels` u8 or u16 [H,W,C], C 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA; row 0 on top.

    `about` is kept as text in it; `level` 1..9 is zlib's.
    """
    if pixels.ndim != 3 or pixels.shape[2] not in _KINDS or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"a picture is u8 or u16 [H,W,1 to 4], got {pixels.dtype} {pixels.shape}")
    height, width, channels = pixels.shape
    head = struct.pack(">2I5B", width, height, 8 * pixels.itemsize, _KINDS[channels], 0, 0, 0)
    parts = [SIGNATURE, _chunk(b"IHDR", head)]
    for key, value in (about or {}).items():
        keyword = str(key).encode("latin-1", "replace")[:79]
        parts.append(_chunk(b"iTXt", keyword + b"\0\0\0\0\0" + str(value).encode("utf-8", "replace")))
    deflate = zlib.compressobj(level)
    for band in _bands(pixels):
        data = deflate.compress(band)
        if data:
            parts.append(_chunk(b"IDAT", data))
    parts += [_chunk(b"IDAT", deflate.flush()), _chunk(b"IEND", b"")]
    return b"".join(parts)


def _bands(pixels: np.ndarray) -> Iterator[bytes]:
    """Some rows at a time, each as its differences from the row above (PNG's filter 2)."""
    height, width, channels = pixels.shape
    line = width * channels * pixels.itemsize
    step = max(1, _BAND // max(line, 1))
    above = np.zeros((1, line), np.uint8)
    for first in range(0, height, step):
        band = np.ascontiguousarray(pixels[first : first + step])
        raw = band.astype(">u2").view(np.uint8) if band.dtype == np.uint16 else band
        raw = raw.reshape(len(band), line)
        filtered = np.full((len(band), line + 1), 2, np.uint8)
        filtered[:, 1:] = raw - np.concatenate([above, raw[:-1]])
        above = raw[-1:]
        yield filtered.tobytes()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
