# SPDX-License-Identifier: Apache-2.0
"""What the model paints when no view has to agree with another: the pictures that textures are compared with.

SyncTweedies' protocol: each view of the stage on its own, with depth and prompt, foreground only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engine.mesh import Mesh
from engine.models import Model
from engine.models.wishes import controls_of, style_of
from engine.prompts import view_prompts
from engine.sampling import sample, start

from .stage import Stage


def single_views(model: Model, stage: Stage, mesh: Mesh, settings: Mapping[str, Any], seed: int) -> Tensor:
    """Views f32[N,3,H,H] in 0..1 of the stage's cameras, each from its own noise, cut out on mid-grey.

    Steps, guidance, what the model follows and whose style are those of `settings`; DDIM without fresh noise.
    """
    directions = settings["direction_prompts"] and not model.known_words
    prompts, avoids = view_prompts(stage.cameras, settings, directions)
    guidance = settings["guidance"] if settings["guidance"] >= 0 else model.default_guidance
    rescale = settings["guidance_rescale"] if settings["guidance_rescale"] >= 0 else model.default_guidance_rescale
    denoiser = model.denoiser(
        prompts, avoids, controls_of(settings, stage.buffer, mesh, stage.cameras), guidance, rescale,
        settings["control_scale"], settings["view_batch"] or None,
        interval=(settings["guidance_start"], settings["guidance_end"]), style=style_of(settings),
    )  # fmt: skip
    levels = model.levels(settings["steps"], size=stage.size)
    side = stage.size // model.factor
    noise = torch.randn(len(stage.cameras), model.channels, side, side, generator=torch.Generator().manual_seed(seed))
    images = model.decode(sample(denoiser, start(noise, levels[0]), levels))
    return stage.cut((images.detach().float().cpu().clamp(-1, 1) + 1) / 2)
