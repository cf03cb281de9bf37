# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory the next job will take, learned from the reports of past ones, and whether that fits. Imports no bpy."""

import re

from .history import Entry, alike
from .jobs.catalogue import entry as known
from .jobs.errors import UserError
from .jobs.rigs import views_on

_TOTAL = re.compile(r"(\d+) GB")
_FIXED = 0.5  # share of a single past job's memory that is taken to be weights and libraries, which do not grow
_REMEDY = "Choose fewer views, a smaller view or texture size, a smaller model, or precision float8."


def total_gb(device: str) -> float | None:
    """The memory of a device as the engine describes it ("NVIDIA H100, 79 GB"); None if it does not say."""
    found = _TOTAL.findall(device)
    return float(found[-1]) if found else None


def memory_gb(entries: list[Entry], settings: dict, device: str, textures: int = 1) -> float | None:
    """What a job with these settings will hold at its peak, from past ones of the same model, method and device.

    textures: how many it makes: one, or one for each UDIM tile, and so for each object that has its own.

    Memory is taken to be a fixed part plus one that grows with the pixels of views and texture: the least-squares line
    through the past jobs where they differ in size, else half of theirs fixed. None: no such job has been.
    """
    seen = []
    for past in alike(entries, settings, device):
        peak = _peak(past.report)
        if peak is not None:
            seen.append((_pixels(past.settings, past, past.textures), peak, past))
    if not seen:
        return None
    now = _pixels(settings, seen[0][2], textures)
    same = [peak for work, peak, _ in seen if work == now]
    if same:
        return max(same)
    works, peaks = [work for work, _, _ in seen], [peak for _, peak, _ in seen]
    mean, level = sum(works) / len(works), sum(peaks) / len(peaks)
    spread = sum((work - mean) ** 2 for work in works)
    if spread:
        slope = max(0.0, sum((w - mean) * (p - level) for w, p in zip(works, peaks, strict=True)) / spread)
        return max(level + slope * (now - mean), _FIXED * min(peaks))
    return level * (_FIXED + (1 - _FIXED) * now / mean)


def _peak(report: dict) -> float | None:
    found = report.get("memory_gb")
    value = found.get("card", found.get("main")) if isinstance(found, dict) else None
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def _pixels(settings: dict, past: Entry, textures: int) -> float:
    """Pixels of all views, the extra ones too, and texels of all textures; the side of a view that is left to the model is that of the past job."""
    side = settings.get("view_size") or past.report.get("view_size") or 512
    views = views_on(settings) + settings.get("extra_views", 0)
    return float(views * side * side + textures * settings.get("texture_size", 0) ** 2)


def words(entries: list[Entry], settings: dict, device: str, textures: int = 1) -> str:
    """"About 9 of 24 GB", from past jobs, else from the catalogue where the device has memory of its own; or nothing."""
    total, learned = total_gb(device), memory_gb(entries, settings, device, textures)
    if learned is None:
        found = known(settings["model"].partition("+")[0])
        if found is None or not found.memory or total is None or device.startswith("CPU"):
            return ""
        late = "; its parts will take turns, which takes longer" if found.memory > total else ""
        return f"About {found.memory:g} of {total:g} GB{late}"
    return f"About {learned:.1f} of {total:g} GB" if total is not None else f"About {learned:.1f} GB"


def obstacle(entries: list[Entry], settings: dict, device: str, textures: int = 1) -> UserError | None:
    """Why the job cannot fit, with the remedy; None while it may. Scripts are not held up by it: the engine decides."""
    total, learned = total_gb(device), memory_gb(entries, settings, device, textures)
    if total is None:
        return None
    if learned is not None and learned > total:
        return UserError(f"This needs about {learned:.0f} GB, and {device} is all there is.", _REMEDY)
    found = known(settings["model"].partition("+")[0])
    kept = settings["memory"] == "keep" and not device.startswith("CPU")
    if learned is None and kept and found is not None and found.memory > total:
        return UserError(f"{found.name} needs about {found.memory:g} GB to stay on {device}.",
                         "Set Memory to Auto or Offload, or choose a smaller model.")  # fmt: skip
    return None
