# SPDX-License-Identifier: Apache-2.0
"""Which cameras share rows and columns of pixels, and which do not and are told so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from blender_addon.jobs.errors import SettingsError
from blender_addon.jobs.records import Camera
from blender_addon.jobs.rigs import views_of
from blender_addon.jobs.settings import resolve
from engine.models.multiview import lines_of
from engine.models.view_lines import Line, token_grid
from tests.shapes import icosphere


def test_token_grids():
    """Halving rounds up: 12 x 7 is 6 x 4, then 3 x 2."""
    assert [token_grid(n, (12, 7)) for n in (84, 24, 6)] == [(12, 7), (6, 4), (3, 2)]
    with pytest.raises(ValueError, match="25 tokens"):
        token_grid(25, (12, 7))


def cameras_for(**more):
    positions = np.asarray(icosphere(2).positions, np.float64) * [1, 0.7, 0.8] + [3, 0, 0]
    settings = {"prompt": "x", "rig": "box", "views": 6, "lens": "parallel", **more}
    return views_of(resolve(settings), positions), positions


def test_the_box_rig_through_parallel_lenses_shares_the_published_lines():
    """Which views are mirrored is a matter of from where one looks: front against the other three, or they against it.
    The rig's top is turned by half against the published one; then front and top agree, and back does not."""
    cameras, positions = cameras_for()

    def columns(cameras):
        rows, columns = lines_of("auto", cameras, positions).lines
        assert rows == Line((0, 1, 2, 3)) and columns.views == (0, 2, 4, 5)
        return {view for view, back in zip(columns.views, columns.mirrored, strict=True) if back == columns.mirrored[0]}

    assert columns(cameras) == {0, 4, 5}
    half = np.diag([-1.0, -1.0, 1.0, 1.0])
    assert columns([*cameras[:4], *(replace(one, view=half @ one.view) for one in cameras[4:])]) == {0}


def test_cameras_that_share_no_rows_are_refused_with_what_to_do(tmp_path):
    for more in ({"lens": "perspective"}, {"rig": "auto"}, {"views": 1}):
        cameras, positions = cameras_for(**more)
        with pytest.raises(SettingsError, match="no two of the") as caught:
            lines_of("auto", cameras, positions)
        assert caught.value.key == "multiview" and "lens to parallel" in caught.value.action
    cameras, positions = cameras_for(views=7)  # a corner besides
    assert lines_of("auto", cameras, positions).alone == (6,)
    (path := tmp_path / "mvadapter_t2mv_sdxl.safetensors").write_bytes(b"")
    assert lines_of(str(path), cameras, positions).alone == (4, 5, 6)  # trained on rows only
    cameras, positions = cameras_for(views=8)  # and the opposite one, through which the same heights are seen
    assert Line((6, 7)) in lines_of("auto", cameras, positions).lines
    smaller = Camera("small", cameras[1].view, np.diag([0.5, 0.5, 1, 1]) @ cameras[1].projection)
    assert lines_of("auto", [cameras[0], smaller, cameras[2]], positions).lines == (Line((0, 2)), Line((1,)))
