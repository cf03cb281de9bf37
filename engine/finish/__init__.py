# SPDX-License-Identifier: Apache-2.0
"""From views that agree to a texture file: bake, fill what no view sees, pad around the charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from blender_addon.jobs.folder import Camera
from engine.mesh import Mesh
from engine.raster import Rasterizer
from engine.raster.texels import TexelMap, rasterize_uv

from .bake import Baked, bake_views
from .fill import fill_unseen
from .pad import pad_charts


@dataclass(frozen=True)
class Finished:
    """A texture, and what is known about it."""

    image: np.ndarray   # f32[T,T,3] sRGB in 0..1, row 0 at v = 1, a colour everywhere
    texels: TexelMap
    baked: Baked
    coverage: float     # share of the surface's area that some view sees


def finish(views: Tensor, mesh: Mesh, cameras: Sequence[Camera], rasterizer: Rasterizer, size: int,
           padding: int = 16) -> Finished:
    """The texture of `size`^2 texels that `views` [N,3,H,H] (RGB in 0..1) paint on the mesh."""
    texels = rasterize_uv(mesh, size)
    baked = bake_views(views, texels, mesh, cameras, rasterizer)
    known = baked.owner >= 0
    colour = fill_unseen(texels.position, texels.normal, baked.colour, known)
    return Finished(texture_image(colour, texels, padding), texels, baked, seen_share(mesh, texels, known))


def texture_image(colour: np.ndarray, texels: TexelMap, padding: int = 16) -> np.ndarray:
    """The image f32[T,T,3] of texel colours f32[M,3], padded."""
    image, covered = np.zeros((texels.size, texels.size, 3), np.float32), np.zeros((texels.size, texels.size), bool)
    image.reshape(-1, 3)[texels.index] = colour
    covered.reshape(-1)[texels.index] = True
    return pad_charts(image, covered, padding)


def seen_share(mesh: Mesh, texels: TexelMap, known: np.ndarray) -> float:
    """Share 0..1 of the painted surface's area whose texels are `known` bool[M]; faces without a texel are left out."""
    a, b, c = mesh.positions[mesh.triangles].astype(np.float64).transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    count = np.bincount(texels.triangle, minlength=len(area))
    seen = np.bincount(texels.triangle, known, minlength=len(area))
    painted = count > 0
    total = float(area[painted].sum())
    return float((area[painted] * seen[painted] / count[painted]).sum()) / total if total > 0 else 0.0
