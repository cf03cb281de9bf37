# SPDX-License-Identifier: Apache-2.0
"""The geometry pool: views rendered once (the slow part) and repainted many times (the cheap part).

Memory-mapped arrays, so that any number of processes fill, paint from and train on one pool while it grows:
`position` and `normal` (V,S,S,3), `depth` (V,S,S), `up` (V,3), all float16, and `ready` (V,) uint8.
The last `held_out` views are never trained on.
"""

from pathlib import Path

import numpy as np
import torch

from .geometry import Views, random_views

BATCH = 4           # views rendered together; one seed per batch, so a pool does not depend on who filled it
LEAST_OBJECT = 0.10  # smallest share of object pixels in a view


class Pool:
    def __init__(self, folder, mode="r"):
        self.folder = Path(folder)
        names = ("position", "normal", "depth", "up", "ready")
        self.arrays = {name: np.load(self.folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False) for name in names}
        self.ready, self.depth = self.arrays["ready"], self.arrays["depth"]
        self.size = self.depth.shape[1]

    def __len__(self):
        return len(self.ready)

    @classmethod
    def create(cls, folder, count, size):
        """An empty pool for `count` views of `size` pixels; an existing one of that shape is kept as it is."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        shapes = dict(position=(count, size, size, 3), normal=(count, size, size, 3), depth=(count, size, size), up=(count, 3))
        if not (folder / "ready.npy").exists():
            for name, shape in shapes.items():
                np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float16, shape)
            np.lib.format.open_memmap(folder / "ready.npy", "w+", np.uint8, (count,))
        pool = cls(folder, "r+")
        if pool.depth.shape != (count, size, size):
            raise ValueError(f"{folder} holds views {pool.depth.shape}, the recipe wants {(count, size, size)}; remove the folder")
        return pool

    def views(self, indices, device="cpu"):
        """Float32 `Views` of the given rows."""
        fields = ("position", "normal", "depth", "up")
        return Views(*(torch.from_numpy(np.ascontiguousarray(self.arrays[f][indices])).to(device).float() for f in fields))

    def fill(self, seed, worker=0, workers=1, device="cpu", held_out=64):
        """Render every batch that is this worker's and not there yet, the held-out tail first."""
        batches = list(range(0, len(self), BATCH))
        tail = -(-held_out // BATCH)
        batches = batches[-tail:] + batches[:-tail]
        for turn, start in enumerate(batches):
            rows = slice(start, min(start + BATCH, len(self)))
            if turn % workers != worker or self.ready[rows].all():
                continue
            kind = "creature" if (start // BATCH) % 4 == 3 else "pile"
            views = self._acceptable(rows.stop - rows.start, kind, torch.Generator(device).manual_seed(seed * 1_000_003 + start))
            for name in ("position", "normal", "depth", "up"):
                self.arrays[name][rows] = torch.stack([getattr(v, name) for v in views]).half().cpu().numpy()
            self.ready[rows] = 1

    def _acceptable(self, count, kind, generator):
        """`count` single views whose object is large enough to teach something."""
        kept = []
        while len(kept) < count:
            views = random_views(BATCH, self.size, generator, kind)
            large = (views.depth > 0).float().mean((1, 2)) > LEAST_OBJECT
            kept += [Views(*(getattr(views, f)[i] for f in ("position", "normal", "depth", "up"))) for i in large.nonzero()[:, 0]]
        return kept[:count]

    def trainable(self, held_out):
        """Rows that are rendered and not held out."""
        return np.flatnonzero(self.ready[: len(self) - held_out])

    def held_out(self, held_out):
        return np.arange(len(self) - held_out, len(self))
