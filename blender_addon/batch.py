# SPDX-License-Identifier: GPL-3.0-or-later
"""`--command tweed batch LIST`: many jobs, over many files, with one warm engine; what was done is not done again."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import bpy

from . import headless, session
from .headless import FAILED, complain, named, say
from .jobs.batch import Item, read_batch
from .jobs.errors import Cancelled, TweedError, UserError
from .jobs.files import atomic_write_json, parse_json, read_limited
from .jobs.folder import VERSION

MAX_REPORT = 64 << 20


def add_command(commands) -> None:
    batch = commands.add_parser("batch", help="texture what a list of jobs names (.toml or .jsonl)")
    batch.add_argument("list", type=Path, metavar="LIST", help="the list; see docs/scripting.md")
    batch.add_argument("--json", type=Path, metavar="FILE", help="write a report, anew after each job")
    batch.add_argument("--resume", action="store_true", help="leave out what the report of --json has as done")
    batch.add_argument("--stop", action="store_true", help="stop at the first job that fails")
    batch.add_argument("--check", action="store_true", help="check the list and stop there")
    batch.set_defaults(function=run)


def run(options) -> int:
    """All jobs in their order. Gives the exit code: 0, or that of the failures, 4 where they differ; 5 if cancelled."""
    try:
        headless.check_folders(options.json)
        if options.resume and not options.json:
            raise headless.BadArgument("--resume needs the report to go on from.", "Add --json FILE.")
        items = read_batch(options.list)
        done = _done(options.json) if options.resume else {}
    except TweedError as error:
        complain(error)
        return headless.BAD_ARGUMENTS
    say(f"tweed: {len(items)} jobs in {options.list.name}")
    if options.check:
        return 0
    work = _Work(items, done, options)
    try:
        with headless.Signals() as signals:
            return work.through(signals)
    finally:
        session.stop_engine()


def _done(report: Path) -> dict[str, dict]:
    """The entries of an earlier report that are done, by what was asked for. Raises UserError for one that is broken."""
    if not report.exists():
        return {}
    try:
        entries = parse_json(read_limited(report, MAX_REPORT))["jobs"]
        return {entry["key"]: entry for entry in entries if entry["status"] == "done"}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{report} is no report of a batch ({error}).", "Leave --resume out to begin anew.") from error


class _Work:
    """A list on its way, and the report of it."""

    def __init__(self, items: list[Item], done: dict[str, dict], options):
        self.items, self.options = items, options
        self.kept = _kept(items, done)
        self.entries: list[dict] = []
        self.lost = ""  # which entry's file could not be opened

    def through(self, signals) -> int:
        codes = set()
        for number, item in enumerate(self.items):
            if number in self.kept:
                self.entries.append(self.kept[number])
                continue
            say(f"tweed: {number + 1} of {len(self.items)}: {', '.join(item.objects) or 'the selected objects'}")
            entry, code = self.one(item, signals)
            self.entries.append({"place": item.place, "key": _key(item), **entry})
            codes |= {code} - {0}
            if not self.report(codes, signals.asked()):
                return FAILED
            if signals.asked() or (codes and self.options.stop):
                break
        self.report(codes, signals.asked())
        wrong = sum(entry["status"] != "done" for entry in self.entries)
        left = len(self.items) - len(self.entries)
        say(f"tweed: {len(self.entries) - wrong} of {len(self.items)} done, {wrong} not, {left} not begun")
        return _code(codes)

    def one(self, item: Item, signals) -> tuple[dict, int]:
        """One entry of the report and its exit code."""
        made: list[dict] = []
        try:
            self.open(item)
            objects = named(item.objects)
            if item.make_uvs:
                headless.unwrap_bare(objects)
            groups = [[obj.name] for obj in objects] if item.each else [[obj.name for obj in objects]]
            textures = session.textures_folder(str(item.save)) if item.save else None
            for names in groups:  # by name: a job's undo step makes references invalid
                made.append(headless.texture(named(names) if names else [], item.settings, textures, signals))
            if item.save:
                bpy.ops.wm.save_as_mainfile(filepath=str(item.save))
            return {"status": "done", "textures": made, "saved": str(item.save) if item.save else None}, 0
        except Cancelled as stop:
            say("tweed: cancelled; the file is not saved")
            return {"status": "cancelled", "error": stop.to_dict(), "textures": made}, stop.exit_code
        except TweedError as error:
            complain(error)
            return {"status": "failed", "error": error.to_dict(), "textures": made}, error.exit_code
        except RuntimeError as error:  # Blender's own: a file that is no .blend, a folder that cannot be written
            message = " ".join(str(error).split())
            say(f"tweed: {message}")
            fault = {"code": "blender", "message": message, "action": ""}
            return {"status": "failed", "error": fault, "textures": made}, FAILED

    def open(self, item: Item) -> None:
        """Open the entry's file. Raises UserError for one without, where the file that it goes on with is not open."""
        if item.file is not None:
            self.lost = item.place
            bpy.ops.wm.open_mainfile(filepath=str(item.file), load_ui=False)
            self.lost = ""
        elif self.lost:
            raise UserError(f"The file of {self.lost} could not be opened, and this goes on with it.", "See there.")

    def report(self, codes, cancelled: bool) -> bool:
        """Write how far it has come; gives whether that could be done."""
        if self.options.json is None:
            return True
        whole = len(self.entries) == len(self.items)
        status = "cancelled" if cancelled else "failed" if codes else "done" if whole else "running"
        record = {"tweed": VERSION, "blender": bpy.app.version_string, "list": str(self.options.list.absolute()),
                  "status": status, "exit_code": _code(codes), "jobs": self.entries}  # fmt: skip
        try:
            atomic_write_json(self.options.json.absolute(), record)
        except UserError as error:
            complain(error)
            return False
        return True


def _kept(items: list[Item], done: dict[str, dict]) -> dict[int, dict]:
    """Entries of an earlier report by number. Those that go on with an open file are kept with the one that opened it."""
    groups: list[list[int]] = []
    for number, item in enumerate(items):
        if item.file is not None or not groups:
            groups.append([])
        groups[-1].append(number)
    whole = [group for group in groups if all(_key(items[number]) in done for number in group)]
    return {number: done[_key(items[number])] for group in whole for number in group}


def _key(item: Item) -> str:
    """What was asked for, wherever it stands in the list."""
    asked = json.dumps(replace(item, place="").__dict__, default=str, sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def _code(codes: set[int]) -> int:
    if Cancelled.exit_code in codes:
        return Cancelled.exit_code
    return min(codes) if len(codes) == 1 else FAILED if codes else 0
