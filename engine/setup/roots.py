# SPDX-License-Identifier: Apache-2.0
"""A folder with a small Debian in it that holds the full Blender application, a virtual screen and a pointer.

Tests use it where the machine has no Blender of its own. It needs root and apt; the machine's own packages stay as they
are, but for `mmdebstrap`, which makes the folder. About two minutes and 1.2 GB each.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from engine.setup import pip
from engine.setup.console import say
from engine.setup.machine import can_use_apt, free_bytes

SUITE = "trixie"  # Debian 13: Blender 4.3.2, Python 3.13
NEWEST = "sid"  # unstable, a moving target: Blender 5.2.2, Python 3.14 in November 2026
MORE = {  # what a suite needs besides
    NEWEST: {
        "packages": ("python3-cattr",),
        # a mirror may be some days behind; the release file's signature is checked all the same
        "options": ('--aptopt=Acquire::Check-Valid-Until "false"',),
    }
}
PACKAGES = (
    "blender",
    "python3-numpy",
    "python3-requests",
    "python3-zstandard",  # numpy, requests, zstandard: what Blender's own add-ons import
    "xvfb",
    "xdotool",
    "libgl1-mesa-dri",
    "libgl1",
    "libegl1",
    "xkb-data",
    "x11-xkb-utils",
)
OPTIONS = (
    "--variant=apt",
    '--aptopt=APT::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
    *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale")),
)
GIGABYTES = 3.0


def folder(work: Path) -> Path:
    """Where the roots are: $TWEED_BLENDER_ROOTS, else .blender-roots beside the checkout's environments."""
    return Path(os.environ.get("TWEED_BLENDER_ROOTS") or work / ".blender-roots")


def ready(root: Path) -> bool:
    return (root / "usr/bin/blender").exists() and (root / "usr/bin/Xvfb").exists()


def obstacle(work: Path) -> str:
    """Why the full application cannot be had here, or ""."""
    if not can_use_apt():
        return "making a Debian folder with Blender needs root and apt"
    if free_bytes(work) < GIGABYTES * 1e9:
        return f"less than {GIGABYTES:.0f} GB of disk are free"
    return ""


def ensure(work: Path, log: Path, suite: str = SUITE) -> tuple[Path | None, str]:
    """The root's folder, or None and the reason. `suite`: of Debian."""
    root, more = folder(work) / suite, MORE.get(suite, {})
    if ready(root):
        return root, ""
    reason = obstacle(work)
    if reason:
        return None, reason
    if not shutil.which("mmdebstrap"):
        say("  installing the system package mmdebstrap")
        pip.run(["apt-get", "update", "-q"], log)
        pip.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", "mmdebstrap"], log)
    if not shutil.which("mmdebstrap"):
        return None, f"mmdebstrap could not be installed (log: {log})"
    say(f"  making a Debian folder with the full Blender application in {root} (about two minutes, 1.2 GB)")
    building = root.with_name(f"{suite}.building")
    shutil.rmtree(building, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    wanted = ",".join((*PACKAGES, *more.get("packages", ())))
    code, _ = pip.run(["mmdebstrap", *OPTIONS, *more.get("options", ()), f"--include={wanted}", suite, building], log)
    if code or not ready(building):
        shutil.rmtree(building, ignore_errors=True)
        return None, f"the Debian folder could not be made (log: {log})"
    shutil.rmtree(root, ignore_errors=True)
    os.replace(building, root)
    return root, ""
