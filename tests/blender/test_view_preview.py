# SPDX-License-Identifier: Apache-2.0
"""The drawn views: they stand where the job's cameras will, follow the panel, and leave nothing behind."""

import bpy
import numpy as np
import pytest
from snapshot import difference, scene_snapshot


@pytest.fixture
def preview(cube):
    from bl_ext.tweeddev.tweed import view_preview

    yield view_preview
    view_preview.hide()


def names(preview):
    return [camera.name for camera, on in preview.views(bpy.context) if on]


def test_switched_on_and_off_it_leaves_no_trace(preview, draw):
    from bl_ext.tweeddev.tweed import subpanels

    before = scene_snapshot()
    bpy.ops.tweed.preview_views()
    assert len(names(preview)) == 8
    assert ("operator", "tweed.preview_views") in draw([subpanels.TWEED_PT_cameras])
    bpy.ops.tweed.preview_views()
    assert names(preview) == [] and difference(before, scene_snapshot()) == []


def test_it_follows_the_panel(preview):
    group = bpy.context.scene.tweed
    bpy.ops.tweed.preview_views()
    group.rig, group.views = "box", 6
    assert names(preview) == ["front", "right", "back", "left", "top", "bottom"]
    group.rows.use_4 = False
    assert "top" not in names(preview) and len(preview.views(bpy.context)) == 6, "it is drawn grey"
    group.views = 27
    assert names(preview) == [], "a box has no 27 views; the panel says so"
    group.rig = "scene"
    assert names(preview) == [] and not bpy.ops.tweed.preview_views.poll()


def test_they_are_the_views_of_the_job(preview, tmp_path):
    from conftest import job_record

    group = bpy.context.scene.tweed
    group.rig, group.views, group.extra_views = "ring", 3, 2
    bpy.ops.tweed.preview_views()
    drawn = {camera.name: camera for camera, _ in preview.views(bpy.context)}
    bpy.ops.tweed.generate(prompt="x", texture_size=64, objects="Cube")
    asked = job_record(tmp_path / "jobs")["cameras"]
    assert [camera["name"] for camera in asked] == list(drawn) and len(asked) == 5
    for camera in asked:
        assert np.allclose(drawn[camera["name"]].view, camera["view"])


def test_where_the_mesh_has_moved_nothing_is_drawn(preview, cube):
    bpy.ops.tweed.preview_views()
    cube.location.x += 1
    bpy.context.view_layer.update()
    assert names(preview) == []


def test_another_file_takes_it_away(preview):
    bpy.ops.tweed.preview_views()
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    assert preview.shown.positions is None


@pytest.mark.parametrize("lens", ["perspective", "parallel"])
def test_a_frustum_shows_what_its_view_sees(preview, lens):
    """Each corner, projected by the view itself, is a corner of its picture; a parallel one is at most as large as drawn."""
    bpy.context.scene.tweed.lens = lens
    bpy.ops.tweed.preview_views()
    for camera, _ in preview.views(bpy.context):
        points = preview.frustum(camera, 0.5).astype(np.float64)
        assert np.allclose(points[0], np.linalg.inv(camera.view)[:3, 3], atol=1e-5)
        clip = np.c_[points[1:5], np.ones(4)] @ (camera.projection @ camera.view).T
        corner = clip[:, :2] / clip[:, 3:]
        assert np.allclose(np.abs(corner), np.abs(corner[0, 0]), atol=1e-4) and np.abs(corner[0, 0]) <= 1 + 1e-5
        if lens == "perspective":
            assert np.allclose(np.abs(corner), 1, atol=1e-4)


def test_nothing_selected(preview, unchanged):
    bpy.ops.object.select_all(action="DESELECT")
    with unchanged("No mesh is selected"):
        bpy.ops.tweed.preview_views()
