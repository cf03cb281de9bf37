# SPDX-License-Identifier: Apache-2.0
"""A job folder appears whole or not at all, is read strictly, and never reaches outside itself."""

import errno
import json
import os
import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from blender_addon.jobs import files, folder
from blender_addon.jobs.errors import JobError, NoRoom, ProtocolError, SettingsError, UserError
from blender_addon.jobs.folder import (
    Camera,
    Job,
    MeshArrays,
    atomic_write_bytes,
    new_job_id,
    read_job,
    read_result,
    write_job,
    write_result,
)
from tests.jobs import small_job, tetrahedron

ROOT = Path(__file__).resolve().parents[2]


def edit(path, **changes):
    """Changes keys of a JSON file; a value of `...` removes the key."""
    record = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not ...}), "utf-8")


# ---- round trip


def test_job_reads_back_equal(tmp_path):
    job = small_job(seed=7)
    written = write_job(tmp_path / "täglich jobs", job)
    assert written == tmp_path / "täglich jobs" / job.id
    assert sorted(path.name for path in written.iterdir()) == ["inputs", "job.json", "mesh.npz"]
    back = read_job(written)
    assert back == job
    assert back.settings["seed"] == 7 and back.settings["views"] == 8
    assert [path.name for path in written.parent.iterdir()] == [job.id]
    assert back.mesh.positions.flags.writeable and back.mesh.positions.flags.c_contiguous


def test_jobs_that_differ_are_not_equal():
    job, mesh = small_job(), tetrahedron()
    moved = MeshArrays(mesh.positions + 1, mesh.triangles, mesh.uvs, mesh.triangle_uvs)
    assert job != small_job(seed=1) and mesh != moved and mesh != 3
    assert job.cameras[0] != job.cameras[1] and job.cameras[0] != 3
    assert mesh != MeshArrays(mesh.positions, mesh.triangles, mesh.uvs, mesh.triangle_uvs)


def test_job_record_has_the_agreed_keys(tmp_path):
    record = json.loads((write_job(tmp_path, small_job()) / "job.json").read_text("ascii"))
    keys = ["tweed", "proto", "id", "created", "settings", "cameras", "mesh", "inputs", "objects", "origin"]
    assert list(record) == keys and record["proto"] == 1 and record["mesh"] == "mesh.npz"
    assert sorted(record["cameras"][0]) == ["avoid", "name", "projection", "prompt", "view"]


def test_unknown_keys_of_a_newer_version_are_ignored(tmp_path):
    written = write_job(tmp_path, small_job())
    edit(written / "job.json", future={"a": 1})
    assert read_job(written) == small_job()


def test_ids_sort_by_time_and_differ():
    moment = datetime(2026, 11, 23, 4, 30, tzinfo=timezone(timedelta(hours=2)))
    assert new_job_id(moment).startswith("20261123T023000Z-") and len(new_job_id()) == 23
    assert len({new_job_id(moment) for _ in range(50)}) == 50


# ---- what a record refuses


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "x" * 501},
        {"name": "\ud800"},
        {"name": 3},
        {"prompt": None},
        {"avoid": "x" * 2001},
        {"view": np.eye(3)},
        {"view": np.zeros((4, 4))},
        {"view": np.full((4, 4), np.nan)},
        {"view": np.eye(4) + np.eye(4)},
        {"view": "no matrix"},
        {"view": [["1"] * 4] * 4},
        {"view": [[1, 0], [0]]},
        {"projection": [[10**400] * 4] * 4},
        {"projection": None},
    ],
)
def test_wrong_camera_is_a_job_error(changes):
    with pytest.raises(JobError, match=r"[Cc]amera"):
        Camera(**{"name": "front", "view": np.eye(4), "projection": np.eye(4), **changes})


def test_camera_far_from_the_origin_is_allowed():
    view = np.eye(4)
    view[:3, 3] = 1e12
    assert Camera("far", view, np.eye(4)).view.dtype == np.float64


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("id", "../x", "id '../x' is malformed"),
        ("id", None, "malformed"),
        ("cameras", (), "0 cameras"),
        ("cameras", small_job().cameras[:1] * 2, "same name"),
        ("objects", None, "objects"),
        ("objects", ["a"], "objects"),
        ("objects", [{}] * 10_001, "10001 objects"),
        ("origin", [], "origin"),
    ],
)
def test_wrong_job_is_a_job_error(field, value, sentence):
    job = small_job()
    fields = {name: getattr(job, name) for name in ("id", "settings", "mesh", "cameras", "objects", "origin")}
    with pytest.raises(JobError) as caught:
        Job(**{**fields, field: value})
    assert sentence in str(caught.value)


# ---- damaged folders


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ({"proto": 2}, ProtocolError, "protocol 2 (Tweed 0.1.0); this is protocol 1"),
        ({"proto": ...}, JobError, "no protocol version"),
        ({"proto": "1"}, JobError, "no protocol version"),
        ({"settings": {"prompt": "moss", "viws": 3}}, SettingsError, "'viws'"),
        ({"settings": {"prompt": ""}}, SettingsError, "prompt is empty"),
        ({"settings": ...}, SettingsError, "settings"),
        ({"cameras": []}, JobError, "0 cameras"),
        ({"cameras": [3]}, JobError, "camera 0 is no record"),
        ({"cameras": [{}] * 300}, JobError, "list of up to 256"),
        ({"cameras": [{"name": "a", "view": 1, "projection": 2}]}, JobError, "view has the shape ()"),
        ({"id": "x"}, JobError, "malformed"),
        ({"objects": {}}, JobError, "objects"),
    ],
)
def test_damaged_record_names_the_file_and_the_fault(tmp_path, changes, kind, sentence):
    written = write_job(tmp_path, small_job())
    edit(written / "job.json", **changes)
    with pytest.raises(kind) as caught:
        read_job(written)
    assert str(written / "job.json") in str(caught.value) and sentence in str(caught.value)


@pytest.mark.parametrize("mesh", ["../mesh.npz", "/etc/passwd", "C:\\mesh.npz", "", 3, ...])
def test_mesh_outside_the_folder_is_not_read(tmp_path, mesh):
    written = write_job(tmp_path, small_job())
    shutil.copy(written / "mesh.npz", tmp_path / "mesh.npz")
    edit(written / "job.json", mesh=mesh)
    with pytest.raises(JobError, match="the path|names no mesh file"):
        read_job(written)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"proto": 1e999}',
        b'{"proto": NaN}',
        b'{"proto": ' + b"1" * 5000 + b"}",
        b" " * (16 * 1024**2 + 1),
    ],
    ids=range(9),
)
def test_record_that_is_no_json_names_the_file(tmp_path, data):
    written = write_job(tmp_path, small_job())
    (written / "job.json").write_bytes(data)
    with pytest.raises(JobError) as caught:
        read_job(written)
    assert str(written / "job.json") in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["job.json", "mesh.npz"])
def test_missing_file_folder_or_pipe_in_its_place(tmp_path, name):
    written = write_job(tmp_path, small_job())
    (written / name).unlink()
    with pytest.raises(JobError, match=rf"{name}: the file is missing"):
        read_job(written)
    (written / name).mkdir()
    with pytest.raises(JobError, match=rf"{name}: is no file"):
        read_job(written)
    if hasattr(os, "mkfifo"):
        (written / name).rmdir()
        os.mkfifo(written / name)
        with pytest.raises(JobError, match=rf"{name}: is no file"):
            read_job(written)


def test_link_to_itself_is_a_job_error(tmp_path):
    written = write_job(tmp_path, small_job())
    (written / "mesh.npz").unlink()
    try:
        (written / "mesh.npz").symlink_to(written / "mesh.npz")
    except OSError:
        pytest.skip("links cannot be made here")
    with pytest.raises(JobError):
        read_job(written)


# ---- writing


def test_job_that_does_not_fit_is_refused_before_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(NoRoom, match=r"No room left in .* bytes needed, 100 bytes free") as caught:
        write_job(tmp_path, small_job())
    assert str(tmp_path) in str(caught.value) and not list(tmp_path.iterdir())


def test_job_interrupted_while_writing_leaves_nothing(tmp_path, monkeypatch):
    for problem in (OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), MemoryError()):

        def fail(*_, problem=problem):
            raise problem

        monkeypatch.setattr(folder, "write_mesh", fail)
        with pytest.raises((NoRoom, KeyboardInterrupt, MemoryError)):
            write_job(tmp_path, small_job())
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes exist on POSIX only")
def test_file_system_that_really_refuses_more_bytes(tmp_path):
    code = """
import resource, sys
import numpy as np
from blender_addon.jobs.errors import NoRoom
from blender_addon.jobs.folder import Job, MeshArrays, write_job
from tests.jobs import small_job
job = small_job()
big = MeshArrays(np.zeros((100_000, 3)), job.mesh.triangles, job.mesh.uvs, job.mesh.triangle_uvs)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    write_job(sys.argv[1], Job(job.id, job.settings, big, job.cameras))
except NoRoom as error:
    sys.exit(0 if sys.argv[1] in str(error) else str(error))
sys.exit("it was written")
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True, timeout=60)
    assert not list(tmp_path.iterdir())


def test_existing_job_is_not_overwritten(tmp_path):
    written = write_job(tmp_path, small_job(seed=1))
    with pytest.raises(JobError, match="exists already"):
        write_job(tmp_path, small_job(seed=2))
    assert read_job(written).settings["seed"] == 1 and len(list(tmp_path.iterdir())) == 1


def test_parent_that_is_a_file_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written") as caught:
        write_job(tmp_path / "file" / "jobs", small_job())
    assert caught.value.action
    with pytest.raises(UserError, match="cannot be written"):
        atomic_write_bytes(tmp_path / "none" / "a.bin", b"")


def test_job_record_too_long_to_be_read_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "MAX_JSON_BYTES", 1000)
    with pytest.raises(JobError, match="at most 1,000"):
        write_job(tmp_path, small_job())
    assert not list(tmp_path.iterdir())


# ---- results


def test_result_reads_back(tmp_path):
    assert read_result(tmp_path) is None
    report = {"seconds": np.float32(1.5), "coverage": float("nan"), "path": tmp_path, "shape": np.arange(3)}
    write_result(tmp_path, {"status": "done", "images": {"base_color": "out/texture.png"}, "report": report})
    result = read_result(tmp_path)
    assert result["status"] == "done" and result["images"] == {"base_color": "out/texture.png"}
    assert result["report"] == {"seconds": 1.5, "coverage": None, "path": str(tmp_path), "shape": [0, 1, 2]}
    assert result["error"] is None and result["proto"] == 1


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"status": "finished"},
        {"status": "failed"},
        {"status": "failed", "error": {"code": "engine"}},
        {"status": "done", "images": {"base_color": "../texture.png"}},
        {"status": "done", "images": {"base_color": None}},
        {"status": "done", "images": ["out/texture.png"]},
        {"status": "done", "report": None},
    ],
)
def test_wrong_result_is_neither_written_nor_believed(tmp_path, result):
    with pytest.raises(ValueError):
        write_result(tmp_path, result)
    assert not list(tmp_path.iterdir())
    (tmp_path / "result.json").write_text(json.dumps({"proto": 1, "images": {}, "report": {}, **result}))
    with pytest.raises(JobError, match=r"result\.json"):
        read_result(tmp_path)


def test_result_of_another_protocol_is_named(tmp_path):
    (tmp_path / "result.json").write_text('{"proto": 9, "status": "done"}')
    with pytest.raises(ProtocolError, match="protocol 9"):
        read_result(tmp_path)
