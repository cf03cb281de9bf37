# SPDX-License-Identifier: Apache-2.0
"""A sheet of renders from eight directions, textured and grey: what the artist looks at first.

The cameras are not the ones the texture was made with, and a soft light from the camera lets the shape read; the
grey render has the same light, so a difference between the two is the texture.
"""

from __future__ import annotations

from math import radians, tan
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from blender_addon.jobs.folder import Camera
from blender_addon.jobs.rigs import look_at, perspective
from engine.cameras import stack
from engine.mesh import Mesh
from engine.raster import Rasterizer
from engine.raster.gbuffer import GBuffer, render_gbuffer

from .image import to_bytes, write_png

DIRECTIONS = (("front", 0, 8), ("front right", 45, 30), ("right", 90, 8), ("back right", 135, -20),
              ("back", 180, 8), ("back left", 225, 30), ("left", 270, 8), ("front left", 315, -20))
FOV = 28.0          # degrees
FILLED = 0.94       # of the tile
PAPER = 243           # of 255
INK = (70, 70, 72)
GREY = np.float32(0.72)
KEY = np.array([-0.35, 0.5, 1.0])  # the light's direction in camera space


def contact_sheet(mesh: Mesh, texture: np.ndarray, path: Path, rasterizer: Rasterizer, tile: int = 320) -> None:
    """Write the sheet of 4 by 4 tiles: textured above grey. texture: f32[T,T,3] sRGB in 0..1. Cost: 1 s."""
    cameras = sheet_cameras(mesh.positions)
    buffer = render_gbuffer(rasterizer, mesh, cameras, 2 * tile, 2 * tile)
    light = shade(buffer, mesh, cameras)
    small = shrink(texture, buffer.footprint[buffer.mask])
    rows = tall(buffer.mask)
    textured = [paint(sample(small, uv), lit, mask)
                for uv, lit, mask in zip(buffer.uv, light, buffer.mask, strict=True)]
    grey = [paint(np.full((*lit.shape, 3), GREY), lit, mask) for lit, mask in zip(light, buffer.mask, strict=True)]
    write_png(path, lay_out([t[rows] for t in textured], [g[rows] for g in grey], tile))


def tall(mask: np.ndarray) -> slice:
    """The rows of the tiles, half the size of mask bool[N,2h,2w], that any view uses, and some air: flat things need no
    square tiles."""
    used = np.flatnonzero(mask.any((0, 2))) // 2
    size, air = mask.shape[1] // 2, mask.shape[1] // 40
    return slice(max(int(used[0]) - air, 0), min(int(used[-1]) + 1 + air, size)) if len(used) else slice(size)


def sheet_cameras(positions: np.ndarray) -> list[Camera]:
    """Eight cameras at one distance, the nearest at which every view fits."""
    centre = (positions.min(0).astype(np.float64) + positions.max(0)) / 2
    points, slope = positions - centre, FILLED * tan(radians(FOV) / 2)
    size = max(float(np.linalg.norm(points, axis=1).max()), 1e-9)
    placed, distance = [], 0.0
    for name, azimuth, elevation in DIRECTIONS:
        turn, rise = radians(azimuth), radians(elevation)
        toward = np.array([np.sin(turn) * np.cos(rise), -np.cos(turn) * np.cos(rise), np.sin(rise)])
        right, up, back = (points @ axis for axis in look_at(toward, np.zeros(3))[:3, :3])
        distance = max(distance, float((np.maximum(np.abs(right), np.abs(up)) / slope + back).max()))
        placed.append((name, toward))
    distance = max(distance, 1.05 * size)
    lens = perspective(FOV, 0.5 * (distance - size), distance + 1.5 * size)
    return [Camera(name, look_at(centre + distance * toward, centre), lens) for name, toward in placed]


def shade(buffer: GBuffer, mesh: Mesh, cameras: list[Camera]) -> np.ndarray:
    """Brightness f32[N,H,W], linear: a soft light beside the camera, from either side of a face."""
    view = stack(cameras)[0]
    light = np.zeros(buffer.mask.shape, np.float32)
    for i, inside in enumerate(buffer.mask):
        triangle, weights = buffer.triangle[i][inside], buffer.barycentrics[i][inside]
        smooth = np.einsum("pk,pkd->pd", weights, mesh.normals[triangle])
        eye = np.linalg.inv(view[i])[:3, 3]
        facing = ((eye - buffer.position[i][inside]) * smooth).sum(1, keepdims=True)
        smooth = np.where(facing < 0, -smooth, smooth) @ view[i, :3, :3].T
        smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-9)
        light[i][inside] = 0.38 + 0.66 * np.maximum(smooth @ (KEY / np.linalg.norm(KEY)), 0)
    return light


def shrink(texture: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """The texture halved until its texels are about the size of the pixels that show it."""
    area = float(np.median(footprint[footprint > 0])) if (footprint > 0).any() else 0.0
    while len(texture) % 2 == 0 and area * len(texture) ** 2 > 3.0:
        texture = texture.reshape(len(texture) // 2, 2, -1, 2, 3).mean((1, 3))
    return texture


def sample(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear lookup f32[...,3] at uv f32[...,2]; edges repeat their last texel."""
    size = len(texture)
    column, row = uv[..., 0] * size - 0.5, (1 - uv[..., 1]) * size - 0.5
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    fx, fy = (column - left)[..., None], (row - top)[..., None]
    c0, c1, r0, r1 = (np.clip(a, 0, size - 1) for a in (left, left + 1, top, top + 1))
    upper = texture[r0, c0] * (1 - fx) + texture[r0, c1] * fx
    lower = texture[r1, c0] * (1 - fx) + texture[r1, c1] * fx
    return upper * (1 - fy) + lower * fy


def paint(colour: np.ndarray, light: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """One tile u8[h,w,3] at half size: sRGB colours [2h,2w,3] lit in linear light, on paper."""
    linear = np.where(inside[..., None], colour.clip(0, 1) ** 2.2 * light[..., None], (PAPER / 255) ** 2.2)
    h, w = inside.shape[0] // 2, inside.shape[1] // 2
    return to_bytes(linear.reshape(h, 2, w, 2, 3).mean((1, 3)).clip(0, 1) ** (1 / 2.2))


def lay_out(textured: list[np.ndarray], grey: list[np.ndarray], tile: int) -> np.ndarray:
    """Rows of four: textured, grey below, names below that. Images u8[h,tile,3]."""
    gap, label, high = tile // 40, tile // 10, len(textured[0])
    columns, pair = 4, 2 * high + label + gap
    height = (len(textured) // columns) * (pair + 2 * gap) + gap
    sheet = Image.new("RGB", (columns * (tile + gap) + gap, height), (PAPER,) * 3)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=max(label * 0.55, 8))
    for i, (above, below) in enumerate(zip(textured, grey, strict=True)):
        left, top = gap + (i % columns) * (tile + gap), gap + (i // columns) * (pair + 2 * gap)
        sheet.paste(Image.fromarray(above), (left, top))
        sheet.paste(Image.fromarray(below), (left, top + high + gap))
        pen.text((left + tile // 2, top + 2 * high + gap + label // 2), DIRECTIONS[i][0], INK, font, anchor="mm")
    return np.asarray(sheet)
