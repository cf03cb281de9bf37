# SPDX-License-Identifier: Apache-2.0
"""How much of a surface the cameras see, against what geometry says; and no trace of it in the file."""

import time

import bpy
import numpy as np
import pytest
from snapshot import difference, scene_snapshot


@pytest.fixture
def measure():
    from bl_ext.tweeddev.tweed import coverage, scene
    from bl_ext.tweeddev.tweed.jobs.rigs import rig_at

    def run(angles, *objects):
        bpy.context.view_layer.update()
        mesh = scene.export(bpy.context, list(objects)).mesh
        return mesh, coverage.measure(mesh, rig_at(angles, mesh.positions))

    return run


def face_values(mesh, found):
    """Best cosine by the direction that a triangle faces."""
    corners = mesh.positions[mesh.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    axis = np.argmax(np.abs(normal), axis=1)
    sign = np.sign(normal[np.arange(len(normal)), axis])
    return {("xyz"[a], int(s)): value for a, s, value in zip(axis, sign, found.best, strict=True)}


def test_a_cube_from_one_side_two_sides_and_all_around(measure, cube):
    """Level cameras along the axes see whole faces and nothing of the others: shares are sixths."""
    mesh, found = measure([(0, 0)], cube)
    assert found.seen == pytest.approx(1 / 6, abs=0.01)
    values = face_values(mesh, found)
    assert values["y", -1] > 0.95 and all(v == 0 for key, v in values.items() if key != ("y", -1))
    assert measure([(0, 0), (90, 0)], cube)[1].seen == pytest.approx(2 / 6, abs=0.01)
    sides = [(0, 0), (90, 0), (180, 0), (270, 0)]
    assert measure([*sides, (0, 90), (0, -90)], cube)[1].seen == pytest.approx(1, abs=0.002)


def test_what_is_hidden_is_not_seen(measure, cube):
    """A wall before the cube, seen from the front only: its front, 4 x 4 of 2 x 16 + 24, and nothing of the cube."""
    bpy.ops.mesh.primitive_plane_add(size=4, location=(0, -3, 0), rotation=(np.pi / 2, 0, 0))
    wall = bpy.context.object
    wall.data.uv_layers[0].uv.foreach_set("vector", np.float32([0.9, 0.9, 1, 0.9, 1, 1, 0.9, 1]))
    mesh, found = measure([(0, 0)], cube, wall)
    assert found.seen == pytest.approx(16 / (16 + 24), abs=0.01)
    assert found.best[mesh.objects == 0].max() == 0 and found.best[mesh.objects == 1].min() > 0.9
    wall.location.y = 3
    assert measure([(0, 0)], cube, wall)[1].best[mesh.objects == 0].max() > 0.9


def test_a_sphere_from_the_front(measure):
    """A camera at distance d of a unit sphere sees a point under the angle a when the point is a - asin(sin a / d) from
    the axis (law of sines); the cap within t has the share (1 - cos t) / 2 of the area."""
    from bl_ext.tweeddev.tweed.jobs.rigs import rig_at

    bpy.ops.mesh.primitive_uv_sphere_add(segments=128, ring_count=64)
    mesh, found = measure([(0, 0)], bpy.context.object)
    distance = np.linalg.norm(np.linalg.inv(rig_at([(0, 0)], mesh.positions)[0].view)[:3, 3])
    for angle, share in ((75, found.seen), (45, found.well)):
        cap = np.radians(angle) - np.arcsin(np.sin(np.radians(angle)) / distance)
        assert share == pytest.approx((1 - np.cos(cap)) / 2, abs=0.006)


def test_a_million_triangles_take_seconds(measure):
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=700, y_subdivisions=700)
    from bl_ext.tweeddev.tweed import coverage, scene
    from bl_ext.tweeddev.tweed.jobs.rigs import build_rig

    mesh = scene.export(bpy.context, [bpy.context.object]).mesh
    cameras = build_rig("auto", 8, mesh.positions)
    begun = time.process_time()
    found = coverage.measure(mesh, cameras)
    print(f"COVERAGE {len(mesh.triangles)} triangles {time.process_time() - begun:.2f} s")
    assert found.seen == pytest.approx(1, abs=0.001), "a plane that the views from above see whole"
    assert time.process_time() - begun < 20


def test_the_operator_says_it_and_leaves_no_trace(cube, draw):
    from bl_ext.tweeddev.tweed import coverage_operators, subpanels

    group = bpy.context.scene.tweed
    group.views, group.rig = 1, "ring"
    before = scene_snapshot()
    assert not bpy.ops.tweed.coverage_hide.poll()
    assert bpy.ops.tweed.coverage() == {"FINISHED"}
    assert difference(before, scene_snapshot()) == []
    log = draw([subpanels.TWEED_PT_cameras])
    said = " ".join(str(text) for kind, text in log if kind == "label")
    share = float(said.split("1 view: ")[1].split("%")[0])
    assert share == pytest.approx(100 / 6, abs=0.3) and "by none" in said
    assert ("operator", "tweed.coverage_hide") in log
    bpy.ops.tweed.coverage_hide()
    assert coverage_operators.shown.words == "" and difference(before, scene_snapshot()) == []


def test_another_file_takes_it_away(cube):
    from bl_ext.tweeddev.tweed import coverage_operators

    bpy.ops.tweed.coverage()
    assert coverage_operators.shown.words
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    assert coverage_operators.shown.words == ""


def test_refusals_in_words(cube, unchanged):
    group = bpy.context.scene.tweed
    group.rig = "scene"
    bpy.data.objects["Camera"].data.tweed.use = False
    with unchanged("switched off"):
        bpy.ops.tweed.coverage(objects="Cube")
    bpy.ops.object.select_all(action="DESELECT")
    with unchanged("No mesh is selected"):
        bpy.ops.tweed.coverage()


def test_colours_run_from_red_to_green():
    from bl_ext.tweeddev.tweed import coverage

    none, steep, straight = coverage.colours(np.float32([0, 0.27, 1]))
    assert none[0] > 0.5 > none[1] and steep[0] > steep[1] and straight[1] > straight[0]
