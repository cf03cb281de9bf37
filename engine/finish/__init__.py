# SPDX-License-Identifier: Apache-2.0
"""From views that agree to textures: bake, fill what no view sees, level the seams, pad around the charts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from blender_addon.jobs.folder import Camera
from engine.mesh import Mesh, surface_areas
from engine.raster import Rasterizer
from engine.raster.texels import TexelMap
from engine.tiles import PLAIN

from .bake import prepare
from .borders import level_borders
from .fill import ENOUGH, Filler
from .pad import pad_charts
from .seams import level_seams
from .sheet import Sheet


def finish(views: Tensor, mesh: Mesh, cameras: Sequence[Camera], rasterizer: Rasterizer, size: int,
           padding: int = 16, **how) -> Finished:
    """The texture of `size`^2 texels that `views` [N,3,H,H] (RGB in 0..1) paint on the mesh. how: see `bake.prepare`."""
    sheet = Sheet.blank(mesh, size, PLAIN[0])
    sheet.gather(prepare(views, mesh, cameras, rasterizer, **how))
    coverage = covered_share(mesh, [sheet])
    complete(mesh, [sheet], padding)
    return Finished(sheet, coverage)


class Finished:
    """A texture, and what is known about it."""

    def __init__(self, sheet: Sheet, coverage: float):
        """coverage: share of the surface's area that some view sees."""
        self.sheet, self.coverage = sheet, coverage
        self.image = sheet.image

    @property
    def texels(self) -> TexelMap:
        return self.sheet.texels

    @property
    def baked(self):
        return self.sheet.baked


def complete(mesh: Mesh, sheets: Sequence[Sheet], padding: int = 16) -> float:
    """Fill, level and pad baked sheets in place. Returns the mean colour step at the seams before they were levelled."""
    level_borders(mesh, sheets)
    fill_sheets(sheets)
    step = level_seams(mesh, sheets)
    for sheet in sheets:
        pad_charts(sheet.image, sheet.uv.ids != -1, padding, into=sheet.image)
    return step


def fill_sheets(sheets: Sequence[Sheet]) -> None:
    """Give a colour to the texels that no view sees, from the surface around them on whichever sheet it is.

    Objects with textures of their own are not coloured by each other, unless nothing at all is known of one.
    """
    for number in dict.fromkeys(sheet.window.number for sheet in sheets):
        own = [sheet for sheet in sheets if sheet.window.number == number]
        _fill(own, own if any((sheet.owner >= 0).any() for sheet in own) else sheets)


def _fill(sheets: Sequence[Sheet], around: Sequence[Sheet]) -> None:
    """`fill_sheets` of those of one object, from what is known of `around`."""
    lost = [bool(((sheet.uv.ids != -1) & (sheet.owner < 0)).any()) for sheet in sheets]
    if not any(lost):
        return
    corners = sheets[0].mesh.positions[sheets[0].mesh.triangles].reshape(-1, 3)

    def parts():
        for sheet in around:
            for texels in sheet.parts():
                colour = sheet.image.reshape(-1, 3)[texels.index]
                yield texels.position, texels.normal, colour, sheet.owner.reshape(-1)[texels.index] >= 0

    texels = sum(int(np.count_nonzero(sheet.uv.ids != -1)) for sheet in around)
    filler = Filler.of(parts(), corners.min(0), corners.max(0), 1 + texels // ENOUGH)
    for sheet in (sheet for sheet, some in zip(sheets, lost, strict=True) if some):
        for texels in sheet.parts():
            unseen = sheet.owner.reshape(-1)[texels.index] < 0
            if unseen.any():
                found = filler.colours(texels.position[unseen], texels.normal[unseen])
                sheet.image.reshape(-1, 3)[texels.index[unseen]] = np.clip(found, 0, 1)


def covered_share(mesh: Mesh, sheets: Sequence[Sheet]) -> float:
    """Share 0..1 of the painted surface's area that some view sees; faces without a texel are left out."""
    counts = [sheet.shown() for sheet in sheets]
    return area_share(mesh, sum(count for count, _ in counts), sum(seen for _, seen in counts))


def texture_image(colour: np.ndarray, texels: TexelMap, padding: int = 16) -> np.ndarray:
    """The image f32[T,T,3] of texel colours f32[M,3], padded."""
    image, covered = np.zeros((texels.size, texels.size, 3), np.float32), np.zeros((texels.size, texels.size), bool)
    image.reshape(-1, 3)[texels.index] = colour
    covered.reshape(-1)[texels.index] = True
    return pad_charts(image, covered, padding)


def seen_share(mesh: Mesh, texels: TexelMap, known: np.ndarray) -> float:
    """Share 0..1 of the painted surface's area whose texels are `known` bool[M]; faces without a texel are left out."""
    count = np.bincount(texels.triangle, minlength=len(mesh.triangles))
    return area_share(mesh, count, np.bincount(texels.triangle, known, minlength=len(mesh.triangles)))


def area_share(mesh: Mesh, count: np.ndarray, seen: np.ndarray) -> float:
    """Area-weighted mean of `seen / count`, numbers of texels per triangle [F]."""
    area, painted = surface_areas(mesh), count > 0
    total = float(area[painted].sum())
    return float((area[painted] * seen[painted] / count[painted]).sum()) / total if total > 0 else 0.0
