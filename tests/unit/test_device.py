# SPDX-License-Identifier: Apache-2.0
"""Choosing a device, and what is said when it is missing or full."""

from __future__ import annotations

import pytest
import torch

from blender_addon.jobs.errors import DeviceError, OutOfMemory
from engine import device
from engine.device import cpu_has_bfloat16, describe, dtype_for, free_memory, memory_guard, pick_device

CPU = torch.device("cpu")


def test_cpu_is_always_there():
    assert pick_device("cpu") == CPU
    assert "CPU" in describe(CPU)
    assert 2**20 < free_memory(CPU) < 2**50


def test_auto_takes_the_best_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == CPU
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("mps")
    assert pick_device("mps") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert pick_device("auto") == torch.device("cuda", 0)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="only 2"):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["", "tpu", "cuda:x", "cpu:1", "auto:0", "CUDA"])
def test_unknown_names(name):
    with pytest.raises(DeviceError) as caught:
        pick_device(name)
    assert "cpu" in caught.value.action


def test_missing_gpu_says_which_of_the_two_it_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(DeviceError) as caught:
        pick_device("cuda")
    assert "install.py" in caught.value.action
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with pytest.raises(DeviceError) as caught:
        pick_device("cuda")
    assert "driver" in caught.value.action


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has Metal")
def test_missing_metal():
    with pytest.raises(DeviceError, match="Metal"):
        pick_device("mps")


def test_number_formats():
    assert dtype_for(torch.device("cuda", 0)) == torch.float16
    assert dtype_for(CPU) == (torch.bfloat16 if cpu_has_bfloat16() else torch.float32)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        MemoryError("Unable to allocate 9 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.1 GB)"),
    ],
)
def test_memory_errors_are_translated(error):
    with pytest.raises(OutOfMemory) as caught, memory_guard(CPU, "Denoising the views"):
        raise error
    assert caught.value.message.startswith("Denoising the views needs more memory")
    assert "fewer views" in caught.value.action
    assert caught.value.code == "out_of_memory"


def test_a_real_allocation_that_cannot_be():
    with pytest.raises(OutOfMemory), memory_guard(CPU):
        torch.empty(2**50)


def test_other_errors_pass_unchanged():
    with pytest.raises(RuntimeError, match="shape"), memory_guard(CPU):
        raise RuntimeError("shape mismatch")


def test_a_container_limit_counts(monkeypatch):
    limits = {"memory.max": 4 * 2**30, "memory.current": 3 * 2**30}
    monkeypatch.setattr(device, "_cgroup", limits.get)
    monkeypatch.setattr(device, "_meminfo", lambda field: 64 * 2**30)
    assert free_memory(CPU) == 2**30
    assert "4 GB" in describe(CPU)
