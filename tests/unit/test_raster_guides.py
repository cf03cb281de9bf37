# SPDX-License-Identifier: Apache-2.0
"""Normal and edge pictures of a mesh whose answers are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blender_addon.jobs.arrays import MeshArrays
from blender_addon.jobs.records import Camera
from blender_addon.jobs.rigs import look_at, perspective
from engine.mesh import from_arrays
from engine.raster import pick_rasterizer
from engine.raster.gbuffer import render_gbuffer
from engine.raster.guides import camera_maps, control_canny, control_normal, control_picture, geometry_maps
from tests.shapes import cube, join

SIZE = 64


def seen(mesh, eye):
    camera = Camera("c", look_at(np.array(eye, float), np.zeros(3)), perspective(40.0, 0.1, 100.0))
    gbuffer = render_gbuffer(pick_rasterizer("numba", torch.device("cpu")), mesh, [camera], SIZE, SIZE)
    return gbuffer, [camera]


@pytest.fixture(scope="module")
def box():
    return from_arrays(MeshArrays(*cube(), None, None, None))


def test_a_wall_in_front_is_blue_and_so_is_the_background(box):
    """Facing the camera: (0, 0, 1) is the colour (0.5, 0.5, 1)."""
    gbuffer, cameras = seen(box, (0, -5, 0))
    picture = control_normal(gbuffer, box, cameras)
    assert picture.shape == (1, 3, SIZE, SIZE) and gbuffer.mask.any() and not gbuffer.mask.all()
    np.testing.assert_allclose(picture[0].reshape(3, -1).T, np.tile([0.5, 0.5, 1.0], (SIZE * SIZE, 1)), atol=1e-5)


def test_left_is_red_and_up_is_green(box):
    """From the front right and above: the front wall looks left and up, the right wall right, the top up."""
    gbuffer, cameras = seen(box, (4, -5, 3))
    picture = np.moveaxis(control_normal(gbuffer, box, cameras)[0], 0, -1)
    view = cameras[0].view[:3, :3]
    for world in ((0, -1, 0), (1, 0, 0), (0, 0, 1)):
        inside = gbuffer.mask[0] & (gbuffer.normal[0] @ np.array(world) > 0.99)
        assert inside.sum() > 50
        x, y, z = view @ np.array(world, float)
        np.testing.assert_allclose(
            picture[inside], np.tile([(1 - x) / 2, (1 + y) / 2, (1 + z) / 2], (inside.sum(), 1)), atol=1e-4
        )
    right = gbuffer.mask[0] & (gbuffer.normal[0] @ np.array((1, 0, 0)) > 0.99)
    front = gbuffer.mask[0] & (gbuffer.normal[0] @ np.array((0, -1, 0)) > 0.99)
    assert picture[right][:, 0].max() < 0.5 < picture[front][:, 0].min()  # right walls lack red, left ones have it


def test_edges_are_outlines_and_creases_and_nothing_else(box):
    gbuffer, _ = seen(box, (0, -5, 0))
    edges = control_canny(gbuffer)[0]
    rows, columns = np.nonzero(gbuffer.mask[0])
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    expected = np.zeros((SIZE, SIZE), bool)
    expected[[top, bottom], left : right + 1] = True
    expected[top : bottom + 1, [left, right]] = True
    assert np.array_equal(edges > 0, expected)  # the outline lies on the mesh, and a flat wall has none inside
    gbuffer, _ = seen(box, (4, -5, 3))
    edges, names = control_canny(gbuffer)[0], np.where(gbuffer.mask[0], gbuffer.triangle[0] // 2, -1)
    around = [np.roll(names, step, axis) for axis in (0, 1) for step in (-1, 1)]
    inner = np.all([other == names for other in around], axis=0)
    inner[[0, -1]] = inner[:, [0, -1]] = False
    assert inner.sum() > 500 and edges[inner].max() == 0.0
    crease = (names[:, :-1] != names[:, 1:]) & (names[:, :-1] >= 0) & (names[:, 1:] >= 0)
    assert (np.maximum(edges[:, :-1], edges[:, 1:])[crease] == 1).all() and crease.sum() > 10


def test_one_thing_in_front_of_another_is_outlined_and_a_slanted_floor_is_not():
    """A small cube before a large wall that is parallel to its front: a step, though the normals agree."""
    mesh = from_arrays(MeshArrays(*join(cube(0.3, (0.0, -2.0, 0.0)), cube(1.0)), None, None, None))
    gbuffer, _ = seen(mesh, (0, -5, 0))
    small = gbuffer.position[0, ..., 1] < -2.2
    edges = control_canny(gbuffer)[0]
    rows, columns = np.nonzero(small)
    assert edges[rows.min(), columns.min() : columns.max() + 1].min() == 1
    assert edges[rows.min() + 2 : rows.max() - 1, columns.min() + 2 : columns.max() - 1].max() == 0


def test_shapes_by_kind(box):
    gbuffer, cameras = seen(box, (0, -5, 0))
    assert [control_picture(kind, gbuffer, box, cameras).shape[1] for kind in ("depth", "normal", "canny")] == [1, 3, 1]


def test_maps_of_places_and_normals(box):
    """A box twice as wide as deep and high, seen squarely: its front wall lies at -Y, half as far from the middle as its
    sides, so at y = 0.25; x runs from 0 to 1 and z from 0.25 to 0.75. It faces -Y: (0.5, 0, 0.5)."""
    wide = from_arrays(MeshArrays(box.positions * [2, 1, 1] + np.array([5, 6, 7], np.float32), box.triangles, box.uvs,
                                  box.triangle_uvs, None, None, None))  # fmt: skip
    middle = (wide.positions.min(0) + wide.positions.max(0)) / 2
    half = float(np.ptp(wide.positions, 0).max()) / 2 * 1.1
    lens = np.diag([1 / half, 1 / half, -1 / 50, 1.0])
    camera = Camera("c", look_at(middle + [0, -20, 0], middle), lens)
    gbuffer = render_gbuffer(pick_rasterizer("numba", torch.device("cpu")), wide, [camera], SIZE, SIZE)
    maps = geometry_maps(gbuffer, wide)
    assert maps.shape == (1, 6, SIZE, SIZE) and maps.dtype == np.float32
    inside = gbuffer.mask[0]
    assert inside.any() and not inside.all() and (maps[0][:, ~inside] == 0.5).all()
    x, y, z, *normal = maps[0][:, inside]
    np.testing.assert_allclose(y, 0.25, atol=1e-5)
    pixel = 2 * half / SIZE / np.ptp(wide.positions, 0).max()
    for values, low, high in ((x, 0, 1), (z, 0.25, 0.75)):
        np.testing.assert_allclose([values.min(), values.max()], [low, high], atol=pixel)
    np.testing.assert_allclose(np.array(normal), np.tile([[0.5], [0], [0.5]], (1, inside.sum())), atol=1e-5)
    row = np.flatnonzero(inside.any(1))
    assert maps[0, 2, row[0]][inside[row[0]]].mean() > 0.7 > 0.3 > maps[0, 2, row[-1]][inside[row[-1]]].mean()  # Z is up


def test_maps_of_cameras_say_where_they_look_and_stand(box):
    """From the front: looks along +Y, (0.5, 1, 0.5), and stands at -Y, (0.5, 0, 0.5); from above alike in z."""
    cameras = [Camera("a", look_at(np.array([0.0, -5, 0]), np.zeros(3)), perspective(40.0, 0.1, 100.0)),
               Camera("b", look_at(np.array([0.0, 0, 5]), np.zeros(3)), perspective(40.0, 0.1, 100.0))]  # fmt: skip
    found = camera_maps(box, cameras, (4, 4))
    assert found.shape == (2, 6, 4, 4)
    np.testing.assert_allclose(found[0, :, 1, 2], [0.5, 1, 0.5, 0.5, 0, 0.5], atol=1e-6)
    np.testing.assert_allclose(found[1, :, 3, 0], [0.5, 0.5, 0, 0.5, 0.5, 1], atol=1e-6)
