# SPDX-License-Identifier: Apache-2.0
"""The story of one job, from its folder to the texture in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from blender_addon.jobs.folder import OUTPUTS, PREVIEW_FILE, read_job, write_result
from engine.cameras import backward
from engine.device import describe, pick_device
from engine.finish import seen_share, texture_image
from engine.finish.agreement import agreement
from engine.finish.bake import Baked, bake_views
from engine.finish.contact import contact_sheet
from engine.finish.fill import fill_unseen
from engine.given import Given, changed_colour, composed, edit_of, fine_detail, given_views, read_given, write_picture
from engine.made import Made, save_maps, save_views
from engine.mesh import from_arrays, mesh_remarks
from engine.methods import Facts, Task, pick_method
from engine.models import follows_instructions
from engine.models.view_attention import view_attention
from engine.models.wishes import controls_of, extras_of, style_of
from engine.preview import Watcher, write_preview
from engine.progress import Progress
from engine.prompts import view_prompts, wish
from engine.raster import pick_rasterizer
from engine.raster.gbuffer import render_gbuffer
from engine.raster.texels import TexelMap, rasterize_uv
from engine.report import Report
from engine.spaces.uv import UVTexture
from engine.warm import Models


def run_job(
    folder: Path, progress: Progress, models: Models, keep: Callable[[Made], None] = lambda made: None
) -> dict:
    """Texture the mesh of the job in `folder`; returns what `result.json` says.

    `keep` is handed what was made before it is rounded and written: the measures of `engine.measure` want that.
    Raises `UserError` for what the artist can mend, `Cancelled` when `progress` was told to stop. The result is written
    last and by rename, so a folder has either a whole texture or none.
    """
    progress.emit("started")
    with progress.phase("load"):
        job = read_job(folder)
        settings = job.settings
        mesh = from_arrays(job.mesh)
        given = read_given(folder, job, mesh)
        facts = Facts(len(job.cameras), starts=given is not None, edits=follows_instructions(settings["model"]))
        method = pick_method(settings, facts)
        device = pick_device(settings["device"])
        model = models.get(settings["model"], device, extras_of(settings))
        rasterizer = pick_rasterizer(settings["rasterizer"], device)
        size = settings["view_size"] or model.view_size
        pick_method(settings, replace(facts, edits=getattr(model, "edits", False)))  # a hub's model is known only now
        report = Report(job, model.info, describe(device), rasterizer.name, size)
        for note in [*mesh_remarks(mesh), *model.prompt_notes(wish(settings))]:
            report.remark(note)
            progress.warn(note)

    with progress.phase("rasterize"):
        gbuffer = render_gbuffer(rasterizer, mesh, job.cameras, size, size)
        latent_space = UVTexture(mesh, job.cameras, rasterizer, size // model.factor, channels=model.channels)
        pixel_space = UVTexture(mesh, job.cameras, rasterizer, size, channels=3)
        before, region = given_views(given, pixel_space, mesh, gbuffer)

    with progress.phase("condition"):
        prompts, avoids = view_prompts(job.cameras, settings, settings["direction_prompts"] and not model.known_words)
        guidance = settings["guidance"]
        if guidance < 0:
            guidance = method.guidance(settings, model.default_guidance)
        rescale = settings["guidance_rescale"] if settings["guidance_rescale"] >= 0 else model.default_guidance_rescale
        denoiser = model.denoiser(
            prompts, avoids, controls_of(settings, gbuffer, mesh, job.cameras), guidance, rescale, settings["control_scale"],
            settings["view_batch"] or None, view_attention(job.cameras, settings),
            (settings["guidance_start"], settings["guidance_end"]), style_of(settings), tell=progress.warn,
            **edit_of(settings, before),
        )  # fmt: skip

    with progress.phase("denoise", total := method.calls(settings, len(job.cameras))):
        watch = Watcher(folder, progress, settings["preview_every"] * len(job.cameras))
        generator = torch.Generator().manual_seed(settings["seed"])
        images = method.paint(
            Task(denoiser, latent_space, pixel_space, model, partial(model.levels, size=size), settings, generator, watch,
                 before, region, torch.from_numpy(backward(job.cameras)))
        )
        report.note(view_denoisings=watch.done, view_denoisings_foreseen=total)

    with progress.phase("bake"):
        views = (images.clamp(-1, 1) + 1) / 2
        texels = rasterize_uv(mesh, settings["texture_size"]) if given is None else given.texels
        baked = bake_views(views, texels, mesh, job.cameras, rasterizer)
        report.note(coverage=round(seen_share(mesh, texels, baked.owner >= 0), 4),
                    agreement_db=agreement(views, pixel_space.pairs))
    with progress.phase("fill"):
        bake = partial(bake_views, texels=texels, mesh=mesh, cameras=job.cameras, rasterizer=rasterizer)
        finest = (None, 0.0) if given is None else fine_detail(settings, model, before, bake)
        colour, picture, texture = finished(given, texels, baked, finest, settings["padding"])
        keep(Made(job, mesh, model, rasterizer, views, pixel_space.pairs, texels, baked, colour, texture))

    with progress.phase("write"):
        out = folder / OUTPUTS
        out.mkdir(exist_ok=True)
        write_picture(out / "texture.png", picture, report.png_text())
        images = {"base_color": f"{OUTPUTS}/texture.png"}
        if settings["contact_sheet"]:
            contact_sheet(mesh, texture, out / "contact.png", rasterizer)
            images["contact"] = f"{OUTPUTS}/contact.png"
        if settings["save_views"]:
            extra = {**save_views(out, job.cameras, views), **save_maps(out, texels, baked)}
            images.update({name: f"{OUTPUTS}/{path}" for name, path in extra.items()})
        write_preview(folder / PREVIEW_FILE, views * 2 - 1)
    result = {"status": "done", "images": images, "report": report.finish(progress.seconds), "error": None}
    write_result(folder, result)
    return result


def finished(
    given: Given | None, texels: TexelMap, baked: Baked, finest: tuple[Baked | None, float], padding: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The colours f32[M,3] of all texels, the picture to be written, and the same as f32[T,T,3]."""
    if given is None:
        colour = fill_unseen(texels.position, texels.normal, baked.colour, baked.owner >= 0)
        texture = texture_image(colour, texels, padding)
        return colour, texture, texture
    colour = changed_colour(given, baked, *finest)
    return colour, *composed(given, colour, padding)
