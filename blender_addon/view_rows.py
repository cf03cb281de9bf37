# SPDX-License-Identifier: GPL-3.0-or-later
"""The views of a rig as rows of the panel: a tick and words for each, or what it should not look like.

They live in the settings `skip_views`, `view_prompts` and `view_avoids`, by the views' names, so that they outlast
another number of views and another rig; a row is a window on them. What names no view of the rig as it is set waits and
says nothing.
"""

from collections.abc import Mapping
from functools import lru_cache

import bpy

from .jobs import rigs
from .jobs.errors import SettingsError
from .jobs.settings import QUALITIES, SETTINGS
from .jobs.view_lists import names_line, read_names, read_words, words_line

MOST = int(SETTINGS["views"].maximum)
_ROW_WORDS = 500  # characters; scripts may give more through the setting


def names(values: Mapping) -> tuple[str, ...]:
    """The views of the rig that these settings make; none for the scene's cameras, or where there cannot be so many."""
    quality = values.get("quality", SETTINGS["quality"].default)
    try:
        return rigs.view_names(values.get("rig", SETTINGS["rig"].default), values.get("views", QUALITIES[quality]["views"]))
    except SettingsError:
        return ()


def names_on_panel(group) -> tuple[str, ...]:
    """The views of the rig that the panel is set to."""
    views = {"views": group.views} if group.is_property_set("views") else {}
    return names({"rig": group.rig, "quality": group.quality, **views})


def known_only(values: Mapping, known: tuple[str, ...]) -> dict:
    """The settings of single views, without what is said of views that are not among the known ones."""
    skipped = read_names(values.get("skip_views", ""))
    said = {key: _read(values.get(key, "")) for key in ("view_prompts", "view_avoids")}
    return {"skip_views": names_line(name for name in skipped if name in known)} | {
        key: words_line({name: text for name, text in found.items() if name in known}) for key, found in said.items()
    }


@lru_cache(maxsize=32)
def _read(said: str) -> Mapping[str, str]:
    try:
        return read_words(said)
    except ValueError:  # a script has set it; a job made with it is refused in words
        return {}


def _row(rows, index: int):
    """(panel's settings, the row's view); the view is None beyond the rig's last."""
    group = rows.id_data.tweed
    known = names_on_panel(group)
    return group, known[index] if index < len(known) else None


def _use(index: int):
    def get(rows):
        group, name = _row(rows, index)
        return name not in read_names(group.skip_views)

    def put(rows, value):
        group, name = _row(rows, index)
        if name is not None:
            others = [other for other in read_names(group.skip_views) if other != name]
            group.skip_views = names_line(others if value else [*others, name])

    return bpy.props.BoolProperty(name="Use", description="Paint from this view", get=get, set=put)


def _said(index: int, key: str, label: str, description: str):
    """The row's part of the setting `key`."""

    def get(rows):
        group, name = _row(rows, index)
        return _read(getattr(group, key)).get(name, "")[:_ROW_WORDS]

    def put(rows, value):
        group, name = _row(rows, index)
        if name is not None:
            setattr(group, key, words_line({**_read(getattr(group, key)), name: value}))

    return bpy.props.StringProperty(name=label, description=description, maxlen=_ROW_WORDS, get=get, set=put)


def _annotations(index: int) -> dict:
    return {
        f"use_{index}": _use(index),
        f"words_{index}": _said(index, "view_prompts", "Words", "Added to the prompt for this view only"),
        f"avoid_{index}": _said(index, "view_avoids", "Avoid", "What this view should not look like"),
    }


TweedViews = type(
    "TweedViews",
    (bpy.types.PropertyGroup,),
    {
        "__doc__": "Row i of the list of views: `use_i`, `words_i` and `avoid_i`; `say` is which of the two the rows show.",
        "__module__": __name__,
        "__annotations__": {
            "say": bpy.props.EnumProperty(
                name="Rows",
                description="What the views' rows show",
                items=(
                    ("words", "Words", "Words that are added to the prompt for one view only"),
                    ("avoid", "Avoid", "What one view should not look like"),
                ),
            ),
            **{name: made for index in range(MOST) for name, made in _annotations(index).items()},
        },
    },
)


def draw(column, group) -> None:
    """A row for each view of the rig."""
    draw_choice(column, group)
    for index, name in enumerate(names_on_panel(group)):
        draw_row(column, name, name.capitalize(), group.rows, f"use_{index}", f"{group.rows.say}_{index}")


def draw_choice(column, group) -> None:
    """Which of the two the rows show."""
    column.row(align=True).prop(group.rows, "say", expand=True)
    column.separator(factor=0.5)


def draw_row(column, name: str, label: str, owner, use: str, words: str) -> None:
    """Tick, name, words and a look from there. `use` and `words` are properties of `owner`."""
    row = column.row(align=True)
    parts = row.split(factor=0.42, align=True)
    named = parts.row(align=True)
    named.prop(owner, use, text="")
    named.label(text=label)
    said = parts.row(align=True)
    said.enabled = getattr(owner, use)
    said.prop(owner, words, text="", placeholder="Avoid in this view" if "avoid" in words else "Words for this view")
    row.operator("tweed.look_from", text="", icon="VIEWZOOM").view = name
