# SPDX-License-Identifier: Apache-2.0
"""The text each view is denoised with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from blender_addon.jobs.folder import Camera
from blender_addon.jobs.rigs import direction


def view_prompts(cameras: Sequence[Camera], settings: Mapping, directions: bool) -> tuple[list[str], list[str]]:
    """Prompts and avoided texts, one per camera: the job's, the camera's own, and its direction if `directions`."""
    directions = directions and settings.get("method") != "edit"  # an order is not a description
    words = [f"{direction(camera)} view" if directions else "" for camera in cameras]
    prompts = [_join(wish(settings), camera.prompt, word) for camera, word in zip(cameras, words, strict=True)]
    return prompts, [_join(settings["avoid"], camera.avoid) for camera in cameras]


def wish(settings: Mapping) -> str:
    """What the artist has asked for: the prompt, or the instruction of an edit."""
    return (settings.get("method") == "edit" and settings["instruction"]) or settings["prompt"]


def _join(*parts: str) -> str:
    return ", ".join(part.strip() for part in parts if part.strip())
