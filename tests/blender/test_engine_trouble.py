# SPDX-License-Identifier: Apache-2.0
"""The engine missing, of another version, dying, hanging, lying; cancel at every phase. The file stays as it was."""

import os
import signal

import bpy
import pytest
from snapshot import difference, scene_snapshot

PHASES = ("load", "rasterize", "condition", "denoise", "bake", "fill", "write")


@pytest.fixture
def session(monkeypatch, cold):
    from bl_ext.tweeddev.tweed import client, session

    monkeypatch.setattr(client, "TERMINATE_SECONDS", 0.4)
    monkeypatch.setattr(client, "KILL_SECONDS", 0.8)
    return session


def generate(prompt="red bricks", **options):
    return bpy.ops.tweed.generate(
        **({"prompt": prompt, "texture_size": 64, "quality": "draft", "objects": "Cube"} | options)
    )


def works_again(session):
    """Whatever happened, the next job is fine."""
    assert generate() == {"FINISHED"}


def test_engine_missing(unchanged, monkeypatch, tmp_path):
    from bl_ext.tweeddev.tweed import client

    for name in ("TWEED_ENGINE_ROOT", "TWEED_ENGINE_PYTHON"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(client.find_engine, "__defaults__", ("", "", os.environ, tmp_path / "nowhere" / "package"))
    with unchanged("engine is not set up", "install.py"):
        generate()


def test_engine_folder_of_the_environment_is_gone(unchanged, monkeypatch, tmp_path):
    monkeypatch.setenv("TWEED_ENGINE_ROOT", str(tmp_path))
    with unchanged("There is no Tweed engine in", "TWEED_ENGINE_ROOT"):
        generate()


def test_engines_python_is_gone(unchanged, monkeypatch, tmp_path):
    monkeypatch.setenv("TWEED_ENGINE_PYTHON", str(tmp_path / "python"))
    with unchanged("The engine's Python is missing"):
        generate()


def test_preferences_go_before_the_environment(unchanged, tmp_path):
    from bl_ext.tweeddev.tweed import preferences

    preferences.get().engine_root = str(tmp_path)
    try:
        with unchanged("no Tweed engine in", "preferences"):
            generate()
    finally:
        preferences.get().engine_root = ""


@pytest.mark.parametrize(
    "kind, words",
    [
        ("version", ("version 9.9.9", "this add-on is version 0.1.0", "install.py again")),
        ("proto", ("protocol 99", "protocol 1")),
        ("nostart", ("stopped unexpectedly (exit code 1)", "No module named 'torch'")),
    ],
)
def test_engine_that_does_not_fit_or_start(unchanged, monkeypatch, session, kind, words):
    monkeypatch.setenv("TWEED_FAKE", f"fake:{kind}")
    with unchanged(*words):
        generate()
    session.stop_engine()
    monkeypatch.delenv("TWEED_FAKE")
    works_again(session)


def test_engine_that_never_answers(unchanged, monkeypatch, session):
    from bl_ext.tweeddev.tweed import client

    monkeypatch.setenv("TWEED_FAKE", "fake:silent")
    monkeypatch.setattr(client, "START_SECONDS", 0.5)
    with unchanged("was not ready within"):
        generate()


@pytest.mark.parametrize("phase", PHASES)
def test_engine_dies_while_running(unchanged, session, phase):
    with unchanged("stopped unexpectedly (exit code 139)", "Segmentation fault"):
        generate(f"x fake:crash@{phase}")
    works_again(session)


def test_engine_killed_from_outside(pump, session):
    before = scene_snapshot()
    generate("x fake:slow")
    pump.turn(until=lambda: session.running().phase == "rasterize")
    os.kill(session.now.engine.info.pid, signal.SIGKILL)
    pump.turn()
    assert session.now.outcome.kind == "failed"
    assert "stopped unexpectedly" in session.now.outcome.message
    assert session.now.outcome.log
    assert difference(before, scene_snapshot()) == []


@pytest.mark.parametrize("phase", PHASES)
def test_cancel_in_each_phase(pump, session, phase):
    before = scene_snapshot()
    generate("x fake:slow")
    pump.turn(until=lambda: session.running().phase == phase)
    assert bpy.ops.tweed.cancel() == {"FINISHED"}
    pump.turn()
    assert session.now.outcome.kind == "cancelled"
    assert session.now.engine.alive, "the engine stays warm"
    assert difference(before, scene_snapshot()) == []


def test_cancel_before_the_engine_is_ready(pump, session, monkeypatch):
    monkeypatch.setenv("TWEED_FAKE_START", "0.6")
    before = scene_snapshot()
    generate()
    assert session.running().state == "starting"
    bpy.ops.tweed.cancel()
    pump.turn()
    assert session.now.outcome.kind == "cancelled"
    assert difference(before, scene_snapshot()) == []
    generate()
    pump.turn()
    assert session.now.outcome.kind == "done"


@pytest.mark.parametrize("kind", ["hang", "deaf"])
def test_cancel_of_an_engine_that_does_not_listen(pump, session, kind):
    before = scene_snapshot()
    generate(f"x fake:{kind}@denoise")
    pump.turn(until=lambda: session.running().phase == "denoise")
    bpy.ops.tweed.cancel()
    pump.turn(timeout=10)
    assert session.now.outcome.kind == "cancelled"
    assert not session.now.engine.alive
    assert difference(before, scene_snapshot()) == []
    generate()
    pump.turn()
    assert session.now.outcome.kind == "done"


@pytest.mark.parametrize(
    "kind, words",
    [
        ("noimage", ("names no texture",)),
        ("nofile", ("no such file",)),
        ("wrongsize", ("32 x 32 pixels; 64 x 64 were asked for",)),
        ("cut", ("is cut off",)),
        ("notpng", ("is not a PNG",)),
        ("escape", ("leads out of the folder",)),
        ("badjson", ("result.json", "no valid JSON")),
        ("full", ("on purpose (no_room)", "Try Draft")),
        ("fail:out_of_memory@denoise", ("on purpose (out_of_memory)",)),
        ("fail:of_a_newer_version@bake", ("on purpose (of_a_newer_version)",)),
    ],
)
def test_engine_that_lies_or_fails(unchanged, session, kind, words):
    with unchanged(*words):
        generate(f"x fake:{kind}")
    works_again(session)


def test_done_without_a_result(unchanged, session, monkeypatch):
    from bl_ext.tweeddev.tweed import flow

    monkeypatch.setattr(flow, "RESULT_SECONDS", 0.3)
    with unchanged("left no result"):
        generate("x fake:noresult")


def test_rubbish_between_the_events_does_no_harm(pump, session):
    generate("x fake:garbled fake:warn")
    pump.turn()
    assert session.now.outcome.kind == "done"
    assert "3 % of the surface" in " ".join(session.now.outcome.remarks)


def test_one_engine_serves_many_jobs(session):
    generate()
    first = session.now.engine.info.pid
    generate()
    assert session.now.engine.info.pid == first


def test_engine_ends_with_blenders_end_of_the_pipe(session):
    generate()
    process = session.now.engine._process
    process.stdin.close()
    assert process.wait(5) == 0


def test_start_and_stop_by_hand(pump, session):
    assert bpy.ops.tweed.engine_start() == {"FINISHED"}
    assert session.engine_starting()
    pump.turn()
    assert session.now.engine.info.device == "fake"
    assert bpy.ops.tweed.engine_stop() == {"FINISHED"}
    assert session.now.engine is None


def test_second_job_while_one_runs_is_refused(pump, session):
    generate("x fake:slow")
    with pytest.raises(RuntimeError, match="cancel it first"):
        generate()
    bpy.ops.tweed.cancel()
    pump.turn()


def test_the_pipe_to_a_dead_engine_is_closed_before_a_new_one_starts(session):
    with pytest.raises(RuntimeError):
        generate("fake:crash@denoise")
    dead = session.now.engine._process
    assert dead.poll() is not None
    works_again(session)
    assert dead.stdin.closed and session.now.engine._process is not dead
