# SPDX-License-Identifier: Apache-2.0
"""The texture on the material: nothing deleted, undo, revert after reload, compare, copies where others look on."""

from pathlib import Path

import bpy
from snapshot import difference, scene_snapshot


def generate(**options):
    assert bpy.ops.tweed.generate(
        **({"prompt": "red bricks", "texture_size": 64, "seed": 0, "objects": "Cube"} | options)
    ) == {"FINISHED"}


def base_color(obj, slot=0):
    """What feeds Base Color of the object's material: a node, or None."""
    nodes = obj.material_slots[slot].material.node_tree.nodes
    socket = next(n for n in nodes if n.bl_idname == "ShaderNodeBsdfPrincipled").inputs["Base Color"]
    return socket.links[0].from_node if socket.links else None


def trees():
    """All materials in use, without their users' count."""
    return {name: block for name, block in scene_snapshot()["materials"].items() if block["users"]}


def test_frame_with_uv_map_and_texture(cube):
    generate()
    texture = base_color(cube)
    assert texture.parent.label == "Tweed"
    assert texture.inputs["Vector"].links[0].from_node.uv_map == "UVMap"
    assert texture.image.colorspace_settings.name == "sRGB"


def test_texture_is_the_active_node_and_revert_gives_the_place_back(cube):
    tree = cube.active_material.node_tree
    own = tree.nodes.new("ShaderNodeTexImage")
    tree.nodes.active = own
    generate()
    generate(seed=1)
    assert tree.nodes.active == base_color(cube)
    bpy.ops.tweed.compare(objects="Cube")
    bpy.ops.tweed.compare(objects="Cube")
    assert tree.nodes.active == base_color(cube)
    bpy.ops.tweed.revert(objects="Cube")
    bpy.ops.tweed.revert(objects="Cube")
    assert tree.nodes.active == own


def test_solid_view_shows_what_compare_shows(cube):
    """Blender paints Solid view with the flagged image node, else with any that has an image, linked or not."""
    tree = cube.active_material.node_tree
    before = [(n.name, n.show_texture) for n in tree.nodes]
    generate()
    ours = base_color(cube)
    image = ours.image
    assert ours.show_texture
    bpy.ops.tweed.compare(objects="Cube")
    assert ours.image is None and not ours.show_texture
    bpy.ops.tweed.compare(objects="Cube")
    assert ours.image == image and ours.show_texture
    bpy.ops.tweed.compare(objects="Cube")
    bpy.ops.tweed.revert(objects="Cube")
    assert [(n.name, n.show_texture) for n in tree.nodes] == before


def test_the_artists_own_image_is_shown_again(cube):
    tree = cube.active_material.node_tree
    first, second = (tree.nodes.new("ShaderNodeTexImage") for _ in range(2))
    tree.nodes.active = first
    tree.nodes.active = next(n for n in tree.nodes if n.bl_idname == "ShaderNodeBsdfPrincipled")
    generate()
    assert not first.show_texture
    bpy.ops.tweed.compare(objects="Cube")
    assert first.show_texture and not second.show_texture
    bpy.ops.tweed.compare(objects="Cube")
    assert not first.show_texture
    bpy.ops.tweed.revert(objects="Cube")
    assert first.show_texture and not second.show_texture


def test_a_texture_over_one_that_is_not_shown(cube):
    """Compare, then another texture: reverting it leads back to what was shown, not to the first texture."""
    before = trees()
    generate(seed=1)
    bpy.ops.tweed.compare(objects="Cube")
    hidden = trees()
    generate(seed=2)
    assert base_color(cube).image is not None
    bpy.ops.tweed.revert(objects="Cube")
    assert difference(hidden, trees()) == []
    bpy.ops.tweed.compare(objects="Cube")
    assert base_color(cube).image is not None
    bpy.ops.tweed.revert(objects="Cube")
    assert difference(before, trees()) == []


def test_artists_link_is_recorded_and_comes_back(cube):
    tree = cube.active_material.node_tree
    noise = tree.nodes.new("ShaderNodeTexNoise")
    principled = next(n for n in tree.nodes if n.bl_idname == "ShaderNodeBsdfPrincipled")
    tree.links.new(noise.outputs["Color"], principled.inputs["Base Color"])
    before = trees()
    generate()
    assert base_color(cube).bl_idname == "ShaderNodeTexImage"
    assert noise.name in tree.nodes
    bpy.ops.tweed.compare(objects="Cube")
    assert base_color(cube) == noise
    bpy.ops.tweed.compare(objects="Cube")
    assert base_color(cube).bl_idname == "ShaderNodeTexImage"
    bpy.ops.tweed.revert(objects="Cube")
    assert difference(before, trees()) == []


def test_undo_and_redo(cube):
    bpy.ops.ed.undo_push(message="before")
    before = trees()
    generate()
    bpy.ops.ed.undo()
    assert difference(before, trees()) == []
    bpy.ops.ed.redo()
    assert base_color(bpy.data.objects["Cube"]).bl_idname == "ShaderNodeTexImage"


def test_revert_after_save_and_reload(cube, tmp_path):
    before = trees()
    generate()
    path = str(tmp_path / "hero.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.open_mainfile(filepath=path)
    cube = bpy.data.objects["Cube"]
    assert tuple(base_color(cube).image.size) == (64, 64)
    bpy.ops.tweed.revert(objects="Cube")
    assert difference(before, trees()) == []


def test_three_results_are_three_reverts(cube):
    images, states = [], [trees()]
    for seed in (1, 2, 3):
        generate(seed=seed)
        images.append(base_color(cube).image)
        states.append(trees())
    assert len(set(images)) == 3
    assert sum(n.bl_idname == "ShaderNodeTexImage" for n in cube.active_material.node_tree.nodes) == 1
    bpy.ops.tweed.compare(objects="Cube")
    assert base_color(cube).image == images[1]
    bpy.ops.tweed.compare(objects="Cube")
    for state in reversed(states[:-1]):
        bpy.ops.tweed.revert(objects="Cube")
        assert difference(state, trees()) == []


def test_replaced_image_survives_a_save(cube, tmp_path):
    generate(seed=1)
    first = base_color(cube).image.name
    generate(seed=2)
    path = str(tmp_path / "hero.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.open_mainfile(filepath=path)
    assert first in bpy.data.images


def test_saved_file_gets_a_file_beside_it(cube, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hero.blend"))
    generate()
    generate(seed=1)
    images = [i for i in bpy.data.images if i.filepath.startswith("//textures")]
    assert len(images) == 2
    assert all(Path(bpy.path.abspath(i.filepath)).is_file() and not i.packed_file for i in images)


def test_save_to_names_the_folder(cube, tmp_path):
    """Beside the .blend if it says so, anywhere else, and kept with the file; without a .blend only a whole path counts."""
    elsewhere, group = tmp_path / "else where é", bpy.context.scene.tweed
    group.save_to = "//maps/rock"
    generate()
    assert base_color(cube).image.packed_file, "nowhere to be beside of"
    group.save_to = str(elsewhere)
    generate()
    assert Path(base_color(cube).image.filepath).parent == elsewhere and not base_color(cube).image.packed_file
    (tmp_path / "file").mkdir()
    group.save_to = "//../maps/rock"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file" / "hero.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "file" / "hero.blend"))
    assert bpy.context.scene.tweed.save_to == "//../maps/rock"
    generate()
    image = base_color(bpy.data.objects["Cube"]).image
    assert image.filepath.startswith("//../maps/rock/")
    assert Path(bpy.path.abspath(image.filepath)).resolve().parent == (tmp_path / "maps" / "rock").resolve()


def test_textures_folder_that_cannot_be_written_means_packing(cube, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hero.blend"))
    (tmp_path / "textures").write_text("in the way")
    from bl_ext.tweeddev.tweed import api

    result = api.texture(cube, "red bricks", texture_size=64)
    assert base_color(cube).image.packed_file
    assert "packed" in " ".join(result.remarks)


def test_material_shared_with_another_object_is_copied(cube):
    other = bpy.data.objects.new("Other", cube.data.copy())
    bpy.context.scene.collection.objects.link(other)
    shared, before = cube.active_material, trees()
    generate()
    assert other.active_material == shared and base_color(other) is None
    assert cube.active_material != shared and base_color(cube)
    assert shared.use_fake_user
    bpy.ops.tweed.revert(objects="Cube")
    assert cube.active_material == shared
    assert difference(before, trees()) == []


def test_mesh_shared_with_another_object_gets_the_objects_own_slot(cube):
    other = bpy.data.objects.new("Other", cube.data)
    bpy.context.scene.collection.objects.link(other)
    before = trees()
    generate()
    assert cube.material_slots[0].link == "OBJECT" and base_color(cube)
    assert other.material_slots[0].link == "DATA" and base_color(other) is None
    bpy.ops.tweed.revert(objects="Cube")
    assert cube.material_slots[0].link == "DATA"
    assert difference(before, trees()) == []


def test_material_in_the_objects_slot_stays_there(cube):
    own = cube.active_material.copy()
    cube.material_slots[0].link = "OBJECT"
    cube.material_slots[0].material = own
    generate()
    assert cube.material_slots[0].material == own and base_color(cube)


def test_no_principled_node_means_a_copy(cube):
    material = cube.active_material
    tree = material.node_tree
    tree.nodes.clear()
    emission, output = tree.nodes.new("ShaderNodeEmission"), tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(emission.outputs[0], output.inputs["Surface"])
    before = trees()
    generate()
    assert cube.active_material != material and material.use_fake_user
    assert base_color(cube).bl_idname == "ShaderNodeTexImage"
    bpy.ops.tweed.compare(objects="Cube")
    tree = cube.active_material.node_tree
    assert tree.get_output_node("ALL").inputs["Surface"].links[0].from_node.bl_idname == "ShaderNodeEmission"
    bpy.ops.tweed.compare(objects="Cube")
    assert tree.get_output_node("ALL").inputs["Surface"].links[0].from_node.bl_idname == "ShaderNodeBsdfPrincipled"
    bpy.ops.tweed.revert(objects="Cube")
    assert cube.active_material == material
    assert difference(before, trees()) == []


def test_material_without_nodes_is_kept(cube):
    plain = bpy.data.materials.new("Plain")
    cube.material_slots[0].material = plain
    generate()
    assert base_color(cube)
    bpy.ops.tweed.revert(objects="Cube")
    assert cube.active_material == plain


def test_two_principled_nodes_in_a_mix_both_get_it(cube):
    tree = cube.active_material.node_tree
    first = next(n for n in tree.nodes if n.bl_idname == "ShaderNodeBsdfPrincipled")
    second, mix = tree.nodes.new("ShaderNodeBsdfPrincipled"), tree.nodes.new("ShaderNodeMixShader")
    tree.links.new(first.outputs[0], mix.inputs[1])
    tree.links.new(second.outputs[0], mix.inputs[2])
    tree.links.new(mix.outputs[0], tree.get_output_node("ALL").inputs["Surface"])
    before = trees()
    generate()
    assert first.inputs["Base Color"].links and second.inputs["Base Color"].links
    bpy.ops.tweed.revert(objects="Cube")
    assert difference(before, trees()) == []


def test_empty_slot_and_no_slot(cube):
    cube.material_slots[0].material = None
    generate()
    assert base_color(cube)
    bpy.ops.tweed.revert(objects="Cube")
    assert cube.material_slots[0].material is None
    cube.data.materials.clear()
    generate()
    assert base_color(cube)
    bpy.ops.tweed.revert(objects="Cube")
    assert len(cube.material_slots) == 0


def test_link_that_the_artist_made_since_is_left_alone_by_revert(cube):
    generate()
    tree = cube.active_material.node_tree
    noise = tree.nodes.new("ShaderNodeTexNoise")
    principled = next(n for n in tree.nodes if n.bl_idname == "ShaderNodeBsdfPrincipled")
    tree.links.new(noise.outputs["Color"], principled.inputs["Base Color"])
    bpy.ops.tweed.revert(objects="Cube")
    assert base_color(cube) == noise


def test_failure_half_way_leaves_nothing(cube, monkeypatch, unchanged):
    from bl_ext.tweeddev.tweed import nodes

    def fails(*_):
        raise MemoryError("in the middle")

    cube.data.materials.append(None)
    cube.data.polygons[0].material_index = 1
    monkeypatch.setattr(nodes, "relink", fails)
    with unchanged("in the middle", error=(RuntimeError, MemoryError)) as caught:
        from bl_ext.tweeddev.tweed import api

        api.texture(cube, "red bricks", texture_size=64)
    assert caught


def test_revert_and_compare_without_a_texture(unchanged):
    with unchanged("no texture of Tweed's"):
        bpy.ops.tweed.revert(objects="Cube")
    with unchanged("no texture of Tweed's"):
        bpy.ops.tweed.compare(objects="Cube")
