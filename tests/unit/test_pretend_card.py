# SPDX-License-Identifier: Apache-2.0
"""The pretended card refuses what CUDA refuses, with its words, and computes everything else as the processor does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import embedding_bag, scaled_dot_product_attention

from engine.device import describe, free_memory, pick_device
from tests.pretend_card import CARD, GIB, OnCard, pretended_card


@pytest.fixture
def card():
    with pretended_card() as card:
        yield card


def here():
    return torch.arange(6.0).view(2, 3)


def kinds(card):
    return [move.kind for move in card.moves]


def test_the_engine_finds_a_card(card):
    assert pick_device("auto") == pick_device("cuda") == CARD
    assert describe(CARD) == "Pretended card, 24 GB" and free_memory(CARD) == 24 * GIB


def test_afterwards_all_is_as_it_was():
    before = torch.cuda.is_available(), torch.version.cuda, torch.cuda.device_count()
    with pretended_card():
        assert (torch.cuda.is_available(), torch.cuda.device_count()) == (True, 1)
    assert (torch.cuda.is_available(), torch.version.cuda, torch.cuda.device_count()) == before
    assert type(nn.Linear(2, 2).to("cpu").weight) is nn.Parameter and torch.tensor([1.0], device="cpu").sum() == 1


@pytest.mark.parametrize("mixed", [
    lambda there, here: there + here,
    lambda there, here: here * there,
    lambda there, here: torch.cat([here, there]),
    lambda there, here: torch.where(there > 0, here, there),
    lambda there, here: here @ there.t(),
    lambda there, here: torch.lerp(there, there, here),
    lambda there, here: nn.Linear(3, 2)(there),
    lambda there, here: torch.stack([there[0, 0], here[0, 0]]),  # numbers mix in elementwise operations only
    lambda there, here: here[0, 0].add_(there[0, 0]),
    lambda there, here: embedding_bag(torch.tensor([0]), there, torch.tensor([0]), mode="sum"),
    lambda there, here: scaled_dot_product_attention(there[None], there[None], here[None]),
    lambda there, here: there.index_select(0, torch.tensor([0])),
    lambda there, here: there.__setitem__(torch.tensor([0]), here[:1]),
    lambda there, here: there.masked_fill(here > 1, 0.0),
])  # fmt: skip
def test_two_devices_in_one_operation_are_refused(card, mixed):
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        mixed(here().to("cuda"), here())


def test_an_index_on_the_card_reads_nothing_in_main_memory(card):
    with pytest.raises(RuntimeError, match="indices should be either on cpu or on the same device"):
        here()[torch.tensor([0], device="cuda")]


@pytest.mark.parametrize("read", [lambda there: there.numpy(), np.asarray])
def test_numpy_sees_nothing_that_is_on_the_card(card, read):
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        read(here().cuda())


@pytest.mark.parametrize("draw", [torch.randn, torch.rand])
def test_noise_on_the_card_wants_a_generator_of_the_card(card, draw):
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
        draw(3, generator=torch.Generator(), device="cuda")
    assert draw(3, device=CARD).device == CARD


def test_what_may_be_mixed(card):
    """Numbers in elementwise operations, as second operand or in place of a value; indices, which are moved."""
    there = here().to(CARD)
    assert torch.equal((there + torch.tensor(1.0)).cpu(), here() + 1)
    assert torch.equal(torch.where(there > 2, there, torch.tensor(0.0)).cpu(), here().clamp_min(3) * (here() > 2))
    assert kinds(card) == ["to card", "from card", "from card"]
    for index in ([1, 0], torch.tensor([1, 0])):
        assert torch.equal(there[index].cpu(), here().flip(0))
    there[torch.tensor([False, True])] = torch.tensor(9.0)
    assert there.tolist() == [[0, 1, 2], [9, 9, 9]]
    assert kinds(card)[3:] == ["to card", "from card"] * 2 + ["to card", "wait", "from card"]


def test_what_is_changed_in_place_is_changed_in_its_views(card):
    there = here().to("cuda")
    row, column = there[1], there[:, 0]
    row.mul_(10)
    column += 1
    there[:, 1:2] = torch.zeros(2, 1, device="cuda")
    torch.add(there, there, out=there)
    expected = here()
    expected[1] *= 10
    expected[:, 0] += 1
    expected[:, 1] = 0
    assert torch.equal(there.cpu(), 2 * expected) and torch.equal(row.cpu(), 2 * expected[1])
    assert isinstance(there.mul_(2), OnCard) and there.mul_(1) is there


def test_shapes_strides_and_kinds_are_those_of_the_numbers(card):
    there = torch.randn(2, 3, 4, 5).to("cuda", memory_format=torch.channels_last)
    assert there.is_contiguous(memory_format=torch.channels_last) and not there.is_contiguous() and there.is_cuda
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        there.view(6, 20)
    assert there.half().dtype == torch.float16 and there.permute(0, 2, 3, 1).is_contiguous()
    assert there.new_zeros(2).device == torch.zeros_like(there).device == CARD
    assert torch.zeros_like(there, device="cpu").device.type == "cpu"


def test_modules_go_there_and_back(card):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval().requires_grad_(False)
    x = torch.randn(1, 3, 5, 5)
    expected = module(x)
    module.to("cuda")
    assert {one.device for one in module.state_dict().values()} == {CARD}
    assert torch.equal(module(x.cuda()).cpu(), expected)
    assert torch.equal(module.to("cpu")(x), expected) and type(module[0].weight) is nn.Parameter


def test_attention_is_that_of_the_processor(card):
    q, k, v = torch.randn(3, 2, 4, 6, 8).unbind()
    found = scaled_dot_product_attention(q.cuda(), k.cuda(), value=v.cuda())
    torch.testing.assert_close(found.cpu(), scaled_dot_product_attention(q, k, v))


def test_moves_are_counted_with_their_place_and_numbers_read_are_waited_for(card):
    there = torch.tensor([1.0, 2.0], device="cuda")
    assert float(there.sum()) == 3 and bool((there > 0).all()) and there.nonzero().shape == (2, 1)
    assert [(move.kind, move.bytes) for move in card.moves] == [("to card", 8), ("wait", 0), ("wait", 0), ("wait", 0)]
    assert card.moves[0].where.startswith("tests/unit/test_pretend_card.py:")
    del card.moves[:]
    torch.full((), 3.0, device="cuda").add_(torch.arange(2, device="cuda").sum())
    assert card.moves == []


def test_room_runs_out_on_demand(card):
    there = torch.zeros(4, device="cuda")
    card.room = 16
    assert (there + 1).shape == (4,)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        torch.cat([there, there])
    assert torch.zeros(9).shape == (9,)
