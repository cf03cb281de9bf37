# SPDX-License-Identifier: Apache-2.0
"""From a mesh and cameras to images of which triangle is seen where.

A back end (`RASTERIZERS`) says which triangle is in front at each pixel and nothing else. Everything after that is
shared: `gbuffer` (what a pixel sees), `texels` (what a texel is), `visibility` (which view sees which texel), `depth`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol

import numpy as np

from blender_addon.jobs.errors import DeviceError, SettingsError


class Rasterizer(Protocol):
    """Finds the front triangle at each pixel centre."""

    name: str

    def triangle_ids(self, clip: np.ndarray, triangles: np.ndarray, height: int, width: int) -> np.ndarray:
        """Ids i32[N,H,W] of the nearest triangle, -1 where there is none.

        clip: f64[N,V,4], OpenGL clip space, not divided by w. triangles: i32[F,3], every index below V (unchecked: it
        would cost a pass over the mesh). Row 0 is the top of the image; pixel (r, c) samples (c + 0.5, r + 0.5).
        Both faces of a triangle are drawn; what lies before the near plane or beyond the far plane is not. Where two
        triangles are equally far, the lower id wins.
        """
        ...


def _numba(device: str) -> Rasterizer:
    from .numba_backend import NumbaRasterizer

    return NumbaRasterizer()


def _nvdiffrast(device: str) -> Rasterizer:
    from .nvdiffrast_backend import NvdiffrastRasterizer

    return NvdiffrastRasterizer(device if device.startswith("cuda") else "cuda")


def _reference(device: str) -> Rasterizer:
    from .reference import ReferenceRasterizer

    return ReferenceRasterizer()


def _module_missing(name: str) -> str:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed"
    except (ImportError, OSError, RuntimeError) as error:  # there, but not for this Python, torch or driver
        return f"{name} does not load: {error}"
    return ""


def _nvdiffrast_missing() -> str:
    import torch

    if not torch.cuda.is_available():
        return "it needs an NVIDIA card with CUDA, and torch found none"
    return _module_missing("nvdiffrast.torch")


RASTERIZERS: dict[str, Callable[[str], Rasterizer]] = {
    "nvdiffrast": _nvdiffrast,
    "numba": _numba,
    "reference": _reference,
}

MISSING: dict[str, Callable[[], str]] = {
    "nvdiffrast": _nvdiffrast_missing,
    "numba": lambda: _module_missing("numba"),
    "reference": lambda: "",
}


def available_rasterizers() -> dict[str, str]:
    """Every back end's name with "ok", or the reason why it cannot be used here."""
    return {name: MISSING[name]() or "ok" for name in RASTERIZERS}


def pick_rasterizer(name: str = "auto", device: object = "cpu") -> Rasterizer:
    """The back end of that name. "auto": nvdiffrast where `device` is CUDA and it is installed, else numba.

    Raises SettingsError for a name that does not exist and DeviceError, with the reason, for one that cannot be used.
    """
    if name == "auto":
        return pick_rasterizer(_best(str(device)), device)
    if name not in RASTERIZERS:
        choices = f"Choose one of: auto, {', '.join(RASTERIZERS)}."
        raise SettingsError(f'There is no rasterizer called "{name}".', choices, key="rasterizer")
    reason = MISSING[name]()
    if reason:
        raise DeviceError(f"The rasterizer {name} cannot be used: {reason}.", 'Choose rasterizer "auto" or "numba".')
    return RASTERIZERS[name](str(device))


def _best(device: str) -> str:
    if device.startswith("cuda") and not MISSING["nvdiffrast"]():
        return "nvdiffrast"
    return "reference" if MISSING["numba"]() else "numba"
