# SPDX-License-Identifier: Apache-2.0
"""Panel.draw in every state, with a layout that fails on unknown operators and properties."""

import types

import bpy
import pytest


@pytest.fixture
def panel():
    from bl_ext.tweeddev.tweed import panels

    return panels.CLASSES


def texts(log):
    return " ".join(str(text) for name, text in log if name in ("label", "progress"))


def operators(log):
    return [name for kind, name in log if kind == "operator"]


def test_idle(panel, draw, cold):
    log = draw(panel)
    assert "Engine starts when needed" in texts(log)
    assert "1 object · 8 views · 1K" in texts(log)
    assert "Write what the surface should look like" in texts(log)
    assert ("enabled", False) in log, "no prompt yet"
    bpy.context.scene.tweed.prompt = "red bricks"
    assert ("enabled", True) in draw(panel)


def test_plan_follows_quality_and_size(panel, draw):
    group = bpy.context.scene.tweed
    group.quality = "high"
    assert "10 views · 2K" in texts(draw(panel))
    group.size = "4096"
    assert "10 views · 4K" in texts(draw(panel))


def test_nothing_selected(panel, draw):
    bpy.ops.object.select_all(action="DESELECT")
    log = draw(panel)
    assert "No mesh is selected" in texts(log)
    assert ("enabled", False) in log


def test_no_uvs_offers_to_make_them(panel, draw, cube):
    cube.data.uv_layers.remove(cube.data.uv_layers[0])
    log = draw(panel)
    assert "has no UV map" in texts(log)
    assert "tweed.make_uvs" in operators(log)


def test_engine_missing_says_what_to_do(panel, draw, monkeypatch, tmp_path):
    monkeypatch.setenv("TWEED_ENGINE_ROOT", str(tmp_path))
    log = draw(panel)
    assert "Engine is not set up" in texts(log)
    assert "TWEED_ENGINE_ROOT" in texts(log)
    assert "tweed.engine_setup" in operators(log) and "tweed.generate" not in operators(log)


def test_running_then_done(panel, draw, pump, cold):
    from bl_ext.tweeddev.tweed import session

    bpy.ops.tweed.generate(prompt="x fake:slow", texture_size=64, objects="Cube")
    log = draw(panel)
    assert "Starting the engine" in texts(log)
    assert "Engine is starting" in texts(log)
    assert "tweed.cancel" in operators(log) and "tweed.generate" not in operators(log)
    pump.turn(until=lambda: session.running().phase == "denoise" and session.running().step > 4)
    assert "Diffusing views" in texts(draw(panel))
    assert "left" in texts(draw(panel))
    pump.turn()
    log = draw(panel)
    assert "Done in" in texts(log) and "seed" in texts(log)
    assert {"tweed.revert", "tweed.compare", "tweed.generate"} <= set(operators(log))
    assert "Engine ready · fake" in texts(log)


def test_failed_and_kept(panel, draw, pump, cube):
    bpy.ops.tweed.generate(prompt="x fake:crash", texture_size=64, objects="Cube")
    pump.turn()
    log = draw(panel)
    assert "stopped unexpectedly" in texts(log)
    assert "tweed.open_log" in operators(log)
    bpy.ops.tweed.generate(prompt="x", texture_size=64, objects="Cube")
    cube.data.uv_layers[0].uv[0].vector.x = 0.7
    pump.turn()
    log = draw(panel)
    assert "has changed since" in texts(log)
    assert "tweed.apply_result" in operators(log)


def test_no_change_is_applied_under_a_modal_operator(pump, monkeypatch):
    from bl_ext.tweeddev.tweed import session

    monkeypatch.setattr(session, "_artist_is_busy", lambda: True)
    bpy.ops.tweed.generate(prompt="x", texture_size=64, objects="Cube")
    pump.turn(until=lambda: session.running().finished)
    with pytest.raises(AssertionError):
        pump.turn(timeout=0.7)
    monkeypatch.setattr(session, "_artist_is_busy", lambda: False)
    pump.turn()
    assert session.now.outcome.kind == "done"


def test_a_bug_in_the_timer_does_not_leave_the_panel_stuck(pump, monkeypatch, capsys):
    from bl_ext.tweeddev.tweed import flow, session

    monkeypatch.setattr(flow, "poll", lambda run: 1 / 0)
    bpy.ops.tweed.generate(prompt="x", texture_size=64, objects="Cube")
    pump.turn()
    assert session.running() is None
    assert "unexpected" in session.now.outcome.message
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_preferences_draw(draw):
    from bl_ext.tweeddev.tweed import preferences
    from conftest import Layout

    log = []
    panel = types.SimpleNamespace(
        layout=Layout(log),
        engine_root="",
        engine_python="",
        device="auto",
        jobs_folder="",
        bl_rna=preferences.TweedPreferences.bl_rna,
    )
    preferences.TweedPreferences.draw(panel, bpy.context)
    assert ("prop", "engine_root") in log


def test_unlocked_seed_is_new_each_time_and_shown():
    group = bpy.context.scene.tweed
    seen = set()
    for _ in range(2):
        bpy.ops.tweed.generate(prompt="x", texture_size=64, objects="Cube")
        seen.add(group.seed)
    assert len(seen) == 2
    group.seed_lock = True
    bpy.ops.tweed.generate(prompt="x", texture_size=64, objects="Cube")
    assert group.seed in seen


def test_operator_remembers_nothing_from_call_to_call(tmp_path):
    from conftest import job_record

    group = bpy.context.scene.tweed
    group.prompt = "from the panel"
    bpy.ops.tweed.generate(prompt="from a script", texture_size=64, steps=3, objects="Cube")
    bpy.ops.tweed.generate(objects="Cube", texture_size=64)
    record = job_record(tmp_path / "jobs")
    assert record["settings"]["prompt"] == "from the panel"
    assert record["settings"]["steps"] == 20
