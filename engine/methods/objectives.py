# SPDX-License-Identifier: Apache-2.0
"""What a distilled texture is asked to agree with: score distillation and its relatives, as one residual.

All have the form w(t) (eps_hat(x_t) - reference) and differ in how a clean view x0 is made noisy and what its noise is
compared with. With x_t = alpha x0 + sigma eps, eps_hat - eps = (alpha / sigma) (x0 - D(x_t)), so with DreamFusion's
w = sigma^2 an SDS step is alpha sigma (x0 - D(x_t)), the gradient of alpha sigma / 2 |x0 - sg(D(x_t))|^2: no derivative
of the network. Here the *residual* x0 - D(x_t) is returned, in the unit of x0; `weight` makes the gradient of it.

For data N(m, C) and s^2 = alpha^2 C + sigma^2, u = alpha sqrt(C) / s, the expected x0 - D(x_t) is (1 - u^2) (x0 - m) for
SDS and (1 - u) (x0 - m) for SDI: both seek the mode, SDI 1 + u times slower and without the noise of a fresh eps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from engine.denoiser import Denoiser, implied_noise
from engine.schedule import Level

LEAST = 1e-3  # alpha to divide by: 0 at the first level of some models
FRESH = 0.3  # share of fresh noise (standard deviation) in an inverted one, or nothing would tell two seeds apart


@dataclass(frozen=True)
class Question:
    """Views to be judged: `x0` [K,C,h,w] clean, noise for them, the level, and the levels on the way up to it."""

    x0: Tensor
    noise: Tensor
    level: Level
    climb: Sequence[Level] = ()  # noise rising, all below `level`


@dataclass(frozen=True)
class Objective:
    """`residual(denoiser, plain, question)` -> what x0 [K,C,h,w] has too much, in its own unit.

    plain: the denoiser without guidance, which finds the noise of a view where the objective `inverts`. Guided
    predictions are not those of any one distribution, and noise inverted with them is not white.
    carries: a view's noise is drawn once; afterwards it is what the model found in the view the last time.
    guidance: the usual scale, as a multiple of the model's own.
    step: the usual way of moving the texture, "merge" or "adam". rate: how far a merged step goes of the whole way.
    """

    residual: Callable[[Denoiser, Denoiser, Question], Tensor]
    guidance: float
    rate: float
    step: str = "merge"
    inverts: bool = False
    carries: bool = False


def weight(level: Level) -> float:
    """Of a residual in the gradient that was published: DreamFusion's w = sigma^2 on eps_hat - eps."""
    return level.alpha * level.sigma


def sds(denoiser: Denoiser, plain: Denoiser, asked: Question) -> Tensor:
    """Score distillation sampling (DreamFusion, Poole et al. 2022, eq. 3).

    With carried noise and a full step it is DDIM (Lukoianov et al. 2024, eq. 9, which SDI approximates without memory).
    """
    return _against(denoiser, asked, asked.noise)


def sdi(denoiser: Denoiser, plain: Denoiser, asked: Question) -> Tensor:
    """Score distillation via inversion (Lukoianov et al. 2024, Algorithm 1): the noise that leads to this very view."""
    x, _ = invert(plain, asked)
    kept = (1 - FRESH**2) ** 0.5
    return _against(denoiser, asked, kept * implied_noise(x, asked.x0, asked.level) + FRESH * asked.noise)


def ism(denoiser: Denoiser, plain: Denoiser, asked: Question) -> Tensor:
    """Interval score matching (LucidDreamer, Liang et al. 2024, eq. 13): the noise now against that one step below.

    With w = sigma^2 as for SDS; a residual of sigma / alpha times the difference.
    """
    x, before = invert(plain, asked)
    level = asked.level
    return level.sigma / max(level.alpha, LEAST) * (implied_noise(x, denoiser(x, level), level) - before)


def invert(plain: Denoiser, asked: Question) -> tuple[Tensor, Tensor]:
    """The noisy views that DDIM would take to `x0`, walked backwards, and the noise predicted just before arriving.

    The first step takes the clean view for a state of the lowest level (Song et al. 2021, §4.3).
    """
    x, noise = asked.x0, asked.noise
    for level, following in zip(asked.climb, [*asked.climb[1:], asked.level], strict=True):
        x0 = plain(x, level)
        noise = implied_noise(x, x0, level)
        x = following.alpha * x0 + following.sigma * noise
    return x, noise


def carried(asked: Question, residual: Tensor) -> Tensor:
    """The noise that the model found: (x_t - alpha D(x_t)) / sigma, of a residual x0 - D(x_t)."""
    return asked.noise + asked.level.alpha / asked.level.sigma * residual


def _against(denoiser: Denoiser, asked: Question, noise: Tensor) -> Tensor:
    level = asked.level
    return asked.x0 - denoiser(level.alpha * asked.x0 + level.sigma * noise, level)


OBJECTIVES: dict[str, Objective] = {
    "sds": Objective(sds, guidance=2.0, rate=0.3),
    "carried": Objective(sds, guidance=1.0, rate=1.0, carries=True),
    "sdi": Objective(sdi, guidance=2.0, rate=0.3, inverts=True),
    "ism": Objective(ism, guidance=1.0, rate=0.3, step="adam", inverts=True),
}
