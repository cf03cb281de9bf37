# SPDX-License-Identifier: Apache-2.0
"""The text each view is denoised with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from blender_addon.jobs.folder import Camera
from engine.cameras import stack

STEEP = 45.0  # degrees of elevation beyond which a view is one of the top or bottom
SIDES = ("front view", "right side view", "back view", "left side view")


def direction_words(cameras: Sequence[Camera]) -> list[str]:
    """What side of the object each camera sees, from its viewing direction; the front camera stands at -Y."""
    backwards = np.linalg.inv(stack(cameras)[0])[:, :3, 2]  # a camera looks down its own -Z
    elevation = np.degrees(np.arcsin(np.clip(backwards[:, 2], -1, 1)))
    quarter = np.round(np.degrees(np.arctan2(backwards[:, 0], -backwards[:, 1])) / 90).astype(int) % 4
    return [
        "top view" if e > STEEP else "bottom view" if e < -STEEP else SIDES[q]
        for e, q in zip(elevation, quarter, strict=True)
    ]


def view_prompts(
    cameras: Sequence[Camera], settings: Mapping, directions: bool
) -> tuple[list[str], list[str]]:
    """Prompts and avoided texts, one per camera: the job's, the camera's own, and its direction if `directions`."""
    words = direction_words(cameras) if directions else [""] * len(cameras)
    prompts = [_join(settings["prompt"], camera.prompt, word) for camera, word in zip(cameras, words, strict=True)]
    return prompts, [_join(settings["avoid"], camera.avoid) for camera in cameras]


def _join(*parts: str) -> str:
    return ", ".join(part.strip() for part in parts if part.strip())
