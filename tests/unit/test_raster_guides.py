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
from engine.raster.guides import control_canny, control_normal, control_picture
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
