# SPDX-License-Identifier: Apache-2.0
"""Cameras as arrays. World is Z up, cameras look down -Z, clip space is OpenGL's (y up, z in -w..w)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blender_addon.jobs.folder import Camera


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
