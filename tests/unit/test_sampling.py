# SPDX-License-Identifier: Apache-2.0
"""Samplers on data whose answer is known: a Gaussian, where each step is one multiplication."""

import math
from itertools import pairwise

import pytest
import torch

from blender_addon.jobs.errors import Cancelled, SettingsError
from engine.sampling import SAMPLERS, sample, start
from engine.schedule import CLEAN, Level, levels_from_config
from tests.toys import GaussianDenoiser, RandomDenoiser

VP = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
      "steps_offset": 1}
ZERO = {"_class_name": "DDIMScheduler", "beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": True}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
CURVES = {"vp": VP, "zero-snr": ZERO, "flow": FLOW}


def white(variance: float) -> GaussianDenoiser:
    return GaussianDenoiser(variance * torch.eye(16, dtype=torch.float64))


def noises(channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(1, channels, 1, 16, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", ["ddim", "euler", "flow-euler", "dpm++2m"])
@pytest.mark.parametrize("curve", CURVES)
def test_deterministic_samplers_carry_noise_to_the_prior(name, curve):
    """The probability flow of N(0, c) from x at level 0 to clean is x sqrt(c / (alpha^2 c + sigma^2)).

    The discretization falls as 1/steps (Euler) or faster (2M).
    """
    x = noises()()
    c = 0.3
    errors = []
    for steps in (100, 400):
        levels = levels_from_config(CURVES[curve], steps)
        first = levels[0]
        exact = x * math.sqrt(c / (first.alpha**2 * c + first.sigma**2))
        errors.append(float((sample(white(c), x, levels, name) / exact - 1).abs().max()))
    assert errors[1] < (0.003 if name == "dpm++2m" else 0.01)
    assert errors[1] < errors[0] / 2.5  # VP leading starts its last step at a fixed level


@pytest.mark.parametrize("name", ["euler-ancestral", "ddpm", "ddim"])
@pytest.mark.parametrize("curve", CURVES)
def test_stochastic_samplers_have_the_variance_their_recursion_says(name, curve):
    """v' = f^2 v + s^2 with f and s of Song et al. 2021, eq. 12, and it ends near the prior's variance."""
    c, eta = 0.5, 0.7 if name == "ddim" else 1.0

    def recursion(levels):
        v = levels[0].alpha**2 + levels[0].sigma**2
        for now, after in pairwise(levels):
            gain = now.alpha * c / (now.alpha**2 * c + now.sigma**2)
            s = eta * after.sigma * math.sqrt(1 - (now.alpha * after.sigma / (after.alpha * now.sigma)) ** 2)
            f = after.alpha * gain + math.sqrt(after.sigma**2 - s**2) * (1 - now.alpha * gain) / now.sigma
            v = f * f * v + s * s
        return v

    levels = levels_from_config(CURVES[curve], 30)
    draw = noises(channels=3000)
    result = sample(white(c), start(draw(), levels[0]), levels, name, draw, eta)
    assert float(result.var()) == pytest.approx(recursion(levels), rel=0.025)  # 3 standard errors are 0.02
    assert recursion(levels_from_config(CURVES[curve], 500)) == pytest.approx(c, rel=0.03)


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_end_is_the_last_clean_estimate(name, curve):
    seen = []
    levels = levels_from_config(CURVES[curve], 9)
    draw = noises()
    result = sample(RandomDenoiser(1), draw(), levels, name, draw, 1.0, lambda i, n, x0: seen.append((i, n, x0)))
    assert levels[-1] == CLEAN
    assert [(i, n) for i, n, _ in seen] == [(i, 9) for i in range(1, 10)]
    assert torch.equal(result, seen[-1][2])


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_denoiser_that_knows_the_answer_gives_it_in_any_steps(name):
    answer = noises(seed=5)()
    for steps in (1, 2, 3):
        result = sample(lambda x, level: answer, noises()(), levels_from_config(ZERO, steps), name, noises(), 1.0)
        assert torch.equal(result, answer)


@pytest.mark.parametrize("name", ["ddim", "euler", "flow-euler", "dpm++2m"])
def test_a_state_of_known_noise_stays_one(name):
    """With the true x0, x is alpha x0 + sigma eps with the same eps at every level."""
    answer, eps = noises(seed=5)(), noises(seed=6)()
    levels, seen = levels_from_config(VP, 8), []

    def knows(x, level):
        seen.append((x, level))
        return answer
    sample(knows, levels[0].alpha * answer + levels[0].sigma * eps, levels, name)
    for x, level in seen:
        torch.testing.assert_close(x, level.alpha * answer + level.sigma * eps, rtol=0, atol=1e-12)


@pytest.mark.parametrize("curve", ["vp", "flow"])
def test_tcd_keeps_the_noise_of_the_level_it_went_past(curve):
    """Known x0 and eps, fresh noise z: at time s = (1 - gamma) t' the state is alpha_s x0 + sigma_s eps; noised up to
    t' it is alpha'/alpha_s times that, plus z so strong that the noise in all has the variance sigma'^2. For the flow
    model, shift 3, three steps down to 0.003: t' = 3 0.5015 / (1 + 2 0.5015) = 0.7511, gamma 0.6: sigma_s = 0.3004."""
    stops = {"vp": ({**VP, "_class_name": "LCMScheduler"}, 2), "flow": (FLOW, 3)}
    now, after = levels_from_config(*stops[curve])[:2]
    zero, one = torch.zeros(1, 1, 1, 16, dtype=torch.float64), torch.ones(1, 1, 1, 16, dtype=torch.float64)
    parts = [float(SAMPLERS["tcd"](now.alpha * x0 + now.sigma * eps, x0, now, after, lambda z=z: z, 0.6, ()).mean())
             for x0, eps, z in ((one, zero, zero), (zero, one, zero), (zero, zero, one))]  # fmt: skip
    if curve == "vp":  # stops 999 and 499; 0.4 of 499 is 199.6, whole: 199
        betas = torch.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000, dtype=torch.float64) ** 2
        power = (1 - betas).cumprod(0)
        assert (now.timestep, after.timestep) == (999.0, 499.0)
        past = float((1 - power[199]).sqrt() / power[199].sqrt())
    else:
        past = 0.4 * after.sigma / (1 - 0.4 * after.sigma)
        assert 0.4 * after.sigma == pytest.approx(0.3004, abs=1e-4)
    kept = after.alpha * past
    assert parts == pytest.approx([after.alpha, kept, math.sqrt(after.sigma**2 - kept**2)], rel=1e-9)
    with pytest.raises(ValueError, match="schedule"):
        Level(0.6, 0.8, 500.0).sooner(0.5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_float32_stays_float32_and_x_is_not_changed(name):
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    result = sample(lambda x, level: 0.5 * x, x, levels_from_config(VP, 5), name, lambda: torch.ones_like(x), 1.0)
    assert result.dtype == torch.float32
    assert torch.equal(x, before)


def test_noise_is_drawn_only_where_it_is_used():
    calls = []

    def draw():
        calls.append(1)
        return torch.zeros(1, 1, 1, 16, dtype=torch.float64)
    levels = levels_from_config(VP, 10)
    sample(white(1.0), draw(), levels, "ddim", draw, 0.0)
    assert len(calls) == 1
    sample(white(1.0), draw(), levels, "ddpm", draw)
    assert len(calls) == 2 + 9  # none in the step to clean


def test_cancelling_ends_the_run_at_once():
    calls = []

    def stop(i, n, x0):
        calls.append(i)
        if i == 3:
            raise Cancelled
    with pytest.raises(Cancelled):
        sample(white(1.0), noises()(), levels_from_config(VP, 10), on_step=stop)
    assert calls == [1, 2, 3]


def test_start_is_noise_for_every_kind_of_model():
    x = noises()()
    assert torch.equal(start(x, levels_from_config(ZERO, 5)[0]), x)
    assert torch.equal(start(x, levels_from_config(FLOW, 5)[0]), x)
    torch.testing.assert_close(start(x, levels_from_config(VP, 5)[0]), x, rtol=1e-12, atol=0)
    torch.testing.assert_close(start(x, Level(1.0, 3.0, 0.0)), x * math.sqrt(10), rtol=1e-12, atol=0)


def test_an_unknown_sampler_is_named():
    with pytest.raises(SettingsError, match=r"'magic'.*ddim"):
        sample(white(1.0), noises()(), levels_from_config(VP, 5), "magic")
