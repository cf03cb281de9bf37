# SPDX-License-Identifier: Apache-2.0
"""Environments that are asked for twice, half made, or without a network. pip is real, the packages are made here."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from engine.setup import pip, venv
from engine.setup.console import SetupProblem
from engine.setup.venv import Wanted

REFUSED = "http://127.0.0.1:9/simple"  # nobody listens on the discard port


def make_wheel(folder: Path, name: str, version: str) -> Path:
    """A wheel of one empty module, written by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    file, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
    return file


@pytest.fixture(scope="module")
def empty_environment(tmp_path_factory) -> Path:
    """One environment made for real, in a folder with a space and letters beyond ASCII; tests take copies of it."""
    folder = tmp_path_factory.mktemp("Prüfung é ж") / "with space" / ".venv"
    venv.create(folder, folder.parent / "log.txt")
    return folder


@pytest.fixture
def place(empty_environment, tmp_path, monkeypatch):
    """(environment's folder, wheel folder, log), with every index out of reach."""
    monkeypatch.setenv("PIP_INDEX_URL", REFUSED)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    folder = tmp_path / "dossier é" / ".venv"
    shutil.copytree(empty_environment, folder, symlinks=True)
    make_wheel(tmp_path / "wheels é", "tweedtoy", "1.0")
    return folder, tmp_path / "wheels é", tmp_path / "log.txt"


def wanted(folder: Path, *lines: str) -> Wanted:
    file = folder.parent / "requirements.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Wanted(folder, (file,), disk_gb=0.01)


def version_in(folder: Path, name: str = "tweedtoy") -> str:
    return subprocess.check_output(
        [venv.python_of(folder), "-c", f"import {name}; print({name}.VERSION)"], text=True
    ).strip()


def test_installs_once_and_is_fast_the_second_time(place, monkeypatch):
    folder, wheels, log = place
    need = wanted(folder, "tweedtoy==1.0")
    assert venv.ensure(need, log, pip.source_arguments(wheels)) is True
    assert version_in(folder) == "1.0"
    monkeypatch.setattr(pip, "run", lambda *a, **k: pytest.fail("the second time runs no pip"))
    monkeypatch.setattr(venv, "consistent", lambda *a: pytest.fail("the second time asks no pip"))
    assert venv.ensure(need, log) is False


def test_interrupted_before_the_stamp_goes_on(place):
    folder, wheels, log = place
    need = wanted(folder, "tweedtoy==1.0")
    venv.ensure(need, log, pip.source_arguments(wheels))
    (folder / venv.STAMP).unlink()
    assert venv.ensure(need, log) is False, "everything is there: no pip, and so no network, is needed"
    assert venv.stamped(need)


def test_a_package_that_was_removed_comes_back(place):
    folder, wheels, log = place
    need = wanted(folder, "tweedtoy==1.0")
    venv.ensure(need, log, pip.source_arguments(wheels))
    subprocess.run([venv.python_of(folder), "-m", "pip", "uninstall", "-q", "-y", "tweedtoy"], check=True)
    assert venv.stamped(need) and venv.missing(need) == ["tweedtoy==1.0"]
    assert venv.ensure(need, log, pip.source_arguments(wheels)) is True
    assert version_in(folder) == "1.0"


def test_a_damaged_stamp_is_no_stamp(place):
    folder, _, _ = place
    need = wanted(folder, "tweedtoy==1.0")
    for text in ("", "[]", "{", '{"wanted": 3}'):
        (folder / venv.STAMP).write_text(text, encoding="utf-8")
        assert not venv.stamped(need)


def test_a_changed_pin_installs_the_change(place):
    folder, wheels, log = place
    venv.ensure(wanted(folder, "tweedtoy==1.0"), log, pip.source_arguments(wheels))
    make_wheel(wheels, "tweedtoy", "2.0")
    assert venv.ensure(wanted(folder, "tweedtoy==2.0"), log, pip.source_arguments(wheels)) is True
    assert version_in(folder) == "2.0"


def test_half_made_environment_is_made_anew(place):
    folder, wheels, log = place
    shutil.rmtree(folder)
    python = venv.python_of(folder)
    python.parent.mkdir(parents=True)
    python.write_text("not a program")
    python.chmod(0o755)
    assert not venv.works(folder)
    assert venv.ensure(wanted(folder, "tweedtoy==1.0"), log, pip.source_arguments(wheels)) is True
    assert version_in(folder) == "1.0"


def test_no_network_is_said_in_a_sentence(place, capsys):
    folder, _, log = place
    with pytest.raises(SetupProblem) as problem:
        venv.ensure(wanted(folder, "tweedtoy==1.0"), log)
    assert "cannot be reached" in problem.value.message
    assert str(log) in problem.value.message
    assert "--find-links" in problem.value.remedy
    assert "Traceback" not in capsys.readouterr().out
    assert not (folder / venv.STAMP).exists()


def test_a_wheel_folder_that_lacks_something_names_it(place):
    folder, wheels, log = place
    with pytest.raises(SetupProblem) as problem:
        venv.ensure(wanted(folder, "tweedother==1.0"), log, pip.source_arguments(wheels))
    assert "tweedother==1.0" in problem.value.message


def test_the_special_build_comes_first_and_its_index_is_second_choice(place):
    folder, wheels, log = place
    make_wheel(wheels, "torch", "1.0")
    need = wanted(folder, "torch==1.0")
    with pytest.raises(SetupProblem):
        venv.ensure(need, log, (), ("torch==1.0+cpu", REFUSED + "/whl"))
    assert "--extra-index-url " + REFUSED in log.read_text(encoding="utf-8")
    venv.ensure(need, log, pip.source_arguments(wheels), ("torch==1.0", None))
    assert version_in(folder, "torch") == "1.0"


def test_a_full_disk_is_seen_before_anything_is_fetched(place, monkeypatch):
    folder, _, log = place
    monkeypatch.setattr(pip, "run", lambda *a, **k: pytest.fail("nothing may be started"))
    need = Wanted(folder, wanted(folder, *(f"tweed{n}==1" for n in range(5))).requirements, disk_gb=1e9)
    with pytest.raises(SetupProblem, match="Not enough room"):
        venv.ensure(need, log)


def test_requirement_files(tmp_path):
    (tmp_path / "a.txt").write_text('# head\nx==1 # why\n\n-r b.txt\ny==2; python_version < "3"\n', encoding="utf-8")
    (tmp_path / "b.txt").write_text("z==3\n", encoding="utf-8")
    assert venv.read_requirements(tmp_path / "a.txt") == ["x==1", "z==3", 'y==2; python_version < "3"']


def test_requirements_for_other_machines_are_not_missed(place):
    folder, _, _ = place
    assert venv.missing(wanted(folder, 'tweedtoy==1.0; python_version < "3"')) == []


def test_only_one_installer_at_a_time(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from engine.setup import venv\n"
        "with venv.only_one(Path(sys.argv[2])): print('in')"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code, root, tmp_path]
    with venv.only_one(tmp_path):
        assert "Another install.py" in subprocess.run(command, capture_output=True, text=True).stderr
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == "in"


@pytest.mark.parametrize(
    ("output", "word"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        (
            "WARNING: Retrying ... NewConnectionError ... \nERROR: No matching distribution found for torch==2.13.0",
            "cannot be reached",
        ),
        ("ERROR: No matching distribution found for bpy==4.5.15", "bpy==4.5.15"),
        ("ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED]", "certificate"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "damaged"),
        ("PermissionError: [WinError 5] Access is denied: '...torch_cpu.dll'", "in use"),
        ("something new", "pip failed"),
    ],
)
def test_pip_faults_in_words(output, word):
    message, remedy = pip.explain(output)
    assert word in message
    assert remedy


def test_pip_lines_are_shortened():
    assert (
        pip.short("  Downloading https://x/y/torch-2.13.0-cp311.whl (190 MB)")
        == "downloading torch-2.13.0-cp311.whl (190 MB)"
    )
    assert pip.short("Downloading numpy-2.whl.metadata (1 kB)") == "downloading numpy-2.whl (1 kB)"
    assert pip.short("Installing collected packages: a, b") == "installing collected packages: a, b"


def test_big_downloads_are_announced():
    assert pip.megabytes("  Downloading https://x/bpy-4.5.15.whl (350.1 MB)") == 350.1
    assert pip.megabytes("Downloading torch.whl (2.1 GB)") == 2100
    assert pip.megabytes("Downloading click.whl (126 kB)") == pip.megabytes("Collecting bpy (5 MB)") == 0


def test_programs_start_without_foreign_python_settings(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/blender/modules")
    monkeypatch.setenv("PYTHONHOME", "/blender")
    environment = pip.environment()
    assert "PYTHONPATH" not in environment and "PYTHONHOME" not in environment
    assert environment["PYTHONNOUSERSITE"] == "1"
