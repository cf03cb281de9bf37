# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.methods`: all methods and presets on the same meshes, prompts, seeds -> docs/methods.md.

Cells are kept in `.bench/methods`, so a run that was stopped goes on; `--ablation N` takes N mesh-and-prompt pairs for the
ablation (4; 0 leaves it out). Paragraphs are the files of docs/methods/, one per row.
"""

from __future__ import annotations

import sys
from pathlib import Path

from blender_addon.jobs.presets import preset_comment, shipped_presets
from blender_addon.jobs.settings import SETTINGS
from engine.compare import TABLE, ablation, best_of, compare, rows_from
from engine.methods import METHODS
from engine.trials import Trials

from .cells import PROMPTS, SEVERAL, arguments, markdown, read, say, sheet, warm_run
from .meshes import write

SHOWN = 2  # meshes with pictures
CAUTION = """**Read the presets' rows with care.** `synctweedies`, `syncmvd` and `multidiffusion` average latents, as published. `swatch`'s
latents are coefficients of 8 x 8 pixel patches, which turn and shift with the view, so their mean is blurred: the table of switches below
has the same methods averaging pixels. Stable Diffusion's latents suffer less from it. What can be compared without that doubt are the rows
that average pixels, here and there. KID is an unbiased estimate and may be below 0.

All rows were baked alike, and before borders between views were made soft: *view seams* are larger here than
[fidelity.md](fidelity.md) shows for the default."""
ABLATED = ("agreement_db", "seam_ratio", "owner_ratio", "sharpness", "kid", "material", "colour", "denoise_seconds")


def main() -> None:
    ablate = 4
    if "--ablation" in sys.argv:
        at = sys.argv.index("--ablation")
        ablate = int(sys.argv[at + 1])
        del sys.argv[at : at + 2]
    given = arguments("methods", meshes=6, seeds=3, quality="draft")
    values, prompts, run = given.settings, PROMPTS[: given.prompts], warm_run()
    files = write(given.out / "meshes", SEVERAL[: given.meshes])
    rows = rows_from("all", values)
    compare(Trials(given.out / "all", values, run, given.judge, say), files, rows, prompts, given.seeds)
    if ablate:
        trials = Trials(given.out / "ablation", values, run, given.judge, say)
        prompted = min(2, ablate)
        compare(trials, files[: ablate // prompted], ablation(), prompts[:prompted], 1)
    page(given.page, given.out, bool(ablate))


def page(path: Path, out: Path, ablated: bool) -> None:
    found = read(out / "all" / "compare.json")
    means = {row["name"]: row["mean"] for row in found["rows"]}
    cells = [cell for cell in found["cells"] if not cell["error"]]
    meshes, prompts, seeds = (list(dict.fromkeys(cell[part] for cell in cells)) for part in ("mesh", "prompt", "seed"))
    lines = [
        "# The methods", "",
        f"Made by `python -m benchmarks.methods`: {len(meshes)} meshes ({', '.join(meshes)}), {len(prompts)} prompts "
        f"({', '.join(prompts)}), seeds {', '.join(map(str, seeds))}, settings {found['settings']}, the bundled model. "
        f"Every row has the same meshes, rig, seeds, rasterizer and views to measure from; [what the numbers "
        f"mean](metrics.md). KID and adherence are seen through: {found['reader']}. "
        f"Seconds are of a shared machine: compare them within the column.", "",
        *markdown(TABLE, means, "method", best_of), "", CAUTION, "",
    ]  # fmt: skip
    failed = [
        f"{name}: {one['failed']:.0f} of {one['failed'] + one['done']:.0f} jobs failed."
        for name, one in means.items()
        if one["failed"]
    ]
    lines += [*failed, ""] if failed else []
    for name in [*means, *(name for name in METHODS if name not in means)]:
        lines += [f"## {name}", "", paragraph(path.parent / "methods", name), ""]
    for mesh in meshes[:SHOWN]:
        picture = path.parent / "gallery" / f"methods-{mesh}.jpg"
        for prompt in prompts[:1]:
            strips = [(f"{cell['row']}: {prompt}", out / "all" / "pictures" / f"{cell['key']}.jpg") for cell in cells
                      if (cell["mesh"], cell["prompt"], cell["seed"]) == (mesh, prompt, seeds[0])]  # fmt: skip
            single = out / "all" / "features" / f"{strips[0][1].stem}.txt"
            strips.insert(0, ("single views, each on its own", out / "all" / "pictures" / f"{single.read_text()}.jpg"))
            sheet(picture, strips)
        lines += [f"![{mesh}](gallery/{picture.name})", ""]
    if ablated:
        lines += ablation_part(read(out / "ablation" / "compare.json"))
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def paragraph(folder: Path, name: str) -> str:
    """What is written about a row; else what the settings or the preset say about it in a line."""
    file = folder / f"{name}.md"
    if file.is_file():
        return file.read_text(encoding="utf-8").strip()
    if name in shipped_presets():
        return preset_comment(shipped_presets()[name]) + "."
    choices = SETTINGS["method"]
    return dict(zip(choices.choices, choices.choice_help, strict=True)).get(name, "") + "."


def ablation_part(found: dict) -> list[str]:
    """The table of the ablation, and where the defaults stand in it."""
    means = {row["name"]: row["mean"] for row in found["rows"] if row["mean"]["done"]}
    defaults = {name: SETTINGS[name].default for row in found["rows"] for name in row["settings"]}
    cells = [cell for cell in found["cells"] if not cell["error"]]
    lines = [
        "## Noise, weights, end and space", "",
        f"The synchronized method on {', '.join(dict.fromkeys(c['mesh'] for c in cells))} with "
        f"{', '.join(dict.fromkeys(c['prompt'] for c in cells))}, {len(cells)} textures.", "",
        *markdown(ABLATED, means, "row", best_of), "",
    ]  # fmt: skip
    same = [row["name"] for row in found["rows"] if row["name"] in means
            and all(agrees(name, value, defaults[name]) for name, value in row["settings"].items())]  # fmt: skip
    for name in ("agreement_db", "seam_ratio", "sharpness", "kid"):
        ranked = [row for row in means if name in means[row]]
        if not ranked:
            continue
        best = best_of(name, [means[row][name] for row in ranked])
        winner = next(row for row in ranked if means[row][name] == best)
        place = [f"the defaults ({row}) have {means[row][name]:.3g}" for row in same if row in ranked]
        lines.append(
            f"- {name}: the best is {best:.3g}, {winner}; "
            f"{place[0] if place else 'the defaults are none of these rows'}."
        )
    return [*lines, ""]


def agrees(name: str, value: object, default: object) -> bool:
    """Whether a row's value is what the default amounts to: with the bundled model, "auto" averages pixels."""
    return value == default or (name, value, default) == ("sync_space", "pixel", "auto")


if __name__ == "__main__":
    main()
