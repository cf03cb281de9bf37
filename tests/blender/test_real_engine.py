# SPDX-License-Identifier: Apache-2.0
"""One small job through the real engine and the bundled model, and a cancel in the middle of another."""

import shutil
import time
from pathlib import Path

import bpy
import pytest


def test_the_bundled_model_textures_a_cube_and_can_be_cancelled(real, cube):
    from bl_ext.tweeddev.tweed import api
    from bl_ext.tweeddev.tweed.jobs.errors import Cancelled

    settings = {"views": 4, "steps": 3, "texture_size": 128, "seed": 1, "device": "cpu"}
    result = api.texture(cube, "rusty red metal", **settings)
    image = bpy.data.images[result.images[0]]
    assert tuple(image.size) == (128, 128)
    assert len(set(image.pixels[:4000])) > 50, "a flat colour is no texture"
    assert result.report
    began = time.monotonic()
    with pytest.raises(Cancelled):
        api.texture(
            cube, "rusty red metal", cancelled=lambda: time.monotonic() - began > 1, **settings | {"steps": 200}
        )
    assert real.now.engine.alive


def test_the_drive_with_the_model_is_unplugged(real, cube, tmp_path, unchanged):
    """While it is painted with: the texture comes. Before it is loaded: a sentence, and everything is as before."""
    from bl_ext.tweeddev.tweed import api
    from bl_ext.tweeddev.tweed.jobs.errors import ModelError
    
    bundled = Path(real.place().root) / "engine" / "models" / "swatch"
    model = shutil.copytree(bundled, tmp_path / "drive" / "mine")
    settings = {"views": 4, "steps": 3, "texture_size": 128, "seed": 1, "device": "cpu", "model": str(model)}

    def unplug():
        if model.exists() and real.running().phase == "denoise":
            model.rename(tmp_path / "elsewhere")
        return False

    result = api.texture(cube, "rusty red metal", cancelled=unplug, **settings)
    assert not model.exists() and result.images
    real.stop_engine()
    with unchanged("mine", error=ModelError):
        api.texture(cube, "rusty red metal", **settings)
    (tmp_path / "elsewhere").rename(model)
    assert api.texture(cube, "rusty red metal", **settings).images
