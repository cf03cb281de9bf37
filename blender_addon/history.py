# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of the past: what their folders say, how long such a job takes, and how to forget one. Imports no bpy."""

import re
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path

from .jobs.errors import JobError, TweedError, UserError
from .jobs.files import parse_json, read_limited
from .jobs.folder import JOB_FILE, MAX_JSON_BYTES, PREVIEW_FILE, read_result
from .jobs.rigs import views_on
from .jobs.settings import check

SHOWN = 12
ASKED = 40  # recent jobs that the estimate learns from
FINISHING = ("bake", "fill", "write")  # phases that take time by the texel
_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")


@dataclass(frozen=True)
class Entry:
    """One job folder. `state`: done, failed, cancelled, unfinished (its engine or Blender ended), or damaged."""

    folder: Path
    state: str
    settings: dict
    origin: dict
    report: dict
    message: str = ""  # why it failed

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def prompt(self) -> str:
        return self.settings.get("prompt", "")

    @property
    def picture(self) -> Path:
        return self.folder / PREVIEW_FILE

    @property
    def seconds(self) -> float:
        total = self.report.get("seconds_total", 0)
        return float(total) if isinstance(total, (int, float)) else 0.0

    @property
    def textures(self) -> int:
        """How many it made: one, or one for each UDIM tile, and so for each object that has its own."""
        count = self.report.get("textures")
        return count if isinstance(count, int) and count > 0 else 1


def recent(jobs: Path, limit: int = SHOWN) -> list[Entry]:
    """The newest jobs first. Folders that cannot be read are listed as damaged, never passed over silently."""
    try:
        names = sorted((p.name for p in jobs.iterdir() if _ID.fullmatch(p.name) and p.is_dir()), reverse=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"The jobs folder {jobs} cannot be read: {error.strerror}.", "Choose another.") from error
    return [read(jobs / name) for name in names[:limit]]


def read(folder: Path) -> Entry:
    """What a job folder says of itself, without its mesh."""
    try:
        record = parse_json(read_limited(folder / JOB_FILE, MAX_JSON_BYTES))
        if not isinstance(record, dict) or not isinstance(record.get("origin"), dict):
            raise JobError("it is no job")
        settings, origin = check(record.get("settings")), record["origin"]
        result = read_result(folder)
    except TweedError as fault:
        return Entry(folder, "damaged", {}, {}, {}, fault.message)
    except ValueError as fault:
        return Entry(folder, "damaged", {}, {}, {}, f"{JOB_FILE} is no valid JSON ({fault}).")
    if result is None:
        return Entry(folder, "unfinished", settings, origin, {})
    error = result["error"] or {}
    return Entry(folder, result["status"], settings, origin, result["report"], error.get("message", ""))


def objects(folder: Path) -> list[dict]:
    """The records of a job's objects. Raises JobError."""
    try:
        record = parse_json(read_limited(folder / JOB_FILE, MAX_JSON_BYTES))
        found = record["objects"]
    except (ValueError, KeyError, TypeError) as fault:
        raise JobError(f"{folder / JOB_FILE} does not say what it is about ({fault}).") from None
    return [one for one in found if isinstance(one, dict)]


def forget(entry: Entry, jobs: Path) -> None:
    """Delete a job's folder. Textures that were applied are elsewhere and stay. UserError if it is not one of ours."""
    if entry.folder.parent.resolve() != jobs.resolve() or not _ID.fullmatch(entry.folder.name):
        raise UserError(f"{entry.folder} is not in the jobs folder {jobs}.", "Delete it by hand.")
    try:
        shutil.rmtree(entry.folder)
    except OSError as error:
        raise UserError(f"{entry.folder} cannot be deleted: {error.strerror}.", "Close what uses it.") from error


def expected_seconds(entries: list[Entry], settings: dict, device: str, textures: int = 1) -> float | None:
    """How long a job with these settings will take, from past ones of the same model, method and device; None: unknown.

    The median over those jobs: the time that denoising took per view, step and pixel, the time that finishing took per
    texel of all textures (UDIM tiles), plus the rest as it was.
    """
    found = alike(entries, settings, device)
    return statistics.median(_scaled(entry, settings, textures) for entry in found) if found else None


def alike(entries: list[Entry], settings: dict, device: str) -> list[Entry]:
    """The finished ones of the same model and method, on that device ("": any)."""
    return [
        entry for entry in entries
        if entry.state == "done" and (not device or entry.report.get("device") == device)
        and all(entry.settings.get(name) == settings.get(name) for name in ("model", "method"))
    ]  # fmt: skip


def _scaled(entry: Entry, settings: dict, textures: int) -> float:
    denoise, finish = _spent(entry, "denoise"), sum(_spent(entry, phase) for phase in FINISHING)
    then, now = _work(entry.settings), _work(settings)
    texels = _texels(entry.settings, entry.textures)
    more = denoise * (now / then if then else 1.0) + finish * (_texels(settings, textures) / texels if texels else 1.0)
    return max(0.0, entry.seconds - denoise - finish) + more


def _spent(entry: Entry, phase: str) -> float:
    seconds = entry.report.get("seconds")
    value = seconds.get(phase) if isinstance(seconds, dict) else None
    return float(value) if isinstance(value, (int, float)) else 0.0


def _texels(settings: dict, textures: int) -> int:
    return textures * settings.get("texture_size", 0) ** 2


def _work(settings: dict) -> float:
    side = settings.get("view_size") or 1
    return views_on(settings) * settings.get("steps", 0) * side * side
