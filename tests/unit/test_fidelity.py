# SPDX-License-Identifier: Apache-2.0
"""A texture that is known, rendered to views without any diffusion, must come back from them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from blender_addon.jobs.rigs import build_rig
from engine.finish import Finished, Sheet, bake, complete, fill_sheets, finish, prepare
from engine.finish.light import flatten_light, harmonics, luminance
from engine.finish.match import even_gains, matched
from engine.finish.rims import clean_rims
from engine.finish.seams import find_seams, level_seams
from engine.finish.spline import coefficients
from engine.measure.seams import chart_ratio, chart_step, lookup, owner_ratio
from engine.measure.seams import find_seams as measured_seams
from engine.mesh import Mesh
from engine.raster.texels import rasterize_uv
from engine.spaces.uv import UVTexture
from engine.spaces.uv.edges import breaks
from engine.tiles import PLAIN
from tests import shapes
from tests.painted import RASTERIZER, front, mesh_of, rendered_views

SIDE = 192
SHAPES = {
    "sphere": (lambda: shapes.uv_sphere(48, 24), 384), "torus": (lambda: shapes.torus(64, 32), 272),
    "cube": (shapes.cube, 352), "cylinder": (lambda: shapes.cylinder(48), 400), "stairs": (shapes.l_shape, 360),
}  # fmt: skip  # sides with texels about as large as pixels


def waves(finest: float, seed: int = 0):
    """A colour for each point in space, from waves of `finest` world units and three octaves above it."""
    random = np.random.default_rng(seed)
    direction = random.normal(size=(16, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    octave = np.arange(16) % 4
    turn = (direction * (2 * np.pi / (finest * 2.0**octave))[:, None]).T.astype(np.float32)
    mix = random.normal(size=(16, 3)) * (2.0**octave)[:, None]
    mix = (0.25 * mix / np.sqrt((mix**2).sum(0).max() / 2)).astype(np.float32)
    phase = random.uniform(0, 2 * np.pi, 16).astype(np.float32)

    def paint(position):
        flat = np.sin(position.reshape(-1, 3).astype(np.float32) @ turn + phase) @ mix
        return (0.5 + flat).clip(0, 1).reshape(*position.shape[:-1], 3)

    return paint


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Visibility is tested in images of 512 pixels: these views are small."""
    monkeypatch.setattr(bake, "FINEST", 512)


@pytest.fixture(scope="module")
def stages():
    """For each shape: mesh, cameras, the paint with waves of eight pixels, views on black."""
    made = {}

    def stage(name):
        if name not in made:
            mesh = mesh_of(SHAPES[name][0]())
            cameras = build_rig("auto", 8, mesh.positions)
            eye = np.linalg.inv(cameras[0].view)[:3, 3]
            pixel = 2 * np.linalg.norm(eye) / cameras[0].projection[1, 1] / SIDE
            paint = waves(8 * pixel)
            made[name] = mesh, cameras, paint, rendered_views(mesh, cameras, SIDE, paint, samples=2)
        return made[name]

    return stage


@pytest.mark.parametrize("name", SHAPES)
def test_a_known_texture_comes_back(stages, name):
    """On black, so that any background that bled in would cost: PSNR 40 dB, no border of charts or owners to be seen.

    Ratios are compared with the known texture's own, which is 1 give or take what chance does to few places: neither a
    step nor a levelled, flat border. Where every border is a crease that most views see as a silhouette, rims of one
    pixel cost more of these waves of eight pixels: a pixel farther inside they
    differ by up to 2 pi / 8 of their amplitude, so there the bound is wider.
    """
    mesh, cameras, paint, views = stages(name)
    done = finish(views, mesh, cameras, RASTERIZER, SHAPES[name][1])
    texels, owner = done.texels, done.baked.owner
    known = paint(texels.position).astype(np.float32)
    found = done.image.reshape(-1, 3)[texels.index]
    seen = (owner >= 0) & ~texels.border
    assert -10 * np.log10(((found - known)[seen] ** 2).mean()) >= 40
    assert (np.abs(found - known)[seen].max(1) > 0.2).mean() < 1e-3
    seams = measured_seams(mesh, texels)
    if len(seams.points) > 300:
        truth = done.image.copy()
        truth.reshape(-1, 3)[texels.index] = known
        covered = np.zeros(done.image.shape[:2], bool)
        covered.reshape(-1)[texels.index] = owner >= 0
        ratio = chart_ratio(done.image, seams, covered) / chart_ratio(truth, seams, covered)
        assert 0.98 <= ratio <= (1.20 if name in ("cube", "stairs") else 1.02)
    assert owner_ratio(found, texels, owner) <= max(1.02, owner_ratio(known, texels, owner))


def test_splines_keep_detail_that_bilinear_lookups_lose(stages):
    """Waves of four pixels: halfway between pixels a bilinear lookup keeps cos(pi/4) = 0.71 of one, a spline 0.97."""
    mesh, cameras, _, _ = stages("torus")
    eye = np.linalg.inv(cameras[0].view)[:3, 3]
    paint = waves(4 * 2 * np.linalg.norm(eye) / cameras[0].projection[1, 1] / SIDE)
    sources = prepare(rendered_views(mesh, cameras, SIDE, paint, samples=2), mesh, cameras, RASTERIZER)
    texels = rasterize_uv(mesh, SHAPES["torus"][1])
    found = []
    for away in (sources.away, np.minimum(sources.away, 1.4)):  # the second: all of it near an edge, read bilinearly
        baked = replace(sources, away=away).gather(texels, mesh)
        found.append(-10 * np.log10(((baked.colour - paint(texels.position))[baked.owner >= 0] ** 2).mean()))
    assert found[0] > 46 and found[0] > found[1] + 4


def test_splines_go_through_the_pixels():
    values = np.random.default_rng(0).random((1, 9, 12, 3)).astype(np.float32)
    cut = np.zeros(values.shape[:3], bool)
    cut[:, :, 4] = True
    c = coefficients(values, cut, np.zeros_like(cut))
    back = (c[:, :-2] + 4 * c[:, 1:-1] + c[:, 2:]) / 6  # B-spline at its knots: 1/6, 4/6, 1/6
    back = (back[:, :, :-2] + 4 * back[:, :, 1:-1] + back[:, :, 2:]) / 6
    inner = [0, 1, 2, 6, 7, 8, 9]  # columns 1..10 away from the cut between 4 and 5
    np.testing.assert_allclose(back[:, :, inner], values[:, 1:-1, 1:-1][:, :, inner], atol=2e-5)
    other = values.copy()
    other[:, :, 5:] = 7
    assert np.array_equal(coefficients(other, cut, np.zeros_like(cut))[:, :, :5], c[:, :, :5])  # nothing rings across a cut


def test_views_that_agree_are_not_touched_and_tints_go(stages):
    mesh, cameras, _, views = stages("torus")
    space = UVTexture(mesh, cameras, RASTERIZER, SIDE)
    right, below = breaks(space.screen, space.ids)
    pixels = views.permute(0, 2, 3, 1).contiguous().numpy()
    clean_rims(pixels, (space.ids < 0).astype(np.float32) * 0 + 9, right, below)  # nothing is a rim: nothing changes
    agreed = matched(pixels, right, below, space.pairs)
    inside = (space.mask[:, 0] > 0.999).numpy()
    assert np.sqrt(((agreed - pixels)[inside] ** 2).mean()) < 0.01
    tint = np.random.default_rng(0).normal(0, 0.05, (8, 1, 1, 3)).astype(np.float32)
    mended = matched(pixels + tint, right, below, space.pairs) - pixels
    spread = np.stack([mended[i][inside[i]].mean(0) for i in range(8)]).std(0)
    assert (spread < 0.85 * tint.std(0).ravel()).all()  # broad tones meet halfway; nothing is meant to vanish


def test_gains_are_found_again(stages):
    mesh, cameras, _, views = stages("sphere")
    space = UVTexture(mesh, cameras, RASTERIZER, SIDE)
    pixels = views.permute(0, 2, 3, 1).contiguous().numpy() * np.float32(0.6) + np.float32(0.2)
    gain = np.exp(np.random.default_rng(1).normal(0, 0.15, (8, 3))).astype(np.float32)
    found = even_gains(pixels * gain[:, None, None], space.pairs)
    left = np.log(found * gain)
    assert (left - left.mean(0)).std() < 0.03  # from 0.15; a common factor cannot be known
    assert np.abs(np.log(even_gains(pixels, space.pairs))).max() < 0.02


def test_exposure_is_levelled_where_asked(stages):
    mesh, cameras, paint, views = stages("sphere")
    dark = views * torch.tensor([1, 0.8] * 4)[:, None, None, None]
    texels = rasterize_uv(mesh, 128)
    known = paint(texels.position)

    def unevenness(**how):
        baked = prepare(dark, mesh, cameras, RASTERIZER, **how).gather(texels, mesh)
        seen = (baked.owner >= 0) & (known.min(1) > 0.1)
        return np.log(baked.colour[seen].mean(1) / known[seen].mean(1)).std()

    assert unevenness(level=True) < 0.4 * unevenness() < 0.4 * unevenness(bands=())


def split_view(mesh: Mesh, size: int):
    """A sheet whose charts have colours of their own: the worst seams there can be."""
    sheet = Sheet.blank(mesh, size, PLAIN[0])
    texels = sheet.texels
    chart = texels.triangle // 2  # two triangles to a face of the cube
    sheet.image.reshape(-1, 3)[texels.index] = 0.3 + 0.05 * np.stack([chart % 6, chart % 3, chart % 2], 1)
    sheet.owner.reshape(-1)[texels.index] = 0
    return sheet


def test_both_sides_of_a_seam_agree_and_the_middle_of_a_chart_stays():
    mesh = mesh_of(shapes.cube())
    sheet = split_view(mesh, 256)
    before, seams = sheet.image.copy(), measured_seams(mesh, sheet.texels)
    assert chart_step(before, seams) > 0.08
    step = level_seams(mesh, [sheet])
    assert abs(step - chart_step(before, seams)) < 0.02
    # corners, where three charts meet, cannot satisfy three seams at once; along edges the step goes
    assert chart_step(sheet.image, seams) < 0.12 * chart_step(before, seams)
    changed = np.abs(sheet.image - before).max(2) > 0
    texels = sheet.texels
    inner = np.abs(texels.position).min(1) * 0 + np.sort(np.abs(texels.position), 1)[:, 1] < 0.8
    assert not changed.reshape(-1)[texels.index[inner]].any()


def test_what_pictures_show_along_a_crease_is_no_seam():
    """A gradient over the edges of a cube stays what it is, and so does a change of colour that both sides show."""
    mesh = mesh_of(shapes.cube())
    painted_edge = {
        "gradient": lambda p: 0.5 + 0.2 * p,
        "jump": lambda p: np.where(np.abs(p[:, :1]) > 1 - 1e-4, [0.8, 0.2, 0.1], [0.1, 0.3, 0.7]),
    }
    for paint in painted_edge.values():
        sheet = Sheet.blank(mesh, 256, PLAIN[0])
        texels = sheet.texels
        sheet.image.reshape(-1, 3)[texels.index] = paint(texels.position)
        sheet.owner.reshape(-1)[texels.index] = 0
        before, seams = sheet.image.copy(), measured_seams(mesh, texels)
        level_seams(mesh, [sheet])
        jumps = [np.linalg.norm(np.diff(lookup(image, seams.points[:, 1:3]), axis=1), axis=2).mean()
                 for image in (before, sheet.image)]  # fmt: skip
        assert jumps[1] == pytest.approx(jumps[0], rel=0.02)
        assert np.abs(sheet.image - before).mean() < 1e-3


def test_what_was_seen_does_not_follow_a_guess():
    """One face of the cube seen, the others not: at its borders they take its colour, and it stays as it was."""
    mesh = mesh_of(shapes.cube())
    sheet = split_view(mesh, 128)
    texels = sheet.texels
    seen = texels.triangle // 2 == 2
    sheet.owner.reshape(-1)[texels.index[~seen]] = -1
    before, seams = sheet.image.copy(), measured_seams(mesh, texels)
    level_seams(mesh, [sheet])
    assert np.array_equal(sheet.image.reshape(-1, 3)[texels.index[seen]], before.reshape(-1, 3)[texels.index[seen]])
    assert chart_step(sheet.image, seams) < 0.2 * chart_step(before, seams)


def test_seams_are_found_where_charts_meet_in_space():
    mesh = mesh_of(shapes.cube())  # each face is a chart of its own: twelve edges, each seen from two sides
    seams = find_seams(mesh, 256)
    corners = mesh.positions[mesh.triangles[seams.triangle]]
    assert (np.abs(corners).max(2) == 1).all() and len(seams.uv) > 12 * 60
    assert len(find_seams(mesh_of(shapes.quad()), 64).uv) == 0
    closed = mesh_of(shapes.uv_sphere(24, 12))  # its one chart meets itself along a meridian
    meridian = find_seams(closed, 128)
    between = np.abs(meridian.uv[:, 0, 1] - 0.5) < 0.38  # at the poles its triangles are teeth with seams between them
    assert between.sum() > 60
    assert np.allclose(np.abs(meridian.uv[:, 0, 0] - meridian.uv[:, 1, 0])[between], 0.94, atol=1e-3)


def test_mips_show_no_gutter(stages):
    """Halved three times by 2 x 2 means, as mip-mapping does: texels at chart borders are as near to the truth as inside."""
    mesh, cameras, paint, views = stages("stairs")
    size = 1024
    sheet = Sheet.blank(mesh, size, PLAIN[0])
    texels = sheet.texels
    smooth = waves(1.5)
    sheet.image.reshape(-1, 3)[texels.index] = smooth(texels.position)
    sheet.owner.reshape(-1)[texels.index] = 0
    complete(mesh, [sheet], padding=16)
    image = sheet.image
    for level in (1, 2, 3):
        image = image.reshape(len(image) // 2, 2, -1, 2, 3).mean((1, 3))
        coarse = rasterize_uv(mesh, size >> level)
        error = np.abs(image.reshape(-1, 3)[coarse.index] - smooth(coarse.position)).max(1)
        assert error[coarse.border].mean() < 0.02 + 2 * error[~coarse.border].mean()
        assert error.max() < 0.2


def test_no_texel_is_black_and_none_is_empty(stages):
    mesh, cameras, _, views = stages("stairs")
    done = finish(views * 0.5 + 0.4, mesh, cameras, RASTERIZER, 128)
    assert done.coverage < 0.9 and np.isfinite(done.image).all()
    assert done.image[done.image.max(2) < 0.3].size == 0  # nothing darker than the darkest paint: no hole, no background


def test_light_that_follows_the_normal_goes_and_patterns_stay():
    mesh = mesh_of(shapes.uv_sphere(64, 32))
    sheet = Sheet.blank(mesh, 256, PLAIN[0])
    texels = sheet.texels
    pattern = 0.5 + 0.2 * np.sign(np.sin(9 * np.arctan2(texels.position[:, 1], texels.position[:, 0])))
    light = np.exp(0.5 * texels.normal[:, 2] + 0.2 * texels.normal[:, 0])  # linear light, in the span of the harmonics
    colour = np.repeat((pattern * light ** (1 / 2.2))[:, None], 3, 1) * 0.8
    sheet.image.reshape(-1, 3)[texels.index] = colour
    sheet.owner.reshape(-1)[texels.index] = 0
    flatten_light([sheet], 1.0)
    flat = sheet.image.reshape(-1, 3)[texels.index]
    ratio = np.log(flat[:, 0] / pattern)
    inner = np.abs(texels.position[:, 2]) < 0.95  # at the poles every texel is one of thousands in little area
    assert ratio[inner].std() < 0.03 < 4 * 0.03 < np.log(colour[:, 0] / pattern)[inner].std()
    assert harmonics(texels.normal[:5]).shape == (5, 9) and luminance(np.ones((1, 3)))[0] == pytest.approx(1)


def test_taking_off_no_light_changes_nothing_and_unseen_texels_stay():
    mesh = mesh_of(shapes.cube())
    sheet = split_view(mesh, 64)
    sheet.owner[:, :32] = -1
    before = sheet.image.copy()
    flatten_light([sheet], 0.0)
    np.testing.assert_allclose(sheet.image, before, atol=1e-6)
    flatten_light([sheet], 1.0)
    assert np.array_equal(sheet.image[:, :32], before[:, :32]) and not np.allclose(sheet.image, before)


def test_fill_takes_colours_from_the_surface_and_never_from_the_next_chart():
    """Two walls that are far apart in space and side by side in the UV map; half of one was not seen."""
    red, blue = shapes.quad(), shapes.quad()
    mesh = mesh_of(shapes.join(red, blue._replace(positions=blue.positions + np.float32([0, 40, 0]))))
    sheet = Sheet.blank(mesh, 128, PLAIN[0])
    texels = sheet.texels
    first = texels.position[:, 1] < 20
    sheet.image.reshape(-1, 3)[texels.index] = np.where(first[:, None], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8])
    seen = ~(first & (texels.position[:, 0] > 0))
    sheet.image.reshape(-1, 3)[texels.index[~seen]] = 0
    sheet.owner.reshape(-1)[texels.index[seen]] = 0
    fill_sheets([sheet])
    filled = sheet.image.reshape(-1, 3)[texels.index[~seen]]
    assert filled[:, 0].min() > 0.75 and filled[:, 2].max() < 0.15


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_size_does_not_matter(stages, scale):
    mesh, _, paint, _ = stages("cylinder")
    shape = shapes.cylinder(48)
    mesh = mesh_of(shape._replace(positions=shape.positions * np.float32(scale)))
    cameras = build_rig("auto", 6, mesh.positions)
    views = rendered_views(mesh, cameras, 96, lambda p: paint(p / scale), samples=1)
    done = finish(views, mesh, cameras, RASTERIZER, 160)
    seen = done.baked.owner >= 0
    error = done.baked.colour - paint(done.texels.position / scale)
    assert done.coverage > 0.7 and -10 * np.log10((error[seen] ** 2).mean()) > 24


def test_two_million_triangles():
    """As a mesh of a scan or a sculpture has: the texture is that of the same torus of five thousand."""
    found = {}
    for columns in (72, 1416):
        mesh = mesh_of(shapes.torus(columns, columns // 2))
        cameras = build_rig("auto", 3, mesh.positions)
        found[len(mesh.triangles)] = finish(rendered_views(mesh, cameras, 64, samples=1), mesh, cameras, RASTERIZER, 128)
    few, many = found.values()
    assert list(found)[1] > 2_000_000 and abs(few.coverage - many.coverage) < 0.03
    both = (few.sheet.owner >= 0) & (many.sheet.owner >= 0)
    assert both.mean() > 0.3 and np.abs(few.image - many.image)[both].mean() < 0.02


def test_mirrored_halves_show_one_picture():
    """Both halves on the same texels: the finished texture is that of one of them, whole, and nothing is averaged."""
    half = shapes.grid(16, 16, lambda s, t: np.stack([0.05 + s, 0.3 * np.sin(3 * t), 2 * t - 1], 1))
    other = half._replace(positions=half.positions * np.float32([-1, 1, 1]), triangles=half.triangles[:, ::-1],
                          triangle_uvs=half.triangle_uvs[:, ::-1])  # fmt: skip
    joined = shapes.shape(np.concatenate([half.positions, other.positions]),
                          np.concatenate([half.triangles, other.triangles + len(half.positions)]),
                          np.concatenate([half.uvs, other.uvs]),
                          np.concatenate([half.triangle_uvs, other.triangle_uvs + len(half.uvs)]))  # fmt: skip
    mesh = mesh_of(joined)
    cameras = [front((0, -5, 0)), front((0, 5, 0))]
    views = rendered_views(mesh, cameras, 96, lambda p: np.where(p[..., :1] > 0, [0.9, 0.2, 0.1], [0.1, 0.2, 0.9]))
    done = finish(views, mesh, cameras, RASTERIZER, 64)
    assert done.texels.overlap == 2
    assert done.baked.colour[done.baked.owner >= 0][:, 0].min() > 0.8


def test_open_flipped_and_non_manifold_faces_are_painted():
    """A fan of three sheets on one edge, one of them wound the other way: all seen, and painted from both sides."""
    wings = []
    for turn in (0.3, 2.4, 4.5):
        wing = shapes.grid(4, 4, lambda s, t, a=turn: np.stack([s * np.cos(a), s * np.sin(a), 2 * t - 1], 1))
        wings.append(wing if turn != 2.4 else wing._replace(triangles=wing.triangles[:, ::-1],
                                                            triangle_uvs=wing.triangle_uvs[:, ::-1]))
    mesh = mesh_of(shapes.join(*wings))
    cameras = build_rig("auto", 8, mesh.positions)
    paint = waves(1.0)
    done = finish(rendered_views(mesh, cameras, 128, paint), mesh, cameras, RASTERIZER, 128)
    error = done.baked.colour - paint(done.texels.position)
    assert done.coverage > 0.97 and -10 * np.log10((error[done.baked.owner >= 0] ** 2).mean()) > 30
    assert len(find_seams(mesh, 128).uv)  # a seam of three sides


def test_a_finished_texture_is_what_it_says(stages):
    mesh, cameras, _, views = stages("cube")
    done = finish(views, mesh, cameras, RASTERIZER, 64)
    assert isinstance(done, Finished) and done.image.shape == (64, 64, 3)
    assert done.baked.owner.dtype == np.int16 and len(done.texels.index) == len(done.baked.owner)
    assert 0.9 < done.sheet.weight.max() <= 1 and (done.sheet.weight > 0).sum() == (done.sheet.owner >= 0).sum()
