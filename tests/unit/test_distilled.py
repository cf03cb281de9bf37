# SPDX-License-Identifier: Apache-2.0
"""Distilling against theory: the gradient, where it ends, how fast, and what guidance does to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from blender_addon.jobs.errors import SettingsError
from engine.methods import METHODS, Facts, pick_method
from engine.methods.distilled import Canvas, each_view, take_turns
from engine.methods.objectives import FRESH, OBJECTIVES, Question, invert, weight
from engine.methods.pyramid import Pyramid
from engine.schedule import Level
from engine.spaces import CanonicalSpace, Octaves
from engine.spaces.uv.octaves import octave_map
from tests.tasks import Same, toy_task
from tests.toys import EXACT, CircleWorld, GaussianDenoiser, RandomDenoiser, gather_space, soft

HALF = Level(0.8, 0.6, 500.0)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pixels(side=16):
    """One view that is its texture, pixel by pixel: as many one-pixel worlds as it has values."""
    return gather_space(torch.arange(side * side).view(1, side, side), side * side, channels=3)


def distil(denoiser, space, **settings):
    settings = {"method": "distilled", "objective": "sds", **settings}
    return METHODS["distilled"].paint(toy_task(denoiser, space, **settings))


@dataclass(frozen=True)
class Mixture:
    """The exact denoiser of values drawn, each by itself, from Gaussians of one spread."""

    means: tuple[float, ...]
    weights: tuple[float, ...]
    spread: float

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        means, weights = x.new_tensor(self.means), x.new_tensor(self.weights)
        off, variance = x[..., None] - level.alpha * means, level.alpha**2 * self.spread**2 + level.sigma**2
        share = (weights.log() - off.square() / (2 * variance)).softmax(-1)
        return (share * (means + level.alpha * self.spread**2 / variance * off)).sum(-1)


# ---- the step: T12


class Linear:
    """A lossy linear codec: latents are some of the coefficients of a row of pixels, each in its own unit."""

    cheap_codec = True

    def __init__(self, width: int, kept: int):
        self.basis = torch.linalg.qr(normal(width, width, seed=3))[0][:kept]
        self.unit = torch.linspace(2.0, 0.1, kept, dtype=torch.float64)[:, None]

    def encode(self, rgb: Tensor) -> Tensor:
        return rgb @ (self.basis / self.unit).T

    def decode(self, latents: Tensor, refine: bool = True) -> Tensor:
        return latents @ (self.basis * self.unit)


@pytest.mark.parametrize("make", [EXACT["plane"], soft, lambda channels: CircleWorld(channels, 4, 24, 128, filtered=True)])
@pytest.mark.parametrize("lossy", [False, True])
def test_an_sds_step_is_the_gradient_of_a_squared_distance(make, lossy):
    """w (eps_hat - eps), w = sigma^2, through P', against autograd of alpha sigma / 2 |P z - sg(D(x_t))|^2.

    With a codec, both sides of the distance are decoded: |D E P z - sg(D x0_hat)|^2.
    """
    space, denoiser = make(channels=3), RandomDenoiser(3)
    codec = Linear(space.mask.shape[-1], 3) if lossy else Same()
    base = 0.1 * normal(len(space.mask), 3, *space.mask.shape[-2:], seed=2)
    z = normal(*space.merge(base).shape, seed=1).requires_grad_()
    share = torch.linspace(0, 1, z.shape[-1], dtype=torch.float64)
    canvas, chosen = Canvas(each_view(space), base, share, codec), [2, 0]

    seen = codec.decode(codec.encode((base + space.mask * space.project(share * z))[chosen]))
    latents = canvas.latents(z.detach(), chosen)
    noise = normal(*latents.shape, seed=5)
    target = codec.decode(denoiser(HALF.alpha * latents + HALF.sigma * noise, HALF))
    (HALF.alpha * HALF.sigma / 2 * (seen - target).square().sum()).backward()

    step = weight(HALF) * OBJECTIVES["sds"].residual(denoiser, denoiser, Question(latents, noise, HALF))
    found = canvas.gradient(latents, step, chosen)
    assert float(z.grad.abs().max()) > 0.01
    assert float((found - z.grad).abs().max()) < 1e-6 * float(z.grad.abs().max())
    eps_hat = (HALF.alpha * latents + HALF.sigma * noise - HALF.alpha * denoiser(
        HALF.alpha * latents + HALF.sigma * noise, HALF)) / HALF.sigma
    assert torch.allclose(step, HALF.sigma**2 * (eps_hat - noise))


# ---- where it ends and how fast: Gaussian data


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_mean_attracts(objective):
    """Data N(m, C) in one dimension, x0 = m + d. With s^2 = alpha^2 C + sigma^2 and u = alpha sqrt(C) / s:

    SDS: E[x0 - D] = d - alpha C / s^2 (alpha d) = (1 - u^2) d.
    The exact DDIM inversion takes d to s / sqrt(C) d, so its noise times sigma is (s / sqrt(C) - alpha) d.
    SDI with a share k of it: d - alpha C / s^2 (alpha d + k (s / sqrt(C) - alpha) d) = (1 - u^2 - k u (1 - u)) d.
    ISM: eps_hat = sigma x / s^2 of x = s / sqrt(C) d, now minus one step below: (sigma / s - sigma' / s') d / sqrt(C).
    All are positive multiples of d, so the texture goes to m and its variance to 0; SDI's is the smaller of the first two.
    """
    variance, mean, count = 0.49, 0.3, 1 if OBJECTIVES[objective].inverts else 200_000
    denoiser = Mixture((mean,), (1.0,), variance**0.5)
    angles = torch.linspace(0.002, 0.6435011, 400, dtype=torch.float64)  # up to HALF: cos .8, sin .6
    climb = [Level(float(angle.cos()), float(angle.sin()), 0.0) for angle in angles[:-1]]
    away = torch.linspace(-2, 2, 5, dtype=torch.float64).view(5, 1, 1, 1).expand(5, 1, count, 1)
    noise = normal(*away.shape) if count > 1 else torch.zeros(away.shape, dtype=torch.float64)
    asked = Question(mean + away, noise, HALF, climb)
    found = weight(HALF) * OBJECTIVES[objective].residual(denoiser, denoiser, asked).mean((1, 2, 3))

    def total(level):
        return (level.alpha**2 * variance + level.sigma**2) ** 0.5

    u, kept = HALF.alpha * variance**0.5 / total(HALF), (1 - FRESH**2) ** 0.5
    w = HALF.alpha * HALF.sigma
    rates = {
        "sds": w * (1 - u**2), "carried": w * (1 - u**2),  # one step of it, with noise that is still fresh
        "sdi": w * (1 - u**2 - kept * u * (1 - u)),
        "ism": HALF.sigma**2 / variance**0.5 * (HALF.sigma / total(HALF) - climb[-1].sigma / total(climb[-1])),
    }
    assert torch.allclose(found, rates[objective] * away[:, 0, 0, 0], rtol=0.03, atol=0.003 * rates[objective])
    assert rates["sdi"] < 0.75 * rates["sds"]


def test_inverted_noise_leads_back_to_the_view():
    """Denoised by DDIM over the same levels, the inverted views are the views again; fresh noise gives others."""
    space = EXACT["plane"](channels=3)
    covariance = 0.5 * torch.exp(-torch.cdist(torch.arange(25.0)[:, None], torch.arange(25.0)[:, None]) / 3).double()
    denoiser, x0 = GaussianDenoiser(covariance), 0.5 * normal(4, 3, 5, 5)
    angles = torch.linspace(0.002, 1.2, 300)
    levels = [Level(float(a.cos()), float(a.sin()), 0.0) for a in angles]
    x, _ = invert(denoiser, Question(x0, normal(*x0.shape), levels[-1], levels[:-1]))
    for level, following in zip(reversed(levels), [*reversed(levels[:-1]), Level(1.0, 0.0, 0.0)], strict=True):
        clean = denoiser(x, level)
        x = following.alpha * clean + following.sigma * (x - level.alpha * clean) / level.sigma
    assert space.mask.shape == (4, 1, 5, 5) and float((x - x0).square().mean()) < 1e-3 * float(x0.square().mean())


def test_score_distillation_ends_at_the_mean_of_the_data():
    """From samples of the prior, N(0.3, 1), 768 of them: the variance 1 falls to that of Adam's last steps.

    Those are 0.1 of the rate .05 long, so what is left is about .005^2, and .01 is generous; the mean stays.
    """
    space, prior = pixels(), GaussianDenoiser(torch.eye(256).double(), 0.3)
    sample = 0.3 + normal(1, 3, 16, 16)
    images = distil(prior, space, start=sample, strength=1.0, iterations=300, distill_step="adam",
                    distill_rate=0.05)
    assert float(sample.var()) > 0.9
    assert float((images - 0.3).square().mean()) < 0.01
    assert abs(float(images.mean()) - 0.3) < 0.02


# ---- guidance: low does not converge, high costs diversity


@dataclass(frozen=True)
class Guided:
    """Classifier-free guidance in closed form: of x0 as of eps, one being linear in the other."""

    prompted: Mixture
    free: Mixture
    scale: float

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        free = self.free(x, level)
        return free + self.scale * (self.prompted(x, level) - free)


def test_low_guidance_does_not_converge_and_high_guidance_costs_diversity():
    """What the prompt allows: -.5 or .5, as often, give or take 0.05. What there is: N(-.25, .5^2), so p(prompt | x) is
    larger at .5 and guidance leans to it. Each of 768 values is a seed.

    Without guidance (scale 1) the pull of the score at high noise is to the mean 0, between the modes, and no side
    wins: almost no seed comes within 0.15 of a mode. Guided by 3, they do, and nearly all are the one that the prompt
    makes likeliest: samples of the prompt would be half and half. At 30 they also leave the data: beyond 0.65.
    """
    prompted, free, space = Mixture((-0.5, 0.5), (0.5, 0.5), 0.05), Mixture((-0.25,), (1.0,), 0.5), pixels()
    ends = {scale: distil(Guided(prompted, free, scale), space, iterations=150,
                          distill_step="adam", distill_rate=0.04, noise="independent",
                          distill_times="random").flatten() for scale in (1.0, 3.0, 30.0)}

    def share(of: Tensor) -> float:
        return float(of.double().mean())

    settled = {scale: share((end.abs() - 0.5).abs() < 0.15) for scale, end in ends.items()}
    upper = {scale: share(end > 0) for scale, end in ends.items()}
    assert settled[1.0] < 0.1 and 0.4 < upper[1.0] < 0.6
    assert settled[3.0] > 0.5 and upper[3.0] > 0.98
    assert settled[30.0] < 0.1 and share(ends[30.0] > 0.65) > 0.98


# ---- the loop


@dataclass
class Recorded:
    """Keeps the levels it was asked for."""

    denoiser: object
    levels: list[Level] = field(default_factory=list)

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        self.levels.append(level)
        return self.denoiser(x, level)


@pytest.mark.parametrize(("views", "at_once"), [(8, 4), (10, 4), (3, 4), (7, 1), (5, 3)])
def test_every_view_gets_its_turn(views, at_once):
    """In each round all views once; batches differ by one view at most and are never larger than asked."""
    turns, rounds = take_turns(views, at_once, torch.Generator().manual_seed(0)), -(-views // at_once)
    orders = set()
    for _ in range(20):
        batches = [next(turns) for _ in range(rounds)]
        sizes = [len(batch) for batch in batches]
        assert sorted(sum(batches, [])) == list(range(views))
        assert max(sizes) <= at_once and max(sizes) - min(sizes) <= 1
        orders.add(str(batches))
    assert len(orders) > 2


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("iterations", [2, 5, 6])
def test_calls_are_foreseen_with_uneven_batches(objective, iterations):
    """4 views, 3 at once: batches of 2 and 2. Inversion adds its steps to the one call of each view."""
    inverts = objective in ("sdi", "ism")
    task = toy_task(RandomDenoiser(3), EXACT["plane"](channels=3), method="distilled", objective=objective,
                    iterations=iterations, distill_views=3, inversion_steps=2)
    method = pick_method(task.settings, Facts(4, starts=False))
    method.paint(task)
    assert task.denoiser.count[0] == method.calls(task.settings, 4) == 2 * iterations * (3 if inverts else 1)


def times_of(**settings):
    """The shares of the way to noise that a run visits."""
    recorded = Recorded(RandomDenoiser(3))
    start = 0.1 * normal(4, 3, 5, 5) if "strength" in settings else None
    distil(recorded, EXACT["plane"](channels=3), iterations=200, start=start, **settings)
    return [level.timestep / 1000 for level in recorded.levels]


def test_noise_falls_from_t_max_to_t_min():
    times = times_of(t_max=0.9, t_min=0.2)
    assert 0.195 < min(times) < 0.24 and 0.86 < max(times) < 0.905
    tenths = [np.mean(times[at : at + 20]) for at in range(0, 200, 20)]
    assert all(later < earlier for earlier, later in zip(tenths, tenths[1:], strict=False))


def test_noise_may_be_random_as_published():
    times = times_of(t_max=0.9, t_min=0.2, distill_times="random")
    assert 0.195 < min(times) < 0.24 and 0.86 < max(times) < 0.905
    assert abs(np.mean(times[:100]) - np.mean(times[100:])) < 0.1


def test_a_start_allows_noise_up_to_its_strength():
    assert max(times_of(strength=0.4)) <= 0.4


def halves(space):
    """Left texels free (1), right ones held (0), one column between them."""
    column = torch.arange(space.projection.shape[1]) % 8
    return ((4 - column) / 2).clamp(0, 1).double()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_held_texels_do_not_change_by_one_bit(objective):
    space = EXACT["plane"](channels=3)
    start = space.project(0.5 * normal(3, 64))
    images = distil(RandomDenoiser(3), space, start=start, region=halves(space), objective=objective, iterations=30)
    held = (space.project(halves(space)[None]) == 0).expand_as(images)
    assert 0.3 < held.double().mean() < 0.7
    assert torch.equal(images[held], start[held])
    assert float((images - start)[~held].abs().mean()) > 0.01


class Curved(Same):
    """A codec that is not linear, so that the texture is one of latents. Its latents are half as large each way."""

    cheap_codec = False

    def encode(self, rgb: Tensor) -> Tensor:
        return torch.asinh(rgb)

    def decode(self, latents: Tensor, refine: bool = True) -> Tensor:
        return torch.sinh(latents)


@pytest.mark.parametrize("where", ["latent", "pixel"])
def test_a_codec_that_is_not_linear(where):
    """Data N(0.5, small) in latents: the images go to sinh(0.5) in either space, and what is held stays."""
    space, region = EXACT["plane"](channels=3), None
    prior = GaussianDenoiser(0.0001 * torch.eye(25).double(), 0.5)
    task = toy_task(prior, space, method="distilled", objective="sds", distill_space=where, iterations=200)
    images = METHODS["distilled"].paint(replace(task, codec=Curved()))
    assert float((images - torch.sinh(torch.tensor(0.5))).abs().max()) < 0.05
    start, region = space.project(0.5 * normal(3, 64)), halves(space)
    task = toy_task(prior, space, start=start, region=region, method="distilled", distill_space=where, iterations=20)
    images = METHODS["distilled"].paint(replace(task, codec=Curved()))
    held = (space.project(region[None]) == 0).expand_as(images)
    assert torch.equal(images[held], start[held])


@pytest.mark.parametrize("objective", ["sds", "carried"])
def test_numbers_that_are_none_do_no_harm(objective):
    """A network that overflows in a pixel at one level must not spoil the texture for good."""
    def broken(x, level):
        x0 = torch.zeros_like(x)
        if level.timestep > 500:
            x0[0, 0, 0, 0] = float("nan")
        return x0
    images = distil(broken, EXACT["plane"](channels=3), start=0.3 * normal(4, 3, 5, 5), iterations=60, strength=1.0,
                    objective=objective)
    assert torch.isfinite(images).all()


@dataclass
class Shaped(CanonicalSpace):
    """A space of which only the octaves matter."""

    known: Octaves | None

    def octaves(self):
        return self.known


@pytest.mark.parametrize("with_octaves", [False, True])
def test_pyramids_move_against_the_gradient_on_any_space(with_octaves):
    """Adam's first step has the length of the rate for each pattern: a texel moves by the sum of those that it is of."""
    octaves = octave_map(np.random.default_rng(0).uniform(-1, 1, (2000, 3)).astype(np.float32))
    space, like = Shaped(octaves if with_octaves else None), torch.zeros(3, 2000)
    pyramid = Pyramid(space, like, 0.1)
    assert not pyramid.image().any()
    pyramid.step(torch.ones_like(like), 0.1)
    patterns = 2 if with_octaves else 1  # sqrt(1000) / 4 = 7.9 cells at most: one grid, of 4
    assert torch.allclose(pyramid.image(), torch.full_like(like, -0.1 * patterns), rtol=1e-4)


# ---- what it refuses


@pytest.mark.parametrize(("settings", "key"), [
    ({"iterations": 1, "distill_views": 4}, "iterations"),
    ({"t_min": 0.6, "t_max": 0.5}, "t_min"),
    ({"t_min": 0.5, "t_max": 0.5}, "t_min"),
    ({"t_min": 0.5, "start": "texture", "strength": 0.4}, "strength"),
])
def test_what_cannot_work_is_refused_by_name(settings, key):
    task = toy_task(RandomDenoiser(3), EXACT["plane"](channels=3), method="distilled", **settings)
    with pytest.raises(SettingsError) as refused:
        pick_method({**task.settings, **settings}, Facts(8, starts=True))
    assert refused.value.key == key and refused.value.action
