# SPDX-License-Identifier: Apache-2.0
"""Textures of UDIM tiles, changed: their pixels arrive in the job as they are, wherever they are stored; and so do masks."""

import bpy
import numpy as np
import pytest
from conftest import job_record, last_job
from snapshot import difference, scene_snapshot
from test_edit import decode, jobs_folder, mesh_region, write_png16
from test_uv_tiles import SQUARE, awake, generate, shown, tiles, uv_edited, wall


def colours(*numbers, size=64, channels=4):
    """Random pixels u8 [64,64,4] by tile, row 0 on top."""
    return {n: np.random.default_rng(n).integers(0, 256, (size, size, channels), np.uint8) for n in numbers}


def write(pixels, path):
    """A PNG file of u8 [H,W,4] through Blender."""
    image = bpy.data.images.new("write", *pixels.shape[1::-1], alpha=True)
    image.pixels.foreach_set((pixels[::-1] / np.float32(255)).astype(np.float32).ravel())
    image.file_format, image.filepath_raw = "PNG", str(path)
    image.save()
    bpy.data.images.remove(image)


def tiled_image(folder, pixels, name="Skin", extension="png"):
    """An image of UDIM tiles from files."""
    for number, values in pixels.items():
        write(values, folder / f"{name}.{number}.{extension}")
    return from_files(folder, pixels, name, extension)


def from_files(folder, pixels, name="Skin", extension="png"):
    image = bpy.data.images.load(str(folder / f"{name}.{min(pixels)}.{extension}"))
    image.name, image.source, image.filepath = name, "TILED", str(folder / f"{name}.<UDIM>.{extension}")
    return image


def plug(obj, image, slot=0):
    """The image on the Base Color of a slot's material; a new one where there is none."""
    if not obj.material_slots:
        obj.data.materials.append(bpy.data.materials.new("Skin"))
    material = obj.material_slots[slot].material
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    tree = material.node_tree
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    tree.links.new(node.outputs["Color"], tree.nodes["Principled BSDF"].inputs["Base Color"])
    return node


def painted_over(image, value):
    """The first tile's first pixel in another colour, not saved."""
    values = np.empty(len(image.pixels), np.float32)
    image.pixels.foreach_get(values)
    values[:4] = value
    image.pixels.foreach_set(values)
    assert image.is_dirty


def given(kind="base_color"):
    """The input pictures of the last job of that kind, by tile."""
    inputs = job_record(jobs_folder())["inputs"]
    assert all(path == f"inputs/{name}.png" for name, path in inputs.items())
    return {name.partition(".")[2]: decode(last_job(jobs_folder()) / path) for name, path in inputs.items()
            if name.partition(".")[0] == kind}  # fmt: skip


def edit(**options):
    return generate(**({"start": "texture"} | options))


# ---- the texture as it is now


@pytest.mark.parametrize("stored", ["files", "packed", "painted over", "packed and painted over", "tokens"])
def test_every_tile_arrives_bit_for_bit_wherever_it_is_stored(tmp_path, stored):
    obj, pixels = wall((1, 0), (0, 1)), colours(1002, 1011, 1015)
    image = tiled_image(tmp_path, pixels)
    if stored == "tokens":
        for number, name in ((1002, "u2_v1"), (1011, "u1_v2"), (1015, "u5_v2")):
            write(pixels[number], tmp_path / f"Skin_{name}.png")
            (tmp_path / f"Skin.{number}.png").unlink()
        image.filepath = str(tmp_path / "Skin_<UVTILE>.png")
    if "packed" in stored:
        image.pack()
        for number in pixels:
            (tmp_path / f"Skin.{number}.png").unlink()
    if "painted over" in stored:
        painted_over(image, (1, 0, 0, 1))
        pixels[1002][-1, 0] = (255, 0, 0, 255)
    plug(obj, image)
    before, dirty = scene_snapshot(), image.is_dirty
    assert edit(texture_size=128) == {"FINISHED"}
    found = given()
    assert set(found) == {"1002", "1011"} and all(np.array_equal(found[str(n)], pixels[n]) for n in (1002, 1011))
    assert job_record(jobs_folder())["settings"]["texture_size"] == 64
    assert image.is_dirty == dirty and image.source == "TILED" and [n for n, _ in tiles(image)] == [1002, 1011, 1015]
    bpy.ops.tweed.revert(objects="Wall")
    assert difference(before["materials"], scene_snapshot()["materials"]) == [] and shown(obj).image == image


def test_tiles_that_never_were_files(tmp_path):
    """One painted over and one filled with a colour in the Image Editor, in an image that was never saved."""
    obj, pixels = wall((0, 0), (2, 0)), colours(1001)[1001]
    image = bpy.data.images.new("New", 64, 64, alpha=True, tiled=True)
    image.pixels.foreach_set((pixels[::-1] / np.float32(255)).astype(np.float32).ravel())
    fill(image, 1003, (0.2, 0.4, 0.6, 1))
    plug(obj, image)
    edit()
    found = given()
    assert np.array_equal(found["1001"], pixels) and (found["1003"] == (51, 102, 153)).all()
    assert image.is_dirty and not image.filepath and not image.packed_files


def fill(image, number, colour, size=64, **how):
    image.tiles.active = image.tiles.get(number) if number in [t.number for t in image.tiles] else image.tiles.new(number)
    with bpy.context.temp_override(edit_image=image):
        assert bpy.ops.image.tile_fill(color=colour, width=size, height=size, **how) == {"FINISHED"}


def test_a_stored_tile_that_was_filled_anew_is_the_new_one(tmp_path):
    """Blender does not call such an image dirty."""
    obj, pixels = wall((0, 0), (1, 0)), colours(1001, 1002)
    image = tiled_image(tmp_path, pixels)
    fill(image, 1002, (0.2, 0.4, 0.6, 1))
    plug(obj, image)
    edit()
    assert np.array_equal(given()["1001"], pixels[1001]) and (given()["1002"] == (51, 102, 153)).all()


def test_sixteen_bits_stay_sixteen_bits(tmp_path):
    obj, rng = wall((0, 0), (1, 0)), np.random.default_rng(3)
    pixels = {n: rng.integers(0, 65536, (64, 64, 3), np.uint16) for n in (1001, 1002)}
    for number, values in pixels.items():
        write_png16(tmp_path / f"Deep.{number}.png", values)
    image = from_files(tmp_path, pixels, "Deep")
    plug(obj, image)
    edit()
    for number in pixels:
        copied = last_job(jobs_folder()) / "inputs" / f"base_color.{number}.png"
        assert copied.read_bytes() == (tmp_path / f"Deep.{number}.png").read_bytes()
    bpy.ops.tweed.revert(objects="Wall")
    values = np.empty(len(image.pixels), np.float32)
    image.pixels.foreach_get(values)
    image.pixels.foreach_set(values)
    assert image.is_dirty and image.file_format == "PNG"
    edit(seed=2)
    assert image.is_dirty and image.file_format == "PNG"
    for number, values in given().items():
        assert values.dtype == np.uint16 and np.abs(values.astype(int) - pixels[int(number)]).max() <= 2


def test_a_plain_picture_repeats_and_becomes_tiles(tmp_path):
    obj, pixels = wall((1, 0), (0, 1)), colours(1001)[1001]
    write(pixels, tmp_path / "plain.png")
    plug(obj, bpy.data.images.load(str(tmp_path / "plain.png")))
    edit()
    found = given()
    assert np.array_equal(found["1002"], pixels) and np.array_equal(found["1011"], pixels) and len(found) == 2
    bpy.ops.tweed.revert(objects="Wall")
    edit(prompt="brick", uv_tiles="repeat", seed=2)
    assert set(given()) == {""}


def test_a_single_tile_becomes_a_plain_picture_of_that_tile(tmp_path):
    obj, pixels = wall((1, 0)), colours(1001, 1002)
    plug(obj, tiled_image(tmp_path, pixels))
    edit(prompt="brick")
    assert np.array_equal(given()[""], pixels[1002]) and len(given()) == 1


def test_tiles_that_do_not_serve_are_named(tmp_path, cold, unchanged):
    obj, pixels = wall((0, 0), (1, 0)), colours(1001, 1002)
    node = plug(obj, tiled_image(tmp_path, {1001: pixels[1001]}, "One"))
    with unchanged("tile 1002 of 'One', which does not exist", "set Start From to Nothing"):
        edit()
    node.image.tiles.new(1002)
    with unchanged("tile 1002 of 'One', which is empty"):
        edit()
    write(colours(1002, size=128)[1002], tmp_path / "Two.1002.png")
    node.image = tiled_image(tmp_path, {1001: pixels[1001]}, "Two")
    with unchanged("differ in size: 1001 is 64 x 64, 1002 is 128 x 128", "Scale them"):
        edit()
    node.image = tiled_image(tmp_path, pixels, "Three")
    with unchanged("as if one texture repeats", "UV Tiles"):
        edit(uv_tiles="repeat")
    node.image = tiled_image(tmp_path, pixels, "Four")
    painted_over(node.image, (0, 0, 0, 1))
    node.image.tiles.new(1003)
    with unchanged("'Four' cannot be copied: its tile 1003 is empty", "save"):
        edit()
    uv_edited(obj, SQUARE - 1, SQUARE - 1)
    with unchanged("as if one texture repeats"):
        edit()
    assert not awake()


def test_a_file_that_is_gone_is_named(tmp_path, unchanged):
    obj, pixels = wall((0, 0), (1, 0)), colours(1001, 1002)
    image = tiled_image(tmp_path, pixels)
    plug(obj, image)
    assert image.tiles[1].size[0] == 64 and image.is_dirty is False
    (tmp_path / "Skin.1002.png").write_text("no picture")
    if bpy.app.version >= (4, 3, 0):  # 4.2 copies what it has in memory
        with unchanged("tile 1002 of 'Skin' cannot be loaded", "Skin.1002.png"):
            edit()


# ---- the region


def test_a_new_mask_has_the_tiles_of_the_object_and_is_painted_on(tmp_path):
    obj = wall((0, 0), (1, 0))
    plug(obj, tiled_image(tmp_path, colours(1001, 1002)))
    bpy.context.view_layer.objects.active = obj
    obj.select_set(True)
    assert bpy.ops.tweed.mask_new(size=64) == {"FINISHED"}
    mask = bpy.data.images[bpy.context.scene.tweed.region_mask]
    assert mask.source == "TILED" and tiles(mask) == [(1001, (64, 64)), (1002, (64, 64))]
    assert bpy.context.scene.tool_settings.image_paint.canvas == mask
    bpy.ops.object.mode_set(mode="OBJECT")
    values = np.zeros((64, 64, 4), np.float32)
    values[..., 3], values[:32, :, :3] = 1, 1  # the lower half of tile 1001
    mask.pixels.foreach_set(values.ravel())
    edit(region="mask", region_mask=mask.name)
    found = {tile: pixels[..., 0] for tile, pixels in given("region").items()}
    assert (found["1001"][32:] == 255).all() and (found["1001"][:32] == 0).all() and (found["1002"] == 0).all()


def test_masks_of_other_kinds(tmp_path, unchanged):
    obj = wall((0, 0), (1, 0))
    plug(obj, tiled_image(tmp_path, colours(1001, 1002)))
    mask = tiled_image(tmp_path, {1002: np.full((32, 32, 4), 255, np.uint8)}, "Mask")
    edit(region="mask", region_mask="Mask")
    found = given("region")
    assert (found["1002"] == 255).all() and (found["1001"] == 0).all(), "nobody has painted in the tile that is not there"
    bpy.ops.tweed.revert(objects="Wall")
    bpy.data.images.new("Plain", 64, 64)
    with unchanged("'Plain' is a single picture", "1001, 1002", "New Mask"):
        edit(region="mask", region_mask="Plain")
    assert mask.source == "TILED"


def test_selected_faces_and_their_absence_among_the_painted_ones(tmp_path, unchanged):
    obj = wall((0, 0), (1, 0), materials=2)
    image = tiled_image(tmp_path, colours(1001, 1002))
    for slot in (0, 1):
        plug(obj, image, slot)
    obj.data.polygons.foreach_set("select", [False, True])
    edit(region="faces")
    assert mesh_region().sum() == 2 * 3 and set(given()) == {"1001", "1002"}
    bpy.ops.tweed.revert(objects="Wall")
    with unchanged("only faces of materials that are not painted"):
        edit(region="faces", slots="M0", prompt="brick")


def test_nothing_is_left_behind(tmp_path):
    """No image, no temporary folder."""
    import tempfile
    from pathlib import Path

    obj = wall((0, 0), (1, 0))
    image = tiled_image(tmp_path, colours(1001, 1002))
    painted_over(image, (1, 0, 0, 1))
    plug(obj, image)
    before = sorted(i.name for i in bpy.data.images), sorted(Path(tempfile.gettempdir()).glob("tweed-*"))
    edit()
    bpy.ops.tweed.revert(objects="Wall")
    made = {i.name for i in bpy.data.images} - set(before[0])
    assert all("Tweed" in name for name in made) and sorted(Path(tempfile.gettempdir()).glob("tweed-*")) == before[1]
