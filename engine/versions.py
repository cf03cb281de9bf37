# SPDX-License-Identifier: Apache-2.0
"""Which versions of what a texture was made with."""

from __future__ import annotations

import importlib.metadata
import platform

LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "numba", "scipy", "trimesh", "xatlas", "pillow")


def versions() -> dict[str, str]:
    """Installed versions of the libraries a texture depends on; "missing" for one that is not there."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found
