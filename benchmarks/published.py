# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.published`: what agreeing costs per step, against the published loops on the same views.

SyncTweedies and SyncMVD join views by rendering: one step of gradient descent on an empty texture per view, a Voronoi
fill of what that scatter leaves out, weights, another fill, and a nearest lookup back into the views. Those operations
are made again here from their description (`KAIST-Visual-AI-Group/SyncTweedies: synctweedies/renderer/mesh/`,
`LIU-Yuxin/SyncMVD: src/syncmvd/step.py`), in torch, on latents of their sizes: 10 views of 96 x 96 x 4. What is left out
favours them: they rasterize the mesh again for every lookup, and here the looked-up places are kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from blender_addon.jobs.rigs import build_rig
from engine.raster import pick_rasterizer
from engine.raster.gbuffer import render_gbuffer
from engine.spaces.uv import UVTexture

from .keep import in_turns, keep, medians, ratio
from .shapes import bumpy_torus

VIEWS, SIDE, CHANNELS = 10, 96, 4
REPEATS = 50  # of ours: one takes milliseconds
TEXTURES = {"synctweedies": 1536, "syncmvd": 512}  # sides of their latent textures


@dataclass
class Published:
    """One published way of joining views, step by step: a texture of side T, for each pixel the texel it looks up."""

    side: int
    texel: Tensor     # i64[N,H*W], -1 outside the mesh
    weight: Tensor    # f32[N,T*T]: cosine where the view sees the texel
    chart: Tensor     # bool[T*T]: texels of the mesh

    def bake(self, views: Tensor, power: float) -> Tensor:
        """Views [N,C,H,W] -> texture [C,T*T]: per view the gradient of a rendering, divided by its count, and filled."""
        whole, total = views.new_zeros(CHANNELS, self.side**2), views.new_zeros(self.side**2)
        for view, texel, weight in zip(views, self.texel, self.weight, strict=True):
            seen = texel >= 0
            texture = torch.zeros(CHANNELS, self.side**2, requires_grad=True)
            count = torch.zeros(1, self.side**2, requires_grad=True)
            with torch.enable_grad():
                loss = (texture[:, texel[seen]] - view.flatten(1)[:, seen]).square().sum() / 2
                (loss + count[:, texel[seen]].sum()).backward()
            hit = count.grad[0] > 0
            own = self.fill(-texture.grad / count.grad.clamp_min(1), hit)
            share = weight**power
            whole += share * own
            total += share
        return self.fill(whole / total.clamp_min(1e-9), total > 0)

    def fill(self, texture: Tensor, known: Tensor) -> Tensor:
        """Each texel takes the value of the nearest known one: jump flooding, ceil(log2 T) rounds of 8 neighbours."""
        side = self.side
        grid = torch.arange(side)
        here = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1)
        nearest = torch.where(known.view(side, side, 1), here, -10 * side)
        for k in reversed(range(math.ceil(math.log2(side)))):
            jump = 2**k
            best = (nearest - here).square().sum(-1)
            for dy in (-jump, 0, jump):
                for dx in (-jump, 0, jump):
                    if dy or dx:
                        other = nearest.roll((dy, dx), (0, 1))
                        away = (other - here).square().sum(-1)
                        closer = away < best
                        best = torch.where(closer, away, best)
                        nearest = torch.where(closer[..., None], other, nearest)
        index = (nearest[..., 0].clamp(0, side - 1) * side + nearest[..., 1].clamp(0, side - 1)).flatten()
        return texture[:, index]

    def render(self, texture: Tensor) -> Tensor:
        """The nearest lookup of a texture [C,T*T] in every view."""
        found = texture[:, self.texel.clamp_min(0)] * (self.texel >= 0)
        return found.transpose(0, 1).reshape(VIEWS, CHANNELS, SIDE, SIDE)


def published(mesh, cameras, rasterizer, side: int) -> Published:
    buffer = render_gbuffer(rasterizer, mesh, cameras, SIDE, SIDE)
    place = (buffer.uv * side).astype(np.int64).clip(0, side - 1)
    texel = np.where(buffer.mask, place[..., 1] * side + place[..., 0], -1).reshape(VIEWS, -1)
    dense = UVTexture(mesh, cameras, rasterizer, SIDE, side, channels=CHANNELS)
    weight = torch.zeros(VIEWS, side * side)
    for view in range(VIEWS):
        facing = dense.only([view])
        weight[view, torch.from_numpy(dense.texels.index)] = (facing.weight > 0).float() * 0.7
    chart = torch.zeros(side * side, dtype=torch.bool)
    chart[torch.from_numpy(dense.texels.index)] = True
    return Published(side, torch.from_numpy(texel), weight, chart)


def main() -> None:
    mesh, rasterizer = bumpy_torus(120, 60), pick_rasterizer("numba")
    cameras = build_rig("auto", VIEWS, mesh.positions)
    ours = UVTexture(mesh, cameras, rasterizer, SIDE, channels=CHANNELS)
    theirs = {name: published(mesh, cameras, rasterizer, side) for name, side in TEXTURES.items()}
    views = torch.randn(VIEWS, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    posterior = torch.randn(CHANNELS, theirs["syncmvd"].side ** 2)
    ours.sharpen(8.0)

    def case_five() -> Tensor:
        loop = theirs["syncmvd"]
        return loop.render(0.3 * loop.bake(views, 3.0) + 0.7 * posterior + 0.1 * torch.randn(posterior.shape))

    calls = {
        "ours": lambda: [ours.sync(views) for _ in range(REPEATS)],
        "synctweedies": lambda: theirs["synctweedies"].render(theirs["synctweedies"].bake(views, 1.0)),
        "syncmvd": case_five,
    }
    with torch.no_grad():
        seconds = in_turns(calls, 1)  # the fills take a minute
    seconds["ours"] = [one / REPEATS for one in seconds["ours"]]
    times = {f"{name} over ours": round(ratio(seconds, name, "ours"), 1) for name in TEXTURES}
    keep("published", f"One joining of {VIEWS} views of {SIDE} x {SIDE} x {CHANNELS} latents on the CPU: ours, and the published "
         f"operations (scatter by gradient, Voronoi fill per view, nearest lookup) in latent textures of {TEXTURES}, without "
         "their rasterizing. Nearly all of their time is the Voronoi fill, written for a graphics card: there the ratio is far "
         "smaller, and was not measured", {**times, "seconds": medians(seconds)}, "ours is faster than both",
         all(value > 1 for value in times.values()))  # fmt: skip


if __name__ == "__main__":
    main()
