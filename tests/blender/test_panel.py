# SPDX-License-Identifier: Apache-2.0
"""Panel.draw in every state, with a layout that fails on unknown operators and properties."""

import re
import types
from dataclasses import replace

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
    assert "Starts when needed" in texts(log)
    assert "1 object · 8 views · 1K" in texts(log)
    assert "Write what the surface should look like" in texts(log)
    assert ("enabled", False) in log, "no prompt yet"
    bpy.context.scene.tweed.prompt = "red bricks"
    assert ("enabled", True) in draw(panel)


def test_plan_follows_quality_and_size(panel, draw):
    group = bpy.context.scene.tweed
    group.quality = "high"
    assert "10 views (up to 2 more) · 2K" in texts(draw(panel))
    group.size = "4096"
    assert "10 views (up to 2 more) · 4K" in texts(draw(panel))


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
    assert "Starting…" in texts(log)
    assert "tweed.cancel" in operators(log) and "tweed.generate" not in operators(log)
    pump.turn(until=lambda: session.running().phase == "denoise" and session.running().step > 4)
    assert "Diffusing views" in texts(draw(panel))
    assert "left" in texts(draw(panel))
    pump.turn()
    log = draw(panel)
    assert "Done in" in texts(log) and "seed" in texts(log)
    assert {"tweed.revert", "tweed.compare", "tweed.generate"} <= set(operators(log))
    assert "Ready · fake" in texts(log)


def test_nvdiffrast_is_named_where_it_draws(panel, draw, pump, cold):
    """Its licence is not one to sell work under: an artist on a card must read that beside the engine."""
    from bl_ext.tweeddev.tweed import client, session

    assert client._usable({"nvdiffrast": "it is not installed", "numba": "ok"}) == ("numba",)
    bpy.ops.tweed.generate(prompt="x", texture_size=64, objects="Cube")
    pump.turn()
    assert "nvdiffrast" not in texts(draw(panel))
    session.now.engine.info = replace(session.now.engine.info, rasterizers=("nvdiffrast", "numba"))
    assert "research and evaluation only" in " ".join(texts(draw(panel)).split())
    bpy.context.scene.tweed.rasterizer = "numba"
    assert "nvdiffrast" not in texts(draw(panel))


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
        engine_where="HERE",
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


def entry(peak, **settings):
    from bl_ext.tweeddev.tweed import history
    from bl_ext.tweeddev.tweed.jobs.settings import resolve

    report = {"device": "Card, 24 GB", "memory_gb": {"main": 3.0, "card": peak}, "view_size": 512, "seconds_total": 9}
    return history.Entry(None, "done", resolve({"prompt": "x"} | settings), {}, report)


def test_memory_is_learned_from_the_line_through_past_jobs():
    """Two jobs of 8 and 16 views of 512 pixels with 1K: 8 views more took 4 GB more, so 8 more take 4 more again."""
    from bl_ext.tweeddev.tweed import estimates
    from bl_ext.tweeddev.tweed.jobs.settings import resolve

    past = [entry(6.0, views=8), entry(10.0, views=16)]
    now = resolve({"prompt": "x", "views": 24})
    assert estimates.memory_gb(past, now, "Card, 24 GB") == pytest.approx(14.0)
    assert estimates.memory_gb(past, resolve({"prompt": "x", "views": 16}), "") == 10.0, "as it was"
    assert estimates.memory_gb(past, now | {"model": "other"}, "") is None
    # a single job of 2 M pixels of views and 1 M of texture: half is fixed, half grows: 5 M pixels to 3 M
    assert estimates.memory_gb(past[:1], now | {"views": 16}, "") == pytest.approx(6 * (0.5 + 0.5 * 5 / 3))
    assert estimates.total_gb("CPU (AMD EPYC 9R45), 2 threads, 23 GB") == 23 and estimates.total_gb("fake") is None


def test_what_cannot_fit_is_refused_with_a_remedy(panel, draw, monkeypatch):
    from bl_ext.tweeddev.tweed import panels, session

    monkeypatch.setattr(session, "past", lambda: [entry(6.0, views=8), entry(10.0, views=16)])
    monkeypatch.setattr(panels, "_device", lambda: "Card, 24 GB")
    group = bpy.context.scene.tweed
    group.prompt = "bricks"
    log = draw(panel)
    assert "About 6.0 of 24 GB" in texts(log) and ("enabled", False) not in log
    group.views = 64
    log = draw(panel)
    assert "This needs about 34 GB, and Card, 24 GB is all there is. Choose fewer views" in texts(log)
    assert ("enabled", False) in log


def test_the_catalogue_speaks_where_no_job_has_been(panel, draw, monkeypatch):
    from bl_ext.tweeddev.tweed import panels

    monkeypatch.setattr(panels, "_device", lambda: "Card, 8 GB")
    group = bpy.context.scene.tweed
    group.prompt, group.model = "bricks", "stabilityai/stable-diffusion-xl-base-1.0"
    assert "About 11 of 8 GB; its parts will take turns" in texts(draw(panel))
    group.memory = "keep"
    assert "needs about 11 GB to stay on Card, 8 GB. Set Memory to Auto" in texts(draw(panel))


def test_a_number_that_stands_for_something_else_says_so(cube, draw):
    from bl_ext.tweeddev.tweed import subpanels

    def said():
        log = draw([subpanels.TWEED_PT_output])
        return {log[i][1]: log[i + 1][1] for i in range(len(log) - 1) if log[i][0] == "prop" and log[i + 1][0] == "label"}

    assert said() == {"turntable": "off", "save_to": "Packed into the .blend, which"}
    bpy.context.scene.tweed.turntable, bpy.context.scene.tweed.preview_every = 24, 0
    assert said().items() > {"preview_every": "off"}.items() and "turntable" not in said()


def test_objects_far_apart_are_better_painted_one_by_one(panel, draw, cube):
    """Two cubes of 2 m: touching, each takes half of what the views show; 6 m apart, a quarter."""
    bpy.ops.mesh.primitive_cube_add(location=(2, 0, 0))
    other = bpy.context.object
    cube.select_set(True)
    assert "one by one they get finer detail" not in texts(draw(panel))
    other.location.x = 6
    bpy.context.view_layer.update()
    assert "one by one they get finer detail" in " ".join(texts(draw(panel)).split())
