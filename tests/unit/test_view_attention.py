# SPDX-License-Identifier: Apache-2.0
"""Attention that looks at other views: who looks at whom, and what may not change when nobody does."""

import math

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention

from blender_addon.jobs.records import Camera
from blender_addon.jobs.rigs import build_rig, look_at, perspective
from engine.cameras import frontmost, neighbours
from engine.models import load_model
from engine.models.view_attention import AcrossViews, ViewAttention, looking_across, view_attention

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
VIEWS, TOKENS, WIDTH = 4, 6, 8


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def attn():
    torch.manual_seed(0)
    return Attention(WIDTH, heads=2, dim_head=4).eval()


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(1)
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=6, attention_head_dim=2,
    ).eval()  # fmt: skip


def by_hand(attn, asking, seen):
    """softmax(Q K' / sqrt(d)) V with Q of one view [L,D] and K, V of others [g L, D], written out."""
    def heads(x):
        return x.unflatten(-1, (2, 4)).transpose(0, 1)
    q, k, v = heads(attn.to_q(asking)), heads(attn.to_k(seen)), heads(attn.to_v(seen))
    out = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(4), -1) @ v
    return attn.to_out[0](out.transpose(0, 1).flatten(1))


@torch.no_grad()
def test_keys_and_values_are_those_of_the_neighbours_and_of_the_same_part(attn):
    """Two parts (avoided texts, prompts) of four views; groups of 1, 3, 2 and 3 views; against the formula."""
    seen = ((0,), (1, 0, 2), (2, 3), (3, 2, 0))
    x = torch.randn(2 * VIEWS, TOKENS, WIDTH, generator=seeded())
    found = AcrossViews(attn.processor, ViewAttention(seen), 900.0)(attn, x)
    for part in range(2):
        for view, group in enumerate(seen):
            keys = torch.cat([x[part * VIEWS + other] for other in group])
            expected = by_hand(attn, x[part * VIEWS + view], keys)
            torch.testing.assert_close(found[part * VIEWS + view], expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_reference_is_averaged_in_until_its_share_of_the_levels(attn):
    seen, x = ((0, 1), (1, 0, 2), (2, 1, 3), (3, 2)), torch.randn(VIEWS, TOKENS, WIDTH, generator=seeded())
    rule = ViewAttention(seen, reference=2, until=0.25)
    early, late = (AcrossViews(attn.processor, rule, at)(attn, x) for at in (751.0, 750.0))
    alone = torch.stack([by_hand(attn, view, x[2]) for view in x])
    torch.testing.assert_close(early, (late + alone) / 2, rtol=0, atol=1e-6)
    assert not torch.allclose(late, early, atol=1e-3)
    assert [rule.reference_at(t) for t in (999.0, 751.0, 750.0, 1.0)] == [2, 2, None, None]
    assert ViewAttention(seen, 2, 1.0).reference_at(1.0) == 2 and ViewAttention(seen, 2, 0.0).reference_at(999.0) is None


def predict(unet, x, attention, timestep=900.0, seed=3):
    text = torch.randn(1, 5, 6, generator=seeded(seed)).expand(len(x), -1, -1)
    with torch.no_grad(), looking_across(unet, attention, timestep):
        return unet(x, torch.tensor(timestep), text).sample


def test_who_looks_only_at_himself_sees_what_he_saw(unet):
    x = torch.randn(VIEWS, 4, 8, 8, generator=seeded())
    alone = ViewAttention(tuple((view,) for view in range(VIEWS)))
    torch.testing.assert_close(predict(unet, x, alone), predict(unet, x, None), rtol=0, atol=1e-6)


def test_equal_views_stay_equal_and_are_what_one_view_is(unet):
    """Keys that come twice with equal values leave a softmax mean as it is: attention among copies is plain."""
    x = torch.randn(1, 4, 8, 8, generator=seeded()).expand(VIEWS, -1, -1, -1)
    ring = ViewAttention(tuple((view, (view - 1) % VIEWS, (view + 1) % VIEWS) for view in range(VIEWS)), 0, 1.0)
    found = predict(unet, x, ring)
    torch.testing.assert_close(found, found[:1].expand_as(found), rtol=0, atol=1e-6)
    torch.testing.assert_close(found, predict(unet, x, None), rtol=0, atol=1e-5)


def test_a_change_reaches_the_neighbours_and_no_one_else(unet):
    x = torch.randn(VIEWS, 4, 8, 8, generator=seeded())
    other = x.clone()
    other[0] = torch.randn(4, 8, 8, generator=seeded(9))
    chain = ViewAttention(((0, 1), (1, 0), (2, 3), (3, 2)))
    moved = (predict(unet, other, chain) - predict(unet, x, chain)).abs().amax((1, 2, 3))
    assert moved[1] > 1e-3 and float(moved[2:].max()) < 1e-6


def test_parts_of_a_batch_do_not_see_each_other(unet):
    """Avoided texts come first, prompts second: changing the first half leaves the second as it is."""
    x = torch.randn(2 * VIEWS, 4, 8, 8, generator=seeded())
    other = x.clone()
    other[:VIEWS] = torch.randn(VIEWS, 4, 8, 8, generator=seeded(9))
    all_of_them = ViewAttention((tuple(range(VIEWS)),) * VIEWS, 1, 1.0)
    moved = (predict(unet, other, all_of_them) - predict(unet, x, all_of_them)).abs().amax((1, 2, 3))
    assert moved[0] > 1e-3 and float(moved[VIEWS:].max()) < 1e-6


def test_the_network_is_given_back_as_it_was_whatever_happens(unet):
    before = dict(unet.attn_processors)
    with pytest.raises(KeyError), looking_across(unet, ViewAttention(((0,),)), 1.0):
        changed = [name for name, one in unet.attn_processors.items() if one is not before[name]]
        raise KeyError
    assert changed and all(name.endswith("attn1.processor") for name in changed)
    assert len(changed) == sum(name.endswith("attn1.processor") for name in before)
    assert unet.attn_processors == before


@pytest.fixture(scope="module")
def swatch():
    return load_model("swatch", torch.device("cpu"))


def test_the_bundled_model_looks_across_in_one_batch_with_both_halves_of_guidance(swatch):
    """Views that look at nobody get what they got, whatever the chunk; views that do get something else, in both ways of
    asking; and a view asked alone, which has nobody to look at, is plain again."""
    prompts, depth = ["red wood", "blue metal", "grey brick"], torch.rand(3, 1, 64, 64, generator=seeded())
    x, level = torch.randn(3, swatch.channels, 8, 8, generator=seeded(1)), swatch.levels(4)[1]

    def asked(attention, chunk=None):
        return swatch.denoiser(prompts, [""] * 3, depth, 3.0, chunk=chunk, attention=attention)
    plain = asked(None)(x, level)
    alone, ring = ViewAttention(((0,), (1,), (2,))), ViewAttention(((0, 2, 1), (1, 0, 2), (2, 1, 0)), 0, 1.0)
    torch.testing.assert_close(asked(alone, chunk=1)(x, level), plain, rtol=0, atol=2e-5)
    across = asked(ring, chunk=2)(x, level)
    torch.testing.assert_close(across, asked(ring)(x, level), rtol=0, atol=2e-5)
    assert float((across - plain).abs().max()) > 1e-3
    torch.testing.assert_close(asked(ring).only([1])(x[1:2], level), plain[1:2], rtol=0, atol=2e-5)
    pair = asked(ring).only([2, 0])(x[[2, 0]], level)
    assert float((pair - plain[[2, 0]]).abs().max()) > 1e-3


def test_some_of_the_views():
    ring = ViewAttention(((0, 3, 1), (1, 0, 2), (2, 1, 3), (3, 2, 0)), 3, 0.5)
    assert ring.only([3, 0]) == ViewAttention(((0, 1), (1, 0)), 0, 0.5)
    assert ring.only([1]) == ViewAttention(((0,),), None, 0.5)


def test_the_neighbours_in_a_ring():
    """Eight level cameras, 45 degrees apart, counted to the right: i - 1 and i + 1."""
    found = neighbours(build_rig("ring", 8, CUBE))
    assert [set(group) for group in found] == [{i, (i - 1) % 8, (i + 1) % 8} for i in range(8)]
    assert all(group[0] == i for i, group in enumerate(found))


def test_cameras_above_and_below_also_look_at_front_and_back():
    """The standard rig: six around (0 front, 3 back; even ones at +25 degrees, odd ones at -15), 6 above, 7 below.

    From above (80 degrees) the nearest on either side are 2 and 4: cos = sin 80 sin 25 + cos 80 cos 25 cos 120 = .34
    against sin 80 sin -15 + cos 80 cos 15 cos 60 = -.17 for 1 and 5. From below it is the other way round.
    """
    cameras = build_rig("auto", 8, CUBE)
    found = neighbours(cameras)
    assert frontmost(cameras) == 0
    assert set(found[6]) == {6, 0, 3, 2, 4}
    assert set(found[7]) == {7, 0, 3, 1, 5}
    assert [set(group) for group in found[:6]] == [{i, (i - 1) % 6, (i + 1) % 6} for i in range(6)]


def camera(direction):
    eye = 5 * np.asarray(direction, float)
    return Camera("x", look_at(eye, np.zeros(3)), perspective(35, 1, 10))


def test_unusual_rigs():
    assert neighbours([camera((0, -1, 0))]) == ((0,),)
    assert neighbours([camera((0, -1, 0)), camera((0, 1, 0))]) == ((0,), (1,))  # opposite: no side is nearer
    assert neighbours([camera((0, 0, 1)), camera((0, 0, -1))]) == ((0,), (1,))
    above = neighbours([camera((0, 0, 1)), camera((0.1, -1, 0)), camera((0.1, 1, 0))])
    assert set(above[0]) == {0, 1, 2}


def test_the_settings_say_whether():
    cameras = build_rig("auto", 8, CUBE)
    settings = {"view_attention": "off", "reference_until": 0.25}
    assert view_attention(cameras, settings) is None
    near = view_attention(cameras, {**settings, "view_attention": "neighbours"})
    assert near == ViewAttention(neighbours(cameras), None, 0.25)
    with_front = view_attention(cameras, {**settings, "view_attention": "neighbours+reference"})
    assert with_front.reference == 0
    assert view_attention(cameras[:1], {**settings, "view_attention": "neighbours"}) is None
