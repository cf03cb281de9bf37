# SPDX-License-Identifier: Apache-2.0
"""What a running job tells the world, and how it hears that it should stop.

A job's story (`engine.run`) calls `phase`, `step`, `warn` and nothing else. Where those words go (the job folder's
`events.jsonl`, a progress bar in a terminal) is decided by the sinks given at the door.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from blender_addon.jobs.errors import Cancelled
from blender_addon.jobs.events import append_event

Sink = Callable[[str, dict[str, Any]], None]

# Share of a whole job's time that each phase took in the median of runs with the bundled model on two CPU cores.
# Only the estimate of the remaining time reads it.
TYPICAL_SHARE = {
    "wait": 0.0, "load": 0.08, "rasterize": 0.10, "condition": 0.02, "denoise": 0.60, "bake": 0.10, "fill": 0.04, "write": 0.06,
}


class Progress:
    """Times the phases of one job, forwards events to the sinks and raises `Cancelled` between steps.

    `stop()` is asked at each event; it returns True once the artist has pressed cancel.
    """

    def __init__(self, sinks: list[Sink], stop: Callable[[], bool] = lambda: False):
        self.sinks = sinks
        self.stop = stop
        self.seconds: dict[str, float] = {}
        self.waited = 0.0
        self.current = ""
        self._started = time.monotonic()
        self._phase_started = self._started

    def emit(self, event: str, **fields: Any) -> None:
        for sink in self.sinks:
            sink(event, fields)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent in here is no work: it counts neither in the running phase's seconds nor in what is foreseen."""
        began = time.monotonic()
        self.emit("phase", phase="wait", i=0, n=0, eta_s=0.0)
        yield
        waited = time.monotonic() - began
        self.waited += waited
        self._started += waited
        self._phase_started += waited
        self.emit("phase", phase=self.current, i=0, n=0, eta_s=self.remaining(0.0))

    def check(self) -> None:
        if self.stop():
            raise Cancelled()

    @contextlib.contextmanager
    def phase(self, name: str, steps: int = 0) -> Iterator[None]:
        """Announce a phase, time it, and stop before or after it when the job was cancelled."""
        self.check()
        self.current = name
        self._phase_started = time.monotonic()
        self.emit("phase", phase=name, i=0, n=steps, eta_s=self.remaining(0.0))
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - self._phase_started
        self.check()

    def step(self, i: int, n: int) -> None:
        """Step `i` of `n` of the running phase is done."""
        self.check()
        self.emit("step", phase=self.current, i=i, n=n, eta_s=self.remaining(i / n))

    def warn(self, message: str) -> None:
        self.emit("warning", message=message)

    def remaining(self, done: float) -> float:
        """Estimated seconds to the end, from this job's own pace where there is one and typical shares elsewhere."""
        names = list(TYPICAL_SHARE)
        if self.current not in TYPICAL_SHARE:
            return 0.0
        later = sum(TYPICAL_SHARE[name] for name in names[names.index(self.current) + 1:])
        share = TYPICAL_SHARE[self.current]
        passed = sum(TYPICAL_SHARE[name] for name in self.seconds if name in TYPICAL_SHARE)
        in_phase = time.monotonic() - self._phase_started
        if done > 0:
            pace = in_phase / (done * share)
            return round(in_phase * (1 - done) / done + later * pace, 1)
        pace = (time.monotonic() - self._started) / passed if passed else 0.0
        return round((share + later) * pace, 1)


def file_sink(events: Path) -> Sink:
    """Events appended to a job folder's `events.jsonl`."""
    return lambda event, fields: append_event(events, event, **fields)


def bar_sink(stream=None, width: int = 28) -> Sink:
    """A one-line progress bar for a terminal; plain lines where the stream is not one."""
    stream = stream or sys.stderr
    words = {
        "wait": "Waiting for the graphics card", "load": "Loading", "rasterize": "Rasterizing the views", "condition": "Preparing depth",
        "denoise": "Denoising all views together", "bake": "Baking the texture", "fill": "Filling unseen texels",
        "write": "Writing",
    }

    def show(event: str, fields: dict[str, Any]) -> None:
        if event == "warning":
            stream.write(f"\r\033[K! {fields['message']}\n" if stream.isatty() else f"! {fields['message']}\n")
        if event not in ("phase", "step"):
            return
        label = words.get(fields["phase"], fields["phase"])
        if stream.isatty():
            n = max(fields["n"], 1)
            filled = round(width * fields["i"] / n)
            eta = f"about {fields['eta_s']:.0f} s left" if fields["eta_s"] else ""
            stream.write(f"\r\033[K{label:<30} [{'#' * filled}{'.' * (width - filled)}] {eta}")
            if fields["phase"] == "write" and fields["i"] == fields["n"]:  # the last phase; a turntable has steps
                stream.write("\n")
        elif event == "phase" or fields["i"] == fields["n"]:
            stream.write(f"{label} {fields['i']}/{fields['n']}\n" if fields["n"] else f"{label}\n")
        stream.flush()

    return show
