# SPDX-License-Identifier: Apache-2.0
"""Bake, fill, seams and padding: how long they take, how that grows, and how much memory they need.

`python -m benchmarks.bench_finish` measures each point in a process of its own and writes results/finish.json and
docs/gallery/finish-cost.png. Seconds are of the processor, on one thread: the machine is shared.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from blender_addon.jobs.rigs import build_rig
from engine.finish import Sheet, covered_share, fill_sheets, level_borders, level_seams, pad_charts, prepare
from engine.finish.image import write_png
from engine.raster import pick_rasterizer
from engine.tiles import PLAIN

from .keep import keep
from .shapes import bumpy_torus

VIEW = 512
STANDARD = {"side": 4096, "views": 8, "triangles": 500_000}
GROWTH = {
    "side": (1024, 2048, 4096, 8192),
    "views": (4, 8, 16),
    "triangles": (20_000, 100_000, 500_000, 2_000_000),
}
PLOT = Path(__file__).parents[1] / "docs" / "gallery" / "finish-cost.png"


def peak() -> float:
    """MB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def now() -> float:
    """MB that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def measure(side: int, views: int, triangles: int) -> dict[str, float]:
    """Seconds of each step, and the memory that was added to what mesh and views take."""
    columns = max(int(round((triangles / 2 * 4) ** 0.5)), 8)
    mesh, rasterizer = bumpy_torus(columns, max(triangles // 2 // columns, 4)), pick_rasterizer("numba")
    cameras = build_rig("auto", views, mesh.positions)
    images = torch.rand(views, 3, VIEW, VIEW, generator=torch.Generator().manual_seed(0))
    warm = bumpy_torus(24, 8)
    finished = Sheet.blank(warm, 64, PLAIN[0])  # compiles or loads the kernels
    finished.gather(prepare(images[:2], warm, cameras[:2], rasterizer))
    level_borders(warm, [finished]), fill_sheets([finished]), level_seams(warm, [finished]), pad_charts(finished.image, finished.uv.ids != -1)
    seconds, mark = {}, time.process_time()

    def lap(name: str) -> None:
        nonlocal mark
        seconds[name], mark = time.process_time() - mark, time.process_time()

    sources = prepare(images, mesh, cameras, rasterizer)
    lap("views")
    before = now()
    sheet = Sheet.blank(mesh, side, PLAIN[0])
    lap("uv map")
    sheet.gather(sources)
    covered_share(mesh, [sheet])
    lap("bake")
    level_borders(mesh, [sheet])
    lap("borders")
    fill_sheets([sheet])
    lap("fill")
    level_seams(mesh, [sheet])
    lap("seams")
    pad_charts(sheet.image, sheet.uv.ids != -1, 16, into=sheet.image)
    lap("padding")
    texture = side * side * 3 * 4 / 2**20
    return {**seconds, "all": sum(seconds.values()), "memory_mb": max(peak() - before, 0.0), "texture_mb": texture,
            "triangles": len(mesh.triangles), "unseen": float((sheet.owner[sheet.uv.ids != -1] < 0).mean())}  # fmt: skip


def point(**changed: int) -> dict[str, float]:
    return _point(json.dumps({**STANDARD, **changed}))


@cache
def _point(wanted: str) -> dict[str, float]:
    """`measure` in a process of its own, on one thread."""
    command = [sys.executable, "-m", "benchmarks.bench_finish", wanted]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    print(wanted, found.stdout.splitlines()[-1], flush=True)
    return {key: round(value, 3) for key, value in json.loads(found.stdout.splitlines()[-1]).items()}


def main() -> None:
    found = {name: {value: point(**{name: value}) for value in values} for name, values in GROWTH.items()}
    standard = found["side"][STANDARD["side"]]
    times = standard["memory_mb"] / standard["texture_mb"]
    answer = {"seconds": {k: v for k, v in standard.items() if k in ("views", "uv map", "bake", "borders", "fill", "seams", "padding", "all")},
              "memory_over_texture": round(times, 2),
              **{f"seconds_by_{name}": {str(k): v["all"] for k, v in points.items()} for name, points in found.items()},
              "memory_over_texture_by_side": {str(k): round(v["memory_mb"] / v["texture_mb"], 2) for k, v in found["side"].items()}}
    keep("finish", "Bake, fill, seams and padding of a 4096 px texture from 8 views of 512 px of 500,000 triangles (processor "
         "seconds, one thread), how it grows, and memory beside views and mesh over the texture's own 12 bytes a texel",
         answer, "memory at most 4 times the texture", times <= 4)  # fmt: skip
    draw(found)


def draw(found: dict[str, dict[int, dict[str, float]]]) -> None:
    """Three plots of seconds side by side, both axes logarithmic, the line of proportional growth in grey."""
    wide, high, gap = 330, 300, 56
    sheet = Image.new("RGB", (3 * (wide + gap) + gap, high + 2 * gap), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    every = [row["all"] for points in found.values() for row in points.values()]
    low, top = np.log(min(every) / 1.5), np.log(max(every) * 1.5)
    for i, (name, points) in enumerate(found.items()):
        left, floor = gap + i * (wide + gap), gap // 2 + high
        x = np.log(np.array(list(points), float))
        y = np.log([row["all"] for row in points.values()])
        place = [(left + (a - x[0]) / (x[-1] - x[0]) * wide, floor - (b - low) / (top - low) * high) for a, b in zip(x, y, strict=True)]
        pen.rectangle((left, gap // 2, left + wide, floor), outline="#cccccc")
        start = y[-1] - (x[-1] - x) * (2 if name == "side" else 1)
        pen.line([(p[0], min(floor - (b - low) / (top - low) * high, floor)) for p, b in zip(place, start, strict=True)], "#cccccc", 2)
        pen.line(place, "#2060a0", 3)
        for (px, py), (value, row) in zip(place, points.items(), strict=True):
            pen.ellipse((px - 4, py - 4, px + 4, py + 4), fill="#2060a0")
            pen.text((px, py - 10), f"{row['all']:.1f} s", "black", font, "ms")
            pen.text((px, floor + 6), f"{value:,}", "black", font, "mt")
        pen.text((left + wide / 2, floor + 28), {"side": "side of the texture", "views": "views", "triangles": "triangles"}[name],
                 "black", font, "mt")  # fmt: skip
    write_png(PLOT, np.asarray(sheet))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(**json.loads(sys.argv[1]))))
    else:
        main()
