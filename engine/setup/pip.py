# SPDX-License-Identifier: Apache-2.0
"""Running pip: its output goes to a log, its failures come back as sentences with a remedy."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from engine.setup.console import Bar, SetupProblem, say
from engine.setup.machine import hidden_window

# What pip prints -> (what is wrong, what to do). The first that matches the end of the log wins.
FAULTS = (
    (
        r"No space left on device|Errno 28|not enough space",
        "The disk is full.",
        "Make room, then run the same command again; it goes on where it stopped.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "The package server's certificate was not accepted (often a company proxy).",
        "Point pip at your proxy's certificate: pip config set global.cert FILE.",
    ),
    (
        r"NewConnectionError|Failed to establish a new connection|Temporary failure in name resolution|getaddrinfo"
        r"|Name or service not known|nodename nor servname|Network is unreachable|ConnectTimeoutError|ReadTimeoutError"
        r"|Connection (?:refused|reset|aborted)|ProxyError|Max retries exceeded|Read timed out|connection broken",
        "The package server cannot be reached.",
        "Go online and run the same command again; it goes on where it stopped. Without a network: on another computer"
        " of the same kind run `pip download -d wheels torch==2.13.0 -r requirements/engine.txt -c"
        " requirements/constraints.txt`, bring the folder over, and run `install.py --find-links wheels`.",
    ),
    (
        r"No matching distribution found for (?P<what>\S+)",
        "A package is not offered for this Python and system: {what}.",
        "Run install.py with Python 3.11, 3.12 or 3.13; with --find-links, add that package to the folder. If it is"
        " torch and download.pytorch.org is closed to you, --torch cuda takes PyPI's build (several GB), which runs"
        " without a GPU too.",
    ),
    (
        r"THESE PACKAGES DO NOT MATCH THE HASHES|hash mismatch",
        "A downloaded file is damaged.",
        "Run the same command again; `pip cache purge` first if it comes back.",
    ),
    (
        r"Permission denied|Access is denied|WinError 5|WinError 32",
        "A file is in use or may not be written.",
        "Close Blender and any running Tweed engine, then run the same command again.",
    ),
)


def explain(output: str) -> tuple[str, str]:
    """(what is wrong, what to do) for the output of a pip that failed."""
    for pattern, message, remedy in FAULTS:
        found = re.search(pattern, output, re.IGNORECASE)
        if found:
            return message.format(**found.groupdict()), remedy
    return "pip failed.", "The log says why. After mending it, run the same command again."


def environment() -> dict[str, str]:
    """The environment for every program the installer starts: no foreign Python settings, UTF-8 everywhere."""
    kept = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV")
    }
    return {
        **kept,
        "PYTHONNOUSERSITE": "1",
        "PYTHONUTF8": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
    }


def source_arguments(find_links: Path | None) -> list[str]:
    return ["--no-index", "--find-links", str(find_links)] if find_links else []


def short(line: str) -> str:
    """A pip output line made fit for a person: package and size only."""
    line = line.strip()
    found = re.match(r"Downloading (\S+?)(?:\.metadata)? \(([^)]+)\)", line)
    if found:
        return f"downloading {found[1].rsplit('/', 1)[-1]} ({found[2]})"
    return line[0].lower() + line[1:] if line else ""


def megabytes(line: str) -> float:
    """The size of a download that a pip output line announces; 0 for other lines."""
    found = re.search(r"Downloading .*\(([\d.]+) ([MG])B\)", line)
    return float(found[1]) * (1000 if found[2] == "G" else 1) if found else 0.0


def run(command: Sequence[str], log: Path, cwd: Path | None = None) -> tuple[int, str]:
    """Run a program with its output in `log` (appended) and what it does on one line; returns exit code and output."""
    log.parent.mkdir(parents=True, exist_ok=True)
    bar, lines = Bar(), []
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(map(str, command))}\n")
        with subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment(),
            cwd=cwd,
            **hidden_window(),
        ) as process:
            try:
                for line in process.stdout:
                    file.write(line)
                    lines.append(line)
                    if line.startswith(("Collecting", "Downloading", "  Downloading", "Installing", "Building")):
                        bar.note(short(line))
                        if not bar.live and megabytes(line) >= 30:
                            say(f"    {short(line)}")
            except BaseException:  # Ctrl+C: do not leave a pip behind
                process.terminate()
                raise
    bar.clear()
    return process.returncode, "".join(lines)


def install(python: Path, arguments: Sequence[str], log: Path, alternatives: Sequence[Sequence[str]] = ((),)) -> None:
    """`pip install`; each of `alternatives` (extra arguments) is tried while the one before finds no such package."""
    output = ""
    for extra in alternatives:
        command = [python, "-m", "pip", "install", "--progress-bar", "off", *arguments, *extra]
        code, output = run(command, log)
        if code == 0:
            return
        if "No matching distribution found" not in output:
            break
    message, remedy = explain(output)
    last = [line.rstrip() for line in output.splitlines() if line.strip()][-4:]
    for line in last:
        say(f"    pip: {line[:300]}")
    raise SetupProblem(f"{message} (full log: {log})", remedy, code=3)
