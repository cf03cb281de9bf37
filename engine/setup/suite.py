# SPDX-License-Identifier: Apache-2.0
"""`install.py test`: development tools, then every test there is, in legs; the last line printed sums them up."""

from __future__ import annotations

import os
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.setup import blender, bundle, demo, pip, roots, steps, venv
from engine.setup.console import SetupProblem, duration, say, step
from engine.setup.machine import Machine

LEG_SECONDS = 40 * 60  # a leg that runs longer hangs


@dataclass(frozen=True)
class Leg:
    """One pytest run; `command` is empty and `reason` says why where it cannot be had on this machine."""

    name: str
    command: tuple[str | Path, ...]
    environment: tuple[tuple[str, str], ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def read_junit(file: Path) -> Count | None:
    """Counts from a pytest --junitxml file; an error counts as a failure. None when the file is missing or broken."""
    try:
        suites = list(ElementTree.parse(file).getroot().iter("testsuite"))
    except (OSError, ElementTree.ParseError):
        return None
    total = Count()
    for suite in suites:
        tests, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        total += Count(max(tests - failed - skipped, 0), failed, skipped)
    return total


def run_leg(leg: Leg, results: Path, root: Path) -> Count:
    """Run one leg with its output straight to the screen. A leg that cannot run counts as one skipped test."""
    step(f"Tests: {leg.name}")
    if not leg.command:
        say(f"  skipped: {leg.reason}")
        return Count(skipped=1)
    results.mkdir(parents=True, exist_ok=True)
    report = results / f"{leg.name.replace(' ', '-')}.xml"
    report.unlink(missing_ok=True)
    started = time.monotonic()
    process = subprocess.Popen(
        [*map(str, leg.command), f"--junitxml={report}"],
        cwd=root,
        stdin=subprocess.DEVNULL,
        env={**pip.environment(), "PYTHONUNBUFFERED": "1", **dict(leg.environment)},
    )
    try:
        code = process.wait(LEG_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
        say(f"  ended after {duration(LEG_SECONDS)}: it hangs")
    except BaseException:  # Ctrl+C reaches pytest too; wait for its summary
        process.wait()
        raise
    count = read_junit(report)
    if code not in (0, 5) and (count is None or not count.failed):  # 5: pytest found no test
        say(f"  the test program itself failed (exit code {code})")
        count = (count or Count()) + Count(failed=1)
    count = count or Count()
    say(f"  {leg.name}: {count}, {duration(time.monotonic() - started)}")
    return count


def engine_leg(place: steps.Layout, arguments: Iterable[str]) -> Leg:
    tests = place.source / "tests"
    command = (
        place.python,
        "-m",
        "pytest",
        "-q",
        tests,
        f"--ignore={tests / 'blender'}",
        f"--ignore={tests / 'gui'}",
        *arguments,
    )
    return Leg("engine", command, (("PYTHONPATH", str(place.source)),))


def blender_leg(place: steps.Layout, machine: Machine, options) -> Leg:
    """tests/blender inside the bpy module, set up here when this Python has one."""
    if blender.wheel_version() is None:
        return Leg(
            "blender",
            (),
            reason=f"there is no Blender for Python {machine.python_text} on PyPI (3.11 and 3.13 have one)",
        )
    step("Blender as a Python module")
    python = blender.ensure_wheel(
        demo.blender_wish(place, develop=True), place.log, pip.source_arguments(options.find_links)
    )
    tests = place.source / "tests" / "blender"
    return Leg(
        f"blender {blender.wheel_version()}",
        (python, tests / "run.py", "-q", tests, *options.pytest),
        engine_variables(place),
    )


def gui_legs(place: steps.Layout, options) -> list[Leg]:
    """tests/gui: the full application, driven by real clicks on a virtual screen; also the newest where that is wanted."""
    wanted = options.full_blender if options.full_blender is not None else bool(os.environ.get("CI"))
    legs = [gui_leg(place, options, roots.SUITE, "full application", wanted or options.newest_blender)]
    return legs + (
        [gui_leg(place, options, roots.NEWEST, "newest application", True)] if options.newest_blender else []
    )


def gui_leg(place: steps.Layout, options, suite: str, name: str, wanted: bool) -> Leg:
    """The clicks in the Blender of one Debian suite. `wanted`: whether its folder is made where there is none."""
    root = roots.folder(place.work) / suite
    if not roots.ready(root):
        if not wanted:
            reason = "no full Blender here for the clicks; --full-blender makes one (Debian, as root)"
            return Leg(name, (), reason=reason)
        step("The full Blender application")
        made, reason = roots.ensure(place.work, place.log, suite)
        if made is None:
            return Leg(name, (), reason=reason)
    tests = place.source / "tests" / "gui"
    command = (place.python, "-m", "pytest", "-q", tests, *options.pytest)
    return Leg(name, command, (*engine_variables(place), ("TWEED_BLENDER_ROOT", str(root))))


def engine_variables(place: steps.Layout) -> tuple[tuple[str, str], ...]:
    """The engine that tests inside Blender start: this checkout's, whatever the user's pointer file says."""
    return (
        ("TWEED_ENGINE_PYTHON", str(place.python)),
        ("TWEED_ENGINE_ROOT", str(place.source)),
        ("PYTHONPATH", str(place.source)),
    )


def run(place: steps.Layout, machine: Machine, options) -> int:
    if bundle.is_bundle(place.source):
        raise SetupProblem(
            "The tests run from a full copy of Tweed, not from an installed extension.", "Get the sources."
        )
    started = time.monotonic()
    with venv.only_one(place.setup, patience=600):
        steps.prepare_engine(place, machine, options, develop=True)
        legs = [engine_leg(place, options.pytest)] if options.only in (None, "engine") else []
        legs += [blender_leg(place, machine, options)] if options.only in (None, "blender") else []
        legs += gui_legs(place, options) if options.only in (None, "gui") else []
    total = Count()
    for leg in legs:
        total += run_leg(leg, place.setup / "results", place.source)
    say(f"\nEverything together took {duration(time.monotonic() - started)}.")
    if not total.passed and not total.failed:
        say("No test ran.")
        return 1
    say(str(total))
    return 1 if total.failed else 0
