# SPDX-License-Identifier: Apache-2.0
"""Mesh files: UVs kept exactly, axes like Blender's, transforms applied, clear errors for what cannot be read."""

import json
import struct

import numpy as np
import pytest
from PIL import Image

from blender_addon.jobs.arrays import MeshArrays
from blender_addon.jobs.errors import MeshError
from engine.mesh import from_arrays, mesh_remarks
from engine.mesh_io import load_mesh, save_glb
from tests.raster_rules import mesh_of
from tests.shapes import SHAPES, cube, icosphere, l_shape, quad, torus


@pytest.fixture
def png(tmp_path):
    Image.new("RGB", (4, 4), (200, 30, 10)).save(tmp_path / "texture.png")
    return tmp_path / "texture.png"


def corners(mesh):
    """Positions, uvs and normals per corner in an order that does not depend on the file's."""
    rows = np.concatenate([mesh.positions[mesh.triangles], mesh.uvs[mesh.triangle_uvs], mesh.normals], 2)
    start = np.lexsort(np.round(rows[:, :, :5], 5).transpose(1, 2, 0).reshape(15, -1)[::-1])
    return rows[start]


def same_triangles(one, other, uv_tolerance=0.0):
    """Equal but for the order of triangles; corner order within a triangle is kept by every format."""
    a, b = corners(one), corners(other)
    assert a.shape == b.shape
    np.testing.assert_array_equal(a[..., :3], b[..., :3])
    np.testing.assert_allclose(a[..., 3:5], b[..., 3:5], rtol=0, atol=uv_tolerance)


@pytest.mark.parametrize("name", SHAPES)
def test_glb_round_trip(tmp_path, png, name):
    """Positions exactly; UVs to 2^-24, as glTF stores 1 - v in float32; normals too."""
    mesh = mesh_of(SHAPES[name]())
    save_glb(tmp_path / "out.glb", mesh, png)
    again, notes = load_mesh(tmp_path / "out.glb")
    assert notes == []
    same_triangles(mesh, again, uv_tolerance=2**-24)
    np.testing.assert_allclose(corners(mesh)[..., 5:], corners(again)[..., 5:], atol=3e-6)


def test_glb_is_stable_and_holds_the_png(tmp_path, png):
    """Written, read and written again gives the same bytes but for UV rounding of the first time."""
    mesh = mesh_of(torus())
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        save_glb(tmp_path / name / "m.glb", mesh, png)
        mesh, _ = load_mesh(tmp_path / name / "m.glb")
    assert (tmp_path / "b/m.glb").read_bytes() == (tmp_path / "c/m.glb").read_bytes()
    data = (tmp_path / "a/m.glb").read_bytes()
    assert png.read_bytes() in data and struct.unpack_from("<I", data, 8)[0] == len(data) and len(data) % 4 == 0


def test_normals_of_the_file_are_kept(tmp_path, png):
    """Not computed again: these lean 30 degrees off."""
    shape = quad()
    leaning = np.broadcast_to(np.float32([0.5, -(0.75**0.5), 0]), (2, 3, 3))
    save_glb(tmp_path / "m.glb", from_arrays(MeshArrays(*shape, leaning)), png)
    np.testing.assert_allclose(load_mesh(tmp_path / "m.glb")[0].normals, leaning, atol=1e-6)
    write_obj(tmp_path / "m.obj", shape)
    text = (tmp_path / "m.obj").read_text().replace("f ", "vn 0.5 0 0.8660254\nf ", 1)
    faces = [" ".join(f"{c}/1" if "/" in c else c for c in line.split(" ")) for line in text.splitlines()]
    (tmp_path / "m.obj").write_text("\n".join(faces))
    np.testing.assert_allclose(load_mesh(tmp_path / "m.obj")[0].normals, leaning, atol=1e-6)


def test_glb_welds_vertices(tmp_path, png):
    save_glb(tmp_path / "m.glb", mesh_of(torus()), png)
    data = (tmp_path / "m.glb").read_bytes()
    tree = json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])
    assert tree["accessors"][0]["count"] == 33 * 17
    low, high = tree["accessors"][0]["min"], tree["accessors"][0]["max"]
    np.testing.assert_allclose([low, high], [[-1, -0.3, -1], [1, 0.3, 1]], atol=1e-6)  # glTF is Y up


def write_obj(path, shape, uvs=True):
    lines = [f"v {x!r} {z!r} {-y!r}" for x, y, z in shape.positions.tolist()]  # OBJ is Y up in Blender
    lines += [f"vt {u!r} {v!r}" for u, v in shape.uvs.tolist()] if uvs else []
    for t, w in zip(shape.triangles + 1, shape.triangle_uvs + 1, strict=True):
        lines.append("f " + " ".join(f"{a}/{b}" if uvs else f"{a}" for a, b in zip(t, w, strict=True)))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", ["cube", "icosphere", "torus"])
def test_obj_keeps_uvs_exactly(tmp_path, name):
    write_obj(tmp_path / "m.obj", SHAPES[name]())
    mesh, notes = load_mesh(tmp_path / "m.obj")
    assert notes == []
    same_triangles(mesh_of(SHAPES[name]()), mesh)


def test_obj_with_quads_objects_groups_and_negative_indices(tmp_path):
    (tmp_path / "m.obj").write_text(
        "mtllib none.mtl\no A\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt .1 .2\nvt .9 .2\nvt .9 .8\nvt .1 .8\n"
        "usemtl one\nf 1/1 2/2 3/3 4/4\no B\nv 0 0 1\nv 1 0 1\nv 1 1 1\nusemtl two\nf 5/1 6/2 7/3\n",
        encoding="utf-8",
    )
    mesh, _ = load_mesh(tmp_path / "m.obj")
    assert len(mesh.triangles) == 3
    assert sorted(np.unique(mesh.uvs[:, 0]).tolist()) == pytest.approx([0.1, 0.9])
    np.testing.assert_allclose(np.ptp(mesh.positions, axis=0), [1, 1, 1])


@pytest.mark.parametrize("names", [("s", "t"), ("u", "v"), ("texture_u", "texture_v")])
def test_ply_keeps_uvs_exactly_and_axes(tmp_path, names):
    shape = icosphere(1)
    corner = shape.positions[shape.triangles].reshape(-1, 3)
    rows = np.concatenate([corner, shape.uvs], 1).astype("<f4").tobytes()
    faces = np.zeros(len(shape.triangles), [("n", "u1"), ("i", "<i4", 3)])
    faces["n"], faces["i"] = 3, np.arange(len(corner)).reshape(-1, 3)
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(corner)}"]
    lines += [f"property float {name}" for name in ("x", "y", "z", *names)]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    text = "\n".join(lines).encode()
    (tmp_path / "m.ply").write_bytes(text + rows + faces.tobytes())
    mesh, notes = load_mesh(tmp_path / "m.ply")
    assert notes == []
    same_triangles(mesh_of(shape), mesh)


def gltf(nodes, uv_type=5126, material=True):
    """A .gltf tree and its buffer: one quad in the XY plane with uvs, used by `nodes`."""
    positions = np.float32([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    uvs = np.float32([[0, 1], [0.5, 1], [0.5, 0.25], [0, 0.25]])
    if uv_type != 5126:
        kind, whole = {5121: (np.uint8, 255), 5123: (np.uint16, 65535)}[uv_type]
        wide = np.zeros((4, 4), kind)  # glTF pads bytes to four
        wide[:, :2] = np.rint(uvs * whole)
        uvs = wide
    indices = np.uint32([0, 1, 2, 0, 2, 3])
    blobs = [positions.tobytes(), uvs.tobytes(), indices.tobytes()]
    views, at = [], 0
    for blob in blobs:
        views.append({"buffer": 0, "byteOffset": at, "byteLength": len(blob)})
        at += len(blob)
    if uv_type != 5126:
        views[1]["byteStride"] = uvs.itemsize * 4
    primitive = {"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": 2, **({"material": 0} if material else {})}
    accessors = [
        {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3", "min": [0, 0, 0], "max": [1, 1, 0]},
        {"bufferView": 1, "componentType": uv_type, "count": 4, "type": "VEC2", "normalized": uv_type != 5126},
        {"bufferView": 2, "componentType": 5125, "count": 6, "type": "SCALAR"},
    ]
    tree = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": nodes,
        "meshes": [{"primitives": [primitive]}], "accessors": accessors, "bufferViews": views,
        "buffers": [{"byteLength": at, "uri": "m.bin"}],
    }  # fmt: skip
    return ({**tree, "materials": [{"name": "m"}]} if material else tree), b"".join(blobs)


def write_gltf(folder, tree, blob):
    (folder / "m.gltf").write_text(json.dumps(tree), encoding="utf-8")
    (folder / "m.bin").write_bytes(blob)
    return folder / "m.gltf"


@pytest.mark.parametrize("material", [True, False])
@pytest.mark.parametrize("uv_type", [5126, 5123, 5121])
def test_gltf_uvs_with_and_without_material_and_in_every_number_format(tmp_path, uv_type, material):
    """trimesh forgets UVs without a material and does not scale 8- and 16-bit ones."""
    mesh, notes = load_mesh(write_gltf(tmp_path, *gltf([{"mesh": 0}], uv_type, material)))
    assert notes == []
    assert np.unique(mesh.uvs[:, 0]).tolist() == pytest.approx([0, 0.5], abs=0.003)
    assert np.unique(mesh.uvs[:, 1]).tolist() == pytest.approx([0, 0.75], abs=0.003)
    top = mesh.positions[mesh.triangles].reshape(-1, 3)[:, 2] > 0.5  # Y became Z
    assert (mesh.uvs[mesh.triangle_uvs].reshape(-1, 2)[top, 1] > 0.7).all()


def test_scene_transforms_instances_and_mirrors(tmp_path):
    nodes = [
        {"children": [1, 2], "translation": [0, 0, 5]},
        {"mesh": 0, "scale": [2, 2, 2]},
        {"mesh": 0, "scale": [-1, 1, 1]},
    ]
    mesh, _ = load_mesh(write_gltf(tmp_path, *gltf(nodes)))
    assert len(mesh.triangles) == 4
    np.testing.assert_allclose(mesh.positions[:, 1], -5)  # glTF's +Z is Blender's -Y
    assert mesh.positions[:, 0].min() == -1 and mesh.positions[:, 0].max() == 2 and mesh.positions[:, 2].max() == 2
    np.testing.assert_allclose(mesh.normals, np.broadcast_to([0, -1, 0], mesh.normals.shape), atol=1e-6)


def test_compressed_gltf_says_so(tmp_path):
    tree, blob = gltf([{"mesh": 0}])
    tree["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    with pytest.raises(MeshError, match="compressed"):
        load_mesh(write_gltf(tmp_path, tree, blob))


def test_stl_is_unwrapped_with_a_note(tmp_path):
    shape = l_shape()
    rows = np.zeros(len(shape.triangles), [("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")])
    rows["v"] = shape.positions[shape.triangles]
    (tmp_path / "m.stl").write_bytes(b"\0" * 80 + struct.pack("<I", len(rows)) + rows.tobytes())
    mesh, notes = load_mesh(tmp_path / "m.stl")
    assert len(notes) == 1 and "xatlas" in notes[0]
    assert len(mesh.triangles) == 36 and 0 <= mesh.uvs.min() and mesh.uvs.max() <= 1
    assert not any("more than one face" in remark for remark in mesh_remarks(mesh))


def test_obj_without_uvs_is_unwrapped(tmp_path):
    write_obj(tmp_path / "m.obj", cube(), uvs=False)
    mesh, notes = load_mesh(tmp_path / "m.obj")
    assert "xatlas" in notes[0] and len(mesh.triangles) == 12
    np.testing.assert_allclose(np.ptp(mesh.positions, axis=0), 2)


def test_some_objects_without_uvs(tmp_path):
    tree, blob = gltf([{"children": [1, 2]}, {"mesh": 0}, {"mesh": 1, "name": "Bare"}])
    tree["meshes"].append({"primitives": [{"attributes": {"POSITION": 0}, "indices": 2}]})
    with pytest.raises(MeshError, match="1 of 2 objects .*Bare"):
        load_mesh(write_gltf(tmp_path, tree, blob))


@pytest.mark.parametrize("name", ["m.glb", "m.gltf", "m.obj", "m.ply", "m.stl"])
@pytest.mark.parametrize(
    "data",
    [b"", b"not a mesh", b"glTF\2\0\0\0\xff\xff", b"ply\nformat ascii 1.0\nelement vertex 4\n", b"\xff" * 300],
    ids=["empty", "text", "glb", "ply", "bytes"],
)
def test_damaged_files(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(MeshError) as caught:
        load_mesh(tmp_path / name)
    assert name in caught.value.message and caught.value.action


def test_truncated_glb(tmp_path, png):
    save_glb(tmp_path / "m.glb", mesh_of(cube()), png)
    data = (tmp_path / "m.glb").read_bytes()
    for length in (10, 30, len(data) // 2):
        (tmp_path / "cut.glb").write_bytes(data[:length])
        with pytest.raises(MeshError):
            load_mesh(tmp_path / "cut.glb")


def test_unknown_and_missing_files(tmp_path):
    with pytest.raises(MeshError, match=r"cannot read model\.fbx"):
        load_mesh(tmp_path / "model.fbx")
    with pytest.raises(MeshError, match="no file"):
        load_mesh(tmp_path / "model.glb")


def test_names_with_spaces_and_letters_of_all_kinds(tmp_path, png):
    path = tmp_path / "Ünïcode 模型.glb"
    save_glb(path, mesh_of(quad()), png)
    assert len(load_mesh(path)[0].triangles) == 2


def test_dropped_triangles_are_not_saved(tmp_path, png):
    shape = cube()
    mesh = from_arrays(MeshArrays(*shape._replace(triangles=shape.triangles.copy())))
    save_glb(tmp_path / "m.glb", mesh, png)
    assert len(load_mesh(tmp_path / "m.glb")[0].triangles) == 12
