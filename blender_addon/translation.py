# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface in the language that Blender speaks: one file of `languages/` for each.

Blender translates by itself what it shows of classes and properties, and labels that never change. Sentences with names
and numbers in them, from here and from the engine, go through `shown` where they are shown and nowhere else: logs, job
folders and what scripts get stay English.
"""

import json
from pathlib import Path

import bpy

from .phrases import Phrases, pieces, unescaped

FOLDER = Path(__file__).parent / "languages"
# Of all that is ours, so that Blender's own words for "Feather" or "Box", which mean other things, do not win over ours.
CONTEXT = "Tweed"
_CONTEXTS = ("*", "Operator", CONTEXT)
_spoken: dict[str, Phrases] = {}


def register() -> None:
    """Tell Blender what our files say. One that cannot be read is passed over: then the interface is English."""
    fixed = {}
    for path in sorted(FOLDER.glob("*.json")):
        try:
            entries = json.loads(path.read_text("utf-8"))
            _spoken[path.stem] = Phrases(entries)
        except (OSError, ValueError, AttributeError):  # the last: no names with texts
            continue
        plain = {unescaped(phrase): unescaped(text) for phrase, text in entries.items() if text and not pieces(phrase)[1]}
        fixed[path.stem] = {(context, phrase): text for phrase, text in plain.items() for context in _CONTEXTS}
    bpy.app.translations.register(__package__, fixed)


def unregister() -> None:
    bpy.app.translations.unregister(__package__)
    _spoken.clear()


def mark(classes) -> None:
    """Put classes that are not registered yet, and their properties, into our context."""
    for cls in classes:
        if issubclass(cls, (bpy.types.Operator, bpy.types.Panel, bpy.types.Menu)):
            cls.bl_translation_context = CONTEXT
        for base in cls.__mro__:
            for prop in getattr(base, "__annotations__", {}).values():
                if hasattr(prop, "keywords"):  # of bpy.props, not made yet
                    prop.keywords.setdefault("translation_context", CONTEXT)


def locale() -> str:
    """Blender's language, or "" where the interface is to stay English."""
    return bpy.app.translations.locale if bpy.context.preferences.view.use_translate_interface else ""


def shown(text: str) -> str:
    """A text as the artist shall read it."""
    language = _spoken.get(locale())
    return language.say(text) if language else text


def told(operator, text: str) -> str:
    """The text of an operator's report: in the artist's language after a click, in English for scripts."""
    return shown(text) if operator.options.is_invoke else text
