# SPDX-License-Identifier: Apache-2.0
"""Compiled networks: what changes from step to step (who looks at whom, guidance, the time) is not compiled anew.

What the compiler is given is counted and run as it is: the code it would write is torch's business.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.models import load_model
from engine.models.loading import Extras
from engine.models.multiview import MultiViewGuide
from engine.models.view_attention import ViewAttention
from engine.models.view_lines import Line, SharedLines
from tests.tiny_families import write_tiny_multiview
from tests.tiny_models import LATENT, SD21_SCHEDULER, write_tiny_model

CPU = torch.device("cpu")
VIEWS, STEPS = 3, 5
ACROSS = ViewAttention(((0, 1), (0, 1, 2), (1, 2)), reference=0, until=0.5)


@pytest.fixture
def graphs(monkeypatch):
    """What was compiled."""
    found, plain = [], nn.Module.compile

    def backend(graph, inputs):
        found.append(graph)
        return graph.forward
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: plain(self, backend=backend, fullgraph=True,
                                                                            **options))  # fmt: skip
    torch._dynamo.reset()
    yield found
    torch._dynamo.reset()


def compiled_per_step(folder, graphs, adapter="", **more):
    """How often something was compiled in each step, and that the answers are those of the plain network."""
    x = torch.randn(VIEWS, 4, LATENT, LATENT, generator=torch.Generator().manual_seed(7))
    models = [load_model(f"{folder}+none", CPU, torch.float32, extras=Extras(compiled=compiled, multiview=adapter))
              for compiled in (False, True)]  # fmt: skip
    plain, fast = (model.denoiser(["a red brick"] * VIEWS, [""] * VIEWS, None, 4.0, **more) for model in models)
    counts = []
    for level in models[0].levels(STEPS)[:-1]:
        before = len(graphs)
        torch.testing.assert_close(fast(x, level), plain(x, level), rtol=1e-4, atol=1e-4)
        counts.append(len(graphs) - before)
    return counts


def test_views_that_look_across_are_compiled_with_and_without_a_reference(tmp_path, graphs):
    """Timesteps 801, 601, 401, 201, 1: the reference is looked at above 500, in two steps."""
    folder = write_tiny_model(tmp_path / "model", control=False)
    assert compiled_per_step(folder, graphs, attention=ACROSS) == [1, 0, 1, 0, 0]


def test_a_multi_view_adapter_is_compiled_once_for_each_size_of_batch(tmp_path, graphs):
    """Guidance acts in the second to fourth step: batches of 3, 6, 6, 6 and 3 views."""
    folder = write_tiny_model(tmp_path / "model", SD21_SCHEDULER, control=False)
    unet = load_model(f"{folder}+none", CPU, torch.float32).unet
    adapter = write_tiny_multiview(tmp_path / "adapter", unet, "mvadapter_tg2mv_sd21.safetensors")
    side = LATENT * 8
    guide = MultiViewGuide(torch.rand(VIEWS, 6, side, side), SharedLines((Line((0, 1, 2)),), VIEWS))
    found = compiled_per_step(folder, graphs, str(adapter), multiview=guide, interval=(0.3, 0.9))
    assert found == [1, 1, 0, 0, 0]
