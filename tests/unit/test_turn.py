# SPDX-License-Identifier: Apache-2.0
"""Engines of two Blenders on one card: the second waits, says so, can be cancelled, and outlives a first that is killed."""

import subprocess
import sys
import threading
import time

import pytest
import torch

from blender_addon.jobs.errors import Cancelled
from engine import turn as module
from engine.progress import Progress
from engine.turn import WAITING, card, turn

HOLDER = """
import sys, time
from pathlib import Path
from engine.progress import Progress
from engine.turn import turn
with turn("card", Progress([]), Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(tmp_path, monkeypatch):
    """Another process that holds the card."""
    monkeypatch.setattr(module, "POLL", 0.02)
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline().strip() == b"held"
    yield process
    process.kill()
    process.wait()


def listening(stop=lambda: False):
    said = []
    return said, Progress([lambda event, fields: said.append(fields.get("message", fields.get("phase")))], stop)


def test_the_second_waits_until_the_first_is_gone(held, tmp_path):
    said, progress = listening()
    threading.Timer(0.3, held.kill).start()
    began = time.monotonic()
    with progress.phase("load"), turn("card", progress, tmp_path):
        assert time.monotonic() - began > 0.25
    assert said.count(WAITING) == 1
    assert progress.waited > 0.2 and progress.seconds["load"] < 0.1, "waiting is no work"


def test_who_waits_can_be_cancelled(held, tmp_path):
    end = time.monotonic() + 0.2
    _, progress = listening(lambda: time.monotonic() > end)
    with pytest.raises(Cancelled), turn("card", progress, tmp_path):
        raise AssertionError("the card is not ours")
    assert held.poll() is None


def test_other_cards_and_the_processor_are_free(held, tmp_path):
    said, progress = listening()
    with turn("other", progress, tmp_path), turn(card(torch.device("cpu")), progress, tmp_path):
        assert said == []


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path):
    (tmp_path / "file").write_text("in the way")
    said, progress = listening()
    with turn("card", progress, tmp_path / "file"):
        assert said == []


def test_cards_are_told_apart(monkeypatch):
    assert card(torch.device("cpu")) == "" and card(torch.device("mps")) == "mps"
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: type("Card", (), {"uuid": "GPU-1/2"})())
    assert card(torch.device("cuda")) == "cuda-GPU-1/2"
