# SPDX-License-Identifier: Apache-2.0
"""The noise levels are diffusers' own, computed without it."""

import warnings

import diffusers
import numpy as np
import pytest

from blender_addon.jobs.errors import ModelError
from engine.schedule import CLEAN, alphas_cumprod, levels_from_config

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
CONFIGS = {
    "sd15-pndm": {"_class_name": "PNDMScheduler", **SD, "steps_offset": 1, "set_alpha_to_one": False,
                  "skip_prk_steps": True},
    "sd15-ddim": {"_class_name": "DDIMScheduler", **SD, "steps_offset": 1, "set_alpha_to_one": False},
    "ddim-linspace": {"_class_name": "DDIMScheduler", **SD, "timestep_spacing": "linspace"},
    "ddim-zero-snr": {"_class_name": "DDIMScheduler", "beta_schedule": "squaredcos_cap_v2",
                      "timestep_spacing": "trailing", "rescale_betas_zero_snr": True},
    "ddpm": {"_class_name": "DDPMScheduler", "beta_schedule": "linear"},
    "euler-linspace": {"_class_name": "EulerDiscreteScheduler", **SD},
    "euler-leading": {"_class_name": "EulerDiscreteScheduler", **SD, "timestep_spacing": "leading", "steps_offset": 1},
    "euler-zero-snr": {"_class_name": "EulerDiscreteScheduler", **SD, "timestep_spacing": "trailing",
                       "rescale_betas_zero_snr": True},
    "euler-ancestral": {"_class_name": "EulerAncestralDiscreteScheduler", **SD, "timestep_spacing": "trailing"},
    "dpm-linspace": {"_class_name": "DPMSolverMultistepScheduler", **SD},
    "dpm-leading": {"_class_name": "DPMSolverMultistepScheduler", **SD, "timestep_spacing": "leading",
                    "steps_offset": 1},
    "dpm-zero-snr": {"_class_name": "DPMSolverMultistepScheduler", **SD, "timestep_spacing": "trailing",
                     "rescale_betas_zero_snr": True},
    "dpm-cosine-clipped": {"_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "squaredcos_cap_v2",
                           "lambda_min_clipped": -5.1},
    "unipc": {"_class_name": "UniPCMultistepScheduler", **SD},
    "deis": {"_class_name": "DEISMultistepScheduler", **SD},
    "lms": {"_class_name": "LMSDiscreteScheduler", **SD},
    "flow": {"_class_name": "FlowMatchEulerDiscreteScheduler"},
    "flow-shift": {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
}


def official(config):
    """diffusers' scheduler of that config."""
    values = {key: value for key, value in config.items() if key != "_class_name"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation notes of old configs
        return getattr(diffusers, config["_class_name"])(**values)


@pytest.mark.parametrize("steps", [1, 7, 20, 30, 50])
@pytest.mark.parametrize("name", CONFIGS)
def test_levels_are_those_of_diffusers(name, steps):
    scheduler = official(CONFIGS[name])
    scheduler.set_timesteps(steps)
    levels = levels_from_config(CONFIGS[name], steps)
    times = scheduler.timesteps.double().numpy()
    if name == "sd15-pndm":  # its multistep warm-up visits the second timestep twice
        times = np.array(sorted(set(times), reverse=True))
    np.testing.assert_allclose([level.timestep for level in levels[:-1]], times, rtol=1e-6, atol=1e-9)
    assert levels[-1] == CLEAN
    ratio = np.array([level.sigma / level.alpha if level.alpha else np.inf for level in levels[:-1]])
    if hasattr(scheduler, "sigmas") and "flow" in name:
        np.testing.assert_allclose([level.sigma for level in levels], scheduler.sigmas.numpy(), rtol=1e-5)
    elif hasattr(scheduler, "sigmas"):
        np.testing.assert_allclose(ratio, scheduler.sigmas.double().numpy()[:-1], rtol=3e-4)
    else:
        power = scheduler.alphas_cumprod.double().numpy()[times.astype(int)]
        np.testing.assert_allclose([level.alpha**2 for level in levels[:-1]], power, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", CONFIGS)
def test_levels_lie_on_their_curve_and_fall(name):
    levels = levels_from_config(CONFIGS[name], 12)
    alpha, sigma = (np.array([getattr(level, key) for level in levels]) for key in ("alpha", "sigma"))
    np.testing.assert_allclose(alpha + sigma if "flow" in name else alpha**2 + sigma**2, 1, rtol=1e-12)
    assert (np.diff(sigma) < 0).all()


def test_zero_terminal_snr_starts_at_no_signal_at_all():
    levels = levels_from_config(CONFIGS["ddim-zero-snr"], 20)
    assert (levels[0].alpha, levels[0].sigma) == (0.0, 1.0)


def test_strength_keeps_the_last_steps_as_image_to_image_does():
    config = CONFIGS["sd15-ddim"]
    full = levels_from_config(config, 20)
    for strength, calls in ((1.0, 20), (0.75, 15), (0.5, 10), (0.07, 1), (0.0, 1)):
        part = levels_from_config(config, 20, strength)
        assert part == full[-calls - 1:], strength


def test_the_configs_own_end_is_the_first_training_level():
    for name in ("sd15-ddim", "sd15-pndm"):
        end = levels_from_config(CONFIGS[name], 20, final="config")[-1]
        assert end.alpha**2 == pytest.approx(alphas_cumprod(SD)[0], rel=1e-12)
    assert levels_from_config(CONFIGS["ddpm"], 20, final="config")[-1] == CLEAN


def test_dynamic_shift_is_diffusers_own():
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}
    scheduler = official(config)
    scheduler.set_timesteps(9, mu=0.8)
    levels = levels_from_config(config, 9, mu=0.8)
    np.testing.assert_allclose([level.sigma for level in levels], scheduler.sigmas.numpy(), rtol=1e-5)


@pytest.mark.parametrize(("config", "words"), [
    ({"_class_name": "SDTurboScheduler"}, "SDTurboScheduler"),
    ({"beta_schedule": "sigmoid"}, "sigmoid"),
    ({"timestep_spacing": "odd"}, "odd"),
    ({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True}, "use_karras_sigmas"),
    ({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}, "use_dynamic_shifting"),
])
def test_what_is_not_supported_is_named(config, words):
    with pytest.raises(ModelError, match=words):
        levels_from_config(config, 10)


@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_out_of_range(steps):
    with pytest.raises(ValueError, match=str(steps)):
        levels_from_config(SD, steps)
