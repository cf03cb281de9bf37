# SPDX-License-Identifier: Apache-2.0
"""The bake against a texture that is known: meshes painted with a colour for each point in space, rendered to views
without any diffusion, and baked back.

`python -m benchmarks.truth [FOLDER]` measures all meshes of `benchmarks.meshes` (or of a folder).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blender_addon.jobs.folder import Camera
from blender_addon.jobs.rigs import build_rig
from engine.finish import finish
from engine.measure.agreement import psnr
from engine.measure.seams import chart_ratio, find_seams, owner_ratio
from engine.mesh import Mesh
from engine.mesh_io import load_mesh
from engine.raster import Rasterizer, pick_rasterizer
from engine.raster.gbuffer import render_gbuffer
from engine.spaces.uv.screen import look, uv_per_pixel

from .keep import keep
from .meshes import write

VIEWS, SIZE, SAMPLES = 8, 512, 2
WAVES = 16
FINEST = 24.0  # pixels of a view per wave of the finest pattern, where the surface faces the view


def pattern(positions: np.ndarray, pixel: float, seed: int = 0):
    """A colour for every point in space, from smooth waves no finer than `FINEST` pixels of side `pixel` (world)."""
    random = np.random.default_rng(seed)
    direction = random.normal(size=(WAVES, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    size = float(np.linalg.norm(positions.max(0) - positions.min(0)))
    length = np.geomspace(FINEST * pixel, size / 2, WAVES)
    phase, mix = random.uniform(0, 2 * np.pi, WAVES), random.normal(size=(WAVES, 3)) / np.sqrt(WAVES)
    waves = (direction * (2 * np.pi / length)[:, None]).T

    def paint(position: np.ndarray) -> np.ndarray:
        flat = np.sin(position.reshape(-1, 3).astype(np.float64) @ waves + phase) @ mix
        return np.clip(0.5 + 0.3 * flat, 0, 1).reshape(*position.shape[:-1], 3)

    return paint


def painted(mesh: Mesh, cameras: Sequence[Camera], rasterizer: Rasterizer, size: int, paint) -> Tensor:
    """Antialiased views f32[N,3,size,size] of the painted mesh on black."""
    views = []
    for camera in cameras:
        fine = render_gbuffer(rasterizer, mesh, [camera], SAMPLES * size, SAMPLES * size)
        rgb = np.zeros((*fine.mask[0].shape, 3))
        rgb[fine.mask[0]] = paint(fine.position[0][fine.mask[0]])
        views.append(rgb.reshape(size, SAMPLES, size, SAMPLES, 3).mean((1, 3)).transpose(2, 0, 1))
    return torch.from_numpy(np.stack(views)).float()


def truth(mesh: Mesh, rasterizer: Rasterizer, size: int = SIZE, views: int = VIEWS) -> dict[str, float]:
    """PSNR in dB and chart seam ratio over the texels some view sees, at a texture whose texels are as large as pixels.

    `seam_all` counts filled texels too, `owner` is the ratio where the best view changes; `seam_true` and `owner_true`
    are the ratios of the known texture itself, which say how far an estimate of 1 may be off.
    """
    cameras = build_rig("auto", views, mesh.positions)
    buffer = render_gbuffer(rasterizer, mesh, cameras[:1], size, size)
    facing = buffer.mask[0] & (buffer.cosine[0] > 0.5)
    pixel = float(np.median(buffer.depth[0][facing])) * 2 / (cameras[0].projection[1, 1] * size)
    screen = look(mesh.positions, mesh.triangles, cameras)
    ids = rasterizer.triangle_ids(screen.clip, screen.triangles, size, size)
    area = uv_per_pixel(screen, ids, np.ascontiguousarray(mesh.uvs[mesh.triangle_uvs], np.float32))
    side = int(np.clip(np.ceil(1 / np.sqrt(area) / 64) * 64, 128, 4096))
    paint = pattern(mesh.positions, pixel)
    found = finish(painted(mesh, cameras, rasterizer, size, paint), mesh, cameras, rasterizer, side)
    texels, owner = found.texels, found.baked.owner
    seams, known = find_seams(mesh, texels), paint(texels.position).astype(np.float32)
    seen = (owner >= 0) & ~texels.border
    image = found.image.copy()
    image.reshape(-1, 3)[texels.index] = known
    got = found.image.reshape(-1, 3)[texels.index]
    covered = np.zeros(side * side, bool)
    covered[texels.index] = owner >= 0
    covered = covered.reshape(side, side)
    numbers = {
        "texture": side, "coverage": found.coverage, "psnr_db": psnr(float(((got - known)[seen] ** 2).mean())),
        "seam": chart_ratio(found.image, seams, covered), "seam_true": chart_ratio(image, seams, covered),
        "seam_all": chart_ratio(found.image, seams),
        "owner": owner_ratio(got, texels, owner), "owner_true": owner_ratio(known, texels, owner),
    }  # fmt: skip
    return {name: round(float(value), 4) for name, value in numbers.items() if value is not None}


def main(folder: Path) -> None:
    rasterizer, answer = pick_rasterizer("numba"), {}
    for path in sorted(folder.glob("*.glb")) or write(folder):
        answer[path.stem] = truth(load_mesh(path)[0], rasterizer)
        print(path.stem, answer[path.stem], flush=True)
    worst = min(one["psnr_db"] for one in answer.values())
    seam = max(one.get("seam", 1.0) for one in answer.values())
    question = (f"Views ({VIEWS} of {SIZE} px, rendered, no diffusion) of a known texture baked back: the worst mesh's "
                f"PSNR on covered texels and chart seam ratio")  # fmt: skip
    keep("truth", question, {"psnr_db": worst, "seam": seam, **{name: one["psnr_db"] for name, one in answer.items()}},
         "PSNR at least 40 dB, seam ratio at most 1.02", worst >= 40 and seam <= 1.02)  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(".bench/meshes"))
