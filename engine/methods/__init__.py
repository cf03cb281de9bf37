# SPDX-License-Identifier: Apache-2.0
"""The methods: how a denoiser that knows single views makes one texture. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blender_addon.jobs.errors import SettingsError
from engine.methods import distilled, edit, iterative, synchronized
from engine.methods.task import Facts, Method, Task

__all__ = ["METHODS", "Facts", "Method", "Task", "pick_method"]

METHODS: dict[str, Method] = {
    "synchronized": synchronized.METHOD,
    "iterative": iterative.METHOD,
    "distilled": distilled.METHOD,
    "edit": edit.METHOD,
}


def pick_method(settings: Mapping[str, Any], facts: Facts) -> Method:
    """The method of the settings, which has no objection to them; SettingsError says what it objects to."""
    name = settings["method"]
    if name not in METHODS:
        raise SettingsError(f"method is {name!r}; it must be one of {', '.join(METHODS)}.", key="method")
    method = METHODS[name]
    method.check(settings, facts)
    return method
