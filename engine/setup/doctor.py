# SPDX-License-Identifier: Apache-2.0
"""`install.py doctor`: what was found on this machine, and a remedy for everything that is wrong. Changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.setup import blender, bundle, pip, torch_build, venv
from engine.setup.console import SetupProblem, say, table
from engine.setup.machine import Machine, free_bytes, hidden_window
from engine.setup.steps import Layout, engine_wish

OK, NOTE, WRONG = "ok", "note", "MISSING"
COLOURS = {OK: "green", NOTE: "yellow", WRONG: "red"}


@dataclass(frozen=True)
class Finding:
    """One line of the table. A `note` is worth knowing and stops nothing."""

    name: str
    state: str
    found: str
    remedy: str = ""


def system(machine: Machine) -> Iterator[Finding]:
    yield Finding("system", OK, f"{machine.system} {machine.arch}")
    yield Finding("python", OK, f"{'.'.join(map(str, machine.python))} ({sys.executable})")
    if machine.nvidia:
        yield Finding("graphics card", OK, f"{machine.nvidia.name}, driver {'.'.join(map(str, machine.nvidia.driver))}")
    elif machine.rocm:
        yield Finding("graphics card", OK, "an AMD card with ROCm")
    elif machine.system == "Darwin" and machine.arch == "arm64":
        yield Finding("graphics card", OK, "Apple silicon")
    else:
        yield Finding("graphics card", NOTE, "none that torch can use; the engine runs on the processor")


def blenders(machine: Machine) -> Iterator[Finding]:
    found = blender.find(machine.system)
    for app in found:
        if not app.usable:
            yield Finding("Blender", NOTE, f"{app.text} at {app.path}: too old", "Tweed needs Blender 4.2 or newer.")
            continue
        text = f"{app.text} at {app.path}"
        yield Finding(
            "Blender",
            NOTE if app.sandboxed else OK,
            text,
            f"From {app.sandboxed}: if the engine does not start, use the Blender from blender.org."
            if app.sandboxed
            else "",
        )
        there = blender.has_extension(app)
        yield Finding(
            "extension",
            OK if there else WRONG,
            f"installed in Blender {app.text}" if there else f"not in Blender {app.text}",
            "" if there else "Run: python3 install.py",
        )
    if not any(app.usable for app in found):
        version = blender.wheel_version()
        yield Finding(
            "Blender",
            NOTE,
            "none found; demo and tests use "
            + (f"Blender {version} as a Python module" if version else "the engine alone"),
            "Get Blender 4.2 or newer from blender.org, or set BLENDER=/path/to/blender.",
        )


def environment(place: Layout, machine: Machine) -> Iterator[Finding]:
    again = "Run: python3 install.py"
    try:
        build = torch_build.choose(machine)
    except SetupProblem as problem:
        yield Finding("torch build", WRONG, problem.message, problem.remedy)
        return
    free = free_bytes(place.work) / 1e9
    if not venv.works(place.engine):
        yield Finding("engine", WRONG, f"no environment in {place.engine}", again)
        need = build.disk_gb
    else:
        lacking = venv.missing(engine_wish(place, build))
        yield Finding(
            "engine",
            WRONG if lacking else OK,
            f"{place.engine}" + (f" lacks {', '.join(lacking)}" if lacking else ""),
            again if lacking else "",
        )
        need = 1.0
    yield Finding(
        "free disk",
        OK if free > need else WRONG,
        f"{free:.0f} GB ({need:.0f} GB needed)",
        "" if free > need else "Make room, or use --prefix FOLDER on another disk.",
    )


def ask_engine(place: Layout) -> dict | str:
    """`python -m engine doctor --json`, or the last line of what went wrong."""
    if not place.python.exists():
        return "not set up yet"
    try:
        done = subprocess.run(
            [place.python, "-m", "engine", "doctor", "--json"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            cwd=place.root,
            env={**pip.environment(), "PYTHONPATH": str(place.root)},
            stdin=subprocess.DEVNULL,
            timeout=300,
            **hidden_window(),
        )
        return json.loads(done.stdout[done.stdout.index("{") :])
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    except ValueError:
        return ((done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def engine(facts: dict | str, nvidia: bool) -> Iterator[Finding]:
    if isinstance(facts, str):
        yield Finding(
            "engine answers", WRONG, facts, "Run: python3 install.py   If that changes nothing, report this line."
        )
        return
    yield Finding(
        "engine answers",
        OK,
        f"version {facts.get('version')}, protocol {facts.get('proto')}, Python {facts.get('python')}",
    )
    yield Finding("torch", OK, str(facts.get("torch")))
    yield Finding("device", OK, str(facts.get("device")))
    rasterizers = facts.get("rasterizers", {})
    any_works = any(state == "ok" for state in rasterizers.values())
    for name, state in rasterizers.items():
        remedy = "" if state == "ok" else "Run: python3 install.py"
        if remedy and name == "nvdiffrast":  # optional, and of no use without the card
            remedy = "Only if you want it: python3 install.py --nvdiffrast" if nvidia else ""
        yield Finding(f"rasterizer {name}", OK if state == "ok" else NOTE if any_works else WRONG, str(state), remedy)
    for name, state in facts.get("models", {}).items():
        good = str(state).startswith("ok")
        yield Finding(
            f"model {name}",
            OK if good else WRONG,
            str(state),
            "" if good else "Get a fresh copy of Tweed: the bundled model's files are incomplete or changed.",
        )


def pointer(place: Layout) -> Iterator[Finding]:
    found = bundle.read_pointer(place.data)
    file = place.data / "engine.json"
    if not found:
        yield Finding(
            "pointer file",
            WRONG,
            f"{file} {'does not exist' if found is None else 'cannot be read'}",
            "Run: python3 install.py",
        )
    elif not Path(str(found.get("python"))).exists() or not Path(str(found.get("root")), "engine").is_dir():
        yield Finding(
            "pointer file",
            WRONG,
            f"{file} names an engine that is gone: {found.get('python')}",
            "Run: python3 install.py",
        )
    else:
        yield Finding("pointer file", OK, f"{file} -> {found['root']}")
    for name in ("TWEED_ENGINE_PYTHON", "TWEED_ENGINE_ROOT"):
        if os.environ.get(name):
            yield Finding(name, NOTE, f"{os.environ[name]} (goes before the pointer file)")


def examine(place: Layout, machine: Machine) -> list[Finding]:
    return [
        *system(machine),
        *environment(place, machine),
        *engine(ask_engine(place), machine.nvidia is not None),
        *blenders(machine),
        *pointer(place),
    ]


def run(place: Layout, machine: Machine, as_json: bool) -> int:
    findings = examine(place, machine)
    wrong = [finding for finding in findings if finding.state == WRONG]
    if as_json:
        say(json.dumps({"ok": not wrong, "findings": [asdict(finding) for finding in findings]}, indent=1))
        return 1 if wrong else 0
    table([(f.state, f.name, f.found + (f"\n{'':9}-> {f.remedy}" if f.remedy else "")) for f in findings], COLOURS)
    say(
        f"\n{len(wrong)} thing{'' if len(wrong) == 1 else 's'} to mend: follow the arrows."
        if wrong
        else "\nEverything Tweed needs is here."
    )
    return 1 if wrong else 0
