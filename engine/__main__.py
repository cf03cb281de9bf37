# SPDX-License-Identifier: Apache-2.0
"""`python -m engine serve | remote | run JOB | texture MESH --prompt … --out DIR | evaluate | compare | models | doctor`.

Exit codes: 0 done, 2 bad arguments or input, 4 the job failed, 5 cancelled, 6 out of memory.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from blender_addon.jobs.arguments import add_arguments, from_namespace
from blender_addon.jobs.errors import Cancelled, SettingsError, TweedError, from_dict
from blender_addon.jobs.folder import VERSION, read_result
from blender_addon.jobs.settings import SETTINGS

OK, BAD_INPUT, FAILED, CANCELLED = 0, 2, 4, 5


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m engine", description="Tweed's engine: textures by synchronized diffusion.")
    top.add_argument("--version", action="version", version=f"tweed engine {VERSION}")
    commands = top.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="wait for jobs on stdin (what Blender starts)")
    serve.add_argument("--state", type=Path, required=True, help="folder for engine.json")
    commands.add_parser("remote", help="serve a Blender on another machine, over ssh (what its relay starts)")
    run = commands.add_parser("run", help="run (again) the job in a folder")
    run.add_argument("job", type=Path)
    texture = commands.add_parser("texture", help="texture a .glb, .gltf, .obj or .ply file")
    texture.add_argument("mesh", type=Path)
    texture.add_argument("--out", type=Path, required=True, help="folder for texture.png, the .glb, contact.png and report.json")
    texture.add_argument("--texture", dest="texture_file", type=Path, metavar="FILE",
                         help="picture to start from (--start texture alone takes the mesh file's own); NAME.<UDIM>.png: one "
                         "for each UDIM tile")
    texture.add_argument("--region", dest="region_file", type=Path, metavar="FILE",
                         help="mask over the UV map: only its white parts may change; NAME.<UDIM>.png as well")
    add_arguments(texture, [name for name in SETTINGS if name not in ("region", "region_mask")])
    evaluate = commands.add_parser("evaluate", help="texture every mesh in a folder and measure the textures")
    evaluate.add_argument("folder", type=Path)
    compare = commands.add_parser("compare", help="methods side by side on the same mesh, views and seeds")
    compare.add_argument("mesh", type=Path, nargs="+")
    compare.add_argument("--methods", default="all", help='"all", or methods and presets with commas between; '
                         'NAME:setting=value,setting=value makes a row of a variant (default: all)')
    compare.add_argument("--ablate", action="store_true", help="rows of noise, weights, end and space instead")
    for one, seeds in ((evaluate, 1), (compare, 4)):
        one.add_argument("--out", type=Path, required=True, help="folder for the page, the numbers and their cells")
        one.add_argument("--seeds", type=int, default=seeds, metavar="N", help=f"per mesh, prompt (default: {seeds})")
        one.add_argument("--judge", type=Path, help="folder of the judge or CLIP model that sees adherence and KID")
        one.add_argument("--prompt", action="append", required=True, metavar="TEXT", help="may be given several times")
        taken = ("prompt", "seed") if one is evaluate else ("prompt", "seed", "method")
        add_arguments(one, [name for name in SETTINGS if name not in taken])
    add_models_parser(commands)
    doctor = commands.add_parser("doctor", help="say what was found here")
    doctor.add_argument("--json", action="store_true")
    return top


def add_models_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `models` with its own commands."""
    models = commands.add_parser("models", help="list, add, verify, remove or import models")
    what = models.add_subparsers(dest="models", required=True)
    listed = what.add_parser("list", help="the catalogue, and what of it is here")
    listed.add_argument("--json", action="store_true")
    for name, text in (("add", "download a model, or the rest of it, or repair it"), ("remove", "delete it from the cache")):
        what.add_parser(name, help=text).add_argument("name")
    verify = what.add_parser("verify", help="compare every checksum")
    verify.add_argument("name", nargs="?", default="")
    taken = what.add_parser("import", help="take a model from a folder, without network")
    taken.add_argument("folder", type=Path)
    taken.add_argument("--name", default="", help='the id it shall answer to, such as "org/name"')


def command_run(folder: Path, stop) -> int:
    from engine.progress import Progress, bar_sink, file_sink
    from engine.run import run_job
    from engine.serve import finish_job
    from engine.warm import Models

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
    from engine.texture import Pictures, texture_file

    files = Pictures(arguments.texture_file, arguments.region_file)
    return texture_file(arguments.mesh, arguments.out, from_namespace(arguments), lambda folder: command_run(folder, stop), files)


def command_trials(arguments: argparse.Namespace, stop) -> int:
    """`evaluate` and `compare`: many jobs with one warm model."""
    from engine.compare import ablation, compare, rows_from
    from engine.evaluate import evaluate, meshes_in
    from engine.progress import Progress
    from engine.run import run_job
    from engine.serve import finish_job
    from engine.trials import Trials
    from engine.warm import Models

    def run(folder: Path, keep) -> str:
        return finish_job(folder, lambda: run_job(folder, Progress([], stop), models, keep))

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    models = Models()
    values = from_namespace(argparse.Namespace(**{k: v for k, v in vars(arguments).items() if k != "prompt"}))
    if arguments.seeds < 1:
        raise SettingsError(f"seeds is {arguments.seeds}; allowed: at least 1.", key="seeds")
    if arguments.command == "evaluate":
        meshes, rows = meshes_in(arguments.folder), []
    else:
        meshes, rows = arguments.mesh, ablation() if arguments.ablate else rows_from(arguments.methods, values)
    trials = Trials(arguments.out, values, run, arguments.judge, say)
    if arguments.command == "evaluate":
        cells = evaluate(trials, meshes, arguments.prompt, arguments.seeds)
    else:
        cells = compare(trials, meshes, rows, arguments.prompt, arguments.seeds)
    print(arguments.out / f"{arguments.command}.html")
    return OK if any(not cell.error for cell in cells) else FAILED


def command_doctor(as_json: bool) -> int:
    from engine.doctor import facts, remote_facts

    found, remote = facts(), remote_facts()
    if as_json:
        print(json.dumps(found | ({"remote": remote} if remote else {}), indent=1))
        return OK
    print(f"Tweed engine {found['version']} on Python {found['python']}, torch {found['torch']}, {found['device']}")
    for kind in ("rasterizers", "models"):
        for name, state in found[kind].items():
            print(f"  {kind[:-1]:<11} {name:<12} {state}")
    if remote:
        said = f"{remote['error']} {remote['action']}" if "error" in remote else f"{remote.get('version')}, {remote.get('device')}"
        print(f"  remote      {remote['host']:<12} {said}")
    return OK


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    stopped = threading.Event()
    if arguments.command in ("run", "texture", "evaluate", "compare"):
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: stopped.set())
    try:
        if arguments.command == "serve":
            from engine.serve import serve

            return serve(arguments.state)
        if arguments.command == "remote":
            from engine.remote import remote

            return remote()
        if arguments.command == "run":
            return command_run(arguments.job, stopped.is_set)
        if arguments.command == "texture":
            return command_texture(arguments, stopped.is_set)
        if arguments.command in ("evaluate", "compare"):
            return command_trials(arguments, stopped.is_set)
        if arguments.command == "models":
            from engine.models_command import run_models

            return run_models(arguments)
        return command_doctor(arguments.json)
    except Cancelled:
        return CANCELLED
    except TweedError as error:
        print(f"{error.message}\n{error.action}".rstrip(), file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
