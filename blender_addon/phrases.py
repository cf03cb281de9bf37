# SPDX-License-Identifier: GPL-3.0-or-later
"""What a language says for English text, also for text with names and numbers in it. Imports no bpy.

A catalogue maps English to the language's words. `{}` stands for anything: "{} views left out" also translates
"3 views left out". In the translation the gaps may stand in another order, then with numbers: {1} of {0}.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from string import Formatter

LONGEST = 2000  # characters; what is longer is a log and no sentence
_SHORT = 8  # letters; a phrase of fewer could be a part of any sentence
_DEPTH = 4  # of phrases within phrases
_KEPT = 1024  # answers that are remembered: a panel asks for the same ones at every redraw
_QUOTES = "'\"“„«"
_SENTENCE = re.compile(r"(?<=[.!?]) ")
_SPACE = re.compile(r"\s")
_LISTED = re.compile(r"(?<=') (and|or) (?=')")  # between names: 'Cube' or 'Cone'
_JOINTS = (" · ", ": ")  # between parts that are said one by one


def pieces(phrase: str) -> tuple[list[str], list[int]]:
    """The fixed parts of a phrase and, between them, the numbers of its gaps. ValueError if its braces do not match.

    "{1} of {}" is no phrase: gaps have numbers all or none.
    """
    if "{" not in phrase and "}" not in phrase:
        return [phrase], []
    fixed, gaps = [""], []
    for text, field, spec, conversion in Formatter().parse(phrase):
        fixed[-1] += text
        if field is None:
            continue
        if spec or conversion or not (field == "" or field.isdecimal()):
            raise ValueError(f"a gap is {{}} or {{0}}, not {{{field}}}")
        gaps.append(field)
        fixed.append("")
    if len({field == "" for field in gaps}) > 1:
        raise ValueError("some gaps have numbers and some have not")
    return fixed, [int(field) if field else index for index, field in enumerate(gaps)]


class Template:
    """A phrase with gaps, and what the language says for it."""

    def __init__(self, phrase: str, translation: str):
        self.fixed, _ = pieces(phrase)
        self.said, self.order = pieces(translation)
        self.weight = sum(map(len, self.fixed))
        self.probe = max(self.fixed, key=len)  # what a text must contain to be worth a closer look
        self.names = [part.endswith(tuple(_QUOTES)) for part in self.fixed[:-1]]
        short = sum(map(str.isalpha, "".join(self.fixed))) < _SHORT
        self.counts = short and not self.fixed[0]  # "{} views": what stands before is a number
        self.inner = self.counts and not self.fixed[-1]  # "{} to {}": says nothing of a whole sentence

    @cached_property
    def pattern(self) -> re.Pattern:
        return re.compile("(.*?)".join(map(re.escape, self.fixed)), re.DOTALL)

    def match(self, text: str) -> tuple[str, ...] | None:
        """What stands in the gaps, if the text is of this kind."""
        found = self.pattern.fullmatch(text) if self.probe in text else None
        if found is None or (self.inner and any(map(_SPACE.search, found.groups()))):
            return None
        if self.counts and _SPACE.search(found[1]) and not any(map(str.isdigit, found[1])):
            return None
        return found.groups()

    def fill(self, values: list[str]) -> str:
        found = self.said[0]
        for number, text in zip(self.order, self.said[1:], strict=True):
            found += values[number] + text
        return found


class Phrases:
    """One language. Entries without a translation are as if they were not there."""

    def __init__(self, entries: Mapping[str, str]):
        said = {phrase: text for phrase, text in entries.items() if text}
        self.exact = {unescaped(phrase): unescaped(text) for phrase, text in said.items() if not pieces(phrase)[1]}
        gapped = [Template(phrase, text) for phrase, text in said.items() if pieces(phrase)[1]]
        self.templates = sorted(gapped, key=lambda template: -template.weight)
        self.say = lru_cache(_KEPT)(self._say)
        self._best = lru_cache(_KEPT)(self._look)

    def _say(self, text: str) -> str:
        """The text in this language, as far as the catalogue knows its sentences; the rest of it stays English."""
        bare = text.strip()
        if not bare or len(bare) > LONGEST:
            return text
        at = text.index(bare)
        return text[:at] + self._best(bare, 0)[1] + text[at + len(bare) :]

    def _look(self, text: str, depth: int) -> tuple[int, str]:
        """(letters of the text that an entry accounts for, translation), the most that can be accounted for."""
        best = self._whole(text, depth)
        if depth > _DEPTH or best[0] == len(text):
            return best
        for cut in _SENTENCE.finditer(text):
            head, tail = self._whole(text[: cut.start()], depth), self._best(text[cut.end() :], depth)
            best = max(best, (head[0] + tail[0], f"{head[1]} {tail[1]}"), key=lambda one: one[0])
        for joint in _JOINTS:
            if best[0] == 0 and joint in text:
                parts = [self._best(part, depth + 1) for part in text.split(joint, -1 if joint == " · " else 1)]
                best = sum(part[0] for part in parts), joint.join(part[1] for part in parts)
        if best[0] == 0 and text.endswith("."):
            score, said = self._best(text[:-1], depth + 1)
            best = score, said + "."
        return best

    def _whole(self, text: str, depth: int) -> tuple[int, str]:
        """The same by one entry alone."""
        if text in self.exact:
            return len(text), self.exact[text]
        for template in self.templates if depth <= _DEPTH else ():
            found = None if template.inner and not depth else template.match(text)
            if found:
                parts = zip(found, template.names, strict=True)
                return template.weight, template.fill([self._part(part, name, depth) for part, name in parts])
        return 0, text

    def _part(self, text: str, name: bool, depth: int) -> str:
        """What stands in a gap; names stay as they are."""
        if name:
            return text
        if _LISTED.search(text):
            return _LISTED.sub(lambda word: f" {self.exact.get(word[1], word[1])} ", text)
        return self._best(text, depth + 1)[1]


def unescaped(phrase: str) -> str:
    """A phrase without gaps as it is shown: {{ means {."""
    return "".join(pieces(phrase)[0])


def faults(entries: Mapping[str, str]) -> Iterable[str]:
    """What is wrong with a catalogue, a sentence each: gaps that are not those of the English."""
    for phrase, text in entries.items():
        try:
            _, wanted = pieces(phrase)
            _, given = pieces(text)
        except ValueError as fault:
            yield f"{phrase!r}: {fault}"
            continue
        if text and sorted(given) != sorted(wanted):
            yield f"{phrase!r}: the translation has the gaps {given}, the English {wanted}"
