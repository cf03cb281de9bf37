# SPDX-License-Identifier: Apache-2.0
"""What the pages of measured textures share: jobs run with one warm model, and sheets and tables of their cells."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from engine.compare import variation
from engine.measure.scores import SCORES
from engine.progress import Progress
from engine.run import run_job
from engine.serve import finish_job
from engine.trials import Run
from engine.warm import Models

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PROMPTS = ("mossy grey brick", "rusty blue metal", "polished dark wood", "red and white marble")
SEVERAL = (
    "vase",
    "chair",
    "spiky_ball",
    "rock",
    "gear",
    "cup",
    "torus_knot",
    "terrain",
    "spring",
    "mirrored",
    "fins",
    "sphere",
)


def arguments(page: str, meshes: int, seeds: int, quality: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{page}")
    parser.add_argument(
        "--meshes", type=int, default=meshes, help=f"how many of {', '.join(SEVERAL)} (default: {meshes})"
    )
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help=f"how many of {len(PROMPTS)} (default: all)")
    parser.add_argument("--seeds", type=int, default=seeds, help=f"default: {seeds}")
    parser.add_argument("--quality", default=quality, help=f"default: {quality}")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of all rows")
    parser.add_argument("--judge", type=Path, help="folder of the judge or a CLIP model")
    parser.add_argument(
        "--out", type=Path, default=ROOT / ".bench" / page, help="where cells are kept; run again to go on"
    )
    parser.add_argument(
        "--page", type=Path, default=DOCS / f"{page}.md", help="the page to write; pictures go into gallery/ beside it"
    )
    given = parser.parse_args()
    given.settings = {"quality": given.quality}
    for text in given.set:
        given.settings.update(variation(text))
    return given


def warm_run() -> Run:
    models = Models()
    return lambda folder, keep: finish_job(folder, lambda: run_job(folder, Progress([]), models, keep))


def say(line: str) -> None:
    print(line, flush=True)


def markdown(
    names: Sequence[str], rows: Mapping[str, Mapping[str, float]], first: str, best: Callable | None = None
) -> list[str]:
    """Lines of a table of scores; `best(name, values)` says which value of a column is set in bold."""
    names = [name for name in names if any(name in one for one in rows.values())]
    top = {}
    for name in names:
        values = [one[name] for one in rows.values() if name in one]
        top[name] = best(name, values) if best and len(set(values)) > 1 else None
    lines = [f"| {first} | " + " | ".join(SCORES[name][0] for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for row, one in rows.items():
        cells = [SCORES[n][2].format(one[n]) if n in one else "" for n in names]
        cells = [
            f"**{cell}**" if n in one and one[n] == top[n] and len(rows) > 1 else cell
            for n, cell in zip(names, cells, strict=True)
        ]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return lines


def sheet(path: Path, strips: Sequence[tuple[str, Path]], tiles: int = 5, width: int = 1100) -> None:
    """A JPEG of picture strips below each other, the first `tiles` views of each (and its texture), with names."""
    lines = []
    for name, file in strips:
        with Image.open(file) as picture:
            image = picture.convert("RGB")
        step = image.height + 4
        parts = [
            image.crop((i * step, 0, i * step + image.height, image.height))
            for i in range(min(tiles, image.width // step))
        ]
        if image.width > 8 * step:
            parts.append(image.crop((image.width - image.height, 0, image.width, image.height)))
        line = Image.new("RGB", ((tiles + 1) * step, image.height + 22), (243, 243, 243))
        for i, part in enumerate(parts):
            line.paste(part, (i * step, 22))
        ImageDraw.Draw(line).text((6, 3), name, (60, 60, 62), ImageFont.load_default(size=14))
        lines.append(
            np.asarray(line.resize((width, round(line.height * width / line.width)), Image.Resampling.LANCZOS))
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(lines)).save(path, "JPEG", quality=84)


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
