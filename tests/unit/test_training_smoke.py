# SPDX-License-Identifier: Apache-2.0
"""The whole recipe at toy size: from nothing to a model folder that stock classes load and sample."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers")

from training.sampling import Swatch, sample

ROOT = Path(__file__).parents[2]


def test_the_recipe_makes_a_model_that_samples(tmp_path):
    command = [sys.executable, "-m", "training", "all", "--smoke", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

    facts = json.loads((tmp_path / "swatch" / "swatch.json").read_text())
    assert facts["training"]["iteration"] > 0 and set(facts["words"]) >= {"colours", "materials", "wear", "sizes"}
    assert not list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("*.pt"))
    assert list((tmp_path / "samples").glob("*.png")) and "correlation" in (tmp_path / "samples" / "metrics.jsonl").read_text()

    images = sample(Swatch.load(tmp_path / "swatch"), ["red brick", "an unknown word"], torch.rand(2, 64, 64), steps=2)
    assert images.shape == (2, 3, 64, 64) and images.isfinite().all()
