# SPDX-License-Identifier: Apache-2.0
"""Jobs made to be measured: meshes x rows of settings x prompts x seeds, each run once and kept.

A cell is one such job with its scores. It lies in `OUT/cells/<key>.json` under a key of all that decides it, so a run
that was stopped goes on where it was, and a cell that failed is tried again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from blender_addon.jobs.coverage import cameras_for
from blender_addon.jobs.errors import Cancelled, TweedError
from blender_addon.jobs.files import atomic_write_bytes, atomic_write_json, atomic_write_text
from blender_addon.jobs.folder import VERSION, Job, new_job_id, read_result, write_job
from blender_addon.jobs.rigs import OF_VIEWS
from blender_addon.jobs.settings import resolve
from engine.made import Made
from engine.measure.judge import Reader, reader
from engine.measure.reference import single_views
from engine.measure.scores import Place, Reference, score
from engine.measure.stage import BACKGROUND, Stage, held_out, stage_for
from engine.models import weights_mark
from engine.pages import jpeg, strip
from engine.report import ASIDE
from engine.texture import job_from_file

METRICS = 3  # raise when a measure's definition changes: kept cells are then made again
CAMERAS = ("rig", "views", "extra_views", "lens", *OF_VIEWS)  # settings that say where they stand
REFERENCES = 2  # rounds of single views per mesh and prompt
PAPER = 0.95
Run = Callable[[Path, Callable[[Made], None]], str]
"""Runs a job folder and hands over what it made; returns "done", "failed" or "cancelled"."""


@dataclass(frozen=True)
class Row:
    """A line of a comparison: a name and the settings that make it."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One job and its scores. `error` is a sentence for one that failed."""

    key: str
    mesh: str
    row: str
    prompt: str
    seed: int
    scores: dict[str, float] = field(default_factory=dict)
    error: str = ""


class Trials:
    """Runs cells into a folder. `base` are the settings that all rows share."""

    def __init__(self, out: Path, base: Mapping[str, Any], run: Run, judge: Path | None = None,
                 say: Callable[[str], None] = lambda line: None):  # fmt: skip
        self.out, self.base, self.run, self.say = out, dict(base), run, say
        self.reader: Reader = reader(judge)
        self._jobs: dict[Path, tuple[Job, str]] = {}
        self._places: dict[str, Place] = {}
        for name in ("cells", "pictures", "textures", "features"):
            (out / name).mkdir(parents=True, exist_ok=True)

    def cells(self, meshes: Sequence[Path], rows: Sequence[Row], prompts: Sequence[str],
              seeds: Sequence[int]) -> Iterator[Cell]:  # fmt: skip
        """All cells, kept ones first read and missing ones run, mesh by mesh."""
        total = len(rows) * len(prompts) * len(seeds)
        for mesh in meshes:
            number = 0
            for prompt in prompts:
                for row in rows:
                    for seed in seeds:
                        number += 1
                        self.say(f"{mesh.stem} {number}/{total} · {row.name} · {prompt} · seed {seed}")
                        yield self.cell(mesh, row, prompt, seed)

    def cell(self, mesh: Path, row: Row, prompt: str, seed: int) -> Cell:
        """One cell; errors an artist could mend become its `error`. Cancelled goes through."""
        values = {
            **self.base,
            **row.settings,
            "prompt": prompt,
            "seed": seed,
            "preview_every": 0,
            "contact_sheet": False,
        }
        key = ""
        try:
            settings = resolve(values)
            job, digest = self._job(mesh)
            key = self._key(digest, settings)
            kept = self._kept(key)
            if kept:
                return replace(kept, mesh=mesh.stem, row=row.name)
            found = self._fresh(job, digest, settings, key)
        except Cancelled:
            raise
        except TweedError as error:
            self.say(f"  failed: {error.message}")
            return Cell(key, mesh.stem, row.name, prompt, seed, error=f"{error.message} {error.action}".strip())
        cell = Cell(key, mesh.stem, row.name, prompt, seed, *found)
        if not cell.error:
            atomic_write_json(self.out / "cells" / f"{key}.json", asdict(cell))
        return cell

    def features(self, cell: Cell) -> tuple[np.ndarray, np.ndarray] | None:
        """What the reader saw in a cell's renders and in its reference; None if they are not kept."""
        path = self.out / "features" / f"{cell.key}.npz"
        if cell.error or not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as file:
            return file["renders"], file["reference"]

    def reference_picture(self, cell: Cell) -> Path | None:
        path = self.out / "features" / f"{cell.key}.txt"
        return self.out / "pictures" / f"{path.read_text('utf-8')}.jpg" if path.is_file() else None

    def _job(self, path: Path) -> tuple[Job, str]:
        """The mesh as a job with the base's settings, and the mesh's digest. The last mesh is kept."""
        if path not in self._jobs:
            job = job_from_file(path, {**self.base, "prompt": "none yet"})[0]
            digest = hashlib.sha256()
            for name in ("positions", "triangles", "uvs", "triangle_uvs"):
                digest.update(np.ascontiguousarray(getattr(job.mesh, name)).tobytes())
            self._jobs = {path: (job, digest.hexdigest()[:16])}
        return self._jobs[path]

    def _key(self, digest: str, settings: Mapping[str, Any], extra: str = "") -> str:
        words = {name: value for name, value in settings.items() if name not in ASIDE}
        mark = weights_mark(settings["model"])
        text = json.dumps([digest, words, VERSION, METRICS, self.reader.name, mark, extra], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def _kept(self, key: str) -> Cell | None:
        path = self.out / "cells" / f"{key}.json"
        if not path.is_file():
            return None
        try:
            return Cell(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            return None  # a damaged file: made again

    def _fresh(self, job: Job, digest: str, settings: dict, key: str) -> tuple[dict[str, float], str]:
        """Run and measure; (scores, error)."""
        cameras = job.cameras
        if any(settings[name] != job.settings[name] for name in CAMERAS):
            cameras = cameras_for(settings, job.mesh)
        folder = write_job(self.out / "jobs", replace(job, id=new_job_id(), settings=settings, cameras=cameras))
        made: list[Made] = []
        status = self.run(folder, made.append)
        if status == "cancelled":
            raise Cancelled()
        result = read_result(folder) or {}
        if status != "done" or not made:
            return {}, (result.get("error") or {}).get("message", "The job ended without saying why.")
        place = self._place(made[0], digest, job)
        reference, picture = self._reference(made[0], digest, place)
        scores, features = score(made[0], place, reference, self.reader)
        report = result["report"]
        scores["seconds"] = report["seconds_total"] - report["seconds"].get("load", 0.0)  # the model stays loaded
        scores["denoise_seconds"] = report["seconds"].get("denoise", 0.0)
        scores["view_denoisings"] = report.get("view_denoisings", 0)
        shutil.copyfile(folder / result["images"]["base_color"], self.out / "textures" / f"{key}.png")
        np.savez(self.out / "features" / f"{key}.npz", renders=features, reference=reference.features)
        atomic_write_text(self.out / "features" / f"{key}.txt", picture)
        self._picture(key, place.stage, place.stage.render(made[0].texture), made[0].texture)
        shutil.rmtree(folder, ignore_errors=True)
        return {name: round(float(value), 6) for name, value in scores.items()}, ""

    def _place(self, made: Made, digest: str, job: Job) -> Place:
        """The stage of a mesh: the same for all rows, whatever views they paint from."""
        size = made.views.shape[-1]
        key = f"{digest} {size}"
        if key not in self._places:
            cameras = held_out(made.mesh.positions, job.cameras)
            stage = stage_for(made.mesh, cameras, made.rasterizer, size)
            self._places = {key: Place(made.mesh, made.rasterizer, stage)}
        return self._places[key]

    def _reference(self, made: Made, digest: str, place: Place) -> tuple[Reference, str]:
        """Single views for a mesh and prompt with the base's settings, made once, and the name of their picture."""
        settings = resolve({**self.base, "prompt": made.job.settings["prompt"], "seed": 0})
        key = self._key(digest, settings, f"reference {REFERENCES} {place.stage.size}")
        path = self.out / "features" / f"reference-{key}.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as file:
                return Reference(file["features"], float(file["energy"])), key
        seeds = range(2**31, 2**31 + REFERENCES)  # beyond those of jobs
        rounds = [single_views(made.model, place.stage, place.mesh, settings, seed) for seed in seeds]
        found = Reference.of(torch.cat(rounds), place.stage, self.reader)
        np.savez(path, features=found.features, energy=np.float64(found.energy or 0.0))
        self._picture(key, place.stage, rounds[0], None)
        return found, key

    def _picture(self, key: str, stage: Stage, views: torch.Tensor, texture: np.ndarray | None) -> None:
        """One strip of the views and the texture on paper, `OUT/pictures/<key>.jpg`."""
        shown = (views + (PAPER - BACKGROUND) * (1 - stage.mask)).clamp(0, 1)
        tiles = [view.permute(1, 2, 0).numpy() for view in shown]
        if texture is not None:
            tiles.append(np.asarray(Image.fromarray((texture.clip(0, 1) * 255).astype(np.uint8)).resize(
                (stage.size, stage.size), Image.Resampling.BOX), np.float32) / 255)  # fmt: skip
        atomic_write_bytes(self.out / "pictures" / f"{key}.jpg", jpeg(strip(tiles)))


def mean_scores(cells: Sequence[Cell]) -> dict[str, float]:
    """Means of every score over the cells that have it."""
    names = dict.fromkeys(name for cell in cells for name in cell.scores)
    found = {name: [cell.scores[name] for cell in cells if name in cell.scores] for name in names}
    return {name: float(np.mean(values)) for name, values in found.items()}
