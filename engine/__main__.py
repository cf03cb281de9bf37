# SPDX-License-Identifier: Apache-2.0
"""`python -m engine serve | run JOB | texture MESH --prompt … --out DIR | doctor`.

Exit codes: 0 done, 2 bad arguments or input, 4 the job failed, 5 cancelled, 6 out of memory.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from blender_addon.jobs.errors import Cancelled, TweedError, from_dict
from blender_addon.jobs.folder import VERSION, read_result
from blender_addon.jobs.arguments import add_arguments, from_namespace

OK, BAD_INPUT, CANCELLED = 0, 2, 5


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m engine", description="Tweed's engine: textures by synchronized diffusion.")
    top.add_argument("--version", action="version", version=f"tweed engine {VERSION}")
    commands = top.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="wait for jobs on stdin (what Blender starts)")
    serve.add_argument("--state", type=Path, required=True, help="folder for engine.json")
    run = commands.add_parser("run", help="run (again) the job in a folder")
    run.add_argument("job", type=Path)
    texture = commands.add_parser("texture", help="texture a .glb, .gltf, .obj or .ply file")
    texture.add_argument("mesh", type=Path)
    texture.add_argument("--out", type=Path, required=True, help="folder for texture.png, the .glb, contact.png and report.json")
    add_arguments(texture)
    doctor = commands.add_parser("doctor", help="say what was found here")
    doctor.add_argument("--json", action="store_true")
    return top


def command_run(folder: Path, stop) -> int:
    from engine.progress import Progress, bar_sink, file_sink
    from engine.run import run_job
    from engine.warm import Models
    from engine.serve import finish_job

    if not folder.is_dir():
        print(f"There is no job folder at {folder}.", file=sys.stderr)
        return BAD_INPUT
    progress = Progress([file_sink(folder / "events.jsonl"), bar_sink()], stop)
    status = finish_job(folder, lambda: run_job(folder, progress, Models()))
    if status == "cancelled":
        print("Cancelled; nothing was written.", file=sys.stderr)
        return CANCELLED
    result = read_result(folder) or {}
    error = result.get("error")
    if error:
        print(f"\n{error['message']}\n{error.get('action', '')}".rstrip(), file=sys.stderr)
    else:
        for image in result["images"].values():
            print(folder / image)
    return from_dict(error).exit_code if error else OK


def command_texture(arguments: argparse.Namespace, stop) -> int:
    from engine.texture import texture_file

    return texture_file(arguments.mesh, arguments.out, from_namespace(arguments), lambda folder: command_run(folder, stop))


def command_doctor(as_json: bool) -> int:
    from engine.doctor import facts

    found = facts()
    if as_json:
        print(json.dumps(found, indent=1))
        return OK
    print(f"Tweed engine {found['version']} on Python {found['python']}, torch {found['torch']}, {found['device']}")
    for kind in ("rasterizers", "models"):
        for name, state in found[kind].items():
            print(f"  {kind[:-1]:<11} {name:<12} {state}")
    return OK


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    stopped = threading.Event()
    if arguments.command in ("run", "texture"):
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: stopped.set())
    try:
        if arguments.command == "serve":
            from engine.serve import serve

            return serve(arguments.state)
        if arguments.command == "run":
            return command_run(arguments.job, stopped.is_set)
        if arguments.command == "texture":
            return command_texture(arguments, stopped.is_set)
        return command_doctor(arguments.json)
    except Cancelled:
        return CANCELLED
    except TweedError as error:
        print(f"{error.message}\n{error.action}".rstrip(), file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
