# SPDX-License-Identifier: Apache-2.0
"""A second look, closer: the finished texture seen in views of twice the size, and denoised together once more, a little.

This is what plain enlargement cannot do: the model paints detail that its own size had no pixels for, and the views agree
on it as they did before, because they meet in the same texture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from blender_addon.jobs.errors import SettingsError
from engine.denoiser import ViewDenoiser
from engine.finish import finish
from engine.finish.contact import sample, shrink
from engine.memory import state_device
from engine.mesh import Mesh
from engine.methods import METHODS, Task
from engine.models import Model
from engine.raster import Rasterizer
from engine.raster.gbuffer import GBuffer, render_gbuffer
from engine.spaces.uv import UVTexture, meeting_size

TIMES = {"off": 1, "2x": 2}
LARGEST = 2048  # pixels of a view's side


@dataclass(frozen=True)
class Closer:
    """What a second pass needs to know of the first. `bind` gives the denoiser for what larger views see."""

    mesh: Mesh
    cameras: tuple
    rasterizer: Rasterizer
    model: Model
    bind: Callable[[GBuffer], ViewDenoiser]
    settings: Mapping[str, Any]


def check_detail(settings: Mapping[str, Any], size: int, edits: bool) -> None:
    """Raises SettingsError for a second pass that cannot be: views too large, or a texture that is only to be changed."""
    if settings["detail"] == "off":
        return
    if edits:
        raise SettingsError("detail is for textures made from nothing; the job changes one that is there.",
                            "Set detail to off.", key="detail")
    if size * TIMES[settings["detail"]] > LARGEST:
        raise SettingsError(f"detail is {settings['detail']}, and twice the view size of {size} px is more than {LARGEST} px.",
                            "Choose a smaller view_size, or set detail to off.", key="detail")


def detail_calls(settings: Mapping[str, Any], views: int) -> int:
    """View denoisings of the second pass, 0 without one; a larger view counts as one."""
    if settings["detail"] == "off":
        return 0
    return METHODS["synchronized"].calls({**settings, "start": "texture", "strength": settings["detail_strength"]}, views)


def look_closer(given: Closer, images: Tensor, task: Task, watch: Callable) -> tuple[Tensor, UVTexture]:
    """Views [N,3,2H,2H] in -1..1 in place of `images` [N,3,H,H], and the space they agree in. `task`: of the first pass."""
    size = images.shape[-1] * TIMES[given.settings["detail"]]
    model, home = given.model, state_device(given.model.device, len(given.cameras), size, given.model.depot.turns)
    gbuffer = render_gbuffer(given.rasterizer, given.mesh, given.cameras, size, size)
    space = partial(UVTexture, given.mesh, given.cameras, given.rasterizer, device=home)
    pixels, latents = space(size, channels=3), space(size // model.factor, channels=model.channels)
    start = enlarged(images, given, gbuffer, task.pixels.pairs).to(home)
    settings = {**given.settings, "strength": given.settings["detail_strength"], "start": "texture"}
    second = replace(task, denoiser=given.bind(gbuffer), space=latents, pixels=pixels, settings=settings, watch=watch,
                     levels=partial(model.levels, size=size), start=start, region=None)
    return METHODS["synchronized"].paint(second), pixels


def enlarged(images: Tensor, given: Closer, gbuffer: GBuffer, pairs) -> Tensor:
    """The finished texture of the views [N,3,H,H] in -1..1 in larger views [N,3,S,S]; their own background around it."""
    footprint = gbuffer.footprint[gbuffer.mask]
    side = meeting_size(float(np.median(footprint[footprint > 0])) if (footprint > 0).any() else 0.0)
    done = finish((images.clamp(-1, 1) + 1) / 2, given.mesh, given.cameras, given.rasterizer, side, pairs=pairs)
    texture = shrink(done.image, footprint)
    out = interpolate(images.float().cpu(), (gbuffer.mask.shape[1:]), mode="bicubic", align_corners=False).clamp(-1, 1)
    for view, uv, inside in zip(out, gbuffer.uv, gbuffer.mask, strict=True):
        view.permute(1, 2, 0)[torch.from_numpy(inside)] = torch.from_numpy(sample(texture, uv[inside]) * 2 - 1).float()
    return out
