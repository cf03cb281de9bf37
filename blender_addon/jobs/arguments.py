# SPDX-License-Identifier: Apache-2.0
"""The settings as command-line options, the same for `python -m engine` and `blender --command tweed`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from .errors import SettingsError, TweedError
from .presets import find_preset, read_preset, shipped_presets
from .schema import Setting
from .settings import SETTINGS, normalise_case, unknown_setting


def add_arguments(parser: argparse.ArgumentParser, names: Iterable[str] | None = None) -> None:
    """Adds an option for each named setting (all if None), grouped as in the panel, and `--preset`.

    Values are checked while parsing, so argparse itself reports them. An option that is not given stays
    out of `from_namespace`, so the quality can still fill it.
    """
    names_of_presets = ", ".join(shipped_presets())
    parser.add_argument("--preset", type=_preset, metavar="NAME", help="settings to start from, which other options "
                        f"override: {names_of_presets}, or the path of a .toml file")
    wanted = list(SETTINGS if names is None else names)
    groups: dict[str, Any] = {}
    for name in wanted:
        if name not in SETTINGS:
            raise unknown_setting(name, SETTINGS)
        setting = SETTINGS[name]
        if setting.group not in groups:
            groups[setting.group] = parser.add_argument_group(setting.group)
        _add(groups[setting.group], setting)


def _add(group: Any, setting: Setting) -> None:
    flags = ["--" + setting.name.replace("_", "-"), *setting.aliases]
    text = f"{setting.help} {_allowed(setting)} (default: {_default(setting)})".replace("%", "%%")
    options: dict[str, Any] = {"dest": setting.name, "default": None, "help": text}
    if setting.type is bool:
        group.add_argument(*flags, action=argparse.BooleanOptionalAction, **options)
        return
    metavar = {int: "N", float: "X", str: "TEXT"}[setting.type]
    if setting.joined:
        options |= {"action": "append", "help": text.replace("(default", "May be given several times. (default")}
    group.add_argument(*flags, type=_parser(setting), metavar="NAME" if setting.choices else metavar, **options)


def _allowed(setting: Setting) -> str:
    return "" if setting.type is bool else f"[{setting.allowed}]"


def _default(setting: Setting) -> str:
    if setting.type is bool:
        return "on" if setting.default else "off"
    if setting.special is not None and setting.default == setting.special:
        return setting.special_help
    return str(setting.default) or "none"


def _parser(setting: Setting) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return setting.parse(normalise_case(text) if setting.name == "case" else text)
        except SettingsError as error:
            raise argparse.ArgumentTypeError(error.message) from None

    return parse


def _preset(text: str) -> dict[str, Any]:
    try:
        return read_preset(find_preset(text))
    except TweedError as error:
        raise argparse.ArgumentTypeError(f"{error.message} {error.action}".rstrip()) from None


def from_namespace(namespace: argparse.Namespace) -> dict[str, Any]:
    """Gives the settings that were given on the command line, checked, without the defaults; a preset's come first."""
    found = {name: getattr(namespace, name, None) for name in SETTINGS}
    given = {name: _whole(SETTINGS[name], value) for name, value in found.items() if value is not None}
    return {**(getattr(namespace, "preset", None) or {}), **given}


def _whole(setting: Setting, value: Any) -> Any:
    """The texts of a flag that was given several times, as one."""
    return setting.check(setting.joined.join(value)) if isinstance(value, list) else value
