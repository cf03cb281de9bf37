# SPDX-License-Identifier: Apache-2.0
"""The finished texture's colours: each texel gathers from the views that show it.

Detail comes from the best view alone, so it does not ghost; broad tones are averaged over the views, so that the
borders between best views do not show (a Laplacian blend, as in panorama stitching). Each band has its own sharpness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from blender_addon.jobs.folder import Camera
from engine.mesh import Mesh
from engine.raster import Rasterizer
from engine.raster.texels import TexelMap
from engine.raster.visibility import visible
from engine.spaces.uv.edges import breaks, edge_distance
from engine.spaces.uv.gather import Pairs, texel_pairs
from engine.spaces.uv.screen import look

from .bands import split

CHUNK = 2**18  # texels at a time: 8 views of them take about 60 MB
BANDS = ((1 / 128, 128.0), (1 / 32, 16.0), (None, 4.0))  # blur that ends the band, in views; sharpness of its weights


@dataclass(frozen=True)
class Baked:
    """What the views say about each of `M` texels."""

    colour: np.ndarray  # f32[M,3] in 0..1, 0 where unseen
    weight: np.ndarray  # f32[M] how well the texel is seen: about the best view's cosine; 0 where none sees it
    owner: np.ndarray   # i16[M] the view that counts most; -1 where none sees it


def bake_views(views: Tensor, texels: TexelMap, mesh: Mesh, cameras: Sequence[Camera], rasterizer: Rasterizer, *,
               steepest: float = 75.0, bands: Sequence[tuple[float | None, float]] = BANDS) -> Baked:
    """Gather `views` [N,3,H,H] in 0..1 into the texels, a chunk at a time, with N bytes per texel beside the result."""
    count, _, side, width = views.shape
    if count != len(cameras) or side != width:
        raise ValueError(f"{len(cameras)} cameras need as many square views, got {tuple(views.shape)}")
    screen = look(mesh.positions, mesh.triangles, cameras)
    ids = rasterizer.triangle_ids(screen.clip, screen.triangles, side, side)
    away = edge_distance(screen, ids)
    pixels = views.detach().to("cpu", torch.float32).permute(0, 2, 3, 1).contiguous().numpy()
    blurs = [blur * side for blur, _ in bands if blur is not None]
    layers, reaches = split(pixels, *breaks(screen, ids), blurs), [1.0, *(1.5 * blur for blur in blurs)]
    layers = [layer.reshape(-1, 3) for layer in layers]
    seen_by = visible(texels, mesh, cameras, rasterizer, max(2048, 2 * side))
    total = len(texels.triangle)
    result = Baked(np.zeros((total, 3), np.float32), np.zeros(total, np.float32), np.full(total, -1, np.int16))
    for first in range(0, total, CHUNK):
        rows = slice(first, min(first + CHUNK, total))
        pairs = texel_pairs(mesh, screen, ids, away, part(texels, rows), np.ascontiguousarray(seen_by[:, rows]),
                            max(2.0, side / 64), steepest)
        for layer, (_, power), reach in zip(layers, bands, reaches, strict=True):
            weight, _ = pairs.feathered(reach).weights(power)
            result.colour[rows] += pairs.collect(weight, layer)
        result.owner[rows], result.weight[rows] = best_view(pairs, max(power for _, power in bands))
    np.clip(result.colour, 0, 1, out=result.colour)
    return result


def part(texels: TexelMap, rows: slice) -> TexelMap:
    """Some of the texels."""
    values = {field.name: getattr(texels, field.name) for field in fields(texels)}
    return replace(texels, **{name: value[rows] for name, value in values.items() if isinstance(value, np.ndarray)})


def best_view(pairs: Pairs, power: float) -> tuple[np.ndarray, np.ndarray]:
    """The view i16[M] with the largest weight (-1 if unseen) and its cosine, feathered, f32[M]."""
    weight, total = pairs.weights(power)
    seen = np.flatnonzero(total > 0)
    texel = np.repeat(np.arange(pairs.texels), np.diff(pairs.start))
    order = np.lexsort((weight, texel))
    last = order[pairs.start[seen + 1] - 1]
    owner, confidence = np.full(pairs.texels, -1, np.int16), np.zeros(pairs.texels, np.float32)
    owner[seen] = pairs.view[last]
    confidence[seen] = np.exp(pairs.steep[last])
    return owner, confidence
