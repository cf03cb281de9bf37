# SPDX-License-Identifier: Apache-2.0
"""Presets: flat TOML files that hold only what differs from the defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import JobError, SettingsError
from .files import atomic_write_text, read_limited
from .settings import QUALITIES, SETTINGS, check

MAX_PRESET_BYTES = 64 * 1024
SHIPPED = Path(__file__).parents[1] / "presets"


def shipped_presets() -> dict[str, Path]:
    """Gives the presets that come with Tweed, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def find_preset(name: str) -> Path:
    """Gives the file of a shipped preset, or of any other by its path; SettingsError names those there are."""
    shipped = shipped_presets()
    if name in shipped:
        return shipped[name]
    if name.endswith(".toml"):
        return Path(name).expanduser()
    raise SettingsError(f"There is no preset {name[:60]!r}; allowed: {', '.join(shipped)}, or the path of a .toml file.",
                        key="preset")  # fmt: skip


def preset_comment(path: Path) -> str:
    """Gives the first line of a preset, if it is a comment: what it is, in a sentence."""
    first = read_limited(path, MAX_PRESET_BYTES).decode("utf-8", "replace").split("\n", 1)[0].strip()
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def differences(values: Mapping[str, Any]) -> dict[str, Any]:
    """Gives the settings that are not what they would be without being given, in the schema's order."""
    given = check(values)
    quality = given.get("quality", SETTINGS["quality"].default)
    usual = {name: setting.default for name, setting in SETTINGS.items()} | QUALITIES[quality]
    usual["quality"] = SETTINGS["quality"].default
    return {name: given[name] for name in SETTINGS if name in given and given[name] != usual[name]}


def write_preset(path: Path, values: Mapping[str, Any], comment: str = "") -> None:
    """Writes a preset atomically; `comment` becomes `#` lines on top."""
    atomic_write_text(path, to_toml(differences(values), comment))


def read_preset(path: Path) -> dict[str, Any]:
    """Reads a preset: the settings it gives, checked. UserError names the file and the fault."""
    data = read_limited(Path(path), MAX_PRESET_BYTES)
    try:
        return check(tomllib.loads(data.decode("utf-8")))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error.message}", error.action, key=error.key) from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise JobError(f"{path}: no valid TOML ({error}).", "Correct the file or delete it.") from None


def to_toml(values: Mapping[str, Any], comment: str = "") -> str:
    """Writes settings as flat TOML; tomllib reads back the same values."""
    lines = [
        "# " + "".join(letter if letter.isprintable() else " " for letter in line) for line in comment.splitlines()
    ]
    lines += [f"{name} = {_toml_value(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return f'"{"".join(_toml_letter(letter) for letter in value)}"'


def _toml_letter(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 32 or ord(letter) == 127 else letter
