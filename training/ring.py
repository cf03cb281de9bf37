# SPDX-License-Identifier: Apache-2.0
"""The ring of painted views: latents and captions that a painter keeps replacing and a trainer reads.

Memory-mapped, one writer and any number of readers in other processes. `latents` (R,C,h,w) float16,
`tokens` (R,L) int16, `view` (R,) int32 (the pool row), `flipped` (R,) uint8, `written` (1,) int64.
"""

from pathlib import Path

import numpy as np


class Ring:
    def __init__(self, folder, mode="r"):
        names = ("latents", "tokens", "view", "flipped", "written")
        self.arrays = {name: np.load(Path(folder) / f"{name}.npy", mmap_mode=mode, allow_pickle=False) for name in names}
        self.latents = self.arrays["latents"]

    @classmethod
    def create(cls, folder, capacity, channels, side, length):
        """An empty ring; an existing one is kept and continued."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        shapes = dict(latents=(np.float16, (capacity, channels, side, side)), tokens=(np.int16, (capacity, length)),
                      view=(np.int32, (capacity,)), flipped=(np.uint8, (capacity,)), written=(np.int64, (1,)))
        if not (folder / "written.npy").exists():
            for name, (kind, shape) in shapes.items():
                np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, shape)
        return cls(folder, "r+")

    @property
    def written(self):
        """Views painted since the beginning."""
        return int(self.arrays["written"][0])

    @property
    def capacity(self):
        return len(self.latents)

    def __len__(self):
        return min(self.written, self.capacity)

    def append(self, latents, tokens, view, flipped):
        """Write a batch of rows over the oldest."""
        rows = (self.written + np.arange(len(view))) % self.capacity
        for name, values in (("latents", latents), ("tokens", tokens), ("view", view), ("flipped", flipped)):
            self.arrays[name][rows] = values
        self.arrays["written"][0] += len(view)

    def read(self, rows):
        return {name: self.arrays[name][rows] for name in ("latents", "tokens", "view", "flipped")}
