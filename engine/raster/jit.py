# SPDX-License-Identifier: Apache-2.0
"""Compiling the kernels with numba, and running them on every core.

Kernels release the GIL and are called from a few ordinary threads, not through numba's `prange`: this compiles
several times faster, needs no OpenMP or TBB, survives a fork, and may be called from two threads at once (numba's
own fallback pool ends the process when it is). `NUMBA_NUM_THREADS` sets the number of threads.

A compiled kernel is cached by the date of its own file only, so a kernel never calls one of another file.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np


def user_cache() -> Path:
    """The folder where this user's programs keep what they can make again."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def writable(folder: Path) -> bool:
    """Whether a file can be made in `folder` (made too if need be). Permission bits do not tell on every system."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def cache_folder(source: Path) -> Path | None:
    """Where to keep compiled kernels when not beside `source`; None when that place is good."""
    if numba.config.CACHE_DIR or writable(source.parent / "__pycache__"):
        return None
    own = user_cache() / "tweed" / "numba"
    return own if writable(own) else Path(tempfile.mkdtemp(prefix="tweed-numba-"))


_elsewhere = cache_folder(Path(__file__))
if _elsewhere is not None:
    numba.config.CACHE_DIR = str(_elsewhere)

kernel = numba.njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")


def plain(array: np.ndarray, dtype) -> np.ndarray:
    """`array` as the kernels are compiled for: this dtype, C order, writable. Copies only if it has to."""
    return np.require(array, dtype, ["C", "A", "W"])


_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def thread_count() -> int:
    return int(numba.config.NUMBA_NUM_THREADS)


def spread(count: int, worker: Callable[[Iterator[int]], None]) -> None:
    """Share the numbers 0..count-1 among the threads; each calls `worker` once with the numbers it gets.

    A worker loops over its numbers and may keep scratch memory between them. Which thread gets which number is
    not fixed, so a result must depend on the number alone. An exception in a worker is raised here. A worker may call
    `spread` itself: who finds no free thread does the work alone.
    """
    global _pool
    numbers, lock = iter(range(count)), threading.Lock()

    def take() -> Iterator[int]:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            yield number

    threads = min(thread_count(), count)
    if threads <= 1:
        worker(take())
        return
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(thread_count() - 1, thread_name_prefix="tweed-raster")
    others = [_pool.submit(worker, take()) for _ in range(threads - 1)]
    try:
        worker(take())
    finally:
        for other in others:
            if not other.cancel():  # what has not begun finds no number left
                other.result()


def slices(length: int, size: int) -> list[slice]:
    """`length` cut into slices of `size` (the last may be shorter), for `spread`."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
