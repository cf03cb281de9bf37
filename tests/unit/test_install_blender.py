# SPDX-License-Identifier: Apache-2.0
"""Finding Blender, putting the extension into it, and the demo's progress and end. Blender is a shell script here."""

import io
import os
import time
from pathlib import Path

import pytest

from engine.setup import blender, demo, shapes, steps
from engine.setup.console import Bar, SetupProblem
from tests.programs import fake_program, posix_only

ROOT = Path(__file__).resolve().parents[2]


# --- Blender


@posix_only
def test_finding_blender(tmp_path):
    new = fake_program(
        tmp_path / "home/blender-5.2.3-linux-x64/blender", "echo 'Blender 5.2.3 LTS'", "echo '\tbuild date: 2026-10-21'"
    )
    fake_program(tmp_path / "home/blender-3.6.0/blender", "echo 'Blender 3.6.0'")
    fake_program(tmp_path / "home/blender-broken/blender", "exit 1")
    found = blender.find("Linux", {"PATH": str(tmp_path / "bin")}, tmp_path / "home")
    found = [app for app in found if tmp_path in app.path.parents]
    assert (found[0].path, found[0].text) == (new, "5.2.3")
    assert [app.usable for app in found] == [True, False]


@posix_only
def test_blender_by_name_comes_first_and_links_count_once(tmp_path):
    real = fake_program(tmp_path / "my blender é/blender", "echo 'Blender 4.5.15 LTS'")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/blender").symlink_to(real)
    found = blender.find("Linux", {"BLENDER": str(real), "PATH": str(tmp_path / "bin")}, tmp_path)
    assert [app.path for app in found if tmp_path in app.path.parents] == [real]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/snap/bin/blender", "Snap"),
        ("/var/lib/flatpak/exports/bin/org.blender.Blender", "Flatpak"),
        ("C:/Program Files/WindowsApps/Blender/blender.exe", "Microsoft Store"),
        ("/usr/bin/blender", ""),
    ],
)
def test_sandboxes_are_named(path, name):
    assert blender.Application(Path(path), (4, 5, 0)).sandboxed == name


def test_places_of_each_system(tmp_path):
    program = tmp_path / "Program Files/Blender Foundation/Blender 4.5/blender.exe"
    program.parent.mkdir(parents=True)
    program.touch()
    newer = tmp_path / "Program Files/Blender Foundation/Blender 5.2/blender.exe"
    newer.parent.mkdir(parents=True)
    newer.touch()
    windows = list(
        blender.candidates("Windows", {"ProgramFiles": str(tmp_path / "Program Files"), "PATH": ""}, tmp_path)
    )
    assert windows.index(newer) < windows.index(program)
    app = tmp_path / "Applications/Blender.app/Contents/MacOS/Blender"
    app.parent.mkdir(parents=True)
    app.touch()
    assert app in list(blender.candidates("Darwin", {"PATH": ""}, tmp_path))


@posix_only
def test_a_blender_that_refuses_the_extension(tmp_path):
    app = blender.Application(fake_program(tmp_path / "blender", "echo 'Error: bad manifest'", "exit 1"), (4, 5, 0))
    with pytest.raises(SetupProblem, match="bad manifest") as problem:
        blender.install_extension(app, tmp_path / "tweed.zip", tmp_path / "log")
    assert "Install from Disk" in problem.value.remedy


@posix_only
def test_the_extension_goes_in_by_blenders_own_command(tmp_path):
    app = blender.Application(fake_program(tmp_path / "blender", 'echo "$@"'), (4, 5, 0))
    blender.install_extension(app, tmp_path / "tweed é.zip", tmp_path / "log")
    assert f"--command extension install-file -r user_default -e {tmp_path / 'tweed é.zip'}" in (
        tmp_path / "log"
    ).read_text(encoding="utf-8")


def test_wheels_match_the_requirements():
    lines = (ROOT / "requirements/blender.txt").read_text(encoding="utf-8")
    for (major, minor), version in blender.WHEELS.items():
        assert f'bpy=={version}; python_version == "{major}.{minor}"' in lines


# --- demo


def test_progress_comes_from_the_newest_events_file(tmp_path):
    since = time.monotonic()
    job = tmp_path / "jobs/é"
    job.mkdir(parents=True)
    assert demo.newest_event([tmp_path], since) is None
    events = job / "events.jsonl"
    events.write_text(
        '{"ev":"phase","phase":"load","i":0,"n":0}\n{"ev":"step","phase":"denoise","i":3,"n":10,"eta_s":14}\n{"ev":"st',
        encoding="utf-8",
    )
    event = demo.newest_event([tmp_path], since)
    assert (event["phase"], event["i"]) == ("denoise", 3)
    os.utime(events, (1, 1))
    assert demo.newest_event([tmp_path], since) is None, "an older run's events are not this run's"


def test_bar_on_a_terminal_and_in_a_file():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen, file = Terminal(), io.StringIO()
    for stream in (screen, file):
        bar = Bar(stream)
        for i in range(11):
            demo.show_progress(bar, {"phase": "denoise", "i": i, "n": 10, "eta_s": 70 - 7 * i}, 1)
    assert "\r" in screen.getvalue() and "about 1 min 03 s left" in screen.getvalue()
    assert "\r" not in file.getvalue() and 3 <= file.getvalue().count("\n") <= 10
    assert "Denoising all views together" in file.getvalue()


def test_shares_grow_and_know_every_phase():
    from engine.progress import TYPICAL_SHARE

    assert list(TYPICAL_SHARE) == list(demo.SHARE_BEFORE) == list(demo.WORDS)
    assert sorted(demo.SHARE_BEFORE.values()) == list(demo.SHARE_BEFORE.values())


@posix_only
def test_a_demo_that_fails_shows_the_end_of_its_log(tmp_path, capsys):
    place = steps.Layout(ROOT, ROOT, tmp_path, tmp_path / "data")
    place.setup.mkdir()
    command = [fake_program(tmp_path / "blender", "echo 'No mesh is selected.'", "exit 4")]
    with pytest.raises(SetupProblem) as problem:
        demo.watch(command, dict(os.environ), place, tmp_path)
    assert problem.value.code == 4 and "demo.log" in problem.value.message
    assert "No mesh is selected." in capsys.readouterr().out


def test_a_demo_that_fails_with_tweeds_own_sentence_shows_that(tmp_path):
    log = tmp_path / "demo.log"
    log.write_text(
        '  File "ops.py", line 107\nRuntimeError: Error: The model is not here. Get it again.\n', encoding="utf-8"
    )
    assert demo.failure(log, 1).message == "The model is not here. Get it again."


def test_a_demo_without_a_texture_did_not_succeed(tmp_path):
    with pytest.raises(SetupProblem, match="no texture"):
        demo.show_end(tmp_path, 1)


def test_the_ring_is_a_closed_mesh_with_uvs(tmp_path):
    file = shapes.write_ring(tmp_path / "é/ring.obj", around=12, across=8)
    lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    count = {kind: sum(line[0] == kind for line in lines) for kind in ("v", "vt", "f")}
    assert count == {"v": 96, "vt": 13 * 9, "f": 96}
    edges = {}
    for line in lines:
        if line[0] == "f":
            corners = [int(corner.split("/")[0]) for corner in line[1:]]
            for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
                edges[(a, b)] = edges.get((a, b), 0) + 1
    assert all(times == 1 and edges.get((b, a)) == 1 for (a, b), times in edges.items())
