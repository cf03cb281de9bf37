# SPDX-License-Identifier: Apache-2.0
"""From Blender to numpy: world space, joined objects, cameras."""

import bpy
import numpy as np
from mathutils import Matrix


def export(*objects):
    from bl_ext.tweeddev.tweed import scene

    bpy.context.view_layer.update()
    return scene.export(bpy.context, list(objects))


def test_cube_in_world_space(cube):
    cube.matrix_world = Matrix.Translation((1, 2, 3)) @ Matrix.Rotation(0.5, 4, "Z") @ Matrix.Diagonal((1, 2, 3, 1))
    mesh = export(cube).mesh
    expected = np.array([cube.matrix_world @ v.co for v in cube.data.vertices])
    np.testing.assert_allclose(mesh.positions, expected, atol=1e-5)
    assert mesh.triangles.shape == (12, 3) and mesh.triangle_uvs.shape == (12, 3) and mesh.uvs.shape == (24, 2)
    a, b, c = (mesh.positions[mesh.triangles[:, k]] for k in range(3))
    geometric = np.cross(b - a, c - a)
    geometric /= np.linalg.norm(geometric, axis=1, keepdims=True)
    np.testing.assert_allclose(mesh.normals, np.repeat(geometric[:, None], 3, axis=1), atol=1e-5)


def test_uvs_belong_to_their_corners(cube):
    mesh = export(cube).mesh
    loops = cube.data.loops
    layer = cube.data.uv_layers[0].uv
    found = {
        (int(v), *np.round(mesh.uvs[u], 5))
        for face, uvs in zip(mesh.triangles, mesh.triangle_uvs, strict=True)
        for v, u in zip(face, uvs, strict=True)
    }
    assert found == {(loop.vertex_index, *np.round(np.float32(layer[i].vector), 5)) for i, loop in enumerate(loops)}


def test_of_several_uv_maps_the_active_one_is_painted_in(cube):
    before = export(cube).mesh.uvs.copy()
    other = cube.data.uv_layers.new(name="Lightmap")
    values = np.zeros((len(cube.data.loops), 2), np.float32)
    other.uv.foreach_get("vector", values.ravel())
    other.uv.foreach_set("vector", (values * np.float32(0.25)).ravel())
    assert np.array_equal(export(cube).mesh.uvs, before), "a new map is not the active one"
    cube.data.uv_layers.active = cube.data.uv_layers["Lightmap"]
    exported = export(cube)
    assert np.allclose(exported.mesh.uvs.max(0), before.max(0) / 4) and exported.records[0]["uv_map"] == "Lightmap"
    assert bpy.ops.tweed.generate(prompt="x", texture_size=64) == {"FINISHED"}
    nodes = cube.active_material.node_tree.nodes
    assert [n.uv_map for n in nodes if n.bl_idname == "ShaderNodeUVMap"] == ["Lightmap"]


def test_a_uv_map_is_chosen_by_name(cube, draw, unchanged):
    from bl_ext.tweeddev.tweed import panels, subpanels

    cube.data.uv_layers.new(name="Second")
    assert cube.data.uv_layers.active.name != "Second"
    bpy.context.scene.tweed.uv_map = "Second"
    assert export(cube).records[0]["uv_map"] == "Second"
    assert ("prop", "uv_map") in draw([subpanels.TWEED_PT_output])
    assert bpy.ops.tweed.generate(prompt="x", texture_size=64) == {"FINISHED"}
    nodes = cube.active_material.node_tree.nodes
    assert [n.uv_map for n in nodes if n.bl_idname == "ShaderNodeUVMap"] == ["Second"]
    assert cube.data.uv_layers.active.name != "Second", "what is active is the artist's"
    with unchanged("no UV map named 'Third'", "Second"):
        bpy.ops.tweed.generate(prompt="x", texture_size=64, uv_map="Third")
    bpy.context.scene.tweed.uv_map = "Third"
    said = " ".join(str(text) for kind, text in draw([panels.TWEED_PT_main]) if kind == "label")
    assert "no UV map named" in said


def test_two_objects_are_joined_with_their_numbers(cube):
    other = bpy.data.objects.new("Other", cube.data.copy())
    bpy.context.scene.collection.objects.link(other)
    other.location.x = 10
    for obj, shift in ((cube, 0.0), (other, 0.5)):
        layer = obj.data.uv_layers[0]
        values = np.float32([corner.vector for corner in layer.uv]) * np.float32([0.49, 1]) + np.float32([shift, 0])
        obj.data.uv_layers.remove(layer)  # copies share their arrays, and foreach_set writes into all of them
        obj.data.uv_layers.new(name="UVMap").uv.foreach_set("vector", values.ravel())
        obj.data.update()
    exported = export(cube, other)
    assert exported.mesh.objects.tolist() == [0] * 12 + [1] * 12
    assert exported.mesh.positions[exported.mesh.triangles[12:]].min(axis=(0, 1))[0] == 9
    assert exported.mesh.triangle_uvs[12:].min() == 24
    assert exported.remarks == []
    assert bpy.ops.tweed.generate(objects="Cube, Other", prompt="x", texture_size=64) == {"FINISHED"}
    images = {
        n.image for o in (cube, other) for n in o.active_material.node_tree.nodes if n.bl_idname == "ShaderNodeTexImage"
    }
    assert len(images) == 1


def test_cameras_of_the_scene(cube):
    from bl_ext.tweeddev.tweed import scene

    camera = bpy.data.objects["Camera"]
    view = scene.cameras(bpy.context)[0]
    assert view.name == "Camera"
    center = (
        view.projection @ view.view @ np.array([*(camera.matrix_world @ Matrix.Translation((0, 0, -5))).translation, 1])
    )
    np.testing.assert_allclose(center[:2] / center[3], 0, atol=1e-5)
    right = (
        view.projection @ view.view @ np.array([*(camera.matrix_world @ Matrix.Translation((1, 0, -5))).translation, 1])
    )
    half = np.tan(camera.data.angle / 2)
    np.testing.assert_allclose(right[0] / right[3], 0.2 / half, atol=1e-5)
    assert bpy.ops.tweed.generate(objects="Cube", prompt="x", texture_size=64, rig="scene") == {"FINISHED"}


def test_scene_without_cameras_is_refused(cube, unchanged):
    bpy.data.objects.remove(bpy.data.objects["Camera"])
    with unchanged("The scene has no camera"):
        bpy.ops.tweed.generate(objects="Cube", prompt="x", texture_size=64, rig="scene")


def test_fingerprint_is_the_same_in_edit_mode(cube):
    before = export(cube).records[0]["fingerprint"]
    bpy.ops.object.mode_set(mode="EDIT")
    assert export(cube).records[0]["fingerprint"] == before


def test_overlap_is_measured():
    from bl_ext.tweeddev.tweed import uv

    square = np.float32([(0, 0), (1, 0), (1, 1), (0, 1)])
    triangles = np.int32([(0, 1, 2), (0, 2, 3)])
    def shared(uvs, corners):
        return uv.overlap_share([uv.coverage(uvs, corners)])

    assert shared(square, triangles) == 0
    assert uv.coverage(square, triangles).min() == 1, "a shared edge leaves no gap"
    assert shared(square, np.concatenate([triangles, triangles[:, ::-1]])) == 1
    half = np.concatenate([square, square * [0.5, 1]]).astype(np.float32)
    both = np.concatenate([triangles, triangles + 4])
    assert abs(shared(half, both) - 0.5) < 0.01
    half[4:] += [0, 3]  # the same in another tile: shared where the texture repeats, not where it is one of its own
    tile, plain = np.int64([[0, 0]] * 2 + [[0, 3]] * 2), np.zeros(4, np.int64)
    assert abs(uv.overlap_share(uv.coverages(half, both, tile, plain).values()) - 0.5) < 0.01
    own = uv.coverages(half, both, tile, np.int64([0, 0, 1, 1]))
    assert uv.overlap_share(own.values()) == 0 and abs((own[1] > 0).mean() - 0.5) < 0.01
    assert list(uv.coverages(half, both, tile, np.int64([0, 0, -1, -1]))) == [0], "what is not painted is not counted"
