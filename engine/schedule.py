# SPDX-License-Identifier: Apache-2.0
"""Noise levels: where a sampler stops on its way from noise to image.

Every state in Tweed is `x = alpha * x0 + sigma * eps`, for every kind of model: variance
preserving (alpha^2 + sigma^2 = 1), flow matching (alpha = 1 - sigma), or k-diffusion's (alpha = 1).
A `Level` names the two numbers and the timestep the network is told. `levels_from_config` reads them
from a diffusers `scheduler_config.json`, in float64 and without diffusers; a test holds it equal to
diffusers' own timesteps and alphas.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from blender_addon.jobs.errors import ModelError


@dataclass(frozen=True)
class Level:
    """One noise level of the state `x = alpha * x0 + sigma * eps`.

    `alpha` is 0 at a zero-terminal-SNR start, where x says nothing of x0; `sigma` is 0 at a clean end.
    `timestep` is what the network is told (diffusers' unit, 0..1000). `trained` is the schedule it was taken from, the
    signal power of each training timestep, falling; None where there is none, as in flow models.
    """

    alpha: float
    sigma: float
    timestep: float
    trained: np.ndarray | None = field(default=None, repr=False, compare=False)

    def sooner(self, share: float) -> Level:
        """The level at `share` 0..1 of this one's time: 0 is the cleanest that was trained, 1 is this one.

        Counted in whole training timesteps where there are such; in flow models sigma is the time.

        Raises:
            ValueError: a level with neither.
        """
        if self.trained is not None:
            time = math.floor(share * self.timestep + 1e-6)  # 0.7 of 90 is 63, whatever the rounding
            power = float(self.trained[time])
            return Level(math.sqrt(power), math.sqrt(1 - power), float(time), self.trained)
        if not math.isclose(self.alpha + self.sigma, 1.0):
            raise ValueError(f"{self} was taken from no schedule")
        return Level(1 - share * self.sigma, share * self.sigma, share * self.timestep)


CLEAN = Level(1.0, 0.0, 0.0)

# The rules of spacing, by class: DDIM's, k-diffusion's, and DPM-Solver's, which counts one more stop.
_DDIM = {"DDIMScheduler", "DDPMScheduler", "PNDMScheduler"}
_EULER = {"EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "LMSDiscreteScheduler"}
_DPM = {"DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"}
_LCM = {"LCMScheduler", "TCDScheduler"}  # distilled along a coarse training schedule, whose stops they keep to
_FLOW = {"FlowMatchEulerDiscreteScheduler"}
_UNSUPPORTED = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas",
                "use_flow_sigmas", "invert_sigmas", "shift_terminal")  # fmt: skip


def levels_from_config(
    config: Mapping, steps: int, strength: float = 1.0, *, final: str = "clean", mu: float | None = None,
    even: bool = False,
) -> list[Level]:
    """The `steps + 1` levels that diffusers' scheduler of this config visits; the last one is the end.

    Args:
        config: a diffusers `scheduler_config.json`; `_class_name` decides the spacing rules.
        steps: network calls of a full run, 1..num_train_timesteps.
        strength: keep the last `int(steps * strength)` steps (image to image, SDEdit); at least one.
        final: "clean" ends at sigma 0; "config" ends where the config says (`set_alpha_to_one: false`
            and `final_sigmas_type: sigma_min` stop at the first training level, as Stable Diffusion's do).
        mu: the resolution-dependent shift of flow models with `use_dynamic_shifting`; see `flow_shift`.
        even: flow levels 1, (steps - 1) / steps, ..., 1 / steps before the shift, as FLUX's pipelines ask for; else
            down to the lowest level of training, as the scheduler does by itself.

    Raises:
        ModelError: an unknown class, or a field that would change the levels and is not supported.
        ValueError: steps out of range.
    """
    name = config.get("_class_name", "DDIMScheduler")
    if name not in _DDIM | _EULER | _DPM | _LCM | _FLOW:
        known = ", ".join(sorted(_DDIM | _EULER | _DPM | _LCM | _FLOW))
        raise ModelError(f"The model's scheduler is {name}, which is not known here.",
                         f"Change _class_name in scheduler_config.json to one of {known}.")
    for key in _UNSUPPORTED:
        if config.get(key):
            raise ModelError(f"The model's scheduler config sets {key}, which is not supported.",
                             f"Remove {key} from scheduler_config.json.")
    trained = int(config.get("num_train_timesteps", 1000))
    if not 1 <= steps <= trained:
        raise ValueError(f"steps is {steps}; it must be between 1 and {trained}")
    levels = _flow_levels(config, steps, mu, even) if name in _FLOW else _vp_levels(config, name, steps, final)
    kept = min(steps, max(1, int(steps * strength)))
    return levels[steps - kept:]


def alphas_cumprod(config: Mapping) -> np.ndarray:
    """The training schedule's cumulative signal power, float64 [num_train_timesteps], falling.

    Raises:
        ModelError: an unknown `beta_schedule`, or `trained_betas` of another number than the timesteps.
    """
    n = int(config.get("num_train_timesteps", 1000))
    start, end = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    kind = config.get("beta_schedule", "linear")
    if config.get("trained_betas") is not None:
        betas = np.asarray(config["trained_betas"], np.float64)
        if betas.shape != (n,):
            raise ModelError(f"The model's scheduler lists {betas.size} trained_betas for {n} timesteps.",
                             "Correct scheduler_config.json: one for each.")
    elif kind == "linear":
        betas = np.linspace(start, end, n)
    elif kind == "scaled_linear":
        betas = np.linspace(math.sqrt(start), math.sqrt(end), n) ** 2
    elif kind == "squaredcos_cap_v2":
        bar = np.cos((np.arange(n + 1) / n + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - bar[1:] / bar[:-1], 0.999)
    else:
        raise ModelError(f"The model's beta_schedule is {kind!r}, which is not known here.",
                         "Use linear, scaled_linear or squaredcos_cap_v2.")
    power = np.cumprod(1 - betas)
    return _zero_terminal(power) if config.get("rescale_betas_zero_snr") else power


def _zero_terminal(power: np.ndarray) -> np.ndarray:
    """Shift and scale sqrt(power) so that it ends at exactly 0 (Lin et al. 2023, Algorithm 1)."""
    root = np.sqrt(power)
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def _vp_levels(config: Mapping, name: str, steps: int, final: str) -> list[Level]:
    power = alphas_cumprod(config)
    if config.get("rescale_betas_zero_snr") and name not in _DDIM:
        power[-1] = 2.0**-24  # as diffusers does where the solver divides by alpha
    times = _timesteps(config, name, steps, power)
    if name in _EULER:  # timesteps need not be whole: interpolate sigma / alpha, as diffusers does
        ratio = np.interp(times, np.arange(len(power)), np.sqrt((1 - power) / power))
        alpha, sigma = 1 / np.hypot(1, ratio), ratio / np.hypot(1, ratio)
    else:
        chosen = power[times.astype(int)]
        alpha, sigma = np.sqrt(chosen), np.sqrt(1 - chosen)
    levels = [Level(float(a), float(s), float(t), power) for a, s, t in zip(alpha, sigma, times, strict=True)]
    stops_early = name == "TCDScheduler" or config.get("final_sigmas_type") == "sigma_min" or (
        name in _DDIM and not config.get("set_alpha_to_one", name != "PNDMScheduler"))
    if final == "config" and stops_early:
        return [*levels, Level(math.sqrt(power[0]), math.sqrt(1 - power[0]), 0.0, power)]
    return [*levels, CLEAN]


def _timesteps(config: Mapping, name: str, steps: int, power: np.ndarray) -> np.ndarray:
    """The training timesteps visited, highest first, float64 [steps] (Lin et al. 2023, Table 2)."""
    n = len(power)
    if name in _LCM:
        return _distilled_timesteps(n, int(config.get("original_inference_steps", 50)), steps)
    spacing = config.get("timestep_spacing", "leading" if name in _DDIM else "linspace")
    last = n
    if name in _DPM and "lambda_min_clipped" in config:  # skip levels with almost no signal
        with np.errstate(divide="ignore"):
            snr = 0.5 * (np.log(power) - np.log1p(-power))
        last = n - int((snr < float(config["lambda_min_clipped"])).sum())
    extra = 1 if name in _DPM else 0  # these count one more stop and leave out the lowest
    if spacing == "linspace":
        times = np.linspace(0, last - 1, steps + extra)[extra:][::-1]
        return times if name in _EULER else times.round()
    if spacing == "leading":
        ratio = last // (steps + extra)
        return (np.arange(extra, steps + extra) * ratio)[::-1] + float(config.get("steps_offset", 0))
    if spacing == "trailing":
        return np.arange(last, 0, -n / steps).round()[:steps] - 1.0
    raise ModelError(f"The model's timestep_spacing is {spacing!r}, which is not known here.",
                     "Use leading, trailing or linspace.")


def _distilled_timesteps(n: int, original: int, steps: int) -> np.ndarray:
    """Of the `original` stops that a model was distilled along, `steps` about evenly spaced (Luo et al. 2023, §4.3)."""
    if steps > original:
        raise ModelError(f"The model was distilled along {original} steps, and {steps} were asked for.",
                         f"Set steps to {original} or less; 4 to 8 are usual.")
    stops = np.arange(1, original + 1)[::-1] * (n // original) - 1.0
    return stops[np.floor(np.linspace(0, original, steps, endpoint=False)).astype(int)]


def flow_shift(config: Mapping, tokens: int) -> float:
    """mu of a flow model's dynamic shift for pictures of so many tokens: a straight line through two given points."""
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    start, end = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return start + (end - start) * (tokens - low) / (high - low)


def _flow_levels(config: Mapping, steps: int, mu: float | None, even: bool) -> list[Level]:
    """Rectified flow: alpha = 1 - sigma, shifted towards noise (Esser et al. 2024, eq. 23)."""
    n = int(config.get("num_train_timesteps", 1000))
    if config.get("use_dynamic_shifting"):
        if mu is None:
            raise ModelError("The model shifts its noise levels with the image size (use_dynamic_shifting), "
                             "and no shift was given.", "Set use_dynamic_shifting to false and give a shift.")
        exponential = config.get("time_shift_type", "exponential") == "exponential"
        shift, lowest = (math.exp(mu) if exponential else mu), 1 / n
    else:
        shift = float(config.get("shift", 1.0))
        lowest = _shifted(1 / n, shift)  # diffusers shifts its lowest level twice: kept
    sigmas = _shifted(np.linspace(1.0, 1 / steps if even else lowest, steps), shift)
    return [*(Level(1 - float(s), float(s), float(s) * n) for s in sigmas), CLEAN]


def _shifted(sigma, shift: float):
    return shift * sigma / (1 + (shift - 1) * sigma)
