# SPDX-License-Identifier: GPL-3.0-or-later
"""Which material slots of objects are painted: those of the materials that a text names, or every one."""

import re

from .jobs.errors import SettingsError
from .jobs.view_lists import names_line, read_names

_NUMBER = re.compile(r"#(\d{1,4})")


def wanted(objects, text: str) -> list[frozenset[int] | None]:
    """For each object the slots (from 0) that the setting `slots` names; None, for every object, where it is empty.

    A name is that of a material, or of the one that a copy of ours has replaced, or "#2" for the second slot. Raises
    SettingsError for a name that none of the objects has.
    """
    names = read_names(text)
    if not names:
        return [None] * len(objects)
    found = [frozenset()] * len(objects)
    for name in names:
        by_name = [_named(obj, name) for obj in objects]
        if not any(by_name):
            by_name = [_numbered(obj, name) for obj in objects]
        if not any(by_name):
            there = list(dict.fromkeys(entry for obj in objects for entry in entries(obj)))
            whom = " or ".join(f"'{obj.name}'" for obj in objects[:4])
            raise SettingsError(f"There is no material '{name}' on {whom} (slots).",
                                f"Materials there: {names_line(there)}. Empty: all of them.", key="slots")  # fmt: skip
        found = [old | new for old, new in zip(found, by_name, strict=True)]
    return found


def entries(obj) -> list[str]:
    """How each slot of an object is named in the setting: by its material, by its number where it is empty."""
    found = [slot.material.name.strip() if slot.material else f"#{i + 1}" for i, slot in enumerate(obj.material_slots)]
    return found or ["#1"]


def _named(obj, name: str) -> frozenset[int]:
    return frozenset(i for i, slot in enumerate(obj.material_slots) if name in _names(slot.material))


def _names(material) -> set[str]:
    """Of a material and of those that it was copied from when a texture was put on."""
    if material is None:
        return set()
    record = material.get("tweed")
    record = record.to_dict() if record is not None else {}
    found = {material.name.strip()}
    while record:
        original = record.get("material")
        found |= {original.name.strip()} if original is not None else set()
        record = record.get("previous")
    return found


def _numbered(obj, name: str) -> frozenset[int]:
    number = _NUMBER.fullmatch(name)
    slot = int(number[1]) - 1 if number else -1
    return frozenset([slot] if 0 <= slot < max(1, len(obj.material_slots)) else [])


def words(obj, chosen: frozenset[int] | None) -> str:
    """A sentence about the materials of an object that has several."""
    count = len(obj.material_slots)
    if chosen is None:
        return f"'{obj.name}' has {count} materials; each in use gets the texture."
    return f"{len(chosen)} of {count} materials of '{obj.name}' {'is' if len(chosen) == 1 else 'are'} painted."


def turned(objects, text: str, name: str) -> str:
    """The setting with the material of that name painted where it was not, and left out where it was.

    Raises SettingsError when none would remain, which would mean all of them.
    """
    there = list(dict.fromkeys(entry for obj in objects for entry in entries(obj)))
    painted = [entry for entry in there if (entry in ticked(objects, text)) != (entry == name)]
    if not painted:
        raise SettingsError("At least one material must be painted.", "Tick another one first.", key="slots")
    return "" if painted == there else names_line(painted)


def ticked(objects, text: str) -> set[str]:
    """The entries of the objects' slots that are painted, all of them where the setting names what is not there."""
    try:
        chosen = wanted(objects, text)
    except SettingsError:
        chosen = [None] * len(objects)
    return {
        entry
        for obj, slots in zip(objects, chosen, strict=True)
        for i, entry in enumerate(entries(obj))
        if slots is None or i in slots
    }
