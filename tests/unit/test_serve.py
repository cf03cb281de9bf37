# SPDX-License-Identifier: Apache-2.0
"""The warm engine as Blender sees it: a real process, commands on stdin, answers in folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blender_addon.jobs.events import Tailer
from blender_addon.jobs.folder import PROTO, VERSION, read_result, write_job
from tests.tiny_models import SWATCH_SCHEDULER, write_tiny_model
from tests.unit.test_run import sphere_job

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180  # seconds; a busy machine starts torch slowly


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), SWATCH_SCHEDULER)


class Engine:
    def __init__(self, state: Path):
        self.state = state
        self.log = (state.parent / "engine.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine", "serve", "--state", str(state)], cwd=ROOT, stdin=subprocess.PIPE,
            stdout=self.log, stderr=subprocess.STDOUT, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def send(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def record(self) -> dict:
        path = self.state / "engine.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def wait(self, seen, what: str):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if seen():
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.log.seek(0)
        pytest.fail(f"{what} did not happen; exit {self.process.poll()}; log:\n{self.log.read()[-2000:]}")


@pytest.fixture
def engine(tmp_path):
    started = Engine(tmp_path / "state é")
    yield started
    started.process.kill()
    started.process.wait()
    started.log.close()


def status(folder):
    result = read_result(folder)
    return result and result["status"]


def test_a_served_life(tmp_path, engine, model):
    """Handshake, garbage, a job, a cancelled job, and the end of stdin as the end of the engine."""
    engine.wait(lambda: engine.record().get("state") == "ready", "the handshake")
    record = engine.record()
    assert (record["version"], record["proto"], record["pid"]) == (VERSION, PROTO, engine.process.pid)
    assert record["rasterizers"]["reference"] == "ok"

    engine.process.stdin.write("not json\n[1]\n{\"op\": \"fly\"}\n\n")
    first = write_job(tmp_path / "jobs", sphere_job(model))
    engine.send(op="run", job=str(first))
    engine.wait(lambda: status(first), "the first job")
    assert status(first) == "done"

    long = write_job(tmp_path / "jobs", sphere_job(model, steps=200, view_size=256))
    engine.send(op="run", job=str(long))
    tail, events = Tailer(long / "events.jsonl"), []
    engine.wait(lambda: events.extend(tail.poll()) or any(e["ev"] == "step" for e in events), "the first step")
    engine.send(op="cancel")
    engine.wait(lambda: status(long), "the cancel")
    assert status(long) == "cancelled"
    engine.wait(lambda: engine.record()["state"] == "ready", "being ready again")

    engine.send(op="unload")
    missing = tmp_path / "jobs" / "gone"
    engine.send(op="run", job=str(missing))
    again = write_job(tmp_path / "jobs", sphere_job(model, seed=9))
    engine.send(op="run", job=str(again))
    engine.wait(lambda: status(again), "a job after one whose folder is gone")
    assert status(again) == "done"

    engine.process.stdin.close()
    assert engine.process.wait(PATIENCE) == 0
    assert engine.record()["state"] == "stopped"


def test_the_end_of_stdin_ends_a_running_job(tmp_path, engine, model):
    folder = write_job(tmp_path / "jobs", sphere_job(model, steps=200, view_size=256))
    engine.send(op="run", job=str(folder))
    tail, events = Tailer(folder / "events.jsonl"), []
    engine.wait(lambda: events.extend(tail.poll()) or any(e["ev"] == "step" for e in events), "the first step")
    engine.process.stdin.close()  # what a crashed Blender does
    assert engine.process.wait(PATIENCE) == 0
    assert status(folder) == "cancelled"
