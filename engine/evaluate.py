# SPDX-License-Identifier: Apache-2.0
"""`python -m engine evaluate FOLDER`: every mesh of a folder textured and measured; docs/metrics.md says how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from blender_addon.jobs.errors import UserError
from blender_addon.jobs.files import atomic_write_json, atomic_write_text
from engine import pages
from engine.measure.scores import SCORES, pooled_kid
from engine.mesh_io import FORMATS
from engine.trials import Cell, Row, Trials, mean_scores

# What a texture should reach: name -> (least or most, value).
TARGETS: dict[str, tuple[str, float]] = {
    "agreement_db": ("least", 30.0), "seam_ratio": ("most", 1.10), "owner_ratio": ("most", 1.10),
    "sharpness": ("least", 0.90), "filled": ("least", 1.0), "black_texels": ("most", 0.0), "bleed": ("most", 0.001),
}  # fmt: skip


def meshes_in(folder: Path) -> list[Path]:
    """The mesh files of a folder, or the one file named; UserError without any."""
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.", "Name a folder with mesh files.")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in FORMATS)
    if not found:
        raise UserError(f"There are no meshes in {folder}.", f"Put files in it that end in {' '.join(FORMATS)}.")
    return found


def evaluate(trials: Trials, meshes: Sequence[Path], prompts: Sequence[str], seeds: int) -> list[Cell]:
    """Run and measure every mesh x prompt x seed; writes `evaluate.json` and `evaluate.html` into the trials' folder,
    anew after each mesh. What is there is not made again; a mesh that fails is reported and left out of the means."""
    cells: list[Cell] = []
    for mesh in meshes:
        cells += trials.cells([mesh], [Row("default")], prompts, range(seeds))
        write(trials, cells, len(meshes))
    return cells


def write(trials: Trials, cells: Sequence[Cell], meshes: int) -> None:
    good = [cell for cell in cells if not cell.error]
    seen = [pair for cell in good if (pair := trials.features(cell)) is not None]
    whole = {**mean_scores(good), **pooled_kid([one for one, _ in seen], [other for _, other in seen])}
    atomic_write_json(trials.out / "evaluate.json", {
        "meshes": meshes, "cells": [asdict(cell) for cell in cells], "mean": whole, "settings": trials.base,
        "reader": trials.reader.name, "met": {name: met(name, whole[name]) for name in TARGETS if name in whole},
    })  # fmt: skip
    atomic_write_text(trials.out / "evaluate.html", page(trials, cells, whole))


def met(name: str, value: float) -> bool:
    kind, limit = TARGETS[name]
    return value >= limit if kind == "least" else value <= limit


def page(trials: Trials, cells: Sequence[Cell], whole: Mapping[str, float]) -> str:
    names = [name for name in SCORES if any(name in cell.scores for cell in cells)]
    headings = [("mesh", ""), *((SCORES[name][0], SCORES[name][1]) for name in names)]
    meshes = list(dict.fromkeys(cell.mesh for cell in cells))
    rows = [line(mesh, mean_scores([c for c in cells if c.mesh == mesh and not c.error]), names) for mesh in meshes]
    rows.append(line("all", whole, names))
    rows.append(
        [("target", ""), *((f"{TARGETS[n][0]} {shown(n, TARGETS[n][1])}" if n in TARGETS else "", "") for n in names)]
    )
    parts = [
        pages.paragraph(f"{len(meshes)} meshes, {len(cells)} textures. Means over prompts and seeds; red misses its "
                        f"KID and adherence are seen through: {trials.reader.name}."),
        pages.paragraph(f"Settings: {settings_of(trials)}", True),
        pages.table(headings, rows),
    ]  # fmt: skip
    for cell in cells:
        if cell.error:
            parts.append(pages.paragraph(f"{cell.mesh}, {cell.prompt!r}, seed {cell.seed} failed: {cell.error}"))
    for mesh in meshes:
        parts.append(pages.heading(mesh))
        for prompt in dict.fromkeys(cell.prompt for cell in cells):
            parts += pictures(trials, [c for c in cells if (c.mesh, c.prompt) == (mesh, prompt) and not c.error][:1])
    return pages.page("Textures, measured", parts)


def settings_of(trials: Trials) -> str:
    return ", ".join(f"{name} {value}" for name, value in trials.base.items()) or "the defaults"


def pictures(trials: Trials, cells: Sequence[Cell]) -> list[str]:
    """The strips of cells of one mesh and prompt."""
    parts = []
    for cell in cells:
        path = trials.out / "pictures" / f"{cell.key}.jpg"
        if path.is_file():
            numbers = ", ".join(
                f"{SCORES[name][0]} {shown(name, cell.scores[name])}"
                for name in ("agreement_db", "seam_ratio", "owner_ratio", "sharpness")
                if name in cell.scores
            )
            parts.append(pages.figure(path, f"{cell.row} · {cell.prompt} · seed {cell.seed} · {numbers}"))
    return parts


def line(name: str, scores: Mapping[str, float], names: Sequence[str]) -> list[tuple[str, str]]:
    cells = [(name, "")]
    for key in names:
        missed = key in TARGETS and key in scores and not met(key, scores[key])
        cells.append((shown(key, scores[key]) if key in scores else "", "missed" if missed else ""))
    return cells


def shown(name: str, value: float) -> str:
    return SCORES[name][2].format(value)
