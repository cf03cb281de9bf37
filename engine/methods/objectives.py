# SPDX-License-Identifier: Apache-2.0
"""What a distilled texture is asked to agree with: score distillation and its relatives, as one gradient.

All have the form w(t) (eps_hat(x_t) - reference) and differ in how a clean view x0 is made noisy and what its noise is
compared with. With x_t = alpha x0 + sigma eps, eps_hat - eps = (alpha / sigma) (x0 - D(x_t)), so with DreamFusion's
w = sigma^2 an SDS step is the gradient of alpha sigma / 2 |x0 - sg(D(x_t))|^2: no derivative of the network.

For data N(m, C) and s^2 = alpha^2 C + sigma^2, u = alpha sqrt(C) / s, the expected x0 - D(x_t) is (1 - u^2) (x0 - m) for
SDS and (1 - u) (x0 - m) for SDI: both seek the mode, SDI 1 + u times slower and without the noise of a fresh eps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from engine.denoiser import Denoiser, implied_noise
from engine.schedule import Level

FRESH = 0.3  # share of fresh noise (standard deviation) in an inverted one, or nothing would tell two seeds apart


@dataclass(frozen=True)
class Question:
    """Views to be judged: `x0` [K,C,h,w] clean, fresh noise for them, the level, and the levels on the way up to it."""

    x0: Tensor
    noise: Tensor
    level: Level
    climb: Sequence[Level] = ()  # noise rising, all below `level`


@dataclass(frozen=True)
class Objective:
    """`gradient(denoiser, plain, question)` -> the gradient of the loss in x0 [K,C,h,w].

    plain: the denoiser without guidance, which finds the noise of a view where the objective `inverts`. Guided
    predictions are not those of any one distribution, and noise inverted with them is not white.
    """

    gradient: Callable[[Denoiser, Denoiser, Question], Tensor]
    inverts: bool


def sds(denoiser: Denoiser, plain: Denoiser, asked: Question) -> Tensor:
    """Score distillation sampling (DreamFusion, Poole et al. 2022, eq. 3, w = sigma^2)."""
    return _against(denoiser, asked, asked.noise)


def sdi(denoiser: Denoiser, plain: Denoiser, asked: Question) -> Tensor:
    """Score distillation via inversion (Lukoianov et al. 2024, Algorithm 1): the noise that leads to this very view."""
    x, _ = invert(plain, asked)
    kept = (1 - FRESH**2) ** 0.5
    return _against(denoiser, asked, kept * implied_noise(x, asked.x0, asked.level) + FRESH * asked.noise)


def ism(denoiser: Denoiser, plain: Denoiser, asked: Question) -> Tensor:
    """Interval score matching (LucidDreamer, Liang et al. 2024, eq. 13): the noise now against that one step below."""
    x, before = invert(plain, asked)
    return asked.level.sigma**2 * (implied_noise(x, denoiser(x, asked.level), asked.level) - before)


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


def _against(denoiser: Denoiser, asked: Question, noise: Tensor) -> Tensor:
    level = asked.level
    predicted = denoiser(level.alpha * asked.x0 + level.sigma * noise, level)
    return level.alpha * level.sigma * (asked.x0 - predicted)


OBJECTIVES: dict[str, Objective] = {"sds": Objective(sds, False), "sdi": Objective(sdi, True), "ism": Objective(ism, True)}
