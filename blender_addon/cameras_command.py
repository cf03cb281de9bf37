# SPDX-License-Identifier: GPL-3.0-or-later
"""`--command tweed cameras`: where the views of a job would stand, what they see, and as cameras of the scene."""

import math
from pathlib import Path

import bpy
import numpy as np

from . import scene, view_operators
from .headless import check_folders, complain, named, say
from .jobs import arguments, coverage
from .jobs.errors import TweedError, UserError
from .jobs.files import atomic_write_json
from .jobs.records import Camera
from .jobs.settings import SETTINGS, resolve

_READS = ("quality", "slots", "uv_map", "uv_tiles", "atlas")  # besides the settings of the group Cameras


def add_command(commands) -> None:
    cameras = commands.add_parser("cameras", help="say where the views would stand and what they see; add them to the scene")
    cameras.add_argument("--object", action="append", metavar="NAME", help="which mesh (default: the selected ones)")
    cameras.add_argument("--save", type=Path, metavar="FILE", help="add them to the scene and write the .blend here")
    cameras.add_argument("--json", type=Path, metavar="FILE", help="write names, matrices and what is seen")
    arguments.add_arguments(cameras, [n for n, one in SETTINGS.items() if one.group == "Cameras" or n in ("views", *_READS)])
    cameras.set_defaults(function=run)


def run(options) -> int:
    """Gives the exit code: 0, or that of the error."""
    try:
        _run(options)
    except TweedError as error:
        complain(error)
        return error.exit_code
    return 0


def _run(options) -> None:
    check_folders(options.save, options.json)
    objects, context = named(options.object), bpy.context
    settings = resolve(arguments.from_namespace(options), require_prompt=False)
    mesh = scene.export(context, objects, settings).mesh
    if settings["rig"] == "scene":
        views = scene.cameras(context)
    else:
        views = coverage.cameras_for(settings, mesh)
    found = [(view, coverage.measure(mesh, [view])) for view in views]
    together = coverage.measure(mesh, views)
    for view, alone in found:
        azimuth, elevation = angles(view)
        say(f"{view.name:<16} azimuth {azimuth:4.0f}  elevation {elevation:4.0f}  sees {alone.seen:4.0%}")
    say(f"tweed: {len(views)} views: {together.words}")
    if options.json:
        record = {"views": [_record(view, alone) for view, alone in found], "seen": together.seen, "well": together.well}
        atomic_write_json(options.json.absolute(), record)
    if options.save:
        if settings["rig"] == "scene":
            raise UserError("The scene's own cameras are in it already.", "Choose another rig, or leave --save out.")
        view_operators.add_cameras(context, views)
        bpy.ops.wm.save_as_mainfile(filepath=str(options.save.absolute()))


def angles(view: Camera) -> tuple[float, float]:
    """Azimuth, 0 in front and growing to the right, and elevation of where a view looks from, in degrees."""
    x, y, z = np.linalg.inv(view.view)[:3, 2]
    return math.degrees(math.atan2(x, -y)) % 360, math.degrees(math.asin(max(-1.0, min(1.0, z))))


def _record(view: Camera, alone: coverage.Coverage) -> dict:
    azimuth, elevation = angles(view)
    return {"name": view.name, "azimuth": round(azimuth, 3), "elevation": round(elevation, 3), "prompt": view.prompt,
            "avoid": view.avoid, "seen": alone.seen, "well": alone.well,
            "view": view.view.tolist(), "projection": view.projection.tolist()}  # fmt: skip
