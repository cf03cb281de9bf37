# SPDX-License-Identifier: Apache-2.0
"""Which cameras are added to a rig: against shapes of which geometry says where the rest is seen from."""

from __future__ import annotations

import numpy as np
import pytest

from blender_addon.jobs.arrays import MeshArrays
from blender_addon.jobs.coverage import GAIN, cameras_for, measure, with_more
from blender_addon.jobs.rigs import build_rig, rig_at
from blender_addon.jobs.settings import resolve
from tests import shapes


def arrays(shape) -> MeshArrays:
    return MeshArrays(*shape, None, None, None) if len(shape) == 4 else shape


@pytest.fixture(scope="module")
def cube() -> MeshArrays:
    return arrays(shapes.cube())


def back(camera) -> np.ndarray:
    """Unit vector from the object to the camera."""
    return camera.view[2, :3]


def test_the_side_that_nobody_sees_gets_the_camera(cube):
    """Five sides of a cube are seen straight: the one camera that comes looks at the sixth, within 45 degrees."""
    five = rig_at([(0, 0), (90, 0), (180, 0), (270, 0), (0, 90)], cube.positions)
    found = with_more(five, cube, 3)
    assert found[:5] == five and len(found) == 6
    assert back(found[5])[2] < -np.cos(np.radians(45))
    assert measure(cube, found).seen == pytest.approx(1, abs=0.002)


def test_no_camera_comes_where_it_gains_nothing(cube):
    six = rig_at([(0, 0), (90, 0), (180, 0), (270, 0), (0, 90), (0, -90)], cube.positions)
    assert with_more(six, cube, 16) == six
    assert with_more(six[:1], cube, 0) == six[:1]


def test_each_camera_gains_as_much_as_it_must_and_no_more_than_wanted_come():
    torus = arrays(shapes.torus(48, 24))
    one = build_rig("ring", 1, torus.positions)
    found = with_more(one, torus, 5)
    assert len(found) == 6 and len({camera.name for camera in found}) == 6
    seen = [measure(torus, found[:count]).seen for count in range(1, 7)]
    assert all(later - earlier > GAIN / 2 for earlier, later in zip(seen, seen[1:], strict=False)) and seen[-1] > 0.9


def test_the_inside_of_a_pot_is_looked_into():
    """An open box, seen by a level ring: its floor's inside is a fifth of the ten faces and is seen only from above."""
    shape = shapes.cube()
    keep = np.ones(len(shape[1]), bool)
    corners = shape[0][shape[1]]
    keep[(corners[..., 2] == corners[..., 2].max()).all(1)] = False  # no lid
    both = np.concatenate([shape[1][keep], shape[1][keep][:, ::-1]])
    pot = MeshArrays(shape[0], both, shape[2], np.concatenate([shape[3][keep], shape[3][keep][:, ::-1]]), None, None, None)
    ring = build_rig("ring", 8, pot.positions)
    found = with_more(ring, pot, 6)
    assert any(back(camera)[2] > 0.5 for camera in found[8:])
    assert measure(pot, found).seen > measure(pot, ring).seen + 0.2


def test_a_mesh_without_area_gets_nothing():
    flat = arrays(shapes.zero_area())
    rig = build_rig("ring", 2, np.eye(3))
    assert with_more(rig, MeshArrays(np.zeros((3, 3), np.float32), flat.triangles[:1] * 0, flat.uvs, flat.triangle_uvs[:1],
                                     None, None, None), 4) == rig  # fmt: skip


def test_the_setting_reaches_the_job(cube):
    settings = resolve({"prompt": "x", "rig": "ring", "views": 4, "extra_views": 2})
    names = [camera.name for camera in cameras_for(settings, cube)]
    assert names[:4] == ["front", "right", "back", "left"] and len(names) == 6
    assert len(cameras_for(resolve({"prompt": "x", "rig": "ring", "views": 4}), cube)) == 4
