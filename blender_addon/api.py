# SPDX-License-Identifier: GPL-3.0-or-later
"""For scripts: `from bl_ext.user_default.tweed import api; api.texture("Hero", "weathered bronze", seed=7)`."""

from dataclasses import dataclass, field
from pathlib import Path

import bpy

from . import scene, session


@dataclass(frozen=True)
class Result:
    """`path` is the texture's file, `images` the names of the new Blender images, `report` what the engine measured.

    Of UDIM tiles the path has <UDIM> where the files have the tiles' numbers. Where each object has a texture of its own,
    `images` has one for each, in the objects' order, and `path` is the file of the first.
    """

    path: Path
    images: list[str]
    materials: list[str]
    seconds: float
    seed: int
    folder: Path
    remarks: list[str] = field(default_factory=list)
    report: dict = field(default_factory=dict)


def texture(
    objects, prompt: str, *, context=None, cancelled=lambda: False, progress=lambda run: None, textures=None, **settings
) -> Result:
    """Texture `objects` (an object, a name, or a list of either) and wait until it is on their materials.

    `settings` are those of the settings table (`seed=7`, `texture_size=2048`, `quality="draft"` …). `progress` is
    called with the run (`fraction`, `words`, `remaining`) whenever it moved, `cancelled` is asked about ten times a
    second. Raises UserError, EngineError and Cancelled of `jobs.errors`; then nothing has changed.
    """
    named = [objects] if isinstance(objects, (str, bpy.types.Object)) else list(objects)
    found = [o for each in named for o in (scene.by_names(each) if isinstance(each, str) else [each])]
    run = session.begin(context or bpy.context, found, {"prompt": prompt, **settings})
    outcome = session.finish(cancelled, progress, textures)
    applied = outcome.applied
    return Result(
        Path(applied.path),
        applied.images,
        applied.materials,
        run.seconds,
        run.head.settings["seed"],
        run.folder,
        outcome.remarks,
        run.result["report"],
    )
