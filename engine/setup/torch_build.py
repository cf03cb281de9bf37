# SPDX-License-Identifier: Apache-2.0
"""Which build of torch suits this machine. One version everywhere; only the build differs.

torch 2.13 is published for CUDA 12.6, 13.0 (the one on PyPI for Linux) and 13.2, ROCm 7.2, CPU and Apple silicon, for
Python 3.10 to 3.14 (pytorch/pytorch pull request 187075). CUDA 13 needs driver 580 or newer and a Turing card (7.5) or
newer; the 12.6 build serves older drivers (525 on Linux, 528 on Windows) and older cards.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.setup.console import SetupProblem
from engine.setup.machine import Machine, Nvidia

VERSION = "2.13.0"
INDEX = "https://download.pytorch.org/whl/"
CHOICES = ("auto", "cpu", "cuda", "rocm")


@dataclass(frozen=True)
class TorchBuild:
    """`requirement` is tried on the machine's own pip configuration first, then with `index` beside it."""

    name: str
    requirement: str
    index: str | None
    disk_gb: float  # room for the whole engine environment while it is being installed
    why: str


def choose(machine: Machine, wanted: str = "auto") -> TorchBuild:
    """The build for a machine. Raises SetupProblem for a machine or a wish that no build exists for."""
    if machine.system == "Darwin":
        return _apple(machine, wanted)
    if wanted == "auto":
        wanted = "cuda" if machine.nvidia else "rocm" if machine.rocm else "cpu"
        reason = {
            "cuda": machine.nvidia.name if machine.nvidia else "",
            "rocm": "an AMD card with ROCm",
            "cpu": "no GPU that torch can use was found",
        }[wanted]
    else:
        reason = "asked for"
    if wanted == "cuda":
        return _cuda(machine, reason)
    if wanted == "rocm":
        if machine.system != "Linux" or machine.arch != "x86_64":
            raise SetupProblem(
                "torch has a ROCm build for Linux on x86-64 only.", "Leave --torch out, or use --torch cpu."
            )
        return TorchBuild("rocm7.2", f"torch=={VERSION}+rocm7.2", INDEX + "rocm7.2", 20, reason)
    if machine.system == "Windows":  # the build on PyPI is the CPU one there
        return TorchBuild("cpu", f"torch=={VERSION}", None, 4, reason)
    return TorchBuild("cpu", f"torch=={VERSION}+cpu", INDEX + "cpu", 4, reason)


def _apple(machine: Machine, wanted: str) -> TorchBuild:
    if machine.arch != "arm64":
        raise SetupProblem(
            "torch is no longer made for Macs with an Intel processor.",
            "Run the engine on another computer: `python -m engine run` takes the extension's job folders anywhere.",
        )
    if wanted in ("cuda", "rocm"):
        raise SetupProblem(
            f"There is no {wanted} build of torch for macOS.", "Leave --torch out: Apple's GPU is used by itself."
        )
    return TorchBuild("apple", f"torch=={VERSION}", None, 4, "Apple silicon")


def _cuda(machine: Machine, reason: str) -> TorchBuild:
    if old_card_or_driver(machine.nvidia, machine.system):
        return TorchBuild(
            "cu126",
            f"torch=={VERSION}+cu126",
            INDEX + "cu126",
            16,
            f"{reason}, with a driver or a card too old for CUDA 13",
        )
    if machine.system == "Windows":
        return TorchBuild("cu130", f"torch=={VERSION}+cu130", INDEX + "cu130", 16, reason)
    # PyPI's build for Linux is the CUDA 13.0 one; === keeps pip from taking a local +cpu file for it.
    return TorchBuild("cu130", f"torch==={VERSION}", INDEX + "cu130", 16, reason)


def old_card_or_driver(card: Nvidia | None, system: str) -> bool:
    """True when CUDA 13 will not run. Raises SetupProblem when CUDA 12.6 will not either."""
    if card is None:
        return False
    oldest = 528 if system == "Windows" else 525
    if card.driver[0] < oldest:
        raise SetupProblem(
            f"The NVIDIA driver ({'.'.join(map(str, card.driver))}) is too old for torch {VERSION}.",
            f"Install driver 580 or newer (at least {oldest}), or use --torch cpu.",
        )
    return card.driver[0] < 580 or (0, 0) < card.capability < (7, 5)


def pinned(build: TorchBuild) -> str:
    """The version torch must report, without the build's local part."""
    return build.requirement.split("=")[-1].split("+")[0]
