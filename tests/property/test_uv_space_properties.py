# SPDX-License-Identifier: Apache-2.0
"""What the texture's maps keep for any mesh, rig and size: they blend what is seen, and nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blender_addon.jobs.folder import Camera
from blender_addon.jobs.rigs import look_at, perspective
from engine.finish.fill import fill_unseen
from engine.finish.pad import pad_charts
from engine.spaces.uv import UVTexture
from engine.spaces.uv.charts import chart_ids, owner_charts
from tests import shapes
from tests.painted import RASTERIZER, flat, mesh_of

seeds = st.integers(0, 2**31 - 1)


def any_camera(random: np.random.Generator) -> Camera:
    """Somewhere around, sometimes inside or turned away, sometimes orthographic."""
    eye = random.normal(size=3) * random.choice([0.5, 2.0, 4.0])
    target = random.normal(size=3) * 0.5
    lens = flat(random.uniform(0.5, 2)) if random.random() < 0.3 else perspective(random.uniform(15, 90), 0.05, 20)
    return Camera("any", look_at(eye, target), lens)


@st.composite
def spaces(draw):
    random = np.random.default_rng(draw(seeds))
    shape = draw(st.sampled_from([
        lambda: shapes.random_soup(random.integers(1, 40), int(random.integers(1000))), lambda: shapes.icosphere(1),
        shapes.cube, shapes.interpenetrating, lambda: shapes.torus(12, 8), shapes.zero_area, shapes.quad,
    ]))()
    cameras = [any_camera(random) for _ in range(draw(st.integers(1, 4)))]
    space = UVTexture(mesh_of(shape), cameras, RASTERIZER, draw(st.integers(2, 24)), draw(st.integers(1, 64)),
                      power=draw(st.sampled_from([0.0, 1.0, 17.5, 128.0])),
                      steepest=draw(st.sampled_from([60.0, 75.0, 89.0])))
    return space, random


@settings(max_examples=40)
@given(spaces())
def test_maps_blend_what_is_seen(drawn):
    space, random = drawn
    shape = (len(space.ids), 2, space.size, space.size)
    views = torch.from_numpy(random.uniform(-3, 5, shape))
    shown = torch.from_numpy(space.ids >= 0)[:, None].expand(shape)
    z = space.merge(views)
    out = space.project(z)
    covered = (space.mask > 0).expand(shape)
    assert torch.isfinite(space.sync(views)).all() and not out[~covered].any()
    seen = torch.from_numpy(space.pairs.seen())
    assert not z[:, ~seen].any()
    if shown.any():
        low, high = views[shown].min() - 1e-5, views[shown].max() + 1e-5
        assert ((z[:, seen] >= low) & (z[:, seen] <= high)).all()
        assert ((out[covered] >= low) & (out[covered] <= high)).all()
    changed = torch.where(shown, views, torch.from_numpy(random.uniform(-3, 5, shape)))
    assert torch.equal(space.merge(changed), z)  # the background has no say


@settings(max_examples=25)
@given(spaces())
def test_maps_are_linear_and_adjoint(drawn):
    space, random = drawn
    a, b = (torch.from_numpy(random.normal(size=(len(space.ids), 3, space.size, space.size))) for _ in range(2))
    assert torch.allclose(space.sync(2 * a - 3 * b), 2 * space.sync(a) - 3 * space.sync(b), atol=1e-9)
    for forward in (space.lookup, space.gather, space.noise.map):
        x, y = (torch.from_numpy(random.normal(size=(count, 2))) for count in (forward.size, forward.rows))
        assert torch.allclose((forward(x) * y).sum(), (x * forward.transpose()(y)).sum(), atol=1e-8)
    squares = np.bincount(np.repeat(np.arange(space.noise.map.rows), np.diff(space.noise.map.offsets)),
                          space.noise.map.values.astype(float) ** 2, minlength=space.noise.map.rows)
    assert np.allclose(squares[np.diff(space.noise.map.offsets) > 0], 1, atol=1e-5)
    assert (space.noise.shared >= 0).all() and (space.noise.shared <= 1.0001).all()


@given(seeds, st.integers(1, 40), st.integers(0, 20))
def test_padding_changes_no_chart_and_invents_no_colour(seed, size, padding):
    random = np.random.default_rng(seed)
    covered = random.random((size, size)) < random.uniform(0, 0.3)
    image = random.uniform(0, 1, (size, size, 3)).astype(np.float32)
    out = pad_charts(image, covered, padding)
    assert np.array_equal(out[covered], image[covered])
    if covered.any():
        low, high = image[covered].min(0), image[covered].max(0)
        assert ((out >= low - 1e-5) & (out <= high + 1e-5)).all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@settings(max_examples=30)
@given(seeds, st.integers(1, 300))
def test_filling_invents_no_colour(seed, count):
    random = np.random.default_rng(seed)
    position, normal = random.normal(size=(2, count, 3)).astype(np.float32)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    position *= random.choice([0.0, 1e-6, 1.0, 1e6])
    colour, known = random.random((count, 3)).astype(np.float32), random.random(count) < random.random()
    out = fill_unseen(position, normal, colour, known)
    assert np.array_equal(out[known], colour[known]) and np.isfinite(out).all()
    if known.any():
        assert ((out >= colour[known].min(0) - 1e-4) & (out <= colour[known].max(0) + 1e-4)).all()


def test_charts_are_what_hangs_together():
    joined = shapes.join(shapes.quad(), shapes.torus(6, 4))
    charts = chart_ids(joined.triangle_uvs)
    assert len(set(charts[:2])) == 1 and len(set(charts[2:])) == 1 and charts[0] != charts[-1]
    owner = np.zeros((8, 8), np.int32)
    corners = joined.uvs[joined.triangle_uvs]
    assert (owner_charts(charts, corners, owner) == charts[0]).all()  # triangle 0 owns every texel
    assert np.array_equal(owner_charts(charts, corners, owner - 1), charts)  # nobody owns any
