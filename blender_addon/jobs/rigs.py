# SPDX-License-Identifier: Apache-2.0
"""Where the cameras stand. World is Blender's: Z up, the front camera at -Y looking +Y; numpy only."""

from __future__ import annotations

import math

import numpy as np

from .errors import MeshError, SettingsError
from .records import Camera

FOV = 35.0  # degrees; a long lens keeps the same pixels per metre over the whole object
FILL = 0.94  # share of the frame the object takes in the view where it looks largest
RIGS = ("auto", "ring")

_OCTANTS = ("front", "front right", "right", "back right", "back", "back left", "left", "front left")
_CHUNK = 1 << 14  # points at a time; the products stay in the processor's cache


def build_rig(name: str, n: int, positions: np.ndarray, aspect: float = 1.0) -> tuple[Camera, ...]:
    """Gives n cameras around the points, all at one distance, so that every view has the same scale.

    `positions` [V,3] world; points that are not finite are left out. `aspect` is width / height. The
    cameras look at the centre of the bounding box, from as near as the tightest view allows: there the
    object fills FILL of the frame, in the others it stays inside. "auto" covers the object all around,
    from above and (n >= 6) from below; "ring" is level. The rig "scene" is made by the add-on.
    """
    if name not in RIGS:
        action = "Run the job from Blender, or choose auto or ring." if name == "scene" else ""
        raise SettingsError(f"No cameras can be made here for rig {name!r}; allowed: auto, ring.", action, key="rig")
    if n < 1:
        raise SettingsError(f"{n} views are too few; allowed: at least 1.", key="views")
    return rig_at(auto_angles(n) if name == "auto" else _circle(n, [0.0]), positions, aspect)


def rig_at(angles: list[tuple[float, float]], positions: np.ndarray, aspect: float = 1.0) -> tuple[Camera, ...]:
    """Gives cameras at (azimuth, elevation) pairs in degrees, at one distance from the points; see `build_rig`."""
    points = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
    finite = np.isfinite(points).all(axis=1)
    points = points if finite.all() else points[finite]
    if len(points) == 0:
        raise MeshError("The mesh has no vertices for the cameras to look at.", "Select an object with geometry.")
    centre, frames, distance, reaches = _fit(points, [_direction(*angle) for angle in angles], aspect)
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


def _direction(azimuth: float, elevation: float) -> np.ndarray:
    """Gives the unit vector from the object to the camera."""
    turn, rise = math.radians(azimuth), math.radians(elevation)
    return np.array([math.sin(turn) * math.cos(rise), -math.cos(turn) * math.cos(rise), math.sin(rise)])


def _fit(
    points: np.ndarray, directions: list[np.ndarray], aspect: float
) -> tuple[np.ndarray, np.ndarray, float, list[tuple[float, float]]]:
    """Finds the nearest common distance at which all points stay within FILL of every frame.

    A point with camera coordinates (x, y, z) about the centre is inside when distance >= z + |x| / k, k
    the tangent of the filled half angle: linear in the point, so the largest of a few dot products.
    Gives centre [3], frames [N,3,3] (rows right, up, back), distance, and per view the largest and the
    smallest z.
    """
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    frames = np.stack([_frame(direction) for direction in directions])
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
