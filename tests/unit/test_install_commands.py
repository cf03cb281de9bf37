# SPDX-License-Identifier: Apache-2.0
"""install.py as a person meets it: its commands, its sentences, its exit codes. Missing programs are faked."""

import io
import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from engine.setup import bundle, console, doctor, main, pip, roots, steps, suite
from engine.setup.console import SetupProblem
from engine.setup.machine import Machine
from tests.programs import fake_program, posix_only

ROOT = Path(__file__).resolve().parents[2]
PC = Machine("Linux", "x86_64", (3, 11, 7))


def run_install(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / "install.py", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        env={**os.environ, "PYTHONUTF8": "1", **environment},
        timeout=300,
    )


@pytest.fixture
def empty_place(tmp_path) -> steps.Layout:
    return steps.Layout(ROOT, ROOT, tmp_path / "leer é", tmp_path / "data")


# --- the command line


def test_dry_run_touches_nothing(tmp_path):
    prefix = tmp_path / "Ordner mit é"
    done = run_install("--dry-run", "--prefix", str(prefix), "--torch", "cpu", XDG_DATA_HOME=str(tmp_path / "d"))
    assert done.returncode == 0, done.stderr
    assert str(prefix / ".venv") in done.stdout and "torch==2.13.0" in done.stdout and "to be made" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--find-links", "/no/such/folder"], 2, ["no folder", "What to do"]),
        (["demo", "--prompt", "   "], 2, ["prompt is empty", "What to do"]),
        (["--torch", "quantum"], 2, ["invalid choice"]),
        (["demo", "--quality", "best"], 2, ["invalid choice"]),
        (["paint"], 2, ["invalid choice"]),
    ],
)
def test_bad_arguments_get_a_sentence(arguments, code, words):
    done = run_install(*arguments)
    assert done.returncode == code
    for word in words:
        assert word in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_options_before_and_after_the_command():
    both = main.parser().parse_args(["--prefix", "a", "doctor"]), main.parser().parse_args(["doctor", "--prefix", "a"])
    assert both[0].prefix == both[1].prefix == Path("a")
    plain = main.parser().parse_args(["test", "--only", "engine", "--", "-k", "x"])
    assert plain.torch == "auto" and plain.pytest == ["-k", "x"] and plain.full_blender is None


def test_an_unforeseen_fault_still_ends_in_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(steps, "this_machine", lambda *a: 1 / 0)
    assert main.main(["doctor"]) == 1
    assert "fault of its own" in capsys.readouterr().out


def test_interrupting_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "this_machine", interrupted)
    assert main.main(["doctor"]) == 130
    assert "goes on where it stopped" in capsys.readouterr().out


def test_install_py_can_be_read_by_an_old_python():
    text = (ROOT / "install.py").read_text(encoding="utf-8")
    assert not re.search(r"""\bf["']|:=|from __future__|print \w|\bmatch \w+:""", text)


@posix_only
def test_a_python_that_is_too_old_hands_over_or_says_so(tmp_path):
    """install.py run as if by Python 3.9, once with and once without another Python on the PATH."""
    code = (
        "import runpy, sys; sys.version_info = (3, 9, 18); sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, ROOT / "install.py", "--dry-run"]
    alone = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": str(tmp_path)})
    assert alone.returncode == 2 and "needs Python 3.11" in alone.stderr and "3.9" in alone.stderr
    fake_program(tmp_path / "python3.12", 'if [ "$1" = -c ]; then echo 3.12; else echo "handed over: $2"; fi')
    other = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PATH": f"{tmp_path}:/bin:/usr/bin"}
    )
    assert other.returncode == 0 and "too old for Tweed; going on with python3.12" in other.stdout
    assert "handed over: --dry-run" in other.stdout


# --- doctor


def test_doctor_on_an_empty_machine(tmp_path):
    done = run_install(
        "doctor",
        "--prefix",
        str(tmp_path / "nichts é"),
        XDG_DATA_HOME=str(tmp_path / "d"),
        LOCALAPPDATA=str(tmp_path / "d"),
        HOME=str(tmp_path),
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("MISSING"):
            assert "->" in lines[number + 1], f"no remedy for: {line}"
    assert "no environment in" in done.stdout and "pointer file" in done.stdout


def test_doctor_as_json(tmp_path):
    done = run_install("doctor", "--json", "--prefix", str(tmp_path), XDG_DATA_HOME=str(tmp_path / "d"))
    report = json.loads(done.stdout)
    assert report["ok"] is False and done.returncode == 1
    names = {finding["name"] for finding in report["findings"]}
    assert {"system", "python", "engine", "free disk", "engine answers", "Blender", "pointer file"} <= names
    assert all(finding["remedy"] for finding in report["findings"] if finding["state"] == "MISSING")


def test_doctor_of_a_healthy_engine():
    facts = {
        "version": "0.1.0",
        "proto": 1,
        "python": "3.11.7",
        "torch": "2.13.0",
        "device": "CPU",
        "rasterizers": {"numba": "ok", "nvdiffrast": "not installed"},
        "models": {"swatch": "ok", "broken": "unet: wrong checksum"},
    }
    found = {finding.name: finding for finding in doctor.engine(facts, nvidia=True)}
    assert found["rasterizer numba"].state == doctor.OK
    assert (
        found["rasterizer nvdiffrast"].state == doctor.NOTE and "--nvdiffrast" in found["rasterizer nvdiffrast"].remedy
    )
    assert found["model broken"].state == doctor.WRONG and found["model broken"].remedy
    facts["rasterizers"] = {"numba": "no llvm", "nvdiffrast": "not installed"}
    found = {finding.name: finding for finding in doctor.engine(facts, nvidia=False)}
    assert found["rasterizer numba"].state == doctor.WRONG and found["rasterizer nvdiffrast"].remedy == ""


@posix_only
def test_doctor_says_why_an_engine_does_not_answer(empty_place):
    assert doctor.ask_engine(empty_place) == "not set up yet"
    fake_program(empty_place.python, "echo 'ImportError: libtorch is damaged' >&2", "exit 1")
    assert doctor.ask_engine(empty_place) == "ImportError: libtorch is damaged"
    fake_program(empty_place.python, "echo 'a warning'", 'echo \'{"version": "0.1.0"}\'')
    assert doctor.ask_engine(empty_place) == {"version": "0.1.0"}


def test_doctor_sees_a_pointer_to_nowhere(empty_place, tmp_path):
    bundle.write_pointer(empty_place.data, tmp_path / "gone/python", ROOT)
    (finding,) = [f for f in doctor.pointer(empty_place) if f.name == "pointer file"]
    assert finding.state == doctor.WRONG and "gone" in finding.found and finding.remedy


def test_no_room_is_a_red_line(empty_place, monkeypatch):
    monkeypatch.setattr(doctor, "free_bytes", lambda folder: 10**8)
    (finding,) = [f for f in doctor.environment(empty_place, PC) if f.name == "free disk"]
    assert finding.state == doctor.WRONG and "4 GB needed" in finding.found


# --- nvdiffrast


def test_nvdiffrast_asks_first(empty_place, monkeypatch, capsys):
    monkeypatch.setattr(pip, "install", lambda *a, **k: pytest.fail("nothing may be installed"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    with pytest.raises(SetupProblem, match="nobody is there"):
        steps.install_nvdiffrast(empty_place, PC, yes=False)
    with pytest.raises(SetupProblem, match="needs an NVIDIA"):
        steps.install_nvdiffrast(empty_place, PC, yes=True)
    assert "research or evaluation only" in capsys.readouterr().out


# --- test


def test_counts_from_junit(tmp_path):
    file = tmp_path / "a.xml"
    file.write_text('<testsuites><testsuite tests="10" failures="1" errors="1" skipped="2"/></testsuites>')
    assert suite.read_junit(file) == suite.Count(6, 2, 2)
    file.write_text("<testsuites><testsuite")
    assert suite.read_junit(file) is None
    assert suite.read_junit(tmp_path / "b.xml") is None


def test_legs_count_what_they_ran(tmp_path):
    (tmp_path / "test_toy.py").write_text(
        "import pytest\ndef test_a(): pass\ndef test_b(): assert 0\ndef test_c(): pytest.skip('x')\n"
    )
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path)
    assert suite.run_leg(suite.Leg("toy", command), tmp_path / "r", tmp_path) == suite.Count(1, 1, 1)
    assert suite.run_leg(suite.Leg("gone", (), reason="no Blender"), tmp_path / "r", tmp_path) == suite.Count(0, 0, 1)
    crash = (sys.executable, "-c", "import os; os._exit(139)")
    assert suite.run_leg(suite.Leg("crash", crash), tmp_path / "r", tmp_path) == suite.Count(0, 1, 0)


@pytest.mark.parametrize(("counts", "code"), [((3, 0, 1), 0), ((3, 1, 0), 1), ((0, 0, 4), 1)])
def test_the_last_line_sums_up(counts, code, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(steps, "prepare_engine", lambda *a, **k: None)
    monkeypatch.setattr(suite, "engine_leg", lambda *a: suite.Leg("engine", ()))
    monkeypatch.setattr(suite, "run_leg", lambda *a: suite.Count(*counts))
    options = Namespace(only="engine", pytest=[], full_blender=False)
    assert suite.run(steps.Layout(ROOT, ROOT, tmp_path, tmp_path), PC, options) == code
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last == (str(suite.Count(*counts)) if sum(counts[:2]) else "No test ran.")


def test_no_full_blender_is_a_skipped_leg_with_its_reason(empty_place, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TWEED_BLENDER_ROOTS", str(empty_place.work / "roots"))
    (leg,) = suite.gui_legs(empty_place, Namespace(full_blender=None, newest_blender=False, pytest=[]))
    assert not leg.command and "--full-blender" in leg.reason
    monkeypatch.setattr(roots, "can_use_apt", lambda: False)
    legs = suite.gui_legs(empty_place, Namespace(full_blender=True, newest_blender=True, pytest=[]))
    assert len(legs) == 2 and all(not leg.command and "root and apt" in leg.reason for leg in legs)


def test_the_newest_blender_is_a_leg_of_its_own(empty_place, monkeypatch):
    monkeypatch.setenv("TWEED_BLENDER_ROOTS", str(empty_place.work / "roots"))
    monkeypatch.setattr(roots, "can_use_apt", lambda: True)
    monkeypatch.setattr(roots, "free_bytes", lambda folder: 1e12)
    monkeypatch.setattr(roots.shutil, "which", lambda name: name)
    asked = []

    def make(command, log):
        asked.append(list(map(str, command)))
        for name in ("blender", "Xvfb"):
            (empty_place.work / "roots" / f"{command[-2]}.building" / "usr/bin").mkdir(parents=True, exist_ok=True)
            (empty_place.work / "roots" / f"{command[-2]}.building" / "usr/bin" / name).touch()
        return 0, ""

    monkeypatch.setattr(roots.pip, "run", make)
    old, new = suite.gui_legs(empty_place, Namespace(full_blender=None, newest_blender=True, pytest=["-x"]))
    assert [command[-2] for command in asked] == ["trixie", "sid"]
    assert not any("Valid-Until" in word for word in asked[0]) and any("Valid-Until" in word for word in asked[1])
    assert dict(old.environment)["TWEED_BLENDER_ROOT"].endswith("trixie") and old.name != new.name
    assert dict(new.environment)["TWEED_BLENDER_ROOT"].endswith("sid") and new.command[-1] == "-x"


def test_ci_calls_the_one_command():
    text = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "python3 install.py test\n" in text and os.access(ROOT / ".ci/run", os.X_OK)


def test_duration_in_words():
    assert [console.duration(s) for s in (0.4, 59.6, 61, 3599)] == ["0 s", "1 min 00 s", "1 min 01 s", "59 min 59 s"]
