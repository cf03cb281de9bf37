# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.fidelity`: the default preset on a dozen meshes against its targets and the reference presets.

Writes docs/fidelity.md from cells kept in `.bench/fidelity` (a run that was stopped goes on), from
benchmarks/results/truth.json, and from the sections in docs/fidelity/, which are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blender_addon.jobs.presets import shipped_presets
from engine.compare import compare, row_from
from engine.evaluate import TARGETS, met
from engine.measure.scores import SCORES
from engine.trials import Row, Trials

from .cells import PROMPTS, SEVERAL, arguments, markdown, read, say, sheet, warm_run
from .keep import RESULTS
from .meshes import write

RIVALS = ("synctweedies", "syncmvd")
COLUMNS = (
    *TARGETS, "coverage", "render_db", "seam_smooth", "seam_step", "background_like", "kid", "material", "colour",
    "seconds",
)  # fmt: skip


def main() -> None:
    given = arguments("fidelity", meshes=12, seeds=1, quality="standard")
    files = write(given.out / "meshes", SEVERAL[: given.meshes])
    rows = [Row("default"), *(row_from(name) for name in RIVALS if name in shipped_presets())]
    trials = Trials(given.out / "all", given.settings, warm_run(), given.judge, say)
    compare(trials, files, rows, PROMPTS[: given.prompts], given.seeds)
    page(given.page, given.out)


def page(path: Path, out: Path) -> None:
    found = read(out / "all" / "compare.json")
    means = {row["name"]: row["mean"] for row in found["rows"]}
    cells = [cell for cell in found["cells"] if cell["row"] == "default" and not cell["error"]]
    meshes, prompts = (list(dict.fromkeys(cell[part] for cell in cells)) for part in ("mesh", "prompt"))
    each = {mesh: mean(found["cells"], mesh) for mesh in meshes}
    lines = [
        "# Fidelity", "",
        f"Made by `python -m benchmarks.fidelity`: the default preset, settings {found['settings']}, on {len(meshes)} "
        f"meshes x "
        f"{len(prompts)} prompts ({', '.join(prompts)}), {len(cells)} textures, the bundled model. "
        f"[What the numbers mean](metrics.md). KID and adherence are seen through: {found['reader']}.", "",
        "## Targets", "", "| measure | target | mean | worst mesh | met |", "|---|---|---|---|---|",
        *(target_line(name, means["default"], each) for name in TARGETS if name in means["default"]),
        *rival_lines(means), "", "## Meshes", "", *markdown(COLUMNS, {**each, "all": means["default"]}, "mesh"), "",
        "## Presets in the same run", "", *markdown(COLUMNS, means, "preset"), "",
    ]  # fmt: skip
    strips = []
    for mesh in meshes:
        cell = next(cell for cell in cells if cell["mesh"] == mesh)
        strips.append((f"{mesh}: {cell['prompt']}", out / "all" / "pictures" / f"{cell['key']}.jpg"))
    sheet(path.parent / "gallery" / "fidelity.jpg", strips)
    lines += ["![One texture per mesh, from views that are not in the rig](gallery/fidelity.jpg)", "", *truth_part()]
    for section in sorted((path.parent / "fidelity").glob("*.md")):
        lines += [section.read_text(encoding="utf-8").strip(), ""]
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def mean(cells: Sequence[dict], mesh: str) -> dict[str, float]:
    own = [cell["scores"] for cell in cells if (cell["row"], cell["mesh"]) == ("default", mesh) and not cell["error"]]
    return {
        name: float(np.mean([one[name] for one in own if name in one]))
        for name in SCORES
        if any(name in one for one in own)
    }


def target_line(name: str, whole: dict[str, float], each: dict[str, dict[str, float]]) -> str:
    kind, limit = TARGETS[name]
    have = {mesh: one[name] for mesh, one in each.items() if name in one}
    worst = (min if kind == "least" else max)(have, key=lambda mesh: have[mesh])
    show = SCORES[name][2].format
    sign = "≥" if kind == "least" else "≤"
    verdict = "yes" if met(name, whole[name]) else "**no**"
    return (
        f"| {SCORES[name][0]} | {sign} {show(limit)} | {show(whole[name])} | {worst} {show(have[worst])} | {verdict} |"
    )


def rival_lines(means: dict[str, dict[str, float]]) -> list[str]:
    """KID has to be better than the reference presets', by more than chance."""
    own, lines = means["default"], []
    for name, one in means.items():
        if name != "default" and "kid" in one and "kid" in own:
            spread = float(np.hypot(own.get("kid_spread", 0.0), one.get("kid_spread", 0.0)))
            better = own["kid"] < one["kid"]
            chance = f"chance alone moves it by {spread:.2f}"
            verdict = "yes" if better else "**no**"
            lines.append(f"| KID x 1000 | below {name}'s {one['kid']:.2f} | {own['kid']:.2f} | {chance} | {verdict} |")
    return lines


def truth_part() -> list[str]:
    """What `python -m benchmarks.truth` found last."""
    file = RESULTS / "truth.json"
    if not file.is_file():
        return []
    record = read(file)
    answer = {name: value for name, value in record["answer"].items() if name not in ("psnr_db", "seam")}
    found = f"{record['answer']['psnr_db']:.1f} dB and {record['answer']['seam']:.3f}"
    verdict = "met" if record["met"] else "**missed**"
    lines = ["## Against a known texture", "",
             f"`python -m benchmarks.truth`. {record['question']}: {found}. Goal: {record['goal']}; {verdict}.",
             ""]  # fmt: skip
    return [*lines, "PSNR in dB: " + ", ".join(f"{name} {value:.1f}" for name, value in answer.items()) + ".", ""]


if __name__ == "__main__":
    main()
