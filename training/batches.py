# SPDX-License-Identifier: Apache-2.0
"""Training batches: random windows of painted views and whole views, with the depth the ControlNet sees."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Batch:
    latents: torch.Tensor   # (B,C,h,w)
    tokens: torch.Tensor    # (B,L)
    depth: torch.Tensor     # (B,3,p·h,p·w) in 0..1, cut from the depth of the whole view
    weight: torch.Tensor    # (B,1,h,w) loss weight, mean 1


class Batches:
    """Draws from a pool and its two rings with its own generator."""

    def __init__(self, recipe, pool, full, half, device="cpu"):
        self.recipe, self.pool, self.full, self.half, self.device = recipe, pool, full, half, device
        self.seed(0)

    def seed(self, seed):
        self.random = np.random.default_rng(seed)

    def draw(self, progress):
        """The next batch at `progress` 0..1 of the run: windows first, whole views in the last stretch."""
        recipe = self.recipe
        if progress >= recipe.full_from or self.random.random() < recipe.full_share:
            return self.whole(recipe.full_batch)
        return self.windows(recipe.batch)

    def whole(self, count):
        row = self._rows(self.full, count)
        return self._batch(row["latents"], row["tokens"], self._depth(row))

    def windows(self, count):
        """Half-side windows of whole views, mixed with whole views painted at half size."""
        small = int((self.random.random(count) < self.recipe.half_share).sum()) if len(self.half) else 0
        row = self._rows(self.full, count - small)
        depth, side, patch = self._depth(row), self.recipe.latent // 2, self.recipe.patch
        latents, depths = [], []
        for z, d in zip(row["latents"], depth):
            corners = self.random.integers(0, side + 1, (2, 2))
            cuts = [d[y * patch : (y + side) * patch, x * patch : (x + side) * patch] for y, x in corners]
            fuller = int((cuts[1] > 0).mean() > (cuts[0] > 0).mean())       # windows lean towards the object
            y, x = corners[fuller]
            latents.append(z[:, y : y + side, x : x + side])
            depths.append(cuts[fuller])
        tokens = row["tokens"]
        if small:
            row = self._rows(self.half, small)
            latents += list(row["latents"])
            depths += [d[1::2, 1::2] for d in self._depth(row)]
            tokens = np.concatenate([tokens, row["tokens"]])
        return self._batch(np.stack(latents), tokens, np.stack(depths))

    def _rows(self, ring, count):
        return ring.read(np.sort(self.random.integers(0, len(ring), count)))

    def _depth(self, row):
        depth = np.asarray(self.pool.depth[row["view"]])
        flipped = row["flipped"].astype(bool)
        depth[flipped] = depth[flipped, :, ::-1]
        return depth

    def _batch(self, latents, tokens, depth):
        depth = torch.from_numpy(depth).to(self.device).float()[:, None]
        weight = F.avg_pool2d((depth > 0).float(), self.recipe.patch) + self.recipe.background_weight
        return Batch(torch.from_numpy(latents).to(self.device).float(), torch.from_numpy(tokens).to(self.device).long(),
                     depth.expand(-1, 3, -1, -1), weight / weight.mean())
