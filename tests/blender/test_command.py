# SPDX-License-Identifier: Apache-2.0
"""`--command tweed …` through its handler: exit codes, report, saved file, signals."""

import json
import os
import signal

import bpy
import pytest


@pytest.fixture
def run(tmp_path):
    from bl_ext.tweeddev.tweed import command

    def call(*more, prompt="red bricks", size="64"):
        report = tmp_path / "report.json"
        report.unlink(missing_ok=True)
        code = command.main(
            ["texture", "--object", "Cube", "--prompt", prompt, "--size", size, "--json", str(report), *more]
        )
        return code, json.loads(report.read_text()) if report.exists() else None

    return call


def test_texture_saves_and_reports(run, tmp_path):
    source, out = tmp_path / "in" / "hero.blend", tmp_path / "out é" / "out.blend"
    source.parent.mkdir()
    out.parent.mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(source))
    code, report = run("--seed", "7", "--save", str(out))
    assert (code, report["status"], report["seed"], report["exit_code"]) == (0, "done", 7, 0)
    assert list(source.parent.iterdir()) == [source]
    bpy.ops.wm.open_mainfile(filepath=str(out))
    image = bpy.data.images[report["images"][0]]
    assert image.filepath.startswith("//textures") and tuple(image.size) == (64, 64)
    assert (out.parent / "textures").is_dir()
    assert bpy.data.objects["Cube"].active_material["tweed"]["job"] in report["job"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["texture", "--size", "many"],
        ["texture", "--size", "0", "--prompt", "x"],
        ["texture", "--nonsense"],
        [],
        ["paint"],
        ["texture", "--object", "Cube"],
        ["texture", "--object", "Nobody", "--prompt", "x"],
        ["texture", "--object", "Cube", "--prompt", "x", "--save", "/nowhere/at/all.blend"],
    ],
)
def test_bad_arguments_are_2(arguments, capsys):
    from bl_ext.tweeddev.tweed import command

    assert command.main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_help_is_0_and_lists_the_settings(capsys):
    from bl_ext.tweeddev.tweed import command

    assert command.main(["texture", "--help"]) == 0
    assert "--texture-size" in capsys.readouterr().out


def test_engine_missing_is_3(run, monkeypatch, tmp_path):
    monkeypatch.setenv("TWEED_ENGINE_ROOT", str(tmp_path))
    code, report = run()
    assert code == 3 and report["error"]["code"] == "engine_missing"


def test_failed_job_is_4(run):
    code, report = run(prompt="x fake:crash@denoise")
    assert code == 4 and "Segmentation fault" in report["error"]["log"]


def test_mesh_that_does_not_fit_is_4(run, cube):
    cube.data.uv_layers.remove(cube.data.uv_layers[0])
    code, report = run()
    assert code == 4 and report["error"]["code"] == "mesh"
    assert run("--make-uvs")[0] == 0


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_5(run, kind, monkeypatch):
    from bl_ext.tweeddev.tweed import headless

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(headless, "print_progress", lambda run: run.phase == "denoise" and os.kill(os.getpid(), kind))
    code, report = run(prompt="x fake:slow")
    assert code == 5 and report["status"] == "cancelled"
    assert signal.getsignal(signal.SIGTERM) == before


def test_out_of_memory_is_6(run):
    assert run(prompt="x fake:fail:out_of_memory@denoise")[0] == 6


def test_report_that_cannot_be_written(tmp_path, capsys):
    from bl_ext.tweeddev.tweed import command

    (tmp_path / "report").mkdir()
    code = command.main(
        ["texture", "--object", "Cube", "--prompt", "x", "--size", "64", "--json", str(tmp_path / "report")]
    )
    assert code == 4 and "cannot be written" in capsys.readouterr().err


def test_doctor(capsys, monkeypatch, tmp_path):
    from bl_ext.tweeddev.tweed import command

    assert command.main(["doctor"]) == 0
    assert '"fake": true' in capsys.readouterr().out
    monkeypatch.setenv("TWEED_ENGINE_ROOT", str(tmp_path))
    assert command.main(["doctor"]) == 3
