# SPDX-License-Identifier: Apache-2.0
"""The textured mesh turning once, as an animated WebP: frame after frame, so that memory does not grow with their number.

Seen and lit as on the contact sheet: the camera goes around, and the soft light goes with it.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from blender_addon.jobs.files import atomic_write_bytes
from blender_addon.jobs.folder import Camera
from blender_addon.jobs.rigs import rig_at
from engine.mesh import Mesh
from engine.raster import Rasterizer
from engine.raster.gbuffer import render_gbuffer

from .contact import paint, sample, shade, shrink

SIDE = 512        # pixels
SECONDS = 6.0     # of one turn
ELEVATION = 12.0  # degrees
QUALITY = 85      # of 100, WebP's own scale


def turntable(mesh: Mesh, texture: np.ndarray, path: Path, rasterizer: Rasterizer, frames: int,
              step: Callable[[int, int], None], side: int = SIDE) -> None:
    """Write `frames` frames of one turn that takes SECONDS and repeats. texture: f32[T,T,3] sRGB in 0..1.

    `step` is told of each frame that is done and may raise to end it; the file is whole or not there. UserError if
    there is no room for it.
    """
    cameras = turn(mesh.positions, frames)
    small = None

    def draw(number: int) -> Image.Image:
        nonlocal small
        buffer = render_gbuffer(rasterizer, mesh, cameras[number : number + 1], 2 * side, 2 * side)
        if small is None:  # one size for all, so that nothing flickers
            small = shrink(texture, buffer.footprint[buffer.mask])
        light, inside = shade(buffer, mesh, cameras[number : number + 1])[0], buffer.mask[0]
        colour = np.zeros((*inside.shape, 3), np.float32)
        colour[inside] = sample(small, buffer.uv[0][inside])
        step(number + 1, frames)
        return Image.fromarray(paint(colour, light, inside))

    file = BytesIO()
    _Drawn(draw, frames).save(file, "WEBP", save_all=True, duration=[round(1000 * SECONDS / frames)] * frames, loop=0,
                              quality=QUALITY, method=3)  # fmt: skip
    atomic_write_bytes(path, file.getvalue())


def turn(positions: np.ndarray, frames: int) -> tuple[Camera, ...]:
    """Cameras around the mesh in even steps from the front, at one distance."""
    return rig_at([(360.0 * i / frames, ELEVATION) for i in range(frames)], positions)


class _Drawn(Image.Image):
    """A picture of several frames, each drawn when it is sought: Pillow's encoders take one at a time."""

    format = None

    def __init__(self, draw: Callable[[int], Image.Image], frames: int):
        super().__init__()
        self.draw, self.n_frames, self.frame = draw, frames, -1
        self.seek(0)

    def seek(self, frame: int) -> None:
        if frame <= self.frame:  # the encoder goes back when it is done
            return
        picture = self.draw(frame)
        self._mode, self._size, self.im, self.frame = picture.mode, picture.size, picture.im, frame

    def tell(self) -> int:
        return self.frame
