# SPDX-License-Identifier: Apache-2.0
"""What networks put out becomes x0, and guidance is Lin et al.'s."""

import math

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from blender_addon.jobs.errors import ModelError
from engine.denoiser import PREDICTIONS, guide, implied_noise, predicts_x0
from engine.schedule import Level

VP = [Level(0.6, 0.8, 500.0), Level(0.0, 1.0, 999.0), Level(math.sqrt(0.999), math.sqrt(0.001), 1.0)]
FLOW = [Level(0.0, 1.0, 1000.0), Level(0.3, 0.7, 700.0), Level(0.99, 0.01, 10.0)]


def normal(seed):
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outputs(x0, eps, level):
    """What a perfect network of each kind would say."""
    return {"epsilon": eps, "v_prediction": level.alpha * eps - level.sigma * x0, "sample": x0,
            "flow_prediction": eps - x0}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_perfect_network_gives_back_the_image(name):
    x0, eps = normal(0), normal(1)
    for level in FLOW if name == "flow_prediction" else VP:
        x = level.alpha * x0 + level.sigma * eps
        if name == "epsilon" and level.alpha == 0:
            continue
        found = PREDICTIONS[name](outputs(x0, eps, level)[name], x, level)
        torch.testing.assert_close(found, x0, rtol=0, atol=1e-12)
        torch.testing.assert_close(implied_noise(x, found, level), eps, rtol=0, atol=1e-10)


def test_the_network_is_told_the_timestep():
    told = []
    denoiser = predicts_x0(lambda x, time: told.append(time) or x, "sample")
    x = normal(0)
    assert denoiser(x, VP[0]) is x
    assert told == [500.0]


def test_noise_cannot_be_predicted_from_nothing():
    with pytest.raises(ModelError, match="pure noise"):
        PREDICTIONS["epsilon"](normal(0), normal(1), VP[1])


def test_an_unknown_prediction_is_named():
    with pytest.raises(ModelError, match="'score'"):
        predicts_x0(lambda x, time: x, "score")


@pytest.mark.parametrize("rescale", [0.0, 0.5, 0.7, 1.0])
def test_guidance_is_that_of_diffusers(rescale):
    cond, uncond = normal(0), 2 * normal(1) + 0.3
    guided = uncond + 7.5 * (cond - uncond)
    expected = rescale_noise_cfg(guided, cond, rescale) if rescale else guided
    torch.testing.assert_close(guide(cond, uncond, 7.5, rescale), expected, rtol=1e-12, atol=1e-12)


def test_full_rescale_keeps_each_views_deviation():
    cond, uncond = normal(0), normal(1)
    found = guide(cond, uncond, 9.0, 1.0).std(dim=(1, 2, 3))
    torch.testing.assert_close(found, cond.std(dim=(1, 2, 3)), rtol=1e-12, atol=0)


def test_scale_one_is_the_prompt_and_zero_is_without():
    cond, uncond = normal(0), normal(1)
    torch.testing.assert_close(guide(cond, uncond, 1.0, 0.7), cond, rtol=1e-12, atol=1e-12)
    assert torch.equal(guide(cond, uncond, 0.0), uncond)
