# SPDX-License-Identifier: Apache-2.0
"""Painting view by view: what is kept, what is noised, who is next, and what the spaces lend to it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import pytest
import torch

from blender_addon.jobs.errors import SettingsError
from blender_addon.jobs.rigs import build_rig
from blender_addon.jobs.settings import resolve
from engine.methods import METHODS, Facts
from engine.methods.iterative import Holder, Painter, calls, checkerboard
from engine.methods.trimap import Canvas, Trimap, around, dilated, faded, opened
from engine.sampling import sample, start
from engine.spaces.uv import UVTexture
from tests import shapes
from tests.painted import RASTERIZER, mesh_of
from tests.tasks import Same, toy_task
from tests.toys import EXACT, CircleWorld, GaussianDenoiser, RandomDenoiser, gather_space

paint = METHODS["iterative"].paint
PLAIN = GaussianDenoiser(torch.eye(4, dtype=torch.float64))  # of four pixels: each by itself


@dataclass
class Spy:
    """A denoiser of some views that remembers what it was given: (view, level, x)."""

    denoiser: object
    view: int = -1
    seen: list = field(default_factory=list)

    def only(self, views):
        return Spy(self.denoiser, views[0], self.seen)

    def __call__(self, x, level):
        self.seen.append((self.view, level, x))
        return self.denoiser(x, level)

    def order(self):
        """The views, each time their turn began."""
        views = [view for view, _, _ in self.seen]
        return [view for k, view in enumerate(views) if k == 0 or views[k - 1] != view]


def windows(starts, width, cosines, texels=None):
    """Views of `width` texels of a line, each copied, each looking at all of its texels at one angle."""
    index = torch.tensor(starts)[:, None, None] + torch.arange(width)
    cosine = torch.tensor(cosines, dtype=torch.float64)[:, None, None].expand(index.shape)
    return gather_space(index, texels or int(index.max()) + 1, 3, cosine)


def task_on(space, denoiser=None, seed=0, **settings):
    settings = {"method": "iterative", "steps": 4, **settings}
    return toy_task(denoiser or RandomDenoiser(3), space, seed, **settings)


# What is kept


def test_what_is_kept_comes_back_bit_equal():
    space = windows([0, 4], 8, [0.9, 0.9])
    covariance = torch.exp(-torch.arange(8.0)[:, None].sub(torch.arange(8.0)).abs() / 4).double()
    painter = Painter(task_on(space, GaussianDenoiser(covariance)))
    nothing = torch.zeros(12, dtype=torch.bool)
    painter.paint(0, nothing)
    before, image = painter.canvas.z.clone(), painter.canvas.look(0)
    painter.paint(1, painter.canvas.better_seen(1, 0.2))
    assert torch.equal(painter.canvas.z[:, :8], before[:, :8]) and torch.equal(painter.canvas.look(0), image)
    assert painter.canvas.owner.tolist() == [0] * 8 + [1] * 4
    assert before[:, 8:].abs().max() == 0 < painter.canvas.z[:, 8:].abs().min()


@pytest.mark.parametrize("sampler,eta", [("ddim", 0.0), ("ddim", 1.0), ("ddpm", 0.0), ("euler", 0.0), ("dpm++2m", 0.0)])
def test_what_is_kept_is_noised_as_its_level_says(sampler, eta):
    """x = alpha x0 + sigma eps: (x - alpha x0) / sigma is standard normal at every level, whatever x0 is.

    n = 3 channels x 200 pixels: the mean has deviation 1 / sqrt(n), the mean square sqrt(2 / n); three of them allowed.
    """
    width, n = 400, 3 * 200
    denoiser = Spy(GaussianDenoiser(torch.eye(width, dtype=torch.float64), mean=2.0))
    task = replace(task_on(windows([0, 200], width, [0.9, 0.9]), steps=6, sampler=sampler, eta=eta), denoiser=denoiser)
    painter = Painter(task)
    painter.paint(0, torch.zeros(600, dtype=torch.bool))
    known = painter.canvas.look(0)[..., 200:]
    painter.paint(1, torch.zeros(600, dtype=torch.bool))
    second = [(level, x[..., :200]) for view, level, x in denoiser.seen if view == 1]
    assert len(second) == 6 and len({level for level, _ in second}) == 6
    for level, x in second:
        eps = (x - level.alpha * known) / level.sigma
        assert abs(eps.mean()) < 3 / math.sqrt(n), level
        assert abs(eps.square().mean() - 1) < 3 * math.sqrt(2 / n), level


def test_by_whole_cells_where_the_codec_is_not_linear():
    """8 x 8 pixels in cells of 2: a cell is held when all of it is kept, and then exactly."""

    class Halved(Same):
        cheap_codec = False

        def encode(self, rgb):
            return rgb[..., ::2, ::2]

    kept = torch.zeros(1, 1, 8, 8)
    kept[..., :3] = 1  # one whole column of cells, and half of the next
    blank, scene = torch.zeros_like(kept), torch.arange(192.0).view(1, 3, 8, 8)
    holder = Holder(Halved(), scene, Trimap(blank, blank, 1 - kept, kept, 1, 0), (4, 4))
    x0 = torch.full((1, 3, 4, 4), -1.0)
    held = holder.hold(x0, early=False)
    assert torch.equal(held[..., 0], scene[..., ::2, 0]) and torch.equal(held[..., 1:], x0[..., 1:])


def test_one_view_is_plain_diffusion():
    space = EXACT["identity"](views=1, channels=3)
    task = task_on(space, steps=5, seed=3)
    noise = space.project_noise(torch.Generator().manual_seed(3))
    levels = task.levels(5)
    expected = sample(RandomDenoiser(3), start(noise, levels[0]), levels)
    assert torch.allclose(paint(task), expected, atol=1e-12)


# What is refined


def test_a_view_refines_what_it_sees_straighter_by_the_margin():
    """Cosines .5, .69, .71 with margin .2: the second view keeps, the third refines; with .25 it keeps."""
    for margin, last in ((0.2, 2), (0.25, 0)):
        space = windows([0, 0, 0], 4, [0.5, 0.69, 0.71])
        painter = Painter(task_on(space, PLAIN, refine_margin=margin))
        for view in range(3):
            painter.paint(view, painter.canvas.better_seen(view, margin))
        assert painter.canvas.owner.tolist() == [last] * 4


def test_half_of_what_is_refined_is_held_in_the_early_half():
    board = checkerboard(8, 8)
    assert board.mean() == 0.5 and torch.equal(board[:2, :2], torch.zeros(2, 2)) and board[0, 2] == 1
    blank, all_of_it = torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32)

    class Fine(Same):
        def encode(self, rgb):
            return rgb[..., ::4, ::4]

    holder = Holder(Fine(), torch.zeros(1, 3, 32, 32), Trimap(blank, all_of_it, all_of_it, blank, 0, 1), (8, 8))
    late, early = holder.pixels
    assert late.sum() == 0 and early.mean() == 0.5 and holder.cells[1].double().mean() == 0.5


def test_early_is_the_first_half_of_the_steps():
    """Refining 4 x 4 pixels in 6 steps: in steps 1 to 3 the squares keep to alpha x0 + sigma eps, later they need not."""
    denoiser = Spy(GaussianDenoiser(torch.eye(16, dtype=torch.float64), mean=-3.0))
    index = torch.arange(16).view(1, 4, 4).expand(2, 4, 4)
    cosine = torch.tensor([0.5, 0.9], dtype=torch.float64)[:, None, None].expand(2, 4, 4)
    task = replace(task_on(gather_space(index, 16, 3, cosine), steps=6, refine_strength=1.0), denoiser=denoiser)
    painter = Painter(task)
    painter.paint(0, painter.canvas.better_seen(0, 0.2))
    known = painter.canvas.look(0)
    painter.paint(1, painter.canvas.better_seen(1, 0.2))
    squares = checkerboard(4, 4) > 0
    second = [(level, x) for view, level, x in denoiser.seen if view == 1]
    eps = [((x - level.alpha * known) / level.sigma)[..., squares] for level, x in second]
    assert all(torch.allclose(one, eps[0], atol=1e-9) for one in eps[:4])  # the third estimate gives the fourth state
    assert not torch.allclose(eps[5], eps[0], atol=1e-3)


def test_a_view_with_nothing_new_changes_it_in_part():
    """All views show all texels: after the first, every view starts part of the way, and takes as many steps."""
    denoiser = Spy(RandomDenoiser(3))
    paint(replace(task_on(EXACT["permutations"](channels=3), steps=4), denoiser=denoiser))
    sigmas = [[level.sigma for view, level, _ in denoiser.seen if view == k] for k in range(3)]
    assert [len(one) for one in sigmas] == [4, 4, 4]
    assert sigmas[1] == sigmas[2] and sigmas[1][0] < sigmas[0][1]


# Who is next


def test_around_is_the_order_of_texture():
    """TEXTure's ten views: azimuths 0, 45, 315, 90, 270, 135, 225, 180, then from above and from below."""
    azimuths = [180, 315, 0, 90, 45, 270, 225, 135, 180, 180]
    heights = [30] * 8 + [-60, 60]
    angles = torch.deg2rad(torch.tensor([azimuths, heights]).double())
    turn, rise = angles
    directions = torch.stack([turn.sin() * rise.cos(), -turn.cos() * rise.cos(), rise.sin()], 1)
    front_first = [2, 0, 1, *range(3, 10)]
    order = [front_first[k] for k in around(directions[front_first])]
    assert [azimuths[k] for k in order[:8]] == [0, 45, 315, 90, 270, 135, 225, 180]
    assert [heights[k] for k in order[8:]] == [60, -60]


def test_heat_by_hand():
    """Views of 4 texels at 0, 1, 6, 4, in falling straightness. Worth: new 1, seen best here .5, else .1; chosen x .01.

    1: 4 each, the first. 2: .5 x 4 x .01 = .02, 3 x .1 + 1 = 1.3, 4, 4: the third. 3: .02, 1.3, .02, 2 + 2 x .1 = 2.2:
    the fourth. 4: .02; texel 4 was painted by the fourth, but the second sees it best: 3 x .1 + .5 = .8; .02;
    (.1 + .5 + .2) x .01: the second.
    """
    space = windows([0, 1, 6, 4], 4, [0.9, 0.8, 0.7, 0.6])
    denoiser = Spy(RandomDenoiser(3))
    paint(replace(task_on(space, iterative_order="heat"), denoiser=denoiser))
    assert denoiser.order() == [0, 2, 3, 1]
    canvas = Canvas(space, 1)
    canvas.done[:] = canvas.known[:] = True
    canvas.done[5] = False
    assert [round(canvas.heat(view), 6) for view in range(4)] == [2.0, 0.8, 2.0, 1.3]


# What it takes


@pytest.mark.parametrize("name", sorted(EXACT))
@pytest.mark.parametrize("settings", [
    {"iterative_style": "text2tex"}, {"iterative_style": "text2tex", "update_views": 1, "iterative_order": "heat"},
    {"update_views": 2, "refine_strength": 0.25}, {"sampler": "dpm++2m", "refine_strength": 1.0},
    {"noise": "independent", "sampler": "ddpm"},
])  # fmt: skip
def test_every_way_agrees_and_is_foreseen(name, settings):
    task = task_on(EXACT[name](channels=3), **settings)
    images = paint(task)
    assert task.denoiser.count[0] == calls(task.settings, len(task.space.mask)) == task.watch.told[-1][0]
    if name != "identity":
        assert float((images - task.space.sync(images)).abs().max()) < 1e-5 * float(images.abs().max())


def test_calls_by_hand():
    """4 views, 4 steps; an update at strength .5 takes 2. Text2Tex: 4 x 4 + (3 + 4) x 2, with one at the end 3 + 1."""
    settings = resolve({"prompt": "x", "method": "iterative", "steps": 4})
    count = lambda **given: calls({**settings, **given}, 4)  # noqa: E731
    assert count() == 16 and count(update_views=3) == 22
    assert count(iterative_style="text2tex") == 30 and count(iterative_style="text2tex", update_views=1) == 24
    assert count(start="texture", strength=0.5) == 8


def test_no_views_are_refused():
    with pytest.raises(SettingsError, match="No views"):
        METHODS["iterative"].check(resolve({"prompt": "x"}), Facts(0, starts=False))


# From a texture


@pytest.mark.parametrize("style", ["texture", "text2tex"])
def test_a_region_is_exact_and_changes(style):
    space = EXACT["plane"](channels=3)
    texture = torch.rand(3, 64, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    region = torch.zeros(64, dtype=torch.float64)
    region[:24], region[24:32] = 1, 0.5
    given = space.project(texture)
    task = toy_task(RandomDenoiser(3), space, start=given, region=region, method="iterative", steps=4, strength=0.5,
                    iterative_style=style)  # fmt: skip
    images = paint(task)
    where = space.project(region[None]).expand_as(given)
    assert torch.equal(images[where == 0], given[where == 0])
    assert (images - given)[where == 1].abs().min() > 0
    assert task.denoiser.count[0] == calls(task.settings, 4) == 4 * 2 + (7 * 2 if style == "text2tex" else 0)
    assert float((images - space.sync(images)).abs().max()) < 1e-9


def test_strength_starts_from_the_noised_texture():
    """At the first level of strength .5 the state is alpha x0 + sigma eps with the run's own noise."""
    space = EXACT["plane"](channels=3)
    given = space.project(torch.ones(3, 64, dtype=torch.float64))
    denoiser = Spy(RandomDenoiser(3))
    task = toy_task(RandomDenoiser(3), space, seed=7, start=given, method="iterative", steps=4, strength=0.5)
    paint(replace(task, denoiser=denoiser))
    noise = space.project_noise(torch.Generator().manual_seed(7))
    view, level, x = denoiser.seen[0]
    assert view == 0 and level == task.levels(4, 0.5)[0]
    assert torch.allclose(x, level.alpha * given[:1] + level.sigma * noise[:1], atol=1e-12)


# Masks, and what the spaces lend


def test_masks_are_cleaned_and_fade():
    mask = torch.zeros(1, 1, 12, 12)
    mask[..., 3:9, 3:9], mask[..., 0, 11] = 1, 1
    assert dilated(mask, 1)[0, 0, 5].tolist() == [0, 0] + [1] * 8 + [0, 0]
    assert opened(mask, 1).sum() == 36 and opened(mask, 0).sum() == 37  # the speck goes, the square stays
    soft = faded(opened(mask, 1), 1)[0, 0, 5, 3:9]  # means over 3: 2/3 at the border, 1 inside; 2 m - 1
    assert torch.allclose(soft, torch.tensor([1 / 3, 1, 1, 1, 1, 1 / 3]), atol=1e-6)


@pytest.fixture(scope="module")
def torus():
    mesh = mesh_of(shapes.torus(48, 24))
    return UVTexture(mesh, build_rig("auto", 6, mesh.positions), RASTERIZER, 64, channels=3)


def spaces(torus):
    return [torus, *(make(channels=3) for make in EXACT.values()), CircleWorld(3),
            windows([0, 2, 4], 6, [0.9, 0.5, 0.2])]  # fmt: skip


@pytest.mark.parametrize("number", range(7))
def test_parts_of_a_space(torus, number):
    """`only`: the same projections; all of it is itself; what the parts unproject adds up to the whole.

    The UV texture leaves out weights below 1e-4 of the best, in the whole but not in the parts.
    """
    space = spaces(torus)[number]
    count, random = len(space.mask), torch.Generator().manual_seed(number)
    views = torch.randn(count, 3, *space.mask.shape[2:], generator=random, dtype=torch.float64).to(space.mask.dtype)
    z = torch.randn(space.merge(views).shape, generator=random, dtype=torch.float64).to(space.mask.dtype)
    some = [count - 1, 0]
    assert torch.equal(space.only(some).project(z), space.project(z)[some])
    assert torch.equal(space.only(some).facing(), space.facing()[some])
    whole = space.only(range(count))
    assert torch.equal(whole.project(z), space.project(z)) and torch.allclose(whole.merge(views), space.merge(views))
    total, weight = space.unproject(views)
    parts = [space.only([view]).unproject(views[view : view + 1]) for view in range(count)]
    assert torch.allclose(sum(part for part, _ in parts), total, atol=3e-3)
    assert torch.allclose(sum(part for _, part in parts), weight.expand_as(parts[0][1]), atol=6e-4)
    for view in range(count):
        assert torch.equal(parts[view][1] > 0, space.facing()[view] > 0), view


def test_facing_of_a_torus(torus):
    """The cosine to the view, feathered: never above it, equal to it away from edges, 0 for what is not seen."""
    facing, pairs = torus.facing(), torus.pairs
    assert facing.shape == (6, pairs.texels) and 0 <= facing.min() and facing.max() <= 1
    texel, view = torch.from_numpy(pairs.texel()), torch.from_numpy(pairs.view).long()
    found, cosine = facing[view, texel], torch.from_numpy(pairs.cosine)
    far = torch.from_numpy(pairs.edge) >= pairs.reach
    assert (found <= cosine + 1e-6).all() and far.sum() > 1000
    assert torch.allclose(found[far], cosine[far], atol=1e-6)
    assert int((facing > 0).sum()) == int((pairs.trust > -1e29).sum())


def test_a_part_has_the_noise_of_the_whole(torus):
    """What the views share: the same field, so the same noise but for each pixel's own part, 1 - shared."""
    whole, part = (one.project_noise(torch.Generator().manual_seed(1)) for one in (torus, torus.only([3])))
    shared = torch.from_numpy(torus.noise.shared)[3:4].expand_as(part)
    assert torch.allclose(whole[3:4][shared > 0.999], part[shared > 0.999], atol=0.2)
    assert torch.corrcoef(torch.stack([whole[3:4][shared > 0.9], part[shared > 0.9]]))[0, 1] > 0.9


class Flat:
    """Every view believes in one grey of its own."""

    def only(self, views):
        return lambda x, level: torch.full_like(x, views[0] / 10)


def test_each_texel_has_the_colour_of_its_owner(torus):
    painter = Painter(replace(task_on(torus, steps=2), denoiser=Flat()))
    for view in range(6):
        painter.paint(view, painter.canvas.better_seen(view, 0.2))
    canvas, images = painter.canvas, painter.images()
    assert torch.equal(canvas.done, torus.facing().amax(0) > 0) and canvas.done.any()
    assert (canvas.best[canvas.done] > 0).all() and set(canvas.owner.unique().tolist()) == set(range(-1, 6))
    owned = canvas.owner >= 0
    assert owned[canvas.done].float().mean() > 0.75  # the rest mixes, at borders
    off = (canvas.z[0] - canvas.owner / 10.0)[owned].abs()
    assert (off < 1e-3).float().mean() > 0.995  # the rest are slivers that no whole pixel shows
    assert images.min() > -1e-3 and images.max() < 0.5 + 1e-3
    colour, share = torus.project(torch.stack([canvas.owner / 10.0 * owned, owned.float()])).split(1, 1)
    whole = share * torus.mask > 0.999
    assert ((images[:, :1] - colour)[whole].abs() < 1e-3).float().mean() > 0.98
