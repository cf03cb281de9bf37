# SPDX-License-Identifier: Apache-2.0
"""Cameras see the whole object, look at its centre, share one scale and have names a person would use."""

import math

import numpy as np
import pytest

from blender_addon.jobs.errors import MeshError, SettingsError
from blender_addon.jobs.records import Camera
from blender_addon.jobs.rigs import FILL, RIGS, auto_angles, build_rig, direction, look_at, perspective

COUNTS = [*range(1, 17), 20, 24, 33, 48, 64]


def eye(camera):
    return -camera.view[:3, :3].T @ camera.view[:3, 3]


def clip(camera, points):
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    return homogeneous @ (camera.projection @ camera.view).T


def cloud(kind):
    random = np.random.default_rng(1)
    points = random.normal(size=(500, 3))
    if kind == "ball":
        return points / np.linalg.norm(points, axis=1)[:, None]
    shape = {
        "cube": np.sign(points),
        "pole": points * [0.01, 0.01, 5] + [100, -40, 7],
        "plate": points * [3, 3, 0],
        "grain": points * 1e-6 + [0, 0, 1e-3],
        "city": points * 1e6 - 3e6,
        "far": points + 1e5,
        "spike along the view": points * [0, 1, 0],
        "dot": points * 0 + 3,
        "origin": points * 0,
    }
    return shape[kind]


KINDS = ["ball", "cube", "pole", "plate", "grain", "city", "far", "spike along the view", "dot", "origin"]


@pytest.mark.parametrize("rig", RIGS)
@pytest.mark.parametrize("n", COUNTS)
def test_rig_has_n_named_views(rig, n):
    cameras = build_rig(rig, n, cloud("ball"))
    names = [camera.name for camera in cameras]
    assert len(cameras) == n == len(set(names)) and names[0] == "front"


@pytest.mark.parametrize("aspect", [1.0, 16 / 9, 0.5])
@pytest.mark.parametrize("n", [1, 2, 6, 8, 10, 24])
@pytest.mark.parametrize("kind", KINDS)
def test_every_point_is_in_every_frame_and_between_near_and_far(kind, n, aspect):
    points = cloud(kind)
    largest = 0.0
    for camera in build_rig("auto", n, points, aspect):
        x, y, z, w = clip(camera, points).T
        assert (w > 0).all() and (np.abs(z) < w).all()
        largest = max(largest, float((np.abs(np.stack([x, y])) / w).max()))
    assert largest < FILL + 1e-6
    if kind not in ("dot", "origin", "spike along the view"):
        assert largest > FILL - 1e-6, "the tightest view is not filled"


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("rig", RIGS)
def test_cameras_look_at_the_centre_from_one_distance_upright(rig, n):
    points = cloud("cube") * [1, 2, 3] + [5, 6, 7]
    centre = (points.min(0) + points.max(0)) / 2
    cameras = build_rig(rig, n, points)
    distances = [np.linalg.norm(eye(camera) - centre) for camera in cameras]
    np.testing.assert_allclose(distances, distances[0], rtol=1e-12)
    for camera in cameras:
        axes = camera.view[:3, :3]
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(axes) == pytest.approx(1), "left-handed"
        np.testing.assert_allclose((camera.view @ [*centre, 1])[:2], 0, atol=1e-12)
        assert (camera.view @ [*centre, 1])[2] < 0, "looks away"
        assert abs(axes[0, 2]) < 1e-12 and axes[1, 2] > 0, "world up is not up in the picture"
        assert camera.projection[0, 0] == cameras[0].projection[0, 0]


def test_front_is_minus_y_and_right_is_plus_x():
    views = {camera.name: camera for camera in build_rig("ring", 8, cloud("cube"))}
    sides = {"front": (0, -1), "right": (1, 0), "back": (0, 1), "left": (-1, 0), "front right": (1, -1)}
    for name, side in sides.items():
        place = eye(views[name])
        np.testing.assert_allclose(place[:2] / np.linalg.norm(place), side / np.linalg.norm(side), atol=1e-12)
    x = clip(views["front"], np.array([[0.5, 0, 0.0], [0, 0, 0.5]]))
    assert x[0, 0] > 0 and x[1, 1] > 0, "+X is right and +Z is up for the front camera"


def test_eight_views_are_a_ring_a_top_and_a_bottom():
    angles = auto_angles(8)
    assert [round(elevation) for _, elevation in angles] == [25, -15, 25, -15, 25, -15, 80, -65]
    names = [camera.name for camera in build_rig("auto", 8, cloud("ball"))]
    assert names == ["front", "front right", "back right", "back", "back left", "front left", "top", "bottom"]


@pytest.mark.parametrize(("n", "polar"), [(4, []), (5, [80]), (6, [80, -65]), (7, [80, -65]), (12, [80, -65])])
def test_above_and_below_are_looked_at_from_six_views_on(n, polar):
    heights = [round(elevation) for _, elevation in auto_angles(n)]
    assert len(heights) == n and heights[n - len(polar) :] == polar
    assert heights[: n - len(polar)] == [25 if i % 2 == 0 else -15 for i in range(n - len(polar))]


@pytest.mark.parametrize(("n", "angle"), [(4, 91), (6, 72), (8, 62), (10, 56), (16, 52), (24, 42), (33, 35), (64, 25)])
def test_auto_rig_leaves_no_direction_far_from_a_camera(n, angle):
    back = np.stack([camera.view[2, :3] for camera in build_rig("auto", n, cloud("ball"))])
    worst = math.degrees(math.acos((cloud("ball") @ back.T).max(axis=1).min()))
    assert worst < angle, f"{worst:.1f} degrees"


def test_direction_words():
    cameras = build_rig("auto", 8, cloud("ball"))
    words = {camera.name: direction(camera) for camera in cameras}
    assert words == {
        "front": "front",
        "front right": "side",
        "back right": "side",
        "back": "back",
        "back left": "side",
        "front left": "side",
        "top": "top",
        "bottom": "bottom",
    }
    scaled = Camera("scene camera", np.diag([2.0, 2.0, 2.0, 1.0]), cameras[0].projection)
    assert direction(scaled) == "top"


def test_wrong_requests_are_answered():
    with pytest.raises(SettingsError, match="'scene'; allowed: auto, ring") as caught:
        build_rig("scene", 8, cloud("ball"))
    assert caught.value.key == "rig" and "Blender" in caught.value.action
    with pytest.raises(SettingsError, match="0 views"):
        build_rig("auto", 0, cloud("ball"))
    for points in (np.zeros((0, 3)), np.full((4, 3), np.nan)):
        with pytest.raises(MeshError, match="no vertices"):
            build_rig("auto", 4, points)


def test_points_that_are_not_finite_are_left_out():
    points = np.concatenate([cloud("cube"), [[np.nan, 0, 0], [0, np.inf, 0]]]).astype(np.float32)
    assert build_rig("auto", 4, points) == build_rig("auto", 4, cloud("cube").astype(np.float32))


def test_look_at_and_perspective():
    view = look_at([0, 0, 5], [0, 0, 0])
    np.testing.assert_allclose(view @ [1, 2, 0, 1], [1, 2, -5, 1], atol=1e-12)
    for z, depth in ((-1.0, -1.0), (-9.0, 1.0)):
        x, y, clip_z, w = perspective(90, 1, 9, 2.0) @ [-2 * z, -z, z, 1]
        np.testing.assert_allclose([x / w, y / w, clip_z / w], [1, 1, depth], atol=1e-12)
    with pytest.raises(ValueError):
        look_at([1, 1, 1], [1, 1, 1])
    for lens in ((0, 1, 2), (35, 0, 2), (35, 2, 1), (35, 1, 2, 0)):
        with pytest.raises(ValueError):
            perspective(*lens)
