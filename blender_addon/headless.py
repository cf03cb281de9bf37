# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands of `blender -b --command tweed` have in common: a job from start to saved file, signals, progress."""

import signal
import sys
import time
from pathlib import Path

import bpy

from . import api, scene, session, unwrap
from .jobs.errors import TweedError, UserError

BAD_ARGUMENTS, FAILED = 2, 4
PROGRESS_SECONDS = 5.0


class BadArgument(UserError):
    exit_code = BAD_ARGUMENTS


def say(text: str, stream=None) -> None:
    (stream or sys.stdout).write(text + "\n")
    (stream or sys.stdout).flush()


def complain(error: TweedError) -> None:
    """The error as a person reads it, with the engine's last words."""
    say(f"tweed: {error.message} {error.action}".rstrip(), sys.stderr)
    if error.log:
        say(error.log, sys.stderr)


def named(names) -> list:
    """The objects of these names, or the selected ones without any. Raises BadArgument."""
    if not names:
        return scene.chosen(bpy.context)
    missing = [name for name in names if name not in bpy.data.objects]
    if missing:
        meshes = ", ".join(o.name for o in bpy.data.objects if o.type == "MESH")
        raise BadArgument(f"There is no object named '{missing[0]}'.", f"Meshes in this file: {meshes or 'none'}.")
    return [bpy.data.objects[name] for name in names]


def check_folders(*files: Path | None) -> None:
    """Raises BadArgument where a file is to be written into a folder that is not there."""
    for path in filter(None, files):
        if not path.absolute().parent.is_dir():
            raise BadArgument(f"{path.absolute().parent} is not a folder.", "Create it first.")


def unwrap_bare(objects) -> None:
    """Give those without a UV map one."""
    bare = [o for o in objects if o.type == "MESH" and not o.data.uv_layers]
    if bare:
        unwrap.make_uvs(bpy.context, bare)


def texture(objects, values: dict, textures: Path | None, signals) -> dict:
    """Texture the objects. Raises TweedErrors; gives the report's entries. textures: the folder, None where they lie now."""
    values = dict(values)
    result = api.texture(
        objects,
        values.pop("prompt", ""),
        cancelled=signals.asked,
        progress=Progress(),
        textures=textures,
        **values,
    )
    for remark in result.remarks:
        say(f"tweed: {remark}")
    say(f"tweed: {result.path} in {session.duration(result.seconds)}, seed {result.seed}")
    return {
        "objects": [o.name for o in objects],
        "images": result.images,
        "path": str(result.path),
        "materials": result.materials,
        "seed": result.seed,
        "seconds": round(result.seconds, 3),
        "remarks": result.remarks,
        "job": str(result.folder),
        "report": result.report,
    }


class Progress:
    """A line per phase, and every few seconds."""

    def __init__(self):
        self._phase, self._next = None, 0.0

    def __call__(self, run) -> None:
        now = time.monotonic()
        if run.phase != self._phase or now >= self._next:
            self._phase, self._next = run.phase, now + PROGRESS_SECONDS
            print_progress(run)


def print_progress(run) -> None:
    left = f", about {session.duration(run.remaining)} left" if run.remaining is not None else ""
    say(f"tweed: {run.fraction:4.0%} {run.words}{left}")


class Signals:
    """Ctrl-C and SIGTERM become a request to cancel while this context lasts."""

    def __enter__(self):
        self._asked = False
        self._before = {kind: signal.signal(kind, self._ask) for kind in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, *_):
        self._asked = True

    def asked(self) -> bool:
        return self._asked

    def __exit__(self, *_):
        for kind, handler in self._before.items():
            signal.signal(kind, handler if handler is not None else signal.SIG_DFL)
