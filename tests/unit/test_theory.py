# SPDX-License-Identifier: Apache-2.0
"""Theory that no other file proves: seams of windows, what noise becomes on lossy spaces, adjoints, and refitting.

The tests of research/canonical-spaces.md §9 by name. T1 and T2 (cases that are equal, how disagreement falls) are in
test_synchronized.py, the ordering of the cases in test_synchronized_world.py, T11 with the edits, SDS with distilling.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from engine.denoiser import Denoiser, implied_noise
from engine.methods.cases import CASES
from engine.methods.synchronized import Given, denoise_together, run
from engine.sampling import sample
from engine.schedule import Level, levels_from_config
from engine.spaces import CanonicalSpace
from engine.spaces.around import WithOutside
from engine.spaces.blend import Blended
from tests.toys import EXACT, SETTINGS, CircleWorld, GaussianDenoiser, MatrixSpace, RandomDenoiser, gather_space, identity
from tests.unit.test_synchronized import VP, ZERO, normal, seeded, tent_space

LENGTH, STRIDE, TEXELS = 64, 8, 256


def windows(stride: int, tent: bool = False) -> MatrixSpace:
    """Windows of 64 texels on a line of 256, all weights 1 or falling to 0 at the window's ends like a tent."""
    starts = torch.arange(0, TEXELS - LENGTH + 1, stride)
    index = (starts[:, None] + torch.arange(LENGTH))[:, None]
    copying = gather_space(index, TEXELS)
    weight = 1 - ((torch.arange(LENGTH) + 0.5) / LENGTH * 2 - 1).abs() if tent else torch.ones(LENGTH)
    weight = weight.double().repeat(len(starts))
    return MatrixSpace(copying.projection, copying.taps * weight, copying.shape)


def two_minds(space: MatrixSpace) -> GaussianDenoiser:
    """Views that know what they want: 0 in the left half of them, 1 in the right."""
    views, _, width = space.shape
    mean = (torch.arange(views) >= views / 2).double().view(-1, 1, 1, 1)
    return GaussianDenoiser(torch.zeros(width, width, dtype=torch.float64), mean)


@pytest.mark.parametrize("case", CASES)
def test_the_height_of_a_seam_between_windows(case):
    """T3. Of L / s windows that see a texel, one fewer wants 0 every s texels: the seam is steps of s / L = 1/8.

    Under tents the share of the windows that want 1 is sum of tents / sum of tents; the sum is (L/2) / s everywhere, and
    of the L / 2s tents that rise at the middle of the seam each has slope 2 / L: 2 / L = 1/32 per texel, a quarter of
    s / L. Without overlap the seam is 1. (.132, .036 and 1.005 were measured with a scatter of the data.)
    """
    def highest(space):
        found = run(two_minds(space), space, levels_from_config(VP, 12), {**SETTINGS, "case": case}, seeded())
        z = space.merge(found)
        assert float(z.min()) > -1e-9 and float(z.max()) < 1 + 1e-9
        return float(z.diff(dim=1).abs().max())
    assert highest(windows(STRIDE)) == pytest.approx(STRIDE / LENGTH, rel=1e-6)
    assert highest(windows(STRIDE, tent=True)) == pytest.approx(2 / LENGTH, rel=0.02)
    assert highest(windows(LENGTH)) == pytest.approx(1, rel=1e-6)


def by_area(world):
    """Rows c_p / |c_p| of the noise map: c_pk samples of pixel p fall on texel k; [N, pixels, texels]."""
    counts = torch.zeros(*world.area.shape[:2], world.texels, dtype=torch.float64)
    counts.scatter_add_(2, world.area, torch.ones_like(world.area, dtype=torch.float64))
    return counts / counts.norm(dim=2, keepdim=True)


def test_noise_by_area_is_white_in_each_view_and_shared_between_them():
    """T5. n_p = sum_k c_pk f_k / |c_p| has covariance <c_p, c_q> / |c_p| |c_q|: variance 1, whatever the layout.

    Two grids of equal pixels, displaced by a uniform d in 0..1 of a pixel, overlap by 1 - d and d: the better of the two
    is max(1 - d, d), 3/4 on average (in two dimensions its square, .56). Texels 8 times as many as pixels: neighbours
    in a view share the texel on their border, 2.75 of them to a pixel, so at most about 1/2.75 / 2 / 2 = .09.
    """
    world = CircleWorld(channels=20000, texels=768)
    unit = by_area(world)
    within, between = unit[0] @ unit[0].T, unit[0] @ unit[1].T
    torch.testing.assert_close(within.diagonal(), torch.ones(len(within), dtype=torch.float64))
    middle = world.angle.abs() < 0.8
    assert float(within.diagonal(1)[middle[1:]].mean()) < 0.09 and float(within.tril(-2).abs().max()) == 0
    half_way = (world.angle - torch.pi / 8).abs() < 0.25  # there both views see the surface about equally steeply
    assert float(between.amax(1)[half_way].mean()) == pytest.approx(0.75, abs=0.05)
    drawn = world.project_noise(seeded())
    found = drawn[0, :, 0].T @ drawn[1, :, 0] / world.channels
    torch.testing.assert_close(found, between, rtol=0, atol=0.04)  # 5 standard errors of 1 / sqrt(20000)


def test_noise_of_too_few_or_too_many_texels():
    """T5. Fewer texels than pixels of a view are seen twice: neighbours correlate. More than there are samples under a
    pixel (13.6 to 8) and two views sample different ones: they agree less. The variance stays 1 in both."""
    for texels, agreeing, apart in ((256, 0.85, 0.3), (4096, 0.0, 0.0)):
        world = CircleWorld(texels=texels)
        unit = by_area(world)
        within = unit[0] @ unit[0].T
        half_way = (world.angle - torch.pi / 8).abs() < 0.25
        torch.testing.assert_close(within.diagonal(), torch.ones(len(within), dtype=torch.float64))
        assert float(within.diagonal(1).mean()) >= apart
        assert agreeing <= float((unit[0] @ unit[1].T).amax(1)[half_way].mean()) < (1 if agreeing else 0.45)


def test_noise_looked_up_at_points_is_shared_by_nearly_nobody():
    """T5. Texels much finer than pixels, looked up at the pixel's centre: two views share a value only if they hit the
    same of the 13.6 texels under a pixel; projected as an image, noise keeps only 1 / 13.6 of its variance (8 samples: a
    little more)."""
    world, filtered = CircleWorld(), CircleWorld(filtered=True)
    same = (world.centre[0][:, None] == world.centre[1]).any(1)
    overlap = (world.angle > torch.pi / 4 - 1.3) & (world.angle < 1.3)
    assert float(same[overlap].double().mean()) < 0.25
    share = torch.zeros(len(world.angle), world.texels, dtype=torch.float64)
    share.scatter_add_(1, filtered.area[0], torch.full(filtered.area[0].shape, 1 / 8, dtype=torch.float64))
    assert float(share.square().sum(1).max()) < 0.3  # variance of P n, against 1


def test_doubled_noise_on_doubled_pixels():
    """T6. Each texel is two pixels; data smooth over many. Copied to both of its pixels, white noise per texel has twice
    the power that white noise per pixel has at the frequencies of the data: after merging, variance 1 against 1/2. What
    the two pixels of a texel do not share alternates, and the data have nothing at that frequency: the linear map on the
    merged noise is the same, so copied noise gives twice the variance. One of the two must be wrong by as much.

    Runs on unit vectors, which is the exact map. A pair's own mean loses the finest of the data: .97 on single pixels,
    at most 1 for each pixel's own noise, 1.6 to 1.8 for copied noise (research/canonical-spaces.md §9).
    """
    texels = 32
    place = torch.arange(2 * texels, dtype=torch.float64)
    around = (place[:, None] - place + texels) % (2 * texels) - texels
    smooth = GaussianDenoiser(torch.exp(-0.5 * (around / 5) ** 2))
    levels = levels_from_config(ZERO, 200)
    doubled = gather_space((torch.arange(2 * texels) // 2).view(1, 1, -1), texels)
    single = gather_space(torch.arange(2 * texels).view(1, 1, -1), 2 * texels)

    def variance(space, case, x):
        found = denoise_together(smooth, space, levels, {**SETTINGS, "case": case}, seeded(), given=Given(x=x))
        return float(found.square().sum(1).mean())
    pixels = torch.eye(2 * texels, dtype=torch.float64).view(1, 2 * texels, 1, 2 * texels)
    copied = doubled.project(torch.eye(texels, dtype=torch.float64))
    shared, independent = variance(doubled, "4", copied), variance(doubled, "2", pixels)
    assert variance(single, "2", pixels) == pytest.approx(0.97, abs=0.02)
    assert 0.85 < independent <= 1.0
    assert 1.6 < shared < 1.8
    assert shared / independent == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("name", [*EXACT, "tents", "circle", "circle filtered"])
def test_projecting_and_its_adjoint(name):
    """T15. <P z, x> = <z, P' x>, for what the protocol gives every space and for spaces around a space; and where P
    copies and all weights are one, unprojecting is the adjoint too."""
    world = {"tents": tent_space, "circle": lambda: CircleWorld(2, 4, 24, 128),
             "circle filtered": lambda: CircleWorld(2, 4, 24, 128, filtered=True)}
    base: CanonicalSpace = (world.get(name) or EXACT[name])()
    x = normal(base.project_noise(seeded()).shape, 1)
    z = torch.randn(base.merge(x).shape, generator=seeded(2), dtype=torch.float64)
    wrapped = Blended(base, 2.0, bands=True, preserve=False)
    for space in (base, wrapped):
        forward, back = float((space.project(z) * x).sum()), float((z * space.backproject(x)).sum())
        assert forward == pytest.approx(back, rel=1e-9)
        a, b = normal(x.shape, 5), normal(x.shape, 6)
        torch.testing.assert_close(space.merge(2 * a - b), 2 * space.merge(a) - space.merge(b), rtol=0, atol=1e-9)
    if name in EXACT:
        torch.testing.assert_close(base.unproject(x)[0], base.backproject(x), rtol=0, atol=1e-12)
    both = WithOutside(base, x)
    joined = both.join(z, x)
    y = normal(x.shape, 7)
    adjoint = torch.func.vjp(both.project, joined)[1](y)[0]
    assert float((both.project(joined) * y).sum()) == pytest.approx(float((joined * adjoint).sum()), rel=1e-9)


@dataclass(frozen=True)
class Turn:
    """One turn of refitting: where the noise goes to, and whether it is carried from the turn before or drawn fresh."""

    level: Level
    fresh: bool
    steps: Sequence[Level] = ()  # levels below, for more than one denoising


def refit(denoiser: Denoiser, space: CanonicalSpace, z: Tensor, noise: Tensor, plan: Sequence[Turn],
          draw: Callable[[], Tensor], commit: Callable[[Tensor, Tensor, Turn], Tensor]) -> Tensor:
    """The loop of all that remembers only a clean canonical image: re-noise its views, denoise them, commit."""
    for turn in plan:
        if turn.fresh:
            noise = draw()
        x = turn.level.alpha * space.project(z) + turn.level.sigma * noise
        x0 = denoiser(x, turn.level) if not turn.steps else sample(denoiser, x, [turn.level, *turn.steps])
        z = commit(z, x0, turn)
        if turn.level.sigma > 0:
            noise = implied_noise(x, space.project(z), turn.level)
    return z


def replaced(space: CanonicalSpace) -> Callable[[Tensor, Tensor, Turn], Tensor]:
    """The commit in closed form: the least-squares texture of the views, whatever was there."""
    return lambda z, x0, turn: space.merge(x0)


@pytest.mark.parametrize("curve", [VP, ZERO])
@pytest.mark.parametrize("space", [*EXACT.values(), tent_space, lambda: CircleWorld(2, 4, 24, 128)])
def test_refitting_all_views_with_carried_noise_is_case_two(space, curve):
    """T12. x' = alpha' P z + sigma' eps with eps = (x - alpha P z) / sigma is the DDIM step from S D(x), and z = A D(x)
    is what the synchronizer's views are the views of: the same states to rounding, on any space, lossy or not. (With
    weights that stay as they are; a ramp would be a part of the plan.)"""
    space, levels = space(), levels_from_config(curve, 9)
    x = normal(space.project_noise(seeded()).shape, 3)
    plan = [Turn(level, fresh=False) for level in levels[:-1]]
    z = torch.zeros_like(space.merge(x))
    start = implied_noise(x, space.project(z), levels[0])  # so that the first state is x
    found = refit(RandomDenoiser(2), space, z, start, plan, lambda: x, replaced(space))
    settings = {**SETTINGS, "sharpness_end": SETTINGS["sharpness_start"]}
    expected = denoise_together(RandomDenoiser(2), space, levels, settings, seeded(), given=Given(x=x))
    torch.testing.assert_close(space.project(found), expected, rtol=0, atol=1e-9)
    assert expected.std() > 0.05


def test_refitting_with_a_gradient_is_score_distillation():
    """T12, first half. One step of rate r along the gradient of w/2 |P z - x0|^2, w = alpha / sigma, moves z by
    -r w P'(P z - x0) = -r P'(eps_hat - eps): DreamFusion's step, x0 not differentiated. Against autograd."""
    space, level, rate = tent_space(), levels_from_config(VP, 9)[4], 0.3
    z, eps = normal((2, 40), 1), normal((3, 2, 6, 5), 2)

    def descend(z, x0, turn):
        leaf = z.clone().requires_grad_()
        loss = turn.level.alpha / turn.level.sigma / 2 * (space.project(leaf) - x0).square().sum()
        return z - rate * torch.autograd.grad(loss, leaf)[0]
    found = refit(RandomDenoiser(2), space, z, eps, [Turn(level, fresh=True)], lambda: eps, descend)
    x = level.alpha * space.project(z) + level.sigma * eps
    predicted = implied_noise(x, RandomDenoiser(2)(x, level), level)
    torch.testing.assert_close(found, z - rate * space.backproject(predicted - eps), rtol=0, atol=1e-10)


def test_fresh_noise_forgets_what_was_denoised():
    """Refitting all views with fresh noise at each level, on data N(0, C): z falls towards the mean, where carried noise
    keeps the prior's variance. A view that is its own texture, eigenvalue c: z' = alpha g (alpha z + sigma n), g the
    denoiser's gain, so v' = g^2 (alpha^2 v + sigma^2), far below c; carried, it is the sampler's own."""
    space, c, levels = identity(1, 1, 16, 4000), 0.8, levels_from_config(VP, 25)
    white = GaussianDenoiser(c * torch.eye(16, dtype=torch.float64))
    generator = seeded(5)
    plan = [Turn(level, fresh=True) for level in levels[:-1]]
    z = torch.zeros(4000, 16, dtype=torch.float64)
    found = refit(white, space, z, z, plan, lambda: space.project_noise(generator), replaced(space))
    v = 0.0
    for level in levels[:-1]:
        gain = level.alpha * c / (level.alpha**2 * c + level.sigma**2)
        v = gain**2 * (level.alpha**2 * v + level.sigma**2)
    assert float(found.var()) == pytest.approx(v, rel=0.03)
    carried = sample(white, space.project_noise(seeded(6)), levels)
    assert v < 0.6 * float(carried.var())


def test_white_noise_of_each_view_shrinks_when_merged_at_every_stochastic_step():
    """What `Task.space.project_noise` is for: k windows over each texel with noise of their own leave 1/k of it."""
    space = windows(STRIDE)
    middle = slice(LENGTH, TEXELS - LENGTH)
    own = torch.randn(space.shape[0], 4000, 1, LENGTH, generator=seeded(), dtype=torch.float64)
    assert float(space.merge(own)[:, middle].var()) == pytest.approx(STRIDE / LENGTH, rel=0.02)
    space.channels = 4000
    shared = space.merge(space.project_noise(seeded()))
    assert float(shared[:, middle].var()) == pytest.approx(1, rel=0.02)
