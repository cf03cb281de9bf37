# SPDX-License-Identifier: Apache-2.0
"""Where the tensors live: choosing a device, naming it, asking what is free on it, and saying so when it is full."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import torch

from blender_addon.jobs.errors import DeviceError, OutOfMemory

DEVICES = ("auto", "cpu", "cuda", "mps")

GIB = 2**30

# How the allocators of CPU, CUDA/ROCm and Metal begin the sentence that says a tensor did not fit.
_FULL = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate", "invalid buffer size")


def pick_device(name: str = "auto") -> torch.device:
    """The torch device for a settings value: "auto", "cpu", "cuda", "cuda:1" or "mps". ROCm answers to "cuda".

    "auto" takes CUDA, then Apple's Metal, then the CPU. Raises `DeviceError` for a device this machine or this build of
    torch does not have.
    """
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (index and not (kind == "cuda" and index.isdigit())):
        raise DeviceError(f'There is no device called "{name}".', f"Choose one of: {', '.join(DEVICES)}, cuda:1 ...")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda":
        return _cuda(int(index or 0))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("Apple's Metal (mps) is not available here.", 'Choose device "auto" or "cpu".')
    return torch.device(kind)


def _cuda(index: int) -> torch.device:
    if torch.version.cuda is None and torch.version.hip is None:
        raise DeviceError(
            f"The installed torch {torch.__version__} was built without GPU support.",
            'Run "python3 install.py" again on this machine so that it picks the GPU build, or choose device "cpu".',
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise DeviceError(
            "No usable NVIDIA or AMD GPU was found.",
            'Update the graphics driver (nvidia-smi must list the card), or choose device "cpu".',
        )
    if index >= count:
        raise DeviceError(f"GPU {index} was asked for, but there are only {count}.",
                          f"Choose cuda:{count - 1} or lower.")  # fmt: skip
    return torch.device("cuda", index)


def describe(device: torch.device) -> str:
    """One line for the panel and the report, such as "NVIDIA H100, 79 GB" or "CPU (AMD EPYC), 2 threads, 23 GB"."""
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        return f"{found.name}, {found.total_memory / GIB:.0f} GB"
    memory = f"{_total_memory() / GIB:.0f} GB"
    if device.type == "mps":
        return f"Apple GPU ({_processor()}), {memory} shared"
    return f"CPU ({_processor()}), {torch.get_num_threads()} threads, {memory}"


@functools.lru_cache(maxsize=256)
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A few numbers on a device, moved there once and not to be changed.

    Moved in each step, the processor would wait for the card each time.
    """
    return torch.tensor(values, dtype=dtype, device=device)


def free_memory(device: torch.device) -> int:
    """Bytes that a new tensor could still take on `device`, counting what torch holds but does not use."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    available = _available_memory()
    if device.type == "mps":
        return max(0, min(available, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()))
    return available


def dtype_for(device: torch.device) -> torch.dtype:
    """The number format a network runs in when nobody asked for one.

    GPUs: float16 (what the published weights were made and tested in). CPU: bfloat16 where the processor multiplies it
    in hardware (AVX512-BF16 or AMX), else float32.
    """
    if device.type in ("cuda", "mps"):
        return torch.float16
    return torch.bfloat16 if cpu_has_bfloat16() else torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; without that it is emulated and slower than float32."""
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe is not None and probe())


@contextlib.contextmanager
def memory_guard(device: torch.device, doing: str = "This step") -> Iterator[None]:
    """Turns torch's out-of-memory errors into `OutOfMemory` with a remedy an artist can follow."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(device, doing) from error
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in _FULL):
            raise
        raise _out_of_memory(device, doing) from error


def _out_of_memory(device: torch.device, doing: str) -> OutOfMemory:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.synchronize(device)
    free = free_memory(device) / GIB
    return OutOfMemory(
        f"{doing} needs more memory than {describe(device)} has free ({free:.1f} GB).",
        "Use fewer views or a smaller view size, close other programs that use the GPU, or choose a smaller model.",
    )


def _available_memory() -> int:
    """Free main memory in bytes, within the container's limit where there is one."""
    free = _meminfo("MemAvailable")
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    return max(0, min(free, limit - used)) if limit else free


def _total_memory() -> int:
    limit = _cgroup("memory.max")
    return min(_meminfo("MemTotal"), limit) if limit else _meminfo("MemTotal")


def _meminfo(field: str) -> int:
    lines = Path("/proc/meminfo")
    if lines.exists():
        rows = dict(line.split(":", 1) for line in lines.read_text().splitlines())
        return int(rows[field].split()[0]) * 1024
    import psutil  # comes with accelerate; reads the same numbers on Windows and macOS

    memory = psutil.virtual_memory()
    return memory.available if field == "MemAvailable" else memory.total


def _cgroup(name: str) -> int:
    """A number from the container's memory controller (cgroup v2); 0 where there is no limit."""
    path = Path("/sys/fs/cgroup") / name
    text = path.read_text().strip() if path.exists() else "max"
    return int(text) if text.isdigit() else 0


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or os.environ.get("PROCESSOR_IDENTIFIER", "") or platform.machine()
