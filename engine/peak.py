# SPDX-License-Identifier: Apache-2.0
"""The most memory that a job has held, for its report: Blender's panel learns from it what the next one will need."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch

from engine.device import GIB

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def begin_peak() -> None:
    """Forget the peaks so far. Where the system cannot (outside Linux), main memory's is that of the whole process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(index)
    with contextlib.suppress(OSError):
        _RESET.write_text("5")  # sets the high-water mark to what is held now (man 5 proc)


def peak_memory() -> dict[str, float]:
    """{"main": GB} and, where a graphics card was used, {"card": GB}: 2^30 bytes, weights included."""
    found = {"main": round(_main() / GIB, 3)}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        card = max(torch.cuda.max_memory_reserved(index) for index in range(torch.cuda.device_count()))
        if card:
            found["card"] = round(card / GIB, 3)
    return found


def _main() -> int:
    if _STATUS.exists():
        rows = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
        return int(rows["VmHWM"].split()[0]) * 1024
    if sys.platform == "win32":
        import psutil  # comes with accelerate

        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
