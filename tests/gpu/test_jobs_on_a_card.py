# SPDX-License-Identifier: Apache-2.0
"""The jobs of `tests/unit/test_card_jobs.py` on a real card, for what a pretended one cannot know: its rounding, and
whether it repeats itself.

Not run where Tweed is made, which has no card.
"""

from __future__ import annotations

import pytest
import torch

from tests.unit.test_card_jobs import JOBS, job_of, run, shelf  # noqa: F401  a fixture

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA card")]
COARSE = 20  # times the pretended card's tolerance: a card's kernels add up in other orders


@pytest.fixture(autouse=True)
def whole_float32(monkeypatch):
    """Convolutions in float32 proper, not in TF32 (products are by default), by kernels that repeat themselves."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.mark.parametrize("name", JOBS)
def test_a_card_paints_what_the_processor_paints(name, shelf, tmp_path):  # noqa: F811
    model, settings, apart = JOBS[name]
    (there,), _ = run(tmp_path, *job_of(shelf, model, settings, "cpu"))
    (found,), report = run(tmp_path, *job_of(shelf, model, settings, "cuda"))
    assert report["memory_gb"]["card"] > 0
    assert (found.views - there.views).abs().max() < COARSE * apart


def test_a_job_repeats_itself_to_the_last_bit(shelf, tmp_path):  # noqa: F811
    one, again = (run(tmp_path, *job_of(shelf, "sd15", {"blend": "bands"}, "cuda"))[0][0] for _ in range(2))
    assert torch.equal(one.views, again.views)
