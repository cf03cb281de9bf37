# SPDX-License-Identifier: Apache-2.0
"""How a distilled texture moves: merged steps, carried noise, colours that stay colours; what is no value."""

from __future__ import annotations

import pytest
import torch

from blender_addon.jobs.errors import SettingsError
from blender_addon.jobs.settings import resolve
from engine.methods import METHODS
from engine.methods.objectives import OBJECTIVES, Question, carried
from engine.schedule import levels_from_config
from tests.tasks import VP
from tests.toys import EXACT, GaussianDenoiser, RandomDenoiser
from tests.unit.test_distilled import HALF, distil, normal, pixels


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_merged_steps_shrink_the_residual_and_let_in_noise(rate):
    """Data N(0, 1): D = alpha x, so a step of rate r is z' = (1 - r sigma^2) z + r alpha sigma eps, at rest with the variance
    r^2 alpha^2 sigma^2 / (1 - (1 - r sigma^2)^2). 768 values give it to 5 % (one standard deviation)."""
    level = levels_from_config(VP, 200)[100]
    expected = (rate * level.alpha * level.sigma) ** 2 / (1 - (1 - rate * level.sigma**2) ** 2)
    images = distil(GaussianDenoiser(torch.eye(256).double()), pixels(), iterations=80, distill_rate=rate,
                    noise="independent", distill_times="random", t_min=0.499, t_max=0.501)
    assert float(images.var()) == pytest.approx(expected, rel=0.15)


def test_carried_noise_samples_where_fresh_noise_averages():
    """Data N(0.2, 0.3^2). With carried noise and full steps the loop is DDIM, which ends with the data's variance (768
    values: to 5 %, one standard deviation); fresh noise forgets, and ends within 0.1 of the mean."""
    prior = GaussianDenoiser(0.09 * torch.eye(256).double(), 0.2)
    ends = {name: distil(prior, pixels(), objective=name, noise="independent") for name in ("carried", "sds")}
    assert float(ends["carried"].std()) == pytest.approx(0.3, rel=0.1)
    assert float(ends["carried"].mean()) == pytest.approx(0.2, abs=0.05)
    assert float(ends["sds"].std()) < 0.1


def test_the_noise_carried_is_that_of_the_prediction():
    x0, noise = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    asked = Question(x0, noise, HALF)
    residual = OBJECTIVES["carried"].residual(RandomDenoiser(3), RandomDenoiser(3), asked)
    x = HALF.alpha * x0 + HALF.sigma * noise
    assert torch.allclose(carried(asked, residual), (x - HALF.alpha * RandomDenoiser(3)(x, HALF)) / HALF.sigma)


@pytest.mark.parametrize("step", ["merge", "adam"])
def test_colours_stay_colours(step):
    """A model that asks for 5 gets 1: what lies outside of -1..1 is no colour, and high guidance would go there."""
    def greedy(x, level):
        return torch.full_like(x, 5.0)
    start = torch.full((1, 3, 16, 16), 0.5, dtype=torch.float64)
    for start, settings in ((None, {}), (start, {"strength": 1.0})):
        images = distil(greedy, pixels(), start=start, iterations=100, distill_step=step, **settings)
        assert float((images - 1).abs().max()) < 1e-6


def test_no_gradient_is_asked_of_the_device():
    """Distilling works where nothing can be differentiated: every objective, both steps."""
    with torch.inference_mode():
        for name in OBJECTIVES:
            for step in ("merge", "adam"):
                images = distil(RandomDenoiser(3), EXACT["plane"](channels=3), objective=name, iterations=4, distill_step=step)
                assert torch.isfinite(images).all()


def test_guidance_is_a_multiple_of_what_the_model_likes():
    """Models that must not be guided (their own scale is 1 or less) are not."""
    for name, objective in OBJECTIVES.items():
        method = METHODS["distilled"]
        assert method.guidance({"objective": name}, 2.5) == 2.5 * objective.guidance >= 2.5
        assert method.guidance({"objective": name}, 1.0) == 1.0


@pytest.mark.parametrize(("key", "value"), [
    ("guidance", float("nan")), ("distill_rate", float("nan")), ("distill_rate", 0.0), ("iterations", 0), ("views", 0),
    ("distill_views", 0), ("inversion_steps", 0), ("objective", "vsd"), ("distill_step", "sgd"),
])
def test_what_is_no_value_is_refused_by_name(key, value):
    with pytest.raises(SettingsError) as refused:
        resolve({"prompt": "x", "method": "distilled", key: value})
    assert refused.value.key == key and key in refused.value.message
