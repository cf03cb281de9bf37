# SPDX-License-Identifier: GPL-3.0-or-later
"""Setting the engine up from inside Blender: install.py as a process whose words are read from its log.

No thread and nothing that waits: `poll` is called by the timer. It can be stopped and started again; install.py goes
on where it was. Imports no bpy.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from .client import data_folder, scrubbed_environment
from .jobs.errors import EngineMissing, NoRoom, UserError

NEEDED = {"cpu": 3e9, "cuda": 9e9}  # bytes free while installing; the environment takes about two thirds of it
LINES = 12
_PERCENT = re.compile(r"(\d{1,3}) ?%")


def script(package: Path = Path(__file__).parent) -> Path:
    """The install.py of this extension, or of the checkout around it. Raises EngineMissing."""
    for path in (package / "engine_bundle" / "install.py", package.resolve().parent / "install.py"):
        if path.is_file():
            return path
    raise EngineMissing("This copy of Tweed carries no installer.", "Get Tweed's zip again and install that.")


def free_bytes(folder: Path | None = None) -> int:
    """Free space where the engine goes."""
    folder = folder or data_folder()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@dataclass
class Setup:
    """One run of install.py, or a model's download. `state`: running, done, failed or stopped."""

    process: subprocess.Popen
    log: Path
    began: float = field(default_factory=time.monotonic)
    state: str = "running"
    heading: str = "Starting"
    percent: int = 0  # of the packages
    lines: deque = field(default_factory=lambda: deque(maxlen=LINES))
    _at: int = 0
    _rest: bytes = b""

    @property
    def fraction(self) -> float:
        """0..1, for the bar: what install.py last said of its packages."""
        return 1.0 if self.state == "done" else 0.95 * self.percent / 100

    def poll(self) -> bool:
        """Take in what was written; gives whether anything changed."""
        before = (self.heading, self.percent, len(self.lines), self.state)
        ended = self.process.poll()
        self._read()
        if ended is not None and self.state == "running":
            self.state = "done" if ended == 0 else "failed"
        return before != (self.heading, self.percent, len(self.lines), self.state)

    def _read(self) -> None:
        with open(self.log, "rb") as file:
            file.seek(self._at)
            data = file.read(1 << 16)
        self._at += len(data)
        *whole, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        for raw in whole:
            line = raw.decode("utf-8", "replace").strip()
            if not line:
                continue
            self.lines.append(line)
            if line.startswith("== "):
                self.heading = line.removeprefix("== ")
            if found := _PERCENT.search(line):
                self.percent = min(100, int(found[1]))
        if found := _PERCENT.search(self._rest.decode("utf-8", "replace")):  # a bar is one line until its end
            self.percent = min(100, int(found[1]))

    def stop(self) -> None:
        if self.state == "running":
            self.state = "stopped"
            self.process.terminate()

    @property
    def advice(self) -> str:
        """What install.py says should be done."""
        said = [line.removeprefix("What to do:").strip() for line in self.lines if line.startswith("What to do:")]
        return said[-1] if said else "Open the log; after mending it, press Set Up again: it goes on where it stopped."

    @property
    def fault(self) -> str:
        said = [line.removeprefix("Stopped:").strip() for line in self.lines if line.startswith("Stopped:")]
        return said[-1] if said else "Setting the engine up failed."

    @property
    def last_words(self) -> str:
        """The last lines that are words and no progress bar."""
        said = [line for line in self.lines if not _PERCENT.search(line)]
        return " ".join(said[-2:]) or "It stopped without a word."


def begin(state: Path, online: bool, python: str = sys.executable) -> Setup:
    """Start install.py with Blender's own Python. Raises UserError, NoRoom, EngineMissing; then nothing was started."""
    if not online:
        raise UserError(
            "Setting up downloads about 1 GB, and Blender is set to stay offline.",
            "Allow online access in Preferences > System, or set up from a folder of wheels: "
            "install.py --find-links FOLDER.",
        )
    free = free_bytes()
    if free < NEEDED["cpu"]:
        raise NoRoom(
            f"Setting up needs about {NEEDED['cpu'] / 1e9:.0f} GB; {free / 1e9:.1f} GB are free.", "Make room."
        )
    path = script()
    state.mkdir(parents=True, exist_ok=True)
    log = state / "setup.log"
    quiet = {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {"start_new_session": True}
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [python, str(path), "--no-blender"], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env=scrubbed_environment() | {"NO_COLOR": "1"}, cwd=path.parent, **quiet,
        )  # fmt: skip
    return Setup(process, log)
