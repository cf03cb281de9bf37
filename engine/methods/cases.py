# SPDX-License-Identifier: Apache-2.0
"""The six cases: what the views agree on (noise, clean image, next state), and where the state lives.

With P = project, A = merge and S = P A = sync, in the coordinates x = alpha x0 + sigma eps (SyncTweedies, Kim
et al. 2024, §3; MultiDiffusion, Bar-Tal et al. 2023, is case 6). Each case is a function Denoiser -> Denoiser,
or, where the next state is averaged, Step -> Step. If A P = I, the sampler is deterministic and x = P z at the
start, all six are the same algorithm for any denoiser. Otherwise the part of x that the views disagree on,
r = x - S x, goes as sigma (case 2: it vanishes), as alpha (case 1: it grows), or at once (case 3).

Case 1 is case 2 plus r / alpha: (x - sigma S eps) / alpha = S D(x) + r / alpha. At alpha = 0 the noise is x
itself and says nothing of x0; r must then be 0 (draw the views' noise on the canonical space), and what is
left is S D(x). The same holds for case 4 with r = z - A P z.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from blender_addon.jobs.errors import SettingsError
from engine.denoiser import Denoiser, implied_noise
from engine.sampling import Step
from engine.schedule import Level


def _unused(_: Tensor) -> Tensor:
    raise AssertionError("this case does not use this map")


@dataclass(frozen=True)
class Maps:
    """What a case asks of a space: instance cases use `sync`, canonical ones `project` and `merge`."""

    project: Callable[[Tensor], Tensor] = _unused
    merge: Callable[[Tensor], Tensor] = _unused
    sync: Callable[[Tensor], Tensor] = _unused


At = Callable[[Level], Maps]
"""The maps as they are at a level: weights sharpen and the agreement may loosen as the noise falls."""


def instance_eps(denoiser: Denoiser, at: At) -> Denoiser:
    """Case 1: the views agree on their noise. It keeps what they disagree on; for study."""
    def agreed(x: Tensor, level: Level) -> Tensor:
        x0, space = denoiser(x, level), at(level)
        if level.alpha == 0:
            return space.sync(x0)
        return (x - level.sigma * space.sync(implied_noise(x, x0, level))) / level.alpha
    return agreed


def instance_x0(denoiser: Denoiser, at: At) -> Denoiser:
    """Case 2, the default (SyncTweedies): the views agree on the clean image."""
    return lambda x, level: at(level).sync(denoiser(x, level))


def instance_xt(step: Step, at: At) -> Step:
    """Case 3: the views agree on the next noisy state. It averages noise away, so it blurs."""
    return lambda x, x0, level, *rest: at(level).sync(step(x, x0, level, *rest))


def canonical_eps(denoiser: Denoiser, at: At) -> Denoiser:
    """Case 4 (Visual Anagrams): a noisy canonical image, moved by the mean of its views' noise."""
    def agreed(z: Tensor, level: Level) -> Tensor:
        space = at(level)
        x = space.project(z)
        x0 = denoiser(x, level)
        if level.alpha == 0:
            return space.merge(x0)
        return (z - level.sigma * space.merge(implied_noise(x, x0, level))) / level.alpha
    return agreed


def canonical_x0(denoiser: Denoiser, at: At) -> Denoiser:
    """Case 5 (the core of SyncMVD): a noisy canonical image, moved by the mean of its views' clean images."""
    return lambda z, level: at(level).merge(denoiser(at(level).project(z), level))


def seen_by_views(denoiser: Denoiser, at: At) -> Denoiser:
    """The denoiser half of case 6: the clean views of a noisy canonical image."""
    return lambda z, level: denoiser(at(level).project(z), level)


def canonical_xt(step: Step, at: At) -> Step:
    """Case 6 (MultiDiffusion): each view takes its own step, and the canonical image is their mean."""
    return lambda z, x0, level, *rest: at(level).merge(step(at(level).project(z), x0, level, *rest))


def _as_is(function, at):
    return function


@dataclass(frozen=True)
class Case:
    """One way to agree. `canonical`: the state is z, not x. `averages`: what the mean is taken of."""

    number: int
    canonical: bool
    averages: str  # "eps", "x0" or "xt"
    denoiser: Callable[[Denoiser, At], Denoiser] = _as_is
    step: Callable[[Step, At], Step] = _as_is


CASES: dict[str, Case] = {
    "instance-eps": Case(1, False, "eps", denoiser=instance_eps),
    "instance-x0": Case(2, False, "x0", denoiser=instance_x0),
    "instance-xt": Case(3, False, "xt", step=instance_xt),
    "canonical-eps": Case(4, True, "eps", denoiser=canonical_eps),
    "canonical-x0": Case(5, True, "x0", denoiser=canonical_x0),
    "canonical-xt": Case(6, True, "xt", denoiser=seen_by_views, step=canonical_xt),
}


def pick_case(name: str | int) -> Case:
    """The case of that name or number 1..6; SettingsError when there is none."""
    for key, case in CASES.items():
        if str(name) in (key, str(case.number)):
            return case
    raise SettingsError(f"case is {name!r}; it must be 1 to 6 or one of {', '.join(CASES)}.", key="case")
