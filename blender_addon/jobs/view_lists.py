# SPDX-License-Identifier: Apache-2.0
"""Views by name in one line of text: "top, bottom" names some, "front = a face; back = a door" gives words to some.

A backslash before a comma, semicolon, equals sign or backslash makes it an ordinary character. The functions that read
raise ValueError with the end of a sentence that began with what is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

LONGEST = 2000  # characters of one view's words; as much as a camera of a job may have

_SPECIAL = re.compile(r"([\\,;=])")


def read_names(text: str) -> tuple[str, ...]:
    """The names of a list with commas between, each once, in their order."""
    return tuple(dict.fromkeys(name for name in (_plain(part) for part in _split(text, ",")) if name))


def read_words(text: str) -> dict[str, str]:
    """Words by name, from "name = words; name = words"; the last words of a name count."""
    found = {}
    for entry in _split(text, ";"):
        if not entry.strip():
            continue
        name, *words = _split(entry, "=", 1)
        if not words or not _plain(name):
            raise ValueError(f"gives no view's words in {entry.strip()[:60]!r}; write: front = a face; back = a door")
        found[_plain(name)] = _plain(words[0])
        if len(found[_plain(name)]) > LONGEST:
            raise ValueError(f"has more than {LONGEST} characters for the view {_plain(name)[:60]!r}")
    return {name: words for name, words in found.items() if words}


def names_line(names: Iterable[str]) -> str:
    """What `read_names` reads."""
    return ", ".join(map(_escaped, names))


def words_line(words: Mapping[str, str]) -> str:
    """What `read_words` reads; empty words are left out."""
    return "; ".join(f"{_escaped(name)} = {_escaped(said)}" for name, said in words.items() if said)


def _split(text: str, at: str, most: int = 0) -> list[str]:
    """The parts of a text between characters `at` that no backslash precedes, still escaped; at most `most` cuts, 0: all."""
    parts, start, place = [], 0, 0
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] == at and (not most or len(parts) < most):
            parts.append(text[start:place])
            start = place + 1
        place += 1
    return [*parts, text[start:]]


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text.strip(), flags=re.DOTALL).strip()


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text.strip())
