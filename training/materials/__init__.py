# SPDX-License-Identifier: Apache-2.0
"""Procedural surfaces: functions from points and normals (P,3) and a `Look` to unlit base colour (P,3) in 0..1.

Everything is a solid or a box-mapped pattern, so it sits still on the object in every view.
`look.frequency` is about 1.3 for a normal pattern, higher for "fine", lower for "large".
"""

from . import animal, cloth, made, masonry, nature, timber
from .look import Look

_MODULES = (animal, cloth, made, masonry, nature, timber)
SURFACES = {name: surface for module in _MODULES for name, surface in vars(module).items()
            if getattr(surface, "__module__", None) == module.__name__ and not name.startswith("_")}

__all__ = ["SURFACES", "Look"]
