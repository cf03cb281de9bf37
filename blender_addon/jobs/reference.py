# SPDX-License-Identifier: Apache-2.0
"""docs/settings.md, written from the schema. `python -m blender_addon.jobs.reference > docs/settings.md`."""

from __future__ import annotations

import sys

from .schema import Setting
from .settings import QUALITIES, SETTINGS

_INTRODUCTION = """\
# Settings

Every setting of a job, as the panel, `python -m engine`, `blender --command tweed`, presets and job files
know it. Generated from `blender_addon/jobs/settings.py`; a test keeps it current.

On a command line `texture_size` is `--texture-size` (or `--size`), and a switch such as
`direction_prompts` is `--direction-prompts` or `--no-direction-prompts`. A preset is a TOML file with a line
`name = value` for each setting that differs from its default.
"""


def settings_table() -> str:
    """Gives docs/settings.md: the settings by group, and what each quality sets."""
    parts = [_INTRODUCTION]
    for group in dict.fromkeys(setting.group for setting in SETTINGS.values()):
        rows = [_row(setting) for setting in SETTINGS.values() if setting.group == group]
        parts.append(
            "\n".join([f"## {group}\n", "| setting | allowed | default | what it does |", "|---|---|---|---|", *rows])
        )
        parts.append("")
        parts += [_choices(setting) for setting in SETTINGS.values() if setting.group == group and setting.choices]
    names = list(next(iter(QUALITIES.values())))
    rows = [f"| {quality} | {' | '.join(str(sets[name]) for name in names)} |" for quality, sets in QUALITIES.items()]
    head = [f"| quality | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    parts.append("\n".join(["## What a quality sets\n", *head, *rows]) + "\n")
    return "\n".join(parts)


def _row(setting: Setting) -> str:
    if setting.special is not None and setting.default == setting.special:
        default = f"{setting.default:g} ({setting.special_help})"
    elif setting.type is bool:
        default = "true" if setting.default else "false"
    else:
        default = str(setting.default)
    return f"| `{setting.name}` | {setting.allowed} | {default} | {setting.help} |"


def _choices(setting: Setting) -> str:
    lines = [f"`{setting.name}`:\n"]
    lines += [f"- `{name}`: {text}" for name, text in zip(setting.choices, setting.choice_help, strict=True)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(settings_table())
