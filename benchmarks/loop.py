# SPDX-License-Identifier: Apache-2.0
"""What synchronization adds: to a denoising step, and to a whole job over denoising the same views with plain diffusers."""

from __future__ import annotations

import statistics
import time

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionControlNetPipeline
from transformers import logging

from blender_addon.jobs.rigs import build_rig
from blender_addon.jobs.settings import resolve
from engine.device import dtype_for
from engine.finish import finish
from engine.methods.synchronized import run
from engine.models import load_model
from engine.raster import pick_rasterizer
from engine.raster.depth import control_depth
from engine.raster.gbuffer import render_gbuffer
from engine.spaces.uv import UVTexture

from .keep import in_turns, keep, medians, ratio
from .shapes import bumpy_torus

VIEWS, STEPS, PROMPT = 8, 20, "mossy grey brick"


def plain_pipeline(model) -> StableDiffusionControlNetPipeline:
    """diffusers' own pipeline around the same weights. Its autoencoder is a stand-in that `latent` output never calls."""
    small = AutoencoderKL(latent_channels=model.channels, block_out_channels=(8, 8, 8, 8), norm_num_groups=8,
                          down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    controlnet = model.controlnet
    controlnet.controlnet_cond_embedding = model.depth_embedding
    pipeline = StableDiffusionControlNetPipeline(
        small, model.text_encoder.to(model.dtype), model.tokenizer, model.unet, controlnet, DDIMScheduler.from_config(model.scheduler),
        None, None, requires_safety_checker=False)  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def main() -> None:
    logging.set_verbosity_error()
    cpu = torch.device("cpu")
    model, plain_model = load_model("swatch", cpu), load_model("swatch", cpu)
    mesh, rasterizer = bumpy_torus(120, 60), pick_rasterizer("numba")
    cameras, size = build_rig("auto", VIEWS, mesh.positions), model.view_size
    settings = resolve({"prompt": PROMPT, "steps": STEPS, "views": VIEWS})
    depth = torch.from_numpy(control_depth(render_gbuffer(rasterizer, mesh, cameras, size, size)))[:, None]
    pipeline = plain_pipeline(plain_model)
    kind = dtype_for(cpu)
    share = []

    def whole_job() -> None:
        """From mesh to finished texture; also measures the share of everything in the loop that is not the denoiser."""
        control = torch.from_numpy(control_depth(render_gbuffer(rasterizer, mesh, cameras, size, size)))[:, None]
        latent = UVTexture(mesh, cameras, rasterizer, size // model.factor, channels=model.channels)
        pixel = UVTexture(mesh, cameras, rasterizer, size, channels=3)
        bound = model.denoiser([PROMPT] * VIEWS, [""] * VIEWS, control, model.default_guidance, 0.5)
        inside = []

        def timed(x, level):
            began = time.perf_counter()
            x0 = bound(x, level)
            inside.append(time.perf_counter() - began)
            return x0

        began = time.perf_counter()
        x0 = run(timed, latent, model.levels(STEPS), settings, torch.Generator().manual_seed(0), model, pixel_space=pixel)
        share.append((time.perf_counter() - began - sum(inside)) / sum(inside))
        finish((model.decode(x0).clamp(-1, 1) + 1) / 2, mesh, cameras, rasterizer, settings["texture_size"])

    def plain_diffusers() -> None:
        pipeline([PROMPT] * VIEWS, depth.expand(-1, 3, -1, -1).to(kind), num_inference_steps=STEPS, output_type="latent",
                 guidance_scale=model.default_guidance, negative_prompt=[""] * VIEWS)  # fmt: skip

    with torch.no_grad():
        seconds = in_turns({"whole_job": whole_job, "plain_diffusers": plain_diffusers}, 3)
    added = statistics.median(share[1:])
    keep("loop_share", f"Share of project, unproject, weights and noise in the loop, over the denoiser's time "
         f"(swatch, {VIEWS} views, {STEPS} steps)", {"share": round(added, 4)}, "at most 0.05", added <= 0.05)
    times = ratio(seconds, "whole_job", "plain_diffusers")
    keep("main_job", f"Whole job (rasterize, denoise together, bake, fill, pad at {settings['texture_size']} px) over denoising "
         f"the same views with diffusers' own pipeline", {"ratio": round(times, 3), "seconds": medians(seconds)},
         "at most 1.25", times <= 1.25)  # fmt: skip


if __name__ == "__main__":
    main()
