# SPDX-License-Identifier: Apache-2.0
"""What the panel foresees of a job counts the tiles of the selected objects, and counts them once for each change."""

import bpy
import pytest
from test_uv_tiles import SQUARE, TWO, uv_edited, wall


def counted(*objects, **settings):
    from bl_ext.tweeddev.tweed import tile_count
    from bl_ext.tweeddev.tweed.jobs.settings import resolve

    return tile_count.names(objects, resolve({"prompt": "x", **settings}))


def test_textures_are_counted_once_for_each_change(monkeypatch):
    from bl_ext.tweeddev.tweed import tile_count

    obj, other = wall((1, 0), (0, 1), (3, 3), materials=3), wall((0, 2), name="Other")
    assert counted(obj) == ("1002", "1011", "1034") and counted(obj, uv_tiles="repeat") == ("",)
    assert counted(obj, slots="M0, M1") == ("1002", "1011") and counted(obj, slots="M2") == ("",)
    assert counted(obj, slots="gone") == ("",) and counted(other, uv_tiles="udim") == ("1021",)
    assert counted(obj, other) == ("1002", "1011", "1021", "1034")
    bpy.context.view_layer.update()
    read, calls = tile_count._read, []
    monkeypatch.setattr(tile_count, "_read", lambda *given: calls.append(given[0].name) or read(*given))
    assert len(counted(obj, other)) == 4 and set(calls) <= {"Wall", "Other"}
    calls.clear()
    assert len(counted(obj, other)) == 4 and calls == []
    obj.location.x = 3
    bpy.context.view_layer.update()
    assert len(counted(obj, other)) == 4 and calls == [], "moving it does not change its UVs"
    uv_edited(obj, SQUARE, SQUARE, SQUARE)
    obj.data.update()
    bpy.context.view_layer.update()
    assert counted(obj) == ("",) and calls == ["Wall"]
    bpy.context.view_layer.objects.active = obj
    bpy.ops.object.mode_set(mode="EDIT")
    assert counted(obj) == ("",)
    bpy.ops.object.mode_set(mode="OBJECT")
    assert counted(obj) == ("",)


def test_tiles_count_in_what_a_job_will_take():
    """A job of 1 tile took 4 s for its texels, 8 s for denoising and 3 s else; 4 tiles of twice the side: 16 times 4 s. Of
    its memory half grows with pixels: 2 M of views and 1 M of texture, then 2 M and 16 M."""
    from bl_ext.tweeddev.tweed import estimates, history
    from bl_ext.tweeddev.tweed.jobs.settings import resolve

    settings = resolve({"prompt": "x", "views": 8, "texture_size": 1024})
    seconds = {"load": 3.0, "denoise": 8.0, "bake": 2.0, "fill": 0.5, "write": 1.5}
    report = {"seconds_total": 15.0, "seconds": seconds, "memory_gb": {"main": 6.0}, "view_size": 512, "textures": 1}
    past = [history.Entry(None, "done", settings, {}, report)]
    more = settings | {"texture_size": 2048}
    assert history.expected_seconds(past, settings, "") == pytest.approx(15)
    assert history.expected_seconds(past, more, "", 4) == pytest.approx(3 + 8 + 16 * 4)
    assert estimates.memory_gb(past, more, "", 4) == pytest.approx(6 * (0.5 + 0.5 * 18 / 3))
    four = [history.Entry(None, "done", settings, {}, report | {"textures": 4})]
    assert history.expected_seconds(four, settings, "", 4) == pytest.approx(15)
    assert history.expected_seconds(four, settings, "") == pytest.approx(3 + 8 + 1)
    assert estimates.memory_gb(four, settings, "", 4) == 6.0
    assert estimates.memory_gb(four, settings, "") == pytest.approx(6 * (0.5 + 0.5 * 3 / 6))
    broken = [history.Entry(None, "done", settings, {}, report | {"textures": "many", "seconds": {"bake": None}})]
    assert history.expected_seconds(broken, settings, "", 2) == pytest.approx(15)


def test_the_panel_asks_for_the_tiles_of_what_is_selected(draw, monkeypatch):
    from bl_ext.tweeddev.tweed import estimates, panels

    obj, asked = wall((1, 0), (0, 1)), []
    for other in bpy.context.scene.objects:
        other.select_set(other == obj)
    bpy.context.view_layer.objects.active = obj
    bpy.context.scene.tweed.prompt = TWO
    monkeypatch.setattr(estimates, "obstacle", lambda *given: asked.append(given[3]))
    draw(panels.CLASSES)
    assert asked and set(asked) == {2}
