# SPDX-License-Identifier: Apache-2.0
"""Every setting of a job, once. The panel, the command lines, presets, docs and validation read this table."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import SettingsError
from .schema import Setting
from .tables import CASES, QUALITIES, TABLE

SETTINGS: dict[str, Setting] = {setting.name: setting for setting in TABLE}


def resolve(values: Mapping[str, Any], *, require_prompt: bool = True) -> dict[str, Any]:
    """Gives every setting of a job, checked: given values, then what the quality sets, then defaults.

    SettingsError names the key, what was found and what is allowed.
    """
    given = check(values)
    ordered = given.get("method") == "edit" and given.get("instruction")
    if require_prompt and not given.get("prompt") and not ordered:
        raise SettingsError(
            f"The prompt is empty (prompt); allowed: text of 1 to {SETTINGS['prompt'].maximum} characters.",
            "Write what the surface should look like.",
            key="prompt",
        )
    defaults = {name: setting.default for name, setting in SETTINGS.items()}
    quality = given.get("quality", defaults["quality"])
    return {**defaults, **QUALITIES[quality], **given}


def check(values: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the given settings only, and gives them back as plain values, without adding any."""
    if not isinstance(values, Mapping):
        raise SettingsError(f"The settings are {type(values).__name__}; expected names with values.")
    given = {}
    for name, value in values.items():
        setting = SETTINGS.get(name) if isinstance(name, str) else None
        if setting is None:
            raise unknown_setting(name, SETTINGS)
        given[name] = setting.check(normalise_case(value) if name == "case" else value)
    return given


def quality_of(values: Mapping[str, Any]) -> str:
    """Names the quality that full settings amount to: draft, standard, high, or "custom"."""
    for quality, sets in QUALITIES.items():
        if all(values.get(name) == value for name, value in sets.items()):
            return quality
    return "custom"


def normalise_case(value: Any) -> Any:
    """Turns 2 or "2" into "instance-x0" (the cases' numbers in the literature); leaves the rest alone."""
    if isinstance(value, str) and value.strip() in tuple("123456"):
        return CASES[int(value) - 1]
    number = isinstance(value, int) and not isinstance(value, bool)
    return CASES[value - 1] if number and 1 <= value <= 6 else value


def unknown_setting(name: Any, known: Iterable[str]) -> SettingsError:
    """Gives the error for a name that is no setting, with those like it: the whole list is longer than one reads."""
    names = list(known)
    near = difflib.get_close_matches(str(name)[:60], names, n=5, cutoff=0.4) or names[:5]
    found = f"Unknown setting {str(name)[:60]!r}; allowed: {', '.join(near)}"
    more = f" and {len(names) - len(near)} more, all in docs/settings.md" if len(names) > len(near) else ""
    best = difflib.get_close_matches(str(name)[:60], names, n=1)
    return SettingsError(f"{found}{more}.", f"Did you mean {best[0]}?" if best else "", key=str(name))
