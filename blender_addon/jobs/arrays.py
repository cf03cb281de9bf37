# SPDX-License-Identifier: Apache-2.0
"""mesh.npz: the mesh as plain arrays, read without pickle and without trusting a single size in it.

The file is what `numpy.savez` writes. Reading is stricter than `numpy.load`: only stored (never
compressed) entries, only the known names, and every npy header is parsed and weighed against the file's
real size and the limits below before any memory is taken.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import JobError, MeshError
from .files import naming

MAX_VERTICES = 50_000_000
MAX_TRIANGLES = 50_000_000
MAX_UVS = 3 * MAX_TRIANGLES
MAX_MESH_BYTES = 6 * 1024**3

_CHUNK = 1 << 24
_MAX_HEADER = 512  # bytes; numpy pads a header of ours to 64 or 128
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[a-zA-Z]\d{0,3})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,12}, ?){0,8}(?:\d{1,12})?)\), ?\} *\n"
)
_ZIP_FAULTS = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError, NotImplementedError,
    RuntimeError, ValueError, LookupError, OverflowError, TypeError, AttributeError,
)  # fmt: skip

# name -> (dtype, shape after the first axis, what the first axis counts)
_LAYOUT: dict[str, tuple[np.dtype, tuple[int, ...], str]] = {
    "positions": (np.dtype("<f4"), (3,), "V"),
    "triangles": (np.dtype("<i4"), (3,), "F"),
    "uvs": (np.dtype("<f4"), (2,), "U"),
    "triangle_uvs": (np.dtype("<i4"), (3,), "F"),
    "normals": (np.dtype("<f4"), (3, 3), "F"),
    "objects": (np.dtype("<i4"), (), "F"),
    "materials": (np.dtype("<i4"), (), "F"),
    "region": (np.dtype("<f4"), (3,), "F"),
}
_REQUIRED = ("positions", "triangles", "uvs", "triangle_uvs")
_LIMITS = {"V": MAX_VERTICES, "F": MAX_TRIANGLES, "U": MAX_UVS}
_WORDS = {"V": "vertices", "F": "triangles", "U": "uv points"}


@dataclass(frozen=True, eq=False)
class MeshArrays:
    """A triangle mesh in world space, as the add-on exports it. Numbers may still be NaN; indices are in range.

    positions f32[V,3] world · triangles i32[F,3] into positions · uvs f32[U,2], (0,0) bottom-left ·
    triangle_uvs i32[F,3] into uvs · normals f32[F,3,3] per corner, world, or None · objects and
    materials i32[F], which object and material slot a triangle belongs to, or None · region f32[F,3] per
    corner, 1 may be painted, 0 stays, between them by the share, or None for all.
    Other float and integer types are converted; MeshError for wrong shapes, kinds or indices.
    """

    positions: np.ndarray
    triangles: np.ndarray
    uvs: np.ndarray
    triangle_uvs: np.ndarray
    normals: np.ndarray | None = None
    objects: np.ndarray | None = None
    materials: np.ndarray | None = None
    region: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in _LAYOUT:
            value = getattr(self, name)
            if value is not None or name in _REQUIRED:
                object.__setattr__(self, name, _conform(name, value))
        counts: dict[str, int] = {}
        for name, array in self.present().items():
            axis = _LAYOUT[name][2]
            if counts.setdefault(axis, len(array)) != len(array):
                raise MeshError(f"{name} has {len(array)} {_WORDS[axis]}; expected {counts[axis]}.")
        _check_indices("triangles", self.triangles, len(self.positions), "vertices")
        _check_indices("triangle_uvs", self.triangle_uvs, len(self.uvs), "uv points")

    def present(self) -> dict[str, np.ndarray]:
        """Gives the arrays that are there, by name."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MeshArrays):
            return NotImplemented
        mine, theirs = self.present(), other.present()
        return mine.keys() == theirs.keys() and all(same_array(mine[name], theirs[name]) for name in mine)

    __hash__ = None  # type: ignore[assignment]


def same_array(first: np.ndarray, second: np.ndarray) -> bool:
    """Tells whether two arrays have the same type, shape and bits (so NaN equals itself)."""
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


def _conform(name: str, value: Any) -> np.ndarray:
    dtype, tail, axis = _LAYOUT[name]
    array = np.asarray(value)
    if array.dtype.kind not in ("f" if dtype.kind == "f" else "iu"):
        raise MeshError(f"{name} holds {array.dtype}; expected {dtype.name}.")
    if array.ndim != 1 + len(tail) or array.shape[1:] != tail:
        raise MeshError(f"{name} has the shape {array.shape}; expected {('n', *tail)}.".replace("'n'", "n"))
    _check_count(name, len(array), axis)
    if dtype.kind == "i" and array.dtype != dtype and array.size:
        if int(array.max()) > np.iinfo(dtype).max or int(array.min()) < np.iinfo(dtype).min:
            raise MeshError(f"{name} has numbers beyond {dtype.name}.")
    return np.ascontiguousarray(array, dtype=dtype)


def _check_count(name: str, count: int, axis: str) -> None:
    if count > _LIMITS[axis]:
        raise MeshError(
            f"{name} has {count:,} {_WORDS[axis]}; at most {_LIMITS[axis]:,} are allowed.", "Use a simpler mesh."
        )


def _check_indices(name: str, indices: np.ndarray, count: int, what: str) -> None:
    if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= count):
        found = int(indices.min()) if int(indices.min()) < 0 else int(indices.max())
        raise MeshError(f"{name} refers to number {found}; there are {count} {what}.")


def write_mesh(file: BinaryIO, mesh: MeshArrays) -> None:
    """Writes mesh.npz into an open file, uncompressed (about 0.1 s for a million triangles)."""
    np.savez(file, **mesh.present())


def mesh_bytes(mesh: MeshArrays) -> int:
    """Gives the size of mesh.npz, a little above the true one."""
    return sum(array.nbytes + 512 for array in mesh.present().values()) + 512


def read_mesh(path: Path) -> MeshArrays:
    """Reads mesh.npz; JobError names the file and the fault, before memory is taken for a false size."""
    path = Path(path)
    with naming(path):
        size = path.stat().st_size
        if size > MAX_MESH_BYTES:
            raise JobError(f"{path}: {size:,} bytes; at most {MAX_MESH_BYTES:,} are allowed.")
        try:
            with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
                arrays = _read_entries(archive, size)
            return MeshArrays(**arrays)
        except MeshError as error:
            raise JobError(f"{path}: {error.message}", error.action) from None
        except MemoryError:
            raise JobError(f"{path}: there is not enough memory to read it.") from None
        except _ZIP_FAULTS as error:
            raise JobError(f"{path}: damaged or incomplete ({_first_line(error)}).", "Start the job again.") from None


def _read_entries(archive: zipfile.ZipFile, size: int) -> dict[str, np.ndarray]:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    known = [f"{name}.npy" for name in _LAYOUT]
    for name in names:
        if name not in known or names.count(name) > 1:
            raise ValueError(f"unexpected entry {name[:60]!a}")
    for name in _REQUIRED:
        if f"{name}.npy" not in names:
            raise ValueError(f"{name} is missing")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ValueError(f"{entry.filename} is compressed, which is not allowed")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("its entries claim more bytes than the file has")
    return {entry.filename[:-4]: _read_entry(archive, entry) for entry in entries}


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    name = entry.filename[:-4]
    dtype, tail, axis = _LAYOUT[name]
    with archive.open(entry) as file:
        shape, consumed = _read_header(file, name, dtype)
        if len(shape) != 1 + len(tail) or shape[1:] != tail:
            raise ValueError(f"{name} has the shape {shape}")
        _check_count(name, shape[0], axis)
        claimed = math.prod(shape) * dtype.itemsize
        if claimed != entry.file_size - consumed:
            raise ValueError(f"{name} claims {claimed:,} bytes and has {entry.file_size - consumed:,}")
        data = np.empty(claimed, dtype=np.uint8)
        filled = 0
        while filled < claimed:
            part = file.read(min(_CHUNK, claimed - filled))
            if not part:
                raise EOFError(f"{name} ends early")
            data[filled : filled + len(part)] = np.frombuffer(part, dtype=np.uint8)
            filled += len(part)
        file.read(1)  # reaching the end makes zipfile compare the checksum
    return data.view(dtype).reshape(shape)


def _read_header(file: BinaryIO, name: str, dtype: np.dtype) -> tuple[tuple[int, ...], int]:
    """Gives the shape and the header's length; refuses all that numpy would not write for such an array."""
    prefix = file.read(8)
    if prefix[:6] != b"\x93NUMPY" or prefix[6:] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise ValueError(f"{name} is no npy array")
    width = 2 if prefix[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > _MAX_HEADER:
        raise ValueError(f"{name} has a header of {length:,} bytes")
    header = file.read(length)
    match = _HEADER.fullmatch(header)
    if len(header) != length or match is None:
        raise ValueError(f"{name} has an unreadable header")
    descr, fortran, shape = match.groups()
    if descr.decode() != dtype.str or fortran == b"True":
        raise ValueError(f"{name} holds {descr.decode()} in {'column' if fortran == b'True' else 'row'} order")
    numbers = [part.strip() for part in shape.split(b",")]
    return tuple(int(number) for number in numbers if number), 8 + width + length


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
