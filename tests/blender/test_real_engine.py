# SPDX-License-Identifier: Apache-2.0
"""One small job through the real engine and the bundled model, and a cancel in the middle of another."""

import time

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
