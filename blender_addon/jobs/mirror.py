# SPDX-License-Identifier: Apache-2.0
"""A job folder kept in two places: its files as frames, and frames as files, with nothing outside the folder.

Whole files travel in pieces, {"do": "file", "job", "path", "size", "at"}, one after the other, and appear by rename
when the last piece is there. events.jsonl only grows, {"do": "append", "job", "at"}.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .errors import JobError, ProtocolError
from .files import explain_os_error, inside, replace, require_room
from .folder import EVENTS_FILE, INPUTS, JOB_FILE, MAX_MESH_BYTES, MESH_FILE, OUTPUTS, PREVIEW_FILE, RESULT_FILE
from .frames import MAX_BODY, encode

MAX_FILE = MAX_MESH_BYTES
MAX_FOLDER = 2 * MAX_FILE  # bytes of all files of a job that travel one way
MAX_FILES = 4096
MAX_EVENTS = 1 << 28
_JOB_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
_NAME = r"[^./][^/]*"  # no hidden file, which temporary ones are
THERE = re.compile(rf"{re.escape(JOB_FILE)}|{re.escape(MESH_FILE)}|{INPUTS}/{_NAME}")  # what a job brings
BACK = re.compile(rf"{re.escape(PREVIEW_FILE)}|{re.escape(RESULT_FILE)}|{OUTPUTS}/({_NAME}/){{0,3}}{_NAME}")


def is_job_id(text: Any) -> bool:
    return isinstance(text, str) and _JOB_ID.fullmatch(text) is not None


def files_there(folder: Path) -> list[str]:
    """The files of a new job: all that the engine reads."""
    return [*_listed(folder, INPUTS), MESH_FILE, JOB_FILE]


def files_back(folder: Path) -> list[str]:
    """What the engine made, without the result, which goes last."""
    preview = folder / PREVIEW_FILE
    return ([PREVIEW_FILE] if preview.is_file() and not preview.is_symlink() else []) + _listed(folder, OUTPUTS)


def _listed(folder: Path, below: str) -> list[str]:
    """Regular files below a folder as relative paths; links are not followed and hidden ones left out."""
    found: list[str] = []
    if (folder / below).is_symlink():
        return found
    for parent, folders, names in os.walk(folder / below):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and stat.S_ISREG(path.lstat().st_mode):
                found.append(path.relative_to(folder).as_posix())
    return found


def pieces(folder: Path, relative: str) -> Iterator[bytes]:
    """The frames of a file. JobError if it is missing, a link, too large, or changes its size meanwhile."""
    path = inside(folder, relative)
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # opening a pipe would wait for ever; a link leads anywhere
            raise JobError(f"{path}: is no file.")
        with open(path, "rb") as file:
            size, at = os.fstat(file.fileno()).st_size, 0
            if size > MAX_FILE:
                raise JobError(f"{path}: {size:,} bytes; at most {MAX_FILE:,} are allowed.")
            while at < size or at == 0:
                data = file.read(min(MAX_BODY, size - at))
                if not data and size:
                    raise JobError(f"{path}: was changed while it was read.")
                yield encode("file", data, job=folder.name, path=relative, size=size, at=at)
                at += len(data)
                if not size:
                    return
    except OSError as error:
        raise JobError(f"{path}: cannot be read ({error.strerror or error}).") from error


class Inbound:
    """Takes the frames of one job folder, which must exist. `allowed`: THERE or BACK, the paths that may come.

    After an error nothing of the file it was about is left; the folder is to be given up.
    """

    def __init__(self, folder: Path, allowed: re.Pattern[str]) -> None:
        self.folder = folder
        self._allowed = allowed
        self._path = ""  # of the file that is coming
        self._file: BinaryIO | None = None
        self._temporary = folder
        self._size = self._at = 0
        self._total = self._count = 0
        self._events = 0

    def take(self, do: str, fields: dict[str, Any], body: bytes) -> str:
        """Gives the path of a file that is whole now, else "". JobError, NoRoom or ProtocolError say what is wrong."""
        try:
            return self._append(fields, body) if do == "append" else self._piece(fields, body)
        except OSError as error:
            self.close()
            raise explain_os_error(error, self.folder / self._path, self._size) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Forget a file that is not whole."""
        if self._file is not None:
            self._file.close()
            self._file = None
            with contextlib.suppress(OSError):
                self._temporary.unlink()

    def _piece(self, fields: dict[str, Any], body: bytes) -> str:
        path, size, at = fields.get("path"), fields.get("size"), fields.get("at")
        if not isinstance(path, str) or type(size) is not int or type(at) is not int:
            raise ProtocolError("A file came without its path and size.")
        if self._file is None:
            self._begin(path, size, at)
        elif (path, size, at) != (self._path, self._size, self._at):
            raise ProtocolError(f"The pieces of {self._path!r} came out of order.")
        if at + len(body) > size or (size and not body):
            raise ProtocolError(f"A piece of {path!r} is longer or shorter than was said.")
        self._file.write(body)
        self._at += len(body)
        if self._at < size:
            return ""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        replace(self._temporary, inside(self.folder, path))
        self._file = None
        return path

    def _begin(self, path: str, size: int, at: int) -> None:
        """Checks everything about a file before its first byte is written."""
        target = inside(self.folder, path)
        if not self._allowed.fullmatch(path):
            raise JobError(f"{self.folder}: {path[:200]!r} is no file that may come here.")
        self._refuse_links(target)
        if not 0 <= size <= MAX_FILE or self._total + size > MAX_FOLDER or self._count >= MAX_FILES:
            raise JobError(f"{self.folder}: {path[:200]!r} of {size:,} bytes is more than a job may hold.")
        if at != 0:
            raise ProtocolError(f"{path!r} does not come from its beginning.")
        require_room(self.folder, size)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._size, self._at = path, size, 0
        self._temporary = target.with_name(f".{secrets.token_hex(6)}.tmp")
        self._file = open(self._temporary, "xb")  # closed with its last piece, or by close()
        if path != PREVIEW_FILE:  # comes anew many times
            self._total, self._count = self._total + size, self._count + 1

    def _append(self, fields: dict[str, Any], body: bytes) -> str:
        path = self.folder / EVENTS_FILE
        self._refuse_links(path)
        if fields.get("at") != self._events or self._allowed is not BACK:
            raise ProtocolError("The events came out of order.")
        if self._events + len(body) > MAX_EVENTS:
            raise JobError(f"{path}: more than {MAX_EVENTS:,} bytes of events.")
        self._events += len(body)
        with open(path, "ab", buffering=0) as file:
            while body:
                body = body[file.write(body) :]
        return ""

    def _refuse_links(self, target: Path) -> None:
        while target != self.folder:
            if target.is_symlink():
                raise JobError(f"{target}: is a link.", "Start the job again.")
            target = target.parent
