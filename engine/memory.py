# SPDX-License-Identifier: Apache-2.0
"""What fits: decides from the free memory, before anything large is read, how a model is kept and run.

The figures are computed from the sizes of the weights and of feature maps, not measured on each card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from blender_addon.jobs.errors import DeviceError, OutOfMemory
from engine.device import GIB, free_memory

SPARE = 0.9  # of the free memory that is counted on: the rest is for fragments and what other programs take
WORKING = 0.5  # of what is then free that a batch of views may take
STATE = 0.25  # of it that the state between steps and the maps may take
FRESH, CHANGED, ALONE = 24, 150, 36  # bytes per texel: of a texture from nothing, of one that is changed, of the one at work
PIXEL = 160  # bytes of those per pixel of a view: five copies of its colours (4.7 were measured), and the maps' entries


@dataclass(frozen=True)
class Plan:
    """How a model is kept. offload: its groups take turns on the device. note: a sentence where that costs time."""

    offload: bool = False
    note: str = ""


def plan_model(groups: Mapping[str, int], free: int, name: str, wish: str = "auto", own_memory: bool = True) -> Plan:
    """Where the groups of a model ("text", "codec", "networks": bytes of weights) are kept, given free bytes.

    wish: "auto", "keep" or "offload" as in the setting `memory`. own_memory: the device has memory of its own (a
        graphics card); else there is nowhere to move anything to.
    Raises `DeviceError` where not even the largest group fits.
    """
    total, largest, room = sum(groups.values()), max(groups.values(), default=0), SPARE * free
    if wish == "keep" or (wish == "auto" and total <= room):
        return Plan()
    if not own_memory:
        if total > room:
            raise _too_large(name, total, free)
        return Plan()
    if largest > room:
        raise _too_large(name, largest, free)
    waits = "its parts take turns on the device, which takes longer"
    return Plan(True, f"{name} needs {_gb(total)}, and {_gb(free)} are free: {waits}." if total > room else "")


def plan_views(view: int, views: int, free: int) -> int:
    """How many of `views` views go through the networks at once, at least 1, when each takes `view` bytes."""
    return max(1, min(views, int(free * WORKING / max(view, 1))))


def state_device(device: torch.device, views: int, side: int, turns: bool = False) -> torch.device:
    """Where the state between steps, and the maps, of `views` views of side^2 pixels live for a model on `device`.

    On a CUDA card that has room for them, so that no step moves anything between the two memories. Else in main memory,
    and each step moves the views' latents over and back: where the model's parts take turns on the card (`turns`), for
    want of memory, and on Apple's chips, which have one memory.
    """
    if device.type != "cuda" or turns or views * side**2 * PIXEL > STATE * free_memory(device):
        return torch.device("cpu")
    return device


def check_textures(count: int, size: int, edits: bool, free: int) -> None:
    """Raises `OutOfMemory` where `count` textures of size^2 texels are more than the free main memory, in bytes, holds.

    All are held until they are written; the figures were measured (`benchmarks.bench_finish`, and edits of 4 x 2K).
    """
    needed = count * size**2 * (CHANGED if edits else FRESH) + size**2 * ALONE
    if needed > SPARE * free:
        many = f"{count} textures of {size} px take" if count > 1 else f"A texture of {size} px takes"
        raise OutOfMemory(
            f"{many} about {_gb(needed)} of main memory to {'change' if edits else 'paint'}, and {_gb(free)} are free.",
            "Choose a smaller texture size, paint fewer tiles or objects at a time, or close other programs.",
        )


def _too_large(name: str, needed: int, free: int) -> DeviceError:
    return DeviceError(
        f"{name} needs {_gb(needed)} of memory for its weights, and {_gb(free)} are free.",
        "Close other programs, set precision to 'float8', choose a smaller model, or another device.",
    )


def _gb(count: float) -> str:
    return f"{count / GIB:.1f} GB"
