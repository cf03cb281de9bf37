# SPDX-License-Identifier: Apache-2.0
"""Cameras see the whole object, look at its centre, share one scale and have names a person would use."""

import math

import numpy as np
import pytest

from blender_addon.jobs.errors import MeshError, SettingsError
from blender_addon.jobs.records import Camera
from blender_addon.jobs.rigs import (
    FILL,
    RIGS,
    auto_angles,
    box_angles,
    build_rig,
    direction,
    look_at,
    names_left,
    perspective,
    sphere_angles,
    view_names,
    views_of,
    views_on,
    wished,
)
from blender_addon.jobs.settings import SETTINGS, resolve

COUNTS = [*range(1, 17), 20, 24, 33, 48, 64]
OF_RIGS = [(rig, n) for rig in RIGS for n in COUNTS if rig != "box" or n <= 26]


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


@pytest.mark.parametrize(("rig", "n"), OF_RIGS)
def test_rig_has_n_named_views(rig, n):
    cameras = build_rig(rig, n, cloud("ball"))
    names = [camera.name for camera in cameras]
    assert len(cameras) == n == len(set(names)) and names[0] == "front"
    assert view_names(rig, n) == tuple(names)


@pytest.mark.parametrize("aspect", [1.0, 16 / 9, 0.5])
@pytest.mark.parametrize(("rig", "n"), [("auto", n) for n in (1, 2, 6, 8, 10, 24)] + [("box", 6), ("box", 26), ("sphere", 9)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_point_is_in_every_frame_and_between_near_and_far(kind, rig, n, aspect):
    points = cloud(kind)
    largest = 0.0
    for camera in build_rig(rig, n, points, aspect):
        x, y, z, w = clip(camera, points).T
        assert (w > 0).all() and (np.abs(z) < w).all()
        largest = max(largest, float((np.abs(np.stack([x, y])) / w).max()))
    assert largest < FILL + 1e-6
    if kind not in ("dot", "origin", "spike along the view") or (rig == "box" and kind == "spike along the view"):
        assert largest > FILL - 1e-6, "the tightest view is not filled"


@pytest.mark.parametrize(("rig", "n"), OF_RIGS)
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
        assert abs(axes[0, 2]) < 1e-12, "the horizon is not level"
        assert axes[1, 2] > 0 or abs(axes[2, 2]) > 0.999, "world up is not up in the picture"
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


def directions(angles):
    """Unit vectors from the object to the cameras, from the definition of azimuth and elevation."""
    turn, rise = np.radians(np.array(angles)).T
    return np.stack([np.sin(turn) * np.cos(rise), -np.cos(turn) * np.cos(rise), np.sin(rise)], 1)


SIX = {"front": (0, -1, 0), "right": (1, 0, 0), "back": (0, 1, 0), "left": (-1, 0, 0), "top": (0, 0, 1), "bottom": (0, 0, -1)}


def test_six_views_of_a_box_look_squarely_at_its_sides():
    points = cloud("cube") * [1, 2, 3]
    cameras = {camera.name: camera for camera in build_rig("box", 6, points)}
    assert list(cameras) == list(SIX)
    ups = {"top": (0, 1, 0), "bottom": (0, -1, 0)}  # as in a view almost from there, turned on from the front
    for name, side in SIX.items():
        axes = cameras[name].view[:3, :3]
        np.testing.assert_allclose(axes[2], side, atol=1e-12)
        np.testing.assert_allclose(axes[1], ups.get(name, (0, 0, 1)), atol=1e-12)
    almost = look_at(directions([(0, -89)])[0], [0, 0, 0])[:3, :3]
    assert cameras["bottom"].view[1, :3] @ almost[1] > 0.99
    assert {name: direction(camera) for name, camera in cameras.items()} == {
        "front": "front", "right": "side", "back": "back", "left": "side", "top": "top", "bottom": "bottom"}  # fmt: skip


def test_more_views_of_a_box_are_its_corners_and_then_its_edges():
    """The 26 directions with coordinates -1, 0 and 1: six have one that is not zero, eight corners three, twelve edges two."""
    found = directions(box_angles(26))
    steps = np.round(found / np.abs(found).max(1, keepdims=True), 9)
    assert len({tuple(step) for step in steps}) == 26 and set(steps.ravel()) <= {-1, 0, 1}
    assert [int(np.abs(step).sum()) for step in steps] == [1] * 6 + [3] * 8 + [2] * 12
    for pair in range(6, 14, 2):
        np.testing.assert_allclose(found[pair], -found[pair + 1], atol=1e-12)
    assert [view_names("box", n) for n in (1, 2, 4)] == [("front",), ("front", "back"), tuple(SIX)[:4]]
    with pytest.raises(SettingsError, match="26 directions.*27 views") as caught:
        build_rig("box", 27, cloud("ball"))
    assert caught.value.key == "views" and "sphere" in caught.value.action


def nearest(points):
    cosines = points @ points.T - 2 * np.eye(len(points))
    return math.degrees(math.acos(min(1.0, cosines.max())))


# The best there are: two opposite, a triangle, a tetrahedron, an octahedron, an icosahedron (L. Fejes Toth, 1943).
@pytest.mark.parametrize(("n", "angle"), [(2, 180), (3, 120), (4, 109.4712), (6, 90), (12, 63.4349)])
def test_few_views_of_a_sphere_are_the_regular_solids(n, angle):
    assert nearest(directions(sphere_angles(n))) == pytest.approx(angle, abs=0.01)


@pytest.mark.parametrize("n", [n for n in COUNTS if n > 2])
def test_views_of_a_sphere_are_spread_evenly(n):
    """Fejes Toth: of n points two are no further apart than acos((cot^2 w - 1) / 2), w = n pi / (6 (n - 2))."""
    points = directions(sphere_angles(n))
    w = n * math.pi / (6 * (n - 2))
    most = math.degrees(math.acos((1 / math.tan(w) ** 2 - 1) / 2))
    number = np.arange(n)
    lattice = directions(np.degrees(np.stack([number * math.pi * (3 - math.sqrt(5)),
                                              np.arcsin(1 - (2 * number + 1) / n)], 1)))  # fmt: skip
    assert 0.85 * most < nearest(points) < most + 0.01 and nearest(points) > nearest(lattice)
    np.testing.assert_allclose(points[0], (0, -1, 0), atol=1e-9)
    assert np.linalg.norm(points.mean(0)) < 0.03, "more views on one side than on the other"


def test_six_views_of_a_sphere_are_those_of_a_box():
    assert set(sphere_angles(6)) == set(box_angles(6))


def test_views_are_left_out_and_given_words_by_name():
    settings = resolve({"prompt": "x", "views": 6, "rig": "box", "skip_views": "top, bottom", "view_prompts": "front = a face; top = sky"})
    cameras = views_of(settings, cloud("cube"))
    assert [(camera.name, camera.prompt) for camera in cameras] == [
        ("front", "a face"), ("right", ""), ("back", ""), ("left", "")]  # fmt: skip
    whole = build_rig("box", 6, cloud("cube"))
    assert all(np.array_equal(camera.view, whole[i].view) for i, camera in enumerate(cameras)), "the others do not move"
    assert views_on(settings) == 4 and names_left(settings) == ["front", "right", "back", "left"]
    assert views_on({"views": 3, "rig": "scene", "skip_views": "top"}) == 3
    assert wished(whole, resolve({"prompt": "x"})) == whole
    avoiding = views_of({**settings, "view_avoids": "back = windows, doors; left = ivy"}, cloud("cube"))
    assert [(camera.prompt, camera.avoid) for camera in avoiding] == [
        ("a face", ""), ("", ""), ("", "windows, doors"), ("", "ivy")]  # fmt: skip


@pytest.mark.parametrize(("given", "key", "words"), [
    ({"skip_views": "front, roof"}, "skip_views", "'roof'.*views are: front, right, back, left"),
    ({"view_prompts": "roof = tiles"}, "view_prompts", "'roof'.*views are: front"),
    ({"view_avoids": "roof = moss"}, "view_avoids", "'roof'.*views are: front"),
    ({"skip_views": "front, right, back, left"}, "skip_views", "All 4 views are left out"),
])  # fmt: skip
def test_wishes_that_fit_no_view_are_refused(given, key, words):
    settings = resolve({"prompt": "x", "views": 4, "rig": "ring", **given})
    with pytest.raises(SettingsError, match=words) as caught:
        views_of(settings, cloud("cube"))
    assert caught.value.key == key


def test_the_setting_offers_every_rig():
    assert SETTINGS["rig"].choices == (*RIGS, "scene")


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
    with pytest.raises(SettingsError, match="'scene'; allowed: auto, ring, box, sphere") as caught:
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
