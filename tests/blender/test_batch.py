# SPDX-License-Identifier: Apache-2.0
"""`--command tweed batch` and `cameras`: over files, past failures, resumed, cancelled; views as they will be."""

import json
import os
import signal

import bpy
import numpy as np
import pytest


@pytest.fixture
def files(tmp_path):
    """Two files with a cube each, the second with two."""
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "one.blend"))
    bpy.ops.mesh.primitive_cube_add(location=(3, 0, 0))
    bpy.context.object.name = "Other"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "two é.blend"))
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.fixture
def batch(files):
    def call(text, *more):
        from bl_ext.tweeddev.tweed import command

        (files / "list.toml").write_text('[defaults]\ntexture_size = 64\nseed = 3\n' + text, "utf-8")
        code = command.main(["batch", str(files / "list.toml"), "--json", str(files / "report.json"), *more])
        report = files / "report.json"
        return code, json.loads(report.read_text()) if report.exists() else None

    return call


def image_of(path, name="Cube"):
    bpy.ops.wm.open_mainfile(filepath=str(path))
    nodes = bpy.data.objects[name].active_material.node_tree.nodes
    return next((n.image for n in nodes if n.bl_idname == "ShaderNodeTexImage"), None)


BOTH = """
[[job]]
file = "one.blend"
objects = "Cube"
prompt = "red bricks"
save = "out/one.blend"

[[job]]
file = "two é.blend"
objects = ["Cube", "Other"]
each = true
prompt = "oak"
save = "out/two.blend"
"""


def test_files_one_after_the_other(batch, files):
    before = (files / "one.blend").read_bytes()
    code, report = batch(BOTH)
    assert (code, report["status"], report["exit_code"]) == (0, "done", 0)
    assert [entry["status"] for entry in report["jobs"]] == ["done", "done"]
    assert [texture["objects"] for texture in report["jobs"][1]["textures"]] == [["Cube"], ["Other"]]
    assert (files / "one.blend").read_bytes() == before, "the source stays as it was"
    assert image_of(files / "out/one.blend").filepath.startswith("//textures")
    assert image_of(files / "out/two.blend") != image_of(files / "out/two.blend", "Other")
    assert image_of(files / "out/two.blend", "Other").filepath.startswith("//textures")
    assert len(list((files / "out" / "textures").glob("*.png"))) == 3


def test_a_failure_stops_nobody_else(batch, files):
    code, report = batch(BOTH.replace("red bricks", "x fake:crash@denoise"))
    assert (code, report["status"]) == (4, "failed")
    assert [entry["status"] for entry in report["jobs"]] == ["failed", "done"]
    assert report["jobs"][0]["error"]["code"] == "engine_lost" and not (files / "out/one.blend").exists()
    code, report = batch(BOTH.replace("red bricks", "x fake:fail:out_of_memory@denoise"), "--stop")
    assert code == 6 and len(report["jobs"]) == 1


def test_only_what_is_not_done_is_done_again(batch, files):
    batch(BOTH.replace("red bricks", "x fake:crash@denoise"))
    stamp = (files / "out/two.blend").stat().st_mtime_ns
    code, report = batch(BOTH, "--resume")
    assert code == 0 and [entry["status"] for entry in report["jobs"]] == ["done", "done"]
    assert (files / "out/one.blend").exists() and (files / "out/two.blend").stat().st_mtime_ns == stamp
    code, report = batch(BOTH.replace("oak", "ash"), "--resume")
    assert (files / "out/two.blend").stat().st_mtime_ns != stamp, "another prompt is another job"
    assert image_of(files / "out/one.blend") is not None


def test_jobs_without_a_file_go_on_with_the_open_one(batch, files):
    chain = BOTH.replace("each = true\n", "") + '[[job]]\nobjects = "Other"\nprompt = "ash"\nsave = "out/three.blend"\n'
    code, report = batch(chain.replace('objects = ["Cube", "Other"]', 'objects = "Cube"').replace('save = "out/two.blend"', ""))
    assert code == 0 and report["jobs"][1]["saved"] is None
    assert image_of(files / "out/three.blend") is not None and image_of(files / "out/three.blend", "Other") is not None
    assert not (files / "out/two.blend").exists()


def test_what_goes_on_with_a_broken_file_is_not_put_elsewhere(batch, files):
    (files / "broken.blend").write_bytes(b"no blend")
    code, report = batch('[[job]]\nfile = "one.blend"\nobjects = "Cube"\nprompt = "a"\n'
                         '[[job]]\nfile = "broken.blend"\nobjects = "Cube"\nprompt = "b"\n'
                         '[[job]]\nobjects = "Cube"\nprompt = "c"\nsave = "out/one.blend"\n')  # fmt: skip
    assert code == 4 and [entry["status"] for entry in report["jobs"]] == ["done", "failed", "failed"]
    assert "job 2 could not be opened" in report["jobs"][2]["error"]["message"]
    assert not (files / "out/one.blend").exists()


def test_a_chain_is_resumed_from_its_file(batch, files):
    chain = ('[[job]]\nfile = "two é.blend"\nobjects = "Cube"\nprompt = "a"\n'
             '[[job]]\nobjects = "Other"\nprompt = "b{}"\nsave = "out/two.blend"\n')  # fmt: skip
    assert batch(chain.format(" fake:crash@denoise"))[0] == 4
    code, report = batch(chain.format(""), "--resume")
    assert code == 0 and len(report["jobs"]) == 2
    assert image_of(files / "out/two.blend") is not None and image_of(files / "out/two.blend", "Other") is not None


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_list(batch, files, kind, monkeypatch):
    from bl_ext.tweeddev.tweed import headless

    monkeypatch.setattr(headless, "print_progress", lambda run: run.phase == "denoise" and os.kill(os.getpid(), kind))
    code, report = batch(BOTH.replace("red bricks", "x fake:slow"))
    assert (code, report["status"], len(report["jobs"])) == (5, "cancelled", 1)
    assert report["jobs"][0]["status"] == "cancelled" and not (files / "out/one.blend").exists()


@pytest.mark.parametrize(("text", "more", "words"), [
    ("[[job]]\nprompt = 3", (), "job 1"),
    ("", (), "holds no job"),
])  # fmt: skip
def test_a_wrong_list_begins_nothing(batch, files, capsys, text, more, words):
    code, report = batch(text, *more)
    assert code == 2 and report is None and words in capsys.readouterr().err


def test_checked_only(batch, files, capsys):
    code, report = batch(BOTH, "--check")
    assert code == 0 and report is None and "2 jobs" in capsys.readouterr().out


def test_resume_needs_a_whole_report(batch, files, capsys):
    from bl_ext.tweeddev.tweed import command

    (files / "report.json").write_text("{}")
    assert batch(BOTH, "--resume")[0] == 2 and "no report of a batch" in capsys.readouterr().err
    assert command.main(["batch", str(files / "list.toml"), "--resume"]) == 2


# ---- cameras


def cameras(tmp_path, *more):
    from bl_ext.tweeddev.tweed import command

    code = command.main(["cameras", "--object", "Cube", "--json", str(tmp_path / "c.json"), *more])
    return code, json.loads((tmp_path / "c.json").read_text()) if (tmp_path / "c.json").exists() else None


def test_cameras_say_where_they_stand_and_what_they_see(cube, tmp_path, capsys):
    code, found = cameras(tmp_path, "--rig", "box", "--views", "6")
    assert code == 0 and [view["name"] for view in found["views"]] == ["front", "right", "back", "left", "top", "bottom"]
    assert [(view["azimuth"], view["elevation"]) for view in found["views"]] == [
        (0, 0), (90, 0), (180, 0), (270, 0), (0, 90), (0, -90)]  # fmt: skip
    assert found["seen"] == 1.0 and all(abs(view["seen"] - 1 / 6) < 0.02 for view in found["views"]), "a side of a cube each"
    assert "6 views: 100.0% of the surface is seen" in capsys.readouterr().out
    assert np.linalg.inv(found["views"][0]["view"])[1, 3] < -1, "the front view stands at -Y"


def test_cameras_are_added_and_used_by_the_next_job(cube, tmp_path):
    code, _ = cameras(tmp_path, "--rig", "box", "--views", "6", "--skip-views", "bottom", "--view-avoid", "back=windows",
                      "--save", str(tmp_path / "c.blend"))  # fmt: skip
    assert code == 0
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "c.blend"))
    assert bpy.context.scene.tweed.rig == "scene"
    assert sorted(o.name for o in bpy.data.objects if o.type == "CAMERA" and o.data.tweed.use) == [
        "Tweed back", "Tweed front", "Tweed left", "Tweed right", "Tweed top"]  # fmt: skip
    assert bpy.data.objects["Tweed back"].data.tweed.avoid == "windows"


def test_cameras_that_cannot_be(cube, tmp_path, capsys):
    assert cameras(tmp_path, "--rig", "box", "--views", "27")[0] == 2 and "26 directions" in capsys.readouterr().err
    assert cameras(tmp_path, "--rig", "scene", "--save", str(tmp_path / "x.blend"))[0] == 4
    assert not (tmp_path / "x.blend").exists()


def test_cameras_read_their_own_settings_and_not_the_panels(cube, tmp_path, capsys):
    bpy.context.scene.tweed.slots = "Material"
    assert cameras(tmp_path, "--slots", "Nothing")[0] == 2 and "no material 'Nothing'" in capsys.readouterr().err
    assert cameras(tmp_path, "--uv-map", "Nothing")[0] != 0
