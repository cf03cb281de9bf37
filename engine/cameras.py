# SPDX-License-Identifier: Apache-2.0
"""Cameras as arrays. World is Z up, cameras look down -Z, clip space is OpenGL's (y up, z in -w..w)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blender_addon.jobs.folder import Camera

POLAR = 55.0  # degrees from level beyond which a camera looks from above or below


def stack(cameras: Sequence[Camera]) -> tuple[np.ndarray, np.ndarray]:
    """Views (world to camera) and projections (camera to clip) of the cameras, f64[N,4,4] each."""
    return (
        np.array([camera.view for camera in cameras], np.float64).reshape(-1, 4, 4),
        np.array([camera.projection for camera in cameras], np.float64).reshape(-1, 4, 4),
    )


def clip_positions(positions: np.ndarray, cameras: Sequence[Camera]) -> np.ndarray:
    """Clip space f64[N,V,4] of world positions [V,3] in every camera. Not divided by w."""
    view, projection = stack(cameras)
    matrices = projection @ view
    return np.asarray(positions, np.float64) @ matrices[:, :, :3].transpose(0, 2, 1) + matrices[:, None, :, 3]


def toward_eye(cameras: Sequence[Camera]) -> np.ndarray:
    """Where the eyes are, f64[N,4]: position and 1, or the unit direction to an eye at infinity and 0.

    The direction from a point p to the eye is `t[:3] - t[3] * p` in both cases.
    """
    view, projection = stack(cameras)
    world = np.linalg.inv(view)
    orthographic = (projection[:, 3, :3] == 0.0).all(1)
    towards = np.where(orthographic[:, None], world[:, :, 2], world[:, :, 3])
    length = np.linalg.norm(towards[:, :3], axis=1, keepdims=True)
    return np.where(orthographic[:, None], towards / np.maximum(length, 1e-300), towards)


def eye(cameras: Sequence[Camera]) -> np.ndarray:
    """Camera positions in the world, f64[N,3]. An orthographic camera has one too, though its rays are parallel."""
    return np.linalg.inv(stack(cameras)[0])[:, :3, 3]


def outward(cameras: Sequence[Camera]) -> np.ndarray:
    """Unit vectors f64[N,3] from what each camera looks at to the camera: against its viewing direction."""
    back = np.linalg.inv(stack(cameras)[0])[:, :3, 2]
    return back / np.linalg.norm(back, axis=1, keepdims=True)


def frontmost(cameras: Sequence[Camera]) -> int:
    """The camera that looks most nearly from the front (-Y)."""
    return int(np.argmax(-outward(cameras)[:, 1]))


def neighbours(cameras: Sequence[Camera]) -> tuple[tuple[int, ...], ...]:
    """For each camera itself, then the nearest to its left and right, by angle, among those not above or below.

    Cameras above or below (steeper than 55 degrees) also have the frontmost and backmost ones. The groups of
    SyncTweedies and SyncMVD, for any rig.
    """
    towards = outward(cameras)
    level = np.abs(towards[:, 2]) <= np.sin(np.radians(POLAR))
    azimuth = np.arctan2(towards[:, 0], -towards[:, 1])
    groups = []
    for i, direction in enumerate(towards):
        turn = (azimuth - azimuth[i] + np.pi) % (2 * np.pi) - np.pi
        near = towards @ direction
        sides = [level & (turn > 1e-6) & (turn < np.pi - 1e-6), level & (turn < -1e-6) & (turn > 1e-6 - np.pi)]
        found = [int(np.argmax(np.where(side, near, -2))) for side in sides if side.any()]
        if not level[i] and level.any():
            found += [int(np.argmax(np.where(level, sign * towards[:, 1], -2))) for sign in (-1, 1)]
        groups.append(tuple(dict.fromkeys([i, *found])))
    return tuple(groups)


def backward(cameras: Sequence[Camera]) -> np.ndarray:
    """Unit vectors in the world f64[N,3] from what the cameras look at towards them: against their view axes."""
    axes = np.linalg.inv(stack(cameras)[0])[:, :3, 2]
    return axes / np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-300)
