# SPDX-License-Identifier: Apache-2.0
"""`python -m PACKAGE.jobs.relay --state DIR --host USER@HOST [--folder F]`: a far engine that looks like one here.

A process of its own in place of `engine serve`: the same commands as JSON lines on stdin, the same engine.json, the
same files in the job folder, the same end when stdin ends. Behind it runs `ssh HOST … -m engine remote`. Two threads
read (ssh's stdout and its stderr), one hears the commands, and the main thread alone writes to ssh.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import Cancelled, EngineLost, JobError, ProtocolError, TweedError, UserError
from .files import atomic_write_json
from .folder import PROTO, RESULT_FILE, VERSION, write_result
from .frames import REMOTE, Frame, Frames, encode
from .mirror import BACK, Inbound, files_there, is_job_id, pieces
from .ssh import command, failure, no_program

PING_SECONDS = 15.0  # the far side gives up after two minutes of hearing nothing
GOODBYE_SECONDS = 2.0
MAX_LOG = 1 << 26  # bytes of the far engine's log, and ssh's, that are kept here
WORDS, MAX_WORDS = 20, 2000  # lines of ssh's stderr that are kept for the error, and bytes of one


class Relay:
    """One connection. `run` returns the process's exit code; what went wrong is in engine.json as "error"."""

    def __init__(self, host: str, folder: str, state: Path) -> None:
        self.host, self.folder, self.state = host, folder, state
        self.inbox: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.words: deque[str] = deque(maxlen=WORDS)
        self.answered = False
        self.inbound: dict[str, Inbound] = {}  # the jobs that are there, by id
        self.ended: TweedError | None = None  # why the far side said that it ends
        self.code = 1
        self.current = ""  # the job that was sent last
        self.sending: Iterator[bytes] = iter(())  # what is left of it
        self.log = threading.Lock()
        self.logged = 0

    def run(self) -> int:
        self.announce({"state": "starting"})
        try:
            words = command(self.host, self.folder, ["remote"])
            # In this process's group, so that ending it ends ssh too.
            pipe = subprocess.PIPE
            ssh = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        except TweedError as error:
            return self.fail(error)
        except OSError as fault:
            return self.fail(no_program(self.host, fault))
        self.ssh = ssh
        errors = threading.Thread(target=self.read_words, daemon=True)
        errors.start()
        threading.Thread(target=self.read_frames, daemon=True).start()
        threading.Thread(target=self.read_commands, daemon=True).start()
        self.send(encode("hello", version=VERSION, proto=PROTO, remote=REMOTE))
        try:
            over = self.serve()
        except UserError as error:  # not even the end of a job can be written here
            over = error
        self.send(encode("quit"))
        with contextlib.suppress(OSError):
            ssh.stdin.close()
        try:
            code = ssh.wait(GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            ssh.kill()
            code = ssh.wait()
        errors.join(GOODBYE_SECONDS)
        return 0 if over == "closed" else self.fail(self.reason(over, code))

    def serve(self) -> str | TweedError:
        """Pass on what comes until one side ends; gives "closed" (this one), "lost", or an error."""
        while True:
            try:
                piece = next(self.sending, None)
            except UserError as error:  # a file of the job that cannot be read
                self.sending, piece = iter(()), None
                self.end_job(self.current, error)
            if piece is not None:
                self.send(piece)
            try:
                what, value = self.inbox.get(piece is None, PING_SECONDS)
            except queue.Empty:
                if piece is None:
                    self.send(encode("ping"))
                continue
            if what == "command":
                self.obey(value, piece is not None)
            elif what == "frame":
                self.send(value)
            else:
                return value if what == "fault" else what

    def obey(self, said: dict[str, Any], busy: bool) -> None:
        """A command of the add-on. `busy`: a job is on its way there, so the far engine has not heard of it."""
        if said["op"] == "run":
            self.sending = self.job(said.get("job"))
        elif said["op"] == "cancel":
            if busy:
                self.sending = iter(())
                self.end_job(self.current, Cancelled())
            self.send(encode("cancel"))
        elif said["op"] == "unload":
            self.send(encode("unload"))

    def job(self, path: Any) -> Iterator[bytes]:
        """The frames that bring a job there and start it."""
        folder = Path(str(path))
        if not is_job_id(folder.name) or not folder.is_dir():
            print(f"tweed: {path} is no job folder", flush=True)
            if folder.is_dir():
                error = JobError(f"{folder}: is no job folder.", "Start the job again.")
                write_result(folder, {"status": "failed", "error": error.to_dict()})
            return
        self.current = folder.name
        self.inbound[folder.name] = Inbound(folder, BACK)
        yield encode("begin", job=folder.name)
        for relative in files_there(folder):
            yield from pieces(folder, relative)
        yield encode("run", job=folder.name)

    def send(self, data: bytes) -> None:
        """Write all of it. A connection that is gone is noticed by whoever reads."""
        view = memoryview(data)
        with contextlib.suppress(OSError, ValueError):
            while view:
                view = view[self.ssh.stdin.write(view) :]

    def read_commands(self) -> None:
        rest = b""
        while data := os.read(0, 1 << 16):  # not sys.stdin, whose lock would be held when the process ends
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                try:
                    said = json.loads(line)
                    op = said["op"]
                except (ValueError, KeyError, TypeError):
                    print(f"tweed: a command that is no JSON object with an \"op\": {line[:200]!r}", flush=True)
                    continue
                self.inbox.put(("closed", None) if op == "quit" else ("command", said))
        self.inbox.put(("closed", None))

    def read_words(self) -> None:
        rest = b""
        while data := self.ssh.stderr.read(1 << 12):
            self.write_log(data)
            *lines, rest = (rest[-MAX_WORDS:] + data).split(b"\n")
            self.words.extend(line.decode("utf-8", "replace").rstrip() for line in lines)
        self.words.append(rest.decode("utf-8", "replace"))

    def write_log(self, data: bytes) -> None:
        with self.log, contextlib.suppress(OSError):
            self.logged += len(data)
            if self.logged > MAX_LOG:  # nobody reads this much, and the disk is the artist's
                return
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def read_frames(self) -> None:
        """Takes in what the far side says, at once, so that it never waits for this one to listen."""
        frames = Frames(self.ssh.stdout.read)
        try:
            self.write_log(frames.skip_to_banner())
            while frame := frames.next():
                self.hear(frame)
        except ProtocolError as error:
            if self.answered:
                self.inbox.put(("fault", error))
            elif error.log:
                self.words.extend(error.log.splitlines())
        except UserError as error:  # not even the end of the job can be written here
            self.inbox.put(("fault", error))
        finally:
            for inbound in self.inbound.values():
                inbound.close()
            self.inbox.put(("lost", None))

    def hear(self, frame: Frame) -> None:
        said = frame.fields
        if not self.answered:
            self.check_hello(frame)
        elif frame.do == "state":
            self.announce(plain_state(said.get("record")))
        elif frame.do == "log":
            self.write_log(frame.body)
        elif frame.do in ("file", "append", "failed"):
            job = said.get("job")
            if isinstance(job, str) and job in self.inbound:
                self.take(job, frame)
        elif frame.do == "ended":
            error = said.get("error")
            code = said.get("code")
            self.code = code if type(code) is int and 0 < code < 256 else 1
            self.ended = as_error(error) if isinstance(error, dict) else EngineLost(
                f"The engine on {self.host} stopped unexpectedly (exit code {code}).",
                "Open the engine's log. Generate starts a new engine.",
            )  # fmt: skip
            self.inbox.put(("lost", None))
        else:
            raise ProtocolError(f"{self.host} sent {frame.do[:40]!r}, which means nothing here.")

    def check_hello(self, frame: Frame) -> None:
        said = frame.fields
        theirs = (said.get("version"), said.get("proto"), said.get("remote"))
        if frame.do != "hello" or theirs != (VERSION, PROTO, REMOTE):
            self.answered = True
            raise ProtocolError(
                f"The engine on {self.host} is version {str(theirs[0])[:20]} (protocol {str(theirs[1])[:20]}) "
                f"but this add-on is version {VERSION} (protocol {PROTO}).",
                f"Run install.py of the same release on {self.host}.",
            )
        self.answered = True

    def take(self, job: str, frame: Frame) -> None:
        """Keep what belongs to a job. What may not be kept ends the job, with nothing of it written."""
        inbound = self.inbound[job]
        try:
            if frame.do == "failed":
                error = frame.fields.get("error")
                self.end_job(job, as_error(error if isinstance(error, dict) else {}))
            elif inbound.take(frame.do, frame.fields, frame.body) == RESULT_FILE:
                del self.inbound[job]
                self.inbox.put(("frame", encode("delivered", job=job)))
        except UserError as error:
            self.inbox.put(("frame", encode("cancel")))
            if isinstance(error, JobError):
                error.action = f"{self.host} sent what no engine of Tweed sends; look at that machine."
            self.end_job(job, error)

    def end_job(self, job: str, error: TweedError | Cancelled) -> None:
        """Write the end of a job that the far engine will not write. Raises UserError if not even that can be done."""
        inbound = self.inbound.pop(job, None)
        if inbound is None:
            return
        inbound.close()
        if isinstance(error, Cancelled):
            write_result(inbound.folder, {"status": "cancelled"})
        else:
            write_result(inbound.folder, {"status": "failed", "error": error.to_dict()})
        self.inbox.put(("frame", encode("drop", job=job)))

    def reason(self, over: str | TweedError, code: int | None) -> TweedError:
        """Why the connection ended."""
        if isinstance(over, TweedError):
            return over
        if self.ended is not None:
            return self.ended
        if not self.answered:
            return failure(self.host, code, list(self.words))
        last = next((line for line in reversed(self.words) if line.strip()), "")
        return EngineLost(
            f"The connection to {self.host} was lost{f': {last.strip()}' if last else ''} (ssh's exit code {code}).",
            "Generate connects again. What the engine there was doing has been stopped.",
        )

    def fail(self, error: TweedError) -> int:
        print(f"tweed: {error.message}", flush=True)
        try:
            self.announce({"state": "failed", "error": error.to_dict()})
        except UserError as fault:
            print(f"tweed: {fault.message}", flush=True)
        return self.code

    def announce(self, record: dict[str, Any]) -> None:
        known = {"version": VERSION, "proto": PROTO}
        mine = {"pid": os.getpid(), "remote": self.host, "t": time.time()}
        atomic_write_json(self.state / "engine.json", {**known, **record, **mine})


def as_error(record: dict[str, Any]) -> TweedError:
    error = TweedError.from_dict(record)
    return error if isinstance(error, TweedError) else EngineLost(str(error))


def plain_state(record: Any) -> dict[str, Any]:
    """What the far engine says of itself, with only what may stand in an engine.json."""
    if not isinstance(record, dict):
        raise ProtocolError("The engine's state is no record.")
    found = {key: record[key] for key in ("version", "proto", "state", "device", "device_type") if key in record}
    for key in ("rasterizers", "models"):
        if isinstance(record.get(key), (dict, list)):
            found[key] = record[key]
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Tweed's engine on another machine, as if it were here.")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--folder", default="")
    given = parser.parse_args(arguments)
    given.state.mkdir(parents=True, exist_ok=True)
    return Relay(given.host, given.folder, given.state).run()


if __name__ == "__main__":
    sys.exit(main())
