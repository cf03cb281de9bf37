# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.edits`: a texture made by swatch and edited, by strength and within a region.

Writes docs/gallery/edit.png, and benchmarks/results/edits.json: how far each edit is from the texture it started
from, and how many texels outside of the region changed, in 8 and 16 bits (none may). Jobs are kept in `.bench/edits`; a run
that was stopped goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from blender_addon.jobs.folder import write_job
from blender_addon.jobs.png import png_bytes
from engine.mesh import Mesh
from engine.mesh_io import load_mesh
from engine.pictures import colours, read_picture
from engine.progress import Progress
from engine.raster.texels import rasterize_uv
from engine.run import run_job
from engine.texture import Pictures, job_from_file, with_pictures
from engine.warm import Models

from .cells import DOCS, ROOT, say
from .defects import TILE, camera_at, render
from .keep import keep
from .meshes import write

STRENGTHS = (0.3, 0.5, 0.7, 1.0)
SIZE = 512
EYE, MIDDLE = (2.6, -3.4, 1.6), (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Edits:
    """Where textures are kept, and what is asked of all."""

    mesh: Path
    out: Path
    models: Models

    def texture(self, name: str, settings: Mapping, files: Pictures = Pictures()) -> Path:  # noqa: B008 frozen
        """The finished texture of a job, painted unless it is kept."""
        path = self.out / f"{name}.png"
        if not path.exists():
            values, inputs = with_pictures(self.mesh, {"quality": "draft", "texture_size": SIZE, "preview_every": 0,
                                                       **settings}, files)  # fmt: skip
            job, _ = job_from_file(self.mesh, values)
            folder = write_job(self.out / "jobs", job, inputs)
            result = run_job(folder, Progress([]), self.models)
            (folder / result["images"]["base_color"]).replace(path)
            say(name)
        return path


def upper_half(mesh: Mesh, size: int) -> tuple[np.ndarray, np.ndarray]:
    """bool[T,T] twice: texels of the upper half of the surface, and all that must stay; row 0 on top.

    Texels on the rim of a chart belong to neither: they go with the point of the chart that they show.
    """
    texels = rasterize_uv(mesh, size)
    chosen, rim = np.zeros((size, size), bool), np.zeros((size, size), bool)
    height = texels.position[:, 2]
    chosen.ravel()[texels.index[height > np.median(height)]] = True
    rim.ravel()[texels.index[texels.border]] = True
    return chosen, ~chosen & ~rim


def deep(source: Path, target: Path) -> Path:
    """The same picture in 16 bits, with lowest bits that 8 bits do not have."""
    picture = colours(read_picture(source)).astype(np.uint16) * 257
    low = np.random.default_rng(0).integers(0, 100, picture.shape, dtype=np.uint16)
    target.write_bytes(png_bytes(np.where(picture < 60_000, picture + low, picture)))
    return target


def shown(path: Path) -> np.ndarray:
    picture = colours(read_picture(path))[..., :3]
    return (picture / np.float32(np.iinfo(picture.dtype).max)).astype(np.float32)


def draw(path: Path, mesh: Mesh, pictures: Mapping[str, Path], columns: int = 4) -> None:
    camera, font = camera_at(EYE, MIDDLE, 30.0), ImageFont.load_default(size=15)
    lines = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * TILE, lines * (TILE + 26)), (237, 237, 237))
    for number, (words, file) in enumerate(pictures.items()):
        left, top = number % columns * TILE, number // columns * (TILE + 26)
        sheet.paste(Image.fromarray(render(mesh, shown(file), camera)), (left, top + 26))
        ImageDraw.Draw(sheet).text((left + 8, top + 5), words, (60, 60, 62), font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(240).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edits", description=__doc__)
    parser.add_argument("--mesh", type=Path, help="a mesh file with UVs (default: the rock of benchmarks.meshes)")
    parser.add_argument("--before", default="rusty blue metal")
    parser.add_argument("--prompt", default="mossy grey stone")
    parser.add_argument("--out", type=Path, default=ROOT / ".bench" / "edits", help="where jobs are kept")
    given = parser.parse_args()
    edits = Edits(given.mesh or write(given.out / "meshes", ["rock"])[0], given.out, Models())
    mesh, _ = load_mesh(edits.mesh)
    before = edits.texture("before", {"prompt": given.before})
    again, there = {"prompt": given.prompt, "seed": 1}, Pictures(before)
    after = {strength: edits.texture(f"strength-{strength:g}", {**again, "strength": strength}, there)
             for strength in STRENGTHS}  # fmt: skip
    region, outside = upper_half(mesh, SIZE)
    mask = given.out / "mask.png"
    mask.write_bytes(png_bytes(region[..., None].astype(np.uint8) * 255))
    twice = {8: before, 16: deep(before, given.out / "before-16.png")}
    within = {bits: edits.texture(f"region-{bits}", {**again, "strength": 1.0, "feather": 12}, Pictures(file, mask))
              for bits, file in twice.items()}  # fmt: skip
    changed = {f"{bits} bits": int((colours(read_picture(file)) != colours(read_picture(twice[bits])))[outside].sum())
               for bits, file in within.items()}  # fmt: skip
    surface = rasterize_uv(mesh, SIZE).index
    moved = {f"{strength:g}": round(float(np.abs(shown(file) - shown(before)).reshape(-1, 3)[surface].mean()), 3)
             for strength, file in after.items()}  # fmt: skip
    inside = float((shown(within[8]) != shown(before))[region].any(-1).mean())
    draw(DOCS / "gallery" / "edit.png", mesh, {
        given.before: before, **{f"{given.prompt}, strength {s:g}": file for s, file in after.items()},
        "the upper half, strength 1": within[8],
    }, columns=3)  # fmt: skip
    answer = {"change": moved, "changed_outside": changed, "changed_inside": round(inside, 3)}
    keep("edits", f"'{given.before}' edited to '{given.prompt}': mean change of a colour (0..1) by strength, and texels' "
         "values outside of a region that changed", answer,
         "none outside, most inside; more strength, more change",
         not any(changed.values()) and inside > 0.8 and list(moved.values()) == sorted(moved.values()))  # fmt: skip


if __name__ == "__main__":
    main()
