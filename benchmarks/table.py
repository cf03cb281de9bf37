# SPDX-License-Identifier: Apache-2.0
"""docs/performance.md and its plot from what is kept in benchmarks/results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import log
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .keep import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
PLOT = PAGE.parent / "gallery" / "performance.png"
WIDE, HIGH, GAP = 330, 240, 60
BLUE, GREY = "#2060a0", "#9a9a9a"

NOT_RUN = """
## Blender's window while a job runs

`pytest tests/gui -s -k afternoon` drives a windowed Blender, 4.3.2 and 5.2.2, under Xvfb, where OpenGL is software. Everything that Tweed itself
does on the main thread while a job runs, which is the timer's ticks, the one that puts the texture on, and drawing the panels, was timed
call by call: the longest took 4.2 ms (4.9 ms in 5.2.2; up to 16 ms while the machine was busy with other work), against a goal of 50 ms.

The redraw that it causes is Blender's and the graphics driver's work. Here, without a graphics card, a redraw takes longer than the goal by
itself: between two calls of a timer that wants to run every 10 ms at most 0.16 to 0.18 s passed while a job ran in a window of 1400 x 900, and
0.12 to 0.13 s while only the sidebar was drawn anew ten times a second without a job; 0.08 and 0.07 s at 640 x 480. It was not measured on a
graphics card.

## On a card

**No real card was run.** What follows was counted on a card that is only pretended (`tests/pretend_card.py`): tensors that say they lie
on `cuda:0`, refuse what CUDA refuses with its words, write down each move between the two memories, and are computed by the processor.

The state between steps, the maps between views and texture, masks, regions and start views live on the model's card. From the second
step on, a synchronized job with a deterministic sampler moves nothing between card and main memory and never waits for the card, in
every family; weights that grow sharper are computed there too. What is left: fresh noise of stochastic samplers (drawn by the processor,
to the last bit the same on every machine, and one copy of the views' latents per step), the maps of the pixels when the first of
`pixel_steps` comes, previews as often as they are asked for, and `reuse`, whose cache asks in each step how much changed. Iterative and
distilled jobs besides look at a few numbers per view. `tests/unit/test_card_jobs.py` counts it, and holds 28 kinds of jobs to the texture
that the processor paints, within 1e-4 to 1e-3 of a colour in float32; `tests/gpu/test_jobs_on_a_card.py` will on a real one. One seed
gives the same picture everywhere but for that rounding. Sums over pixels and texels are gathered, each by one reader in a fixed order
(`engine/spaces/uv/sparse.py`), and not scattered with atomic additions, so they should be the same in every run; of the networks' own
kernels that is not known.

Where the model's parts take turns on the card, or the state would take more than a quarter of what is free there (160 bytes per pixel
of a view), it stays in main memory, and each step moves the views' latents over and back. On Apple's chips, which have one memory, it
stays with the processor.

## What was not run

No graphics card and no published weights were at hand. So these are **not measured**: the whole job over a batched pipeline
for SD 1.5 and SDXL on a card, the share of a card's peak throughput, nvdiffrast against the portable rasterizer, memory on cards
and the smallest card for each preset, compile and float8. `python -m benchmarks.card` measures all of that but the last and nvdiffrast in
one command on a card, at full size with random weights; here it ran at the size of a stamp on the processor
(`tests/unit/test_card_bench.py`). The code paths are there, and [models.md](models.md) says which were tested
on a CPU with tiny random weights.

The measurements above ran with the bundled `swatch`, whose networks are small. With larger networks the share of everything
else shrinks.
"""


def words(answer: dict) -> str:
    parts = []
    for name, value in answer.items():
        if isinstance(value, dict):
            parts.append(", ".join(f"{key.replace('_', ' ')} {number:g}" for key, number in value.items()))
        else:
            parts.append(f"**{name.replace('_', ' ')} {value:g}**" if isinstance(value, float) else f"{name} {value}")
    return "; ".join(parts)


def answer(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["answer"]


def plot() -> None:
    """Three panels: memory over the number of views, whole over its denoising alone, and one joining of the views."""
    sheet = Image.new("RGB", (3 * (WIDE + GAP) + GAP, HIGH + 2 * GAP + 20), "white")
    pen, views = ImageDraw.Draw(sheet), answer("views")
    curves(pen, GAP, {"whole loop": (views["loop_mib"], BLUE), "networks": (views["networks_mib"], GREY)})
    title(pen, GAP, "memory (MiB) over views denoised together")
    whole = {"whole job": answer("main_job")["ratio"], "full-size SD 1.5 step": answer("full_size")["ours_over_diffusers"]}
    left = 2 * GAP + WIDE
    bars(pen, left, whole, "{:.2f}")
    title(pen, left, "time over diffusers' own pipeline alone")
    left += GAP + WIDE
    bars(pen, left, answer("published")["seconds"], "{:.3g} s", scale=lambda value: log(value / 1e-3))
    title(pen, left, "one joining of 10 views on the CPU (logarithmic)")
    sheet.save(PLOT, "PNG", optimize=True)


def title(pen: ImageDraw.ImageDraw, left: int, text: str) -> None:
    pen.text((left + WIDE / 2, GAP - 22), text, "black", ImageFont.load_default(size=13), "ms")


def curves(pen: ImageDraw.ImageDraw, left: int, lines: Mapping[str, tuple[Mapping[str, float], str]]) -> None:
    """Lines from zero on, each with its name at its end. lines: values by x, and a colour, by name."""
    font = ImageFont.load_default(size=13)
    top = max(max(values.values()) for values, _ in lines.values()) * 1.15
    far = max(float(x) for values, _ in lines.values() for x in values)
    pen.rectangle((left, GAP, left + WIDE, GAP + HIGH), outline="#cccccc")
    for line, (name, (values, colour)) in enumerate(lines.items()):
        away, anchor = ((-8, "ms") if line == 0 else (8, "mt"))
        place = [(left + float(x) / far * (WIDE - 30), GAP + HIGH * (1 - y / top)) for x, y in values.items()]
        pen.line(place, colour, 3)
        for (x, y), (views, value) in zip(place, values.items(), strict=True):
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour)
            pen.text((x, y + away), f"{value:.0f}", "black", font, anchor)
            pen.text((x, GAP + HIGH + 6), views, "black", font, "mt")
        (x1, y1), (x2, y2) = place[-2:]
        pen.text(((x1 + x2) / 2, (y1 + y2) / 2 + 16), name, colour, font, "lt" if line == 0 else "mt")


def bars(pen: ImageDraw.ImageDraw, left: int, values: Mapping[str, float], show: str, scale=lambda value: value) -> None:
    font = ImageFont.load_default(size=13)
    pen.rectangle((left, GAP, left + WIDE, GAP + HIGH), outline="#cccccc")
    step, top = WIDE / len(values), max(scale(value) for value in values.values()) * 1.2
    for i, (name, value) in enumerate(values.items()):
        middle, height = left + (i + 0.5) * step, HIGH * scale(value) / top
        pen.rectangle((middle - step / 4, GAP + HIGH - height, middle + step / 4, GAP + HIGH), fill=BLUE if not i else GREY)
        pen.text((middle, GAP + HIGH - height - 6), show.format(value), "black", font, "ms")
        pen.text((middle, GAP + HIGH + 6), name, "black", font, "mt")


def main() -> None:
    plot()
    lines = [
        "# Performance", "",
        "Made by `python -m benchmarks.NAME` and `python -m benchmarks.table`. Trust the ratios, which are medians over rounds of",
        "one run; seconds are of a shared machine with two CPU cores and no GPU.", "",
        "![Memory over views, time over diffusers alone, one joining of the views](gallery/performance.png)", "",
        "| `benchmarks/` | question | answer | goal | met |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for path in sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        met = "yes" if record["met"] else "**no**"
        lines.append(f"| {path.stem} | {record['question']} | {words(record['answer'])} | {record['goal']} | {met} |")
    PAGE.write_text("\n".join(lines) + "\n" + NOT_RUN, encoding="utf-8")


if __name__ == "__main__":
    main()
