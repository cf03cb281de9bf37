# SPDX-License-Identifier: Apache-2.0
"""Bad input gets a clear sentence, and nothing is lost: after each refusal the file is exactly as before."""

import collections
import math

import bpy
import numpy as np
import pytest
from snapshot import difference, scene_snapshot


def generate(**options):
    return bpy.ops.tweed.generate(**({"prompt": "red bricks", "texture_size": 64} | options))


def add_mesh(name, vertices, faces, uvs=None):
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices, [], faces)
    if uvs is not None:
        mesh.uv_layers.new(name="UVMap").uv.foreach_set("vector", np.asarray(uvs, np.float32).ravel())
    obj = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(obj)
    return obj


def select(*objects):
    for obj in bpy.context.scene.objects:
        obj.select_set(obj in objects)
    bpy.context.view_layer.objects.active = objects[0] if objects else None


SQUARE = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)]
SQUARE_UVS = [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)]


def works_and_reverts(obj, **options):
    """Generate on one object, then Revert: the materials are exactly as before."""
    before = scene_snapshot()
    assert generate(objects=obj.name, seed=0, **options) == {"FINISHED"}
    assert difference(before, scene_snapshot())
    assert bpy.ops.tweed.revert(objects=obj.name) == {"FINISHED"}
    assert differences_that_matter(before) == []


def differences_that_matter(before):
    """All but the new image datablock, and a copied material, that a revert leaves without users."""
    after = scene_snapshot()
    for kind in ("images", "materials"):
        after[kind] = {name: block for name, block in after[kind].items() if name in before[kind] or block["users"]}
    return difference(before, after)


def test_nothing_selected(unchanged):
    select()
    with unchanged("No mesh is selected", "Select the mesh"):
        generate()


def test_selected_object_is_no_mesh(unchanged):
    with unchanged("'Camera' is not a mesh"):
        generate(objects="Camera")


def test_unknown_object(unchanged):
    with unchanged("no object named 'Nobody'", "Cube"):
        generate(objects="Nobody")


def test_no_faces(unchanged):
    obj = add_mesh("Dots", SQUARE, [])
    with unchanged("'Dots' has no faces"):
        generate(objects=obj.name)


def test_no_faces_after_modifiers(unchanged):
    obj = add_mesh("Dots", SQUARE, [], [])
    obj.modifiers.new("Subdivision", "SUBSURF")
    obj.data.uv_layers.new(name="UVMap")
    with unchanged("'Dots' has no faces"):
        generate(objects=obj.name)


def test_no_uvs(unchanged):
    obj = add_mesh("Bare", SQUARE, [(0, 1, 2, 3)])
    with unchanged("'Bare' has no UV map", "Make UVs"):
        generate(objects=obj.name)


def test_make_uvs_adds_a_layer_and_then_it_works():
    obj = add_mesh("Bare", SQUARE, [(0, 1, 2, 3)])
    before = scene_snapshot()
    assert bpy.ops.tweed.make_uvs(objects="Bare") == {"FINISHED"}
    assert [layer.name for layer in obj.data.uv_layers] == ["Tweed UV"]
    assert scene_snapshot()["context"] == before["context"]
    works_and_reverts(obj)


def test_uvs_outside_the_square(unchanged):
    obj = add_mesh("Tiled", SQUARE, [(0, 1, 2, 3)], np.array(SQUARE_UVS) * 3)
    with unchanged("100.0 %", "'Tiled'", "across the border of the 0-1 square", "Pack Islands"):
        generate(objects=obj.name)


def test_uvs_without_area(unchanged):
    obj = add_mesh("Collapsed", SQUARE, [(0, 1, 2, 3)], np.zeros((4, 2)))
    with unchanged("UV map of 'Collapsed' has no area"):
        generate(objects=obj.name)


def test_uvs_that_are_not_numbers(unchanged):
    obj = add_mesh("Broken", SQUARE, [(0, 1, 2, 3)], [(math.nan, 0), *SQUARE_UVS[1:]])
    with unchanged("UV map of 'Broken'", "not numbers"):
        generate(objects=obj.name)


def test_overlapping_uvs_are_textured_with_a_remark():
    obj = add_mesh(
        "Mirrored", SQUARE + [(x + 2, y, z) for x, y, z in SQUARE], [(0, 1, 2, 3), (4, 5, 6, 7)], SQUARE_UVS * 2
    )
    assert "100% of its texture is shared" in " ".join(remarks_of(obj))
    works_and_reverts(obj)


def remarks_of(obj):
    from bl_ext.tweeddev.tweed import scene

    return scene.export(bpy.context, [obj]).remarks


def test_two_objects_on_the_same_uvs(unchanged):
    add_mesh("A", SQUARE, [(0, 1, 2, 3)], SQUARE_UVS)
    add_mesh("B", SQUARE, [(0, 1, 2, 3)], SQUARE_UVS)
    with unchanged("'B' uses the same part of the UV square as 'A'", "Set Textures", "Pack Islands"):
        generate(objects="A, B", atlas="one")


def test_zero_area_faces():
    obj = add_mesh("Thin", [*SQUARE, (0, 0, 0), (0, 0, 0)], [(0, 1, 2, 3), (0, 4, 5)], SQUARE_UVS + [(0.1, 0.1)] * 3)
    works_and_reverts(obj)


def test_vertices_that_are_not_numbers(unchanged):
    obj = add_mesh("Broken", [(math.nan, 0, 0), *SQUARE[1:]], [(0, 1, 2, 3)], SQUARE_UVS)
    with unchanged("'Broken' has 1 vertices whose position is not a number"):
        generate(objects=obj.name)


def test_zero_scale(unchanged, cube):
    cube.scale.x = 0
    bpy.context.view_layer.update()
    with unchanged("The scale of 'Cube' is zero"):
        generate(objects="Cube")


def test_negative_scale_turns_the_winding(cube):
    from bl_ext.tweeddev.tweed import scene

    cube.scale = (-1, 2, 1)
    bpy.context.view_layer.update()
    exported = scene.export(bpy.context, [cube])
    a, b, c = (exported.mesh.positions[exported.mesh.triangles[:, k]] for k in range(3))
    outward = ((a + b + c) * np.cross(b - a, c - a)).sum(axis=1)
    assert (outward > 0).all()
    assert ((a + b + c)[:, None, :] * exported.mesh.normals).sum(axis=2).min() > 0
    assert "negative" in " ".join(exported.remarks)
    works_and_reverts(cube)


def test_several_materials_are_all_kept(cube):
    second = bpy.data.materials.new("Second")
    second.use_nodes = True
    cube.data.materials.append(second)
    cube.data.polygons[0].material_index = 1
    assert "2 materials" in " ".join(remarks_of(cube))
    before = [m.name for m in cube.data.materials]
    works_and_reverts(cube)
    assert [m.name for m in cube.data.materials] == before


def test_modifier_that_changes_the_mesh(cube):
    from bl_ext.tweeddev.tweed import scene

    cube.modifiers.new("Subdivision", "SUBSURF").levels = 2
    assert len(scene.export(bpy.context, [cube]).mesh.triangles) == 6 * 4**2 * 2
    works_and_reverts(cube)


def test_modifier_that_drops_the_uv_map(cube):
    tree = bpy.data.node_groups.new("Drop", "GeometryNodeTree")
    for direction in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=direction, socket_type="NodeSocketGeometry")
    source, end = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
    drop = tree.nodes.new("GeometryNodeRemoveAttribute")
    drop.inputs["Name"].default_value = "UVMap"
    tree.links.new(source.outputs[0], drop.inputs[0])
    tree.links.new(drop.outputs[0], end.inputs[0])
    cube.modifiers.new("Drop", "NODES").node_group = tree
    assert "drops the UV map 'UVMap'" in " ".join(remarks_of(cube))
    works_and_reverts(cube)


def test_object_in_edit_mode(cube):
    from bl_ext.tweeddev.tweed import scene

    select(cube)
    bpy.ops.object.mode_set(mode="EDIT")
    import bmesh

    edit = bmesh.from_edit_mesh(cube.data)
    edit.verts.ensure_lookup_table()
    edit.verts[0].co.x = -5
    bmesh.update_edit_mesh(cube.data)
    exported = scene.export(bpy.context, [cube])
    assert exported.mesh.positions[:, 0].min() == -5
    assert exported.records[0]["fingerprint"]["loops"] == 24
    before = [link.from_node.name for link in cube.active_material.node_tree.links]
    assert generate() == {"FINISHED"}
    assert bpy.context.mode == "EDIT_MESH"
    assert len(cube.active_material.node_tree.links) > len(before)
    bpy.ops.tweed.revert()
    assert [link.from_node.name for link in cube.active_material.node_tree.links] == before


@pytest.mark.parametrize(
    "options, words",
    [
        ({"prompt": ""}, ("prompt is empty", "Write what")),
        ({"prompt": "   "}, ("prompt is empty",)),
        ({"texture_size": 100}, ("texture_size", "100", "steps of 8")),
    ],
)
def test_settings_out_of_range(unchanged, options, words):
    with unchanged(*words):
        generate(**options)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"texture_size": 0}, ("texture_size", "is 0", "64 to 8192")),
        ({"texture_size": 100_000}, ("texture_size", "100000", "64 to 8192")),
        ({"colour": "red"}, ("Unknown setting 'colour'", "allowed")),
        ({"quality": "best"}, ("quality", "best", "draft, standard, high")),
        ({"prompt": "x" * 5000}, ("prompt", "5000")),
    ],
)
def test_settings_from_a_script(unchanged, options, words):
    from bl_ext.tweeddev.tweed import api
    from bl_ext.tweeddev.tweed.jobs.errors import SettingsError

    with unchanged(*words, error=SettingsError):
        api.texture("Cube", **({"prompt": "red bricks"} | options))


def test_unknown_model_is_the_engines_refusal(unchanged):
    with unchanged("on purpose (model)", "Try Draft"):
        generate(prompt="x fake:fail:model@load")


def test_folder_without_room(unchanged, monkeypatch):
    from bl_ext.tweeddev.tweed.jobs import files

    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 100))
    with unchanged("No room left", "100 bytes free"):
        generate()


def test_jobs_folder_that_cannot_be_written(unchanged, tmp_path):
    from bl_ext.tweeddev.tweed import preferences

    (tmp_path / "file").write_text("in the way")
    preferences.get().jobs_folder = str(tmp_path / "file")
    with unchanged("cannot be written"):
        generate()


def link_from_library(tmp_path, kind, name):
    path = str(tmp_path / "library.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    with bpy.data.libraries.load(path, link=True) as (_, wanted):
        setattr(wanted, kind, [name])
    return getattr(wanted, kind)[0]


def test_linked_object(unchanged, tmp_path):
    obj = link_from_library(tmp_path, "objects", "Cube")
    bpy.context.scene.collection.objects.link(obj)
    with unchanged("'Cube' is linked from another file", "Make it local"):
        generate(objects="Cube")


def test_linked_mesh_gets_a_local_copy_in_the_objects_slot(tmp_path):
    mesh = link_from_library(tmp_path, "meshes", "Cube")
    obj = bpy.data.objects.new("Here", mesh)
    bpy.context.scene.collection.objects.link(obj)
    before = scene_snapshot()
    assert generate(objects="Here", seed=0) == {"FINISHED"}
    slot = obj.material_slots[0]
    assert slot.link == "OBJECT" and slot.material.library is None
    assert mesh.materials[0].library and mesh.materials[0].name == "Material"
    bpy.ops.tweed.revert(objects="Here")
    assert differences_that_matter(before) == []


def test_library_override_gets_a_local_copy(tmp_path):
    linked = link_from_library(tmp_path, "objects", "Cube")
    bpy.context.scene.collection.objects.link(linked)
    obj = linked.override_create(remap_local_usages=True)
    assert generate(objects=obj.name, seed=0) == {"FINISHED"}
    assert obj.material_slots[0].material.library is None
    bpy.ops.tweed.revert(objects=obj.name)
    assert obj.material_slots[0].material.library


def test_linked_material_is_copied(tmp_path):
    material = link_from_library(tmp_path, "materials", "Material")
    obj = add_mesh("Mine", SQUARE, [(0, 1, 2, 3)], SQUARE_UVS)
    obj.data.materials.append(material)
    works_and_reverts(obj)
