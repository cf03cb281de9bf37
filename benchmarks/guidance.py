# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.guidance`: what guidance does to score distillation, on swatch.

Writes docs/gallery/distilled-guidance.png and benchmarks/results/guidance.json.

Each scale, with several seeds: how far the mean colour is from that of the model's own samples (synchronized
denoising at its own guidance), how much contrast there is of theirs, how far apart the seeds are, and how much of the surface has a
channel at the end of its range. Cells are kept in `.bench/guidance`; a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from blender_addon.jobs.folder import write_job
from engine.made import Made
from engine.progress import Progress
from engine.run import run_job
from engine.texture import job_from_file
from engine.warm import Models

from .cells import DOCS, ROOT, say
from .keep import keep
from .meshes import write

SCALES = ("1", "2", "8", "30")
SAMPLES = "samples"  # not distilled
ENDS = 0.01  # of the range 0..1 of a channel
BROAD = 8  # pixels: what is larger is compared between seeds
TILE = 150


def settings_of(row: str, seed: int, prompt: str, iterations: int) -> dict:
    common = {"prompt": prompt, "quality": "draft", "views": 4, "seed": seed, "texture_size": 256, "preview_every": 0}
    if row == SAMPLES:
        return {**common, "method": "synchronized"}
    return {**common, "method": "distilled", "objective": "sds", "iterations": iterations, "guidance": float(row)}


def cell(path: Path, mesh: Path, settings: Mapping, models: Models) -> dict[str, np.ndarray]:
    """Views u8[N,H,H,3] and where they show the mesh, bool[N,H,H]; painted unless they are kept."""
    if not path.exists():
        found: list[Made] = []
        job, _ = job_from_file(mesh, settings)
        run_job(write_job(path.parent / "jobs", job), Progress([]), models, found.append)
        made = found[0]
        shown = np.zeros(made.views[:, 0].shape, bool)
        shown.ravel()[made.pairs.as_map(made.pairs.weights(1.0)[0]).columns] = True
        views = (made.views.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        np.savez_compressed(path.with_suffix(".part.npz"), views=views, shown=shown)
        path.with_suffix(".part.npz").rename(path)
        say(f"{path.stem}")
    with np.load(path, allow_pickle=False) as kept:
        return {name: kept[name] for name in ("views", "shown")}


def pixels(one: Mapping[str, np.ndarray]) -> np.ndarray:
    """Colours f32[K,3] in 0..1 of the mesh."""
    return one["views"][one["shown"]].astype(np.float32) / 255


def broad(one: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean colours f32[K,3] of the squares that lie on the mesh."""
    views, shown = one["views"].astype(np.float32) / 255, one["shown"]
    count, side, _, _ = views.shape
    squares = views.reshape(count, side // BROAD, BROAD, side // BROAD, BROAD, 3).mean((2, 4))
    inside = shown.reshape(count, side // BROAD, BROAD, side // BROAD, BROAD).mean((2, 4)) > 0.95
    return squares[inside]


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def measured(cells: Sequence[Mapping], samples: Sequence[Mapping]) -> dict[str, float]:
    target = np.mean([pixels(one).mean(0) for one in samples], 0)
    contrast = np.mean([pixels(one).std(0).mean() for one in samples])
    apart = [rms(broad(a) - broad(b)) for a, b in combinations(cells, 2)]
    ends = [float(((pixels(one) < ENDS) | (pixels(one) > 1 - ENDS)).mean()) for one in cells]
    found = {
        "colour_error": np.mean([rms(pixels(one).mean(0) - target) for one in cells]),
        "contrast": np.mean([pixels(one).std(0).mean() for one in cells]) / contrast,
        "seeds_apart": np.mean(apart),
        "at_the_ends": np.mean(ends),
    }
    return {name: round(float(value), 3) for name, value in found.items()}


def draw(path: Path, rows: Mapping[str, Sequence[Mapping]], found: Mapping[str, Mapping[str, float]]) -> None:
    """A line for each scale: a view of each seed, and the measures beside them."""
    seeds, font = len(next(iter(rows.values()))), ImageFont.load_default(size=13)
    sheet = Image.new("RGB", (seeds * TILE + 250, len(rows) * TILE), (243, 243, 243))
    pen = ImageDraw.Draw(sheet)
    for line, (row, cells) in enumerate(rows.items()):
        for seed, one in enumerate(cells):
            view = np.where(one["shown"][0][..., None], one["views"][0], 243).astype(np.uint8)
            sheet.paste(Image.fromarray(view).resize((TILE, TILE), Image.Resampling.LANCZOS), (seed * TILE, line * TILE))
        name = "the model's own samples" if row == SAMPLES else f"SDS, guidance {row}"
        words = [name, *(f"{key.replace('_', ' ')} {value:.2f}" for key, value in found[row].items())]
        pen.multiline_text((seeds * TILE + 12, line * TILE + 24), "\n".join(words), (60, 60, 62), font, spacing=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(200).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guidance", description=__doc__)
    parser.add_argument("--mesh", default="rock", help="one of benchmarks.meshes (default: rock)")
    parser.add_argument("--prompt", default="rusty blue metal")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--out", type=Path, default=ROOT / ".bench" / "guidance", help="where cells are kept")
    given = parser.parse_args()
    mesh, models = write(given.out / "meshes", [given.mesh])[0], Models()
    stem = f"{given.mesh}-{given.prompt.replace(' ', '-')}-{given.iterations}"
    rows = {}
    for row in (SAMPLES, *SCALES):
        asked = [settings_of(row, seed, given.prompt, given.iterations) for seed in range(given.seeds)]
        rows[row] = [cell(given.out / f"{stem}-{row}-{one['seed']}.npz", mesh, one, models) for one in asked]
    found = {row: measured(cells, rows[SAMPLES]) for row, cells in rows.items()}
    draw(DOCS / "gallery" / "distilled-guidance.png", rows, found)
    lowest, highest = found[SCALES[0]], found[SCALES[-1]]
    best = min(SCALES, key=lambda scale: found[scale]["colour_error"])
    answer = {name: {row: one[name] for row, one in found.items()} for name in lowest}
    keep("guidance", f"Score distillation of '{given.prompt}' on {given.mesh}, {given.seeds} seeds: what guidance does",
         {**answer, "nearest_in_colour": f"at {best}"},
         "the lowest guidance has less than half of the samples' contrast; the highest is farther off than the best",
         lowest["contrast"] < 0.5 and highest["colour_error"] > found[best]["colour_error"])  # fmt: skip


if __name__ == "__main__":
    main()
