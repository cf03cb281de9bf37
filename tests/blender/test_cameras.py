# SPDX-License-Identifier: Apache-2.0
"""The rig as cameras of the scene: they see the same, can be switched off, and have words of their own."""

import bpy
import numpy as np
import pytest


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
