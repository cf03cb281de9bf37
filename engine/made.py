# SPDX-License-Identifier: Apache-2.0
"""What a job has made, whole and in floating point, for whoever wants to keep or measure more than the texture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from blender_addon.jobs.files import atomic_write_bytes
from blender_addon.jobs.folder import Camera, Job, owner_file
from blender_addon.jobs.png import png_bytes
from engine.finish.bake import Baked
from engine.finish.image import write_png
from engine.mesh import Mesh
from engine.models import Model
from engine.raster import Rasterizer
from engine.raster.texels import TexelMap
from engine.spaces.uv.gather import Pairs

GOLDEN = 0.618034  # of the colour circle between one view's colour and the next: neighbours differ


@dataclass(frozen=True)
class Made:
    """A job just before its files are written. `N` views of side H, `M` texels of the surface, texture side T."""

    job: Job
    mesh: Mesh
    model: Model
    rasterizer: Rasterizer
    views: Tensor  # f32[N,3,H,H] the decoded views, RGB in 0..1
    pairs: Pairs  # which pixels of the views show a point of the surface
    texels: TexelMap
    baked: Baked
    colour: np.ndarray  # f32[M,3] in 0..1, after what no view sees was filled
    texture: np.ndarray  # f32[T,T,3] in 0..1, padded


def save_views(out: Path, cameras: Sequence[Camera], views: Tensor) -> dict[str, str]:
    """Write each painted view [N,3,H,H] in 0..1 as `views/NN-name.png` under `out`. Returns names, and paths in it."""
    (out / "views").mkdir(exist_ok=True)
    written = {}
    for number, (camera, view) in enumerate(zip(cameras, views, strict=True)):
        stem = f"{number:02d}-{re.sub(r'[^a-z0-9]+', '-', camera.name.lower()).strip('-') or 'view'}"
        write_png(out / "views" / f"{stem}.png", view.float().permute(1, 2, 0).cpu().numpy())
        written[f"view-{stem}"] = f"views/{stem}.png"
    return written


def save_owners(folder: Path, owners: Mapping[str, np.ndarray]) -> None:
    """Write for each texture a grey picture as fine as it (`owner_file`): number of the view that counts most, from 1; 0: none.

    owners: i16[T,T] by the textures' names ("" or a UDIM tile's), -1 for none. Nothing is written for more views than a
    byte counts.
    """
    if max(int(owner.max()) for owner in owners.values()) < 255:
        for tile, owner in owners.items():
            atomic_write_bytes(folder / owner_file(tile), png_bytes((owner + 1).astype(np.uint8)[..., None], level=1))


def save_maps(out: Path, texels: TexelMap, baked: Baked) -> dict[str, str]:
    """Write `maps/coverage.png` (white: some view sees it, black: none), `maps/ownership.png` (a colour per view that
    counts most) and `maps/confidence.png` (how well the best view sees it) under `out`; grey is off the charts."""
    seen = baked.owner >= 0
    hue = (np.maximum(baked.owner, 0) * GOLDEN) % 1
    wheel = 0.5 + 0.4 * np.cos(2 * np.pi * (hue[:, None] - np.array([0, 1 / 3, 2 / 3])))
    maps = {
        "coverage": np.repeat(seen[:, None], 3, 1).astype(np.float32),
        "ownership": np.where(seen[:, None], wheel, 0).astype(np.float32),
        "confidence": np.repeat(baked.weight[:, None], 3, 1),
    }
    (out / "maps").mkdir(exist_ok=True)
    for name, values in maps.items():
        image = np.full((texels.size**2, 3), 0.25, np.float32)
        image[texels.index] = values
        write_png(out / "maps" / f"{name}.png", image.reshape(texels.size, texels.size, 3))
    return {name: f"maps/{name}.png" for name in maps}
