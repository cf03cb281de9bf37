# SPDX-License-Identifier: GPL-3.0-or-later
"""`blender -b file.blend --command tweed texture --object NAME --prompt "…" --save out.blend --json report.json`

Exit codes: 0 done, 2 bad arguments, 3 engine missing, 4 job failed, 5 cancelled, 6 out of memory.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import bpy

from . import api, client, scene, session, unwrap
from .jobs import arguments, ssh
from .jobs.errors import Cancelled, EngineMissing, TweedError, UserError
from .jobs.files import atomic_write_json
from .jobs.folder import VERSION

BAD_ARGUMENTS, FAILED = 2, 4
PROGRESS_SECONDS = 5.0


def _say(text: str, stream=None) -> None:
    (stream or sys.stdout).write(text + "\n")
    (stream or sys.stdout).flush()


def main(argv: list[str]) -> int:
    """The handler of `--command tweed`; its result is Blender's exit code."""
    try:
        options = _parser().parse_args(argv)
    except SystemExit as leave:  # argparse would close Blender
        return leave.code if isinstance(leave.code, int) else BAD_ARGUMENTS
    return options.function(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="blender --command tweed", description=__doc__.splitlines()[-1])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    texture = commands.add_parser("texture", help="texture objects of the open .blend file")
    texture.add_argument(
        "--object",
        action="append",
        metavar="NAME",
        help="which mesh; may be given several times (default: the selected ones)",
    )
    texture.add_argument(
        "--save", type=Path, metavar="FILE", help="write the .blend with the texture here (its own path: in place)"
    )
    texture.add_argument("--json", type=Path, metavar="FILE", help="write a report")
    texture.add_argument("--make-uvs", action="store_true", help="unwrap meshes that have no UV map")
    arguments.add_arguments(texture)
    texture.set_defaults(function=_texture)
    doctor = commands.add_parser("doctor", help="say what was found, and what to do about the rest")
    doctor.set_defaults(function=_doctor)
    return parser


def _texture(options) -> int:
    report = {"tweed": VERSION, "blender": bpy.app.version_string, "file": bpy.data.filepath, "status": "failed"}
    code = FAILED
    try:
        with _Signals() as signals:
            report |= _run(options, signals)
        code, report["status"] = 0, "done"
    except Cancelled as stop:
        code, report["status"], report["error"] = stop.exit_code, "cancelled", stop.to_dict()
        _say("tweed: cancelled; nothing was changed", sys.stderr)
    except TweedError as error:
        code, report["error"] = error.exit_code, error.to_dict()
        _say(f"tweed: {error.message} {error.action}".rstrip(), sys.stderr)
        if error.log:
            _say(error.log, sys.stderr)
    finally:
        session.stop_engine()
    if options.json:
        try:
            atomic_write_json(options.json.absolute(), report | {"exit_code": code})
        except UserError as error:
            _say(f"tweed: {error.message}", sys.stderr)
            code = code or FAILED
    return code


def _run(options, signals) -> dict:
    """Texture, then save. Raises TweedErrors; gives the report's entries."""
    for path in filter(None, (options.save, options.json)):
        if not path.absolute().parent.is_dir():
            raise _BadArgument(f"{path.absolute().parent} is not a folder.", "Create it first.")
    values = arguments.from_namespace(options)
    objects = _objects(options)
    bare = [o for o in objects if o.type == "MESH" and not o.data.uv_layers]
    if bare and options.make_uvs:
        unwrap.make_uvs(bpy.context, bare)
    save = options.save.absolute() if options.save else None
    result = api.texture(
        objects,
        values.pop("prompt", ""),
        cancelled=signals.asked,
        progress=_Progress(),
        textures=session.textures_folder(str(save)) if save else None,
        **values,
    )
    if save:
        bpy.ops.wm.save_as_mainfile(filepath=str(save))
    for remark in result.remarks:
        _say(f"tweed: {remark}")
    _say(f"tweed: {result.path} in {session.duration(result.seconds)}, seed {result.seed}")
    return {
        "objects": [o.name for o in objects],
        "images": result.images,
        "path": str(result.path),
        "materials": result.materials,
        "seed": result.seed,
        "seconds": round(result.seconds, 3),
        "remarks": result.remarks,
        "job": str(result.folder),
        "saved": str(save) if save else None,
        "report": result.report,
    }


class _BadArgument(UserError):
    exit_code = BAD_ARGUMENTS


def _objects(options) -> list:
    if not options.object:
        return scene.chosen(bpy.context)
    missing = [name for name in options.object if name not in bpy.data.objects]
    if missing:
        meshes = ", ".join(o.name for o in bpy.data.objects if o.type == "MESH")
        raise _BadArgument(f"There is no object named '{missing[0]}'.", f"Meshes in this file: {meshes or 'none'}.")
    return [bpy.data.objects[name] for name in options.object]


class _Progress:
    """A line per phase, and every few seconds."""

    def __init__(self):
        self._phase, self._next = None, 0.0

    def __call__(self, run) -> None:
        now = time.monotonic()
        if run.phase != self._phase or now >= self._next:
            self._phase, self._next = run.phase, now + PROGRESS_SECONDS
            _print_progress(run)


def _print_progress(run) -> None:
    left = f", about {session.duration(run.remaining)} left" if run.remaining is not None else ""
    _say(f"tweed: {run.fraction:4.0%} {run.words}{left}")


class _Signals:
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


def _doctor(_) -> int:
    _say(f"Tweed {VERSION} in Blender {bpy.app.version_string}, Python {sys.version.split()[0]}")
    _say(f"jobs: {session.jobs_folder()}")
    try:
        place = session.place()
        _say(f"engine: {place}")
        client.require_online(place, bpy.app.online_access)
        answer = subprocess.run(
            place.command("doctor", "--json"),
            cwd=place.folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=300,
            env=client.scrubbed_environment(),
            stdin=subprocess.DEVNULL,
        )
    except (TweedError, OSError, subprocess.TimeoutExpired) as error:
        _say(f"engine: {error} {getattr(error, 'action', '')}".rstrip())
        return EngineMissing.exit_code
    try:
        _say(json.dumps(json.loads(answer.stdout), indent=1))
    except ValueError:
        _say(f"{answer.stdout}\n{answer.stderr}")
        if place.host and answer.returncode:
            error = ssh.failure(place.host, answer.returncode, answer.stderr.splitlines())
            _say(f"engine: {error.message} {error.action}")
    return 0 if answer.returncode == 0 else EngineMissing.exit_code
