# SPDX-License-Identifier: Apache-2.0
"""The texts of settings that name several things at once: controls with strengths, LoRA files with weights."""

from __future__ import annotations

import re

from .errors import SettingsError

KINDS = ("depth", "normal", "canny")
LARGEST = 4.0  # of a strength or weight
_SEGMENT = r"[A-Za-z0-9][\w.-]*"
_HUB_LORA = re.compile(rf"({_SEGMENT}/{_SEGMENT})(?:/([^@:]+\.safetensors))?(@[\w./-]+)?")


def parse_controls(text: str) -> list[tuple[str, float]]:
    """"depth, normal:0.5" as [("depth", 1.0), ("normal", 0.5)]; SettingsError for anything else."""
    found = weighted(text, "control")
    for kind, _ in found:
        if kind not in KINDS:
            raise SettingsError(f"control names {kind!r}; allowed: {', '.join(KINDS)}, several with commas.",
                                "A strength follows a colon: depth, normal:0.5.", key="control")
    kinds = [kind for kind, _ in found]
    if len(set(kinds)) < len(kinds):
        raise SettingsError(f"control names a kind twice: {text!r}.", "Name each kind once.", key="control")
    if not found:
        raise SettingsError("control is empty; allowed: " + ", ".join(KINDS) + ".",
                            "To do without, set control_scale to 0.", key="control")
    return found


def parse_loras(text: str) -> list[tuple[str, float]]:
    """"rust.safetensors:0.8, org/name, org/name/file.safetensors@revision:0.5" as [(name, weight), ...]."""
    return weighted(text, "lora")


def hub_lora(name: str) -> tuple[str, str] | None:
    """("org/name" or "org/name@revision", file or "") of a LoRA named by its repository on the hub; None for a path.

    Written as "org/name", "org/name/file.safetensors", each with "@revision" at its end. A file that is here by that
    path comes first, which is for the caller to look.
    """
    found = _HUB_LORA.fullmatch(name)
    if found is None or found[1].endswith(".safetensors") or ".." in name.split("/"):
        return None
    return found[1] + (found[3] or ""), found[2] or ""


def weighted(text: str, key: str) -> list[tuple[str, float]]:
    """Names with weights behind a colon (1 where there is none), separated by commas.

    A colon that is no weight belongs to the name, as in C:\\loras\\rust.safetensors.
    """
    found = []
    for entry in text.split(","):
        entry = entry.strip()
        if not entry:
            continue
        name, _, tail = entry.rpartition(":")
        number = _number(tail)
        if not name or number is None:
            name, number = entry, 1.0
        if not -LARGEST <= number <= LARGEST or number != number:
            allowed = f"allowed: {-LARGEST:g} to {LARGEST:g}"
            raise SettingsError(f"{key} gives {name!r} the weight {number:g}; {allowed}.", key=key)
        found.append((name.strip(), number))
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
