# SPDX-License-Identifier: Apache-2.0
"""One setting: what it is, what it may be, and how a value of it is checked or read from text."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import SettingsError

EVERY_METHOD = ("synchronized", "iterative", "distilled", "edit")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_LETTERS = {"ddim", "ddpm", "sds", "sdi", "ism", "udim", "lcm", "tcd", "cpu", "cuda", "mps"}  # said by letter
_WRITTEN = {"dpm++2m": "DPM++ 2M", "2x": "2x", "text2tex": "Text2Tex"}
_NOUNS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Setting:
    """A parameter of a job. Drives the panel, the command lines, presets, the docs and validation.

    `minimum`/`maximum` are inclusive; for text they bound its length. `special` is one value outside
    the range with a meaning of its own (`special_help`), such as -1 for "the model's own".
    `choice_help` runs parallel to `choices`. `aliases` are extra command-line flags. `reads` takes a text
    apart, ValueError saying what is wrong with it; with `joined` a text's flag may be given several times,
    and the texts are put together with this between them.
    """

    name: str
    type: type
    default: Any
    help: str
    label: str
    group: str
    minimum: float | None = None
    maximum: float | None = None
    multiple: int = 1
    special: float | None = None
    special_help: str = ""
    choices: tuple[str, ...] | None = None
    choice_help: tuple[str, ...] = ()
    unit: str = ""
    used_by: tuple[str, ...] = EVERY_METHOD
    aliases: tuple[str, ...] = ()
    reads: Callable[[str], Any] | None = None
    joined: str = ""

    @property
    def allowed(self) -> str:
        """What may be given, as the end of the sentence "allowed: …"."""
        if self.choices:
            return ", ".join(self.choices)
        if self.type is bool:
            return _NOUNS[bool]
        if self.type is str:
            least = f"{self.minimum:g} to " if self.minimum else "up to "
            return f"text of {least}{self.maximum:g} characters"
        unit = f" {self.unit}" if self.unit else ""
        steps = f" in steps of {self.multiple}" if self.multiple > 1 else ""
        text = f"{_plain(self.minimum)} to {_plain(self.maximum)}{unit}{steps}"
        return text if self.special is None else f"{text}, or {_plain(self.special)} ({self.special_help})"

    def check(self, value: Any) -> Any:
        """Gives the value as a plain Python bool, int, float or str; SettingsError if it is not allowed."""
        if self.type is str:
            return self._check_text(value)
        if self.type is bool:
            if isinstance(value, (bool, np.bool_)):
                return bool(value)
            raise self._refuse(value)
        return self._check_number(value)

    def parse(self, text: str) -> Any:
        """Reads a value as typed on a command line, then checks it."""
        word = text.strip()
        if self.type is bool:
            if word.lower() not in _TRUE + _FALSE:
                raise self._refuse(text)
            return word.lower() in _TRUE
        if self.type is str:
            return self.check(text)
        try:
            return self.check(self.type(word))
        except ValueError:
            raise self._refuse(text) from None

    def _check_number(self, value: Any) -> int | float:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise self._refuse(value)
        if self.type is int:
            if not isinstance(value, numbers.Integral):
                raise self._refuse(value)
            number: int | float = operator.index(value)
        else:
            number = _as_float(value)
        if self.special is not None and number == self.special:
            return number
        if not self.minimum <= number <= self.maximum or (self.multiple > 1 and number % self.multiple):
            raise self._refuse(value)
        return number

    def _check_text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise self._refuse(value)
        text = value.strip()
        if self.choices:
            if text not in self.choices:
                raise self._refuse(value)
            return text
        if not is_text(text, len(text)):
            raise SettingsError(
                f"{self.label} ({self.name}) contains characters that are not text.",
                "Type it again instead of pasting it.",
                key=self.name,
            )
        if len(text) > self.maximum or len(text) < (self.minimum or 0):
            raise SettingsError(
                f"{self.label} ({self.name}) has {len(text)} characters; allowed: {self.allowed}.", key=self.name
            )
        if self.reads is not None:
            try:
                self.reads(text)
            except ValueError as fault:
                raise SettingsError(f"{self.label} ({self.name}) {fault}.", key=self.name) from None
        return text

    def _refuse(self, value: Any) -> SettingsError:
        return SettingsError(f"{self.label} ({self.name}) is {_shown(value)}; allowed: {self.allowed}.", key=self.name)


def menu_label(choice: str) -> str:
    """A choice as a menu shows it: "vertex_group" -> "Vertex Group", "instance-x0" -> "Instance x0"."""
    words = choice.replace("-", " ").replace("_", " ").replace("+", " + ").split()
    shown = (word if word in ("x0", "xt") else word.upper() if word in _LETTERS else word.title() for word in words)
    return _WRITTEN.get(choice) or " ".join(shown)


def is_text(value: Any, limit: int) -> bool:
    """Tells whether a value is text that can be written as UTF-8, without NUL, of up to `limit` characters."""
    if not isinstance(value, str) or len(value) > limit or "\0" in value:
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _plain(number: float | None) -> str:
    """2147483647 rather than 2.14748e+09, 0.5 rather than 0.500000."""
    return str(int(number)) if number == int(number) else f"{number:g}"


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _shown(value: Any) -> str:
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except ValueError:  # an integer of more than 4300 digits has no decimal text
        text = "too large a number"
    return text if len(text) <= 60 else text[:57] + "..."
