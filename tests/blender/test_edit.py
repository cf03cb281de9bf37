# SPDX-License-Identifier: Apache-2.0
"""The object's own texture and the chosen region go into the job as they are, and nothing of the artist's changes."""

import struct
import zlib
from pathlib import Path

import bpy
import numpy as np
import pytest
from conftest import job_record, last_job

EDIT = {"objects": "Cube", "prompt": "red bricks", "start": "texture"}


def paint(obj, name="Skin", size=64, alpha=1.0, seed=1, **image_options):
    """A material with a random picture on its Base Color; gives (image, u8 pixels with row 0 on top)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 4), np.uint8)
    pixels[..., 3] = round(alpha * 255)
    image = bpy.data.images.new(name, size, size, alpha=True, **image_options)
    image.pixels.foreach_set((pixels[::-1] / np.float32(255)).astype(np.float32).ravel())
    image.update()
    return plug(obj, image), pixels


def plug(obj, image):
    tree = obj.active_material.node_tree
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    tree.links.new(node.outputs["Color"], principled(tree).inputs["Base Color"])
    return node


def principled(tree):
    return next(n for n in tree.nodes if n.bl_idname == "ShaderNodeBsdfPrincipled")


def generate(**options):
    return bpy.ops.tweed.generate(**(EDIT | options))


def jobs_folder():
    from bl_ext.tweeddev.tweed import session

    return session.jobs_folder()


def decode(path: Path) -> np.ndarray:
    """A PNG of ours (every row filtered with number 2), without the module under test."""
    data, at, body = path.read_bytes(), 8, b""
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunk = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack_from(">2I2B", chunk)
        body += chunk if kind == b"IDAT" else b""
        at += 12 + length
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    rows = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 2).all()
    raw = np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8)
    values = raw.copy().view(">u2").astype(np.uint16) if depth == 16 else raw
    return values.reshape(height, width, channels)


def exported(kind="base_color"):
    record = job_record(jobs_folder())
    assert record["inputs"][kind] == f"inputs/{kind}.png"
    return decode(last_job(jobs_folder()) / record["inputs"][kind])


def mesh_region():
    with np.load(last_job(jobs_folder()) / "mesh.npz", allow_pickle=False) as arrays:
        return arrays["region"] if "region" in arrays else None


# ---- the texture


def test_unsaved_pixels_arrive_bit_for_bit_and_decide_the_size(cube):
    _, pixels = paint(cube, size=128)
    image = bpy.data.images["Skin"]
    assert image.is_dirty and not image.filepath
    generate(texture_size=64)
    assert np.array_equal(exported(), pixels[..., :3]), "an alpha of 1 everywhere is left out"
    assert job_record(jobs_folder())["settings"]["texture_size"] == 128
    assert image.is_dirty and image.packed_file is None, "the artist's image was touched"
    assert principled(cube.active_material.node_tree).inputs["Base Color"].links[0].from_node.image != image


def test_alpha_packed_and_saved_images(cube, tmp_path):
    node, pixels = paint(cube, alpha=0.5)
    node.image.alpha_mode = "CHANNEL_PACKED"
    generate()
    assert np.array_equal(exported(), pixels)
    bpy.ops.tweed.revert(objects="Cube")
    node.image.pack()
    generate(seed=2)
    assert np.array_equal(exported(), pixels)


def write_png16(path: Path, pixels: np.ndarray):
    """A 16-bit PNG with filter 0 in every row."""
    height, width, channels = pixels.shape

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">2I5B", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_sixteen_bits_stay_sixteen_bits(cube, tmp_path):
    """A saved file is copied; painted-over pixels go through Blender's linear floats."""
    pixels = np.random.default_rng(2).integers(0, 65536, (64, 64, 3), np.uint16)
    write_png16(tmp_path / "deep.png", pixels)
    image = bpy.data.images.load(str(tmp_path / "deep.png"))
    assert image.is_float
    plug(cube, image)
    generate()
    copied = last_job(jobs_folder()) / "inputs" / "base_color.png"
    assert copied.read_bytes() == (tmp_path / "deep.png").read_bytes()
    bpy.ops.tweed.revert(objects="Cube")
    values = np.empty(64 * 64 * image.channels, np.float32)
    image.pixels.foreach_get(values)
    image.pixels.foreach_set(values)
    assert image.is_dirty
    generate(seed=2)
    found = exported()
    assert found.dtype == np.uint16 and np.abs(found.astype(int) - pixels).max() <= 2


def test_a_linear_image_arrives_as_it_looks(cube):
    _, pixels = paint(cube, is_data=True)
    assert bpy.data.images["Skin"].colorspace_settings.name == "Non-Color"
    generate()
    linear = pixels[..., :3] / 255
    shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(exported() / 65535 - shown).max() < 1e-4


def test_groups_and_reroutes_are_followed(cube):
    tree = cube.active_material.node_tree
    group = bpy.data.node_groups.new("Coat", "ShaderNodeTree")
    group.interface.new_socket("Tint", in_out="INPUT", socket_type="NodeSocketColor")
    group.interface.new_socket("Paint", in_out="OUTPUT", socket_type="NodeSocketColor")
    start, end = group.nodes.new("NodeGroupInput"), group.nodes.new("NodeGroupOutput")
    group.links.new(start.outputs[0], end.inputs[0])
    node, pixels = paint(cube)
    instance, reroute = tree.nodes.new("ShaderNodeGroup"), tree.nodes.new("NodeReroute")
    instance.node_tree = group
    tree.links.new(node.outputs["Color"], reroute.inputs[0])
    tree.links.new(reroute.outputs[0], instance.inputs[0])
    tree.links.new(instance.outputs[0], principled(tree).inputs["Base Color"])
    generate()
    assert np.array_equal(exported(), pixels[..., :3])


def test_what_no_image_feeds_is_refused(cube, unchanged):
    with unchanged("plain colour", "Generate a texture first"):
        generate()
    tree = cube.active_material.node_tree
    noise = tree.nodes.new("ShaderNodeTexNoise")
    tree.links.new(noise.outputs["Color"], principled(tree).inputs["Base Color"])
    with unchanged("Noise Texture", "Bake it"):
        generate()
    node, _ = paint(cube)
    mapping = tree.nodes.new("ShaderNodeMapping")
    tree.links.new(mapping.outputs[0], node.inputs["Vector"])
    with unchanged("plain UV map"):
        generate()
    other = tree.nodes.new("ShaderNodeUVMap")
    other.uv_map = "Elsewhere"
    tree.links.new(other.outputs[0], node.inputs["Vector"])
    with unchanged("'Elsewhere'", "UV Maps"):
        generate()


def test_sizes_and_kinds_of_images_that_do_not_serve(cube, unchanged):
    tree = cube.active_material.node_tree
    node = plug(cube, bpy.data.images.new("Wide", 128, 64))
    with unchanged("128 x 64", "Scale it to 128 x 128"):
        generate()
    node.image = bpy.data.images.new("Odd", 100, 100)
    with unchanged("100 x 100", "Scale it to 104 x 104"):
        generate()
    node.image = None
    with unchanged("not chosen"):
        generate()
    node.image = bpy.data.images.new("Tiles", 64, 64, tiled=True)
    node.image.tiles[0].number = 1002
    with unchanged("tile 1001 of 'Tiles', which does not exist"):
        generate()
    cube.data.materials.append(bpy.data.materials.new("Second"))
    cube.data.polygons[0].material_index = 1
    node.image = bpy.data.images.new("Fine", 64, 64)
    cube.data.materials[1].use_nodes = True
    with unchanged("'Second'"):
        generate()
    assert tree == cube.active_material.node_tree


# ---- the region


def test_selected_faces_become_weights(cube):
    paint(cube)
    for polygon in cube.data.polygons:
        polygon.select = polygon.index == 2
    generate(region="faces")
    region = mesh_region()
    assert region.shape == (12, 3) and region.sum() == 2 * 3, "two triangles with three corners"
    assert set(np.unique(region)) == {0.0, 1.0}


def test_selection_in_edit_mode_and_through_a_modifier(cube):
    paint(cube)
    for polygon in cube.data.polygons:
        polygon.select = polygon.index == 2
    cube.modifiers.new("Fine", "SUBSURF").levels = 2
    generate(region="faces")
    assert mesh_region().shape == (6 * 16 * 2, 3) and mesh_region()[:, 0].sum() == 16 * 2
    cube.modifiers.clear()
    bpy.context.view_layer.objects.active = cube
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    generate(region="faces", seed=2)
    assert mesh_region().all()


def test_vertex_group_weights_and_their_absence(cube, unchanged):
    paint(cube)
    with unchanged("there is none", "paint weights"):
        generate(region="vertex_group")
    group = cube.vertex_groups.new(name="Rust")
    with unchanged("'Rust' has no weight"):
        generate(region="vertex_group")
    group.add([0, 1], 0.25, "REPLACE")
    generate(region="vertex_group")
    region = mesh_region()
    with np.load(last_job(jobs_folder()) / "mesh.npz", allow_pickle=False) as arrays:
        assert np.array_equal(region > 0, arrays["triangles"] < 2) and set(np.unique(region)) == {0.0, 0.25}


def test_no_selected_face_is_refused(cube, unchanged):
    paint(cube)
    for polygon in cube.data.polygons:
        polygon.select = False
    with unchanged("no face is selected", "Edit Mode"):
        generate(region="faces")


def test_masks_by_name(cube, unchanged):
    paint(cube)
    with unchanged("no image is chosen"):
        generate(region="mask")
    with unchanged("no image named 'Mask'", "Skin"):
        generate(region="mask", region_mask="Mask")
    values = np.zeros((32, 48, 4), np.float32)
    values[..., 3], values[:16, :, :3], values[20, 5] = 1, 1, (1, 0, 0.5, 0.5)
    mask = bpy.data.images.new("Mask", 48, 32, alpha=True)
    mask.pixels.foreach_set(values[::-1].ravel())
    generate(region="mask", region_mask="Mask")
    found = exported("region")[..., 0]
    assert found.shape == (32, 48) and (found[:16] == 255).all()
    assert abs(int(found[20, 5]) - 64) <= 1 and found[21:].max() == 0  # mean of 1, 0, 0.5 times 0.5


def test_start_from_nothing_asks_for_no_texture(cube):
    assert bpy.ops.tweed.generate(objects="Cube", prompt="x", texture_size=64) == {"FINISHED"}
    assert job_record(jobs_folder())["inputs"] == {} and mesh_region() is None


# ---- with the real engine


def test_a_real_edit_keeps_what_lies_outside_the_region(cube, real):
    """The write-back's image equals the artist's wherever no selected face is; where one is, it does not."""
    _, pixels = paint(cube, size=128)
    for polygon in cube.data.polygons:
        polygon.select = polygon.index in (1, 4)
    generate(region="faces", strength=0.8, views=4, steps=4, feather=0, view_size=128, device="cpu")
    node = principled(cube.active_material.node_tree).inputs["Base Color"].links[0].from_node
    assert node.image.name != "Skin" and tuple(node.image.size) == (128, 128)
    values = np.empty(128 * 128 * 4, np.float32)
    node.image.pixels.foreach_get(values)
    found = np.rint(values.reshape(128, 128, 4)[::-1] * 255).astype(np.uint8)
    chosen = np.zeros((128, 128), bool)
    for index in (1, 4):
        uv = np.array([cube.data.uv_layers[0].uv[i].vector for i in cube.data.polygons[index].loop_indices]) * 128
        (left, low), (right, high) = np.floor(uv.min(0)).astype(int) - 2, np.ceil(uv.max(0)).astype(int) + 2
        chosen[max(128 - high, 0) : 128 - low, max(left, 0) : right] = True
    assert np.array_equal(found[~chosen], pixels[~chosen])
    assert (found != pixels)[chosen].any(1).mean() > 0.5
    # the artist's own picture is still there, as it was
    own = np.empty(128 * 128 * 4, np.float32)
    bpy.data.images["Skin"].pixels.foreach_get(own)
    assert np.array_equal(np.rint(own.reshape(128, 128, 4)[::-1] * 255).astype(np.uint8), pixels)


# ---- the region in the panel


def edit_words(draw):
    from bl_ext.tweeddev.tweed import panels, subpanels

    log = draw([subpanels.TWEED_PT_edit, *panels.CLASSES])
    return " ".join(str(text) for kind, text in log if kind == "label"), log


def test_a_region_that_selects_nothing_is_said_in_the_panel_and_generate_waits(cube, draw):
    paint(cube)
    group = bpy.context.scene.tweed
    group.prompt, group.region = "rust", "vertex_group"
    said, log = edit_words(draw)
    assert said.count("Region is Vertex Group, and there is none. Make one and paint weights") == 2
    cube.vertex_groups.new(name="Rust")
    assert "Vertex Group, and" not in edit_words(draw)[0]
    group.region = "faces"
    for polygon in cube.data.polygons:
        polygon.select = False
    assert "no face is selected. Select faces in Edit Mode" in edit_words(draw)[0]
    bpy.context.view_layer.objects.active = cube
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="DESELECT")
    assert "no face is selected" in edit_words(draw)[0]
    bpy.ops.mesh.select_all(action="SELECT")
    assert "no face is selected" not in edit_words(draw)[0]
    bpy.ops.object.mode_set(mode="OBJECT")
    group.region, group.region_mask = "mask", "gone"
    assert "There is no image named 'gone'" in edit_words(draw)[0]


def test_every_kind_of_region_and_the_feather_reach_the_job(cube):
    paint(cube)
    group = bpy.context.scene.tweed
    group.prompt, group.region, group.feather = "rust", "faces", 5
    bpy.ops.tweed.generate(objects="Cube")
    settings = job_record(jobs_folder())["settings"]
    assert (settings["region"], settings["feather"]) == ("faces", 5) and mesh_region().all()


def test_a_new_mask_is_black_chosen_and_painted_on(cube):
    paint(cube)
    bpy.context.view_layer.objects.active = cube
    assert bpy.ops.tweed.mask_new(size=128) == {"FINISHED"}
    group, settings = bpy.context.scene.tweed, bpy.context.scene.tool_settings.image_paint
    image = bpy.data.images[group.region_mask]
    assert (group.region, tuple(image.size), settings.canvas) == ("mask", (128, 128), image)
    assert bpy.context.mode == "PAINT_TEXTURE"
    values = np.zeros((128, 128, 4), np.float32)
    values[..., 3], values[:64, :, :3] = 1, 1  # the lower half
    image.pixels.foreach_set(values.ravel())
    group.prompt = "rust"
    bpy.ops.tweed.generate()
    mask = exported("region")[..., 0]
    assert (mask[64:] == 255).all() and (mask[:64] == 0).all()
    bpy.ops.object.mode_set(mode="OBJECT")


def test_a_mask_needs_a_mesh_with_uvs(cube, unchanged):
    bpy.context.view_layer.objects.active = cube
    cube.data.uv_layers.remove(cube.data.uv_layers[0])
    with unchanged("has no UV map"):
        bpy.ops.tweed.mask_new()
    bpy.context.view_layer.objects.active = bpy.data.objects["Light"]
    assert not bpy.ops.tweed.mask_new.poll()
