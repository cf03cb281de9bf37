# SPDX-License-Identifier: Apache-2.0
"""What must be known of a job before anything is drawn: its files read, its wishes checked, its model loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from blender_addon.jobs.errors import JobError, SettingsError
from blender_addon.jobs.folder import Job, inside, needs_texture, read_job
from blender_addon.jobs.uv_tiles import MOST
from engine.detail import check_detail
from engine.device import describe, free_memory, pick_device
from engine.given import Given, read_given
from engine.memory import check_textures
from engine.mesh import Mesh, from_arrays, mesh_remarks
from engine.methods import Facts, Method, pick_method
from engine.models import Model, follows_instructions
from engine.models.view_lines import SharedLines
from engine.models.wishes import extras_of, multiview_lines
from engine.prompts import wish
from engine.raster import Rasterizer, pick_rasterizer
from engine.report import Report
from engine.tiles import Window, lay_out, share_of
from engine.turn import card
from engine.warm import Models


@dataclass(frozen=True)
class Opened:
    """A job that can be run: everything it needs is there and fits together."""

    job: Job
    mesh: Mesh
    windows: tuple[Window, ...]  # the textures to be painted
    given: Given | None          # the texture it starts from
    method: Method
    model: Model
    rasterizer: Rasterizer
    size: int                    # pixels on a side of a view
    report: Report


def open_job(folder: Path, models: Models, warn: Callable[[str], None], hold: Callable[[str], None]) -> Opened:
    """Read the job in `folder` and load its model; `warn` is told what the artist should know before it runs.

    hold: called with the name of the graphics card (see `engine.turn.card`) before anything is put on it.

    What can be refused without the model is refused before that is loaded. Raises `UserError` for what the artist can
    mend.
    """
    job = with_pictures(read_job(folder), folder)
    settings = job.settings
    arrays, windows = lay_out(job.mesh, settings["uv_tiles"], chosen_faces(job), sets_of_faces(job))
    mesh = from_arrays(arrays)
    check_detail(settings, settings["view_size"], needs_texture(settings))
    check_textures(len(windows), settings["texture_size"], needs_texture(settings), free_memory(torch.device("cpu")))
    given = read_given(folder, job, mesh, windows)
    facts = Facts(len(job.cameras), starts=given is not None, edits=follows_instructions(settings["model"]))
    method = pick_method(settings, facts)
    lines = multiview_lines(settings, mesh, job.cameras)
    device = pick_device(settings["device"])
    hold(card(device))
    model = models.get(settings["model"], device, extras_of(settings))
    rasterizer = pick_rasterizer(settings["rasterizer"], device)
    size = settings["view_size"] or model.view_size
    check_detail(settings, size, given is not None)
    pick_method(settings, replace(facts, edits=getattr(model, "edits", False)))  # a hub's model is known only now
    report = Report(job, model.info, describe(device), rasterizer.name, size)
    alone = company(lines, job) if lines else []
    said = [*mesh_remarks(mesh, share_of(windows)), *alone]
    for note in [*said, *model.info.get("notes", ()), *model.prompt_notes(wish(settings))]:
        report.remark(note)
        warn(note)
    return Opened(job, mesh, windows, given, method, model, rasterizer, size, report)


def company(lines: SharedLines, job: Job) -> list[str]:
    """A sentence about the views that a multi-view adapter leaves by themselves."""
    names = ", ".join(job.cameras[view].name for view in lines.alone)
    return [f"The multi-view adapter lets these views look at no other: {names}."] if names else []


def with_pictures(job: Job, folder: Path) -> Job:
    """The job with its own copy of the style picture in place of the file it was made from."""
    if "style" not in job.inputs or not job.settings["style_image"]:
        return job
    return replace(job, settings={**job.settings, "style_image": str(inside(folder, job.inputs["style"]))})


def chosen_faces(job: Job) -> np.ndarray | None:
    """bool[F]: the faces whose material slot is among those an object's record wants painted ("paint"); None for all.

    Raises SettingsError where slots are named and no record says which they are: only Blender knows the names.
    """
    arrays, wanted = job.mesh, [record.get("paint") for record in job.objects]
    if job.settings["uv_map"] and not any(record.get("uv_map") for record in job.objects):
        raise SettingsError("A UV map (uv_map) can be chosen in Blender only: of a mesh file the first one is read.",
                            "Leave uv_map empty, or paint the object in Blender.", key="uv_map")
    if job.settings["slots"] and all(slots is None for slots in wanted):
        raise SettingsError("Materials (slots) can be chosen in Blender only: mesh files are read without them.",
                            "Leave slots empty, or paint the object in Blender.", key="slots")
    if arrays.objects is None or arrays.materials is None or all(slots is None for slots in wanted):
        return None
    chosen = np.ones(len(arrays.triangles), bool)
    for number, slots in enumerate(wanted):
        if slots is not None:
            if not isinstance(slots, list) or not all(isinstance(slot, int) for slot in slots):
                raise JobError(f"The slots to be painted of object {number} are no list of numbers.", "Start the job again.")
            chosen[arrays.objects == number] = np.isin(arrays.materials[arrays.objects == number], slots)
    return chosen


def sets_of_faces(job: Job) -> np.ndarray | None:
    """i64[F]: the set of textures that the face's object has by its record ("texture", from 1); None where none says so.

    Objects whose record says none get no texture. Raises SettingsError where each of several should have one and nobody
    says which faces are whose, JobError for records that make no sense.
    """
    arrays, numbers = job.mesh, [record.get("texture") for record in job.objects]
    if job.settings["atlas"] == "each" and not any(record.get("uv_map") for record in job.objects):
        raise SettingsError("A texture for each object (atlas) can be had in Blender only: a mesh file is read as one object.",
                            "Set atlas to auto, or texture the objects in Blender.", key="atlas")
    if all(number is None for number in numbers):
        return None
    for place, (record, number) in enumerate(zip(job.objects, numbers, strict=True)):
        if number is None and record.get("paint") == []:
            continue
        if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= MOST:
            raise JobError(f"The texture of object {place} is {ascii(number)[:40]}; expected a number from 1 to {MOST}.",
                           "Start the job again.")
    if arrays.objects is None or arrays.objects.min() < 0 or arrays.objects.max() >= len(numbers):
        raise JobError("The job's mesh does not say which faces are whose.", "Start the job again.")
    return np.array([number or 0 for number in numbers], np.int64)[arrays.objects]
