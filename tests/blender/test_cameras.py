# SPDX-License-Identifier: Apache-2.0
"""The rig as cameras of the scene: they see the same, can be switched off, and have words of their own."""

import bpy
import numpy as np
import pytest
from mathutils import Euler, Vector


def test_added_cameras_see_what_the_rig_saw(cube, tmp_path):
    from bl_ext.tweeddev.tweed import scene
    from bl_ext.tweeddev.tweed.jobs.rigs import build_rig

    group = bpy.context.scene.tweed
    group.views = 5
    before = {o.name for o in bpy.data.objects}
    bpy.ops.tweed.add_cameras()
    bpy.context.view_layer.update()
    assert group.rig == "scene"
    made = [o for o in bpy.data.objects if o.name not in before]
    assert len(made) == 5 and all(o.users_collection[0].name == "Tweed Cameras" for o in made)
    rig = {f"Tweed {c.name}": c for c in build_rig("auto", 5, scene.export(bpy.context, [cube]).mesh.positions)}
    seen = scene.cameras(bpy.context)
    assert {camera.name for camera in seen} == set(rig), "and not the scene's own camera"
    for camera in seen:
        np.testing.assert_allclose(camera.view, rig[camera.name].view, atol=1e-5)
        np.testing.assert_allclose(camera.projection, rig[camera.name].projection, rtol=2e-5, atol=1e-5)


def test_a_view_has_its_own_words_and_can_be_left_out(cube, tmp_path):
    from conftest import job_record

    group = bpy.context.scene.tweed
    group.views = 3
    bpy.ops.tweed.add_cameras()
    cameras = [o for o in bpy.data.objects if o.name.startswith("Tweed ")]
    cameras[0].data.tweed.prompt = "a door"
    cameras[1].data.tweed.use = False
    bpy.ops.tweed.generate(prompt="house", texture_size=64, objects="Cube")
    record = job_record(tmp_path / "jobs")["cameras"]
    assert len(record) == 2
    assert {camera["name"]: camera["prompt"] for camera in record}[cameras[0].name] == "a door"


def test_all_cameras_off_is_refused_in_words(cube, unchanged):
    bpy.context.scene.tweed.rig = "scene"
    bpy.data.objects["Camera"].data.tweed.use = False
    with unchanged("switched off"):
        bpy.ops.tweed.generate(prompt="x", texture_size=64, objects="Cube")


def test_the_list_of_cameras_is_drawn(cube, draw):
    from bl_ext.tweeddev.tweed import subpanels

    bpy.ops.tweed.add_cameras()
    log = draw([subpanels.TWEED_PT_cameras])
    assert [name for kind, name in log if kind == "prop"].count("prompt") >= 4


def test_adding_needs_a_mesh(unchanged):
    bpy.ops.object.select_all(action="DESELECT")
    with pytest.raises(RuntimeError, match="No mesh"):
        bpy.ops.tweed.add_cameras()


# ---- the views of a rig, one by one


def shown(draw):
    """(rows of the list that are drawn, its labels)."""
    from bl_ext.tweeddev.tweed import subpanels

    log = draw([subpanels.TWEED_PT_cameras])
    return [name for kind, name in log if kind == "prop" and name.startswith("use_")], [n for k, n in log if k == "label"]


def test_every_view_of_a_rig_has_a_row(cube, draw):
    group = bpy.context.scene.tweed
    group.rig, group.views = "box", 6
    rows, labels = shown(draw)
    assert rows == [f"use_{i}" for i in range(6)]
    assert [label for label in labels if label][:6] == ["Front", "Right", "Back", "Left", "Top", "Bottom"]
    group.views = 30
    assert shown(draw)[0] == [], "a box has no 30 views; the panel says so instead"
    group.property_unset("views")
    assert len(shown(draw)[0]) == 8, "as many as Standard has"


def test_ticks_and_words_reach_the_job_by_name(cube, tmp_path):
    from conftest import job_record

    group = bpy.context.scene.tweed
    group.rig, group.views = "box", 6
    group.rows.use_4 = group.rows.use_5 = False
    group.rows.words_0 = "a door, red; ajar"
    group.rows.avoid_2 = "windows"
    assert (group.skip_views, group.rows.use_4, group.rows.use_0) == ("top, bottom", False, True)
    bpy.ops.tweed.generate(prompt="house", texture_size=64, objects="Cube")
    record = job_record(tmp_path / "jobs")
    assert [camera["name"] for camera in record["cameras"]] == ["front", "right", "back", "left"]
    assert [camera["prompt"] for camera in record["cameras"]] == ["a door, red; ajar", "", "", ""]
    assert [camera["avoid"] for camera in record["cameras"]] == ["", "", "windows", ""]
    assert record["settings"]["views"] == 6, "so that the same rig is made again"
    group.rows.words_0, group.rows.use_4 = "", True
    assert (group.view_prompts, group.skip_views) == ("", "bottom")


def test_the_rows_show_words_or_what_to_avoid(cube, draw):
    from bl_ext.tweeddev.tweed import subpanels

    group = bpy.context.scene.tweed
    group.rig, group.views = "box", 6
    props = lambda: [name for kind, name in draw([subpanels.TWEED_PT_cameras]) if kind == "prop"]  # noqa: E731
    assert "words_0" in props() and "avoid_0" not in props()
    group.rows.say = "avoid"
    assert "avoid_5" in props() and "words_5" not in props()
    group.rows.avoid_5 = "moss"
    bpy.ops.tweed.add_cameras()
    assert bpy.data.objects["Tweed bottom"].data.tweed.avoid == "moss"
    assert group.rig == "scene" and props().count("avoid") >= 6 and "prompt" not in props()


def test_they_outlast_another_number_of_views(cube, tmp_path):
    from conftest import job_record

    group = bpy.context.scene.tweed
    group.rig, group.views = "box", 6
    group.rows.use_5 = False
    group.rows.words_4, group.rows.words_0 = "a hatch", "a door"
    group.views = 4
    assert all(getattr(group.rows, f"use_{i}") for i in range(4))
    bpy.ops.tweed.generate(prompt="house", texture_size=64, objects="Cube")
    record = job_record(tmp_path / "jobs")
    assert [camera["prompt"] for camera in record["cameras"]] == ["a door", "", "", ""]
    assert (record["settings"]["skip_views"], record["settings"]["view_prompts"]) == ("", "front = a door")
    group.views = 6
    assert not group.rows.use_5 and group.rows.words_4 == "a hatch"
    bpy.ops.tweed.redo_settings(job=str(next((tmp_path / "jobs").iterdir())))
    assert (group.rig, group.views, group.view_prompts, group.skip_views) == ("box", 4, "front = a door", "")


def test_they_are_kept_in_the_file_and_out_of_presets(cube, tmp_path):
    from bl_ext.tweeddev.tweed import preset_operators

    group = bpy.context.scene.tweed
    group.rig = "ring"
    group.rows.words_1, group.rows.use_2 = "a window", False
    bpy.ops.tweed.preset_save(name="Rows")
    written = (preset_operators.folder() / "Rows.toml").read_text()
    assert "ring" in written and "window" not in written and "skip_views" not in written
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "rows.blend"))
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    assert bpy.context.scene.tweed.view_prompts == ""
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "rows.blend"))
    rows = bpy.context.scene.tweed.rows
    assert rows.words_1 == "a window" and not rows.use_2 and rows.use_1


def test_a_call_may_name_views_and_is_told_of_wrong_names(cube, tmp_path, unchanged):
    from conftest import job_record

    call = {"prompt": "house", "texture_size": 64, "objects": "Cube", "rig": "box", "views": 6}
    bpy.ops.tweed.generate(**call, skip_views="left,right", view_prompts="front = a door")
    assert [(c["name"], c["prompt"]) for c in job_record(tmp_path / "jobs")["cameras"]] == [
        ("front", "a door"), ("back", ""), ("top", ""), ("bottom", "")]  # fmt: skip
    with unchanged("no view named 'roof'", "front, right, back, left, top, bottom"):
        bpy.ops.tweed.generate(**call, skip_views="roof")
    with unchanged("no view's words"):
        bpy.ops.tweed.generate(**call, view_prompts="a door")


def test_all_views_off_is_refused_before_the_engine_starts(cube, draw, unchanged):
    from bl_ext.tweeddev.tweed import panels, session

    session.stop_engine()
    group = bpy.context.scene.tweed
    group.prompt, group.rig, group.views = "house", "ring", 3
    for i in range(3):
        setattr(group.rows, f"use_{i}", False)
    with unchanged("All 3 views are left out"):
        bpy.ops.tweed.generate(texture_size=64, objects="Cube")
    with unchanged("All 3 views are left out"):
        bpy.ops.tweed.queue_add(objects="Cube")
    assert session.now.engine is None
    log = draw([panels.TWEED_PT_main, panels.TWEED_PT_generate])
    assert any("All 3 views" in str(text) for kind, text in log if kind == "label") and ("enabled", False) in log
    group.views, group.rig = 30, "box"
    log = draw([panels.TWEED_PT_main])
    assert any("26 directions" in str(text) for kind, text in log if kind == "label")


def test_the_plan_counts_the_views_that_are_on(cube, draw):
    from bl_ext.tweeddev.tweed import panels, properties
    from bl_ext.tweeddev.tweed.history import Entry, expected_seconds

    group = bpy.context.scene.tweed
    group.rig, group.views, group.steps = "box", 6, 10
    report = {"seconds_total": 130.0, "seconds": {"denoise": 120.0}, "device": "", "views": 6}
    settings = properties.full_values(group)
    past = [Entry(tmp, "done", settings, {}, report) for tmp in [None]]
    assert expected_seconds(past, properties.full_values(group), "") == 130
    group.rows.use_4 = group.rows.use_5 = False
    # the other 10 s stay, and four of six views are denoised in 80 of the 120 s
    assert expected_seconds(past, properties.full_values(group), "") == pytest.approx(90)
    labels = [text for kind, text in draw([panels.TWEED_PT_main]) if kind == "label"]
    assert any("4 of 6 views" in str(text) for text in labels)
    bpy.ops.tweed.add_cameras()
    assert properties.full_values(group)["views"] == 4, "of the scene's cameras those that are on"
    labels = [text for kind, text in draw([panels.TWEED_PT_main]) if kind == "label"]
    assert any("· 4 views" in str(text) for text in labels)


def test_added_cameras_take_ticks_and_words_along(cube):
    group = bpy.context.scene.tweed
    group.rig, group.views = "ring", 4
    group.rows.words_0, group.rows.use_3 = "a door", False
    bpy.ops.tweed.add_cameras()
    own = {o.name: o.data.tweed for o in bpy.data.objects if o.name.startswith("Tweed ")}
    assert {name: one.use for name, one in own.items()} == {
        "Tweed front": True, "Tweed right": True, "Tweed back": True, "Tweed left": False}  # fmt: skip
    assert own["Tweed front"].prompt == "a door" and own["Tweed back"].prompt == ""


def test_coverage_is_of_the_views_that_are_on(cube):
    from bl_ext.tweeddev.tweed import coverage_operators

    group = bpy.context.scene.tweed
    group.rig, group.views = "box", 6
    bpy.ops.tweed.coverage()
    assert coverage_operators.shown.words.startswith("6 views: 100.0%")
    group.rows.use_4 = group.rows.use_5 = group.rows.use_3 = False
    bpy.ops.tweed.coverage()
    words = coverage_operators.shown.words
    assert words.startswith("3 views: ") and float(words.split()[2][:-1]) == pytest.approx(50, abs=1), "half of the sides"
    coverage_operators.hide()


# ---- from the 3D view


@pytest.fixture
def view3d():
    """The 3D view of the factory file, made the context's area."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    with bpy.context.temp_override(window=window, area=area, region=next(r for r in area.regions if r.type == "WINDOW")):
        yield area.spaces.active


def look(space, perspective, distance=8.0):
    """Turn a 3D view (without redrawing it, which needs a window); gives the eye and the rows right, up, back."""
    region = space.region_3d
    region.view_perspective = perspective
    region.view_rotation = Euler((1.2, 0.0, 0.6)).to_quaternion()
    region.view_location, region.view_distance = (0.2, 0.1, 0.0), distance
    eye = np.array(region.view_location) + distance * np.array(region.view_rotation @ Vector((0, 0, 1)))
    return eye, np.array(region.view_rotation.to_matrix().transposed())


@pytest.mark.parametrize("perspective", ["PERSP", "ORTHO"])
def test_a_camera_from_the_3d_view_sees_the_mesh_from_there(cube, view3d, perspective):
    from bl_ext.tweeddev.tweed import scene
    from bl_ext.tweeddev.tweed.jobs.rigs import FILL

    eye, axes = look(view3d, perspective)
    group = bpy.context.scene.tweed
    group.rig, group.views = "ring", 4
    bpy.ops.tweed.camera_from_view()
    bpy.context.view_layer.update()
    assert group.rig == "scene"
    cameras = {camera.name: camera for camera in scene.cameras(bpy.context)}
    assert len(cameras) == 5, "the rig's four and this one"
    camera = cameras["Tweed From View"]
    np.testing.assert_allclose(camera.view[:3, :3], axes, atol=1e-5)
    np.testing.assert_allclose(np.linalg.inv(camera.view)[:3, 3], eye, atol=1e-5)
    points = np.array([[*vertex.co, 1] for vertex in cube.data.vertices])
    clip = points @ (camera.projection @ camera.view).T
    assert (np.abs(clip[:, 2]) < clip[:, 3]).all(), "between near and far"
    assert np.abs(clip[:, :2] / clip[:, 3:]).max() == pytest.approx(FILL, abs=1e-4), "the mesh fills the frame"
    assert (camera.projection[3, 3] == 1) == (perspective == "ORTHO")


def test_the_frame_ends_where_the_3d_view_does(cube, view3d):
    """Near by, the cube does not fit: half the longer side of the region is seen at 36 mm / lens."""
    from bl_ext.tweeddev.tweed import scene

    look(view3d, "PERSP", 3.0)
    view3d.lens = 60.0
    bpy.ops.tweed.camera_from_view(only=True)
    bpy.context.view_layer.update()
    (camera,) = scene.cameras(bpy.context)
    assert camera.name == "Tweed From View"
    assert 1 / camera.projection[0, 0] == pytest.approx(36 / 60, rel=1e-4)
    view3d.region_3d.view_location = (0, 0, 500)
    with pytest.raises(RuntimeError, match="shows nothing"):
        bpy.ops.tweed.camera_from_view()


def test_from_within_the_mesh_all_that_is_ahead_is_seen(cube, view3d):
    from bl_ext.tweeddev.tweed import scene

    look(view3d, "PERSP", 0.1)
    bpy.ops.tweed.camera_from_view(only=True)
    bpy.context.view_layer.update()
    (camera,) = scene.cameras(bpy.context)
    assert 1 / camera.projection[0, 0] == pytest.approx(36 / view3d.lens, rel=1e-4)


@pytest.mark.parametrize("lens", ["perspective", "parallel"])
def test_the_3d_view_can_look_from_a_view(cube, view3d, lens):
    """It looks along the same axis, and the corner that reaches furthest lies FILL of the way to the region's edge."""
    from bl_ext.tweeddev.tweed import scene
    from bl_ext.tweeddev.tweed.jobs.rigs import FILL, views_of
    from bl_ext.tweeddev.tweed.properties import full_values

    group = bpy.context.scene.tweed
    group.rig, group.views, group.lens = "box", 8, lens
    group.rows.use_6 = False
    bpy.ops.tweed.look_from(view="upper front right")
    region, area = view3d.region_3d, bpy.context.area
    window = next(r for r in area.regions if r.type == "WINDOW")
    values = full_values(group) | {"skip_views": ""}
    view = next(c for c in views_of(values, scene.export(bpy.context, [cube]).mesh.positions) if c.name == "upper front right")
    axes = view.view[:3, :3]
    np.testing.assert_allclose(np.array(region.view_rotation.to_matrix()).T, axes, atol=1e-5)
    np.testing.assert_allclose(region.view_location, (0, 0, 0), atol=1e-5)
    assert region.view_perspective == ("PERSP" if lens == "perspective" else "ORTHO")
    x, y, back = (np.array([vertex.co for vertex in cube.data.vertices]) @ axes.T).T
    depth = region.view_distance - (back if lens == "perspective" else 0)
    edge = 36 / view3d.lens * min(window.width, window.height) / max(window.width, window.height)
    assert (np.maximum(np.abs(x), np.abs(y)) / depth / edge).max() == pytest.approx(FILL, rel=1e-5)
    group.rig = "scene"
    bpy.ops.tweed.look_from(view="Camera")
    np.testing.assert_allclose(np.array(region.view_rotation.to_matrix()),
                               np.array(bpy.data.objects["Camera"].matrix_world.to_3x3()), atol=1e-4)  # fmt: skip
    with pytest.raises(RuntimeError, match="no view named 'roof'"):
        bpy.ops.tweed.look_from(view="roof")


def test_a_camera_from_view_needs_a_view(cube, view3d):
    view3d.region_3d.view_perspective = "CAMERA"
    assert not bpy.ops.tweed.camera_from_view.poll()
    with bpy.context.temp_override(area=None):
        assert not bpy.ops.tweed.camera_from_view.poll()


def test_extra_views_become_cameras_too(cube):
    """Of a cube seen from the front only, five sides are left: the job and the scene have the same views."""
    from bl_ext.tweeddev.tweed import scene
    from bl_ext.tweeddev.tweed.jobs.coverage import cameras_for
    from bl_ext.tweeddev.tweed.properties import full_values

    group = bpy.context.scene.tweed
    group.rig, group.views, group.extra_views = "ring", 2, 3
    group.rows.use_1 = False
    job = cameras_for(full_values(group), scene.export(bpy.context, [cube]).mesh)
    assert len(job) == 4
    bpy.ops.tweed.add_cameras()
    bpy.context.view_layer.update()
    found = scene.cameras(bpy.context)
    assert len(found) == 4
    for camera in job:
        assert any(np.allclose(camera.view, other.view, atol=1e-5) for other in found), camera.name
