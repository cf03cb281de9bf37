# SPDX-License-Identifier: Apache-2.0
"""What the artist does while the engine works: rename, edit, delete, undo, save, open another file. Nothing is lost."""

import bpy
import pytest
from snapshot import difference, scene_snapshot


@pytest.fixture
def started(pump):
    """A job on the cube, started as by a click, and a function that lets it finish."""
    from bl_ext.tweeddev.tweed import session

    def start(prompt="x fake:slow"):
        bpy.ops.tweed.generate(prompt=prompt, texture_size=64, quality="draft", objects="Cube")
        pump.turn(until=lambda: session.running().phase == "load")

    def finish():
        pump.turn()
        return session.now.outcome

    return start, finish


def textured(obj) -> bool:
    return any(n.bl_idname == "ShaderNodeTexImage" for n in obj.active_material.node_tree.nodes)


def kept(outcome, *words):
    assert outcome.kind == "kept"
    for word in words:
        assert word in outcome.message + outcome.action
    assert (outcome.folder / "out" / "texture.png").is_file()


def test_deleted_and_brought_back(started, cube):
    start, finish = started
    bpy.ops.ed.undo_push(message="before")
    start()
    bpy.data.objects.remove(cube)
    bpy.ops.ed.undo_push(message="deleted")
    before = scene_snapshot()
    kept(finish(), "'Cube' is not in the file any more", "Undo its deletion")
    assert difference(before, scene_snapshot()) == []
    bpy.ops.ed.undo()
    assert bpy.ops.tweed.apply_result() == {"FINISHED"}
    assert textured(bpy.data.objects["Cube"])


def test_uv_map_edited(started, cube):
    start, finish = started
    start()
    cube.data.uv_layers[0].uv[0].vector.x += 0.01
    before = scene_snapshot()
    kept(finish(), "UV map 'UVMap' of 'Cube' has changed", "Undo that change")
    assert difference(before, scene_snapshot()) == []


def test_mesh_edited(started, cube):
    start, finish = started
    start()
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.mesh.subdivide()
    before = scene_snapshot()
    kept(finish(), "mesh or the UV map")
    assert difference(before, scene_snapshot()) == []
    assert bpy.context.mode == "EDIT_MESH"


def test_uv_map_removed(started, cube):
    start, finish = started
    start()
    cube.data.uv_layers.remove(cube.data.uv_layers[0])
    before = scene_snapshot()
    kept(finish(), "has no UV map")
    assert difference(before, scene_snapshot()) == []


def test_renamed_object_gets_its_texture(started, cube):
    start, finish = started
    start()
    cube.name = "Rock"
    other = bpy.data.objects.new("Cube", cube.data.copy())
    bpy.context.scene.collection.objects.link(other)
    outcome = finish()
    assert outcome.kind == "done"
    assert "'Cube' is called 'Rock' now" in " ".join(outcome.remarks)
    assert textured(cube)
    assert other.active_material != cube.active_material, "the other object keeps its look"
    assert not textured(other)


def test_moved_object_is_still_the_same(started, cube):
    start, finish = started
    start()
    cube.location.x = 10
    cube.data.vertices[0].co.x -= 0.1
    assert finish().kind == "done"


def test_undo_while_running(started, cube):
    start, finish = started
    bpy.ops.ed.undo_push(message="before")
    cube.location.x = 10
    bpy.ops.ed.undo_push(message="moved")
    start()
    bpy.ops.ed.undo()
    assert finish().kind == "done"
    assert textured(bpy.data.objects["Cube"])


def test_other_file_opened(started):
    start, finish = started
    start()
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    before = scene_snapshot()
    kept(finish(), "another file is open now", "press Apply")
    assert difference(before, scene_snapshot()) == []
    assert bpy.ops.tweed.apply_result() == {"FINISHED"}, "the artist may still say that it is the same"


def test_file_closed_and_reopened(started, tmp_path):
    start, finish = started
    path = str(tmp_path / "hero.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    start()
    bpy.ops.wm.open_mainfile(filepath=path)
    assert finish().kind == "done"
    assert textured(bpy.data.objects["Cube"])


def test_apply_from_the_job_folder_in_a_new_session(started, tmp_path):
    from bl_ext.tweeddev.tweed import session

    start, finish = started
    path = str(tmp_path / "hero.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    start()
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    folder = finish().folder
    session.now.outcome = None
    bpy.ops.wm.open_mainfile(filepath=path)
    assert bpy.ops.tweed.apply_result(job=str(folder)) == {"FINISHED"}
    assert textured(bpy.data.objects["Cube"])


def test_apply_a_folder_that_is_no_job(unchanged, tmp_path):
    with unchanged("job.json"):
        bpy.ops.tweed.apply_result(job=str(tmp_path))
