# SPDX-License-Identifier: Apache-2.0
"""What this computer is: system, processor, graphics card, folders, room on the disk. Only looks, changes nothing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Run = Callable[[list[str]], "str | None"]


@dataclass(frozen=True)
class Nvidia:
    """The first NVIDIA card: its name, the driver's version, and its compute capability (0, 0 when unknown)."""

    name: str
    driver: tuple[int, ...]
    capability: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Machine:
    system: str  # "Linux", "Windows" or "Darwin"
    arch: str  # "x86_64" or "arm64"
    python: tuple[int, int, int]
    nvidia: Nvidia | None = None
    rocm: bool = False

    @property
    def python_text(self) -> str:
        return ".".join(map(str, self.python[:2]))


def ask(command: list[str], seconds: float = 30) -> str | None:
    """What a program prints, or None when it is missing, fails or hangs."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            **hidden_window(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def hidden_window() -> dict:
    """Extra arguments for subprocess so that no console window flashes on Windows."""
    return {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {}


def find_nvidia(run: Run = ask) -> Nvidia | None:
    text = run(["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"])
    if not text or not text.strip():
        return None
    parts = [part.strip() for part in text.strip().splitlines()[0].split(",")]
    numbers = [tuple(int(n) for n in re.findall(r"\d+", part)) for part in parts[1:]]
    if not numbers or not numbers[0]:
        return None
    capability = numbers[1][:2] if len(numbers) > 1 and len(numbers[1]) >= 2 else (0, 0)
    return Nvidia(parts[0], numbers[0], capability)


def find_rocm(run: Run = ask, exists: Callable[[str], bool] = os.path.exists) -> bool:
    """True when the AMD kernel driver is loaded and ROCm lists a graphics card."""
    if not exists("/dev/kfd"):
        return False
    text = run(["rocminfo"]) or run(["/opt/rocm/bin/rocminfo"]) or ""
    return bool(re.search(r"Name:\s+gfx\d", text))


def look() -> Machine:
    arch = {"AMD64": "x86_64", "aarch64": "arm64", "ARM64": "arm64"}.get(platform.machine(), platform.machine())
    system = platform.system()
    return Machine(
        system,
        arch,
        tuple(sys.version_info[:3]),
        nvidia=None if system == "Darwin" else find_nvidia(),
        rocm=system == "Linux" and find_rocm(),
    )


def data_folder(system: str, environment: Mapping[str, str], home: Path) -> Path:
    """The per-user folder that the engine, its pointer file and downloaded models live in."""
    if system == "Windows":
        base = Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif system == "Darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "tweed"


def free_bytes(folder: Path) -> int:
    """Room left on the disk that `folder` is or will be on."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def can_use_apt() -> bool:
    """True on Debian and its kin when packages can be installed without asking (root)."""
    return os.name == "posix" and os.geteuid() == 0 and shutil.which("apt-get") is not None
