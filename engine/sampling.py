# SPDX-License-Identifier: Apache-2.0
"""Samplers: from noise to image, given a denoiser and the levels to visit.

A sampler is one function, `step(x, x0, level, following, noise, eta, history) -> x`, and knows neither
networks nor meshes. In the coordinates `x = alpha x0 + sigma eps` most named samplers are one formula:
DDIM, Euler and the flow models' Euler take the same deterministic step; DDPM and Euler ancestral are
DDIM with eta = 1. Each is tested against diffusers' scheduler of that name over whole trajectories.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

from blender_addon.jobs.errors import SettingsError
from engine.denoiser import Denoiser, implied_noise
from engine.schedule import Level

Noise = Callable[[], Tensor]
"""Gives a fresh field of unit-variance noise shaped as x, shared between the views where they agree."""

History = Sequence[tuple[Level, Tensor]]
"""The (level, x0) of the step before, or nothing at the first step."""

Step = Callable[[Tensor, Tensor, Level, Level, Noise | None, float, History], Tensor]
OnStep = Callable[[int, int, Tensor], None]
"""Told (steps done, steps in all, x0) after each denoiser call; may raise `Cancelled`."""


def ddim(x, x0, level, following, noise, eta, history):
    """Song et al. 2021, eq. 12: the noise that remains, plus `eta` 0..1 of it exchanged for fresh noise."""
    fresh = eta * _ancestral_sigma(level, following)
    kept = math.sqrt(max(following.sigma**2 - fresh**2, 0.0))
    x = following.alpha * x0 + kept * implied_noise(x, x0, level)
    return x + fresh * noise() if fresh > 0 else x


def euler(x, x0, level, following, noise, eta, history):
    """Karras et al. 2022, Algorithm 1 without churn, and the Euler step of flow matching: DDIM, eta 0."""
    return ddim(x, x0, level, following, noise, 0.0, history)


def ancestral(x, x0, level, following, noise, eta, history):
    """Ho et al. 2020, Algorithm 2 with the posterior variance, and k-diffusion's Euler ancestral: DDIM, eta 1."""
    return ddim(x, x0, level, following, noise, 1.0, history)


def dpm_2m(x, x0, level, following, noise, eta, history):
    """DPM-Solver++(2M), midpoint (Lu et al. 2022, Algorithm 2); the first and the clean last step are first order.

    In half log-SNR, lambda = log(alpha / sigma), with h = lambda' - lambda; written without lambda where
    it is infinite. The history holds the x0 that were stepped through, synchronized ones included.
    """
    if history and following.sigma > 0:
        before, x0_before = history[-1]
        r = (_half_log_snr(level) - _half_log_snr(before)) / (_half_log_snr(following) - _half_log_snr(level))
        x0 = x0 + (x0 - x0_before) / (2 * r)  # r is infinite after a start at alpha 0: no correction
    kept = following.sigma / level.sigma
    return kept * x + (following.alpha - kept * level.alpha) * x0


def lcm(x, x0, level, following, noise, eta, history):
    """Luo et al. 2023, Algorithm 3: the clean image, noised anew. For models distilled to a few steps."""
    return following.alpha * x0 + following.sigma * noise() if following.sigma > 0 else x0


def tcd(x, x0, level, following, noise, eta, history):
    """Zheng et al. 2024, Algorithm 4, strategic stochastic sampling: past the next level, then noised back up to it.

    `eta` is the paper's gamma: the step without noise ends at (1 - gamma) of the next level's time. 0 is DDIM's step, 1
    goes to the cleanest level that was trained, nearly as `lcm` does. For models distilled to a few steps.
    """
    if following.sigma == 0 or eta == 0:
        return ddim(x, x0, level, following, noise, 0.0, history)
    past = following.sooner(1 - eta)
    kept = following.alpha / past.alpha * past.sigma  # what noise is left there, seen from the next level
    fresh = math.sqrt(max(following.sigma**2 - kept**2, 0.0))
    x = following.alpha * x0 + kept * implied_noise(x, x0, level)
    return x + fresh * noise() if fresh > 0 else x


SAMPLERS: dict[str, Step] = {
    "ddim": ddim,
    "euler": euler,
    "euler-ancestral": ancestral,
    "ddpm": ancestral,
    "dpm++2m": dpm_2m,
    "flow-euler": euler,
    "lcm": lcm,
    "tcd": tcd,
}


def pick_sampler(name: str) -> Step:
    """The step function of that name; SettingsError when there is none."""
    if name not in SAMPLERS:
        raise SettingsError(f"sampler is {name!r}; it must be one of {', '.join(SAMPLERS)}.")
    return SAMPLERS[name]


def sample(
    denoiser: Denoiser,
    x: Tensor,
    levels: Sequence[Level],
    sampler: str | Step = "ddim",
    noise: Noise | None = None,
    eta: float = 0.0,
    on_step: OnStep | None = None,
) -> Tensor:
    """The state at the last level, reached from `x` at the first: `len(levels) - 1` denoiser calls.

    Args:
        denoiser: gives x0 in the shape of x.
        x: the state at `levels[0]`, any shape; not changed.
        levels: at least two, noise falling; see `schedule.levels_from_config`.
        sampler: a name in `SAMPLERS`, or a step function.
        noise: drawn by stochastic steps only; required for them.
        eta: 0 deterministic .. 1 as much fresh noise as DDPM; read by "ddim" and "tcd".
        on_step: told of each step; what it raises ends the run.
    """
    step = pick_sampler(sampler) if isinstance(sampler, str) else sampler
    history: list[tuple[Level, Tensor]] = []
    for done, (level, following) in enumerate(pairwise(levels), 1):
        x0 = denoiser(x, level)
        x = step(x, x0, level, following, noise, eta, history)
        history = [(level, x0)]
        if on_step is not None:
            on_step(done, len(levels) - 1, x0)
    return x


def start(noise: Tensor, level: Level) -> Tensor:
    """The state at `level` of an image not known yet: noise with the variance a unit-variance image would give.

    For variance-preserving levels this is the noise itself, as Stable Diffusion starts; likewise at the
    first level of a flow model, where sigma is 1.
    """
    return noise * math.hypot(level.alpha, level.sigma)


def _ancestral_sigma(level: Level, following: Level) -> float:
    """Standard deviation of the fresh noise in a fully stochastic step (DDPM's posterior), 0 at a clean end."""
    remaining = level.alpha * following.sigma / (following.alpha * level.sigma)
    return following.sigma * math.sqrt(max(1 - remaining**2, 0.0))


def _half_log_snr(level: Level) -> float:
    return math.log(level.alpha / level.sigma) if level.alpha > 0 else -math.inf
