# SPDX-License-Identifier: Apache-2.0
"""A list of jobs in a file: `.toml` for people, `.jsonl` (one JSON object per line) for programs.

    [defaults]
    quality = "draft"

    [[job]]
    file = "chairs.blend"            # opened for this job; without it, the job goes on with what is open
    objects = ["Chair", "Stool"]     # without it, the selected ones
    each = true                      # a texture of its own for each of them
    prompt = "oak, oiled"
    save = "out/chairs.blend"        # the .blend with the texture; without it, only the texture's files are written

Everything else is a setting or `preset`. Paths are relative to the list. The whole list is checked before the first job.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import SettingsError, TweedError, UserError
from .files import parse_json, read_limited
from .presets import find_preset, read_preset
from .settings import SETTINGS, resolve, unknown_setting

MAX_BYTES = 16 << 20
MOST = 10_000  # jobs in one list
OWN = ("file", "objects", "each", "save", "make_uvs", "preset")
_PATHS = ("style_image",)  # settings that name a file beside the list


@dataclass(frozen=True)
class Item:
    """One entry of a list. `place` says where it stands in it; `settings` are those given, without defaults."""

    place: str
    file: Path | None
    objects: tuple[str, ...]
    each: bool
    save: Path | None
    make_uvs: bool
    settings: dict[str, Any]


def read_batch(path: Path) -> list[Item]:
    """The jobs of a list, all checked. Raises UserError, SettingsError and JobError that name the entry."""
    path = Path(path)
    if path.suffix not in READERS:
        raise UserError(f"{path.name}: unknown kind of list; allowed: {', '.join(READERS)}.", "Rename or convert it.")
    entries = READERS[path.suffix](read_limited(path, MAX_BYTES), path.name)
    if not entries:
        raise UserError(f"{path.name} holds no job.", "Add a [[job]]." if path.suffix == ".toml" else "Add a line for each.")
    if len(entries) > MOST:
        raise UserError(f"{path.name} holds {len(entries)} jobs; at most {MOST} are allowed.", "Split the list.")
    items = [_item(place, entry, path.absolute().parent) for place, entry in entries]
    taken: dict[Path, str] = {}
    for item in items:
        if item.save is not None and item.save in taken and item.file is not None:
            raise UserError(f"{item.place}: {item.save} is written by {taken[item.save]} already.",
                            "Give each its own save, or leave file out so that it goes on with the one before.")  # fmt: skip
        if item.save is not None:
            taken[item.save] = item.place
    return items


def _toml(data: bytes, name: str) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        record = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{name} is no valid TOML: {error}.", "Mend that line.") from error
    extra = [key for key in record if key not in ("defaults", "job")]
    if extra:
        raise UserError(f"{name}: unknown part {extra[0][:60]!r}; allowed: [defaults] and [[job]].", "Mend its name.")
    defaults, jobs = record.get("defaults", {}), record.get("job", [])
    if not isinstance(defaults, dict) or not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise UserError(f"{name}: write [defaults] once and [[job]] for every job.", "Mend the brackets.")
    return [(f"job {number}", {**defaults, **job}) for number, job in enumerate(jobs, 1)]


def _lines(data: bytes, name: str) -> list[tuple[str, Mapping[str, Any]]]:
    found = []
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            entry = parse_json(line)
        except ValueError as error:
            raise UserError(f"{name}, line {number}: no valid JSON ({error}).", "Mend that line.") from error
        if not isinstance(entry, dict):
            raise UserError(f"{name}, line {number}: {type(entry).__name__}; expected an object {{…}}.", "Mend that line.")
        found.append((f"line {number}", entry))
    return found


READERS = {".toml": _toml, ".jsonl": _lines}


def _item(place: str, entry: Mapping[str, Any], folder: Path) -> Item:
    try:
        unknown = [key for key in entry if key not in SETTINGS and key not in OWN]
        if unknown:
            raise unknown_setting(unknown[0], (*SETTINGS, *OWN))
        preset = read_preset(find_preset(_text(entry, "preset"))) if entry.get("preset") else {}
        settings = {**preset, **{key: value for key, value in entry.items() if key in SETTINGS}}
        for key in _PATHS:
            if settings.get(key):
                settings[key] = str(folder / settings[key])
        resolve(settings)
        file, save = (folder / _text(entry, key) if entry.get(key) else None for key in ("file", "save"))
        if file is not None and not file.is_file():
            raise UserError(f"There is no file {file}.", "Mend its name (file).")
        if save is not None and not save.parent.is_dir():
            raise UserError(f"{save.parent} is not a folder.", "Create it first.")
        return Item(place, file, _objects(entry), _flag(entry, "each"), save, _flag(entry, "make_uvs"), settings)
    except TweedError as error:
        raise type(error)(f"{place}: {error.message}", error.action) from error


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry[key]
    if not isinstance(value, str) or "\0" in value:
        raise SettingsError(f"{value!r:.60} is no text ({key}).", key=key)
    return value


def _flag(entry: Mapping[str, Any], key: str) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise SettingsError(f"{value!r:.60} ({key}); allowed: true or false.", key=key)
    return value


def _objects(entry: Mapping[str, Any]) -> tuple[str, ...]:
    value = entry.get("objects", [])
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise SettingsError(f"{value!r:.60} (objects); allowed: a name or a list of names.", key="objects")
    return tuple(names)
