# SPDX-License-Identifier: Apache-2.0
"""Virtual environments that can be made twice, or half, and still come out right.

What is missing is asked each time (half a second), so a package that somebody removed comes back. A stamp file with a
hash of what was asked for is written last: an environment without it was interrupted, and is looked through thoroughly.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.setup import pip
from engine.setup.console import SetupProblem, say
from engine.setup.lock import lock
from engine.setup.machine import can_use_apt, free_bytes, hidden_window

STAMP = "tweed-setup.json"

# Runs inside the environment: prints the requirements that are not met. pip always carries `packaging`.
CHECK = """
import importlib.metadata as metadata, json, sys
from pip._vendor.packaging.requirements import Requirement
missing = []
for text in json.load(sys.stdin):
    need = Requirement(text)
    if need.marker and not need.marker.evaluate():
        continue
    try:
        found = metadata.version(need.name)
    except metadata.PackageNotFoundError:
        found = None
    if not found or not need.specifier.contains(found, prereleases=True):
        missing.append(text)
print(json.dumps(missing))
"""


@dataclass(frozen=True)
class Wanted:
    """What an environment must hold. `requirements` are files; `extra` are single requirements that come first."""

    folder: Path
    requirements: tuple[Path, ...]
    constraints: Path | None = None
    extra: tuple[str, ...] = ()
    disk_gb: float = 1.0


def python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def read_requirements(file: Path) -> list[str]:
    """The requirement lines of a file; comments and blank lines dropped, `-r other.txt` followed."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if line.startswith("-r "):
            lines += read_requirements(file.parent / line[3:].strip())
        elif line:
            lines.append(line)
    return lines


def wish(wanted: Wanted) -> list[str]:
    lines = list(wanted.extra)
    for file in wanted.requirements:
        lines += read_requirements(file)
    return lines


def fingerprint(wanted: Wanted) -> str:
    """Hash of everything asked for. The Python is not in it: an environment keeps the one it was made with."""
    parts = [*wish(wanted), "--", *(read_requirements(wanted.constraints) if wanted.constraints else [])]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def stamped(wanted: Wanted) -> bool:
    try:
        stamp = json.loads((wanted.folder / STAMP).read_text(encoding="utf-8"))
        return stamp["wanted"] == fingerprint(wanted) and python_of(wanted.folder).exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_stamp(wanted: Wanted) -> None:
    temporary = wanted.folder / (STAMP + ".new")
    temporary.write_text(json.dumps({"wanted": fingerprint(wanted)}) + "\n", encoding="utf-8")
    os.replace(temporary, wanted.folder / STAMP)


def works(folder: Path) -> bool:
    """True when the environment's Python starts and has pip."""
    try:
        done = subprocess.run(
            [python_of(folder), "-c", "import pip"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
            env=pip.environment(),
            **hidden_window(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def missing(wanted: Wanted) -> list[str]:
    """The requirements that the environment does not meet; all of them when its Python does not start."""
    try:
        done = subprocess.run(
            [python_of(wanted.folder), "-c", CHECK],
            input=json.dumps(wish(wanted)),
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=pip.environment(),
            **hidden_window(),
        )
    except OSError:
        return wish(wanted)
    return json.loads(done.stdout) if done.returncode == 0 else wish(wanted)


def consistent(folder: Path) -> bool:
    """True when every installed package has what it needs itself; asked once, before an environment is stamped."""
    command = [python_of(folder), "-m", "pip", "check"]
    done = subprocess.run(
        command, capture_output=True, stdin=subprocess.DEVNULL, env=pip.environment(), **hidden_window()
    )
    return done.returncode == 0


def create(folder: Path, log: Path) -> None:
    """A new environment; a broken one in its place is replaced."""
    if works(folder):
        return
    if not has_ensurepip():
        get_ensurepip(log)
    code, output = pip.run([sys.executable, "-m", "venv", "--clear", folder], log)
    if code:
        last = output.strip().splitlines()[-1:] or [""]
        raise SetupProblem(
            f"Python could not make a virtual environment in {folder}: {last[0]}",
            "Check that the folder can be written and that the disk has room; a Python from python.org always works.",
            code=3,
        )


def has_ensurepip() -> bool:
    done = subprocess.run(
        [sys.executable, "-c", "import ensurepip, venv"],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        **hidden_window(),
    )
    return done.returncode == 0


def get_ensurepip(log: Path) -> None:
    """Debian and Ubuntu keep the venv module's other half in a package of its own."""
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    if can_use_apt():
        say(f"  installing the system package {package}, which this Python needs for virtual environments")
        pip.run(["apt-get", "update", "-q"], log)
        pip.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", package], log)
    if not has_ensurepip():
        raise SetupProblem(
            "This Python cannot make virtual environments.",
            f"Run: sudo apt install {package}   then the same command again.",
            code=3,
        )


def need_room(folder: Path, gigabytes: float) -> None:
    free = free_bytes(folder) / 1e9
    if free < gigabytes:
        raise SetupProblem(
            f"Not enough room on the disk of {folder}: about {gigabytes:.0f} GB are needed, {free:.1f} GB are free.",
            "Make room, or put Tweed on another disk with --prefix FOLDER.",
            code=3,
        )


def ensure(wanted: Wanted, log: Path, options: Sequence[str] = (), torch: tuple[str, str | None] | None = None) -> bool:
    """Make `wanted` true; returns False when it already was. `torch` is (requirement, extra index or None)."""
    whole = stamped(wanted)
    lacking = missing(wanted) if whole or works(wanted.folder) else wish(wanted)
    if not lacking and (whole or consistent(wanted.folder)):
        write_stamp(wanted)
        return False
    need_room(wanted.folder, wanted.disk_gb if len(lacking) > 3 else 0.3)
    create(wanted.folder, log)
    python = python_of(wanted.folder)
    constraints = ["-c", wanted.constraints] if wanted.constraints else []
    if torch and any(re.match(r"torch\b", line) for line in lacking):
        say(f"  torch: {torch[0]}")
        index = [["--extra-index-url", torch[1]]] if torch[1] and not options else []
        pip.install(python, [torch[0], *constraints, *options], log, [[], *index])
    arguments = [*wanted.extra, *(part for file in wanted.requirements for part in ("-r", file))]
    pip.install(python, [*arguments, *constraints, *options], log)
    still = missing(wanted)
    if still:
        raise SetupProblem(f"After installing, these are still missing: {', '.join(still)}.", f"See {log}.", code=3)
    write_stamp(wanted)
    return True


@contextlib.contextmanager
def only_one(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Two installers at once would break each other. The lock is released by the system even when one is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        end = time.monotonic() + patience
        while not lock(file):
            if time.monotonic() > end:
                raise SetupProblem("Another install.py is at work in this folder.", "Wait until it is done.", code=3)
            time.sleep(1)
        yield
