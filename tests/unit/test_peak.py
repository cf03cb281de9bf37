# SPDX-License-Identifier: Apache-2.0
"""The peak of a job's memory: what was held and let go counts, and what was before does not."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from engine.device import GIB
from engine.peak import begin_peak, peak_memory

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets a peak")
HALF = GIB // 2


def hold(size: int) -> None:
    np.ones(size, np.uint8).sum()  # every page touched, then let go


def test_what_was_let_go_counts():
    begin_peak()
    before = peak_memory()["main"]
    hold(HALF)
    assert peak_memory()["main"] >= before + 0.45


@LINUX
def test_the_job_before_does_not_count():
    hold(HALF)
    high = peak_memory()["main"]
    begin_peak()
    assert peak_memory()["main"] <= high - 0.45
