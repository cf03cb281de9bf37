# SPDX-License-Identifier: Apache-2.0
"""The theory of the six cases, each with the answer derived in its docstring. Float64, seconds."""

from itertools import pairwise

import pytest
import torch

from engine.methods.cases import CASES, pick_case
from engine.methods.synchronized import Given, Known, denoise_together
from engine.sampling import ddim, sample
from engine.schedule import levels_from_config
from engine.spaces.around import WithOutside
from tests.toys import (
    EXACT, SETTINGS, CircleWorld, GaussianDenoiser, MatrixSpace, RandomDenoiser, gather_space, permutations, plane,
)

VP = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
      "steps_offset": 1}
ZERO = {"_class_name": "DDIMScheduler", "beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": True}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
CURVES = {"vp": VP, "zero-snr": ZERO, "flow": FLOW}
INSTANCE = [name for name, case in CASES.items() if not case.canonical]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def run(denoiser, space, levels, settings, generator, **given):
    return denoise_together(denoiser, space, levels, settings, generator, given=Given(**given))


def normal(shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def watched(denoiser):
    """The denoiser, and the list of states it was shown."""
    seen = []

    def watching(x, level):
        seen.append(x)
        return denoiser(x, level)
    return watching, seen


def tent_space(seed=0) -> MatrixSpace:
    """Three views of 6x5 that mix 40 texels and whose merge mixes pixels: nothing is the inverse of anything."""
    projection, taps = normal((90, 40), seed).abs(), normal((40, 90), seed + 1).abs()
    return MatrixSpace(projection / projection.sum(1, keepdim=True), taps, (3, 6, 5), channels=2)


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("sampler", ["ddim", "dpm++2m"])
@pytest.mark.parametrize("name", EXACT)
def test_all_cases_are_one_where_merging_undoes_projecting(name, sampler, curve):
    """A P = I, x = P z, deterministic, and a linear step: x stays in the range of P, where S is the identity.

    "dpm++2m" remembers x0: cases 3 and 6 remember the views' own, whose disagreement the next S removes.
    """
    results = [
        run(RandomDenoiser(2), EXACT[name](), levels_from_config(CURVES[curve], 12),
            {**SETTINGS, "case": case, "sampler": sampler}, seeded(3))
        for case in CASES
    ]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=1e-10)
    assert results[0].std() > 0.05


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("name", ["permutations", "crops", "plane"])
def test_the_law_of_disagreement(name, curve):
    """r = x - S x, for any denoiser where A P = I and each view starts from its own noise.

    Case 2: S x0 = x0, so r' = (sigma'/sigma) r: r falls as sigma. Case 1: S eps is all the noise there is, so
    r' = (alpha'/alpha) r: r grows as alpha, by 1/alpha_0 in all (13.2 for the whole of Stable Diffusion's schedule).
    Case 3: r' = (I - S) S(...) = 0.
    """
    levels = levels_from_config(CURVES[curve], 15)
    space = EXACT[name]()
    x = normal(space.project_noise(seeded()).shape, 4)

    def disagreement(case):
        denoiser, seen = watched(RandomDenoiser(2))
        result = run(denoiser, space, levels, {**SETTINGS, "case": case}, seeded(), x=x)
        return [float((x - space.sync(x)).norm()) for x in [*seen, result]]

    r = disagreement("instance-x0")
    for found, level in zip(r, levels, strict=True):
        assert found / r[0] == pytest.approx(level.sigma / levels[0].sigma, rel=1e-10, abs=1e-12)
    r = disagreement("instance-xt")
    assert r[0] > 1 and max(r[1:]) < 1e-10 * r[0]
    if levels[0].alpha > 0:
        r = disagreement("instance-eps")
        for found, level in zip(r, levels, strict=True):
            assert found / r[0] == pytest.approx(level.alpha / levels[0].alpha, rel=1e-9)
        assert r[-1] / r[0] > 9


def test_case_one_amplifies_by_the_whole_schedule():
    """1 / alpha_T of Stable Diffusion's 50 DDIM steps, first step at t = 981: 1 / sqrt(0.00576) = 13.17."""
    levels = levels_from_config(VP, 50)
    space = permutations()
    x = normal((3, 2, 4, 4), 4)
    result = run(RandomDenoiser(2), space, levels, {**SETTINGS, "case": "1"}, seeded(), x=x)
    grown = (result - space.sync(result)).norm() / (x - space.sync(x)).norm()
    assert float(grown) == pytest.approx(13.17, abs=0.02)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_partial_agreement_on_white_data(share):
    """White data of variance c: D = g x with g = alpha c / (alpha^2 c + sigma^2), and the views' disagreement obeys
    r' = (alpha' (1 - share) g + (sigma'/sigma)(1 - alpha (1 - share) g)) r.
    """
    levels, space, c = levels_from_config(VP, 10), permutations(), 0.4
    x = normal((3, 2, 4, 4), 4)
    white = GaussianDenoiser(c * torch.eye(16, dtype=torch.float64))
    result = run(white, space, levels, {**SETTINGS, "agree_start": share, "agree_end": share}, seeded(), x=x)
    factor = 1.0
    for now, after in pairwise(levels):
        left = (1 - share) * now.alpha * c / (now.alpha**2 * c + now.sigma**2)
        factor *= after.alpha * left + after.sigma / now.sigma * (1 - now.alpha * left)
    torch.testing.assert_close(result - space.sync(result), factor * (x - space.sync(x)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize(("instance", "canonical"), [(1, 4), (2, 5), (3, 6)])
def test_instance_and_canonical_are_twins_when_the_noise_is_shared(instance, canonical, curve):
    """x = P z at the start is enough, for any linear P and A, nearest or not: P commutes with the linear step.

    Case 2: x' = alpha' P A D + sigma'(x - alpha P A D)/sigma = P (alpha' A D + sigma'(z - alpha A D)/sigma) = P z'.
    """
    levels = levels_from_config(CURVES[curve], 10)
    world = CircleWorld(channels=2, views=4, pixels=24, texels=128)
    for space, denoiser in ((tent_space(), RandomDenoiser(2)), (world, RandomDenoiser(2))):
        z = torch.randn_like(space.merge(space.project_noise(seeded())))

        def at(level, space=space):
            return space
        states = []
        for number, state in ((instance, space.project(z)), (canonical, z)):
            case = pick_case(number)
            stepped = case.step(ddim, at)
            states.append(sample(case.denoiser(denoiser, at), state, levels, stepped))
        scale = states[0].abs().max()
        torch.testing.assert_close(space.project(states[1]) / scale, states[0] / scale, rtol=0, atol=1e-12)


@pytest.mark.parametrize("copies", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_noise_projected_like_an_image_inflates(case, copies):
    """One view of 16 pixels, k per texel; the data are one constant colour N(0, 1).

    Only the mean of x matters, and its variance is 1/16 for white pixels, k/16 for P z with white z: shared like
    an image, the noise makes k times the prior's variance, in every case. With white pixels case 2 is right.
    Everything is linear, so unit vectors (one per channel) give the variance exactly.
    """
    space = gather_space((torch.arange(16) // copies).view(1, 1, 16), 16 // copies)
    flat = GaussianDenoiser(torch.ones(16, 16, dtype=torch.float64))
    levels = levels_from_config(VP, 20)
    pixels = torch.eye(16, dtype=torch.float64).view(1, 16, 1, 16)
    texels = space.project(torch.eye(16 // copies, dtype=torch.float64))

    def variance(result):
        return float(result.mean(3).square().sum())
    plain = variance(sample(flat, pixels, levels))
    settings = {**SETTINGS, "case": case}
    assert variance(run(flat, space, levels, settings, seeded(), x=texels)) == pytest.approx(copies * plain, rel=1e-9)
    if case == "instance-x0":
        assert variance(run(flat, space, levels, settings, seeded(), x=pixels)) == pytest.approx(plain, rel=1e-9)


def test_the_prior_survives_on_the_identity_space():
    """A Gaussian prior with correlated pixels: the flow's map has the prior's own covariance, up to its steps.

    The map is linear: running on the unit vectors gives it, without any sampling error.
    """
    place = torch.arange(24, dtype=torch.float64)
    covariance = 0.7 * torch.exp(-0.5 * ((place[:, None] - place) / 4) ** 2) + 0.3 * torch.eye(24, dtype=torch.float64)
    space = gather_space(torch.arange(24).view(1, 1, 24), 24, channels=24)
    unit = torch.eye(24, dtype=torch.float64).view(1, 24, 1, 24)
    for case in CASES:
        result = run(GaussianDenoiser(covariance), space, levels_from_config(ZERO, 500), {**SETTINGS, "case": case},
                     seeded(), x=unit)
        found = result[0, :, 0].T @ result[0, :, 0]
        torch.testing.assert_close(found, covariance, rtol=0, atol=0.01)


@pytest.mark.parametrize("noise", ["shared", "independent"])
def test_averaged_noise_must_be_shared(noise):
    """White data, N = 3 permuted views, fully stochastic: the merged variance follows v' = f^2 v + s^2 / k,

    k = 1 where the noise is drawn on the canonical space, k = N where each view draws its own (it shrinks).
    """
    levels, c, views = levels_from_config(VP, 30), 0.5, 3
    space = permutations(views=views, channels=3000)
    white = GaussianDenoiser(c * torch.eye(16, dtype=torch.float64))
    result = run(white, space, levels, {**SETTINGS, "sampler": "ddpm", "noise": noise}, seeded(2))
    k = views if noise == "independent" else 1
    v = 1 / k
    for now, after in pairwise(levels):
        gain = now.alpha * c / (now.alpha**2 * c + now.sigma**2)
        s2 = after.sigma**2 * (1 - (now.alpha * after.sigma / (after.alpha * now.sigma)) ** 2)
        f = after.alpha * gain + (after.sigma**2 - s2) ** 0.5 * (1 - now.alpha * gain) / now.sigma
        v = f * f * v + s2 / k
    assert float(space.merge(result).var()) == pytest.approx(v, rel=0.025)  # 48,000 samples
    assert v == pytest.approx(c / k, rel=0.25)


def test_averaging_is_not_a_product_of_experts():
    """Two views that want N(m_i, s^2) of the same texels: the texture is N((m_1 + m_2)/2, s^2), not s^2 / 2.

    D is affine with one gain, so the mean of D_i is the denoiser of the mean of m_i: equal to that plain run.
    """
    space = permutations(views=2, channels=3)
    means = normal((2, 3, 1, 1), 8)
    levels = levels_from_config(VP, 20)
    cov = 0.2 * torch.eye(16, dtype=torch.float64)
    x = space.project_noise(seeded())
    result = run(GaussianDenoiser(cov, means), space, levels, SETTINGS, seeded(), x=x)
    expected = sample(GaussianDenoiser(cov, means.mean(0)), x, levels)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_pixels_off_the_space_run_free(case):
    """A denoiser of single pixels: what the space does not cover must be what plain sampling makes of it."""
    space = plane()
    space.mask = space.mask.clone()
    space.mask[:, :, :2] = 0
    x = normal((4, 2, 5, 5), 3)
    levels = levels_from_config(ZERO, 9)

    def pixelwise(x, level):
        return torch.tanh(x + level.sigma)
    result = run(pixelwise, space, levels, {**SETTINGS, "case": case}, seeded(), x=x)
    plain = sample(pixelwise, x, levels)
    torch.testing.assert_close(result[:, :, :2], plain[:, :, :2], rtol=0, atol=1e-13)
    assert not torch.allclose(result[:, :, 2:], plain[:, :, 2:])


@pytest.mark.parametrize("case", INSTANCE)
def test_a_soft_mask_is_a_blend(case):
    space = plane()
    space.mask = torch.full_like(space.mask, 0.25)
    x = normal((4, 2, 5, 5), 3)
    levels = levels_from_config(VP, 1)
    d = RandomDenoiser(2)
    result = run(d, space, levels, {**SETTINGS, "case": case}, seeded(), x=x)
    space.mask = torch.ones_like(space.mask)
    full = run(d, space, levels, {**SETTINGS, "case": case}, seeded(), x=x)
    torch.testing.assert_close(result, 0.75 * d(x, levels[0]) + 0.25 * full, rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("until", [0.0, 0.5, 0.8, 1.0])
def test_views_run_free_after_sync_until(case, until):
    """The first steps are those of a full run, the rest are those of no synchronization at all."""
    levels, space = levels_from_config(VP, 10), plane()
    x = space.project_noise(seeded(1))
    cut = round(until * 10)
    results = {}
    for share, kept in ((until, levels), (1.0, levels[: cut + 1])):
        settings = {**SETTINGS, "case": case, "sync_until": share}
        results[share, len(kept)] = run(RandomDenoiser(2), space, kept, settings, seeded(), x=x)
    halfway = results[1.0, cut + 1]
    torch.testing.assert_close(results[until, 11], sample(RandomDenoiser(2), halfway, levels[cut:]), rtol=0, atol=1e-12)


def test_no_strength_is_no_synchronization():
    space = plane()
    x = normal((4, 2, 5, 5), 3)
    levels = levels_from_config(VP, 10)
    free = run(RandomDenoiser(2), space, levels, {**SETTINGS, "agree_start": 0.0, "agree_end": 0.0}, seeded(), x=x)
    torch.testing.assert_close(free, sample(RandomDenoiser(2), x, levels), rtol=0, atol=1e-13)


def test_weights_sharpen_in_a_straight_line_over_all_steps():
    for until, expected in ((1.0, [1, 32.75, 64.5, 96.25, 128]), (0.6, [1, 32.75, 64.5])):
        space, powers = plane(), []
        space.sharpen = powers.append
        run(RandomDenoiser(2), space, levels_from_config(VP, 5), {**SETTINGS, "sync_until": until}, seeded())
        assert powers == expected


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++2m"])
@pytest.mark.parametrize("case", CASES)
def test_known_texels_come_back(case, sampler):
    space = permutations()
    values = normal((2, 16), 7)
    where = torch.zeros(1, 16, dtype=torch.float64)
    where[:, 3:9] = 1
    result = run(RandomDenoiser(2), space, levels_from_config(VP, 8), {**SETTINGS, "case": case, "sampler": sampler},
                 seeded(), known=Known(values, where))
    found = space.merge(result)
    if case in ("instance-x0", "instance-eps", "canonical-x0", "canonical-eps"):
        assert torch.equal(result, torch.where(space.project(where.expand(2, 16)) > 0, space.project(values), result))
    torch.testing.assert_close(found[:, 3:9], values[:, 3:9], rtol=0, atol=1e-14)  # 3 v / 3 may round
    assert not torch.allclose(found[:, :3], values[:, :3], atol=0.1)


@pytest.mark.parametrize("case", CASES)
def test_known_texels_lead_the_others(case):
    """Neighbours see them: a smooth prior continues a known edge value into the unknown half."""
    place = torch.arange(16, dtype=torch.float64)
    smooth = GaussianDenoiser(torch.exp(-0.5 * ((place[:, None] - place) / 5) ** 2))
    space = gather_space(torch.arange(16).view(1, 1, 16), 16, channels=400)
    where = (place < 8).double()[None]
    known = Known(torch.full((400, 16), 1.5, dtype=torch.float64), where)
    levels = levels_from_config(ZERO, 60)
    result = run(smooth, space, levels, {**SETTINGS, "case": case}, seeded(), known=known)[0, :, 0]
    free = run(smooth, space, levels, {**SETTINGS, "case": case}, seeded())[0, :, 0]
    assert float(result[:, 8].mean()) > 1.0
    assert abs(float(free[:, 8].mean())) < 0.2


@pytest.mark.parametrize("filtered", [False, True])
def test_canonical_noise_is_as_loud_as_pixels_need_it(filtered):
    """A pixel that averages 8 samples of white texels keeps only part of their variance: the noise on the texture is
    louder by as much, so that the denoiser sees the noise it is told of. Where pixels copy texels it is white exactly.
    """
    world = CircleWorld(channels=300, filtered=filtered)
    seen = []

    def watching(x, level):
        seen.append(x)
        return torch.zeros_like(x)
    run(watching, world, levels_from_config(ZERO, 3), {**SETTINGS, "case": "5", "sampler": "ddpm"}, seeded())
    for x, level in zip(seen, levels_from_config(ZERO, 3), strict=False):
        assert float(x.square().mean()) == pytest.approx(level.sigma**2, rel=0.02)
    quiet = world.project(torch.randn(300, 4096, generator=seeded(1), dtype=torch.float64)).square().mean()
    both = WithOutside(world, world.project_noise(seeded()))
    assert float(both.loudness) == pytest.approx(float(quiet) ** -0.5, rel=0.02)
    assert (both.loudness == 1) == (not filtered)
