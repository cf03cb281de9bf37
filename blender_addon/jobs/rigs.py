# SPDX-License-Identifier: Apache-2.0
"""Where the cameras stand. World is Blender's: Z up, the front camera at -Y looking +Y; numpy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from .errors import MeshError, SettingsError
from .records import Camera
from .view_lists import read_names, read_words

FOV = 35.0  # degrees; a long lens keeps the same pixels per metre over the whole object
FILL = 0.94  # share of the frame the object takes in the view where it looks largest
CORNER = math.degrees(math.atan(math.sqrt(0.5)))  # elevation of a cube's corner seen from its centre

OF_VIEWS = ("view_prompts", "view_avoids", "skip_views")  # settings that speak of views by their names

_OCTANTS = ("front", "front right", "right", "back right", "back", "back left", "left", "front left")
_CHUNK = 1 << 14  # points at a time; the products stay in the processor's cache


def build_rig(name: str, n: int, positions: np.ndarray, aspect: float = 1.0) -> tuple[Camera, ...]:
    """Gives n cameras around the points, all at one distance, so that every view has the same scale.

    `positions` [V,3] world; points that are not finite are left out. `aspect` is width / height. The
    cameras look at the centre of the bounding box, from as near as the tightest view allows: there the
    object fills FILL of the frame, in the others it stays inside. "auto" covers the object all around,
    from above and (n >= 6) from below; "ring" is level; "box" looks squarely at the sides of the bounding
    box, then at its corners and edges (`box_angles`); "sphere" spreads the views evenly (`sphere_angles`).
    The rig "scene" is made by the add-on.
    """
    return rig_at(angles_of(name, n), positions, aspect)


def angles_of(name: str, n: int) -> list[tuple[float, float]]:
    """Gives the (azimuth, elevation) pairs of a rig's n views. SettingsError for a rig or a number there cannot be."""
    if name not in RIGS:
        allowed = ", ".join(RIGS)
        action = f"Run the job from Blender, or choose one of {allowed}." if name == "scene" else ""
        raise SettingsError(f"No cameras can be made here for rig {name!r}; allowed: {allowed}.", action, key="rig")
    if n < 1:
        raise SettingsError(f"{n} views are too few; allowed: at least 1.", key="views")
    return list(RIGS[name](n))


@cache
def view_names(name: str, n: int) -> tuple[str, ...]:
    """Gives the names of a rig's views. SettingsError as in `angles_of`."""
    return tuple(_names(angles_of(name, n)))


def names_left(settings: Mapping[str, Any], names: Sequence[str] | None = None) -> list[str]:
    """Gives the names of the views that are not left out; of the rig's views if none are given.

    SettingsError where a name in one of OF_VIEWS is no view's, and where no view is left.
    """
    if names is None:
        names = view_names(settings["rig"], settings["views"])
    skipped = read_names(settings["skip_views"])
    said = {key: read_words(settings[key]) for key in ("view_prompts", "view_avoids")}
    for key, given in (("skip_views", skipped), *said.items()):
        unknown = [name for name in given if name not in names]
        if unknown:
            raise SettingsError(f"There is no view named {unknown[0][:60]!r} ({key}); views are: {', '.join(names)}.", key=key)
    left = [name for name in names if name not in skipped]
    if not left:
        raise SettingsError(f"All {len(names)} views are left out (skip_views).", "Leave at least one of them in.",
                            key="skip_views")  # fmt: skip
    return left


def views_of(settings: Mapping[str, Any], positions: np.ndarray) -> tuple[Camera, ...]:
    """Gives the cameras of a job with these settings: those of its rig that are not left out, with their words."""
    cameras = build_rig(settings["rig"], settings["views"], positions)
    return wished(parallel(cameras, positions) if settings["lens"] == "parallel" else cameras, settings)


def parallel(cameras: Sequence[Camera], positions: np.ndarray) -> tuple[Camera, ...]:
    """Gives square cameras parallel lenses of one scale: in the view where the points [V,3] spread most they fill FILL."""
    points = np.asarray(positions, np.float64).reshape(-1, 3)
    points = points[np.isfinite(points).all(axis=1)]
    seen = [points @ camera.view[:3, :3].T + camera.view[:3, 3] for camera in cameras]
    half = max(float(np.abs(one[:, :2]).max()) for one in seen) / FILL or 1.0
    found = []
    for camera, one in zip(cameras, seen, strict=True):
        near, far = -float(one[:, 2].max()) - half, -float(one[:, 2].min()) + half
        lens = np.diag([1 / half, 1 / half, -2 / (far - near), 1.0])
        lens[2, 3] = -(far + near) / (far - near)
        found.append(replace(camera, projection=lens))
    return tuple(found)


def wished(cameras: tuple[Camera, ...], settings: Mapping[str, Any]) -> tuple[Camera, ...]:
    """Leaves out the cameras of `skip_views`, and gives the others their words and what to avoid; see `names_left`."""
    left = names_left(settings, [camera.name for camera in cameras])
    words, avoids = read_words(settings["view_prompts"]), read_words(settings["view_avoids"])
    return tuple(
        replace(camera, prompt=words.get(camera.name, camera.prompt), avoid=avoids.get(camera.name, camera.avoid))
        for camera in cameras
        if camera.name in left
    )


def views_on(settings: Mapping[str, Any]) -> int:
    """Counts the views of a job with these settings, without a mesh; where the rig is not known, all are counted."""
    views = settings.get("views", 0)
    try:
        skipped = read_names(settings.get("skip_views", ""))
        return sum(name not in skipped for name in view_names(settings["rig"], views)) if skipped else views
    except (KeyError, SettingsError):
        return views


def rig_at(angles: list[tuple[float, float]], positions: np.ndarray, aspect: float = 1.0) -> tuple[Camera, ...]:
    """Gives cameras at (azimuth, elevation) pairs in degrees, at one distance from the points; see `build_rig`."""
    points = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
    finite = np.isfinite(points).all(axis=1)
    points = points if finite.all() else points[finite]
    if len(points) == 0:
        raise MeshError("The mesh has no vertices for the cameras to look at.", "Select an object with geometry.")
    centre, frames, distance, reaches = _fit(points, np.stack([_axes(*angle) for angle in angles]), aspect)
    cameras = []
    for label, frame, (nearest, furthest) in zip(_names(angles), frames, reaches, strict=True):
        view = look_at(centre + distance * frame[2], centre, frame[1])
        projection = perspective(FOV, 0.9 * (distance - nearest), 1.1 * (distance - furthest), aspect)
        cameras.append(Camera(label, view, projection))
    return tuple(cameras)


def auto_angles(n: int) -> list[tuple[float, float]]:
    """Gives n (azimuth, elevation) pairs in degrees; azimuth 0 is the front, 90 the object's +X side.

    A ring alternating between +25 and -15 (5 views: with one from above, 6 and more: with one from above
    and one from below), and above 12 views as many level bands as the sphere needs, denser near the
    equator. At 6 views the two instead of two more in the ring raise what is seen within 60 degrees from
    78 to 82 % of a sphere, from 80 to 89 of a torus, from 85 to 89 of Suzanne; at 8 by 6 to 9 of 100.
    """
    if n < 5:
        return _circle(n, [25.0, -15.0])
    if n < 6:
        return [*_circle(n - 1, [25.0, -15.0]), (0.0, 80.0)]
    if n <= 12:
        return [*_circle(n - 2, [25.0, -15.0]), (0.0, 80.0), (0.0, -65.0)]
    bands = round(math.sqrt(n) / 1.3)
    heights = [85.0 - 160.0 * (band + 1) / (bands + 1) for band in range(bands)]
    angles = []
    counts = _share(n - 2, [math.cos(math.radians(height)) for height in heights])
    equator = min(range(bands), key=lambda band: abs(heights[band]))
    for band in sorted(range(bands), key=lambda band: abs(band - equator)):
        offset = 0.5 if (band - equator) % 2 else 0.0
        angles += _circle(counts[band], [heights[band]], offset)
    return [*angles, (0.0, 85.0), (0.0, -75.0)]


def ring_angles(n: int) -> list[tuple[float, float]]:
    """Gives n level views, evenly around."""
    return _circle(n, [0.0])


def box_angles(n: int) -> list[tuple[float, float]]:
    """Gives the first n of the 26 directions of a box, as of a cube: squarely at the sides, then slantwise.

    The sides (front, right, back, left; of two views front and back), top and bottom, the eight corners in
    opposite pairs, the four upright edges, the four upper and the four lower ones. SettingsError beyond those.
    """
    sides = [(90.0 * i, 0.0) for i in range(4)]
    corners = [((azimuth + turn) % 360, sign * CORNER)
               for azimuth in (45.0, 135.0, 225.0, 315.0) for turn, sign in ((0.0, 1), (180.0, -1))]  # fmt: skip
    upright = [(45.0 + 90.0 * i, 0.0) for i in range(4)]
    slanting = [(90.0 * i, sign * 45.0) for sign in (1, -1) for i in range(4)]
    found = [*sides, (0.0, 90.0), (0.0, -90.0), *corners, *upright, *slanting]
    if n > len(found):
        raise SettingsError(f"A box has {len(found)} directions to look from and {n} views are wanted (views); "
                            f"allowed for the rig box: 1 to {len(found)}.", "Choose fewer views, or the rig sphere.", key="views")
    return [sides[0], sides[2]] if n == 2 else found[:n]


@cache
def sphere_angles(n: int) -> list[tuple[float, float]]:
    """Gives n views spread evenly over the sphere, one of them the front, the nearest to that first.

    Points that repel each other like electric charges (Thomson's problem), from a Fibonacci lattice: 4 views are a
    tetrahedron, 6 the sides of a cube, 12 an icosahedron; the nearest two lie 5 to 20 % further apart than in
    the lattice. Turned so that one is the front, and the one nearest to a right angle from it is level.
    """
    number = np.arange(n)
    height, turn = 1 - (2 * number + 1) / n, number * math.pi * (3 - math.sqrt(5))
    points = np.stack([np.sin(turn), -np.cos(turn), np.zeros(n)], 1) * np.sqrt(1 - height**2)[:, None]
    points[:, 2] = height
    speed = np.zeros_like(points)
    for _ in range(400):  # steepest descent with momentum; the force on a charge grows as n^1.5 over their distance
        apart = points[:, None] - points
        push = np.maximum(np.einsum("ijk,ijk->ij", apart, apart), 1e-12)
        np.fill_diagonal(push, np.inf)
        push = push**-1.5
        speed = 0.9 * speed + 0.3 / n**1.5 * (push.sum(1)[:, None] * points - push @ points)
        speed -= (speed * points).sum(1, keepdims=True) * points
        points = points + speed
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    return _from_front(points)


def _from_front(points: np.ndarray) -> list[tuple[float, float]]:
    """Turns directions [n,3] so that the first is the front and another is level; gives angles, nearest first."""
    front = points[0]
    square = int(np.argmin(np.round(np.abs(points @ front), 6)))
    right = points[square] - (points[square] @ front) * front
    if not np.linalg.norm(right) > 1e-6:  # one view, or two that are opposite
        right = np.cross([0.0, 1.0, 0.0] if abs(front[1]) < 0.9 else [1.0, 0.0, 0.0], front)
    right = right / np.linalg.norm(right)
    x, y, z = (points @ axis for axis in (right, -front, np.cross(right, -front)))
    azimuth = np.where(np.abs(z) < 0.9999, np.round(np.degrees(np.arctan2(x, -y)), 3) % 360, 0.0)
    elevation = np.round(np.degrees(np.arcsin(z.clip(-1, 1))), 3) + 0.0  # no minus zero
    near = np.round(y, 3)  # -1 for the front
    return [(float(azimuth[i]), float(elevation[i])) for i in np.lexsort((azimuth, -elevation, near))]


def _circle(n: int, elevations: list[float], offset: float = 0.0) -> list[tuple[float, float]]:
    return [(360.0 * (i + offset) / n, elevations[i % len(elevations)]) for i in range(n)]


def _share(total: int, weights: list[float]) -> list[int]:
    """Splits `total` in proportion to `weights`, at least one each (largest remainders first)."""
    wanted = [total * weight / sum(weights) for weight in weights]
    counts = [max(1, int(amount)) for amount in wanted]
    order = sorted(range(len(weights)), key=lambda i: wanted[i] - counts[i], reverse=True)
    for i in range(total - sum(counts)):
        counts[order[i % len(order)]] += 1
    return counts


def _axes(azimuth: float, elevation: float) -> np.ndarray:
    """Gives the axes [3,3] of a camera there, rows right, up, back (from the object to the camera)."""
    turn, rise = math.radians(azimuth), math.radians(elevation)
    back = np.array([math.sin(turn) * math.cos(rise), -math.cos(turn) * math.cos(rise), math.sin(rise)])
    if abs(math.cos(rise)) > 2e-3:
        return _frame(back)
    # straight from above or below, where +Z is no "up": what it tends to on the way there
    return _frame(back, np.array([-math.sin(turn) * math.sin(rise), math.cos(turn) * math.sin(rise), 0.0]))


def _fit(
    points: np.ndarray, frames: np.ndarray, aspect: float
) -> tuple[np.ndarray, np.ndarray, float, list[tuple[float, float]]]:
    """Finds the nearest common distance at which all points stay within FILL of every frame [N,3,3] (rows right, up, back).

    A point with camera coordinates (x, y, z) about the centre is inside when distance >= z + |x| / k, k
    the tangent of the filled half angle: linear in the point, so the largest of a few dot products.
    Gives centre [3], frames [N,3,3] (rows right, up, back), distance, and per view the largest and the
    smallest z.
    """
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    slope_y = FILL * math.tan(math.radians(FOV) / 2)
    slope_x = slope_y * aspect
    right, up, back = frames[:, 0], frames[:, 1], frames[:, 2]
    tests = np.stack([back + right / slope_x, back - right / slope_x, back + up / slope_y, back - up / slope_y])
    axes = np.concatenate([tests.reshape(-1, 3), back, -back])
    reach = np.full(len(axes), -np.inf)
    for start in range(0, len(points), _CHUNK):
        reach = np.maximum(reach, (axes @ (points[start : start + _CHUNK] - centre).T).max(axis=1))
    count = len(frames)
    nearest, furthest = reach[-2 * count : -count], -reach[-count:]
    radius = max(float(np.linalg.norm(points.max(axis=0) - centre)), 1e-6 * float(np.abs(centre).max()), 1e-6)
    distance = max(float(reach[: 4 * count].max()), float(nearest.max()) + 0.25 * radius)
    return centre, frames, distance, list(zip(nearest.tolist(), furthest.tolist(), strict=True))


def _frame(back: np.ndarray, up: np.ndarray | None = None) -> np.ndarray:
    """Gives the camera's axes in world space, rows right, up, back; straight up or down keeps +Y up."""
    upward = np.array([0.0, 0.0, 1.0]) if up is None else np.asarray(up, dtype=np.float64)
    if np.linalg.norm(np.cross(upward, back)) < 1e-3 * np.linalg.norm(upward):
        upward = np.array([0.0, 1.0, 0.0])
    right = np.cross(upward, back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back])


def look_at(eye: np.ndarray, target: np.ndarray, up: np.ndarray | None = None) -> np.ndarray:
    """Gives world -> camera [4,4] for a camera at `eye` that looks down -Z at `target`; up is +Z if not given."""
    eye = np.asarray(eye, dtype=np.float64)
    back = eye - np.asarray(target, dtype=np.float64)
    length = float(np.linalg.norm(back))
    if not length > 0 or not math.isfinite(length):
        raise ValueError("a camera cannot look at the point where it stands")
    view = np.eye(4)
    view[:3, :3] = _frame(back / length, up)
    view[:3, 3] = -view[:3, :3] @ eye
    return view


def perspective(fov: float, near: float, far: float, aspect: float = 1.0) -> np.ndarray:
    """Gives the OpenGL projection [4,4] (clip z in [-w, w]); `fov` is the vertical angle in degrees."""
    if not (0 < fov < 180 and 0 < near < far and aspect > 0):
        raise ValueError(f"no such lens: fov {fov}, near {near}, far {far}, aspect {aspect}")
    slope = math.tan(math.radians(fov) / 2)
    projection = np.zeros((4, 4))
    projection[0, 0] = 1 / (slope * aspect)
    projection[1, 1] = 1 / slope
    projection[2, 2] = -(far + near) / (far - near)
    projection[2, 3] = -2 * far * near / (far - near)
    projection[3, 2] = -1
    return projection


RIGS: dict[str, Callable[[int], list[tuple[float, float]]]] = {
    "auto": auto_angles,
    "ring": ring_angles,
    "box": box_angles,
    "sphere": sphere_angles,
}


def direction(camera: Camera) -> str:
    """Says what a camera sees, in the words models know: front, side, back, top or bottom."""
    x, y, z = np.linalg.inv(camera.view)[:3, 2]
    if abs(z) > math.sin(math.radians(55)) * math.sqrt(x * x + y * y + z * z):
        return "top" if z > 0 else "bottom"
    azimuth = abs(math.degrees(math.atan2(x, -y)))
    return "front" if azimuth <= 40 else "back" if azimuth >= 140 else "side"


def _names(angles: list[tuple[float, float]]) -> list[str]:
    """Names views as an artist would; a name that comes again gets a number."""
    names: list[str] = []
    for azimuth, elevation in angles:
        octant = _OCTANTS[round(azimuth / 45) % 8]
        if elevation > 70 or elevation < -60:
            name = "top" if elevation > 0 else "bottom"
        else:
            name = f"upper {octant}" if elevation > 35 else f"lower {octant}" if elevation < -25 else octant
        count = sum(known == name or known.startswith(f"{name} #") for known in names)
        names.append(f"{name} #{count + 1}" if count else name)
    return names
