# SPDX-License-Identifier: Apache-2.0
"""The story of one job, from its folder to the texture in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from blender_addon.jobs.folder import OUTPUTS, PREVIEW_FILE, Job, write_result
from engine.cameras import backward
from engine.denoiser import ViewDenoiser
from engine.detail import Closer, detail_calls, look_closer
from engine.device import memory_guard
from engine.finish.agreement import agreement
from engine.finish.contact import contact_sheet
from engine.finish.turntable import turntable
from engine.given import edit_of, given_views
from engine.made import Made, save_maps, save_owners, save_views
from engine.memory import state_device
from engine.mesh import Mesh
from engine.methods import Method, Task
from engine.models import Model
from engine.models.view_attention import view_attention
from engine.models.wishes import controls_of, multiview_of, style_of
from engine.opening import open_job
from engine.painting import begin
from engine.peak import begin_peak, peak_memory
from engine.preview import Watcher, write_preview
from engine.progress import Progress
from engine.prompts import view_prompts
from engine.raster.gbuffer import GBuffer, render_gbuffer
from engine.spaces.uv import UVTexture
from engine.turn import turn
from engine.warm import Models

SEEN = 0.9  # of the area: below this the artist is told that much of the texture is a guess


def run_job(
    folder: Path, progress: Progress, models: Models, keep: Callable[[Made], None] | None = None
) -> dict:
    """Texture the mesh of the job in `folder`; returns what `result.json` says.

    `keep` is handed what was made before it is rounded and written: the measures of `engine.measure` want that.
    Raises `UserError` for what the artist can mend, `Cancelled` when `progress` was told to stop. The result is written
    last and by rename, so a folder has either a whole texture or none. A graphics card is held until the end.
    """
    with ExitStack() as held:
        return _run(folder, progress, models, keep, lambda name: held.enter_context(turn(name, progress)))


def _run(folder: Path, progress: Progress, models: Models, keep: Callable[[Made], None] | None,
         hold: Callable[[str], None]) -> dict:  # fmt: skip
    """The story of a job. hold: see `open_job`."""
    progress.emit("started")
    begin_peak()
    with progress.phase("load"):
        opened = open_job(folder, models, progress.warn, hold)
        job, settings, mesh, windows = opened.job, opened.job.settings, opened.mesh, opened.windows
        given, method, model, rasterizer = opened.given, opened.method, opened.model, opened.rasterizer
        size, report = opened.size, opened.report

    with progress.phase("rasterize"):
        gbuffer = render_gbuffer(rasterizer, mesh, job.cameras, size, size)
        space = partial(UVTexture, mesh, job.cameras, rasterizer,
                        device=state_device(model.device, len(job.cameras), size, model.depot.turns))  # fmt: skip
        latent_space, pixel_space = space(size // model.factor, channels=model.channels), space(size, channels=3)
        before, region = given_views(given, pixel_space, mesh, gbuffer)

    with progress.phase("condition"):
        bind = partial(bound, job, mesh, model, method, before, progress.warn)
        denoiser = bind(gbuffer)

    total = method.calls(settings, len(job.cameras)) + (closer := detail_calls(settings, len(job.cameras)))
    with progress.phase("denoise", total), memory_guard(model.device, "Painting the views"):
        watch = Watcher(folder, progress, settings["preview_every"] * len(job.cameras))
        generator = torch.Generator().manual_seed(settings["seed"])
        task = Task(denoiser, latent_space, pixel_space, model, partial(model.levels, size=size), settings, generator,
                    watch.part(0, total), before, region, torch.from_numpy(backward(job.cameras)))  # fmt: skip
        images = method.paint(task)
        if closer:
            second = Closer(mesh, job.cameras, rasterizer, model, bind, settings)
            images, pixel_space = look_closer(second, images, task, watch.part(total - closer, total))
        report.note(view_denoisings=watch.done, view_denoisings_foreseen=total)

    with progress.phase("bake"):
        views = ((images.clamp(-1, 1) + 1) / 2).cpu()
        work = begin(given, mesh, windows, job.cameras, rasterizer, settings, pixel_space.pairs, model, before, views)
        report.note(coverage=round(work.coverage, 4), agreement_db=agreement(views, pixel_space.pairs))
        tell_unseen(job, work.coverage, progress.warn)
    with progress.phase("fill"):
        report.note(**work.complete())
        if keep is not None:
            keep(Made(job, mesh, model, rasterizer, views, pixel_space.pairs, work.texels, work.baked,
                      work.texture.reshape(-1, 3)[work.texels.index], work.texture))

    with progress.phase("write", settings["turntable"]):
        out = folder / OUTPUTS
        out.mkdir(exist_ok=True)
        files = work.write(out, report.png_text())
        save_owners(folder, work.owners)
        if settings["contact_sheet"]:
            contact_sheet(mesh, work.texture, out / "contact.png", rasterizer)
            files["contact"] = "contact.png"
        if settings["turntable"]:
            turntable(mesh, work.texture, out / "turntable.webp", rasterizer, settings["turntable"], progress.step)
            files["turntable"] = "turntable.webp"
        if settings["save_views"]:
            files.update(save_views(out, job.cameras, views), **save_maps(out, work.texels, work.baked))
        images = {name: f"{OUTPUTS}/{path}" for name, path in files.items()}
        write_preview(folder / PREVIEW_FILE, views * 2 - 1)
    report.note(memory_gb=peak_memory(), seconds_waited=round(progress.waited, 3))
    result = {"status": "done", "images": images, "report": report.finish(progress.seconds), "error": None}
    write_result(folder, result)
    return result


def tell_unseen(job: Job, coverage: float, warn: Callable[[str], None]) -> None:
    """Say where much of the surface is a guess, and what would paint it. coverage: share 0..1 that some view sees."""
    if coverage < SEEN and job.settings["start"] == "nothing":
        remedy = "Add cameras there" if job.settings["rig"] == "scene" else "Extra Views adds cameras there"
        warn(f"{1 - coverage:.0%} of the surface is seen by no view and continues what lies around it. {remedy}.")


def bound(
    job: Job, mesh: Mesh, model: Model, method: Method, before: Tensor | None, tell: Callable, gbuffer: GBuffer
) -> ViewDenoiser:
    """The model's denoiser of the job's views, with what is asked of it and what they see bound in."""
    settings = job.settings
    prompts, avoids = view_prompts(job.cameras, settings, settings["direction_prompts"] and not model.known_words)
    guidance = settings["guidance"]
    if guidance < 0:
        guidance = method.guidance(settings, model.default_guidance)
    rescale = settings["guidance_rescale"] if settings["guidance_rescale"] >= 0 else model.default_guidance_rescale
    controls = controls_of(settings, gbuffer, mesh, job.cameras) if model.follows_mesh else None
    return model.denoiser(
        prompts, avoids, controls, guidance, rescale, settings["control_scale"], settings["view_batch"] or None,
        view_attention(job.cameras, settings), (settings["guidance_start"], settings["guidance_end"]),
        style_of(settings), tell=tell, multiview=multiview_of(settings, gbuffer, mesh, job.cameras),
        reuse=settings["reuse"], **edit_of(settings, before),
    )  # fmt: skip
