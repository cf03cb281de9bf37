# SPDX-License-Identifier: Apache-2.0
"""One view, no synchronization: every sampler walks exactly where diffusers' own scheduler walks."""

import pytest
import torch

from engine.denoiser import predicts_x0
from engine.sampling import SAMPLERS, sample
from engine.schedule import alphas_cumprod, levels_from_config
from tests.toys import RandomDenoiser
from tests.unit.test_sampling_levels import SD, official

LEADING = {**SD, "timestep_spacing": "leading", "steps_offset": 1}
TRAILING = {**SD, "timestep_spacing": "trailing"}
ZERO = {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}

# (sampler, scheduler class, config, network's output, steps, eta). diffusers' DDIM and DDPM look `1000 // steps` ahead
# where the next timestep is not: with "trailing" they agree with their own timesteps only if steps divides 1000.
WALKS = [
    ("ddim", "DDIMScheduler", {**LEADING, "set_alpha_to_one": False}, "epsilon", 30, 0.0),
    ("ddim", "DDIMScheduler", LEADING, "v_prediction", 20, 0.0),
    ("ddim", "DDIMScheduler", LEADING, "epsilon", 20, 0.6),
    ("ddim", "DDIMScheduler", LEADING, "sample", 12, 1.0),
    ("ddim", "DDIMScheduler", ZERO, "v_prediction", 25, 0.0),
    ("ddim", "DDIMScheduler", ZERO, "v_prediction", 20, 0.5),
    ("ddpm", "DDPMScheduler", LEADING, "epsilon", 30, 0.0),
    ("ddpm", "DDPMScheduler", {**SD, "timestep_spacing": "leading"}, "v_prediction", 50, 0.0),
    ("ddpm", "DDPMScheduler", ZERO, "v_prediction", 25, 0.0),
    ("euler", "EulerDiscreteScheduler", LEADING, "epsilon", 30, 0.0),
    ("euler", "EulerDiscreteScheduler", SD, "epsilon", 20, 0.0),
    ("euler", "EulerDiscreteScheduler", TRAILING, "v_prediction", 30, 0.0),
    ("euler", "EulerDiscreteScheduler", ZERO, "v_prediction", 30, 0.0),
    ("euler-ancestral", "EulerAncestralDiscreteScheduler", LEADING, "epsilon", 30, 0.0),
    ("euler-ancestral", "EulerAncestralDiscreteScheduler", SD, "v_prediction", 20, 0.0),
    ("dpm++2m", "DPMSolverMultistepScheduler", LEADING, "epsilon", 30, 0.0),
    ("dpm++2m", "DPMSolverMultistepScheduler", SD, "v_prediction", 10, 0.0),
    ("dpm++2m", "DPMSolverMultistepScheduler", TRAILING, "sample", 25, 0.0),
    ("dpm++2m", "DPMSolverMultistepScheduler", ZERO, "v_prediction", 30, 0.0),
    ("flow-euler", "FlowMatchEulerDiscreteScheduler", {}, "flow_prediction", 20, 0.0),
    ("flow-euler", "FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, "flow_prediction", 28, 0.0),
    ("lcm", "LCMScheduler", SD, "epsilon", 4, 0.0),
    ("lcm", "LCMScheduler", SD, "v_prediction", 8, 0.0),
    ("ddim", "TCDScheduler", SD, "epsilon", 4, 0.0),
    ("tcd", "TCDScheduler", SD, "epsilon", 4, 0.0),
    ("tcd", "TCDScheduler", SD, "epsilon", 4, 0.3),
    ("tcd", "TCDScheduler", SD, "sample", 8, 0.7),
    ("tcd", "TCDScheduler", SD, "v_prediction", 5, 1.0),
]


def theirs(scheduler, network, x, generator, noises, eta):
    """diffusers' own loop from `x` in its own coordinates; the state after each step."""
    states = []
    for time in scheduler.timesteps:
        told = x if "Flow" in type(scheduler).__name__ else scheduler.scale_model_input(x, time)
        extra = {}
        if type(scheduler).__name__.startswith("TCD"):
            extra = {"eta": eta, "generator": generator}
        elif type(scheduler).__name__.startswith("DDIM"):
            extra = {"eta": eta, "variance_noise": next(noises) if eta else None}
        elif not type(scheduler).__name__.startswith("DPM"):
            extra = {"generator": generator}
        output = network(told, float(time))
        x = scheduler.step(output, time, x, **extra).prev_sample.double()
        states.append(x)
    return states


@pytest.mark.parametrize(("sampler", "name", "config", "prediction", "steps", "eta"), WALKS)
def test_same_walk_as_diffusers(sampler, name, config, prediction, steps, eta):
    config = {"_class_name": name, **config}
    levels = levels_from_config(config, steps, final="config")
    kind = {} if prediction == "flow_prediction" else {"prediction_type": prediction}
    if name in ("DDIMScheduler", "DDPMScheduler"):
        kind["clip_sample"] = False  # for pixels in -1..1 only
    scheduler = official({**config, **kind})
    scheduler.set_timesteps(steps)
    network = RandomDenoiser(channels=3).network
    begin = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def fields(seed=2):
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield torch.randn(begin.shape, generator=generator, dtype=torch.float64)

    noises = fields()
    ours, seen = predicts_x0(network, prediction), []

    def watching(x, level):
        seen.append(x)
        return ours(x, level)
    result = sample(watching, begin, levels, sampler, lambda: next(noises), eta)

    sigma_space = name.startswith("Euler")  # k-diffusion keeps x / alpha
    first = begin / levels[0].alpha if sigma_space else begin
    states = theirs(scheduler, network, first, torch.Generator().manual_seed(2), fields(), eta)
    assert len(seen) == steps == len(states)
    for mine, their, level in zip([*seen[1:], result], states, levels[1:], strict=True):
        scale = level.alpha if sigma_space else 1.0
        torch.testing.assert_close(mine, their * scale, rtol=0, atol=5e-5)  # their tables are float32: measured 2e-5
    assert result.abs().mean() > 0.05


@pytest.mark.parametrize("config", [{**LEADING, "set_alpha_to_one": False}, ZERO])
def test_ddim_is_exact_when_diffusers_is_given_double_tables(config):
    kind = {"prediction_type": "v_prediction", "clip_sample": False}
    scheduler = official({"_class_name": "DDIMScheduler", **config, **kind})
    scheduler.alphas_cumprod = torch.from_numpy(alphas_cumprod(config))
    scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0] if "set_alpha_to_one" in config else torch.tensor(1.0)
    scheduler.set_timesteps(25)
    network = RandomDenoiser(channels=3).network
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    levels = levels_from_config({"_class_name": "DDIMScheduler", **config}, 25, final="config")
    expected = theirs(scheduler, network, x, None, None, 0.0)[-1]
    torch.testing.assert_close(sample(predicts_x0(network, "v_prediction"), x, levels), expected, rtol=0, atol=1e-12)


def test_every_sampler_is_compared():
    assert {walk[0] for walk in WALKS} == set(SAMPLERS)
