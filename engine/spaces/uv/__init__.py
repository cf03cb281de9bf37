# SPDX-License-Identifier: Apache-2.0
"""The UV texture as a canonical space: what `N` square views of a mesh agree on.

`project` reads the texture into every view (filtered lookup), `unproject` gathers the views into it (visible pixels
only). Both are sparse maps made once; `sharpen` changes how much the best view outweighs the others in some
milliseconds. They are applied where the views live, in main memory or on a card. Applying one after the other costs as
little as their product S = P U, which is never formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from blender_addon.jobs.folder import Camera
from engine.mesh import Mesh
from engine.raster import Rasterizer
from engine.raster.texels import TexelMap, rasterize_uv
from engine.raster.visibility import visible
from engine.spaces import CanonicalSpace

from .charts import chart_ids, owner_charts
from .correspond import correspondence
from .edges import edge_distance
from .gather import UNSEEN, Pairs, texel_pairs
from .kernels import BACK_FACING
from .lookup import lookup_map
from .noise import NoiseMap, noise_map
from .octaves import octave_map
from .placed import PlacedMap, PlacedPairs
from .screen import look, uv_per_pixel
from .sparse import SparseMap

__all__ = ["UVTexture"]

STEPS = 14    # of the sharpness between 1 and 128
SHARP = 30.0  # sharpness from which on `sync` restores


class UVTexture(CanonicalSpace):
    """`M` texels of a texture of side `T`, seen in `N` views of `H x H` pixels.

    Canonical values are `z` [C,M]; views are [N,C,H,H]. A texel no view sees has no value: pixels that would read it
    are outside `mask`.
    """

    def __init__(  # noqa: PLR0913  (what a space is made of, and six numbers with defaults)
        self, mesh: Mesh, cameras: Sequence[Camera], rasterizer: Rasterizer, view_size: int,
        texture_size: int | None = None, *, channels: int = 4, power: float = 1.0, restore: bool = True,
        reach: float | None = None, steepest: float = 75.0, device: torch.device | str = "cpu",
    ):  # fmt: skip
        """Build the maps.

        texture_size: side of the texture the views meet in, unrelated to the finished texture's; None takes texels as
        large as pixels. channels: of `project_noise`. power: first exponent of the weights. restore: `sync` gives back
        what two resamplings blur. reach: feather in pixels, 1/32 of the view (at least 2) if None. steepest: degrees
        beyond which a view does not count. device: where views and canonical values live; what the maps need there is
        moved once.
        """
        self.views, self.size, self.channels, self.device = len(cameras), view_size, channels, torch.device(device)
        self.screen = look(mesh.positions, mesh.triangles, cameras)
        self.rasterizer = rasterizer
        self.corners = np.ascontiguousarray(mesh.uvs[mesh.triangle_uvs], np.float32)
        self.ids = rasterizer.triangle_ids(self.screen.clip, self.screen.triangles, view_size, view_size)
        area = uv_per_pixel(self.screen, self.ids, self.corners)
        self.texture_size, self.restore = texture_size or meeting_size(area), restore
        self.texels: TexelMap = rasterize_uv(mesh, self.texture_size)
        seen_by = visible(self.texels, mesh, cameras, rasterizer, max(1024, 2 * view_size))
        away = edge_distance(self.screen, self.ids)
        self.pairs: Pairs = texel_pairs(mesh, self.screen, self.ids, away, self.texels, seen_by,
                                        reach or max(2.0, view_size / 32), steepest)
        samples = int(np.clip(np.ceil(self.texture_size * np.sqrt(area) / 1.5), 1, 8))
        self.lookup, coverage = self._lookup(mesh, samples)
        self.mask = torch.from_numpy(coverage).to(self.device)
        without = np.flatnonzero((self.ids >= 0) & (coverage[:, 0] == 0))
        self.bare = torch.from_numpy(without).to(self.device)  # pixels of the mesh that no texel stands for
        self.whole: UVTexture | None = None  # of which this is a part
        self.power, self.made, self.shares, self.placed = power, {}, {}, None
        self.sharpen(power)

    def _lookup(self, mesh: Mesh, samples: int):
        square = (self.texture_size, self.texture_size)
        owner, slot = np.full(square, -1, np.int32), np.full(square, -1, np.int32)
        seen = self.pairs.seen()
        owner.ravel()[self.texels.index] = self.texels.triangle
        slot.ravel()[self.texels.index[seen]] = np.flatnonzero(seen)
        charts = owner_charts(chart_ids(mesh.triangle_uvs), self.corners, owner)
        return lookup_map(self.screen, self.rasterizer, self.size, samples, self.corners, charts, slot,
                          charts[self.texels.triangle])

    def sharpen(self, power: float) -> None:
        """Weigh the views by (cosine / best cosine)^power, rounded to steps of 1.4 (1 and 128 exactly).

        Making the map costs as much as applying it, so a ramp does it a few times and not in every step.
        """
        self.power = 128 ** (round(np.log(power) / np.log(128) * STEPS) / STEPS) if power > 0 else power

    @property
    def gather(self) -> SparseMap | PlacedMap:
        """The map pixels -> texels at the present sharpness."""
        return self._weighed()[0]

    @property
    def weight(self) -> Tensor:
        """The sum of weights [M] of each texel at the present sharpness, 0 where no view sees it."""
        return self._weighed()[1]

    def _weighed(self) -> tuple[SparseMap | PlacedMap, Tensor]:
        """Made when it is first needed. The last two are kept: bands go to and fro between two."""
        found = self.made.pop(self.power, None)
        if found is None and self.device.type == "cpu":
            share, weight = self.pairs.weights(self.power)
            found = self.pairs.as_map(share), torch.from_numpy(weight)
        elif found is None:
            self.placed = self.placed or PlacedPairs(self.pairs, self.device)
            found = self.placed.weighed(self.power)
        self.made = {**dict(list(self.made.items())[-1:]), self.power: found}
        return found

    def project(self, z: Tensor) -> Tensor:
        """Views [N,C,H,H] of the canonical values `z` [C,M]; 0 where the mask is 0."""
        return self._views(self.lookup(z.t()))

    def backproject(self, views: Tensor) -> Tensor:
        """The adjoint of `project`: views [N,C,H,H] -> [C,M]."""
        return self.readers(rows_of(views)).t()

    @cached_property
    def readers(self) -> SparseMap:
        """The pixels that read each texel: the lookup, transposed."""
        return self.lookup.transpose()

    def octaves(self) -> SparseMap:
        """Patterns of the surface from a quarter of its extent down to four texels; see `octaves.octave_map`."""
        return octave_map(self.texels.position)

    def unproject(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted sums [C,M] of the pixels that show each texel, and the weights [M] (0 where none does)."""
        weight = self.weight.to(views)
        if self.whole is not None:
            weight = weight * self._share().to(views)
        return self.merge(views) * weight, weight

    def merge(self, views: Tensor) -> Tensor:
        """The texture [C,M] that the views agree on: numerator over weight, 0 where no view sees it."""
        return self.gather(rows_of(views)).t()

    def sync(self, views: Tensor) -> Tensor:
        """The views of what they agree on: `project(merge(views))`, or with `restore` 2 S - S^2 instead of S.

        S blurs a little, and again in every step. With `swatch`, textures keep 0.74 to 0.99 (four prompts) of the
        finest detail of views on their own, and 0.87 to 1.13 with 2 S - S^2, for 1 dB less agreement of 30 to 37. It
        costs as much again, so it waits until the weights are sharp: before that there is no fine detail to keep.
        """
        rows = rows_of(views)
        z = self.gather(rows)
        if self.restore and self.power > SHARP:
            agreed = self.lookup(z)
            agreed[self.bare] = rows[self.bare]
            z = 2 * z - self.gather(agreed)
        return self._views(self.lookup(z))

    def _views(self, rows: Tensor) -> Tensor:
        return rows.view(self.views, self.size, self.size, -1).permute(0, 3, 1, 2)

    def project_noise(self, generator: torch.Generator) -> Tensor:
        """Fresh shared noise [N,channels,H,H] of unit variance in every pixel.

        It is drawn and projected on the generator's device, so that a seed means the same noise to the last bit wherever
        the views live; only the views' noise is moved.
        """
        return self.noise.draw(generator, self.channels).to(self.device)

    @cached_property
    def noise(self) -> NoiseMap:
        return self._make_noise()

    def _make_noise(self) -> NoiseMap:
        return noise_map(self.screen, self.rasterizer, self.corners, self.size)

    def only(self, views: Sequence[int]) -> UVTexture:
        """The same texture seen by some of the views; texels that only others see keep their pixels."""
        part = copy(self)
        part.whole = self if self.whole is None else self.whole
        for name in ("noise", "readers"):
            part.__dict__.pop(name, None)
        part.views, part.ids, part.mask = len(views), self.ids[list(views)], self.mask[list(views)]
        part.screen, part.pairs = self.screen.only(views), self.pairs.only(views)
        part.lookup = self.lookup.parts(self.size**2, views)
        without = np.flatnonzero((part.ids >= 0) & (part.mask[:, 0].cpu().numpy() == 0))
        part.bare = torch.from_numpy(without).to(self.device)
        part._make_noise = lambda: self.noise.only(views)
        part.made, part.shares, part.placed = {}, {}, None
        return part

    def _share(self) -> Tensor:
        """Best weight [M] among these views over the best among all: so that parts add up to the whole."""
        if self.power not in self.shares:
            best = self.pairs.best(self.power)
            share = np.exp(best - self.whole.pairs.best(self.power)) * (best > UNSEEN)
            self.shares = {self.power: torch.from_numpy(share).to(self.device)}
        return self.shares[self.power]

    def facing(self) -> Tensor:
        """Cosine [N,M] between the smooth surface and the way to each view, less near edges: 0..1, 0 where unseen.

        A hundredth of it where a view looks at the back of the surface, as in the weights.
        """
        texel, view, toward = self.pairs.texel(), self.pairs.view, self.screen.toward
        seen = self.pairs.trust > UNSEEN
        straight = np.exp(self.pairs.steep) * seen
        way = toward[view, :3] - toward[view, 3:] * self.texels.position[texel]
        straight *= np.where((way * self.texels.normal[texel]).sum(1) > 0, 1, BACK_FACING)
        facing = np.zeros((self.views, self.pairs.texels), np.float32)
        facing[view, texel] = straight
        return torch.from_numpy(facing).to(self.device)

    def correspond(self, i: int, j: int) -> tuple[Tensor, Tensor]:
        """Where view `i`'s pixels are in view `j`: f32[H,H,2] (x right, y down, pixel centres at .5), and bool[H,H]."""
        return correspondence(self.screen, self.ids, i, j)


def rows_of(views: Tensor) -> Tensor:
    """Views [N,C,H,H] as pixels [N*H*H,C]; no copy where they lie in memory like that already."""
    return views.permute(0, 2, 3, 1).reshape(-1, views.shape[1])


def meeting_size(area: float) -> int:
    """Texture side with texels as large as pixels, for a median UV area behind a pixel; a multiple of 16.

    1.25 and 1.5 texels per pixel side keep 2 and 3 % more of the finest detail, and cost 1.3 and 1.7 times as much. At
    least 256: small charts need texels.
    """
    if area <= 0:
        return 256
    return int(np.clip(np.ceil(1 / np.sqrt(area) / 16) * 16, 256, 4096))
