# SPDX-License-Identifier: Apache-2.0
"""How the installer talks: plain sentences, a table, one progress line, and an error that always carries a remedy."""

from __future__ import annotations

import os
import shutil
import sys


class SetupProblem(Exception):
    """Something the person at the keyboard can mend: what is wrong, and what to do about it."""

    def __init__(self, message: str, remedy: str = "", code: int = 1):
        super().__init__(message)
        self.message, self.remedy, self.code = message, remedy, code


def prepare_streams() -> None:
    """A Windows console or a C locale must not break on a letter it cannot show."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace", line_buffering=True)


def coloured() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    codes = {"red": "31", "green": "32", "yellow": "33", "bold": "1"}
    return f"\033[{codes[colour]}m{text}\033[0m" if coloured() else text


def say(text: str = "") -> None:
    print(text, flush=True)  # noqa: T201 the one place that prints


def step(text: str) -> None:
    say(paint(f"== {text}", "bold"))


def table(rows: list[tuple[str, str, str]], colours: dict[str, str]) -> None:
    """Rows of (mark, name, text); the mark is coloured."""
    width = max((len(name) for _, name, _ in rows), default=0)
    for mark, name, text in rows:
        say(f"{paint(f'{mark:<8}', colours[mark])} {name:<{width}}  {text}")


def duration(seconds: float) -> str:
    seconds = round(seconds)
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"


class Bar:
    """One line that is redrawn on a terminal; elsewhere a line whenever the label or the tenth changes."""

    def __init__(self, stream=None, width: int = 20):
        self.stream, self.width = stream or sys.stdout, width
        self.live = self.stream.isatty()
        self.last: tuple[str, int] | None = None

    def show(self, label: str, share: float, eta: float | None = None) -> None:
        share = min(max(share, 0.0), 1.0)
        left = f"about {duration(eta)} left" if eta else ""
        if self.live:
            filled = round(self.width * share)
            line = f"{share:4.0%} [{'#' * filled}{'.' * (self.width - filled)}] {label} {left}"
            self.stream.write("\r\033[K" + line[: shutil.get_terminal_size().columns - 1])
        elif (label, int(share * 10)) != self.last:
            self.last = (label, int(share * 10))
            self.stream.write(f"  {share:4.0%}  {label} {left}".rstrip() + "\n")
        self.stream.flush()

    def note(self, text: str) -> None:
        """What is being done now, where no share is known; shown on terminals only."""
        if self.live:
            self.stream.write("\r\033[K  " + text[: shutil.get_terminal_size().columns - 4])
            self.stream.flush()

    def clear(self) -> None:
        if self.live:
            self.stream.write("\r\033[K")
            self.stream.flush()
