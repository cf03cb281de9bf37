# SPDX-License-Identifier: Apache-2.0
"""docs/performance.md from what is kept in benchmarks/results."""

from __future__ import annotations

import json
from pathlib import Path

from .keep import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

NOT_RUN = """
## What was not run

No graphics card and no published weights were at hand. So these are **not measured**: the whole job over a batched pipeline
for SD 1.5 and SDXL on a card, the share of a card's peak throughput, nvdiffrast against the portable rasterizer, memory on cards
and the smallest card for each preset, compile and float8. The code paths are there, and [models.md](models.md) says which were tested
on a CPU with tiny random weights. On a card, the state between steps and the maps between views and texture stay in main memory, so
that a seed gives the same texture everywhere; each step moves the views' latents over and back.

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


def main() -> None:
    lines = [
        "# Performance", "",
        "Made by `python -m benchmarks.NAME` and `python -m benchmarks.table`. Trust the ratios, which are medians over rounds of",
        "one run; seconds are of a shared machine with two CPU cores and no GPU.", "",
        "| `benchmarks/` | question | answer | goal | met |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for path in sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        met = "yes" if record["met"] else "**no**"
        lines.append(f"| {path.stem} | {record['question']} | {words(record['answer'])} | {record['goal']} | {met} |")
    PAGE.write_text("\n".join(lines) + "\n" + NOT_RUN, encoding="utf-8")


if __name__ == "__main__":
    main()
