# SPDX-License-Identifier: Apache-2.0
"""`benchmarks.card` at the size of a stamp on the processor: every part gives numbers that can be true."""

from __future__ import annotations

import pytest
import torch

from benchmarks.card import FAMILIES, PARTS, Bench, Family, measure, write_family
from tests.full_families import CONTROLNETS, MODELS
from tests.tiny_families import XL_SCHEDULER
from tests.tiny_models import SD15_SCHEDULER, write_tiny_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    work = tmp_path_factory.mktemp("card")
    family = Family("", "", "StableDiffusionControlNetPipeline", SD15_SCHEDULER, 64, 4, ("tokenizer",), steps=4)
    return Bench(family, write_tiny_model(work / "model"), CPU, work / "jobs", texture=64)


def test_every_part_measures(bench, monkeypatch):
    monkeypatch.setattr("benchmarks.card.ROUNDS", 1)
    parts = [part for part in PARTS if part not in ("compiling", "smallest")]  # a compiler is not asked for here
    found = measure(bench, parts, peak_side=256)
    assert all(isinstance(answer, dict) for answer in found.values()), found
    assert found["over_plain"]["ratio"] > 0 and 0 < found["throughput"]["share"] < 1
    assert found["throughput"]["tflop_a_step"] >= 0 and len(found["memory"]) == 3
    assert found["starts"]["cold"] > 0 and found["starts"]["warm"] > 0


def test_a_part_that_fails_says_why(bench, monkeypatch):
    monkeypatch.setattr(Bench, "memory", lambda self: (_ for _ in ()).throw(RuntimeError("no room\n here")))
    monkeypatch.setattr(Bench, "starts", lambda self: {"cold": 1.0})
    assert measure(bench, ["memory", "starts"]) == {"memory": "failed: no room here", "starts": {"cold": 1.0}}


def test_the_smallest_card_is_the_first_that_fits(bench, monkeypatch):
    tried = []

    def fits(self, cap, settings):
        tried.append((cap, settings["steps"], settings["views"]))
        return cap >= settings["views"]

    monkeypatch.setattr(Bench, "_fits", fits)
    found = bench.smallest()
    assert list(found) == ["draft", "standard", "high"] and found["standard"] >= 8 and all(steps == 2 for _, steps, _ in tried)


def test_the_families_are_in_the_catalogue_at_full_size():
    for family in FAMILIES.values():
        assert family.model in MODELS and family.control in CONTROLNETS and family.steps == 30
    assert FAMILIES["sdxl"].scheduler == XL_SCHEDULER and (FAMILIES["sd15"].side, FAMILIES["sd15"].views) == (768, 10)


def test_a_family_is_written_as_a_whole_pipeline(tmp_path, monkeypatch):
    from engine.models import load_model
    from tests.tiny_models import _text_encoder, kl_codec, tiny_controlnet, tiny_unet

    monkeypatch.setitem(MODELS, "tiny", {"unet": tiny_unet, "text_encoder": _text_encoder, "vae": kl_codec})
    monkeypatch.setitem(CONTROLNETS, "tiny", lambda: tiny_controlnet(True))
    family = Family("tiny", "tiny", "StableDiffusionControlNetPipeline", SD15_SCHEDULER, 64, 2, ("tokenizer",), steps=2)
    folder = write_family(tmp_path / "model", family, CPU)
    assert load_model(str(folder), CPU).channels == 4
