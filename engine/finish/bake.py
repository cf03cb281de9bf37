# SPDX-License-Identifier: Apache-2.0
"""The finished texture's colours: each texel gathers from the views that show it.

Views are first made to agree in their broad tones (`match`); then each paints its own territory (`territory`) and says
alone what a texel there looks like, read with a spline (`spline`). So nothing ghosts, blurs, or shows where one view takes
over from another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from torch import Tensor

from blender_addon.jobs.folder import Camera
from engine.mesh import Mesh
from engine.raster import Rasterizer
from engine.raster.jit import kernel
from engine.raster.texels import TexelMap, rasterize_uv
from engine.raster.visibility import Sight, sight, visible
from engine.spaces.uv import meeting_size
from engine.spaces.uv.edges import breaks, edge_distance
from engine.spaces.uv.gather import UNSEEN, Pairs, texel_pairs
from engine.spaces.uv.screen import Screen, look, uv_per_pixel

from .match import BANDS, even_gains, matched
from .rims import clean_rims
from .spline import coefficients, collect_sharp
from .territory import shared_weights, territories

CHUNK = 2**18  # texels at a time: 8 views of them take about 60 MB
MOSTLY = np.float32(0.5)   # of what a texel reads
SLANTED = np.float32(0.5)  # cosine
STALE = np.float32(350.0)  # half of it counts like a quarter of the cosine: 128 log 4
FINEST = 2048  # side of the images that visibility is tested on, at least


@dataclass(frozen=True)
class Baked:
    """What the views say about each of `M` texels."""

    colour: np.ndarray  # f32[M,3] in 0..1, 0 where unseen
    weight: np.ndarray  # f32[M] how well the texel is seen: about the best view's cosine; 0 where none sees it
    owner: np.ndarray   # i16[M] the view that counts most; -1 where none sees it


@dataclass(frozen=True)
class Sources:
    """`N` views of side H made ready to be read at any point of the surface."""

    screen: Screen
    ids: np.ndarray     # i32[N,H,H]
    away: np.ndarray    # f32[N,H,H] see `edge_distance`
    rims: np.ndarray    # bool[N*H*H] pixels that only repeat their neighbours, see `clean_rims`
    shares: np.ndarray  # f32[N*H*H] of each view in what it shows, see `territories`
    pixels: np.ndarray  # f32[N*H*H,3]
    spline: np.ndarray  # f32[N*H*H,3] coefficients of the same
    sight: Sight
    steepest: float     # degrees beyond which a view does not count

    def gather(self, texels: TexelMap, mesh: Mesh) -> Baked:
        """What the views say about these texels; costs N bytes and about 60 N bytes per view that sees one."""
        pairs = texel_pairs(mesh, self.screen, self.ids, self.away, texels, self.sight.visible(texels),
                            feather(self.ids.shape[1]), self.steepest)  # fmt: skip
        weight = shared_weights(pairs, self.shares, without_rims(pairs, self.rims))
        colour = collect_sharp(pairs, weight, self.pixels, self.spline)
        owner, confidence = best_view(pairs, weight)
        return Baked(np.clip(colour, 0, 1, out=colour), confidence, owner)


def prepare(views: Tensor, mesh: Mesh, cameras: Sequence[Camera], rasterizer: Rasterizer, *, pairs: Pairs | None = None,
            steepest: float = 75.0, bands: Sequence[tuple[float, float]] = BANDS, level: bool = False) -> Sources:
    """Make `views` [N,3,H,H] in 0..1 ready.

    pairs: texels about as large as pixels and the views that show them, if they are known already. bands: see `matched`;
    () leaves the views as they are. level: first give each view the exposure that suits the others best.
    """
    count, _, side, width = views.shape
    if count != len(cameras) or side != width:
        raise ValueError(f"{len(cameras)} cameras need as many square views, got {tuple(views.shape)}")
    screen = look(mesh.positions, mesh.triangles, cameras)
    ids = rasterizer.triangle_ids(screen.clip, screen.triangles, side, side)
    away, (right, below) = edge_distance(screen, ids), breaks(screen, ids)
    pixels = views.detach().to("cpu", copy=True).float().permute(0, 2, 3, 1).contiguous().numpy()
    rims = clean_rims(pixels, away, right, below)
    shares = np.ones(count * side * side, np.float32)
    if count > 1:
        pairs = pairs or meeting_pairs(mesh, cameras, rasterizer, screen, ids, away, steepest)
        if level:
            pixels *= even_gains(pixels, pairs)[:, None, None]
        if bands:
            pixels = matched(pixels, right, below, pairs, bands)
        pairs = pairs.reaching(feather(side))
        pairs.trust[:] -= STALE * without_rims(pairs, rims.reshape(-1))
        shares = territories(pairs, right, below)
    spline = coefficients(pixels, right, below)
    seen = sight(mesh, cameras, rasterizer, max(FINEST, 2 * side))
    return Sources(screen, ids, away, rims.reshape(-1), shares, pixels.reshape(-1, 3), spline.reshape(-1, 3), seen, steepest)


def meeting_pairs(mesh: Mesh, cameras: Sequence[Camera], rasterizer: Rasterizer, screen: Screen, ids: np.ndarray,
                  away: np.ndarray, steepest: float) -> Pairs:  # fmt: skip
    """Texels about as large as the pixels of ids i32[N,H,H], paired with the views."""
    side = ids.shape[1]
    area = uv_per_pixel(screen, ids, np.ascontiguousarray(mesh.uvs[mesh.triangle_uvs], np.float32))
    texels = rasterize_uv(mesh, meeting_size(area))
    seen = visible(texels, mesh, cameras, rasterizer, max(1024, 2 * side))
    return texel_pairs(mesh, screen, ids, away, texels, seen, feather(side), steepest)


def feather(side: int) -> float:
    """Pixels from an edge within which a view of side `side` counts less."""
    return max(2.0, side / 64)


def bake_views(views: Tensor, texels: TexelMap, mesh: Mesh, cameras: Sequence[Camera], rasterizer: Rasterizer,
               **how) -> Baked:  # fmt: skip
    """Gather `views` [N,3,H,H] in 0..1 into the texels, a chunk at a time. how: see `prepare`."""
    sources, total = prepare(views, mesh, cameras, rasterizer, **how), len(texels.triangle)
    result = Baked(np.zeros((total, 3), np.float32), np.zeros(total, np.float32), np.full(total, -1, np.int16))
    for first in range(0, total, CHUNK):
        rows = slice(first, min(first + CHUNK, total))
        some = sources.gather(part(texels, rows), mesh)
        result.colour[rows], result.weight[rows], result.owner[rows] = some.colour, some.weight, some.owner
    return result


def part(texels: TexelMap, rows: slice) -> TexelMap:
    """Some of the texels."""
    values = {field.name: getattr(texels, field.name) for field in fields(texels)}
    return replace(texels, **{name: value[rows] for name, value in values.items() if isinstance(value, np.ndarray)})


def best_view(pairs: Pairs, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The view i16[M] with the largest weight (-1 if unseen) and its cosine, less near edges, f32[M]."""
    owner, confidence = np.full(pairs.texels, -1, np.int16), np.zeros(pairs.texels, np.float32)
    choose(pairs.start, pairs.view, weight, pairs.steep, owner, confidence)
    return owner, confidence


@kernel
def choose(start, view, weight, steep, owner, confidence):
    for m in range(len(owner)):
        best = np.float32(0)
        for pair in range(start[m], start[m + 1]):
            if weight[pair] >= best and weight[pair] > 0:
                best, owner[m], confidence[m] = weight[pair], view[pair], np.exp(steep[pair])


def without_rims(pairs: Pairs, rims: np.ndarray) -> np.ndarray:
    """f32[P] in 0..1, how much of what a pair reads are rim pixels bool[N*H*H]. If they are most of it and the surface
    slants, the view no longer counts: what they show lies up to a pixel farther inside, which on a slanted surface is far
    away, and the colours around make a better guess.
    """
    repeated = np.zeros(len(pairs.trust), np.float32)
    leave_rims(pairs.share, pairs.base, pairs.width, pairs.cosine, rims, pairs.trust, repeated)
    return repeated


@kernel
def leave_rims(share, base, width, cosine, rims, trust, repeated):
    for pair in range(len(trust)):
        for tap in range(4):
            if share[pair, tap] > 0 and rims[base[pair] + (tap & 1) + (tap >> 1) * width]:
                repeated[pair] += share[pair, tap]
        if repeated[pair] > MOSTLY and cosine[pair] < SLANTED:
            trust[pair] = UNSEEN
