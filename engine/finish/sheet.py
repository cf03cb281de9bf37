# SPDX-License-Identifier: Apache-2.0
"""One texture in the making. It is walked through in bands of rows, so that a large one costs little beside itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine.mesh import Mesh
from engine.raster.texels import TexelMap, UVImage, draw_uv
from engine.tiles import Window

from .bake import Baked, Sources

NOBODY = -1  # owner of a texel that no view sees


@dataclass(frozen=True)
class Sheet:
    """A texture of side T, 22 bytes per texel. Its arrays are filled in place, step by step."""

    window: Window
    mesh: Mesh          # with UVs of this texture
    uv: UVImage
    image: np.ndarray   # f32[T,T,3] sRGB in 0..1, row 0 at v = 1
    owner: np.ndarray   # i16[T,T] the view that counts most, -1 where none sees the texel or there is none
    weight: np.ndarray  # f16[T,T] about the best view's cosine; 0 where none sees it

    @classmethod
    def blank(cls, mesh: Mesh, size: int, window: Window) -> Sheet:
        """mesh: with the common UVs of all windows."""
        own = window.of(mesh)
        image, owner = np.zeros((size, size, 3), np.float32), np.full((size, size), NOBODY, np.int16)
        return cls(window, own, draw_uv(own, size), image, owner, np.zeros((size, size), np.float16))

    def parts(self) -> Iterator[TexelMap]:
        """Its texels, a band of rows at a time."""
        for rows in self.uv.bands():
            texels = self.uv.texels(self.mesh, rows)
            if len(texels.index):
                yield texels

    def gather(self, sources: Sources) -> None:
        """Take the colours from the views."""
        image, owner, weight = self.image.reshape(-1, 3), self.owner.reshape(-1), self.weight.reshape(-1)
        for texels in self.parts():
            baked = sources.gather(texels, self.mesh)
            image[texels.index], owner[texels.index], weight[texels.index] = baked.colour, baked.owner, baked.weight

    def shown(self) -> tuple[np.ndarray, np.ndarray]:
        """How many texels stand for each triangle, and how many of them some view sees, i64[F] each."""
        ids = np.where(self.uv.ids < -1, -2 - self.uv.ids, self.uv.ids)
        count = np.bincount(ids[ids >= 0], minlength=len(self.mesh.triangles))
        return count, np.bincount(ids[(ids >= 0) & (self.owner >= 0)], minlength=len(self.mesh.triangles))

    @cached_property
    def texels(self) -> TexelMap:
        """All texels at once: 49 bytes each, for whoever measures or draws maps."""
        return self.uv.texels(self.mesh)

    @property
    def baked(self) -> Baked:
        """What the views said about `texels`, as it is in the image now."""
        index = self.texels.index
        owner = self.owner.reshape(-1)[index]
        colour = np.where((owner >= 0)[:, None], self.image.reshape(-1, 3)[index], 0)
        return Baked(colour, self.weight.reshape(-1)[index].astype(np.float32), owner)
