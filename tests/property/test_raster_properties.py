# SPDX-License-Identifier: Apache-2.0
"""Rules that hold for any triangles: one owner per pixel, the reference's picture, no harm from any numbers."""

import numpy as np
from hypothesis import example, given, reject
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.mesh import uv_layers
from engine.raster.scan import scan
from engine.raster.texels import nearest_weights, rasterize_uv
from tests.raster_rules import disagreements, mesh_of
from tests.shapes import separate_charts

SIZE = 24


def flat(points):
    """Clip space f64[1,V,4] of points [V,2] in pixels (x right, y down)."""
    clip = np.zeros((1, len(points), 4))
    clip[0, :, 0], clip[0, :, 1], clip[0, :, 3] = points[:, 0] / SIZE * 2 - 1, 1 - points[:, 1] / SIZE * 2, 1
    return clip


@given(st.integers(0, 2**32 - 1), st.integers(3, 9), st.sampled_from([1, 2, 16, 4096]))
def test_a_fan_covers_each_pixel_once(seed, count, grain):
    """A convex polygon in triangles around an inner point, all on a grid that hits pixel centres and edges exactly."""
    random = np.random.default_rng(seed)
    angle = 2 * np.pi * (np.arange(count) + random.uniform(-0.2, 0.2, count)) / count
    rim = SIZE / 2 + random.uniform(6, 40) * np.stack([np.cos(angle), np.sin(angle)], 1)
    points = np.rint(np.concatenate([[[SIZE / 2, SIZE / 2]], rim]) * grain) / grain + 0.5
    spokes = np.arange(1, count + 1)
    triangles = np.stack([0 * spokes, spokes, np.roll(spokes, -1)], 1).astype(np.int32)
    side = np.roll(points[1:], -1, 0) - points[1:]
    inward = points[0] - points[1:]
    if (side[:, 0] * inward[:, 1] - side[:, 1] * inward[:, 0] <= 0).any():
        reject()  # rounding put the inner point outside: no fan
    ids, layers = scan(flat(points), triangles, SIZE, SIZE, count_layers=True)
    assert layers.max() <= 1
    np.testing.assert_array_equal(layers > 0, ids >= 0)
    outline = points[1:]
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    x, y = columns[..., None] - outline[:, 0], rows[..., None] - outline[:, 1]
    inside = (side[:, 0] * y - side[:, 1] * x > 1e-3 * np.hypot(side[:, 0], side[:, 1])).all(-1)
    assert (layers[0][inside] == 1).all()


numbers = st.one_of(
    st.floats(-3, 3),
    st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-9, -1e-9, 1e4, -1e4, 1e-300]),
)


@given(arrays.arrays(np.float64, (9, 4), elements=numbers))
def test_any_clip_coordinates_agree_with_the_reference(points):
    """Also behind the eye, w = 0, and matrices that no camera has."""
    points[:, 3] += np.where(abs(points[:, 3]) < 0.05, 1.0, 0.0)
    triangles = np.arange(9, dtype=np.int32).reshape(3, 3)
    ids, _ = scan(points[None], triangles, SIZE, SIZE)
    assert len(disagreements(ids, points[None], triangles, slack=1 / 512)) <= 2


anything = st.one_of(st.floats(), st.floats(-2, 2), st.sampled_from([np.inf, -np.inf, np.nan, 1e308, -1e308, 5e-324]))


@given(arrays.arrays(np.float64, (6, 4), elements=anything))
@example(np.full((6, 4), np.nan))
@example(np.full((6, 4), 1e308))
def test_any_numbers_do_no_harm(points):
    ids, _ = scan(points[None], np.array([[0, 1, 2], [3, 4, 5], [0, 4, 2], [1, 1, 5]], np.int32), SIZE, SIZE)
    assert ids.min() >= -1 and ids.max() < 4


@given(arrays.arrays(np.float64, 8, elements=st.floats(-5, 5)))
def test_nearest_weights(c):
    """The nearest of many points of the triangle is not nearer than the one found."""
    px, py, *corners = c
    a, b, w, away = nearest_weights(px, py, *corners)
    assert min(a, b, w) >= 0 and abs(a + b + w - 1) < 1e-9
    points = np.array(corners).reshape(3, 2)
    found = np.array([a, b, w]) @ points
    assert abs(((found - [px, py]) ** 2).sum() - away) < 1e-6
    weights = np.random.default_rng(0).dirichlet((0.3, 0.3, 0.3), 300)
    assert (((weights @ points - [px, py]) ** 2).sum(1) >= away - 1e-6).all()


@given(arrays.arrays(np.float32, (5, 3, 2), elements=st.floats(0, 1, width=32)), st.integers(1, 40))
def test_texels_of_any_uv_map(uvs, size):
    """Whatever the UVs, each texel once, valid weights, and every corner's own texel among them."""
    shape = separate_charts(np.random.default_rng(1).normal(size=(15, 3)), np.arange(15).reshape(5, 3))
    mesh = mesh_of(shape._replace(uvs=uvs.reshape(-1, 2)))
    texels = rasterize_uv(mesh, size)
    assert (np.diff(texels.index) > 0).all() and texels.index.max(initial=0) < size * size
    assert texels.barycentrics.min(initial=0) >= 0
    column = np.minimum((mesh.uvs[:, 0].astype(float) * size).astype(int), size - 1)
    row = np.minimum(((1 - mesh.uvs[:, 1].astype(float)) * size).astype(int), size - 1)
    assert np.isin(row * size + column, texels.index).all()
    assert uv_layers(mesh.uvs[mesh.triangle_uvs].astype(float), size).max(initial=0) <= 5

