# SPDX-License-Identifier: Apache-2.0
"""UDIM tiles and UVs in another tile: from the artist's mesh to the image on it, and back."""

import bpy
import numpy as np
import pytest
from conftest import last_job
from snapshot import difference, scene_snapshot
from test_edit import jobs_folder

SQUARE = np.float32([(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)])
COLOURS = np.array([(0xD0, 0x20, 0x20), (0x20, 0xC0, 0x30), (0x20, 0x40, 0xE0)])  # of fake_engine.py
TWO = "brick fake:tiles:1002,1011"


def wall(*tiles, name="Wall", materials=0):
    """A row of upright quads, each filling most of the tile (u, v) that it is given; each of a material of its own."""
    count = len(tiles)
    mesh = bpy.data.meshes.new(name)
    corners = [[(x, 0, 0), (x + 1, 0, 0), (x + 1, 0, 1), (x, 0, 1)] for x in range(count)]
    mesh.from_pydata(sum(corners, []), [], [tuple(range(4 * x, 4 * x + 4)) for x in range(count)])
    uvs = np.concatenate([SQUARE + np.float32(tile) for tile in tiles])
    mesh.uv_layers.new(name="UVMap").uv.foreach_set("vector", uvs.ravel())
    for number in range(materials):
        material = bpy.data.materials.new(f"M{number}")
        if bpy.app.version < (5, 0, 0):
            material.use_nodes = True
        mesh.materials.append(material)
        mesh.polygons[number].material_index = number
    obj = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(obj)
    return obj


def generate(prompt=TWO, **options):
    return bpy.ops.tweed.generate(**({"objects": "Wall", "prompt": prompt, "texture_size": 64, "seed": 0} | options))


def shown(obj, slot=0):
    """The image node that feeds the Base Color of a slot's material, or None."""
    nodes = obj.material_slots[slot].material.node_tree.nodes
    socket = next(n for n in nodes if n.bl_idname == "ShaderNodeBsdfPrincipled").inputs["Base Color"]
    return socket.links[0].from_node if socket.links else None


def tiles(image):
    return [(tile.number, tuple(tile.size)) for tile in image.tiles]


def rendered(obj, tmp_path):
    """What Cycles shows of a wall of N quads, [16,16*N,3] in 0..255, row 0 at the bottom: the texture as light."""
    scene, count = bpy.context.scene, len(obj.data.polygons)
    texture = shown(obj)
    tree = obj.material_slots[0].material.node_tree
    emission = tree.nodes.new("ShaderNodeEmission")
    tree.links.new(texture.outputs["Color"], emission.inputs["Color"])
    tree.links.new(emission.outputs[0], tree.get_output_node("ALL").inputs["Surface"])
    for other in list(scene.objects):
        if other != obj:
            bpy.data.objects.remove(other)
    camera = bpy.data.cameras.new("Eye")
    camera.type, camera.ortho_scale = "ORTHO", count
    scene.camera = bpy.data.objects.new("Eye", camera)
    scene.collection.objects.link(scene.camera)
    scene.camera.location, scene.camera.rotation_euler = (count / 2, -5, 0.5), (np.pi / 2, 0, 0)
    scene.render.engine, scene.cycles.device, scene.cycles.samples = "CYCLES", "CPU", 16
    scene.render.threads_mode, scene.render.threads = "FIXED", 1
    scene.view_settings.view_transform = "Standard"
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 16 * count, 16, 100
    scene.render.image_settings.file_format, scene.render.filepath = "PNG", str(tmp_path / "render.png")
    bpy.ops.render.render(write_still=True)
    return pixels(scene.render.filepath)


def pixels(path):
    """A picture's [H,W,3] in 0..255, row 0 at the bottom."""
    picture = bpy.data.images.load(str(path))
    values = np.array(picture.pixels[:], np.float64).reshape(*tuple(picture.size)[::-1], -1)[..., :3]
    bpy.data.images.remove(picture)
    return values * 255


@pytest.mark.parametrize("saved", [True, False])
def test_each_tile_shows_its_own_file_also_after_a_reload(tmp_path, saved):
    """Tiles 1011, 1002 and 1011 again, so neither is 1001: once as files beside the .blend, once packed into it."""
    obj, path = wall((0, 1), (1, 0), (0, 1)), str(tmp_path / "hero.blend")
    if saved:
        bpy.ops.wm.save_as_mainfile(filepath=path)
    assert generate() == {"FINISHED"}
    image = shown(obj).image
    assert image.source == "TILED" and image.colorspace_settings.name == "sRGB"
    assert tiles(image) == [(1002, (64, 64)), (1011, (64, 64))]
    files = sorted(p.name for p in (tmp_path / "textures").glob("*")) if saved else []
    assert [name.rsplit(".", 2)[1] for name in files] == (["1002", "1011"] if saved else [])
    assert [p.tile_number for p in image.packed_files] == ([] if saved else [1002, 1011])
    assert image.filepath.startswith("//textures") and image.filepath.endswith(".<UDIM>.png")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.open_mainfile(filepath=path)
    obj = bpy.data.objects["Wall"]
    assert tiles(shown(obj).image) == [(1002, (64, 64)), (1011, (64, 64))]
    np.testing.assert_allclose(rendered(obj, tmp_path)[8, 8::16], COLOURS[[1, 0, 1]], atol=4)  # Cycles dithers a little


def uv_edited(obj, *quads):
    values = np.concatenate([np.float32(quad) for quad in quads]).astype(np.float32)
    obj.data.uv_layers.active.uv.foreach_set("vector", values.ravel())
    return obj


def exported(*objects, **settings):
    from bl_ext.tweeddev.tweed import scene
    from bl_ext.tweeddev.tweed.jobs.settings import resolve

    bpy.context.view_layer.update()
    return scene.export(bpy.context, list(objects), resolve({"prompt": "x", **settings}))


def trees():
    """All materials in use."""
    return {name: block for name, block in scene_snapshot()["materials"].items() if block["users"]}


def awake():
    from bl_ext.tweeddev.tweed import session

    return session.now.engine is not None and session.now.engine.alive


def test_revert_compare_and_a_second_texture_over_the_first():
    obj = wall((1, 0), (0, 1), materials=1)
    states, images = [trees()], []
    for prompt in (TWO, "brick", TWO):
        generate(prompt, seed=len(images))
        images.append(shown(obj).image)
        states.append(trees())
    assert [image.source for image in images] == ["TILED", "FILE", "TILED"]
    bpy.ops.tweed.compare(objects="Wall")
    assert shown(obj).image == images[1]
    bpy.ops.tweed.compare(objects="Wall")
    assert shown(obj).image == images[2]
    for state in reversed(states[:-1]):
        bpy.ops.tweed.revert(objects="Wall")
        assert difference(state, trees()) == []
    assert shown(obj) is None


def test_undo_and_redo_bring_the_tiles_back():
    wall((1, 0), (0, 1), materials=1)
    bpy.ops.ed.undo_push(message="before")
    generate()
    bpy.ops.ed.undo()
    assert shown(bpy.data.objects["Wall"]) is None
    bpy.ops.ed.redo()
    assert tiles(shown(bpy.data.objects["Wall"]).image) == [(1002, (64, 64)), (1011, (64, 64))]


def test_a_past_job_is_applied_again_beside_its_first_files(tmp_path):
    obj = wall((1, 0), (0, 1))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hero.blend"))
    generate()
    job = last_job(jobs_folder())
    bpy.ops.tweed.revert(objects="Wall")
    assert bpy.ops.tweed.apply_result(job=str(job)) == {"FINISHED"}
    image = shown(obj).image
    assert tiles(image) == [(1002, (64, 64)), (1011, (64, 64))] and image.filepath.endswith(".001.<UDIM>.png")
    assert len(list((tmp_path / "textures").glob("*.png"))) == 4


def test_files_of_other_tiles_that_lie_around_are_not_taken_in(tmp_path):
    """Blender itself adds every file that fits the name."""
    obj = wall((1, 0), (0, 1))
    generate()
    job, stem = last_job(jobs_folder()), shown(obj).image.filepath.split("/")[-1].split(".")[0]
    stray = (job / "out" / "base_color.1002.png").read_bytes()
    (job / "out" / "base_color.1005.png").write_bytes(stray)
    assert bpy.ops.tweed.apply_result(job=str(job)) == {"FINISHED"}
    image = shown(obj).image
    assert tiles(image) == [(1002, (64, 64)), (1011, (64, 64))] and len(image.packed_files) == 2
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hero.blend"))
    (tmp_path / "textures").mkdir()
    (tmp_path / "textures" / f"{stem}.1005.png").write_bytes(stray)
    assert bpy.ops.tweed.apply_result(job=str(job)) == {"FINISHED"}
    image = shown(obj).image
    assert tiles(image) == [(1002, (64, 64)), (1011, (64, 64))] and image.filepath.endswith(f"/{stem}.001.<UDIM>.png")


def test_packed_tiles_can_be_unpacked_under_their_names(tmp_path):
    obj = wall((1, 0), (0, 1))
    generate()
    image = shown(obj).image
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hero.blend"))
    image.unpack(method="WRITE_LOCAL")
    names = sorted(p.name for p in (tmp_path / "textures").glob("*.png"))
    assert [name.split(".")[1] for name in names] == ["1002", "1011"], names
    image.reload()
    assert not image.packed_files and tiles(image) == [(1002, (64, 64)), (1011, (64, 64))]


@pytest.mark.parametrize(("fault", "words"), [
    ("fake:wrongsize", "1011.png is 32 x 32 pixels; 64 x 64 were asked for"),
    ("fake:cut", "1011.png is cut off"),
    ("fake:notpng", "1011.png is not a PNG"),
    ("fake:nofile", "there is no such file"),
    ("fake:tiles:1002,2001", "UDIM tile '2001'"),
    ("fake:tiles:1002,x1", "UDIM tile 'x1'"),
])  # fmt: skip
def test_every_tile_is_checked_before_anything_changes(tmp_path, unchanged, fault, words):
    wall((1, 0), (0, 1))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hero.blend"))
    with unchanged(words):
        generate(fault if "tiles:" in fault else f"{TWO} {fault}")
    assert not list(tmp_path.glob("textures/*"))


def test_a_failure_half_way_leaves_no_file(tmp_path, monkeypatch, unchanged):
    from bl_ext.tweeddev.tweed import api, nodes

    def fails(*_):
        raise MemoryError("in the middle")

    obj = wall((1, 0), (0, 1))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hero.blend"))
    monkeypatch.setattr(nodes, "relink", fails)
    with unchanged("in the middle", error=MemoryError):
        api.texture(obj, TWO, texture_size=64)
    assert not list(tmp_path.glob("textures/*"))


def test_a_disk_that_fills_up_at_the_second_tile_means_packing_both(tmp_path, monkeypatch):
    from bl_ext.tweeddev.tweed import api, images

    copies = []

    def copyfile(source, target):
        copies.append(target)
        target.write_bytes(source.read_bytes()[:99])
        if len(copies) == 2:
            raise OSError(28, "No space left on device")

    obj = wall((1, 0), (0, 1))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hero.blend"))
    monkeypatch.setattr(images.shutil, "copyfile", copyfile)
    result = api.texture(obj, TWO, texture_size=64)
    assert len(copies) == 2 and not list(tmp_path.glob("textures/*"))
    assert [p.tile_number for p in shown(obj).image.packed_files] == [1002, 1011]
    assert "No space left" in " ".join(result.remarks) and "packed" in " ".join(result.remarks)


def test_what_will_be_written_is_said():
    obj = wall((0, 0), (1, 0), (0, 1))
    assert exported(obj).remarks == ["3 UDIM tiles: 1001, 1002, 1011."]
    assert exported(obj, uv_tiles="repeat").remarks[0].startswith("UVs of 'Wall' overlap: 100%")
    moved = wall((3, 2), name="Moved")
    assert exported(moved).remarks == [] and exported(moved, uv_tiles="udim").remarks == ["1 UDIM tile: 1024."]


def test_whole_charts_in_another_tile_get_a_plain_texture():
    obj = wall((-2, 5), materials=1)
    assert generate("brick") == {"FINISHED"}
    assert shown(obj).image.source == "FILE"
    np.testing.assert_array_equal(obj.data.uv_layers[0].uv[0].vector, np.float32([-1.9, 5.1]))


def test_objects_in_different_tiles_share_a_texture_and_in_the_same_tile_cannot(unchanged):
    one, other = wall((1, 0), name="A"), wall((0, 1), name="B")
    wall((0, 1), name="C")
    assert exported(one, other).remarks == ["2 UDIM tiles: 1002, 1011."]
    assert generate(objects="A, B") == {"FINISHED"}
    assert shown(one).image == shown(other).image and shown(one).image.source == "TILED"
    with unchanged("'C' uses the same part of tile 1011 as 'A' or 'B'"):
        generate(objects="A, B, C", atlas="one")
    with unchanged("'B' uses the same part of the UV square as 'A'"):
        generate(objects="A, B", uv_tiles="repeat", atlas="one")


@pytest.mark.parametrize(("quads", "options", "words"), [
    ([SQUARE * 3], {}, ("100.0 % of the faces of 'Wall'", "across the border of the 0-1 square", "Pack Islands")),
    ([SQUARE, SQUARE + [0.5, 0]], {}, ("50.0 % of the faces of 'Wall'", "across the border")),
    ([SQUARE, SQUARE - 1], {"uv_tiles": "udim"}, ("UDIM has not", "uv_tiles")),
    ([SQUARE, SQUARE + [1, 0]], {"start": "texture"}, ("has no material to start from", "Generate a texture first")),
    ([SQUARE, SQUARE + [1, 0]], {"region": "faces"}, ("has no material to start from", "Generate a texture first")),
])  # fmt: skip
def test_what_cannot_be_painted_is_refused_before_the_engine_starts(cold, unchanged, quads, options, words):
    obj = uv_edited(wall(*[(0, 0)] * len(quads)), *quads)
    obj.data.polygons.foreach_set("select", [True] * len(quads))
    with unchanged(*words):
        generate("brick", **options)
    assert not awake()


def test_a_texture_is_not_started_from_where_it_has_no_tile(unchanged):
    """The UVs have since been moved into tile 1001."""
    obj = wall((1, 0), (0, 1))
    generate()
    uv_edited(obj, SQUARE / 2, SQUARE / 2 + 0.5)
    with unchanged("tile 1001 of 'Wall Tweed", "which does not exist", "Image Editor"):
        generate("brick", start="texture")


SMALL = {"prompt": "red metal", "texture_size": 80, "views": 4, "rig": "ring", "steps": 3, "seed": 1, "device": "cpu"}


def likeness(shown, file):
    """Correlation of a rendered quad [16,16,3] with the middle of a texture's file, of 4 x 4 texels for each pixel."""
    middle = pixels(file)[8:72, 8:72].reshape(16, 4, 16, 4, 3).mean((1, 3))
    return np.corrcoef(*((picture - picture.mean((0, 1))).ravel() for picture in (shown, middle)))[0, 1]


def test_the_real_engine_paints_two_tiles_and_each_quad_shows_its_own(real, tmp_path):
    from bl_ext.tweeddev.tweed import api

    obj = wall((0, 1), (1, 0))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hero.blend"))
    result = api.texture(obj, **SMALL)
    assert "2 UDIM tiles: 1002, 1011." in result.remarks
    image = bpy.data.images[result.images[0]]
    assert tiles(image) == [(1002, (80, 80)), (1011, (80, 80))]
    files = sorted((tmp_path / "textures").glob("*.png"))
    left, right = np.split(rendered(obj, tmp_path), 2, 1)
    found = [[likeness(quad, file) for file in files] for quad in (left, right)]
    assert found[0][1] > 0.8 > 0.5 > found[0][0] and found[1][0] > 0.8 > 0.5 > found[1][1], found
