# SPDX-License-Identifier: Apache-2.0
"""What this engine is and what it can do, as one dictionary: for `doctor`, the panel's engine line and bug reports."""

from __future__ import annotations

import platform

from blender_addon.jobs.folder import PROTO, VERSION
from engine.versions import versions

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
