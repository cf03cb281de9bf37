# SPDX-License-Identifier: Apache-2.0
"""The little picture that shows how a running job is getting on, and when it is taken."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from blender_addon.jobs.folder import PREVIEW_FILE, atomic_write_bytes
from engine.progress import Progress


def write_preview(path: Path, views: Tensor, tile: int = 128) -> None:
    """Write the views [N,3,H,W] (-1..1) side by side, `tile` pixels each, replacing `path` in one move."""
    small = interpolate(views.float().clamp(-1, 1), (tile, tile), mode="area")
    pixels = ((small + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    rows = max(1, round(math.sqrt(len(pixels) / 2)))  # about twice as wide as high, with few empty places
    columns = math.ceil(len(pixels) / rows)
    sheet = np.full((rows * tile, columns * tile, 3), 127, np.uint8)
    for i, image in enumerate(pixels):
        row, column = divmod(i, columns)
        sheet[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile] = image
    stream = io.BytesIO()
    Image.fromarray(sheet).save(stream, "PNG", compress_level=1)
    atomic_write_bytes(path, stream.getvalue())


class Watcher:
    """Told by a method how far it is: reports steps, and takes a preview each time `every` view denoisings are done."""

    def __init__(self, folder: Path, progress: Progress, every: int):
        self.folder, self.progress, self.every = folder, progress, every
        self.done = 0
        self._shown = 0

    def part(self, before: int, total: int) -> Callable[[int, int, Callable[[], Tensor]], None]:
        """What one of several passes is told to tell: it counts its own view denoisings, of `total` after `before`."""
        return lambda done, _, images: self(before + done, total, images)

    def __call__(self, done: int, total: int, images: Callable[[], Tensor]) -> None:
        self.done = done
        self.progress.step(done, total)
        if self.every and done - self._shown >= self.every and done < total:
            self._shown = done
            write_preview(self.folder / PREVIEW_FILE, images())
            self.progress.emit("preview", file=PREVIEW_FILE, i=done, n=total)
