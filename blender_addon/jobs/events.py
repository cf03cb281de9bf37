# SPDX-License-Identifier: Apache-2.0
"""events.jsonl: the engine appends one JSON object per line, the add-on follows it without a thread."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any

from .errors import EngineError
from .files import explain_os_error, json_text, parse_json

EVENTS = ("started", "phase", "step", "preview", "warning", "done", "failed", "cancelled")
LAST_EVENTS = ("done", "failed", "cancelled")
PHASES = ("load", "rasterize", "condition", "denoise", "bake", "fill", "write")  # each once; "wait" may come before them

MAX_LINE = 1 << 18  # bytes; append_event cuts longer messages, Tailer gives up on longer lines
MAX_POLL = 1 << 20  # bytes one poll reads, so that a huge backlog cannot stall Blender's main thread
_MEMORY = 128  # bytes before the offset, remembered to notice that another file took this one's place


def append_event(path: Path, ev: str, **fields: Any) -> None:
    """Appends one event as one line in one write; a torn line of a crashed writer is closed first.

    `fields` are plain JSON values (numpy numbers are converted, NaN becomes null). UserError if the
    folder has no room or cannot be written.
    """
    if ev not in EVENTS:
        raise ValueError(f"unknown event {ev!r}")
    event = {"t": round(time.time(), 3), "ev": ev, **fields}
    line = json_text(event).encode("ascii")
    if len(line) >= MAX_LINE:
        cut = {key: value[:2000] if isinstance(value, str) else value for key, value in event.items()}
        line = json_text(cut).encode("ascii")
        if len(line) >= MAX_LINE:
            raise ValueError(f"event {ev!r} is too long")
    try:
        with open(path, "ab+", buffering=0) as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            _write_all(file, line + b"\n")
    except OSError as error:
        raise explain_os_error(error, Path(path), len(line)) from error


def _write_all(file: Any, data: bytes) -> None:
    while data:
        data = data[file.write(data) :]


class Tailer:
    """Follows one events file. `poll()` gives the events that became whole since the last poll.

    The file may appear late, be truncated or be replaced (both start it anew). An incomplete last
    line waits for its end, so a line is never split and a character never cut. A line that is no
    event becomes `{"ev": "unreadable", "line": …}`.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._restart()

    def _restart(self) -> None:
        self._offset = 0
        self._partial = b""
        self._behind = b""
        self._skipping = False
        self._seen: tuple[int, ...] = ()

    def poll(self) -> list[dict[str, Any]]:
        """Reads at most MAX_POLL new bytes, never waits. EngineError if the file is there but unreadable."""
        try:
            status = os.stat(self.path)
            stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if stamp == self._seen and status.st_size == self._offset:
                return []
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
                raise EngineError(f"{self.path}: is no file.")
            with open(self.path, "rb", buffering=0) as file:
                data = self._read(file)
            self._seen = stamp
        except (FileNotFoundError, PermissionError):  # not there yet, or held for a moment on Windows
            return []
        except OSError as error:
            raise EngineError(f"{self.path}: cannot be read ({error.strerror or error}).") from error
        return self._events(data)

    def _read(self, file: Any) -> bytes:
        file.seek(self._offset - len(self._behind))
        if _read_up_to(file, len(self._behind)) != self._behind:
            self._restart()
            file.seek(0)
        data = _read_up_to(file, MAX_POLL)
        self._offset += len(data)
        self._behind = (self._behind + data)[-_MEMORY:]
        return data

    def _events(self, data: bytes) -> list[dict[str, Any]]:
        *lines, self._partial = (self._partial + data).split(b"\n")
        if self._skipping and lines:
            lines, self._skipping = lines[1:], False
        events = [_event(line) for line in lines if line.strip()]
        if len(self._partial) > MAX_LINE:
            if not self._skipping:
                events.append(_unreadable(self._partial, f"the line is longer than {MAX_LINE} bytes"))
            self._partial, self._skipping = b"", True
        return events


def _read_up_to(file: Any, size: int) -> bytes:
    parts = []
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _event(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        return _unreadable(line, f"the line is longer than {MAX_LINE} bytes")
    try:
        event = parse_json(line)
    except ValueError as error:
        return _unreadable(line, str(error))
    if not isinstance(event, dict) or not isinstance(event.get("ev"), str):
        return _unreadable(line, "it is no event")
    return event


def _unreadable(line: bytes, fault: str) -> dict[str, Any]:
    return {"ev": "unreadable", "line": line[:200].decode("utf-8", "replace"), "message": fault}


__all__ = ["EVENTS", "LAST_EVENTS", "PHASES", "Tailer", "append_event"]
