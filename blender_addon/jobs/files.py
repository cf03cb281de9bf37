# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or absent: atomic writes, strict JSON, and a guard on paths inside a folder."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

import numpy as np

from .errors import JobError, NoRoom, UserError

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
_RETRIES = 20  # of 50 ms: Windows refuses to replace a file that someone reads at that moment

_MAX_PATH, _MAX_PATH_PART = 1000, 200  # characters, below every system's own limits


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Replaces a file by `data`, or leaves it untouched. UserError if there is no room or no permission."""
    atomic_write(path, lambda file: file.write(data), len(data))


def atomic_write_text(path: Path, text: str) -> None:
    """Replaces a file by text in UTF-8 with `\\n` line ends, or leaves it untouched."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: Path, data: Any) -> None:
    """Replaces a file by indented JSON; see `json_text` for what is converted."""
    atomic_write_bytes(path, (json_text(data, indent=1) + "\n").encode("ascii"))


def atomic_write(path: Path, write: Callable[[BinaryIO], object], size: int = 0) -> None:
    """Lets `write` fill a temporary file beside `path`, flushes it to disk and moves it into place.

    `size` is the expected number of bytes, for the message when there is no room. No half file and
    no temporary file is left behind, whatever happens.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp")  # short, whatever the name's length
    try:
        write_synced(temporary, write)
        replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise explain_os_error(error, path, size) from error
    except BaseException:
        _remove(temporary)
        raise


def write_synced(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Makes a new file, lets `write` fill it and flushes it to disk. Raises OSError as it comes."""
    with open(path, "xb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def replace(source: Path, target: Path) -> None:
    """os.replace for files and folders, patient with Windows' sharing violations, flushed to disk."""
    for attempt in range(_RETRIES):
        try:
            os.replace(source, target)
            break
        except PermissionError:
            if os.name != "nt" or attempt == _RETRIES - 1:
                raise
            time.sleep(0.05)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):  # some network folders cannot be flushed; the file itself was
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def require_room(folder: Path, size: int) -> None:
    """Raises NoRoom, with free and needed bytes, if `size` bytes do not fit where `folder` is."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise explain_os_error(error, Path(folder), size) from error
    if free < size:
        raise _no_room(Path(folder), size, free)


def explain_os_error(error: OSError, path: Path, size: int = 0) -> UserError:
    """Gives the sentence for the artist: no room (folder, needed, free), or cannot be written (why)."""
    if error.errno in _FULL:
        try:
            free = shutil.disk_usage(path.parent).free
        except OSError:
            free = 0
        return _no_room(path.parent, size, free)
    return UserError(
        f"{path}: cannot be written ({error.strerror or error}).", "Choose a folder that exists and can be written."
    )


def _no_room(folder: Path, size: int, free: int) -> NoRoom:
    need = f"{_amount(size)} needed, " if size else ""
    return NoRoom(f"No room left in {folder}: {need}{_amount(free)} free.", "Free some space or choose another folder.")


def _amount(size: int) -> str:
    if size < 10_000_000:
        return f"{size:,} bytes"
    return f"{size:,} bytes ({size / 1e9:.2f} GB)"


def inside(folder: Path, relative: str | PurePath) -> Path:
    """Gives the path of a file of this folder; JobError for anything that could lead out of it.

    Refused: empty, absolute, drive letters and streams (`:`), `..`, NUL, links that lead out. A
    backslash is refused too, because it separates folders on Windows and not elsewhere.
    """
    folder = Path(folder)

    def refuse(why: str) -> JobError:
        return JobError(f"{folder}: the path {str(relative)[:200]!r} {why}.", "The job was written by something else.")

    text = relative.as_posix() if isinstance(relative, PurePath) else relative
    if not isinstance(text, str) or not text or any(ord(letter) < 32 for letter in text):
        raise refuse("is empty or contains control characters")
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).anchor or ":" in text:
        raise refuse("is not relative")
    if "\\" in text:
        raise refuse("contains a backslash")
    parts = PurePosixPath(text).parts
    if not parts or ".." in parts:
        raise refuse("leads out of the folder")
    if len(text) > _MAX_PATH or max(map(len, parts)) > _MAX_PATH_PART:
        raise refuse("is too long")
    path = folder.joinpath(*parts)
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise refuse("leads out of the folder through a link")
    except (OSError, RuntimeError, ValueError):
        raise refuse("cannot be followed") from None
    return path


def json_text(data: Any, indent: int | None = None) -> str:
    """Gives JSON in ASCII. Numpy values become numbers and lists, paths text, NaN and infinity null."""
    return json.dumps(_plain(data), ensure_ascii=True, allow_nan=False, indent=indent)


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    if isinstance(data, np.ndarray):
        return _plain(data.tolist())
    if isinstance(data, np.generic):
        return _plain(data.item())
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, os.PathLike):
        return os.fspath(data)
    return data


def parse_json(data: bytes) -> Any:
    """Reads JSON in UTF-8; ValueError with the fault for anything else, NaN and infinity included."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a job's file is read into a JobError that names the file and the fault."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise JobError(f"{path}: is no file.")
        yield
    except FileNotFoundError:
        raise JobError(f"{path}: the file is missing.", "Start the job again.") from None
    except OSError as error:
        raise JobError(f"{path}: cannot be read ({error.strerror or error}).") from error


def read_limited(path: Path, limit: int) -> bytes:
    """Reads a whole small file; JobError if it is missing, unreadable or longer than `limit` bytes."""
    with naming(path), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise JobError(f"{path}: longer than the {limit:,} bytes allowed.")
        return file.read(size)  # not read(limit), which takes that much memory whatever the file's size
