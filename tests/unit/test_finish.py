# SPDX-License-Identifier: Apache-2.0
"""Bake, fill and pad, against a known colour at each point of the surface."""

import numpy as np
import pytest
import torch

from blender_addon.jobs.rigs import build_rig
from engine.finish import bake, finish, texture_image
from engine.finish.bake import bake_views
from engine.finish.bands import smooth
from engine.finish.borders import find_borders, level_borders
from engine.finish.fill import fill_unseen
from engine.finish.pad import pad_charts
from engine.finish.sheet import Sheet
from engine.raster.texels import rasterize_uv
from engine.spaces.uv import UVTexture
from engine.spaces.uv.edges import breaks
from engine.tiles import PLAIN
from tests import shapes
from tests.painted import RASTERIZER, colour_of, front, mesh_of, rendered_views, two_quads


@pytest.fixture(scope="module")
def torus():
    mesh = mesh_of(shapes.torus(48, 24))
    cameras = build_rig("auto", 8, mesh.positions)
    return mesh, cameras, rendered_views(mesh, cameras, 128)


def test_the_known_texture_comes_back(torus):
    mesh, cameras, views = torus
    texels = rasterize_uv(mesh, 160)
    baked = bake_views(views, texels, mesh, cameras, RASTERIZER)
    seen = baked.owner >= 0
    assert seen.mean() > 0.85 and ((baked.weight > 0) == seen).all() and baked.weight.max() <= 1
    assert set(np.unique(baked.owner[seen])) <= set(range(8))
    error = baked.colour[seen] - colour_of(texels.position[seen])
    assert -10 * np.log10((error**2).mean()) > 40
    assert not baked.colour[~seen].any()


def test_the_owner_looks_straight_on(torus):
    mesh, cameras, views = torus
    texels = rasterize_uv(mesh, 96)
    baked = bake_views(views, texels, mesh, cameras, RASTERIZER)
    eyes = np.stack([np.linalg.inv(c.view)[:3, 3] for c in cameras])
    toward = eyes[:, None] - texels.position
    cosine = (toward * texels.normal).sum(2) / np.linalg.norm(toward, axis=2)
    seen = baked.owner >= 0
    own = cosine[baked.owner[seen], np.flatnonzero(seen)]
    assert own.min() > 0.25
    assert (own >= cosine[:, seen].max(0) - 0.3).mean() > 0.85  # not always: the straightest may be hidden


def test_a_bake_in_pieces_is_the_same(torus, monkeypatch):
    mesh, cameras, views = torus
    texels = rasterize_uv(mesh, 64)
    whole = bake_views(views, texels, mesh, cameras, RASTERIZER)
    monkeypatch.setattr(bake, "CHUNK", 777)
    pieces = bake_views(views, texels, mesh, cameras, RASTERIZER)
    for name in ("colour", "weight", "owner"):
        assert np.array_equal(getattr(whole, name), getattr(pieces, name)), name


def test_the_background_does_not_bleed(torus):
    mesh, cameras, _ = torus
    texels = rasterize_uv(mesh, 96)
    views = rendered_views(mesh, cameras, 128, lambda p: np.full_like(p, 0.5), background=1.0)
    baked = bake_views(views, texels, mesh, cameras, RASTERIZER)
    off = np.abs(baked.colour[baked.owner >= 0] - 0.5).max(1)
    assert (off > 0.02).mean() < 1e-3


def test_views_of_different_tint_leave_no_border(torus):
    """Each view 0.1 brighter or darker: tones are averaged, so no step shows where the best view changes."""
    mesh, cameras, views = torus
    tint = torch.tensor([0.05, -0.05] * 4)[:, None, None, None]
    texels = rasterize_uv(mesh, 160)

    def jump(tint=tint, **how):
        baked = bake_views(views * 0.8 + 0.1 + tint, texels, mesh, cameras, RASTERIZER, **how)
        image, owner = np.full((160, 160, 3), np.nan), np.full((160, 160), -2)
        image.reshape(-1, 3)[texels.index], owner.ravel()[texels.index] = baked.colour, baked.owner
        step = np.abs(np.diff(image, axis=1)).max(2)
        border = (owner[:, 1:] != owner[:, :-1]) & (np.minimum(owner[:, 1:], owner[:, :-1]) >= 0)
        return np.nanmean(step[border])

    natural = jump(0)  # what the picture itself changes by from texel to texel
    assert jump(bands=()) > 1.3 * natural
    assert jump() - natural < 0.6 * (jump(bands=()) - natural)


def test_views_fade_into_each_other():
    """Four level views of a sphere, each of one grey, 0.4 apart: no texel of the equator shows the step.

    A step blurred by sigma = 1 pixel (1/128 of the side) rises by at most 0.4 / sqrt(2 pi) = 0.16 per pixel. The sphere's
    radius is 60 pixels and its borders lie at 45 degrees: a texel of 1/512 of the equator is 2 pi 60 / 512 cos 45 = 0.52
    pixels of either view, so neighbours differ by 0.083 under a Gaussian; the blur is made of exponentials, which are up to
    twice as steep in the middle. The best view alone steps by all of 0.4.
    """
    mesh = mesh_of(shapes.uv_sphere(64, 32))
    cameras = build_rig("ring", 4, mesh.positions)
    grey = torch.tensor([0.3, 0.7, 0.3, 0.7])[:, None, None, None].expand(4, 3, 128, 128)
    texels = rasterize_uv(mesh, 512)
    baked = bake_views(grey, texels, mesh, cameras, RASTERIZER, bands=())
    image = np.full((512, 512), np.nan)
    image.reshape(-1)[texels.index] = baked.colour[:, 0]
    belt = image[192:320]
    assert np.nanmax(np.abs(np.diff(belt, axis=1))) < 2 * 0.083
    assert np.isclose(belt, 0.3, atol=0.01).mean() > 0.4 and np.isclose(belt, 0.7, atol=0.01).mean() > 0.4


def two_sided(step: float, slope: float = 0.0, size: int = 64) -> tuple:
    """A sheet of one chart, left half of view 0, right half of view 1, brighter by `step`; colours change by `slope`."""
    mesh = mesh_of(shapes.quad())
    sheet = Sheet.blank(mesh, size, PLAIN[0])
    columns = np.arange(size)
    right = columns >= size // 2
    sheet.image[:] = (0.3 + slope * columns + step * right)[None, :, None]
    sheet.owner[:] = right
    return mesh, sheet


def test_a_step_where_one_view_ends_and_another_begins_is_levelled():
    """Each side takes half of it and fades out over 4 texels: half a texel away (1 - 0.5 / 4)^2 = 77 % of it is taken off."""
    mesh, sheet = two_sided(0.2)
    level_borders(mesh, [sheet])
    line = sheet.image[32, :, 0]
    assert np.isclose(line[32] - line[31], 0.2 * (1 - (1 - 0.5 / 4) ** 2), atol=1e-5)
    assert np.allclose(line[:27], 0.3) and np.allclose(line[37:], 0.5)
    assert (np.diff(line) > -1e-6).all()  # no overshoot


def test_a_slope_and_an_edge_of_the_picture_stay_at_a_border_of_views():
    """0.01 per texel everywhere is no step, and where colours change by 0.3 right beside, 0.3 at the border may be meant."""
    mesh, sheet = two_sided(0.0, slope=0.01)
    before = sheet.image.copy()
    level_borders(mesh, [sheet])
    assert np.array_equal(sheet.image, before)
    mesh, sheet = two_sided(0.3)
    sheet.image[:, 33:] += 0.3
    before = sheet.image.copy()
    level_borders(mesh, [sheet])
    assert np.array_equal(sheet.image, before)


def test_places_are_thinned_evenly_along_any_border():
    """Along a border of 64 places, upright or slanting either way, one in four is kept: 16, give or take chance."""
    mesh, sheet = two_sided(0.2)
    charts = np.zeros(len(mesh.triangles), np.int32)
    row, column = np.mgrid[:64, :64]
    for border in (column >= 32, row >= 32, row + column >= 64, row >= column):
        sheet.owner[:] = border
        whole, thin = (len(find_borders(sheet, charts, grain).place) for grain in (1, 4))
        assert whole >= 60 and whole / 8 < thin < whole / 2


def test_levelling_borders_reaches_no_other_view_and_nothing_unseen():
    mesh, sheet = two_sided(0.2)
    sheet.owner[:, 34:] = 2
    sheet.owner[:, 20:30] = -1
    before = sheet.image.copy()
    level_borders(mesh, [sheet])
    changed = np.abs(sheet.image - before).max((0, 2)) > 0
    assert changed[[31, 32]].all() and not changed[34:].any() and not changed[:30].any()


def test_views_and_cameras_must_match(torus):
    mesh, cameras, views = torus
    with pytest.raises(ValueError, match="8 cameras"):
        bake_views(views[:3], rasterize_uv(mesh, 32), mesh, cameras, RASTERIZER)


def test_blurs_stop_at_edges():
    mesh = two_quads()
    space = UVTexture(mesh, [front((0.6, -5, 0.4))], RASTERIZER, 64, 64)
    right, below = breaks(space.screen, space.ids)
    views = np.random.default_rng(0).random((1, 64, 64, 3)).astype(np.float32)
    step = np.where((space.ids >= 0)[..., None], (space.ids >= 2)[..., None] * 1.0, 9.0) * np.ones(3)
    assert np.allclose(smooth(step.astype(np.float32), right, below, 8), step, atol=1e-5)
    assert smooth(views, right & False, below & False, 8).std() < 0.1 * views.std()


def test_fill_keeps_what_is_known_and_joins_it_smoothly():
    mesh = mesh_of(shapes.uv_sphere(48, 24))
    texels = rasterize_uv(mesh, 128)
    truth = colour_of(texels.position).astype(np.float32)
    known = texels.position[:, 2] > -0.4
    out = fill_unseen(texels.position, texels.normal, np.where(known[:, None], truth, 0), known)
    assert np.array_equal(out[known], truth[known])
    assert np.abs(out - truth)[~known & (texels.position[:, 2] > -0.45)].max() < 0.12
    assert out.min() >= truth[known].min() - 1e-5 and out.max() <= truth[known].max() + 1e-5


def test_fill_does_not_go_through_a_thin_wall():
    box = shapes.cube()
    mesh = mesh_of(box._replace(positions=box.positions * np.float32([1, 0.004, 1])))
    texels = rasterize_uv(mesh, 128)
    side = np.sign(texels.normal[:, 1])
    colour = np.where(side[:, None] > 0, [1.0, 0, 0], [0.0, 0, 1]).astype(np.float32)
    known = (texels.position[:, 0] < 0) & (side != 0)
    out = fill_unseen(texels.position, texels.normal, colour, known)
    hole = (texels.position[:, 0] > 0.1) & (np.abs(texels.position[:, [0, 2]]).max(1) < 0.7)
    assert out[hole & (side > 0)][:, 0].min() > 0.8 and out[hole & (side < 0)][:, 2].min() > 0.8


@pytest.mark.parametrize("seen", [0, 1, 5])
def test_fill_from_next_to_nothing(seen):
    mesh = mesh_of(shapes.cube())
    texels = rasterize_uv(mesh, 24)
    known = np.zeros(len(texels.index), bool)
    known[:seen] = True
    colour = np.full((len(known), 3), 0.25, np.float32) * known[:, None]
    out = fill_unseen(texels.position, texels.normal, colour, known)
    assert np.isfinite(out).all() and np.allclose(out, 0.25 if seen else 0.5, atol=1e-4)


def random_cover(size=96, seed=0):
    random = np.random.default_rng(seed)
    covered = np.zeros((size, size), bool)
    for _ in range(4):
        r, c, h, w = random.integers(0, size - 12), random.integers(0, size - 12), *random.integers(3, 12, 2)
        covered[r : r + h, c : c + w] = True
    image = random.uniform(0.2, 0.9, (size, size, 3)).astype(np.float32) * covered[..., None]
    return image, covered


def test_padding_continues_the_nearest_chart_and_leaves_charts_alone():
    image, covered = random_cover()
    out = pad_charts(image, covered, 8)
    assert np.array_equal(out[covered], image[covered])
    rows, columns = np.nonzero(covered)
    for r, c in np.random.default_rng(1).integers(0, 96, (400, 2)):
        away = (rows - r) ** 2 + (columns - c) ** 2
        nearest = np.flatnonzero(away <= away.min() + 4)  # two sweeps may miss the very nearest by a fraction
        if away.min() <= 49:
            assert (out[r, c] == image[rows[nearest], columns[nearest]]).all(1).any()


@pytest.mark.parametrize("size", [1, 5, 64, 96])
def test_every_texel_gets_a_colour(size):
    covered = np.zeros((size, size), bool)
    covered[size // 2, size // 3] = True
    out = pad_charts(np.where(covered[..., None], np.float32(0.6), np.float32(0)).repeat(3, 2), covered, 4)
    assert np.allclose(out, 0.6, atol=1e-5)
    assert np.isfinite(pad_charts(np.zeros((size, size, 3), np.float32), np.zeros((size, size), bool), 4)).all()


def test_a_whole_texture(torus):
    mesh, cameras, views = torus
    done = finish(views, mesh, cameras, RASTERIZER, 128, padding=8)
    assert done.image.shape == (128, 128, 3) and done.image.dtype == np.float32
    assert done.image.min() >= 0 and done.image.max() <= 1 and 0.85 < done.coverage <= 1
    seen = done.baked.owner >= 0
    assert np.array_equal(done.image.reshape(-1, 3)[done.texels.index][seen], done.baked.colour[seen])


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_every_shape_gets_a_texture(name):
    mesh = mesh_of(shapes.SHAPES[name]())
    cameras = build_rig("auto", 4, mesh.positions)
    views = rendered_views(mesh, cameras, 32, lambda p: np.full_like(p, 0.3), background=0.3, samples=1)
    done = finish(views, mesh, cameras, RASTERIZER, 64)
    assert np.isfinite(done.image).all() and 0 <= done.coverage <= 1
    if (done.baked.owner >= 0).any():
        assert np.allclose(done.image, 0.3, atol=1e-4)


def test_nothing_seen_is_grey():
    mesh = mesh_of(shapes.cube())
    blind = front((0, -9, 0), (0, -20, 0))
    done = finish(torch.rand(1, 3, 32, 32), mesh, [blind], RASTERIZER, 32)
    assert done.coverage == 0 and np.allclose(done.image, 0.5)


def test_texture_image_places_texels():
    texels = rasterize_uv(mesh_of(shapes.quad()), 32)
    image = texture_image(np.asarray(texels.position) * 0.5 + 0.5, texels, 2)
    assert image[2, 2, 0] < 0.1 and image[2, 2, 2] > 0.9  # top left: x low, z high
