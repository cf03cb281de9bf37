# SPDX-License-Identifier: Apache-2.0
"""The extension's zip, the engine that comes out of it, and the pointer file between the two."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from engine.setup import bundle

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> zipfile.ZipFile:
    return zipfile.ZipFile(bundle.build_zip(ROOT, tmp_path_factory.mktemp("dist é")))


@pytest.fixture(scope="module")
def unpacked(archive, tmp_path_factory) -> Path:
    """The extension as Blender unpacks it."""
    folder = tmp_path_factory.mktemp("extensions") / "user default é" / "tweed"
    archive.extractall(folder)
    return folder


def test_name_and_version(archive):
    manifest = tomllib.loads(archive.read("blender_manifest.toml").decode())
    assert Path(archive.filename).name == f"tweed-{manifest['version']}.zip"
    assert bundle.version(ROOT) == manifest["version"]


def test_the_add_on_is_at_the_root(archive):
    names = set(archive.namelist())
    assert {"blender_manifest.toml", "__init__.py", "LICENSE", "jobs/settings.py", "client.py"} <= names


def test_all_versions_agree(archive):
    from blender_addon.jobs.folder import VERSION

    assert bundle.version(ROOT) == VERSION
    assert json.loads(archive.read("engine_bundle/bundle.json"))["version"] == VERSION


def test_the_engine_comes_along(archive):
    names = {name.removeprefix("engine_bundle/") for name in archive.namelist() if name.startswith("engine_bundle/")}
    assert {
        "install.py",
        "bundle.json",
        "requirements/engine.txt",
        "requirements/constraints.txt",
        "engine/__main__.py",
        "engine/setup/main.py",
        "blender_addon/jobs/settings.py",
        "LICENSES/Apache-2.0.txt",
        "LICENSES/GPL-3.0-or-later.txt",
    } <= names
    here = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "engine").rglob("*.py") if "__pycache__" not in path.parts
    }
    assert here <= names
    weights = {path.relative_to(ROOT).as_posix() for path in (ROOT / "engine/models").rglob("*.safetensors")}
    assert weights <= names


def test_nothing_that_does_not_belong(archive):
    for name in archive.namelist():
        parts = name.split("/")
        assert "__pycache__" not in parts and "tests" not in parts and "training" not in parts, name
        assert not name.endswith((".pyc", ".nbi", ".nbc", ".blend1", ".log")), name
        assert not any(part.startswith(".") for part in parts), name
        assert not name.startswith("/") and ".." not in parts and "\\" not in name
    assert archive.testzip() is None


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("engine/__pycache__/x.py", True),
        ("engine/raster/.cache/x", True),
        (".hidden", True),
        ("a/tests/test_x.py", True),
        ("a.pyc", True),
        ("scene.blend1", True),
        ("texture.png.part", True),
        ("engine/models/swatch/model_index.json", False),
        ("contests.py", False),
        ("a/latest/x.py", False),
    ],
)
def test_what_is_left_out(name, out):
    assert bool(bundle.LEFT_OUT.search(name)) is out


def test_same_sources_same_bytes(archive, tmp_path):
    again = bundle.build_zip(ROOT, tmp_path)
    assert again.read_bytes() == Path(archive.filename).read_bytes()
    assert list(tmp_path.iterdir()) == [again]


def test_a_failed_build_leaves_the_old_zip(tmp_path, monkeypatch):
    old = bundle.build_zip(ROOT, tmp_path).read_bytes()
    monkeypatch.setattr(bundle, "add", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        bundle.build_zip(ROOT, tmp_path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [old]


def test_engine_leaves_the_extension_folder(unpacked, tmp_path):
    source = unpacked / "engine_bundle"
    assert bundle.is_bundle(source) and not bundle.is_bundle(ROOT)
    root = bundle.unpack_engine(source, tmp_path / "data é")
    assert root == tmp_path / "data é" / f"engine-{bundle.version(source)}"
    assert (root / "engine/__main__.py").exists() and (root / "blender_addon/jobs/settings.py").exists()
    before = (root / "install.py").stat().st_mtime_ns
    assert bundle.unpack_engine(source, tmp_path / "data é") == root
    assert (root / "install.py").stat().st_mtime_ns == before, "the second time nothing is copied"
    (root / "engine/serve.py").write_text("damaged")
    bundle.unpack_engine(source, tmp_path / "data é")
    assert (root / "engine/serve.py").read_text(encoding="utf-8") != "damaged"
    assert [path.name for path in (tmp_path / "data é").iterdir()] == [root.name]


def test_jobs_in_the_bundle_import_by_themselves(unpacked):
    code = "from blender_addon.jobs.settings import SETTINGS; print(len(SETTINGS))"
    done = subprocess.run([sys.executable, "-c", code], cwd=unpacked / "engine_bundle", capture_output=True, text=True)
    assert int(done.stdout) > 5, done.stderr


def test_the_bundle_sets_itself_up_in_the_data_folder(unpacked, tmp_path):
    data = str(tmp_path / "Daten ü")
    environment = {**os.environ, "XDG_DATA_HOME": data, "LOCALAPPDATA": data}
    done = subprocess.run(
        [sys.executable, unpacked / "engine_bundle/install.py", "--dry-run"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    if sys.platform != "darwin":
        assert f"{tmp_path / 'Daten ü'}" in done.stdout
    assert "Extension:" not in done.stdout
    assert not (tmp_path / "Daten ü").exists()


def test_pointer_file(tmp_path):
    data = tmp_path / "données"
    assert bundle.read_pointer(data) is None
    file = bundle.write_pointer(data, tmp_path / "é/bin/python", ROOT)
    assert json.loads(file.read_text(encoding="utf-8")) == {
        "python": str(tmp_path / "é/bin/python"),
        "root": str(ROOT),
        "version": bundle.version(ROOT),
    }
    assert bundle.read_pointer(data)["root"] == str(ROOT)
    file.write_text("{", encoding="utf-8")
    assert bundle.read_pointer(data) == {}
    assert [path.name for path in data.iterdir()] == ["engine.json"]


def test_the_extension_reads_the_pointer(tmp_path, monkeypatch):
    from blender_addon import client

    if sys.platform in ("win32", "darwin"):
        pytest.skip("the folder is the system's there")
    python = tmp_path / "venv é/bin/python"
    python.parent.mkdir(parents=True)
    python.touch()
    bundle.write_pointer(tmp_path / "tweed", python, ROOT)
    place = client.find_engine(environ={"XDG_DATA_HOME": str(tmp_path)})
    assert (place.python, place.root) == (python, ROOT)


def test_version_of_a_broken_copy_is_a_sentence(tmp_path):
    from engine.setup.console import SetupProblem

    (tmp_path / "blender_addon").mkdir()
    (tmp_path / "blender_addon/blender_manifest.toml").write_text('schema_version = "1.0.0"\n')
    with pytest.raises(SetupProblem):
        bundle.version(tmp_path)


def test_the_manifest_is_what_blender_accepts():
    """The rules of Blender's own validator: a short tagline without a full stop, known tags, permissions likewise."""
    manifest = tomllib.loads((ROOT / "blender_addon/blender_manifest.toml").read_text(encoding="utf-8"))
    assert manifest["id"] == "tweed" and manifest["license"] == ["SPDX:GPL-3.0-or-later"]
    assert len(manifest["tagline"]) <= 64 and manifest["tagline"][-1].isalnum()
    assert manifest["blender_version_min"] == "4.2.0" and "wheels" not in manifest
    assert set(manifest["permissions"]) <= {"files", "network", "clipboard", "camera", "microphone"}
    assert all(len(reason) <= 64 and reason[-1].isalnum() for reason in manifest["permissions"].values())


def test_copies_of_the_licences_are_whole():
    assert (
        "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in (ROOT / "LICENSES/Apache-2.0.txt").read_text()
    )
    gpl = (ROOT / "LICENSES/GPL-3.0-or-later.txt").read_text()
    assert "Version 3, 29 June 2007" in gpl and "END OF TERMS AND CONDITIONS" in gpl
