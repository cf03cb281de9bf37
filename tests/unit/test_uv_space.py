# SPDX-License-Identifier: Apache-2.0
"""The UV texture as a canonical space: its maps, on shapes with a known colour at each point."""

import numpy as np
import pytest
import torch

from blender_addon.jobs.rigs import build_rig
from engine.spaces.uv import UVTexture
from tests import shapes
from tests.painted import (
    RASTERIZER,
    at,
    colour_of,
    flat,
    front,
    mesh_of,
    painted_views,
    psnr,
    seen_by,
    two_quads,
    whole,
)

FRIENDLY = {"sphere": lambda: shapes.uv_sphere(48, 24), "cube": shapes.cube, "torus": lambda: shapes.torus(48, 24)}


@pytest.fixture(scope="module", params=FRIENDLY)
def painted(request):
    mesh = mesh_of(FRIENDLY[request.param]())
    cameras = build_rig("auto", 8, mesh.positions)
    space = UVTexture(mesh, cameras, RASTERIZER, 96)
    return space, mesh, cameras, painted_views(seen_by(space, mesh, cameras))


def test_render_gather_render_keeps_a_smooth_texture(painted):
    space, _, _, views = painted
    for power in (1.0, 16.0, 128.0):
        space.sharpen(power)
        assert psnr(at(space.sync(views), whole(space)), at(views, whole(space))) > 35, power


def test_texels_take_the_colour_of_their_place(painted):
    space, _, _, views = painted
    space.sharpen(8)
    z, seen = space.merge(views).T, torch.from_numpy(space.pairs.seen())
    assert psnr(z[seen], torch.from_numpy(colour_of(space.texels.position))[seen].float()) > 35


def test_views_cover_their_own_pixels(painted):
    space = painted[0]
    inside = torch.from_numpy(space.ids >= 0)
    assert space.mask.shape == (8, 1, 96, 96) and 0 <= space.mask.min() and space.mask.max() <= 1
    assert (space.mask[:, 0][inside] > 0).float().mean() > 0.99


@pytest.mark.parametrize("dtype,tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_adjoints(painted, dtype, tolerance):
    random = torch.Generator().manual_seed(1)
    for forward in (painted[0].lookup, painted[0].gather):
        x = torch.randn(forward.size, 4, generator=random, dtype=dtype)
        y = torch.randn(forward.rows, 4, generator=random, dtype=dtype)
        left, right = (forward(x) * y).sum(), (x * forward.transpose()(y)).sum()
        assert abs(left - right) <= tolerance * forward(x).norm() * y.norm()
        assert forward(x).dtype == dtype


def test_rows_sum_to_one(painted):
    space = painted[0]
    seen = space.pairs.seen()
    assert np.allclose(space.gather.row_sums(), seen, atol=1e-5)
    assert np.allclose(space.lookup.row_sums(), space.mask.numpy().ravel() > 0, atol=1e-5)


def test_a_constant_stays(painted):
    space = painted[0]
    views = torch.full((8, 5, 96, 96), 0.7, dtype=torch.float64)
    out = space.sync(views)
    inside = (space.mask > 0).expand_as(out)
    assert (out[inside] - 0.7).abs().max() < 1e-5
    assert (out[~inside] == 0).all()


def test_unproject_is_merge_in_two_parts(painted):
    space, _, _, views = painted
    total, weight = space.unproject(views)
    assert (weight >= 0).all() and weight.max() <= 8.001
    assert torch.equal(weight > 0, torch.from_numpy(space.pairs.seen()))
    assert torch.allclose(total / weight.clamp_min(1e-9), space.merge(views), atol=1e-5)


def test_sharpening_lets_the_best_view_win(painted):
    space, _, _, views = painted
    share = {}
    for power in (1.0, 128.0):
        space.sharpen(power)
        weight = space.pairs.weights(power)[0]
        assert np.isfinite(weight).all()
        several = np.diff(space.pairs.start) > 1
        share[power] = np.maximum.reduceat(weight, space.pairs.start[:-1].clip(0, len(weight) - 1))[several].mean()
        assert torch.isfinite(space.merge(views)).all()
    assert share[128.0] > 0.85 > share[1.0]


def test_restoring_brings_back_detail(painted):
    """Ten rounds of agreement, as in ten steps: what is left of a fine pattern."""
    space, mesh, cameras, _ = painted
    buffer = seen_by(space, mesh, cameras)
    rgb = np.where(buffer.mask[..., None], 0.5 + 0.5 * np.sin(9 * buffer.position), 0)
    views = torch.from_numpy(rgb).float().permute(0, 3, 1, 2)
    space.sharpen(64)

    def left(restore):
        space.restore, out = restore, views
        for _ in range(10):
            out = torch.lerp(out, space.sync(out), space.mask)
        return psnr(at(out, whole(space)), at(views, whole(space)))

    assert left(False) + 3 < left(True)


def test_background_never_reaches_the_texture(painted):
    space, _, _, views = painted
    poisoned = torch.where(torch.from_numpy(space.ids >= 0)[:, None], views, torch.tensor(1e6))
    assert torch.equal(space.merge(poisoned), space.merge(views))


def test_the_same_input_gives_the_same_maps(painted):
    space, mesh, cameras, views = painted
    again = UVTexture(mesh, cameras, RASTERIZER, 96)
    for power in (2.0, 2.5, 3.0):  # whatever came before
        space.sharpen(power)
    again.sharpen(3.0)
    assert torch.equal(again.mask, space.mask)
    assert torch.equal(again.sync(views), space.sync(views))
    draws = [s.project_noise(torch.Generator().manual_seed(4)) for s in (space, again)]
    assert torch.equal(*draws)


def test_hidden_texels_get_no_weight():
    mesh = two_quads()
    space = UVTexture(mesh, [front()], RASTERIZER, 64, 128)
    behind = space.texels.triangle >= 2
    inner = behind & (np.abs(space.texels.position[:, [0, 2]]).max(1) < 0.9 * 6 / 5)
    assert inner.any() and not space.weight.numpy()[inner].any()
    assert (space.weight.numpy()[~behind] > 0).mean() > 0.99
    z = space.merge(torch.ones(1, 1, 64, 64))
    assert (z[0].numpy()[inner] == 0).all()


def test_steep_views_do_not_count():
    space = UVTexture(mesh_of(shapes.quad()), [front((4.9, -0.8, 0))], RASTERIZER, 64, 64)
    assert not space.weight.any() and not space.mask.any()
    assert UVTexture(mesh_of(shapes.quad()), [front((4.9, -0.8, 0))], RASTERIZER, 64, 64, steepest=88).weight.any()


def test_orthographic_views():
    mesh = mesh_of(shapes.uv_sphere(48, 24))
    cameras = [front(e, projection=flat(1.2)) for e in ((0, -5, 0), (5, 0, 0), (0, 5, 0), (-5, 0, 0), (3, -3, 3))]
    space = UVTexture(mesh, cameras, RASTERIZER, 96)
    views = painted_views(seen_by(space, mesh, cameras))
    assert psnr(at(space.sync(views), whole(space)), at(views, whole(space))) > 35
    assert whole(space).sum() > 0.9 * (space.ids >= 0).sum()


def test_one_view_agrees_with_itself():
    mesh = mesh_of(shapes.torus(48, 24))
    cameras = build_rig("ring", 1, mesh.positions)
    space = UVTexture(mesh, cameras, RASTERIZER, 96)
    views = painted_views(seen_by(space, mesh, cameras))
    assert psnr(at(space.sync(views), whole(space)), at(views, whole(space))) > 35


def test_a_view_that_sees_nothing():
    mesh = mesh_of(shapes.cube())
    blind = front((0, -9, 0), (0, -20, 0))
    space = UVTexture(mesh, [blind, front()], RASTERIZER, 48)
    views = torch.rand(2, 3, 48, 48)
    assert not space.mask[0].any() and space.mask[1].any()
    assert torch.isfinite(space.sync(views)).all() and not space.sync(views)[0].any()
    alone = UVTexture(mesh, [blind], RASTERIZER, 48)
    assert not alone.mask.any() and not alone.merge(views[:1]).any() and not alone.sync(views[:1]).any()
    assert alone.project_noise(torch.Generator().manual_seed(0)).std() > 0.9


@pytest.mark.parametrize("size", [1, 2, 7, 16])
def test_tiny_textures(size):
    mesh = mesh_of(shapes.cube())
    space = UVTexture(mesh, build_rig("auto", 4, mesh.positions), RASTERIZER, 32, size)
    out = space.sync(torch.rand(4, 3, 32, 32))
    assert torch.isfinite(out).all() and out.min() > -1 and out.max() < 2


def test_mirrored_halves_share_their_texels():
    """Both halves of a cube stacked on the same texels: the second half reads what the first half gathered."""
    half = shapes.grid(8, 8, lambda s, t: np.stack([0.1 + 0.8 * s, 0 * s, 1.6 * t - 0.8], 1))
    mirror = half._replace(positions=half.positions * np.float32([-1, 1, 1]), triangles=half.triangles[:, ::-1].copy(),
                           triangle_uvs=half.triangle_uvs[:, ::-1].copy())
    count = len(half.positions)
    both = shapes.shape(np.concatenate([half.positions, mirror.positions]),
                        np.concatenate([half.triangles, mirror.triangles + count]),
                        np.concatenate([half.uvs, mirror.uvs]),
                        np.concatenate([half.triangle_uvs, mirror.triangle_uvs + count]))
    mesh = mesh_of(both)
    space = UVTexture(mesh, [front()], RASTERIZER, 64, 128)
    assert space.texels.overlap > 1
    views = torch.zeros(1, 1, 64, 64)
    views[..., :32], views[..., 32:] = 0.2, 0.8
    out = space.sync(views)
    inside = (space.mask > 0.999) & torch.from_numpy(space.ids >= 0)[:, None]
    assert inside[..., :32].any() and inside[..., 32:].any()
    assert (out[inside] - 0.8).abs().max() < 1e-4  # the right half has the lower triangle numbers


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_no_shape_gives_nan(name):
    mesh = mesh_of(shapes.SHAPES[name]())
    space = UVTexture(mesh, build_rig("auto", 3, mesh.positions), RASTERIZER, 40, 96)
    views = torch.rand(3, 4, 40, 40, generator=torch.Generator().manual_seed(0))
    for power in (1.0, 128.0):
        space.sharpen(power)
        out = space.project(space.merge(views))
        assert torch.isfinite(out).all() and out.min() >= 0 and out.max() <= 1 + 1e-5
        assert torch.isfinite(space.sync(views)).all()
    noise = space.project_noise(torch.Generator().manual_seed(0))
    assert torch.isfinite(noise).all() and 0.9 < noise.std() < 1.1


def test_half_precision_keeps_its_type(painted):
    space, _, _, views = painted
    out = space.sync(views.to(torch.bfloat16))
    assert out.dtype == torch.bfloat16
    assert psnr(at(out.float(), whole(space)), at(space.sync(views), whole(space))) > 35


def test_a_wrong_shape_is_named(painted):
    with pytest.raises(ValueError, match="rows"):
        painted[0].merge(torch.zeros(8, 3, 10, 10))
    with pytest.raises(ValueError, match="2x2"):
        UVTexture(painted[1], painted[2], RASTERIZER, 1)
