# SPDX-License-Identifier: Apache-2.0
"""Editing a texture that is there: by strength, by instruction, within a region. Exact denoisers, known answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from blender_addon.jobs.errors import Cancelled, SettingsError
from blender_addon.jobs.settings import resolve
from engine.methods import METHODS, Facts, pick_method
from engine.methods.edit import edited, levels_from
from engine.methods.synchronized import Given, denoise_together
from engine.schedule import Level, levels_from_config
from tests.tasks import VP, toy_task
from tests.tiny_models import SWATCH_SCHEDULER
from tests.toys import EXACT, CircleWorld, GaussianDenoiser, RandomDenoiser, gather_space

UPDATES = ("joint", "dataset")


def copies(views: int, side: int = 4):
    """Every view is the whole texture, pixel by pixel."""
    index = torch.arange(side * side).view(1, side, side).expand(views, -1, -1)
    return gather_space(index, side * side, channels=3)


def texture_views(space, seed=3, texels=None):
    """Views of a random texture with values in -1..1, and the texture."""
    z = torch.rand(3, space.projection.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z = z * 2 - 1
    return space.project(z), z


def edit_task(denoiser, space, start, **settings):
    return toy_task(denoiser, space, start=start, **{"method": "edit", "steps": 4, "edit_rounds": 2, **settings})


@dataclass(frozen=True)
class TwoModes:
    """The exact denoiser of pictures that are all +1 or all -1, each with probability 1/2, give or take `spread`."""

    spread: float = 0.05

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        variance = level.alpha**2 * self.spread**2 + level.sigma**2
        pull = torch.tanh(level.alpha * x.sum((1, 2, 3), keepdim=True) / variance)  # P(+1) - P(-1)
        gain = level.alpha * self.spread**2 / variance
        return gain * x + (1 - level.alpha * gain) * pull


# ---- Instruct-NeRF2NeRF: T11


def expected_distance(dimensions: int) -> float:
    """How far from its mode the texture comes to rest: twice the share of edits that fall to the other mode.

    An edit of a picture at +1 starts from x = alpha 1 + sigma n. The two modes mirror each other, so the path ends at
    the sign of the sum of x, a normal number with mean alpha D and variance sigma^2 D: wrong with probability
    Phi(-sqrt(D) alpha / sigma), and every wrong picture among N moves the mean by 2 / N.
    """
    levels = levels_from_config(VP, 999)[:-1]
    used = [level for k, level in enumerate(reversed(levels)) if 20 <= k < 980]
    wrong = [0.5 * math.erfc(math.sqrt(dimensions / 2) * level.alpha / level.sigma) for level in used]
    return 2 * sum(wrong) / len(wrong)


def test_dataset_update_finds_a_mode_and_one_shot_averages_them():
    """T11. One edit of each view from the same start picks a mode by a coin, so the mean of 24 has |m| = 0.16 on
    average (sqrt(2 / (24 pi))): 0.84 from the nearest mode. Looking up what was edited so far breaks the tie.
    """
    space = copies(24, 8)
    start = torch.zeros(24, 3, 8, 8, dtype=torch.float64)
    assert expected_distance(start[0].numel()) < 0.03  # 0.083 is one wrong picture of 24
    task = edit_task(TwoModes(), space, start, steps=8, edit_rounds=3, edit_update="dataset")
    images = METHODS["edit"].paint(task)
    assert float((images.mean().abs() - 1).abs()) < 0.15
    assert float(images.std()) < 0.15, "the views do not show one texture"

    task = edit_task(TwoModes(), space, start, steps=8)
    draw = torch.Generator().manual_seed(1)
    shares = [0.02 + 0.96 * float(torch.rand((), generator=draw)) for _ in range(24)]
    alone = torch.cat([edited(task, v, start[v : v + 1], share, None) for v, share in enumerate(shares)])
    assert float((alone.mean((1, 2, 3)).abs() - 1).abs().max()) < 0.15, "each picture by itself is at a mode"
    assert float((space.merge(alone).mean().abs() - 1).abs()) > 0.5


def test_the_joint_edit_finds_a_mode_in_one_pass():
    space = copies(24)
    start = torch.zeros(24, 3, 4, 4, dtype=torch.float64)
    images = METHODS["edit"].paint(edit_task(TwoModes(), space, start, steps=20))
    assert float((images.mean().abs() - 1).abs()) < 0.05 and float(images.std()) < 0.1


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("name", sorted(EXACT))
def test_an_instruction_that_changes_nothing_changes_nothing(update, name):
    """A model that answers with the picture it was shown, whatever the noise; projecting only copies."""
    space = EXACT[name](channels=3)
    start, _ = texture_views(space)

    task = replace(edit_task(None, space, start, edit_update=update), denoiser=Shown(start))
    torch.testing.assert_close(METHODS["edit"].paint(task), start, rtol=0, atol=1e-9)


@dataclass(frozen=True)
class Shown:
    """Answers with the pictures."""

    pictures: Tensor

    def __call__(self, x, level):
        return self.pictures

    def only(self, views):
        return Shown(self.pictures[list(views)])


@pytest.mark.parametrize("update", UPDATES)
def test_calls_are_foreseen_and_a_cancel_is_let_pass(update):
    space = EXACT["plane"](channels=3)
    task = edit_task(RandomDenoiser(3), space, texture_views(space)[0], edit_update=update)
    foreseen = pick_method(task.settings, Facts(4, starts=True)).calls(task.settings, 4)
    assert foreseen == (4 * 4 if update == "joint" else 2 * 4 * 4)
    METHODS["edit"].paint(task)
    assert task.denoiser.count[0] == foreseen and task.watch.told[-1][:2] == (foreseen, foreseen)
    done = [told[0] for told in task.watch.told]
    assert done == sorted(set(done)) and all(told[2].shape == (4, 3, 5, 5) for told in task.watch.told)

    def stop(done, total, images):
        raise Cancelled()

    with pytest.raises(Cancelled):
        METHODS["edit"].paint(replace(task, watch=stop))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.98])
def test_an_edit_takes_as_many_steps_from_wherever_it_starts(share):
    """The levels end clean, fall, and begin at `share` of the training levels, as near as there are whole ones."""
    task = edit_task(RandomDenoiser(3), copies(2), torch.zeros(2, 3, 4, 4).double(), steps=8)
    levels = levels_from(task, share)
    assert len(levels) == 9 and levels[-1].sigma == 0
    assert all(a.sigma > b.sigma for a, b in zip(levels, levels[1:], strict=False))
    assert abs(levels[0].timestep - 999 * share) <= 1


# ---- region


@pytest.mark.parametrize(("method", "settings"), [
    ("edit", {"edit_update": "joint"}), ("edit", {"edit_update": "dataset"}),
    ("synchronized", {}), ("synchronized", {"sync_space": "latent"}),
    *(("synchronized", {"case": str(case), "sync_space": "latent"}) for case in (1, 4, 5)),
    ("synchronized", {"start": "nothing", "strength": 0.3}),
])  # fmt: skip
@pytest.mark.parametrize("name", ["plane", "permutations"])
def test_what_lies_outside_the_region_stays(name, method, settings):
    """Where projecting only copies, held texels come out as they went in, and the others do not."""
    space = EXACT[name](channels=3)
    start, z = texture_views(space)
    region = torch.zeros(z.shape[1], dtype=torch.float64)
    region[: len(region) // 2] = 1
    task = toy_task(RandomDenoiser(3), space, start=start, region=region, method=method, steps=4, strength=0.8)
    task = replace(task, settings=resolve({**task.settings, **settings}))
    merged = space.merge(METHODS[method].paint(task))
    torch.testing.assert_close(merged[:, region == 0], z[:, region == 0], rtol=0, atol=1e-9)
    assert float((merged - z)[:, region == 1].abs().mean()) > 0.05


# ---- strength


def levels_with_zero_snr(steps, strength=1.0):
    return levels_from_config(SWATCH_SCHEDULER, steps, strength)


@pytest.mark.parametrize("case", range(1, 7))
@pytest.mark.parametrize("noise", ["shared", "independent"])
def test_full_strength_is_starting_from_nothing(case, noise):
    """alpha is 0 at the first level of a zero-SNR schedule: x = 0 * texture + 1 * noise, the same noise."""
    assert (levels_with_zero_snr(4)[0].alpha, levels_with_zero_snr(4)[0].sigma) == (0.0, 1.0)
    space = EXACT["plane"](channels=3)
    settings = {"steps": 4, "case": str(case), "noise": noise, "strength": 1.0, "sync_space": "latent"}
    images = []
    for start in (None, texture_views(space)[0]):
        task = toy_task(RandomDenoiser(3), space, seed=8, start=start, **settings)
        images.append(METHODS["synchronized"].paint(replace(task, levels=levels_with_zero_snr)))
    assert torch.equal(*images)


def test_least_strength_changes_hardly_anything():
    """One step from the lowest level (alpha, sigma). For white data of variance 1 the exact denoiser is alpha x, so the
    texture s comes out as alpha^2 s + alpha sigma n: its mean square move is sigma^4 mean(s^2) + alpha^2 sigma^2.
    """
    space = copies(1, 16)
    start, z = texture_views(space)
    task = toy_task(GaussianDenoiser(torch.eye(256, dtype=torch.float64)), space, start=start, steps=20, strength=0.02)
    level = task.levels(20, 0.02)[0]
    expected = math.sqrt(level.sigma**4 * float(z.square().mean()) + level.alpha**2 * level.sigma**2)
    assert level.sigma < 0.05 and expected < 0.05
    moved = float((METHODS["synchronized"].paint(task) - start).square().mean().sqrt())
    assert abs(moved / expected - 1) < 0.1  # 768 numbers: 2.6 % standard error


@pytest.mark.parametrize("case", ["instance-x0", "canonical-x0"])
def test_a_start_has_the_noise_of_its_level(case):
    """Each pixel of the first state is alpha times the texture, and noise of standard deviation sigma; lossy or not.

    Merging noisy views instead would average the noise away: the circle's texels see several pixels each.
    """
    world = CircleWorld(channels=40, filtered=True)
    first = []

    def denoiser(x, level):
        first.append(x)
        return x

    levels = levels_from_config(VP, 20, 0.5)
    settings = resolve({"prompt": "x", "case": case, "sync_space": "latent", "steps": 20})
    clean = torch.full((8, 40, 1, len(world.angle)), 0.3, dtype=torch.float64)
    denoise_together(denoiser, world, levels, settings, torch.Generator().manual_seed(0), given=Given(clean=clean))
    off = first[0] - levels[0].alpha * 0.3
    assert abs(float(off.mean())) < 0.02
    assert abs(float(off.std()) / levels[0].sigma - 1) < 0.05


# ---- what cannot work


def refused(key, facts, **settings):
    with pytest.raises(SettingsError) as caught:
        pick_method(resolve({"prompt": "make it rusty", "method": "edit", **settings}), facts)
    assert caught.value.key == key and caught.value.action
    return f"{caught.value.message} {caught.value.action}"


def test_an_edit_without_a_texture_or_a_model_that_edits_is_refused():
    assert "no texture" in refused("method", Facts(6, starts=False))
    words = refused("model", Facts(6, starts=True, edits=False))
    assert "swatch" in words and "InstructPix2Pix" in words and "strength" in words
    assert pick_method(resolve({"prompt": "x", "method": "edit"}), Facts(6, starts=True, edits=None)) is METHODS["edit"]
