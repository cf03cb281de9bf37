# SPDX-License-Identifier: Apache-2.0
"""`python -m engine compare MESH --methods all`: methods side by side, on the same mesh, views, noise and measures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blender_addon.jobs.errors import SettingsError
from blender_addon.jobs.files import atomic_write_json, atomic_write_text
from blender_addon.jobs.presets import read_preset, shipped_presets
from blender_addon.jobs.settings import SETTINGS, normalise_case, resolve, unknown_setting
from engine import pages
from engine.evaluate import pictures, settings_of, shown
from engine.measure.scores import SCORES, pooled_kid
from engine.methods import METHODS, Facts, pick_method
from engine.trials import Cell, Row, Trials, mean_scores

BLENDS = (("cos1", 1.0, 1.0), ("cos6", 6.0, 6.0), ("1-6", 1.0, 6.0), ("1-128", 1.0, 128.0))
TABLE = ("agreement_db", "render_db", "seam_ratio", "seam_smooth", "owner_ratio", "sharpness", "coverage", "bleed",
         "kid", "material", "colour", "clip", "seconds", "denoise_seconds", "view_denoisings")  # fmt: skip


def rows_from(text: str, base: Mapping[str, Any]) -> list[Row]:
    """The rows of `--methods`: "all", or names with a comma between: methods, presets, preset files. Each may go on
    with ":setting=value,setting=value" to be varied.

    "all" leaves out what objects to the settings (an edit needs a texture). SettingsError for unknown names, settings.
    """
    if text.strip() == "all":
        rows = [Row(name, {"method": name}) for name in METHODS] + [
            Row(n, read_preset(p)) for n, p in shipped_presets().items()
        ]
        return [row for row in rows if not objection(row, base)]
    rows: list[Row] = []
    for word in text.split(","):
        word = word.strip()
        if rows and "=" in word and ":" not in word:  # goes on varying the row before
            last = rows.pop()
            rows.append(Row(f"{last.name},{word}", {**last.settings, **variation(word)}))
        elif word:
            rows.append(row_from(word))
    if not rows:
        raise SettingsError(
            "No methods were named.", f"Name some of: all, {', '.join([*METHODS, *shipped_presets()])}.", key="methods"
        )
    for row in rows:
        fault = objection(row, base)
        if fault:
            raise fault
    return rows


def row_from(word: str) -> Row:
    name, _, varied = word.partition(":")
    if name in METHODS:
        settings: dict[str, Any] = {"method": name}
    elif name in shipped_presets() or name.endswith(".toml"):
        settings = read_preset(shipped_presets().get(name, Path(name)))
    else:
        choices = ", ".join([*METHODS, *shipped_presets()])
        raise SettingsError(f"There is no method or preset {name!r}; allowed: all, {choices}.", key="methods")
    return Row(word, {**settings, **(variation(varied) if varied else {})})


def variation(text: str) -> dict[str, Any]:
    """One "setting=value", checked."""
    name, equals, value = (part.strip() for part in text.partition("="))
    name = name.replace("-", "_")
    if name not in SETTINGS:
        raise unknown_setting(name, SETTINGS)
    if not equals:
        raise SettingsError(f"{name} has no value.", f"Write {name}=VALUE.", key=name)
    return {name: SETTINGS[name].parse(str(normalise_case(value)) if name == "case" else value)}


def objection(row: Row, base: Mapping[str, Any]) -> SettingsError | None:
    """Why this row cannot be run with these settings, known without a model."""
    try:
        settings = resolve({**base, **row.settings, "prompt": "none yet"})
        pick_method(settings, Facts(settings["views"], starts=False))
    except SettingsError as error:
        return error
    return None


def ablation() -> list[Row]:
    """Noise x weights x end of synchronizing x space, whatever of them the schema has, of the synchronized method."""
    rows = []
    for noise in SETTINGS["noise"].choices or ():
        for weights, settings in blends().items():
            for end in (0.8, 1.0):
                for space in ("latent", "pixel"):
                    name = f"{noise} noise, weights {weights}, to {end:.0%}, {space}s"
                    rows.append(Row(name, {"method": "synchronized", "noise": noise, **settings, "sync_until": end,
                                           "sync_space": space}))  # fmt: skip
    return rows


def blends() -> dict[str, dict[str, Any]]:
    """The ways to weigh views: exponents from first to last step, and band splitting where a setting offers it."""
    found: dict[str, dict[str, Any]] = {
        name: {"sharpness_start": start, "sharpness_end": end} for name, start, end in BLENDS
    }
    for setting in SETTINGS.values():
        bands = [choice for choice in setting.choices or () if choice.startswith("band")]
        if bands:
            plain = next(choice for choice in setting.choices if choice not in bands)
            found = {name: {**settings, setting.name: plain} for name, settings in found.items()}
            found["bands"] = {setting.name: bands[0]}
    return found


def compare(
    trials: Trials, meshes: Sequence[Path], rows: Sequence[Row], prompts: Sequence[str], seeds: int
) -> list[Cell]:
    """Run and measure every row on the same meshes, prompts, seeds; writes `compare.json` and `compare.html` into the
    trials' folder, anew after each mesh. What is there already is not made again."""
    cells: list[Cell] = []
    for mesh in meshes:
        cells += trials.cells([mesh], rows, prompts, range(seeds))
        write(trials, rows, cells)
    return cells


def write(trials: Trials, rows: Sequence[Row], cells: Sequence[Cell]) -> None:
    summary = {row.name: summarize(trials, [cell for cell in cells if cell.row == row.name]) for row in rows}
    atomic_write_json(trials.out / "compare.json", {
        "rows": [{"name": row.name, "settings": dict(row.settings), "mean": summary[row.name]} for row in rows],
        "cells": [asdict(cell) for cell in cells], "settings": trials.base, "reader": trials.reader.name,
    })  # fmt: skip
    atomic_write_text(trials.out / "compare.html", page(trials, rows, cells, summary))


def summarize(trials: Trials, cells: Sequence[Cell]) -> dict[str, float]:
    """Means of a row's cells; KID is taken of all their renders together."""
    good = [cell for cell in cells if not cell.error]
    seen = [pair for cell in good if (pair := trials.features(cell)) is not None]
    references = {other.tobytes(): other for _, other in seen}
    found = {**mean_scores(good), **pooled_kid([one for one, _ in seen], list(references.values()))}
    return {**found, "done": float(len(good)), "failed": float(len(cells) - len(good))}


def page(trials: Trials, rows: Sequence[Row], cells: Sequence[Cell], summary: Mapping[str, Mapping[str, float]]) -> str:
    meshes, prompts = (list(dict.fromkeys(getattr(cell, part) for cell in cells)) for part in ("mesh", "prompt"))
    parts = [
        pages.paragraph(f"{len(meshes)} meshes, {len(prompts)} prompts, {len(cells)} textures. Every row has the same "
                        f"meshes, views, seeds and measures. KID, adherence are seen through: {trials.reader.name}."),
        pages.paragraph(f"Settings for all: {settings_of(trials)}", True),
        pages.table(*table_of(rows, summary)),
    ]  # fmt: skip
    failed = dict.fromkeys((cell.row, cell.mesh, cell.error) for cell in cells if cell.error)
    parts += [pages.paragraph(f"{row} on {mesh} failed: {error}") for row, mesh, error in failed]
    for mesh in meshes:
        for prompt in prompts:
            here = [cell for cell in cells if (cell.mesh, cell.prompt) == (mesh, prompt) and not cell.error]
            if here:
                parts.append(pages.heading(f"{mesh}: {prompt}"))
                single = trials.reference_picture(here[0])
                if single is not None and single.is_file():
                    parts.append(
                        pages.figure(
                            single, "single views, each on its own: what the model paints when nothing has to agree"
                        )
                    )
                for row in rows:
                    parts += pictures(trials, [cell for cell in here if cell.row == row.name][:1])
    return pages.page("Methods, compared", parts)


def table_of(rows: Sequence[Row], summary: Mapping[str, Mapping[str, float]]):
    """Headings and lines for `pages.table`; the best of each column stands out."""
    names = [name for name in TABLE if name in SCORES and any(name in one for one in summary.values())]
    best = {name: best_of(name, [one[name] for one in summary.values() if name in one]) for name in names}
    lines = []
    for row in rows:
        one = summary[row.name]
        lines.append([(row.name, ""), *((shown(n, one[n]) if n in one else "", "best" if one.get(n) == best[n] else "")
                                        for n in names)])  # fmt: skip
    return [("method", ""), *((SCORES[name][0], SCORES[name][1]) for name in names)], lines


def best_of(name: str, values: Iterable[float]) -> float | None:
    """The best value of a score; of the seam ratios, the one nearest to 1. None where neither end is better."""
    values = list(values)
    if name in ("seam_ratio", "seam_smooth", "owner_ratio", "sharpness"):
        return min(values, key=lambda value: abs(value - 1))
    more = SCORES[name][3]
    return None if more is None else max(values) if more else min(values)
