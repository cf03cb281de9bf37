# SPDX-License-Identifier: Apache-2.0
"""Several objects in one job: a texture for all, or one for each, each on its own object and nowhere else."""

import json

import bpy
import numpy as np
import pytest
from conftest import job_record, last_job
from snapshot import difference, scene_snapshot
from test_edit import jobs_folder
from test_uv_tiles import COLOURS, SMALL, SQUARE, exported, generate, shown, tiles, trees, uv_edited, wall


def cubes(names=("A", "B"), shared=False):
    """Cubes side by side, each unwrapped for itself; shared: of one mesh."""
    found = []
    for x, name in enumerate(names):
        bpy.ops.mesh.primitive_cube_add(location=(3 * x, 0, 0))
        obj = bpy.context.object
        obj.name = name
        if shared and found:
            obj.data = found[0].data
        found.append(obj)
    return found


def paint(prompt="brick", objects="A, B", **options):
    return generate(prompt, objects=objects, **options)


def colours(*objects):
    """The mean colour in 0..255 of the image that each object shows."""
    found = []
    for obj in objects:
        image = shown(obj).image
        found.append(np.array(image.pixels[:]).reshape(-1, 4)[:, :3].mean(0) * 255)
    return np.array(found)


def number(obj):
    """The set of textures in the job's record of an object."""
    return {one["name"]: one.get("texture") for one in job_record(jobs_folder())["objects"]}[obj.name]


@pytest.mark.parametrize("saved", [True, False])
def test_objects_with_the_same_uvs_get_a_texture_each_also_after_a_reload(tmp_path, saved):
    one, other = cubes()
    path = str(tmp_path / "two.blend")
    if saved:
        bpy.ops.wm.save_as_mainfile(filepath=path)
    assert paint() == {"FINISHED"} and (number(one), number(other)) == (1, 2)
    np.testing.assert_allclose(colours(one, other), COLOURS[:2], atol=1)
    job = last_job(jobs_folder()).name[-6:]
    assert [shown(obj).image.name for obj in (one, other)] == [f"A Tweed {job}", f"B Tweed {job}"]
    files = sorted(p.name for p in (tmp_path / "textures").glob("*"))
    assert files == ([f"A_Tweed_{job}.png", f"B_Tweed_{job}.png"] if saved else [])
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.open_mainfile(filepath=path)
    np.testing.assert_allclose(colours(bpy.data.objects["A"], bpy.data.objects["B"]), COLOURS[:2], atol=1)


def test_the_result_names_every_image():
    from bl_ext.tweeddev.tweed import api

    cubes()
    result = api.texture(["A", "B"], "brick", texture_size=64, seed=0)
    assert [name.split(" Tweed ")[0] for name in result.images] == ["A", "B"] and len(result.materials) == 2
    assert "2 textures, one for each object, since their UVs overlap." in " ".join(result.remarks)


def test_auto_shares_a_texture_where_the_uvs_lie_side_by_side_and_each_does_not():
    one, other = wall((0, 0), name="A"), wall((0, 0), name="B")
    uv_edited(one, SQUARE / 2)
    uv_edited(other, SQUARE / 2 + 0.5)
    assert "texture" not in exported(one, other).records[0] and exported(one, other).remarks == []
    assert [record.get("texture") for record in exported(one, other, atlas="each").records] == [1, 2]
    assert "texture" not in exported(one, atlas="each").records[0]
    assert paint() == {"FINISHED"} and shown(one).image == shown(other).image
    assert paint(atlas="each") == {"FINISHED"} and shown(one).image != shown(other).image


def test_revert_and_compare_of_one_leave_the_other_alone():
    """Both have one material: each is given a copy, so neither ever shows the other's texture."""
    one, other = cubes()
    material = bpy.data.materials.new("Both")
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    for obj in (one, other):
        obj.data.materials.append(material)
    before, kept = trees(), material.use_fake_user
    assert paint() == {"FINISHED"}
    assert len({material, one.material_slots[0].material, other.material_slots[0].material}) == 3
    assert shown_by(material) is None
    textured = shown(other).image
    assert bpy.ops.tweed.revert(objects="A") == {"FINISHED"}
    assert one.material_slots[0].material == material and shown(one) is None and shown(other).image == textured
    assert bpy.ops.tweed.compare(objects="B") == {"FINISHED"} and shown(other) is None
    assert bpy.ops.tweed.compare(objects="B") == {"FINISHED"} and shown(other).image == textured
    assert bpy.ops.tweed.revert(objects="B") == {"FINISHED"}
    assert other.material_slots[0].material == material and material.use_fake_user == kept
    assert difference(before, trees()) == []


def shown_by(material):
    return next((n for n in material.node_tree.nodes if n.bl_idname == "ShaderNodeTexImage"), None)


@pytest.mark.parametrize("slots", [0, 1])
def test_objects_of_one_mesh_get_a_texture_each_in_slots_of_their_own(slots):
    one, other = cubes(shared=True)
    third = bpy.data.objects.new("Third", one.data)
    bpy.context.scene.collection.objects.link(third)
    if slots:
        one.data.materials.append(bpy.data.materials.new("Shared"))
    else:
        one.data.materials.clear()
    before = scene_snapshot()
    for _ in range(2):
        assert paint() == {"FINISHED"} and (number(one), number(other)) == (1, 2)
        np.testing.assert_allclose(colours(one, other), COLOURS[:2], atol=1)
        assert [obj.material_slots[0].link for obj in (one, other, third)] == ["OBJECT", "OBJECT", "DATA"]
        assert third.material_slots[0].material == (bpy.data.materials["Shared"] if slots else None)
    for name in ("A", "B", "B", "A"):
        assert bpy.ops.tweed.revert(objects=name) == {"FINISHED"}
    assert [len(obj.material_slots) for obj in (one, other, third)] == [slots] * 3
    assert difference(before["objects"], scene_snapshot()["objects"]) == []


def test_udim_tiles_of_two_objects():
    one, other = wall((0, 0), (1, 0), name="A"), wall((0, 0), name="B")
    assert exported(one, other).remarks[0].startswith("2 textures, one for each object")
    assert "2 UDIM tiles: 1001, 1002." in exported(one, other).remarks
    assert paint("brick fake:tiles:set1.1001,set1.1002,set2") == {"FINISHED"}
    assert tiles(shown(one).image) == [(1001, (64, 64)), (1002, (64, 64))] and shown(other).image.source == "FILE"
    np.testing.assert_allclose(colours(other)[0], COLOURS[2], atol=1)


def test_some_materials_of_two_objects_and_one_that_has_none_of_them():
    one, other, third = wall((0, 0), (0, 0), name="A", materials=2), wall((0, 0), name="B"), wall((0, 0), name="C")
    other.data.materials.append(bpy.data.materials["M1"])
    third.data.materials.append(bpy.data.materials["M0"])
    records = exported(one, other, third, slots="M1").records
    assert [(record["paint"], record.get("texture")) for record in records] == [([1], 1), ([0], 2), ([], None)]
    assert "texture" not in exported(one, third, slots="M1").records[0], "only one of them is painted"
    assert paint(objects="A, B, C", slots="M1") == {"FINISHED"}
    np.testing.assert_allclose([colours_of(one, 1), colours_of(other, 0)], COLOURS[:2], atol=1)
    assert shown(one, 0) is None and shown(third) is None


def colours_of(obj, slot):
    return np.array(shown(obj, slot).image.pixels[:]).reshape(-1, 4)[:, :3].mean(0) * 255


@pytest.mark.parametrize(("told", "words"), [
    ("fake:tiles:set1", "has not the textures"), ("fake:tiles:set1,set2,set3", "has not the textures"),
    ("fake:tiles:set1,1001", "do not go together"), ("fake:tiles:set1,set2,set2.1001", "do not go together"),
    ("fake:tiles:set1,set0", "'set0'"), ("fake:tiles:set1,set2 fake:wrongsize", "32 x 32"),
    ("fake:tiles:set1,set2 fake:cut", "cut off"),
])  # fmt: skip
def test_every_texture_is_checked_before_anything_changes(unchanged, told, words):
    one, other = cubes()
    for obj in (one, other):
        obj.data.materials.append(bpy.data.materials.new(obj.name))
    with unchanged(words):
        paint(f"brick {told}")


def test_records_that_make_no_sense_put_nothing_on_an_object(unchanged):
    cubes()
    paint("brick")
    bpy.ops.tweed.revert(objects="A, B")
    folder = last_job(jobs_folder())
    record = json.loads((folder / "job.json").read_text("utf-8"))
    for wrong in (0, 3, "1", [1]):
        record["objects"][0]["texture"] = wrong
        (folder / "job.json").write_text(json.dumps(record))
        with unchanged("has not the textures"):
            bpy.ops.tweed.apply_result(job=str(folder))
    record["objects"][0]["texture"] = 1
    (folder / "job.json").write_text(json.dumps(record))
    assert bpy.ops.tweed.apply_result(job=str(folder)) == {"FINISHED"}
    np.testing.assert_allclose(colours(*(bpy.data.objects[name] for name in "AB")), COLOURS[:2], atol=1)


def test_too_many_textures_are_refused(unchanged):
    first = wall((0, 0), name="W0")
    for index in range(1, 65):
        bpy.context.scene.collection.objects.link(bpy.data.objects.new(f"W{index}", first.data))
    with unchanged("would get 65 textures; at most 64"):
        paint(objects=", ".join(f"W{index}" for index in range(65)))


def test_each_object_starts_from_its_own_image_and_a_mask_counts_for_all():
    one, other = cubes()
    assert paint() == {"FINISHED"}
    bpy.data.images.new("Mask", 8, 8)
    assert paint(start="texture", region="mask", region_mask="Mask") == {"FINISHED"}
    inputs = last_job(jobs_folder()) / "inputs"
    assert sorted(p.stem for p in inputs.iterdir()) == ["base_color.set1", "base_color.set2", "region.set1", "region.set2"]
    for place, file in enumerate(("base_color.set1.png", "base_color.set2.png")):
        image = bpy.data.images.load(str(inputs / file))
        np.testing.assert_allclose(np.array(image.pixels[:3]) * 255, COLOURS[place], atol=1)


def test_textures_to_start_from_have_one_size(unchanged):
    one, other = cubes()
    paint()
    shown(other).image.scale(128, 128)
    with unchanged("differ in size", "64", "128", "one by one"):
        paint(start="texture")


def test_one_view_is_done_anew_on_the_object_that_was_clicked():
    from bl_ext.tweeddev.tweed import ownership

    one, other = cubes()
    paint()
    found = ownership.source([one, other], jobs_folder())
    assert set(found.owners) == {"set1", "set2"}
    first, last = found.cameras[0].name, found.cameras[-1].name
    assert found.at(0.2, 0.5, 1).name == found.at(0.2, 0.5, 2).name == first and found.at(0.7, 0.5, 2).name == last
    found.owners["set2"][:] = 2
    assert found.at(0.2, 0.5, 1).name == first and found.at(0.2, 0.5, 2).name == found.cameras[1].name
    assert found.at(0.2, 0.5) is None
    assert bpy.ops.tweed.pick_view(objects="A, B", origin=(3, -9, 0), direction=(0, 1, 0)) == {"FINISHED"}
    assert bpy.ops.tweed.regenerate_view(objects="A, B", view=first, prompt="moss") == {"FINISHED"}
    names = {path.stem for path in (last_job(jobs_folder()) / "inputs").iterdir()}
    assert names == {"base_color.set1", "base_color.set2", "region.set1", "region.set2"}


def test_a_view_is_not_done_anew_where_one_object_has_lost_its_texture(unchanged):
    one, other = cubes()
    paint()
    bpy.ops.tweed.revert(objects="B")
    view = job_record(jobs_folder())["cameras"][0]["name"]
    with unchanged("'B' does not show this texture any more", "history"):
        bpy.ops.tweed.regenerate_view(objects="A", view=view)


def test_undo_and_redo_take_all_textures_together():
    one, other = cubes()
    bpy.ops.ed.undo_push(message="before")
    assert paint() == {"FINISHED"}
    bpy.ops.ed.undo()
    assert not bpy.data.objects["A"].material_slots and not bpy.data.objects["B"].material_slots
    bpy.ops.ed.redo()
    np.testing.assert_allclose(colours(bpy.data.objects["A"], bpy.data.objects["B"]), COLOURS[:2], atol=1)


def test_the_panel_counts_the_textures(draw, monkeypatch):
    from bl_ext.tweeddev.tweed import panels, subpanels, tile_count
    from bl_ext.tweeddev.tweed.jobs.settings import resolve

    one, other = cubes()
    apart = wall((0, 0), (3, 0), name="Apart")
    group = bpy.context.scene.tweed
    group.prompt = "brick"

    def counted(*objects, **settings):
        return tile_count.names(objects, resolve({"prompt": "x", **settings}))

    assert counted(one, other) == ("set1", "set2") and counted(one, other, atlas="one") == ("",)
    assert counted(one, apart) == ("set1", "set2.1001", "set2.1004")
    uv_edited(apart, SQUARE + [5, 0], SQUARE + [3, 0])
    apart.data.update()
    bpy.context.view_layer.update()
    assert counted(one, apart) == ("1001", "1004", "1006") and counted(one, atlas="each") == ("",)
    assert counted(one, apart, atlas="each") == ("set1", "set2.1004", "set2.1006")
    monkeypatch.setattr(tile_count, "_cover", None)
    for obj in bpy.context.scene.objects:
        obj.select_set(obj in (one, other))
    assert any("2 × " in str(text) for _, text in draw(panels.CLASSES)), "and nothing is measured again"
    assert ("prop", "atlas") in draw(subpanels.CLASSES)
    group.atlas = "one"
    assert not any("2 × " in str(text) for _, text in draw(panels.CLASSES))


def test_the_real_engine_paints_each_object_its_own_texture(real):
    from bl_ext.tweeddev.tweed import api

    one, other = cubes()
    result = api.texture([one, other], **SMALL)
    assert len(result.images) == 2 and result.report["textures"] == 2
    first, second = (np.array(bpy.data.images[name].pixels[:]).reshape(80, 80, 4)[..., :3] for name in result.images)
    assert shown(one).image.name == result.images[0] and shown(other).image.name == result.images[1]
    assert np.abs(first - second).mean() > 0.005 and first.std() > 0.01 and second.std() > 0.01
    name = json.loads((result.folder / "job.json").read_text("utf-8"))["cameras"][0]["name"]  # the front: both are seen
    assert bpy.ops.tweed.regenerate_view(objects="A, B", view=name, prompt="gold") == {"FINISHED"}
    for place, (obj, before) in enumerate(((one, first), (other, second))):
        owner = bpy.data.images.load(str(result.folder / "out" / f"owner.set{place + 1}.png"))
        owner.colorspace_settings.name = "Non-Color"
        mine = np.rint(np.array(owner.pixels[:]).reshape(80, 80, 4)[..., 0] * 255) == 1
        changed = (np.array(shown(obj).image.pixels[:]).reshape(80, 80, 4)[..., :3] != before).any(2)
        assert mine.any() and changed[mine].any() and not changed[~mine].any()
    bpy.ops.tweed.revert(objects="A, B")
    bpy.data.images.new("Mask", 8, 8)  # black but for one corner of the square
    values = np.zeros((8, 8, 4), np.float32)
    values[..., 3], values[:4, :4] = 1, 1
    bpy.data.images["Mask"].pixels.foreach_set(values.ravel())
    again = api.texture([one, other], **SMALL | {"prompt": "green moss"}, start="texture", region="mask", region_mask="Mask")
    for before, name in zip((first, second), again.images, strict=True):
        after = np.array(bpy.data.images[name].pixels[:]).reshape(80, 80, 4)[..., :3]
        changed = (after != before).any(2)
        assert changed[:30, :30].any() and not changed[46:].any() and not changed[:, 46:].any()
