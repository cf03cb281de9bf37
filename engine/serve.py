# SPDX-License-Identifier: Apache-2.0
"""The warm engine: one per Blender, told what to do by JSON lines on stdin, answering in job folders.

    {"op": "run", "job": "/path/of/the/job/folder"}    {"op": "cancel"}    {"op": "unload"}    {"op": "quit"}

The end of stdin means that whoever started the engine is gone: the running job is cancelled and the process ends,
so a Blender that crashed leaves no orphan. stdin is read on a thread of its own so that a cancel or the end of the
file is heard in the middle of a job. `STATE/engine.json` says who is serving and what it is doing.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

from blender_addon.jobs.errors import Cancelled, EngineError, TweedError, UserError
from blender_addon.jobs.events import append_event
from blender_addon.jobs.folder import PROTO, VERSION, atomic_write_text, write_result

UNLOAD_AFTER = 300.0  # seconds without a job before the models' memory is given back


class Inbox:
    """Commands read from a stream on a daemon thread; `cancelled` and `closed` are seen at once, the rest in order."""

    def __init__(self, stream: Iterable[str]):
        self.jobs: queue.Queue[dict] = queue.Queue()
        self.cancelled = threading.Event()
        self.closed = threading.Event()
        self._stream = stream
        self._thread = threading.Thread(target=self._read, daemon=True, name="tweed-stdin")
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream:
            if not line.strip():
                continue
            try:
                command = json.loads(line)
                op = command["op"]
            except (ValueError, KeyError, TypeError):
                print(f"tweed: a command that is no JSON object with an \"op\": {line[:200]!r}", flush=True)
                continue
            if op == "quit":
                break
            if op == "cancel":
                self.cancelled.set()
            else:
                self.jobs.put(command)
        self.closed.set()
        self.cancelled.set()

    def next(self, timeout: float) -> dict | None:
        try:
            return self.jobs.get(timeout=timeout)
        except queue.Empty:
            return None


def finish_job(folder: Path, run) -> str:
    """Run one job and leave its end in the folder, whatever happens; returns the status.

    This is the engine's border: nothing a job does may end the process or go unsaid.
    """
    events = folder / "events.jsonl"
    try:
        result = run()
    except Cancelled:
        return _end(folder, events, "cancelled", None)
    except TweedError as error:
        print(f"tweed: {type(error).__name__}: {error}", flush=True)
        return _end(folder, events, "failed", error.to_dict())
    except Exception as error:  # noqa: BLE001 border: the job loop
        traceback.print_exc()
        sys.stderr.flush()
        bug = EngineError(
            f"The engine met a fault of its own: {type(error).__name__}: {error}",
            "Press Report to copy the log, and try again with Draft settings.",
        )
        return _end(folder, events, "failed", {**bug.to_dict(), "traceback": traceback.format_exc()})
    append_event(events, "done", images=result["images"])
    return "done"


def _end(folder: Path, events: Path, status: str, error: dict | None) -> str:
    try:
        write_result(folder, {"status": status, "images": {}, "report": {}, "error": error})
        append_event(events, status, **({"error": error} if error else {}))
    except (OSError, UserError) as fault:  # the folder is gone or full: the log is all that is left to say it in
        print(f"tweed: could not write the end of the job into {folder}: {fault}", flush=True)
    return status


def serve(state: Path, stream: Iterable[str] | None = None) -> int:
    """Serve jobs until stdin ends. `state` is the folder for `engine.json`."""
    state.mkdir(parents=True, exist_ok=True)
    _announce(state, "starting")
    inbox = Inbox(sys.stdin if stream is None else stream)

    from engine.doctor import facts  # torch and diffusers load here, after the first announcement
    from engine.progress import Progress, file_sink
    from engine.run import run_job
    from engine.warm import Models

    models = Models()
    found = facts(quick=True)
    _announce(state, "ready", **found)
    idle_since = time.monotonic()
    while not inbox.closed.is_set():
        command = inbox.next(timeout=0.5)
        if command is None:
            if models and time.monotonic() - idle_since > UNLOAD_AFTER:
                models.unload()
            continue
        if command["op"] == "unload":
            models.unload()
        elif command["op"] == "run" and isinstance(command.get("job"), str):
            folder = Path(command["job"])
            inbox.cancelled.clear()
            if inbox.closed.is_set():
                break
            _announce(state, "busy", job=str(folder), **found)
            progress = Progress([file_sink(folder / "events.jsonl")], inbox.cancelled.is_set)
            finish_job(folder, lambda: run_job(folder, progress, models))  # noqa: B023 runs at once
            _announce(state, "ready", **found)
        else:
            print(f"tweed: an unknown command was ignored: {command}", flush=True)
        idle_since = time.monotonic()
    _announce(state, "stopped", **found)
    return 0


def _announce(state: Path, word: str, **facts) -> None:
    record = {"pid": os.getpid(), "version": VERSION, "proto": PROTO, "state": word, "t": time.time(), **facts}
    atomic_write_text(state / "engine.json", json.dumps(record, indent=1))
