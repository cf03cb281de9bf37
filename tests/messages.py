# SPDX-License-Identifier: Apache-2.0
"""Every message that can be shown, and how complete a language is: `python -m tests.messages de_DE`.

Reads the sources; nothing is run but the tables of settings and models. With `--write` the language's file is brought up
to date: it gets what is missing, with "" for its translation, loses what no source says any more, and is in the order of
the sources. A language that is not there yet begins that way.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path

from blender_addon.jobs import errors
from blender_addon.jobs.catalogue import CATALOGUE
from blender_addon.jobs.rigs import RIGS, view_names
from blender_addon.jobs.schema import menu_label
from blender_addon.jobs.settings import SETTINGS
from blender_addon.phrases import faults
from tests.reading import Reader, Source

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ROOT / "blender_addon" / "languages"
# Read by those who type commands, not in the panel.
_ASIDE = re.compile(
    r"blender_addon/(command|batch|cameras_command|headless|jobs/(arguments|batch|reference|frames))\.py|"
    r"engine/(__main__|evaluate|compare|trials|texture|doctor|pages|models_command|mesh_io|measure/.*|methods/objectives)\.py|"
    r"engine/setup/(demo|demo_scene|suite|roots|doctor|blender|shapes)\.py"
)
_ERRORS = {kind.__name__ for kind in errors._family(errors.TweedError)} | {"SetupProblem"}
# Calls that show what they are given: name -> which arguments.
_SHOWS = {"text_lines": (2,), "report": (1,), "told": (1,), "poll_message_set": (0,), "warn": (0,), "shown": (0,),
          "undo_push": (0,), "memory_guard": (1,), "Outcome": (1, 2), "_broken": (0,)}  # fmt: skip
_FAULTS = {"engine/pictures.py", "blender_addon/jobs/files.py"}  # whose ValueErrors become the end of a sentence
_SHOWN_WORDS = ("text", "placeholder", "heading")
_LISTS = {"remarks", "notes", "problems"}  # of sentences for the panel
_GIVES = {"words", "facts", "style_obstacle", "prompt_notes", "too_long", "licence_line", "_material_remarks", "advice", "allowed", "_amount", "_result_fault",
          "fault", "last_words", "unread"}  # functions whose result is shown  # fmt: skip
_FIXED = {"name", "description"}  # of properties
# What Blender builds into a list itself, and what is read from a file.
_MORE = (*(f"{size} x {size} pixels" for size in (512, 1024, 2048, 4096, 8192)),
         "Materials", "Colors", "Wear and weather", "Sizes", "Tones", "and", "or")  # fmt: skip
_LETTERS = re.compile(r"[A-Za-z]{2}")
_IDLE = re.compile(r"(?:\{\}|[\W\d_]|\bx\b|\b(?:GB|px|s|min|h)\b|https?:\S+)*")


@dataclass(frozen=True)
class Message:
    """A phrase, where it is said, and whether it is always the same there (a label, a tooltip)."""

    phrase: str
    file: str
    line: int
    fixed: bool

    @property
    def panel(self) -> bool:
        """Said by the add-on and not by the engine."""
        return self.file.startswith("blender_addon/")


def sources() -> list[Source]:
    paths = [path for folder in ("blender_addon", "engine") for path in sorted((ROOT / folder).rglob("*.py"))]
    names = [path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts]
    return [Source.read(ROOT / name, name) for name in names if not _ASIDE.fullmatch(name)]


def messages() -> list[Message]:
    """Everything that can be shown, each phrase once."""
    read = sources()
    reader, found = Reader(read), []
    found += settings()
    for source in read:
        for node, function in source.nodes():
            found += of_node(reader, source, node, function)
    found += [Message(text, "blender_addon/properties.py", 0, True) for text in _MORE]
    once: dict[str, Message] = {}
    for message in found:
        for phrase in message.phrase.split(" · "):
            phrase = phrase.strip()
            if _LETTERS.search(phrase.replace("{}", "")) and not _IDLE.fullmatch(phrase):
                kept = once.get(phrase)
                if kept is None or (message.fixed and not kept.fixed):
                    once[phrase] = Message(phrase, message.file, message.line, message.fixed)
    return list(once.values())


def settings() -> list[Message]:
    """What the panel makes of the tables of settings, rigs and models."""
    found = []

    def add(text: str, file: str, fixed: bool = True):
        found.append(Message(text.replace("{", "{{").replace("}", "}}"), f"blender_addon/jobs/{file}", 0, fixed))

    for setting in SETTINGS.values():
        add(setting.label, "tables")
        add(setting.help.rstrip("."), "tables")
        for choice, words in zip(setting.choices or (), setting.choice_help or (), strict=False):
            add(menu_label(choice), "tables")
            add(words, "tables")
        add(setting.special_help, "tables", fixed=False)
    names = {name.partition(" #")[0] for rig in RIGS for count in (4, 6, 8, 10, 12, 26) for name in view_names(rig, count)}
    for name in sorted(names):
        add(name.capitalize(), "rigs.py")
    for entry in CATALOGUE:
        if entry.role in ("model", "vae", "preview", "style", "multiview", "lora"):
            add(entry.good_for, "catalogue.py", fixed=False)
    return found


def of_node(reader: Reader, source: Source, node, function) -> list[Message]:
    """What one node of a source shows."""
    fixed, told = [], []
    if isinstance(node, ast.ClassDef):
        for line in node.body:
            if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") in ("bl_label", "bl_description"):
                fixed += reader.texts(line.value, source)
    elif isinstance(node, ast.Call):
        fixed, told = of_call(reader, source, node, function)
    elif isinstance(node, (ast.Assign, ast.AugAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(getattr(target, "id", "") in _LISTS for target in targets):
            told += reader.elements(node.value, source, function)
    elif isinstance(node, ast.FunctionDef) and node.name in _GIVES:
        told += reader.returns(node, source)
    return [*(Message(text, source.name, node.lineno, True) for text in fixed),
            *(Message(text, source.name, node.lineno, False) for text in told)]  # fmt: skip


def of_call(reader: Reader, source: Source, node: ast.Call, function) -> tuple[list[str], list[str]]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    words = {word.arg: word.value for word in node.keywords}
    fixed, told = [], []
    if name.endswith("Property") or name == "make":
        for word in _FIXED & words.keys():
            fixed += reader.texts(words[word], source, function)
        fixed += items(reader, source, words.get("items"), function)
        return fixed, told
    if name in _ERRORS:
        given = [*node.args[:2], *(words[word] for word in ("message", "action") if word in words)]
        return fixed, [text for part in given for text in reader.texts(part, source, function)]
    if name == "ValueError" and source.name in _FAULTS:
        told += reader.texts(node.args[0], source, function)
    for at in _SHOWS.get(name, ()):
        if at < len(node.args):
            told += reader.texts(node.args[at], source, function)
    if name == "append" and _last_name(owner) in _LISTS:
        told += reader.texts(node.args[0], source, function)
    if name == "step" and source.name == "engine/setup/steps.py":
        told += reader.texts(node.args[0], source, function)
    if source.name.startswith("blender_addon/") and "/jobs/" not in source.name:
        for word in words.keys() & set(_SHOWN_WORDS):
            texts = reader.texts(words[word], source, function)
            always = word in ("text", "placeholder") and isinstance(words[word], ast.Constant)
            (fixed if always else told).extend(texts)
    return fixed, told


def _last_name(node) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def items(reader: Reader, source: Source, node, function) -> list[str]:
    """Names and descriptions of a menu's entries."""
    if isinstance(node, ast.Name) and function is not None:
        given = [n for n in ast.walk(function) if isinstance(n, (ast.Assign, ast.AugAssign))]
        parts = [n.value for n in given if node.id in {getattr(t, "id", "") for t in getattr(n, "targets", [n])}]
    else:
        parts = [node]
    entries = [entry for part in parts if isinstance(part, (ast.List, ast.Tuple)) for entry in part.elts]
    return [text for entry in entries if isinstance(entry, ast.Tuple) for part in entry.elts[1:3]
            for text in reader.texts(part, source, function)]  # fmt: skip


def compared(entries: dict[str, str], known: list[Message]) -> tuple[list[Message], list[str]]:
    """(messages without a translation, phrases that nothing says any more)"""
    phrases = {message.phrase for message in known}
    return [m for m in known if not entries.get(m.phrase)], [phrase for phrase in entries if phrase not in phrases]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.messages", description=__doc__.splitlines()[0])
    parser.add_argument("locale", help="Blender's name of the language, such as de_DE")
    parser.add_argument("--write", action="store_true", help="bring the language's file up to date")
    options = parser.parse_args(arguments)
    path, known = LANGUAGES / f"{options.locale}.json", messages()
    entries = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    missing, stale = compared(entries, known)
    for message in missing:
        print(f"missing  {message.file}:{message.line}  {message.phrase}")
    for phrase in stale:
        print(f"stale    {phrase}")
    for fault in faults(entries):
        print(f"wrong    {fault}")
    panel = [message for message in known if message.panel]
    print(f"{options.locale}: {len(known) - len(missing)} of {len(known)} messages are translated; of the add-on's own "
          f"{sum(bool(entries.get(m.phrase)) for m in panel)} of {len(panel)}. {len(stale)} are stale.")  # fmt: skip
    if options.write:
        whole = {message.phrase: entries.get(message.phrase, "") for message in known}
        LANGUAGES.mkdir(exist_ok=True)
        path.write_text(json.dumps(whole, indent=0, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
