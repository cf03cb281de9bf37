# SPDX-License-Identifier: Apache-2.0
"""The views that measures and pages look from: none of them is a view the texture was painted from.

A stage is rasterized once per mesh and set of cameras; rendering a texture on it is a lookup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from blender_addon.jobs.folder import Camera
from blender_addon.jobs.rigs import rig_at
from engine.cameras import stack
from engine.mesh import Mesh
from engine.raster import Rasterizer
from engine.raster.gbuffer import GBuffer, render_gbuffer
from engine.spaces.uv.edges import edge_distance
from engine.spaces.uv.screen import look

SAMPLES = 2  # per side of a pixel
DIRECTIONS = 8
ELEVATION = 20.0  # degrees, above and below in turns
TURNS = [part / 16 for part in range(-6, 7)]  # of a step
ENOUGH = 12.0  # degrees between a view looked from and one painted from
BACKGROUND = 0.5  # what renders and references are laid on


@dataclass(frozen=True)
class Stage:
    """A mesh in `N` views of H x H pixels, with `SAMPLES`^2 texture lookups per pixel."""

    cameras: tuple[Camera, ...]
    uv: Tensor  # f32[N,sH,sH,2] as `grid_sample` takes it
    inside: Tensor  # f32[N,1,sH,sH] 1 where a lookup hits the mesh
    mask: Tensor  # f32[N,1,H,H] share of a pixel that shows the mesh
    edge: np.ndarray  # f32[N,H,H] pixels to the nearest silhouette or depth edge; 0 off the mesh
    buffer: GBuffer  # what the pixels of these views see, for the pictures that guide a model
    footprint: float  # median share of the UV square behind a pixel

    @property
    def size(self) -> int:
        return self.mask.shape[-1]

    def render(self, texture: np.ndarray) -> Tensor:
        """Views f32[N,3,H,H] in 0..1 of the mesh with `texture` f32[T,T,3], unlit, on mid-grey.

        The texture is halved first until a texel is at least half as large as a pixel, as mip-mapping would.
        """
        image = torch.from_numpy(np.ascontiguousarray(texture, np.float32)).permute(2, 0, 1)[None]
        while image.shape[-1] % 2 == 0 and self.footprint * image.shape[-1] ** 2 > 2 * SAMPLES**2:
            image = avg_pool2d(image, 2)
        size, views = self.uv.shape[1], []
        for uv, inside in zip(self.uv, self.inside, strict=True):
            colour = grid_sample(image, uv.view(1, size, size, 2), "bilinear", "border", align_corners=False)[0]
            views.append(avg_pool2d(colour * inside + BACKGROUND * (1 - inside), SAMPLES))
        return torch.stack(views)

    def cut(self, views: Tensor) -> Tensor:
        """Views [N,3,H,H] in 0..1 of the same cameras, with the mesh's pixels only, on mid-grey."""
        return views * self.mask + BACKGROUND * (1 - self.mask)


def held_out(positions: np.ndarray, rig: Sequence[Camera] = ()) -> tuple[Camera, ...]:
    """Eight cameras half a step beside a ring that starts at the front, 20 degrees above and below in turns.

    `rig`: the cameras painted from; the ring turns, by up to 3/4 of a half step, to be as far from all as it can.
    """
    step, painted = 360 / DIRECTIONS, directions(rig) if rig else []

    def ring(turn: float) -> list[tuple[float, float]]:
        return [((i + 0.5 + turn) * step % 360, ELEVATION if i % 2 else -ELEVATION) for i in range(DIRECTIONS)]

    def nearest(turn: float) -> float:
        return min((apart(a, b) for a in ring(turn) for b in painted), default=180.0)

    turn = max(TURNS, key=lambda turn: (min(nearest(turn), ENOUGH), -abs(turn)))
    return rig_at(ring(turn), positions)


def apart(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Degrees between two directions (azimuth, elevation)."""
    (a, b), (c, d) = np.radians(one), np.radians(other)
    return float(np.degrees(np.arccos(np.clip(np.sin(b) * np.sin(d) + np.cos(b) * np.cos(d) * np.cos(a - c), -1, 1))))


def stage_for(mesh: Mesh, cameras: Sequence[Camera], rasterizer: Rasterizer, size: int) -> Stage:
    """The mesh in these cameras. Costs 40 bytes per lookup, so 60 MB for 8 views of 256 pixels."""
    fine = render_gbuffer(rasterizer, mesh, cameras, SAMPLES * size, SAMPLES * size)
    inside = torch.from_numpy(fine.mask[:, None].astype(np.float32))
    uv = torch.from_numpy(np.stack([fine.uv[..., 0] * 2 - 1, 1 - fine.uv[..., 1] * 2], -1).astype(np.float32))
    plain = render_gbuffer(rasterizer, mesh, cameras, size, size)
    edge = edge_distance(look(mesh.positions, mesh.triangles, cameras), plain.triangle)
    shown = plain.footprint[plain.mask]
    footprint = float(np.median(shown)) if shown.size else 0.0
    return Stage(tuple(cameras), uv, inside, avg_pool2d(inside, SAMPLES), edge, plain, footprint)


def directions(cameras: Sequence[Camera]) -> list[tuple[float, float]]:
    """(azimuth, elevation) in degrees of where cameras look from; azimuth 0 is the front."""
    back = stack(cameras)[0][:, 2, :3]
    turn, rise = np.arctan2(back[:, 0], -back[:, 1]), np.arcsin(np.clip(back[:, 2], -1, 1))
    return list(zip(np.degrees(turn).tolist(), np.degrees(rise).tolist(), strict=True))
