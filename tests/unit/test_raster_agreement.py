# SPDX-License-Identifier: Apache-2.0
"""Every back end draws every shape, nasty ones too, as the reference does; and the reference as a ray caster."""

import numpy as np
import pytest

from blender_addon.jobs.rigs import build_rig
from engine.cameras import clip_positions, eye
from engine.raster import pick_rasterizer
from engine.raster.scan import scan
from tests.raster_rules import camera, disagreements, hits, orthographic
from tests.shapes import SHAPES, cube, grid, separate_charts, torus

NUMBA = pick_rasterizer("numba")


def draw(shape, cameras, height=64, width=72, backend=NUMBA):
    clip = clip_positions(shape.positions, cameras)
    return backend.triangle_ids(clip, shape.triangles, height, width), clip


@pytest.mark.parametrize("name", SHAPES)
def test_numba_agrees_with_reference(name):
    shape = SHAPES[name]()
    ids, clip = draw(shape, build_rig("auto", 2, shape.positions))
    assert ids.dtype == np.int32 and ids.shape == (2, 64, 72)
    assert (ids >= 0).any()
    assert disagreements(ids, clip, shape.triangles).tolist() == []


@pytest.mark.parametrize("name", ["cube", "torus", "random_soup", "thin_fins"])
def test_both_agree_with_a_ray_caster(name):
    """Rays in world space, from the eye through the pixel centres: other formulas, other code."""
    shape = torus(16, 8) if name == "torus" else SHAPES[name]()
    cameras = build_rig("auto", 2, shape.positions)
    size = 32
    ids, clip = draw(shape, cameras, size, size)
    reference, _ = draw(shape, cameras, size, size, pick_rasterizer("reference"))
    corners = shape.positions[shape.triangles].astype(float)
    centre = (2 * np.arange(size) + 1) / size - 1
    x, y = np.meshgrid(centre, -centre)
    for view, one in enumerate(cameras):
        points = np.stack([x, y, np.zeros_like(x), np.ones_like(x)], -1).reshape(-1, 4)
        world = points @ np.linalg.inv(one.projection @ one.view).T
        directions = world[:, :3] / world[:, 3:] - eye(cameras)[view]
        distance = hits(np.repeat(eye(cameras)[view : view + 1], len(directions), 0), directions, corners)
        distance[distance <= 0] = np.inf
        first = np.where(np.isfinite(distance.min(1)), distance.argmin(1), -1)
        for drawn in (ids[view], reference[view]):
            assert np.count_nonzero(drawn.reshape(-1) != first) <= 2  # centres within rounding of an edge


@pytest.mark.parametrize(
    "eye_at, target, near",
    [
        ((0.7, 0.0, 0.02), (0.68, 1.0, 0.1), 0.02),
        ((0.0, 0.0, 0.4), (1.0, 0.2, 0.0), 0.3),
        ((0.9, 0.1, 0.3), (0, 0, 0), 0.5),
    ],
)
def test_camera_inside_the_mesh(eye_at, target, near):
    """Triangles that straddle the near plane are cut, not dropped."""
    shape = torus()
    ids, clip = draw(shape, [camera(eye_at, target, fov=90, near=near, far=20)])
    behind = (clip[0, :, 3] < near)[shape.triangles]
    assert (behind.any(1) & ~behind.all(1)).sum() > 3
    assert disagreements(ids, clip, shape.triangles).tolist() == []


def test_triangles_through_the_camera_and_beyond_far():
    floor = grid(1, 1, lambda s, t: np.stack([200 * s - 100, 200 * t - 100, 0 * s - 0.2], 1))
    ids, clip = draw(floor, [camera((0.1, 0.2, 0.0), (5.0, 1.0, 0.3), fov=100, near=0.01, far=50)])
    assert disagreements(ids, clip, floor.triangles).tolist() == []
    below = (ids[0] >= 0).any(1)
    assert below[-1] and not below[0]


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e9])
def test_guard_band(scale):
    """Huge triangles next to the camera: products of coordinates far beyond 64 bits of subpixels."""
    random = np.random.default_rng(int(np.log10(scale)))
    corners = random.normal(0, 1, (24, 3, 3)) * [1, 1, 0.5] * scale
    corners[:, 0] = random.uniform(-1, 1, (24, 3))
    shape = separate_charts(corners.reshape(-1, 3), np.arange(72).reshape(-1, 3))
    cameras = [camera((0, 0, 3), near=0.01, far=1e4), camera((0.2, 0.1, 0.0), (1, 1, 1), near=0.001, far=1e4)]
    ids, clip = draw(shape, cameras)
    assert len(disagreements(ids, clip, shape.triangles, slack=1 / 256)) <= 3
    assert (ids >= 0).mean() > 0.3


def test_orthographic():
    shape = SHAPES["interpenetrating"]()
    ids, clip = draw(shape, [orthographic((2, 3, 1.5)), orthographic((0.01, 0, 4))])
    assert (ids >= 0).any((1, 2)).all()
    assert disagreements(ids, clip, shape.triangles).tolist() == []


def test_equal_triangles_go_to_the_lowest_number():
    """Copies with turned and flipped corners, from other vertices, are exactly as far away."""
    shape = SHAPES["duplicated"]()
    for backend in ("numba", "reference"):
        ids, _ = draw(shape, build_rig("auto", 4, shape.positions), backend=pick_rasterizer(backend))
        assert 0 < ids.max() < len(shape.triangles) // 3


def test_order_of_triangles_and_corners_does_not_matter():
    shape = SHAPES["random_soup"]()
    cameras = [*build_rig("auto", 3, shape.positions), camera((0.1, 0, 0), (1, 0, 0), near=0.2, fov=90)]
    ids, _ = draw(shape, cameras)
    order = np.random.default_rng(0).permutation(len(shape.triangles))
    turned = shape.triangles[order][:, [2, 0, 1]]
    turned[::2] = turned[::2, ::-1]
    other, _ = draw(shape._replace(triangles=turned), cameras)
    np.testing.assert_array_equal(np.where(other >= 0, order[other], -1), ids)


@pytest.mark.parametrize("threads", [1, 3, 16])
def test_threads_and_bands_do_not_matter(monkeypatch, threads):
    shape = SHAPES["thin_fins"]()
    cameras = [*build_rig("auto", 2, shape.positions), camera((0.1, 0, 0), (1, 0, 0), near=0.2, fov=90)]
    expected, _ = draw(shape, cameras, 300, 200)
    monkeypatch.setattr("engine.raster.scan.thread_count", lambda: threads)
    monkeypatch.setattr("engine.raster.jit.thread_count", lambda: min(threads, 2))
    ids, _ = draw(shape, cameras, 300, 200)
    np.testing.assert_array_equal(ids, expected)


def test_zero_area_triangles_never_show():
    corners = np.zeros((3, 3, 3), np.float32)
    corners[1] = [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    corners[2] = [[0, 1, 0], [0, 1, 0], [1, 0, 0]]
    shape = cube()._replace(positions=corners.reshape(-1, 3), triangles=np.arange(9, dtype=np.int32).reshape(-1, 3))
    for backend in ("numba", "reference"):
        ids, _ = draw(shape, build_rig("auto", 4, cube().positions), backend=pick_rasterizer(backend))
        assert (ids == -1).all()


def test_nothing_to_draw():
    shape = torus()
    away = [camera((3, 0, 0), (6, 0, 0))]
    for backend in ("numba", "reference"):
        assert (draw(shape, away, backend=pick_rasterizer(backend))[0] == -1).all()
        none = shape._replace(triangles=np.zeros((0, 3), np.int32))
        assert (draw(none, away, backend=pick_rasterizer(backend))[0] == -1).all()
        assert draw(shape, [], backend=pick_rasterizer(backend))[0].shape == (0, 64, 72)


def test_not_finite_positions_draw_nothing_and_harm_nothing():
    shape = torus()
    clip = clip_positions(shape.positions, [camera((3, 0, 1))])
    expected = NUMBA.triangle_ids(clip, shape.triangles, 64, 64)
    broken = np.concatenate([clip, np.full((1, 2, 4), np.nan), np.full((1, 1, 4), np.inf)], 1)
    count = clip.shape[1]
    more = np.array([[count, 0, 1], [count, count + 1, count + 2], [0, 9, count + 2]], np.int32)
    ids = NUMBA.triangle_ids(broken, np.concatenate([shape.triangles, more]), 64, 64)
    np.testing.assert_array_equal(ids, expected)


def test_layers_count_every_triangle():
    shape = SHAPES["duplicated"]()
    clip = clip_positions(shape.positions, [camera((0, 0, 4))])
    third = len(shape.triangles) // 3
    once = scan(clip, shape.triangles[:third], 64, 64, count_layers=True)[1]
    np.testing.assert_array_equal(scan(clip, shape.triangles, 64, 64, count_layers=True)[1], 3 * once)
