# SPDX-License-Identifier: Apache-2.0
"""One job at a time on a graphics card: two Blenders, each with an engine, take turns instead of filling its memory.

Main memory is shared by the system, which can; so jobs on the processor do not wait.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from engine.progress import Progress
from engine.raster.jit import user_cache, writable
from engine.setup.lock import lock

POLL = 0.5  # seconds between two looks
WAITING = "Another job of Tweed's is using the graphics card; this one starts when that is done."


def card(device: torch.device) -> str:
    """A name of the graphics card that all processes of this machine give it; "" for the processor."""
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        return f"cuda-{getattr(found, 'uuid', '') or device.index or 0}"
    return "" if device.type == "cpu" else device.type


@contextlib.contextmanager
def turn(name: str, progress: Progress, folder: Path | None = None) -> Iterator[None]:
    """Hold the card of that name; waits for whoever holds it, and can be cancelled meanwhile.

    folder: where the locks lie, this user's cache by default; where that cannot be written, nobody waits for anybody.
    """
    folder = folder or user_cache() / "tweed" / "turns"
    if not name or not writable(folder):
        yield
        return
    with (folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', name)}.lock").open("a+") as file:
        if not lock(file):
            progress.warn(WAITING)
            with progress.waiting():
                while not lock(file):
                    progress.check()
                    time.sleep(POLL)
        yield
