# SPDX-License-Identifier: Apache-2.0
"""Jobs that wait, jobs of the past, a texture found again after a crash, and the report for a fault."""

import json
import shutil

import bpy
import pytest


@pytest.fixture
def tweed():
    from bl_ext.tweeddev.tweed import session

    session.now.waiting.clear()
    session.now.entries = None
    yield session
    session.now.waiting.clear()


def generate(**settings):
    return bpy.ops.tweed.generate(**({"prompt": "x", "texture_size": 64, "objects": "Cube"} | settings))


def test_a_waiting_job_starts_when_the_running_one_has_ended(tweed, pump, cube):
    generate(prompt="first fake:slow")
    bpy.ops.tweed.queue_add(prompt="second", texture_size=64, objects="Cube")
    assert tweed.running() and len(tweed.now.waiting) == 1
    pump.turn()
    assert tweed.running() is None and tweed.now.waiting == []
    assert [entry.prompt for entry in tweed.past()] == ["second", "first fake:slow"]
    assert all(entry.state == "done" for entry in tweed.past())


def test_a_job_whose_object_is_gone_is_named_and_the_next_one_runs(tweed, pump, cube):
    other = cube.copy()
    other.data = cube.data.copy()
    bpy.context.scene.collection.objects.link(other)
    generate(prompt="first fake:slow")
    bpy.ops.tweed.queue_add(prompt="gone", texture_size=64, objects=other.name)
    bpy.ops.tweed.queue_add(prompt="last", texture_size=64, objects="Cube")
    bpy.data.objects.remove(other)
    said = []
    pump.turn(until=lambda: said.append(tweed.now.outcome.message if tweed.now.outcome else "") or False)
    assert [entry.prompt for entry in tweed.past()] == ["last", "first fake:slow"]


def test_queue_order_can_be_changed_and_jobs_taken_out(tweed, pump):
    generate(prompt="running fake:slow")
    for name in "abc":
        bpy.ops.tweed.queue_add(prompt=name, texture_size=64, objects="Cube")
    bpy.ops.tweed.queue_up(index=2)
    assert [job.values["prompt"] for job in tweed.now.waiting] == ["a", "c", "b"]
    bpy.ops.tweed.queue_down(index=0)
    assert [job.values["prompt"] for job in tweed.now.waiting] == ["c", "a", "b"]
    bpy.ops.tweed.queue_down(index=2)
    bpy.ops.tweed.queue_up(index=1)
    bpy.ops.tweed.queue_remove(index=0)
    assert [job.values["prompt"] for job in tweed.now.waiting] == ["c", "b"]
    with pytest.raises(RuntimeError, match="no waiting job number 8"):
        bpy.ops.tweed.queue_remove(index=7)
    tweed.now.waiting.clear()
    pump.turn()


def test_a_queued_job_needs_a_prompt(tweed):
    with pytest.raises(RuntimeError, match="prompt is empty"):
        bpy.ops.tweed.queue_add(objects="Cube")
    assert tweed.now.waiting == []


def test_settings_of_a_past_job_come_back(tweed):
    group = bpy.context.scene.tweed
    generate(prompt="old bricks", seed=77, steps=3, case="canonical-x0", texture_size=2048)
    group.prompt, group.steps = "something else", 9
    entry = tweed.past()[0]
    bpy.ops.tweed.redo_settings(job=str(entry.folder))
    assert (group.prompt, group.seed, group.steps, group.case) == ("old bricks", 77, 3, "canonical-x0")
    assert group.size == "2048" and group.seed_lock
    assert group.eta == 0.0


def test_deleting_a_job_takes_its_folder_and_nothing_else(tweed, cube, tmp_path):
    generate()
    entry = tweed.past()[0]
    bpy.ops.tweed.forget_job(job=str(entry.folder))
    assert not entry.folder.exists() and tweed.past() == []
    texture = next(n for n in cube.active_material.node_tree.nodes if n.bl_idname == "ShaderNodeTexImage")
    assert texture.image.packed_file, "the texture on the material stays"
    elsewhere = tmp_path / "20260101T000000Z-abcdef"
    elsewhere.mkdir()
    with pytest.raises(RuntimeError, match="not in the jobs folder"):
        bpy.ops.tweed.forget_job(job=str(elsewhere))
    assert elsewhere.exists()


def test_damaged_and_unfinished_jobs_are_listed_as_such(tweed, tmp_path):
    generate()
    done = tweed.past()[0]
    unfinished = done.folder.with_name("20990101T000000Z-000001")
    shutil.copytree(done.folder, unfinished)
    (unfinished / "result.json").unlink()
    damaged = done.folder.with_name("20990101T000000Z-000002")
    shutil.copytree(done.folder, damaged)
    (damaged / "job.json").write_text("{", "utf-8")
    bpy.ops.tweed.refresh_history()
    assert [entry.state for entry in tweed.past()] == ["damaged", "unfinished", "done"]
    assert "JSON" in tweed.past()[0].message


def test_estimate_scales_with_the_work(tweed):
    from bl_ext.tweeddev.tweed import history

    settings = {"model": "m", "method": "synchronized", "views": 8, "steps": 20, "view_size": 0}
    report = {"device": "d", "seconds_total": 12.0, "seconds": {"denoise": 8.0}}
    entry = history.Entry(None, "done", settings, {}, report)
    assert history.expected_seconds([entry], settings, "d") == pytest.approx(12.0)
    assert history.expected_seconds([entry], settings | {"steps": 40}, "") == pytest.approx(4 + 16)
    assert history.expected_seconds([entry], settings | {"model": "other"}, "d") is None
    assert history.expected_seconds([entry], settings, "another device") is None


def test_a_texture_that_was_finished_before_a_crash_is_offered(tweed, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    generate()
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scene.blend"))  # as it was saved: without the texture
    tweed.now.outcome = tweed.now.entries = None
    tweed.recover()
    assert tweed.now.outcome.kind == "kept" and "is not on it" in tweed.now.outcome.message
    bpy.ops.tweed.apply_result()
    assert tweed.now.outcome.kind == "done"
    tweed.now.outcome = None
    tweed.recover()
    assert tweed.now.outcome is None, "it is on its material now"


def test_subpanels_draw_every_setting_and_the_history(tweed, draw):
    from bl_ext.tweeddev.tweed import subpanels
    from bl_ext.tweeddev.tweed.jobs.settings import SETTINGS

    generate(prompt="listed")
    log = draw(subpanels.CLASSES)
    shown = {name for kind, name in log if kind == "prop"}
    group = bpy.context.scene.tweed
    wanted = {n for n, s in SETTINGS.items() if hasattr(group, n) and group.method in s.used_by}
    on_main, as_rows = {"prompt", "avoid", "quality", "seed"}, {"view_prompts", "view_avoids", "skip_views"}
    assert wanted - on_main - as_rows <= shown and {"use_0", "words_7"} <= shown
    assert "listed" in " ".join(str(text) for kind, text in log if kind == "label")
    assert {"tweed.apply_result", "tweed.redo_settings", "tweed.forget_job"} <= {n for k, n in log if k == "operator"}


def test_each_method_shows_its_own_settings(tweed, draw):
    from bl_ext.tweeddev.tweed import subpanels
    from bl_ext.tweeddev.tweed.jobs.settings import SETTINGS

    for method in SETTINGS["method"].choices:
        bpy.context.scene.tweed.method = method
        shown = {name for kind, name in draw([subpanels.TWEED_PT_method]) if kind == "prop"}
        assert "method" in shown
        assert all(method in SETTINGS[name].used_by for name in shown if name in SETTINGS)


def test_the_report_names_versions_and_settings_and_no_more(tweed):
    from bl_ext.tweeddev.tweed import job_operators

    bpy.context.scene.tweed.prompt = "red bricks"
    generate()
    text = job_operators.report_text(bpy.context)
    facts = json.loads(text.split("\n\n")[0])
    assert facts["blender"] == bpy.app.version_string and facts["settings"]["prompt"] == "red bricks"
    assert facts["outcome"] == "none", "in background nothing is left to be said"
