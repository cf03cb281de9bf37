# SPDX-License-Identifier: Apache-2.0
"""The story of one job, from its folder to the texture in it."""

from __future__ import annotations

from pathlib import Path

import torch

from blender_addon.jobs.folder import OUTPUTS, PREVIEW_FILE, read_job, write_result
from engine.device import describe, pick_device
from engine.finish import seen_share, texture_image
from engine.finish.agreement import agreement
from engine.finish.bake import bake_views
from engine.finish.contact import contact_sheet
from engine.finish.fill import fill_unseen
from engine.finish.image import write_png
from engine.mesh import from_arrays, mesh_remarks
from engine.methods import METHODS
from engine.preview import write_preview
from engine.progress import Progress
from engine.prompts import view_prompts
from engine.raster import pick_rasterizer
from engine.raster.depth import control_depth
from engine.raster.gbuffer import render_gbuffer
from engine.raster.texels import rasterize_uv
from engine.report import Report
from engine.spaces.uv import UVTexture
from engine.warm import Models


def run_job(folder: Path, progress: Progress, models: Models) -> dict:
    """Texture the mesh of the job in `folder`; returns what `result.json` says.

    Raises `UserError` for what the artist can mend, `Cancelled` when `progress` was told to stop. The result is written
    last and by rename, so a folder has either a whole texture or none.
    """
    progress.emit("started")
    with progress.phase("load"):
        job = read_job(folder)
        settings = job.settings
        device = pick_device(settings["device"])
        mesh = from_arrays(job.mesh)
        model = models.get(settings["model"], device)
        rasterizer = pick_rasterizer(settings["rasterizer"], device)
        size = settings["view_size"] or model.view_size
        report = Report(job, model.info, describe(device), rasterizer.name, size)
        for note in [*mesh_remarks(mesh), *model.prompt_notes(settings["prompt"])]:
            report.remark(note)
            progress.warn(note)

    with progress.phase("rasterize"):
        gbuffer = render_gbuffer(rasterizer, mesh, job.cameras, size, size)
        latent_space = UVTexture(mesh, job.cameras, rasterizer, size // model.factor, channels=model.channels)
        pixel_space = UVTexture(mesh, job.cameras, rasterizer, size, channels=3)

    with progress.phase("condition"):
        prompts, avoids = view_prompts(job.cameras, settings, settings["direction_prompts"] and not model.known_words)
        guidance = settings["guidance"] if settings["guidance"] >= 0 else model.default_guidance
        rescale = settings["guidance_rescale"] if settings["guidance_rescale"] >= 0 else model.default_guidance_rescale
        control = torch.from_numpy(control_depth(gbuffer))[:, None]
        denoiser = model.denoiser(prompts, avoids, control, guidance, rescale, settings["control_scale"])
        levels = model.levels(settings["steps"])

    def on_step(i: int, n: int, x0: torch.Tensor) -> None:
        progress.step(i, n)
        if settings["preview_every"] and i % settings["preview_every"] == 0 and i < n:
            write_preview(folder / PREVIEW_FILE, model.decode(x0, refine=False))
            progress.emit("preview", file=PREVIEW_FILE, i=i, n=n)

    with progress.phase("denoise", len(levels) - 1):
        generator = torch.Generator().manual_seed(settings["seed"])
        method = METHODS[settings["method"]]
        latents = method(denoiser, latent_space, levels, settings, generator, model, on_step, pixel_space=pixel_space)

    with progress.phase("bake"):
        views = (model.decode(latents).clamp(-1, 1) + 1) / 2
        texels = rasterize_uv(mesh, settings["texture_size"])
        baked = bake_views(views, texels, mesh, job.cameras, rasterizer)
        seen = baked.owner >= 0
        report.note(coverage=round(seen_share(mesh, texels, seen), 4), agreement_db=agreement(views, pixel_space.pairs))
    with progress.phase("fill"):
        colour = fill_unseen(texels.position, texels.normal, baked.colour, seen)
        texture = texture_image(colour, texels, settings["padding"])

    with progress.phase("write"):
        out = folder / OUTPUTS
        out.mkdir(exist_ok=True)
        write_png(out / "texture.png", texture, report.png_text())
        images = {"base_color": f"{OUTPUTS}/texture.png"}
        if settings["contact_sheet"]:
            contact_sheet(mesh, texture, out / "contact.png", rasterizer)
            images["contact"] = f"{OUTPUTS}/contact.png"
        write_preview(folder / PREVIEW_FILE, views * 2 - 1)
    result = {"status": "done", "images": images, "report": report.finish(progress.seconds), "error": None}
    write_result(folder, result)
    return result
