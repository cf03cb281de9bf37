# SPDX-License-Identifier: GPL-3.0-or-later
"""The views of a rig as rows of the panel: a tick and words for each.

Ticks and words live in the settings `skip_views` and `view_prompts`, by the views' names, so that they outlast another
number of views and another rig; a row is a window on them. What names no view of the rig as it is set waits and says
nothing.
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
    skipped, words = _read(values.get("skip_views", ""), values.get("view_prompts", ""))
    return {"skip_views": names_line(name for name in skipped if name in known),
            "view_prompts": words_line({name: said for name, said in words.items() if name in known})}  # fmt: skip


@lru_cache(maxsize=16)
def _read(skip_views: str, view_prompts: str) -> tuple[tuple[str, ...], Mapping[str, str]]:
    try:
        return read_names(skip_views), read_words(view_prompts)
    except ValueError:  # a script has set it; a job made with it is refused in words
        return read_names(skip_views), {}


def _row(rows, index: int):
    """(panel's settings, the row's view, names left out, words by name); the view is None beyond the rig's last."""
    group = rows.id_data.tweed
    known = names_on_panel(group)
    return group, known[index] if index < len(known) else None, *_read(group.skip_views, group.view_prompts)


def _use(index: int):
    def get(rows):
        _, name, skipped, _ = _row(rows, index)
        return name not in skipped

    def put(rows, value):
        group, name, skipped, _ = _row(rows, index)
        if name is not None:
            others = [other for other in skipped if other != name]
            group.skip_views = names_line(others if value else [*others, name])

    return bpy.props.BoolProperty(name="Use", description="Paint from this view", get=get, set=put)


def _words(index: int):
    def get(rows):
        _, name, _, words = _row(rows, index)
        return words.get(name, "")[:_ROW_WORDS]

    def put(rows, value):
        group, name, _, words = _row(rows, index)
        if name is not None:
            group.view_prompts = words_line({**words, name: value})

    return bpy.props.StringProperty(
        name="Words", description="Added to the prompt for this view only", maxlen=_ROW_WORDS, get=get, set=put
    )


TweedViews = type(
    "TweedViews",
    (bpy.types.PropertyGroup,),
    {
        "__doc__": "Row i of the list of views: `use_i` and `words_i`.",
        "__module__": __name__,
        "__annotations__": {f"use_{i}": _use(i) for i in range(MOST)} | {f"words_{i}": _words(i) for i in range(MOST)},
    },
)


def draw(column, group) -> None:
    """A row for each view of the rig."""
    for index, name in enumerate(names_on_panel(group)):
        draw_row(column, name, name.capitalize(), group.rows, f"use_{index}", f"words_{index}")


def draw_row(column, name: str, label: str, owner, use: str, words: str) -> None:
    """Tick, name, words and a look from there. `use` and `words` are properties of `owner`."""
    row = column.row(align=True)
    parts = row.split(factor=0.42, align=True)
    named = parts.row(align=True)
    named.prop(owner, use, text="")
    named.label(text=label)
    said = parts.row(align=True)
    said.enabled = getattr(owner, use)
    said.prop(owner, words, text="", placeholder="Words for this view")
    row.operator("tweed.look_from", text="", icon="VIEWZOOM").view = name
