# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.defects [NAME ...]`: each defect of a bake, without and with what is done about it.

Writes docs/gallery/fidelity-*.png.

The views are rendered from a painted mesh and then spoilt as a model spoils them: tinted, shifted, with soft silhouettes.
Both halves of a picture are renders of the finished texture from the same camera, unlit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from blender_addon.jobs.folder import Camera
from blender_addon.jobs.rigs import build_rig, look_at, perspective
from engine.finish import Sheet, fill_sheets, finish, level_seams, pad_charts, prepare
from engine.finish import bake as baking
from engine.finish.contact import sample
from engine.finish.image import to_bytes, write_png
from engine.finish.light import flatten_light
from engine.mesh import Mesh
from engine.raster import pick_rasterizer
from engine.raster.gbuffer import render_gbuffer
from engine.spaces.uv import UVTexture
from engine.tiles import PLAIN

from . import meshes
from .truth import painted

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"
RASTERIZER = pick_rasterizer("numba")
TILE, VIEW = 300, 256
Picture = tuple[str, np.ndarray]


def planks(position: np.ndarray) -> np.ndarray:
    """Painted wood: boards with joints and grain, a colour for each point in space."""
    x, y, z = (position[..., k].astype(np.float64) for k in range(3))
    board = np.floor(z / 0.25)
    grain = np.sin(40 * z + 5 * np.sin(3 * x + 2 * y + 4 * board)) * 0.07
    joint = np.where(np.abs(z / 0.25 - board - 0.5) > 0.45, -0.28, 0.0)
    warm = 0.08 * np.sin(12.9 * board)
    return np.clip(np.array([0.68, 0.47, 0.28]) + (grain + joint + warm)[..., None] * [1, 0.9, 0.7], 0.02, 1)


def stage(mesh: Mesh, views: int = 8, paint: Callable = planks) -> tuple[tuple[Camera, ...], Tensor]:
    cameras = build_rig("auto", views, mesh.positions)
    return cameras, painted(mesh, cameras, RASTERIZER, VIEW, paint)


def render(mesh: Mesh, image: np.ndarray, camera: Camera) -> np.ndarray:
    """u8[TILE,TILE,3], four lookups to a pixel."""
    buffer = render_gbuffer(RASTERIZER, mesh, [camera], 2 * TILE, 2 * TILE)
    colour = np.where(buffer.mask[0][..., None], sample(image, buffer.uv[0]), 0.93)
    return to_bytes(colour.reshape(TILE, 2, TILE, 2, 3).mean((1, 3)))


def camera_at(eye, target, fov: float = 24.0) -> Camera:
    return Camera("close", look_at(np.array(eye, float), np.array(target, float)), perspective(fov, 0.1, 30))


def tinted(views: Tensor, amount: float = 0.06, seed: int = 1) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return (views + amount * torch.randn(len(views), 3, 1, 1, generator=random)).clamp(0, 1)


def averaged(mesh: Mesh, space: UVTexture, views: Tensor, power: float = 1.0) -> np.ndarray:
    """The texture f32[T,T,3] that is the mean of the views, with weights of sharpness `power`, and nothing else."""
    sheet = Sheet.blank(mesh, space.texture_size, PLAIN[0])
    pixels = views.permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    sheet.image.reshape(-1, 3)[space.texels.index] = space.pairs.collect(space.pairs.weights(power)[0], pixels)
    sheet.owner.reshape(-1)[space.texels.index[space.pairs.seen()]] = 0
    fill_sheets([sheet])
    return pad_charts(sheet.image, sheet.uv.ids != -1)


def seam() -> list[Picture]:
    mesh = meshes.packed(meshes.box((1.6, 1.6, 1.6)))
    cameras, views = stage(mesh)
    sheet = Sheet.blank(mesh, 512, PLAIN[0])
    sheet.gather(prepare(views, mesh, cameras, RASTERIZER))
    fill_sheets([sheet])
    tint = 0.06 * np.random.default_rng(1).normal(size=(6, 3))  # each face from a view of its own
    image, texels = sheet.image.reshape(-1, 3), sheet.texels
    image[texels.index] = np.clip(image[texels.index] + tint[texels.triangle // 8], 0, 1)
    close, before = camera_at((2.4, -2.4, 1.2), (0.8, -0.8, 0.1), 26), sheet.image.copy()
    level_seams(mesh, [sheet])
    return [("two charts that meet", render(mesh, before, close)), ("levelled along the seam", render(mesh, sheet.image, close))]


def owners() -> list[Picture]:
    mesh = meshes.torus_knot()
    cameras, views = stage(mesh)
    close = camera_at((0.3, -3.4, 1.6), (0.0, -0.3, 0.1), 22)
    views = tinted(views, 0.08)
    plain = averaged(mesh, UVTexture(mesh, cameras, RASTERIZER, VIEW, 768), views, 128.0)
    best = finish(views, mesh, cameras, RASTERIZER, 768).image
    return [("the best view wins", render(mesh, plain, close)), ("tones matched, borders soft", render(mesh, best, close))]


def ghosting() -> list[Picture]:
    mesh = meshes.vase()
    cameras, views = stage(mesh)
    random = np.random.default_rng(0)
    moved = torch.stack([torch.roll(view, tuple(random.integers(-6, 7, 2).tolist()), (1, 2)) for view in views])
    close = camera_at((1.6, -3.0, 0.6), (0.1, 0, 0.0), 26)
    space = UVTexture(mesh, cameras, RASTERIZER, VIEW, 768)
    mean = averaged(mesh, space, moved)
    best = finish(moved, mesh, cameras, RASTERIZER, 768).image
    return [("mean of the views", render(mesh, mean, close)), ("detail from one view", render(mesh, best, close))]


def sharpness() -> list[Picture]:
    mesh = meshes.vase()
    cameras, views = stage(mesh)
    close = camera_at((1.0, -1.9, 0.3), (0.35, -0.3, -0.15), 16)
    sheet = Sheet.blank(mesh, 1024, PLAIN[0])
    sources = prepare(views, mesh, cameras, RASTERIZER)
    sheet.gather(baking.replace(sources, away=np.minimum(sources.away, 1.4)))  # all of it as if near an edge
    pad_charts(sheet.image, sheet.uv.ids != -1, into=sheet.image)
    best = finish(views, mesh, cameras, RASTERIZER, 1024).image
    return [("read bilinearly", render(mesh, sheet.image, close)), ("read with splines", render(mesh, best, close))]


def bleed() -> list[Picture]:
    mesh = meshes.chair()
    cameras, views = stage(mesh, 8)
    mask = torch.from_numpy(np.stack([render_gbuffer(RASTERIZER, mesh, [c], VIEW, VIEW).mask[0] for c in cameras]))[:, None]
    green = torch.tensor([0.25, 0.95, 0.3])[:, None, None]
    laid = torch.where(mask, views, green)
    soft = avg_pool2d(torch.nn.functional.pad(laid, (1, 1, 1, 1), mode="replicate"), 3, 1)  # soft silhouettes
    edge = interpolate(avg_pool2d(mask.float(), 3, 1, 1), (VIEW, VIEW)) < 0.99
    laid = torch.where(edge & mask, soft, laid)
    close = camera_at((2.2, -3.4, 1.9), (0.3, -0.35, 0.0), 11)
    space = UVTexture(mesh, cameras, RASTERIZER, VIEW, 768, reach=1e-3)
    plain = averaged(mesh, space, laid)
    best = finish(laid, mesh, cameras, RASTERIZER, 768).image
    return [("pixels as they are", render(mesh, plain, close)), ("rims cleaned, edges feathered", render(mesh, best, close))]


def unseen() -> list[Picture]:
    mesh = meshes.cup()
    cameras, views = stage(mesh, 4)
    close = camera_at((1.2, -1.6, 3.0), (0.05, 0.0, 0.0), 30)
    sheet = Sheet.blank(mesh, 768, PLAIN[0])
    sheet.gather(prepare(views, mesh, cameras, RASTERIZER))
    before = pad_charts(sheet.image, (sheet.uv.ids != -1) & (sheet.owner >= 0), 64)
    best = finish(views, mesh, cameras, RASTERIZER, 768).image
    return [("nearest colours in the UV map", render(mesh, before, close)), ("filled along the surface", render(mesh, best, close))]


def mips() -> list[Picture]:
    mesh = meshes.rock()
    cameras, views = stage(mesh)
    far = camera_at((2.6, -3.6, 1.6), (0, 0, 0), 32)
    done = finish(views, mesh, cameras, RASTERIZER, 1024)
    bare = np.where((done.sheet.uv.ids >= 0)[..., None], done.image, 0)

    def mip(image):
        for _ in range(3):
            image = image.reshape(len(image) // 2, 2, -1, 2, 3).mean((1, 3))
        return image

    return [("third mip level, no padding", render(mesh, mip(bare), far)), ("padded", render(mesh, mip(done.image), far))]


def light() -> list[Picture]:
    mesh = meshes.rock()
    cameras = build_rig("auto", 8, mesh.positions)
    lamp = np.array([0.4, -0.5, 0.77])
    views = []
    for camera, view in zip(cameras, painted(mesh, cameras, RASTERIZER, VIEW, planks), strict=True):
        buffer = render_gbuffer(RASTERIZER, mesh, [camera], VIEW, VIEW)
        shade = (0.45 + 0.75 * np.maximum(buffer.normal[0] @ lamp, 0)) ** (1 / 2.2)
        views.append((view * torch.from_numpy(np.where(buffer.mask[0], shade, 1)).float()).clamp(0, 1))
    close = camera_at((2.6, -3.6, 1.0), (0, 0, 0), 32)
    lit = finish(torch.stack(views), mesh, cameras, RASTERIZER, 768)
    before = lit.image.copy()
    flatten_light([lit.sheet], 1.0)
    return [("light in the texture", render(mesh, before, close)), ("what follows the normal taken off", render(mesh, lit.image, close))]


DEFECTS = {f.__name__: f for f in (seam, owners, ghosting, sharpness, bleed, unseen, mips, light)}


def main(names: Sequence[str] = ()) -> None:
    font = ImageFont.load_default(size=14)
    for name in names or DEFECTS:
        pair = DEFECTS[name]()
        sheet = Image.new("RGB", (2 * TILE + 30, TILE + 44), "white")
        pen = ImageDraw.Draw(sheet)
        for i, (words, picture) in enumerate(pair):
            sheet.paste(Image.fromarray(picture), (10 + i * (TILE + 10), 10))
            pen.text((10 + i * (TILE + 10) + TILE // 2, TILE + 26), words, "black", font, "mm")
        write_png(GALLERY / f"fidelity-{name}.png", np.asarray(sheet))
        print(name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
