# SPDX-License-Identifier: Apache-2.0
"""What must hold for every case and sampler there is: the registries are the test matrix."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.methods.cases import CASES
from engine.methods.synchronized import run
from engine.sampling import SAMPLERS, sample
from engine.schedule import levels_from_config
from engine.spaces.around import WithOutside, keep_outside, partly
from tests.toys import EXACT, SETTINGS, MatrixSpace, RandomDenoiser, gather_space, identity

CONFIGS = {
    "vp": {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
           "steps_offset": 1},
    "zero-snr": {"_class_name": "DDIMScheduler", "beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing",
                 "rescale_betas_zero_snr": True},
    "flow": {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
}
EVERY = [pytest.param(case, id=case) for case in CASES]
few = hypothesis_settings(max_examples=8)
walks = st.tuples(st.sampled_from(sorted(SAMPLERS)), st.sampled_from(sorted(CONFIGS)), st.integers(1, 6),
                  st.integers(0, 2**31))


def go(case, space, denoiser, walk, **more):
    sampler, curve, steps, seed = walk
    settings = {**SETTINGS, "case": case, "sampler": sampler, "eta": 0.5}
    generator = torch.Generator().manual_seed(seed)
    return run(denoiser, space, levels_from_config(CONFIGS[curve], steps), settings, generator, **more)


@pytest.mark.parametrize("case", EVERY)
@few
@given(walks)
def test_identity_space_is_a_no_op(case, walk):
    """Nothing is shared, so nothing changes: plain sampling with the same noise."""
    sampler, curve, steps, seed = walk
    space, denoiser = identity(), RandomDenoiser(2)
    generator = torch.Generator().manual_seed(seed)
    plain = sample(denoiser, space.project_noise(generator), levels_from_config(CONFIGS[curve], steps), sampler,
                   lambda: space.project_noise(generator), 0.5)
    found = go(case, space, denoiser, walk)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", EVERY)
@few
@given(walks, st.sampled_from(sorted(EXACT)), st.floats(-2, 2))
def test_one_colour_in_gives_that_colour_out(case, walk, name, colour):
    found = go(case, EXACT[name](), lambda x, level: torch.full_like(x, colour), walk)
    torch.testing.assert_close(found, torch.full_like(found, colour), rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", EVERY)
@few
@given(walks, st.permutations(range(4)))
def test_the_order_of_the_views_does_not_matter(case, walk, order):
    """Crops of different cosines and colours, listed in another order, give the same views in that order."""
    index = ((torch.arange(4)[:, None] * 8 + torch.arange(16)) % 32)[:, None]
    cosine = torch.rand(4, 1, 16, generator=torch.Generator().manual_seed(1)) + 0.1
    colours = torch.tensor([0.5, -1.0, 2.0, 0.1], dtype=torch.float64)[:, None, None, None]
    order = torch.tensor(order)

    def result(rows):
        def denoiser(x, level):
            return RandomDenoiser(2)(x, level) + colours[rows]
        return go(case, gather_space(index[rows], 32, 2, cosine[rows]), denoiser, walk)
    expected = result(torch.arange(4))[order]
    torch.testing.assert_close(result(order), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("case", EVERY)
@few
@given(walks)
def test_the_seed_decides_everything(case, walk):
    first, again = (go(case, EXACT["plane"](), RandomDenoiser(2), walk) for _ in range(2))
    assert torch.equal(first, again)
    other = go(case, EXACT["plane"](), RandomDenoiser(2), (*walk[:3], walk[3] + 1))
    assert not torch.equal(first, other)


@pytest.mark.parametrize("case", EVERY)
@few
@given(walks)
def test_a_single_view_is_plain_sampling(case, walk):
    sampler, curve, steps, seed = walk
    space = gather_space(torch.randperm(20, generator=torch.Generator().manual_seed(3)).view(1, 4, 5), 20, 2)
    generator = torch.Generator().manual_seed(seed)
    levels, first = levels_from_config(CONFIGS[curve], steps), space.project_noise(generator)
    plain = sample(RandomDenoiser(2), first, levels, sampler, lambda: space.project_noise(generator), 0.5)
    torch.testing.assert_close(go(case, space, RandomDenoiser(2), walk), plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", EVERY)
@few
@given(walks, st.sampled_from(["crops", "plane", "permutations"]))
def test_the_views_agree_at_the_end(case, walk, name):
    space = EXACT[name]()
    found = go(case, space, RandomDenoiser(2), walk)
    torch.testing.assert_close(space.sync(found), found, rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", [case for case in CASES if not case.endswith("eps")])
@few
@given(walks, st.integers(0, 1000), st.floats(-2, 2))
def test_lossy_spaces_keep_one_colour_too(case, walk, seed, colour):
    """Where neither P nor A undoes the other, if each sums to one: all cases that do not average noise."""
    g = torch.Generator().manual_seed(seed)
    projection = torch.rand(24, 10, generator=g, dtype=torch.float64) + 0.01
    space = MatrixSpace(projection / projection.sum(1, keepdim=True),
                        torch.rand(10, 24, generator=g, dtype=torch.float64) + 0.01, (2, 3, 4), 2)
    found = go(case, space, lambda x, level: torch.full_like(x, colour), walk)
    torch.testing.assert_close(found, torch.full_like(found, colour), rtol=0, atol=1e-9)


@few
@given(st.integers(0, 1000), st.floats(0, 1))
def test_wrapping_maps_are_what_they_say(seed, strength):
    """Outside the mask nothing moves; agreement in part is the blend; a canonical image with its outside is a space
    whose own sync is the masked one."""
    space = EXACT["plane"]()
    g = torch.Generator().manual_seed(seed)
    space.mask = (torch.rand(space.mask.shape, generator=g) > 0.4).double()
    x = torch.randn(4, 2, 5, 5, generator=g, dtype=torch.float64)
    kept = keep_outside(space)(x)
    assert torch.equal(torch.where(space.mask > 0, 0, kept - x), torch.zeros_like(x))
    torch.testing.assert_close(partly(space.sync, strength)(x), (1 - strength) * x + strength * space.sync(x),
                               rtol=0, atol=1e-12)
    both = WithOutside(space, x)
    torch.testing.assert_close(both.sync(x), kept, rtol=0, atol=1e-12)
    z = torch.randn(both.shape, generator=g, dtype=torch.float64)
    torch.testing.assert_close(torch.cat([part.flatten() for part in both.split(both.join(z, x))]), both.join(z, x))
