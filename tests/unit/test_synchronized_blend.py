# SPDX-License-Identifier: Apache-2.0
"""Blending by bands, keeping variance, agreeing in part, agreeing as pixels in some steps."""

import pytest
import torch

from blender_addon.jobs.errors import SettingsError
from blender_addon.jobs.settings import resolve
from engine.methods import Facts, pick_method
from engine.methods.synchronized import Given, denoise_together, run, which_steps
from engine.schedule import levels_from_config
from engine.spaces.blend import LOUDEST, Blended, Blur
from tests.toys import SETTINGS, CircleWorld, GaussianDenoiser, RandomDenoiser, gather_space, plane
from tests.unit.test_synchronized import VP, normal, seeded, watched
from tests.unit.test_synchronized_run import LEVELS, Blocks, spaces
from tests.unit.test_synchronized_world import RUNS as PLAIN_RUNS
from tests.unit.test_synchronized_world import measures

RUNS = {
    **PLAIN_RUNS,
    "bands": {"blend": "bands"},
    "bands, variance kept": {"blend": "bands", "preserve_variance": True},
    "cosine^6 to 80 %, variance kept": {**PLAIN_RUNS["cosine^6 to 80 %"], "preserve_variance": True},
    "cosine, variance kept": {**PLAIN_RUNS["case 2"], "preserve_variance": True},
    "sharpest alone": {"sharpness_start": 128.0},
    "agreeing more and more": {"agree_start": 0.0},
}


def measured(name):
    return measures(tuple(RUNS[name].items()))


@pytest.mark.parametrize(("sigma", "side"), [(1.0, 40), (1.9, 41), (6.0, 96), (8.0, 97), (20.0, 240)])
def test_the_blur_is_a_gaussian_of_its_width(sigma, side):
    """An impulse spreads with variance sigma^2 along each axis (blocks add b^2 / 4 and the bell makes up the rest),
    keeps its mean, and its kurtosis is that of a bell, 3."""
    impulse = torch.zeros(1, 1, side, side, dtype=torch.float64)
    impulse[..., side // 2, side // 2] = 1
    blur = Blur(torch.ones_like(impulse), sigma)
    spread = blur(impulse)[0, 0].sum(0)
    place = torch.arange(side, dtype=torch.float64) - side // 2
    spread = spread / spread.sum()
    mean = float((place * spread).sum())
    assert abs(mean) <= 0.5 * blur.block  # an impulse takes the place of its block
    second, fourth = (float(((place - mean) ** power * spread).sum()) for power in (2, 4))
    assert second == pytest.approx(sigma**2, rel=0.06)
    assert fourth / second**2 == pytest.approx(3, rel=0.1)


def test_the_blur_knows_only_what_the_mask_shows():
    """Normalised: one colour inside stays that colour up to the edge, whatever is outside; and it is linear."""
    mask = torch.zeros(2, 1, 30, 50, dtype=torch.float64)
    mask[:, :, 5:21, 7:40] = 1
    blur = Blur(mask, 5.0)
    x = torch.where(mask > 0, 0.7, 100 * normal((2, 3, 30, 50)))
    torch.testing.assert_close(blur(x) * mask, (0.7 * mask).expand_as(x), rtol=0, atol=1e-12)
    a, b = normal((2, 3, 30, 50), 1), normal((2, 3, 30, 50), 2)
    torch.testing.assert_close(blur(2 * a - b), 2 * blur(a) - blur(b), rtol=0, atol=1e-12)


@pytest.mark.parametrize("preserve", [False, True])
@pytest.mark.parametrize("bands", [False, True])
def test_one_colour_stays_and_sync_is_project_of_merge(bands, preserve):
    world = CircleWorld(channels=2, filtered=True)
    space = Blended(world, 8.0, bands=bands, preserve=preserve)
    space.sharpen(32.0)
    colour = torch.full((8, 2, 1, world.mask.shape[-1]), 0.3, dtype=torch.float64)
    torch.testing.assert_close(space.sync(colour), colour, rtol=0, atol=1e-9)
    x = normal(colour.shape, 4)
    torch.testing.assert_close(space.sync(x), space.project(space.merge(x)), rtol=0, atol=1e-9)
    total, weight = space.unproject(x)
    torch.testing.assert_close(total / weight, space.merge(x), rtol=0, atol=1e-9)


def test_bands_are_two_agreements_with_their_own_sharpness():
    """Written out: A_4 (L x) + A_p (x - L x), and the space is left as sharp as it was told to be."""
    world = CircleWorld(channels=2)
    space, plain = Blended(world, 8.0, bands=True, preserve=False), CircleWorld(channels=2)
    space.sharpen(100.0)
    x = normal((8, 2, 1, world.mask.shape[-1]), 4)
    broad = Blur(world.mask, 8.0)(x)
    plain.sharpen(4.0)
    expected = plain.merge(broad)
    plain.sharpen(100.0)
    expected = expected + plain.merge(x - broad)
    torch.testing.assert_close(space.merge(x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(world.weights, plain.weights)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9])
def test_the_variance_of_a_mean_is_given_back(correlation):
    """Four views of the same 40,000 texels with equal weights: Q = 1/4, the mean of deviations with correlation r has
    q = 1/4 + 3/4 r of their variance, and is amplified by 1 / sqrt(q), by `LOUDEST` at most."""
    space = gather_space(torch.arange(400).view(1, 20, 20).expand(4, -1, -1), 400, channels=100)
    blended = Blended(space, 4.0, bands=False, preserve=True)
    shared, own = normal((1, 100, 20, 20), 1), normal((4, 100, 20, 20), 2)
    x = correlation**0.5 * shared + (1 - correlation) ** 0.5 * own
    x = x - blended.blur(x)
    gain = blended._gain(x)
    q = 0.25 + 0.75 * correlation
    assert float(gain.mean()) == pytest.approx(min(q**-0.5, LOUDEST), rel=0.02)
    loud = float((gain * space.merge(x)).var() / x.var())
    assert loud == pytest.approx(min(1.0, LOUDEST**2 * q), rel=0.03)


def test_one_view_alone_keeps_its_variance_without_help():
    space = gather_space(torch.arange(36).view(1, 6, 6), 36, channels=2)
    blended = Blended(space, 2.0, bands=False, preserve=True)
    x = normal((1, 2, 6, 6))
    torch.testing.assert_close(blended.sync(x), x, rtol=0, atol=1e-12)


def test_bands_are_as_sharp_as_the_ramp_and_lose_some_variance_which_can_be_kept():
    """research/sync-algorithms.md §8.3: detail .89 -> .90, variance .75 -> .67 -> .73; here, with filtering by area in
    the noise alone, .84 -> .84 and .80 -> .62 -> .69."""
    ramp, bands, kept = measured("ramp"), measured("bands"), measured("bands, variance kept")
    assert bands["texture"] > ramp["texture"]
    assert bands["variance"] < 0.85 * ramp["variance"]
    assert kept["variance"] > 1.08 * bands["variance"] and kept["texture"] >= 0.99 * bands["texture"]
    assert max(bands["disagreement"], kept["disagreement"]) < 0.003


def test_keeping_variance_helps_where_much_is_averaged():
    for plain, kept in (("cosine^6 to 80 %", "cosine^6 to 80 %, variance kept"), ("case 2", "cosine, variance kept")):
        assert measured(kept)["variance"] > 1.05 * measured(plain)["variance"]
        assert measured(kept)["texture"] > 1.02 * measured(plain)["texture"]
    assert measured("cosine, variance kept")["texture"] > 1.3 * measured("case 2")["texture"]


def test_views_may_agree_little_at_first_without_harm():
    """What is not agreed early is averaged late, when there is less noise to average: no less variance or detail."""
    late, ramp = measured("agreeing more and more"), measured("ramp")
    assert late["variance"] > ramp["variance"] and late["texture"] > ramp["texture"]
    assert late["disagreement"] < 0.003


def borders(settings, tint):
    """Mean |jump| of the texture where the best view changes over its mean |gradient| elsewhere; 1: not to be seen."""
    world = CircleWorld(24)
    prior = world.prior()
    means = tint * torch.tensor([1.0, -1.0] * 4, dtype=torch.float64).view(8, 1, 1, 1)
    views = run(GaussianDenoiser(prior.covariance, means), world, levels_from_config(VP, 30),
                {**SETTINGS, **settings}, seeded(3))
    world.sharpen(128.0)
    texture = world.merge(views)
    step = world.texels * (2 / 96) / (2 * torch.pi)  # texels per pixel in the middle of a view
    apart = max(1, round(step))
    jump = (texture.roll(-apart, 1) - texture).abs().mean(0)
    owner = world.weights.argmax(0)
    across = owner.roll(-apart) != owner
    return float(jump[across].mean() / jump[~across].mean())


def test_bands_hide_the_borders_between_tinted_views():
    """Views that want colours three standard deviations apart: the sharpest weights alone show where one takes over.

    §8.3's last column: 1.26 for constant cosine^128, .94 for bands.
    """
    sharp, bands = borders({"sharpness_start": 128.0}, 1.5), borders({"blend": "bands"}, 1.5)
    assert sharp > 1.1 * borders({"sharpness_start": 128.0}, 0.0)
    assert bands < 0.9 * sharp
    assert bands < 1.1


def test_which_steps_agree_as_pixels():
    """The last 40 %: of 20 steps those from number 12 (60 %) on; four of them are at 60, 70, 80 and 90 %."""
    def at(wanted, total):
        return which_steps({"pixel_steps": wanted}, total)
    assert at(4, 20) == [12, 14, 16, 18]
    assert at(0, 20) == [] and at(1, 20) == [12] and at(200, 20) == list(range(12, 20))
    assert at(4, 30) == [18, 21, 24, 27]
    assert at(3, 1) == []


def test_pixels_in_some_steps_latents_in_the_others():
    """The codec is asked in those steps only; and an orthonormal codec makes both the same, so the result is."""
    latent, pixels = spaces()
    levels = levels_from_config(VP, 10)
    codec = Blocks(cheap=False)
    settings = {**SETTINGS, "sync_space": "latent", "pixel_steps": 2}
    found = run(RandomDenoiser(4), latent, levels, settings, seeded(1), codec, pixel_space=pixels)
    assert codec.calls == 2
    expected = run(RandomDenoiser(4), latent, levels, SETTINGS, seeded(1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_each_space_is_as_sharp_as_its_step():
    latent, pixels = spaces()
    powers = {"latent": [], "pixels": []}
    latent.sharpen, pixels.sharpen = powers["latent"].append, powers["pixels"].append
    run(RandomDenoiser(4), latent, levels_from_config(VP, 5), {**SETTINGS, "sync_space": "latent", "pixel_steps": 1},
        seeded(1), Blocks(cheap=False), pixel_space=pixels)
    assert powers == {"latent": [1, 32.75, 64.5, 128], "pixels": [96.25]}


def test_agreement_falls_in_a_straight_line():
    """White data: see test_partial_agreement_on_white_data, with a share that differs from step to step."""
    space, levels, c = plane(), LEVELS, 0.4
    white = GaussianDenoiser(c * torch.eye(25, dtype=torch.float64))
    x = normal((4, 2, 5, 5), 4)
    found = denoise_together(white, space, levels, {**SETTINGS, "agree_start": 1.0, "agree_end": 0.5}, seeded(),
                             given=Given(x=x))
    factor, steps = 1.0, len(levels) - 1
    for k in range(steps):
        now, after, share = levels[k], levels[k + 1], 1 - 0.5 * k / (steps - 1)
        left = (1 - share) * now.alpha * c / (now.alpha**2 * c + now.sigma**2)
        factor *= after.alpha * left + after.sigma / now.sigma * (1 - now.alpha * left)
    torch.testing.assert_close(found - space.sync(found), factor * (x - space.sync(x)), rtol=0, atol=1e-12)


def small():
    return CircleWorld(channels=2, views=4, pixels=24, texels=128)


@pytest.mark.parametrize("case", ["2", "5"])
@pytest.mark.parametrize("more", [{"blend": "bands"}, {"preserve_variance": True},
                                  {"blend": "bands", "preserve_variance": True}])
def test_every_blend_runs_in_views_and_on_the_texture(case, more):
    watching, seen = watched(RandomDenoiser(2))
    found = run(watching, small(), LEVELS, {**SETTINGS, "case": case, **more}, seeded())
    assert len(seen) == len(LEVELS) - 1 and found.isfinite().all() and found.std() > 0.05
    plain = run(RandomDenoiser(2), small(), LEVELS, {**SETTINGS, "case": case}, seeded())
    assert not torch.allclose(found, plain, atol=1e-3)


@pytest.mark.parametrize(("key", "given"), [
    ("pixel_steps", {"pixel_steps": 3, "case": "1"}),
    ("pixel_steps", {"pixel_steps": 3, "case": "5"}),
    ("sync_space", {"sync_space": "pixel", "case": "6"}),
    ("agree_start", {"agree_start": 0.5, "case": "4"}),
    ("agree_end", {"agree_end": 0.5, "case": "5"}),
])  # fmt: skip
def test_what_a_case_cannot_do_is_refused_before_a_model_is_loaded(key, given):
    with pytest.raises(SettingsError, match=key) as caught:
        pick_method(resolve({"prompt": "x", **given}), Facts(8, starts=False))
    assert caught.value.key == key and caught.value.action
    allowed = {**given, "case": "2"}
    pick_method(resolve({"prompt": "x", **allowed}), Facts(8, starts=False))
