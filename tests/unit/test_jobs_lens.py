# SPDX-License-Identifier: Apache-2.0
"""Parallel lenses of the cameras that a rig makes."""

from __future__ import annotations

import numpy as np

from blender_addon.jobs.rigs import FILL, build_rig, parallel, views_of
from blender_addon.jobs.settings import resolve
from engine.cameras import clip_positions

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-2, 2) for z in (-1, 1)], float) + [5.0, 0, 3]


def test_the_widest_view_is_filled_and_all_have_one_scale():
    """Seen from the front a box of 2 x 4 x 2 is 2 wide, from the side 4: that fills the picture, of which 2 are half."""
    cameras = parallel(build_rig("box", 6, CUBE), CUBE)
    clip = clip_positions(CUBE, cameras)
    assert (clip[..., 3] == 1).all() and (np.abs(clip[..., 2]) < 1).all()
    extent = np.abs(clip[..., :2]).max(1)  # front, right, back, left, top, bottom: across and upward
    expected = np.array([[1, 1], [2, 1], [1, 1], [2, 1], [1, 2], [1, 2]]) / 2 * FILL
    np.testing.assert_allclose(extent, expected, rtol=1e-9)


def test_the_nearer_is_in_front():
    cameras = parallel(build_rig("ring", 1, CUBE), CUBE)
    depth = clip_positions(CUBE, cameras)[0, :, 2]
    assert depth[CUBE[:, 1] < 0].max() < depth[CUBE[:, 1] > 0].min()


def test_the_setting_chooses_the_lens():
    for lens, bottom in (("perspective", [0, 0, -1, 0]), ("parallel", [0, 0, 0, 1])):
        cameras = views_of(resolve({"prompt": "x", "lens": lens}), CUBE)
        assert all(camera.projection[3].tolist() == bottom for camera in cameras)
