# SPDX-License-Identifier: Apache-2.0
"""The way back: the adjoint of projecting, which carries a gradient, and the patterns a texture is a sum of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blender_addon.jobs.rigs import build_rig
from engine.spaces.uv import UVTexture
from engine.spaces.uv.octaves import octave_map
from tests import shapes
from tests.painted import RASTERIZER, mesh_of
from tests.toys import EXACT, CircleWorld, soft


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SPACES = {
    **{name: lambda make=make: make(channels=3) for name, make in EXACT.items()},
    "soft": soft,
    "circle": lambda: CircleWorld(3, 4, 24, 128),
    "circle, filtered": lambda: CircleWorld(3, 4, 24, 128, filtered=True),
    "sphere": lambda: sphere(),
}


def sphere():
    mesh = mesh_of(shapes.icosphere(2))
    return UVTexture(mesh, build_rig("ring", 4, mesh.positions), RASTERIZER, 24, channels=3)


@pytest.mark.parametrize("name", SPACES)
def test_backprojecting_is_the_adjoint_of_projecting(name):
    """<P z, v> = <z, P' v>, also for parts of a space, whose adjoints sum to the whole's."""
    space = SPACES[name]()
    views = normal(len(space.mask), 3, *space.mask.shape[-2:])
    z = normal(*space.merge(views).shape, seed=1)
    there, back = float((space.project(z) * views).sum()), float((z * space.backproject(views)).sum())
    assert abs(there - back) < 1e-5 * abs(there)
    parts = sum(space.only([view]).backproject(views[[view]]) for view in range(len(views)))
    assert torch.allclose(parts, space.backproject(views), atol=1e-9)


def test_octaves_are_broad_patterns_in_space():
    """On each grid the shares of a texel sum to 1, so equal coefficients give an even colour, and a coefficient reaches
    no further than one cell on each side, wherever its texels lie on the UV map. 4000 texels: sqrt(2000) / 4 = 11 cells
    at most, so grids of 4 and 8."""
    position = np.random.default_rng(0).uniform(-1, 3, (4000, 3)).astype(np.float32) * [1, 0.5, 0.25]
    octaves = octave_map(position.astype(np.float32))
    assert torch.allclose(octaves(torch.ones(octaves.size, 1)), torch.full((4000, 1), 2.0), atol=1e-5)
    columns = octaves.columns.reshape(4000, 2, 8)
    for grid, cells in enumerate((4, 8)):
        for coefficient in np.unique(columns[:, grid])[::7]:
            reached = position[(columns[:, grid] == coefficient).any(1)]
            assert np.ptp(reached, axis=0).max() <= 2 * 4 / cells + 1e-5
    x, y = normal(octaves.size, 2), normal(4000, 2, seed=1)
    assert torch.allclose((octaves(x) * y).sum(), (x * octaves.transpose()(y)).sum(), atol=1e-6)


@pytest.mark.parametrize("position", [np.zeros((0, 3)), np.zeros((1, 3)), np.ones((50, 3)), np.eye(3)])
def test_octaves_of_next_to_nothing(position):
    octaves = octave_map(position.astype(np.float32))
    assert torch.allclose(octaves(torch.ones(octaves.size, 1)), torch.ones(len(position), 1))
