# SPDX-License-Identifier: Apache-2.0
"""Shared noise: white in every view, and the same on the same surface. And where a pixel is in another view."""

import numpy as np
import pytest
import torch

from blender_addon.jobs.rigs import build_rig
from engine.raster.gbuffer import resolve
from engine.spaces.uv import UVTexture
from engine.spaces.uv.noise import noise_map
from tests import shapes
from tests.painted import RASTERIZER, front, mesh_of, two_quads

CHANNELS = 24


@pytest.fixture(scope="module")
def sphere():
    mesh = mesh_of(shapes.uv_sphere(64, 32))
    cameras = build_rig("ring", 8, mesh.positions)
    space = UVTexture(mesh, cameras, RASTERIZER, 64, channels=CHANNELS)
    return space, mesh, cameras, space.project_noise(torch.Generator().manual_seed(0))


def test_variance_is_one_everywhere(sphere):
    space, _, _, noise = sphere
    assert noise.shape == (8, CHANNELS, 64, 64)
    squares = np.bincount(np.repeat(np.arange(space.noise.map.rows), np.diff(space.noise.map.offsets)),
                          space.noise.map.values.astype(np.float64) ** 2, minlength=space.noise.map.rows)
    assert np.allclose(squares, space.noise.map.row_sums() > 0, atol=1e-5)  # exact by construction
    inside = torch.from_numpy(space.ids >= 0)
    for where in (inside, ~inside):
        assert abs(float(noise.permute(0, 2, 3, 1)[where].var()) - 1) < 0.03
        assert abs(float(noise.permute(0, 2, 3, 1)[where].mean())) < 0.03


def test_neighbours_are_independent(sphere):
    space, _, _, noise = sphere
    inside = torch.from_numpy(space.ids >= 0)[:, None].expand_as(noise)
    for axis in (2, 3):
        count = noise.shape[axis] - 1
        first, second = noise.narrow(axis, 0, count), noise.narrow(axis, 1, count)
        both = inside.narrow(axis, 0, count) & inside.narrow(axis, 1, count)
        assert abs(float((first[both] * second[both]).mean())) < 0.1


def test_views_share_their_noise(sphere):
    space, mesh, cameras, noise = sphere
    cosine = resolve(space.ids, space.screen.clip, mesh, cameras).cosine
    for i in range(8):
        j = (i + 1) % 8  # 45 degrees on
        place, valid = space.correspond(i, j)
        column, row = (place[..., k].long().clamp(0, 63) for k in (0, 1))
        well = valid & torch.from_numpy(cosine[i] > 0.5) & torch.from_numpy(cosine[j])[row, column].gt(0.5)
        here, there = noise[i].permute(1, 2, 0)[well], noise[j].permute(1, 2, 0)[row, column][well]
        assert float((here * there).mean()) >= 0.5


def test_noise_of_another_draw_is_new(sphere):
    space, _, _, noise = sphere
    generator = torch.Generator().manual_seed(0)
    first, second = space.project_noise(generator), space.project_noise(generator)
    assert torch.equal(first, noise)
    assert abs(float((first * second).mean())) < 0.01


@pytest.mark.parametrize("size", [4, 64])
def test_magnified_texels_do_not_repeat(size):
    """Where a texel covers many pixels, independent noise takes over: no blocks."""
    mesh = mesh_of(shapes.quad())
    space = UVTexture(mesh, [front()], RASTERIZER, 64, 64, channels=CHANNELS)
    generator = torch.Generator().manual_seed(2)
    noise = noise_map(space.screen, RASTERIZER, space.corners, 64, size).draw(generator, CHANNELS)
    inside = torch.from_numpy(space.ids[0] >= 0)
    assert abs(float(noise[0][:, inside].var()) - 1) < 0.03
    both = inside[:, 1:] & inside[:, :-1]
    lag = float((noise[0, :, :, 1:] * noise[0, :, :, :-1])[:, both].mean())
    assert abs(lag) < (0.1 if size == 4 else 0.3)


def test_a_pixel_corresponds_to_itself(sphere):
    place, valid = sphere[0].correspond(2, 2)
    inside = torch.from_numpy(sphere[0].ids[2] >= 0)
    grid = torch.stack(torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="xy"), -1)
    assert torch.equal(valid, inside)
    assert (place[inside] - grid[inside]).abs().max() < 1e-3


def test_correspondence_finds_the_same_point(sphere):
    space, mesh, cameras, _ = sphere
    buffer = resolve(space.ids, space.screen.clip, mesh, cameras)
    place, valid = space.correspond(0, 1)
    column, row = (place[..., k].long().clamp(0, 63).numpy() for k in (0, 1))
    away = np.linalg.norm(buffer.position[0] - buffer.position[1][row, column], axis=-1)
    well = valid.numpy() & (buffer.cosine[1][row, column] > 0.4) & (buffer.triangle[1][row, column] >= 0)
    assert well.sum() > 500 and away[well].max() < 0.12  # about two pixels, seen obliquely
    facing = (buffer.position[0] * np.linalg.inv(cameras[1].view)[:3, 3]).sum(-1)
    assert not (valid.numpy() & (facing < 0)).any()


def test_correspondence_knows_what_is_hidden():
    space = UVTexture(two_quads(), [front((0, 9, 0)), front()], RASTERIZER, 64, 64)
    _, valid = space.correspond(0, 1)  # the far wall, seen from behind, is hidden from the front
    middle = (slice(28, 36), slice(28, 36))
    assert (space.ids[0][middle] >= 2).all() and not valid[middle].any()
