# SPDX-License-Identifier: GPL-3.0-or-later
"""`blender -b file.blend --command tweed texture --object NAME --prompt "…" --save out.blend --json report.json`

Exit codes: 0 done, 2 bad arguments, 3 engine missing, 4 job failed, 5 cancelled, 6 out of memory.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import bpy

from . import batch, cameras_command, client, session
from .headless import BAD_ARGUMENTS, FAILED, Signals, check_folders, complain, named, say, texture, unwrap_bare
from .jobs import arguments, ssh
from .jobs.errors import Cancelled, EngineMissing, TweedError, UserError
from .jobs.files import atomic_write_json
from .jobs.folder import VERSION


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
    one = commands.add_parser("texture", help="texture objects of the open .blend file")
    one.add_argument(
        "--object",
        action="append",
        metavar="NAME",
        help="which mesh; may be given several times (default: the selected ones)",
    )
    one.add_argument(
        "--save", type=Path, metavar="FILE", help="write the .blend with the texture here (its own path: in place)"
    )
    one.add_argument("--json", type=Path, metavar="FILE", help="write a report")
    one.add_argument("--make-uvs", action="store_true", help="unwrap meshes that have no UV map")
    arguments.add_arguments(one)
    one.set_defaults(function=_texture)
    batch.add_command(commands)
    cameras_command.add_command(commands)
    doctor = commands.add_parser("doctor", help="say what was found, and what to do about the rest")
    doctor.set_defaults(function=_doctor)
    return parser


def _texture(options) -> int:
    report = {"tweed": VERSION, "blender": bpy.app.version_string, "file": bpy.data.filepath, "status": "failed"}
    code = FAILED
    try:
        with Signals() as signals:
            report |= _run(options, signals)
        code, report["status"] = 0, "done"
    except Cancelled as stop:
        code, report["status"], report["error"] = stop.exit_code, "cancelled", stop.to_dict()
        say("tweed: cancelled; nothing was changed", sys.stderr)
    except TweedError as error:
        code, report["error"] = error.exit_code, error.to_dict()
        complain(error)
    finally:
        session.stop_engine()
    if options.json:
        try:
            atomic_write_json(options.json.absolute(), report | {"exit_code": code})
        except UserError as error:
            say(f"tweed: {error.message}", sys.stderr)
            code = code or FAILED
    return code


def _run(options, signals) -> dict:
    """Texture, then save. Raises TweedErrors; gives the report's entries."""
    check_folders(options.save, options.json)
    values = arguments.from_namespace(options)
    objects = named(options.object)
    if options.make_uvs:
        unwrap_bare(objects)
    save = options.save.absolute() if options.save else None
    made = texture(objects, values, session.textures_folder(str(save)) if save else None, signals)
    if save:
        bpy.ops.wm.save_as_mainfile(filepath=str(save))
    return {**made, "saved": str(save) if save else None}


def _doctor(_) -> int:
    say(f"Tweed {VERSION} in Blender {bpy.app.version_string}, Python {sys.version.split()[0]}")
    say(f"jobs: {session.jobs_folder()}")
    try:
        place = session.place()
        say(f"engine: {place}")
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
        say(f"engine: {error} {getattr(error, 'action', '')}".rstrip())
        return EngineMissing.exit_code
    try:
        say(json.dumps(json.loads(answer.stdout), indent=1))
    except ValueError:
        say(f"{answer.stdout}\n{answer.stderr}")
        if place.host and answer.returncode:
            error = ssh.failure(place.host, answer.returncode, answer.stderr.splitlines())
            say(f"engine: {error.message} {error.action}")
    return 0 if answer.returncode == 0 else EngineMissing.exit_code
