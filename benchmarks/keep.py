# SPDX-License-Identifier: Apache-2.0
"""Timing a few calls in turns, and keeping what was found."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def in_turns(
    calls: dict[str, Callable[[], object]], rounds: int = 5, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each call, `rounds` times, one after the other in each round, after one round that does not count.

    What else the machine does then falls on all of them alike, so ratios within a round can be trusted. `clock`: what to
    time with; `time.process_time` for calls of one thread that take long on a busy machine.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            began = clock()
            call()
            if number:
                seconds[name].append(clock() - began)
    return seconds


def ratio(seconds: dict[str, list[float]], one: str, other: str) -> float:
    """Median over the rounds of one call's time over another's."""
    return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    return {name: round(statistics.median(values), 4) for name, values in seconds.items()}


def keep(name: str, question: str, answer: dict, goal: str, met: bool) -> None:
    """Print the result and write it to benchmarks/results/NAME.json."""
    import platform

    import torch

    record = {"question": question, "answer": answer, "goal": goal, "met": met,
              "machine": {"cpu_threads": torch.get_num_threads(), "system": platform.system(), "torch": torch.__version__}}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(record, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)
