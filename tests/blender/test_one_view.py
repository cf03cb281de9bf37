# SPDX-License-Identifier: Apache-2.0
"""Which view painted a spot, and one view's part done anew; the rest of the texture stays bit for bit."""

import shutil

import bpy
import numpy as np
import pytest
from mathutils import Vector
from conftest import job_record, last_job
from snapshot import difference, scene_snapshot
from test_edit import decode, jobs_folder, principled


def generate(**options):
    return bpy.ops.tweed.generate(
        **({"objects": "Cube", "prompt": "house", "texture_size": 64, "views": 4, "rig": "ring", "seed": 5} | options)
    )


def shown(obj):
    """The pixels u8 of the texture on the object, row 0 on top."""
    image = principled(obj.active_material.node_tree).inputs["Base Color"].links[0].from_node.image
    values = np.empty(image.size[0] * image.size[1] * 4, np.float32)
    image.pixels.foreach_get(values)
    return np.rint(values.reshape(image.size[1], image.size[0], 4)[::-1] * 255).astype(np.uint8)


def names():
    return [camera["name"] for camera in job_record(jobs_folder())["cameras"]]


def test_one_view_is_done_anew_in_its_own_part(cube):
    generate(avoid="snow", steps=7)
    first, views = last_job(jobs_folder()), names()
    before = shown(cube)
    assert bpy.ops.tweed.regenerate_view(objects="Cube", view=views[0], prompt="a door") == {"FINISHED"}
    again = last_job(jobs_folder())
    record = job_record(jobs_folder())
    assert again != first and [c["name"] for c in record["cameras"]] == [views[0]]
    assert record["cameras"][0]["prompt"] == "a door" and record["origin"]["views_of"] == first.name
    settings = record["settings"]
    assert (settings["prompt"], settings["avoid"], settings["steps"], settings["views"]) == ("house", "snow", 7, 1)
    assert (settings["start"], settings["region"], settings["strength"]) == ("texture", "mask", 1.0)
    assert settings["seed"] != 5, "a new one"
    mask = decode(again / "inputs/region.png")[..., 0]
    assert (mask[:, :32] == 255).all() and (mask[:, 32:] == 0).all(), "the fake engine gives view 1 the left half"
    assert np.array_equal(decode(again / "inputs/base_color.png"), before[..., :3])


def test_any_number_of_views_one_after_the_other(cube):
    generate()
    first, views = last_job(jobs_folder()), names()
    bpy.ops.tweed.regenerate_view(objects="Cube", view=views[0], seed=9)
    bpy.ops.tweed.regenerate_view(objects="Cube", view=views[3], seed=10, strength=0.5, feather=3)
    record = job_record(jobs_folder())
    assert record["origin"]["views_of"] == first.name and record["cameras"][0]["name"] == views[3]
    assert (record["settings"]["seed"], record["settings"]["strength"], record["settings"]["feather"]) == (10, 0.5, 3)
    assert (decode(last_job(jobs_folder()) / "inputs/region.png")[:, 32:] == 255).all()


def test_a_click_finds_the_view_by_the_uv_of_the_spot(cube):
    """Rays onto two spots of each face: the expected view follows from the face's UVs and the fake engine's map.

    The cube's faces are squares in space and in UV, so the same weights of the corners give a spot in both.
    """
    cube.matrix_world = cube.matrix_world.Translation((3, 1, -2)) @ cube.matrix_world.Rotation(0.4, 4, "X")
    bpy.context.view_layer.update()
    generate()
    views, group, sides = names(), bpy.context.scene.tweed, set()
    for polygon in cube.data.polygons:
        normal = cube.matrix_world.to_3x3() @ polygon.normal
        for weights in ((0.5, 0.2, 0.2, 0.1), (0.1, 0.2, 0.2, 0.5)):
            corners = list(zip(weights, polygon.loop_indices, polygon.vertices, strict=True))
            uv = sum((w * cube.data.uv_layers[0].uv[loop].vector for w, loop, _ in corners), Vector((0, 0)))
            spot = sum((w * cube.data.vertices[vertex].co for w, _, vertex in corners), Vector((0, 0, 0)))
            bpy.ops.tweed.pick_view(objects="Cube", origin=cube.matrix_world @ spot + 2 * normal, direction=-normal)
            assert abs(uv[0] - 0.5) > 0.01
            sides.add(uv[0] < 0.5)
            assert group.view == (views[0] if uv[0] < 0.5 else views[3])
    assert sides == {True, False}


def test_clicks_beside_and_on_others_are_said(cube, unchanged):
    generate()
    with unchanged("nothing under the click", "by name"):
        bpy.ops.tweed.pick_view(objects="Cube", origin=(50, 50, 50))
    bpy.ops.mesh.primitive_plane_add(location=(0, 0, 4))
    with unchanged("'Plane' is not part of this texture"):
        bpy.ops.tweed.pick_view(objects="Cube", origin=(0, 0, 9))


def test_refusals_in_words(cube, unchanged):
    with unchanged("no texture of Tweed's", "Generate one first"):
        bpy.ops.tweed.regenerate_view(objects="Cube", view="front")
    generate()
    views = names()
    with unchanged("no view named 'nowhere'", views[1]):
        bpy.ops.tweed.regenerate_view(objects="Cube", view="nowhere")
    with unchanged("No view is chosen"):
        bpy.ops.tweed.regenerate_view(objects="Cube")
    with unchanged(f"is by the view '{views[1]}'", "another view"):
        bpy.ops.tweed.regenerate_view(objects="Cube", view=views[1])
    (last_job(jobs_folder()) / "out/owner.png").unlink()
    with unchanged("not known which view"):
        bpy.ops.tweed.regenerate_view(objects="Cube", view=views[0])
    shutil.rmtree(last_job(jobs_folder()))
    with unchanged("not in", "any more"):
        bpy.ops.tweed.regenerate_view(objects="Cube", view=views[0])


def test_a_changed_mesh_is_refused(cube, unchanged):
    generate()
    views = names()
    cube.data.uv_layers[0].uv[0].vector.x = 0.7
    with unchanged("has changed since"):
        bpy.ops.tweed.regenerate_view(objects="Cube", view=views[0])


def test_the_view_and_its_words_are_chosen_in_the_panel(cube, draw):
    from bl_ext.tweeddev.tweed import one_view, subpanels

    def words():
        log = draw([subpanels.TWEED_PT_edit])
        return " ".join(str(text) for kind, text in log if kind == "label"), log

    assert "no texture of Tweed's" in words()[0]
    generate()
    said, log = words()
    assert log[log.index(("operator", "tweed.regenerate_view")) - 1] == ("enabled", False)
    assert "Choose a view" in said and ("prop", "view") in log and ("operator", "tweed.pick_view") in log
    assert one_view.offered(None, bpy.context, "") == names()
    assert one_view.offered(None, bpy.context, "BACK") == ["back"]
    group, views = bpy.context.scene.tweed, names()
    group.view, group.view_prompt, group.view_avoid = views[0], "a window", "glass"
    log = words()[1]
    assert log[log.index(("operator", "tweed.regenerate_view")) - 1] == ("enabled", True)
    bpy.ops.tweed.regenerate_view()
    camera = job_record(jobs_folder())["cameras"][0]
    assert (camera["name"], camera["prompt"], camera["avoid"]) == (views[0], "a window", "glass")
    assert one_view.offered(None, bpy.context, "") == views, "all views, also after one was done anew"


def test_the_panel_does_not_read_the_disk_at_every_redraw(cube, draw, monkeypatch):
    from bl_ext.tweeddev.tweed import ownership

    generate()
    ownership.names_now([cube], jobs_folder())
    monkeypatch.setattr(ownership, "read_cameras", lambda folder: pytest.fail("read again"))
    assert ownership.names_now([cube], jobs_folder())


def test_reading_the_map_leaves_no_image_behind(cube):
    from bl_ext.tweeddev.tweed import ownership

    generate()
    before = scene_snapshot()
    found = ownership.source([cube], jobs_folder())
    assert difference(before, scene_snapshot()) == []
    assert found.share(0) == found.share(3) == 0.5 and found.share(1) == 0


def test_the_result_can_be_reverted_to_what_was(cube):
    generate()
    texture = principled(cube.active_material.node_tree).inputs["Base Color"].links[0].from_node.image
    bpy.ops.tweed.regenerate_view(objects="Cube", view=names()[0])
    assert principled(cube.active_material.node_tree).inputs["Base Color"].links[0].from_node.image != texture
    bpy.ops.tweed.revert(objects="Cube")
    assert principled(cube.active_material.node_tree).inputs["Base Color"].links[0].from_node.image == texture


def test_a_real_view_done_anew_changes_only_what_it_owns(cube, real):
    """Texels of other views are equal bit for bit; of this view's most differ."""
    settings = {"view_size": 128, "steps": 4, "device": "cpu", "texture_size": 128, "rig": "ring"}
    generate(**settings, prompt="red bricks")
    first = last_job(jobs_folder())
    owner = decode(first / "out/owner.png")[..., 0]
    views, before = names(), shown(cube)
    assert set(np.unique(owner)) - {0} <= {1, 2, 3, 4} and len(np.unique(owner)) > 2
    index = int(np.argmax(np.bincount(owner.ravel())[1:]))
    bpy.ops.tweed.regenerate_view(objects="Cube", view=views[index], prompt="green moss", seed=3, feather=0)
    after = shown(cube)
    mine = owner == index + 1
    others = (owner > 0) & ~mine
    assert others.sum() > 1000 and np.array_equal(after[others], before[others])
    rim = (after != before).any(2) & (owner == 0)  # texels around a chart show its edge, and change with it
    beside = np.zeros_like(mine)
    for row in (-2, -1, 0, 1, 2):
        for column in (-2, -1, 0, 1, 2):
            beside |= np.roll(mine, (row, column), (0, 1))
    assert not (rim & ~beside).any()
    assert (after != before)[mine].any(1).mean() > 0.5
