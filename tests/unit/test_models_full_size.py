# SPDX-License-Identifier: Apache-2.0
"""The published sizes, on torch's device "meta": every shape goes through our code, no number is kept or computed."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from blender_addon.jobs.catalogue import CATALOGUE, entry
from engine.models.bound import BoundNetwork, TextGuidance
from engine.models.codec import Codec
from engine.models.controls import Control, bind, without_embedding
from engine.models.depot import Depot
from engine.models.flux import Flux, pack
from engine.models.multiview import Adapter
from engine.models.stable_diffusion_3 import StableDiffusion3
from engine.models.unet import UNetModel
from engine.models.view_lines import Line, SharedLines
from tests.full_families import CONTROLNETS, MODELS, on_paper, weights

META = torch.device("meta")
VIEWS = 2
# id -> side of a view, tokens and width of the text, width of its summary
STEPS = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": (512, 77, 768, 0),
    "stabilityai/stable-diffusion-2-1": (768, 77, 1024, 0),
    "stabilityai/stable-diffusion-xl-base-1.0": (1024, 77, 2048, 1280),
    "stabilityai/stable-diffusion-3.5-medium": (1024, 333, 4096, 2048),
    "stabilityai/stable-diffusion-3.5-large": (1024, 333, 4096, 2048),
    "black-forest-labs/FLUX.1-dev": (1024, 512, 4096, 768),
    "black-forest-labs/FLUX.1-Depth-dev": (1024, 512, 4096, 768),
}
# Multiplications and additions of one view's prediction, 10^12. Published counts of multiply-adds (DeepCache, Ma et al.
# 2024: 0.339 and 2.98) leave out attention's own products, 4 L^2 d of each self-attention over L tokens of width d:
# SD 1.5 has 5 of 4096 x 320 and 5 of 1024 x 640, SDXL 10 of 4096 x 640 and 60 of 1024 x 1280.
WORK = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": 2 * 0.339 + 4e-12 * 5 * (4096**2 * 320 + 1024**2 * 640),
    "stabilityai/stable-diffusion-xl-base-1.0": 2 * 2.98 + 4e-12 * (10 * 4096**2 * 640 + 60 * 1024**2 * 1280),
}


def model_of(name, **more):
    """Our model of that name around networks on paper, without its text encoders, which are not asked."""
    parts = {part: on_paper(make) for part, make in MODELS[name].items() if not part.startswith("text")}
    codec = Codec(parts["vae"], META)
    common = {"name": name, "view_size": STEPS[name][0], "default_guidance": 5.0, "default_steps": 30, "info": {},
              "codec_": codec, "scheduler": {}, "device": META, "dtype": torch.float32,
              "depot": Depot(META, {})}  # fmt: skip
    if "unet" in parts:
        return UNetModel(**{"default_guidance_rescale": 0.0, "known_words": None, "readers": (), "controlnets": (),
                            "unet": parts["unet"], **common, **more})  # fmt: skip
    kind = Flux if "FLUX" in name else StableDiffusion3
    return kind(transformer=parts["transformer"], controlnets=(), clips=(), t5=None, **common)


def told(model, name, parts):
    """What the networks are told, each [parts, VIEWS, ...]."""
    side, length, width, pooled = STEPS[name]
    given = {"text": torch.empty(parts, VIEWS, length, width, device=META)}
    if pooled:
        given["pooled"] = torch.empty(parts, VIEWS, pooled, device=META)
    if "FLUX" in name:
        given["guidance"] = torch.empty(parts, VIEWS, device=META)
    if getattr(model, "joined", False):
        cells = torch.empty(VIEWS, model.channels, side // 8, side // 8, device=META)
        given["beside"] = pack(cells).expand(parts, VIEWS, -1, -1)
    return given


@pytest.mark.parametrize("name", MODELS)
def test_the_catalogue_tells_the_size_of_its_networks(name):
    """Two bytes for each number, to a twentieth."""
    numbers = sum(weights(on_paper(make)) for make in MODELS[name].values())
    assert entry(name).size == pytest.approx(2 * numbers / 1e9, rel=0.05)


@pytest.mark.parametrize("name", CONTROLNETS)
def test_and_of_controlnets(name):
    assert entry(name).size == pytest.approx(2 * weights(on_paper(CONTROLNETS[name])) / 1e9, rel=0.05)


@pytest.mark.parametrize("name", MODELS)
def test_a_guided_step_of_two_views_at_full_size(name):
    model = model_of(name)
    guidance = TextGuidance(1.0 if "FLUX" in name else 5.0)
    network = BoundNetwork(model, VIEWS, told(model, name, guidance.parts), guidance)
    cells = STEPS[name][0] // 8
    x = torch.empty(VIEWS, model.channels, cells, cells, device=META)
    with FlopCounterMode(display=False) as counter:
        found = network(x, 500.0)
    assert found.shape == x.shape and found.dtype == torch.float32
    assert model.decode(x[:1]).shape == (1, 3, STEPS[name][0], STEPS[name][0])
    if name in WORK:
        done = counter.get_total_flops() / VIEWS / guidance.parts / 1e12
        assert done == pytest.approx(WORK[name], rel=0.03)


def test_sdxl_with_controlnet_and_adapter_at_full_size():
    """Six views of 768 px, twice for guidance; 388 tensors of the adapter, 491 million numbers."""
    name = "stabilityai/stable-diffusion-xl-base-1.0"
    net = on_paper(CONTROLNETS["diffusers/controlnet-depth-sdxl-1.0"])
    plain = model_of(name)
    with torch.device("meta"):
        adapter = Adapter(plain.unet)
    assert len(adapter.published()) == 388 and round(weights(adapter) / 1e6) == 491
    model = model_of(name, multiview=adapter, controlnets=(without_embedding(net),))
    lines = SharedLines((Line((0, 1, 2, 3)), Line((0, 2, 4, 5), True, (True, False, False, False))), 6)
    given = {"text": torch.empty(2, 6, 77, 2048, device=META), "pooled": torch.empty(2, 6, 1280, device=META)}
    found = adapter.features(torch.empty(6, 6, 768, 768, device=META))
    given |= {f"depth{k}": one.expand(2, *one.shape) for k, one in enumerate(found)}
    depth = Control("depth", torch.empty(6, 1, 768, 768, device=META))
    bound = bind(model.controlnets, [depth], 1.0, name, torch.float32)
    network = BoundNetwork(model, 6, given, TextGuidance(5.0), bound, lines=lines)
    assert network(torch.empty(6, 4, 96, 96, device=META), 500.0).shape == (6, 4, 96, 96)


def test_the_published_multi_view_adapters_size():
    found = [weights(on_paper(lambda name=name: Adapter(MODELS[name]["unet"]()))) for name in
             ("stabilityai/stable-diffusion-xl-base-1.0", "stabilityai/stable-diffusion-2-1")]  # fmt: skip
    assert entry("huanngzh/mv-adapter").size == pytest.approx(2 * sum(found) / 1e9, rel=0.05)
    assert any(one.role == "multiview" for one in CATALOGUE)
