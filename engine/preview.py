# SPDX-License-Identifier: Apache-2.0
"""The little picture that shows how a running job is getting on."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from blender_addon.jobs.folder import atomic_write_bytes


def write_preview(path: Path, views: Tensor, tile: int = 128) -> None:
    """Write the views [N,3,H,W] (-1..1) side by side, `tile` pixels each, replacing `path` in one move."""
    small = interpolate(views.float().clamp(-1, 1), (tile, tile), mode="area")
    pixels = ((small + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    columns = math.ceil(math.sqrt(2 * len(pixels)))
    rows = math.ceil(len(pixels) / columns)
    sheet = np.full((rows * tile, columns * tile, 3), 127, np.uint8)
    for i, image in enumerate(pixels):
        row, column = divmod(i, columns)
        sheet[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile] = image
    stream = io.BytesIO()
    Image.fromarray(sheet).save(stream, "PNG", compress_level=1)
    atomic_write_bytes(path, stream.getvalue())
