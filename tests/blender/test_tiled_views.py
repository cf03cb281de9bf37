# SPDX-License-Identifier: Apache-2.0
"""Textures of UDIM tiles and of some materials: edited, one view done anew, and reverted."""

import bpy
import numpy as np
import pytest
from conftest import job_record, last_job
from snapshot import difference
from test_edit import decode, jobs_folder
from test_tiled_edits import colours, edit, given, plug, write
from test_uv_tiles import SMALL, SQUARE, generate, shown, tiles, trees, uv_edited, wall


def owners():
    return sorted(path.name for path in (last_job(jobs_folder()) / "out").glob("owner*"))


def views():
    return [camera["name"] for camera in job_record(jobs_folder())["cameras"]]


def test_a_view_of_tiles_is_done_anew_and_everything_is_reverted():
    """The fake engine gives the left half of each tile to the first view and the right half to the last."""
    obj = wall((1, 0), (0, 1), materials=1)
    states, images = [trees()], []
    generate(views=4, rig="ring")
    assert owners() == ["owner.1002.png", "owner.1011.png"]
    first, names = last_job(jobs_folder()), views()
    states.append(trees())
    images.append(shown(obj).image)
    edit(views=4, rig="ring", seed=3)
    second = last_job(jobs_folder())
    states.append(trees())
    images.append(shown(obj).image)
    assert bpy.ops.tweed.regenerate_view(objects="Wall", view=names[0], prompt="a door") == {"FINISHED"}
    record = job_record(jobs_folder())
    assert record["origin"]["views_of"] == second.name != first.name and [c["name"] for c in record["cameras"]] == [names[0]]
    for tile, mask in given("region").items():
        assert tile in ("1002", "1011") and (mask[:, :32] == 255).all() and (mask[:, 32:] == 0).all()
    assert set(given("region")) == {"1002", "1011"} == set(given())
    assert tiles(shown(obj).image) == [(1002, (64, 64)), (1011, (64, 64))]
    bpy.ops.tweed.regenerate_view(objects="Wall", view=names[-1])
    assert job_record(jobs_folder())["origin"]["views_of"] == second.name
    bpy.ops.tweed.revert(objects="Wall")
    for state, image in zip(reversed(states), [*reversed(images), None], strict=True):
        bpy.ops.tweed.revert(objects="Wall")
        assert difference(state, trees()) == []
        assert (shown(obj).image if shown(obj) else None) == image


def test_a_single_tile_stays_a_tile(draw):
    from bl_ext.tweeddev.tweed import subpanels

    obj, how = wall((1, 0), materials=1), {"uv_tiles": "udim", "prompt": "brick fake:tiles:1002", "views": 4, "rig": "ring"}
    generate(**how)
    assert edit(**how) == {"FINISHED"} and set(given()) == {"1002"} and owners() == ["owner.1002.png"]
    obj.select_set(True)
    bpy.context.view_layer.objects.active = obj
    assert ("operator", "tweed.regenerate_view") in draw([subpanels.TWEED_PT_edit])
    assert bpy.ops.tweed.regenerate_view(objects="Wall", view=views()[0]) == {"FINISHED"}
    assert set(given("region")) == {"1002"} == set(given()) and tiles(shown(obj).image) == [(1002, (64, 64))]


def test_a_click_finds_the_view_through_the_right_tile(unchanged):
    """In the map of tile 1011 the halves change sides, so that the tile matters."""
    obj = wall((1, 0), (0, 1))
    bpy.data.objects.remove(bpy.data.objects["Cube"])  # it is in the way
    generate(views=4, rig="ring")
    names, group = views(), bpy.context.scene.tweed
    path = last_job(jobs_folder()) / "out" / "owner.1011.png"
    write(np.repeat(decode_grey(path)[:, ::-1, None], 4, 2) | np.uint8([0, 0, 0, 255]), path)
    for x, u in ((0.25, 1), (0.75, 4), (1.25, 4), (1.75, 1)):
        bpy.ops.tweed.pick_view(objects="Wall", origin=(x, -2, 0.5), direction=(0, 1, 0))
        assert group.view == names[u - 1], x
    uv_edited(obj, SQUARE + [2, 0], SQUARE)
    with unchanged("No view saw this spot"):
        bpy.ops.tweed.pick_view(objects="Wall", origin=(0.25, -2, 0.5), direction=(0, 1, 0))


def decode_grey(path):
    """A PNG of the fake engine (no filter), by Blender."""
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    values = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], -1)[::-1, :, 0]
    bpy.data.images.remove(image)
    return np.rint(values * 255).astype(np.uint8)


def test_a_tile_without_its_map_is_named(unchanged):
    wall((1, 0), (0, 1))
    generate()
    (last_job(jobs_folder()) / "out" / "owner.1011.png").unlink()
    with unchanged("not known which view", "owner.1011.png", "Generate the texture again"):
        bpy.ops.tweed.regenerate_view(objects="Wall", view=views()[0])


# ---- some materials


def test_the_texture_of_the_painted_material_alone_is_started_from(tmp_path):
    obj, pixels = wall((0, 0), (0, 0), materials=2), colours(1001)[1001]
    write(pixels, tmp_path / "plain.png")
    plug(obj, bpy.data.images.load(str(tmp_path / "plain.png")), 1)
    before = trees()
    edit(prompt="brick", slots="M1")
    assert set(given()) == {""} and np.array_equal(given()[""], pixels)
    assert shown(obj, 0) is None and job_record(jobs_folder())["objects"][0]["paint"] == [1]
    bpy.ops.tweed.revert(objects="Wall")
    assert difference(before, trees()) == []


def test_different_images_are_refused_unless_one_is_chosen(tmp_path, unchanged):
    obj = wall((0, 0), (0, 0), materials=2)
    for slot, (number, values) in enumerate(colours(1, 2).items()):
        write(values, tmp_path / f"plain{number}.png")
        plug(obj, bpy.data.images.load(str(tmp_path / f"plain{number}.png")), slot)
    with unchanged("different images: 'plain1.png' and 'plain2.png'", "one by one"):
        edit(prompt="brick")
    assert edit(prompt="brick", slots="M0") == {"FINISHED"}


def test_a_view_of_one_material_is_done_anew(unchanged):
    obj = wall((0, 0), (0, 0), materials=2)
    bpy.data.objects.remove(bpy.data.objects["Cube"])  # it is in the way
    before = trees()
    generate("brick", slots="M0", views=4, rig="ring")
    names, group = views(), bpy.context.scene.tweed
    assert owners() == ["owner.png"]
    bpy.ops.tweed.pick_view(objects="Wall", origin=(0.25, -2, 0.5), direction=(0, 1, 0))
    assert group.view == names[0]
    with unchanged("material of the object is not part"):
        bpy.ops.tweed.pick_view(objects="Wall", origin=(1.25, -2, 0.5), direction=(0, 1, 0))
    assert bpy.ops.tweed.regenerate_view(objects="Wall", view=names[0]) == {"FINISHED"}
    record = job_record(jobs_folder())
    assert record["settings"]["slots"] == "M0" and record["objects"][0]["paint"] == [0]
    assert set(given("region")) == {""} == set(given()) and shown(obj, 1) is None
    for _ in range(2):
        bpy.ops.tweed.revert(objects="Wall")
    assert difference(before, trees()) == []


def test_of_two_materials_with_a_texture_each_the_chosen_one_is_meant(unchanged):
    wall((0, 0), (0, 0), materials=2)
    generate("brick", slots="M0", views=4, rig="ring")
    first = last_job(jobs_folder())
    generate("brick", slots="M1", views=4, rig="ring", seed=2)
    with unchanged("textures of different jobs", "choose the materials"):
        bpy.ops.tweed.regenerate_view(objects="Wall", view=views()[0])
    bpy.context.scene.tweed.slots = "M0"
    assert bpy.ops.tweed.regenerate_view(objects="Wall", view=views()[0]) == {"FINISHED"}
    record = job_record(jobs_folder())
    assert record["origin"]["views_of"] == first.name and record["settings"]["slots"] == "M0"


# ---- with the real engine


def pixels_of(image, tmp_path):
    """u8 [T,T,4] of each tile of a packed or stored image, by number, row 0 on top; of a plain picture by 0."""
    if image.source != "TILED":
        values = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], 4)[::-1]
        return {0: np.rint(values * 255).astype(np.uint8)}
    found = {}
    for packed in image.packed_files:
        path = tmp_path / f"{image.name}.{packed.tile_number}.png"
        path.write_bytes(packed.packed_file.data)
        single = bpy.data.images.load(str(path))
        found[packed.tile_number] = pixels_of(single, tmp_path)[0]
        bpy.data.images.remove(single)
    return found


def near(chosen, steps=2):
    """Texels at most so far from chosen ones: charts have a border that shows their edge."""
    found = chosen.copy()
    for row in range(-steps, steps + 1):
        for column in range(-steps, steps + 1):
            found |= np.roll(chosen, (row, column), (0, 1))
    return found


REAL = SMALL | {"view_size": 128}


@pytest.mark.parametrize("kind", ["tiles", "slots"])
def test_a_real_texture_is_edited_and_a_view_done_anew(real, tmp_path, kind):
    """Selected faces first: what is not theirs comes back bit for bit. Then one view: what others painted does."""
    obj = wall((1, 0), (0, 1), (1, 0), materials=2) if kind == "tiles" else wall((0, 0), (0, 0), (0, 0), materials=2)
    if kind == "tiles":  # three quads: 0 and 2 share tile 1002, each a half of it
        uv_edited(obj, SQUARE * [0.5, 1] + [1, 0], SQUARE + [0, 1], SQUARE * [0.5, 1] + [1.5, 0])
        obj.data.polygons.foreach_set("material_index", [0, 0, 0])
    else:  # quads 0 and 2 are of the painted material, 1 lies over both in the UV map
        uv_edited(obj, SQUARE * [0.5, 1], SQUARE, SQUARE * [0.5, 1] + [0.5, 0])
        obj.data.polygons.foreach_set("material_index", [0, 1, 0])
    slots = {"slots": "M0"} if kind == "slots" else {}
    states = [trees()]
    assert generate(**REAL, **slots) == {"FINISHED"}
    states.append(trees())
    before = pixels_of(shown(obj).image, tmp_path)
    number = 1002 if kind == "tiles" else 0
    assert set(before) == ({1002, 1011} if kind == "tiles" else {0})
    obj.data.polygons.foreach_set("select", [True, False, False])
    obj.data.update()
    assert edit(**REAL | {"prompt": "green moss", "seed": 7}, **slots, region="faces", feather=0, strength=0.9) == {"FINISHED"}
    states.append(trees())
    after = pixels_of(shown(obj).image, tmp_path)
    left = np.zeros((80, 80), bool)
    left[8:72, 4:36] = True  # quad 0 of 80 texels: u 0.05..0.45, v 0.1..0.9
    assert np.array_equal(after[number][~near(left)], before[number][~near(left)])
    assert (after[number] != before[number])[left].any(1).mean() > 0.8
    assert kind == "slots" or np.array_equal(after[1011], before[1011])
    job, names = last_job(jobs_folder()), views()
    maps = {n: decode(job / "out" / (f"owner.{n}.png" if n else "owner.png"))[..., 0] for n in after}
    counts = sum(np.bincount(owner.ravel(), minlength=len(names) + 1) for owner in maps.values())
    index = int(np.argmax(counts[1:]))
    before = after
    assert bpy.ops.tweed.regenerate_view(objects="Wall", view=names[index], prompt="red rust", seed=3, feather=0) == {"FINISHED"}
    after, changed = pixels_of(shown(obj).image, tmp_path), 0
    for n, owner in maps.items():
        mine = owner == index + 1
        assert np.array_equal(after[n][~near(mine)], before[n][~near(mine)])
        others = (owner > 0) & ~mine
        assert np.array_equal(after[n][others], before[n][others])
        changed += np.count_nonzero((after[n] != before[n])[mine].any(1))
    assert changed > 0.5 * counts[index + 1]
    for state in reversed(states):
        bpy.ops.tweed.revert(objects="Wall")
        assert difference(state, trees()) == []
    assert shown(obj) is None
