# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.starts`: from asking for a texture to the first step of denoising, with a cold and a warm engine.

Cold is a process that has to be started, with torch, diffusers and the model still to load from files the system has
read before; warm is the same engine's next job, as when an artist presses Generate again.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from blender_addon.jobs.events import Tailer
from blender_addon.jobs.folder import Job, new_job_id, read_result, write_job
from engine.texture import job_from_file

from .keep import keep
from .meshes import write

ROUNDS, PATIENCE = 3, 300.0


def first_step(events: Path, began: float) -> float:
    """Seconds since `began` when the job's first views have been through the networks."""
    tailer = Tailer(events)
    while time.perf_counter() - began < PATIENCE:
        for event in tailer.poll() if events.exists() else []:
            if event["ev"] == "step" and event.get("i", 0) > 0:
                return time.perf_counter() - began
            if event["ev"] in ("failed", "cancelled"):
                raise SystemExit(f"the job ended: {event}")
        time.sleep(0.005)
    raise SystemExit(f"no step within {PATIENCE:.0f} s")


def ask(engine: subprocess.Popen, folder: Path, job: Job, began: float) -> float:
    place = write_job(folder, replace(job, id=new_job_id()))
    engine.stdin.write(json.dumps({"op": "run", "job": str(place)}) + "\n")
    engine.stdin.flush()
    seconds = first_step(place / "events.jsonl", began)
    while read_result(place) is None:
        time.sleep(0.05)
    return seconds


def one_round(folder: Path, job: Job) -> tuple[float, float]:
    began = time.perf_counter()
    command = [sys.executable, "-m", "engine", "serve", "--state", str(folder / "state")]
    engine = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        return ask(engine, folder, job, began), ask(engine, folder, job, time.perf_counter())
    finally:
        engine.stdin.close()
        engine.wait(60)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mesh = write(folder, ["vase"])[0]
        job = job_from_file(mesh, {"prompt": "rusty blue metal", "quality": "draft", "preview_every": 0})[0]
        rounds = [one_round(folder, job) for _ in range(ROUNDS + 1)][1:]  # the first reads the files from the disk
    cold, warm = (round(statistics.median(column), 2) for column in zip(*rounds, strict=True))
    keep("starts", "Seconds from asking to the first denoised step (swatch, draft, vase): the engine still to be started, and "
         "the same engine's next job", {"cold": cold, "warm": warm, "ratio": round(cold / warm, 2)},
         "warm within 3 s", warm <= 3)  # fmt: skip


if __name__ == "__main__":
    main()
