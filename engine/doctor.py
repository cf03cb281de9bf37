# SPDX-License-Identifier: Apache-2.0
"""What this engine is and what it can do, as one dictionary: for `doctor`, the panel's engine line and bug reports."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping

from blender_addon.jobs import ssh
from blender_addon.jobs.errors import TweedError
from blender_addon.jobs.files import parse_json
from blender_addon.jobs.folder import PROTO, VERSION
from engine.versions import versions

REMOTE_SECONDS = 120.0


def remote_facts(environ: Mapping[str, str] = os.environ) -> dict | None:
    """What the machine that TWEED_REMOTE names says: its `facts`, or {"error", "action"}; None where none is named."""
    host = environ.get("TWEED_REMOTE", "")
    if not host:
        return None
    try:
        words = ssh.command(host, environ.get("TWEED_REMOTE_FOLDER", ""), ["doctor", "--json"], environ)
        told = subprocess.run(words, capture_output=True, timeout=REMOTE_SECONDS, stdin=subprocess.DEVNULL)
        if told.returncode:
            raise ssh.failure(host, told.returncode, told.stderr.decode("utf-8", "replace").splitlines())
        found = parse_json(told.stdout[told.stdout.index(b"{") :])  # after what a login prints
        if not isinstance(found, dict):
            raise ValueError("no record")
        return {"host": host, **found}
    except OSError as fault:
        error: TweedError = ssh.no_program(host, fault, environ)
    except (subprocess.TimeoutExpired, ValueError) as fault:
        error = TweedError(f"{host} gave no answer ({type(fault).__name__}).", "Log in once in a terminal to see why.")
    except TweedError as fault:
        error = fault
    return {"host": host, "error": error.message, "action": error.action}


def facts(quick: bool = False) -> dict:
    """Device, rasterizers, models and versions. `quick` leaves the models' checksums out."""
    from engine.device import describe, pick_device
    from engine.models import available_models
    from engine.raster import available_rasterizers

    device = pick_device("auto")
    return {
        "version": VERSION,
        "proto": PROTO,
        "python": platform.python_version(),
        "torch": versions()["torch"],
        "device": describe(device),
        "device_type": device.type,
        "rasterizers": available_rasterizers(),
        "models": available_models(verify=not quick),
        "libraries": versions(),
    }
