# SPDX-License-Identifier: Apache-2.0
"""Bad meshes get a clear sentence; good ones arrive whole; remarks say what an artist should know."""

from types import SimpleNamespace

import numpy as np
import pytest

from blender_addon.jobs.arrays import MeshArrays
from blender_addon.jobs.errors import MeshError
from engine.mesh import Mesh, from_arrays, mesh_remarks, uv_layers
from engine.raster.scan import scan
from tests.raster_rules import mesh_of
from tests.shapes import SHAPES, cube, grid, join, quad, torus, uv_sphere


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_accepted(name):
    shape = SHAPES[name]()
    mesh = mesh_of(shape)
    assert isinstance(mesh, Mesh) and len(mesh.triangles) + mesh.dropped == len(shape.triangles)
    assert mesh.positions.dtype == mesh.uvs.dtype == mesh.normals.dtype == np.float32
    assert mesh.triangles.dtype == mesh.triangle_uvs.dtype == np.int32
    assert mesh.normals.shape == (len(mesh.triangles), 3, 3)
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=2), 1, atol=1e-5)
    np.testing.assert_array_equal(mesh.uvs, shape.uvs)  # the artist's UVs are never altered


def refused(shape, **changes) -> MeshError:
    with pytest.raises(MeshError) as caught:
        from_arrays(MeshArrays(*shape._replace(**changes)))
    assert caught.value.message and caught.value.action
    return caught.value


def test_no_faces():
    none = np.zeros((0, 3), np.int32)
    assert "no faces" in refused(cube(), triangles=none, triangle_uvs=none).message


def test_no_uvs():
    """As MeshArrays would refuse it in other words, it is asked past it."""
    shape = cube()._replace(uvs=np.zeros((0, 2), np.float32))
    with pytest.raises(MeshError, match="no UV map"):
        from_arrays(SimpleNamespace(**shape._asdict(), normals=None))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad):
    positions, uvs = cube().positions.copy(), cube().uvs.copy()
    positions[3, 1], uvs[2, 0] = bad, bad
    assert "1 of the mesh's 24 vertices" in refused(cube(), positions=positions).message
    assert "1 of the mesh's 24 UV points" in refused(cube(), uvs=uvs).message


def test_zero_area_everywhere():
    assert "zero area" in refused(cube(), positions=np.ones_like(cube().positions)).message


def test_zero_area_triangles_are_dropped_and_counted():
    mesh = mesh_of(uv_sphere(12, 6))
    assert mesh.dropped == 24
    assert any("24 faces have zero area" in remark for remark in mesh_remarks(mesh))


@pytest.mark.parametrize(
    "move, tile",
    [((1, 0), "1002"), ((0, 1), "1011"), ((-1, 0), "(-1, 0)"), ((0, -1), "(0, -1)"), ((0.5, 0), "1001, 1002")],
)
def test_uvs_in_other_tiles(move, tile):
    error = refused(quad(), uvs=quad().uvs + np.float32(move))
    assert tile in error.message and "0-1 square" in error.message and "Pack Islands" in error.action


def test_uvs_slightly_outside_are_clamped():
    sheet = quad()
    half, grow = np.float32(0.5), np.float32(1.0001 / 0.94)
    mesh = mesh_of(sheet._replace(uvs=(sheet.uvs - half) * grow + half))
    assert mesh.uvs.min() == 0 and mesh.uvs.max() == 1
    assert mesh_remarks(mesh) == []


def test_given_normals_are_kept_and_repaired():
    shape = cube()
    normals = np.tile(np.float32([0, 0, 2]), (12, 3, 1))
    normals[0, 0], normals[1, 1] = 0, np.nan
    mesh = from_arrays(MeshArrays(*shape, normals))
    assert mesh.normals[5].tolist() == [[0, 0, 1]] * 3
    np.testing.assert_allclose(mesh.normals[0, 0], mesh.normals[1, 1])
    assert abs(mesh.normals[0, 0]).max() == 1 and mesh.normals[0, 1].tolist() == [0, 0, 1]


def test_missing_normals_are_smooth_with_hard_edges():
    np.testing.assert_allclose(abs(mesh_of(cube()).normals).max(2), 1, atol=1e-6)
    sphere = mesh_of(SHAPES["icosphere"]())  # every triangle has vertices of its own in the UV map only
    np.testing.assert_allclose(sphere.normals, sphere.positions[sphere.triangles], atol=0.05)
    split = torus()
    corners = split.positions[split.triangles].reshape(-1, 3)
    apart = split._replace(positions=corners, triangles=np.arange(len(corners)).reshape(-1, 3))
    np.testing.assert_allclose(mesh_of(apart).normals, mesh_of(split).normals, atol=1e-5)  # same place, one normal


def test_good_meshes_have_no_remarks():
    for shape in (quad(), cube(), torus()):
        assert mesh_remarks(mesh_of(shape)) == []


def test_remark_on_overlaps():
    half = cube()
    both = join(half, half)
    remarks = mesh_remarks(mesh_of(both._replace(uvs=np.concatenate([half.uvs, half.uvs * np.float32(0.5)]))))
    assert len(remarks) == 1 and "used by more than one face" in remarks[0]
    everything = mesh_remarks(mesh_of(both._replace(uvs=np.concatenate([half.uvs, half.uvs]))))
    assert everything[0].startswith("100 %")


def test_remark_on_faces_without_uv_area():
    remarks = mesh_remarks(mesh_of(SHAPES["zero_area"]()))
    assert any("no area in the UV map" in remark for remark in remarks)


def test_remark_on_a_small_uv_map():
    sheet = quad()
    assert "uses only 2 %" in mesh_remarks(mesh_of(sheet._replace(uvs=sheet.uvs * np.float32(0.16))))[0]


@pytest.mark.parametrize("name", SHAPES)
def test_uv_layers_count_like_the_rasterizer(name):
    """Two independent ways to count how many triangles cover each cell centre."""
    mesh = mesh_of(SHAPES[name]())
    corners = mesh.uvs[mesh.triangle_uvs].astype(float)
    clip = np.concatenate([2 * mesh.uvs - 1, np.zeros((len(mesh.uvs), 1)), np.ones((len(mesh.uvs), 1))], 1)[None]
    expected = scan(clip, mesh.triangle_uvs, 101, 101, count_layers=True)[1][0, ::-1]
    assert np.count_nonzero(uv_layers(corners, 101) != expected) <= 10  # centres on an edge


def test_uv_layers_of_many_rows_at_once():
    tall = grid(300, 1, lambda s, t: np.stack([s, 0 * s, t], 1))
    corners = tall.uvs[tall.triangle_uvs].astype(float)
    layers = uv_layers(np.concatenate([corners] * 10), 512)
    assert set(np.unique(layers)) == {0, 10}
