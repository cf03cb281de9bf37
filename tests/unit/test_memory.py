# SPDX-License-Identifier: Apache-2.0
"""What fits is decided before the run, and a run that meets its limit all the same steps down once and says so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from blender_addon.jobs.errors import DeviceError, OutOfMemory
from engine.denoiser import from_epsilon
from engine.memory import Plan, check_textures, plan_model, plan_views
from engine.models.bound import Batch, BoundDenoiser, BoundNetwork, TextGuidance
from engine.models.depot import Depot
from engine.schedule import Level

GIB = 2**30
LEVEL = Level(0.8, 0.6, 500.0)


def test_everything_is_kept_where_it_fits_and_takes_turns_where_only_the_parts_do():
    """6 + 1 + 3 GB of 12 free, of which 0.9 count: 10 fit; of 8 only each by itself (7.2 > 6); of 6 not even that."""
    groups = {"networks": 6 * GIB, "codec": 1 * GIB, "text": 3 * GIB}
    assert plan_model(groups, 12 * GIB, "m") == Plan()
    turns = plan_model(groups, 8 * GIB, "m")
    assert turns.offload and "10.0 GB" in turns.note and "8.0 GB" in turns.note
    with pytest.raises(DeviceError, match=r"6\.0 GB") as caught:
        plan_model(groups, 6 * GIB, "m")
    assert "precision" in caught.value.action
    assert plan_model(groups, 12 * GIB, "m", "offload").offload
    assert not plan_model(groups, 8 * GIB, "m", "keep").offload


def test_without_memory_of_its_own_a_device_has_nowhere_to_move_things_to():
    with pytest.raises(DeviceError, match=r"10\.0 GB"):
        plan_model({"networks": 10 * GIB}, 11 * GIB, "m", own_memory=False)
    assert not plan_model({"networks": 9 * GIB}, 11 * GIB, "m", own_memory=False).offload


def test_half_of_the_free_memory_is_for_views():
    assert plan_views(GIB, 8, 9 * GIB) == 4
    assert plan_views(GIB, 3, 9 * GIB) == 3
    assert plan_views(100 * GIB, 8, GIB) == 1


def test_textures_that_main_memory_cannot_hold_are_refused_before_they_are_made():
    """Ten of 4096^2 texels are 168 million: 24 bytes each from nothing, 150 changed; and 36 for the one at work."""
    assert 10 * 4096**2 * 24 + 4096**2 * 36 < 0.9 * 5 * GIB < 10 * 4096**2 * 150
    check_textures(10, 4096, False, 5 * GIB)
    with pytest.raises(OutOfMemory, match=r"10 textures of 4096 px take about 24\.0 GB .* to change, and 5\.0 GB are free") as caught:
        check_textures(10, 4096, True, 5 * GIB)
    assert "smaller texture size" in caught.value.action and caught.value.exit_code == 6
    with pytest.raises(OutOfMemory, match="A texture of 8192 px takes about 3.8 GB .* to paint"):
        check_textures(1, 8192, False, 4 * GIB)


def test_a_job_asks_before_it_begins(tmp_path, monkeypatch):
    from blender_addon.jobs.folder import write_job
    from engine import opening
    from tests.unit.test_run import sphere_job

    monkeypatch.setattr(opening, "free_memory", lambda device: GIB)
    folder = write_job(tmp_path, sphere_job("a model that is not looked for", texture_size=8192))
    with pytest.raises(OutOfMemory, match="8192 px"):
        opening.open_job(folder, None, None, None)


class Networks:
    """Predicts a tenth of what it sees; an allocator of its own has room for `room` views at once."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, room):
        self.room, self.batches = room, []

    def view_bytes(self, height, width):
        return 1

    def predict(self, sample, timestep, given, controls, parts):
        if len(sample) > self.room * parts:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        self.batches.append(len(sample) // parts)
        return sample / 10 + given["text"][:, :, None, None]


def bound(networks, views, attention=None, chunk=None, told=None):
    given = {"text": torch.arange(2.0 * views).view(2, views, 1)}
    network = BoundNetwork(networks, views, given, TextGuidance(3.0), (), Batch(chunk, told), attention)
    return BoundDenoiser(network, "epsilon")


def test_a_run_out_of_memory_goes_on_with_half_the_views_and_says_so_once():
    x, told = torch.randn(8, 4, 2, 2, generator=torch.Generator().manual_seed(0)), []
    small, large = Networks(4), Networks(8)
    denoiser = bound(small, 8, told=told.append)
    found = denoiser(x, LEVEL)
    denoiser(x, LEVEL)
    assert small.batches == [4, 4, 4, 4] and len(told) == 1 and "8 views" in told[0] and "4" in told[0]
    torch.testing.assert_close(found, bound(large, 8)(x, LEVEL))
    text = torch.arange(16.0).view(2, 8, 1, 1, 1)
    guided = x / 10 + text[0] + 3 * (text[1] - text[0])
    torch.testing.assert_close(found, from_epsilon(guided, x, LEVEL))


def test_a_second_time_is_an_error_with_a_remedy():
    told = []
    denoiser = bound(Networks(3), 8, told=told.append)
    with pytest.raises(OutOfMemory) as caught:
        denoiser(torch.zeros(8, 4, 2, 2), LEVEL)
    assert isinstance(caught.value, DeviceError) and "fewer views" in caught.value.action and len(told) == 1
    with pytest.raises(OutOfMemory):
        bound(Networks(0), 1)(torch.zeros(1, 4, 2, 2), LEVEL)


def test_the_smaller_batch_holds_for_the_denoiser_of_some_views_too():
    networks = Networks(2)
    denoiser = bound(networks, 4)
    denoiser(torch.zeros(4, 4, 2, 2), LEVEL)
    networks.batches.clear()
    denoiser.only([3, 1, 0])(torch.zeros(3, 4, 2, 2), LEVEL)
    assert networks.batches == [2, 1]


class Traveller(nn.Module):
    def __init__(self, name, log):
        super().__init__()
        self.name, self.log = name, log

    def to(self, device):
        self.log.append((self.name, str(device)))
        return self


def test_groups_take_turns_on_the_device():
    log = []
    groups = {name: [Traveller(name, log)] for name in ("text", "networks", "codec")}
    depot = Depot(torch.device("meta"), groups, turns=True)
    depot.settle()
    assert {place for _, place in log} == {"cpu"}
    log.clear()
    depot.bring("text")
    depot.bring("text")
    assert log == [("networks", "cpu"), ("codec", "cpu"), ("text", "meta")]
    log.clear()
    depot.bring("networks")
    assert log == [("text", "cpu"), ("codec", "cpu"), ("networks", "meta")]
    log.clear()
    keeping = Depot(torch.device("meta"), groups)
    keeping.bring("codec")
    assert log == []
