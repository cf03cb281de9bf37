# SPDX-License-Identifier: Apache-2.0
"""`python -m engine remote`: the far end of blender_addon.jobs.relay. Frames on stdin and stdout, no port.

It runs `engine serve` beside itself, keeps the jobs that come in the per-user data folder, and sends back what changes
in them. The engine's lifeline is this process's stdin: when the connection goes, or says nothing for two minutes, the
running job is cancelled and everything ends. A job's folder goes when its result was delivered; one that was finished
and could not be delivered is kept for a week.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import queue
import secrets
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

from blender_addon.jobs.controls import parse_loras
from blender_addon.jobs.errors import ModelError, ProtocolError, TweedError, UserError
from blender_addon.jobs.events import LAST_EVENTS, MAX_LINE
from blender_addon.jobs.files import explain_os_error, parse_json, read_limited
from blender_addon.jobs.folder import (
    EVENTS_FILE,
    JOB_FILE,
    MAX_JSON_BYTES,
    PREVIEW_FILE,
    PROTO,
    RESULT_FILE,
    VERSION,
    read_result,
)
from blender_addon.jobs.frames import BANNER, MAX_BODY, REMOTE, Frame, Frames, encode
from blender_addon.jobs.mirror import THERE, Inbound, files_back, is_job_id, pieces
from engine.setup.machine import data_folder

TICK = 0.1
SILENCE = 120.0  # the relay says something every 15 seconds
GRACE = 5.0  # for the engine to end by itself
KEEP = 7 * 86400.0
RESULT_SECONDS = 2.0  # from the last event to a result that was promised
PATH_SETTINGS = ("model", "vae", "preview_vae", "style_adapter", "multiview", "lora")


class Outbound:
    """What changes in the folder of a running job, as frames. `over` once its end has been sent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.over = False
        self._read = self._sent = 0  # bytes of the events
        self._partial = b""  # an incomplete line
        self._held = b""  # lines from the last event on, which go after the pictures
        self._ending: float | None = None
        self._preview: tuple[int, ...] = ()

    def changes(self, gone: bool = False) -> Iterator[bytes]:
        """Frames since the last call. `gone`: the engine is no more, so this is all there will be."""
        yield from self._events(gone)
        yield from self._new_preview()
        late = self._ending is not None and time.monotonic() - self._ending > RESULT_SECONDS
        result = (self.folder / RESULT_FILE).is_file()
        if (self._ending is not None and (result or late)) or gone:
            for path in files_back(self.folder) if result else ():
                yield from pieces(self.folder, path)
            yield from self._append(self._held + self._partial)
            if result:
                yield from pieces(self.folder, RESULT_FILE)
            self.over = True

    def _events(self, gone: bool) -> Iterator[bytes]:
        """Whole lines up to the one that says that the job has ended; that and the rest are held back."""
        while data := self._next():
            *lines, self._partial = (self._partial + data).split(b"\n")
            whole = b""
            for line in lines:
                if self._ending is None and _last(line):
                    self._ending = time.monotonic()
                if self._ending is None:
                    whole += line + b"\n"
                else:
                    self._held += line + b"\n"
            if len(self._partial) > MAX_LINE and self._ending is None:
                whole, self._partial = whole + self._partial, b""
            yield from self._append(whole)

    def _next(self) -> bytes:
        try:
            with open(self.folder / EVENTS_FILE, "rb") as file:
                file.seek(self._read)
                data = file.read(MAX_BODY)
        except FileNotFoundError:
            return b""
        self._read += len(data)
        return data

    def _append(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), MAX_BODY):
            part = data[at : at + MAX_BODY]
            yield encode("append", part, job=self.folder.name, at=self._sent)
            self._sent += len(part)

    def _new_preview(self) -> Iterator[bytes]:
        try:
            status = os.lstat(self.folder / PREVIEW_FILE)
        except FileNotFoundError:
            return
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        if stamp != self._preview:
            self._preview = stamp
            yield from pieces(self.folder, PREVIEW_FILE)


def _last(line: bytes) -> bool:
    try:
        event = parse_json(line)
    except ValueError:
        return False
    return isinstance(event, dict) and event.get("ev") in LAST_EVENTS


class Far:
    """One connection, from its first frame to the end of the engine behind it."""

    def __init__(self, stdin: int, stdout: BinaryIO, data: Path) -> None:
        self._stdin, self._stdout = stdin, stdout
        self.folder = data / "remote" / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"
        self.jobs = self.folder / "jobs"
        self.over = threading.Event()
        self._failed: queue.SimpleQueue[bytes] = queue.SimpleQueue()  # frames of the listener: one thread alone writes
        self._stopping = threading.Lock()
        self._inbound: dict[str, Inbound] = {}
        self._outbound: Outbound | None = None
        self._state: Any = None
        self._log_at = 0
        self._last_way_out = threading.Timer(3 * GRACE, os._exit, (1,))  # if `say` waits for a reader that is gone

    def run(self) -> int:
        frames = Frames(self._hear)
        self.say(BANNER + encode("hello", version=VERSION, proto=PROTO, remote=REMOTE))
        first = frames.next()
        theirs = [first.fields.get(name) for name in ("version", "proto", "remote")] if first else []
        if theirs != [VERSION, PROTO, REMOTE]:
            return 2  # the other side has the versions and says it better
        try:
            _forget_old(self.folder.parent)
            self.jobs.mkdir(parents=True)
            self._start()
        except OSError as fault:
            self.say(encode("ended", code=1, error=explain_os_error(fault, self.folder).to_dict()))
            return 1
        threading.Thread(target=self._listen, args=(frames,), daemon=True).start()
        code = self._watch()
        self._stop_engine()
        self._clean_up()
        self._last_way_out.cancel()
        return code

    def say(self, data: bytes) -> None:
        """Write all of it; a connection that is gone ends this side."""
        try:
            view = memoryview(data)
            while view:
                view = view[self._stdout.write(view) :]
        except OSError:
            self.over.set()

    def _hear(self, size: int) -> bytes:
        """Bytes of stdin; none at its end, and none after a long silence."""
        if os.name == "posix" and not select.select([self._stdin], [], [], SILENCE)[0]:
            print(f"tweed: nothing was heard for {SILENCE:.0f} seconds", file=sys.stderr, flush=True)
            return b""
        return os.read(self._stdin, size)

    def _start(self) -> None:
        """The engine, in a group of its own so that all of it can be ended."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        with open(self.folder / "engine.log", "wb") as log:
            self._engine = subprocess.Popen(
                [sys.executable, "-m", "engine", "serve", "--state", str(self.folder)], stdin=subprocess.PIPE,
                stdout=log, stderr=log, start_new_session=True, bufsize=0,
                env=clean | {"PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip

    def _watch(self) -> int:
        """Send what changes until the connection or the engine ends."""
        while not self.over.wait(TICK):
            while not self._failed.empty():
                self.say(self._failed.get())
            gone = self._engine.poll() is not None
            self._send_state()
            self._send_job(gone)
            self._send_log()
            if gone:
                self.say(encode("ended", code=_exit_code(self._engine.returncode)))
                return 1
        return 0

    def _send_state(self) -> None:
        try:
            record = parse_json(read_limited(self.folder / "engine.json", MAX_BODY))
        except (UserError, ValueError):
            return
        if record != self._state:
            self._state = record
            self.say(encode("state", record=record))

    def _send_job(self, gone: bool) -> None:
        job = self._outbound
        if job is None:
            return
        try:
            for frame in job.changes(gone):
                self.say(frame)
        except (UserError, OSError) as fault:  # an unreadable file, a folder that was taken away
            error = explain_os_error(fault, job.folder) if isinstance(fault, OSError) else fault
            self._tell(op="cancel")
            self._fail(job.folder.name, error)
        if job.over and self._outbound is job:
            self._outbound = None

    def _send_log(self) -> None:
        with open(self.folder / "engine.log", "rb") as log:
            log.seek(self._log_at)
            while data := log.read(MAX_BODY):
                self._log_at += len(data)
                self.say(encode("log", data))

    def _listen(self, frames: Frames) -> None:
        """Takes in what the relay says, at once, so that a cancel is heard while something large is being sent."""
        try:
            while (frame := frames.next()) and frame.do != "quit":
                self._take(frame)
        except (ProtocolError, OSError) as error:
            print(f"tweed: {error}", file=sys.stderr, flush=True)
        finally:
            for inbound in list(self._inbound.values()):
                inbound.close()
            self._last_way_out.daemon = True
            self._last_way_out.start()
            self.over.set()
            self._stop_engine()

    def _take(self, frame: Frame) -> None:
        job = frame.fields.get("job")
        if frame.do in ("cancel", "unload"):
            self._tell(op=frame.do)
        elif frame.do == "ping":
            pass
        elif not is_job_id(job):
            raise ProtocolError(f"{frame.do[:40]!r} names no job.")
        elif frame.do in ("delivered", "drop"):
            self._forget(job, wait=frame.do == "drop")
        elif frame.do == "begin" or job in self._inbound:
            self._take_job(job, frame)

    def _take_job(self, job: str, frame: Frame) -> None:
        try:
            if frame.do == "begin":
                (self.jobs / job).mkdir()
                self._inbound[job] = Inbound(self.jobs / job, THERE)
            elif frame.do == "run":
                del self._inbound[job]
                check_paths(self.jobs / job)
                self._outbound = Outbound(self.jobs / job)
                self._tell(op="run", job=str(self.jobs / job))
            else:
                self._inbound[job].take(frame.do, frame.fields, frame.body)
        except ProtocolError:
            raise
        except (TweedError, OSError) as fault:
            self._inbound.pop(job, None)
            self._fail(job, explain_os_error(fault, self.jobs / job) if isinstance(fault, OSError) else fault)

    def _fail(self, job: str, error: TweedError) -> None:
        self._outbound = None
        self._failed.put(encode("failed", job=job, error=error.to_dict()))

    def _forget(self, job: str, wait: bool) -> None:
        """Remove a job's folder; with `wait` the engine may still be in it, and it goes at the end."""
        if inbound := self._inbound.pop(job, None):
            inbound.close()
        elif wait:
            self._outbound = None
            return
        shutil.rmtree(self.jobs / job, ignore_errors=True)

    def _tell(self, **said: Any) -> None:
        with contextlib.suppress(OSError, ValueError):  # an engine that is gone is noticed by `_watch`
            self._engine.stdin.write(json.dumps(said).encode() + b"\n")

    def _stop_engine(self) -> None:
        """Close its lifeline, and end it if that does not."""
        with self._stopping:
            with contextlib.suppress(OSError):
                self._engine.stdin.close()
            try:
                self._engine.wait(GRACE)
            except subprocess.TimeoutExpired:
                if os.name == "posix":
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(self._engine.pid, signal.SIGKILL)
                else:
                    self._engine.kill()
                self._engine.wait()

    def _clean_up(self) -> None:
        """Nothing stays but textures that were finished and could not be delivered."""
        for folder in self.jobs.iterdir():
            try:
                kept = (read_result(folder) or {}).get("status") == "done"
            except TweedError:
                kept = False
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)
        if not any(self.jobs.iterdir()):
            shutil.rmtree(self.folder, ignore_errors=True)


def check_paths(folder: Path) -> None:
    """ModelError, with setting and path, for a model or file that the job names by a path that this machine has not."""
    try:
        settings = parse_json(read_limited(folder / JOB_FILE, MAX_JSON_BYTES))["settings"]
        texts = {name: str(settings.get(name) or "") for name in PATH_SETTINGS}
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # the engine says what is wrong with it
    for name, text in texts.items():
        whole = [path for path, _ in parse_loras(text)] if name == "lora" else [text]
        parts = whole if name != "model" or Path(text).exists() else text.split("+")
        for path in (part.strip() for part in parts):
            named = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()
            if named and not Path(path).exists():
                raise ModelError(
                    f"The remote machine has no {path} ({name}).",
                    "Models are looked for on the machine that paints: copy it there to the same place, or name a "
                    "model by its id.",
                )


def _exit_code(code: int) -> int:
    """128 + N for a process that a signal ended, as a shell says it."""
    return code if code >= 0 else 128 - code


def _forget_old(folder: Path) -> None:
    if folder.is_dir():
        for old in folder.iterdir():
            if time.time() - old.stat().st_mtime > KEEP:
                shutil.rmtree(old, ignore_errors=True)


def remote() -> int:
    """Speak with a relay until one side ends. Prints go to stderr: stdout carries frames alone."""
    stdout = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    if os.name == "nt":
        import msvcrt

        for number in (0, stdout.fileno()):
            msvcrt.setmode(number, os.O_BINARY)
    return Far(0, stdout, data_folder(platform.system(), os.environ, Path.home())).run()


if __name__ == "__main__":
    sys.exit(remote())
