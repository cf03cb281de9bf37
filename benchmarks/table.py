# SPDX-License-Identifier: Apache-2.0
"""docs/benchmarks.md from what is kept in benchmarks/results."""

from __future__ import annotations

import json
from pathlib import Path

from .keep import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


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
        "# Benchmarks", "",
        "Made by `python -m benchmarks.NAME` and `python -m benchmarks.table`. Trust the ratios, which are medians over rounds of",
        "one run; seconds are of a shared machine with two CPU cores and no GPU.", "",
        "| `benchmarks/` | question | answer | goal | met |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for path in sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        met = "yes" if record["met"] else "**no**"
        lines.append(f"| {path.stem} | {record['question']} | {words(record['answer'])} | {record['goal']} | {met} |")
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
