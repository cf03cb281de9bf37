# SPDX-License-Identifier: Apache-2.0
"""Self-attention of the U-Net that looks at other views of the job (SyncTweedies, Kim et al. 2024, §4; SyncMVD).

While one view is denoised, its queries meet the keys and values of its neighbours too, so that what is painted at a
border is painted alike on both sides. At the noisiest levels every view also looks at one reference view, and the two
answers are averaged, which keeps one style all around. Nothing is trained; cross-attention to the prompt and the
ControlNet stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from blender_addon.jobs.records import Camera
from engine.cameras import frontmost, neighbours

NOISIEST = 1000.0  # timestep of pure noise
CPU = torch.device("cpu")
SELF_ATTENTION = "attn1.processor"


@dataclass(frozen=True)
class ViewAttention:
    """Which views each view looks at. `N` views, numbered from 0.

    neighbours: for each view the views its queries meet, itself included.
    reference: the view that all look at while the timestep is in the noisiest `until` 0..1 of all; None: there is none.
    """

    neighbours: tuple[tuple[int, ...], ...]
    reference: int | None = None
    until: float = 0.0

    def only(self, views: Sequence[int]) -> ViewAttention:
        """The same among these views, renumbered in their order; who is not there is not looked at."""
        place = {view: k for k, view in enumerate(views)}
        kept = tuple(tuple(place[other] for other in self.neighbours[view] if other in place) for view in views)
        return ViewAttention(kept, place.get(self.reference), self.until)

    def reference_at(self, timestep: float) -> int | None:
        return self.reference if timestep > (1 - self.until) * NOISIEST else None


def view_attention(cameras: Sequence[Camera], settings: Mapping[str, Any]) -> ViewAttention | None:
    """What the settings `view_attention` and `reference_until` mean for these cameras; None: each view by itself."""
    chosen = settings["view_attention"]
    if chosen == "off" or len(cameras) < 2:
        return None
    reference = frontmost(cameras) if chosen == "neighbours+reference" else None
    return ViewAttention(neighbours(cameras), reference, settings["reference_until"])


@contextmanager
def looking_across(unet: nn.Module, attention: ViewAttention | None, timestep: float) -> Iterator[None]:
    """While this lasts, the U-Net's self-attention looks across views. Its batch is all N views, once or several times
    over (avoided texts, prompts): parts of it do not see each other.
    """
    if attention is None:
        yield
        return
    before, device = dict(unet.attn_processors), next(unet.parameters()).device
    across = {name: AcrossViews(inner, attention, timestep, device) if name.endswith(SELF_ATTENTION) else inner
              for name, inner in before.items()}
    unet.set_attn_processor(across)
    try:
        yield
    finally:
        unet.set_attn_processor(before)


class AcrossViews:
    """An attention processor around another, which is given the other views' features to take keys and values from.

    device: where the features are.
    """

    def __init__(self, inner: Any, attention: ViewAttention, timestep: float, device: torch.device = CPU):
        self.inner, self.views, self.groups = inner, len(attention.neighbours), groups_of(attention, device)
        self.reference = attention.reference_at(timestep)

    def __call__(self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: None = None,
                 attention_mask: None = None, **more: Any) -> Tensor:
        """hidden_states [parts N,L,D], the features of all views of one part after the other; no mask is known here."""
        parts = hidden_states.unflatten(0, (-1, self.views))
        out = torch.empty_like(parts)
        for members, seen in self.groups:
            own, keys = parts[:, members].flatten(0, 1), parts[:, seen].flatten(2, 3).flatten(0, 1)
            out[:, members] = self.inner(attn, own, keys, **more).unflatten(0, (len(parts), -1))
        if self.reference is not None:
            keys = parts[:, self.reference : self.reference + 1].expand_as(parts).flatten(0, 1)
            out = (out + self.inner(attn, hidden_states, keys, **more).view_as(out)) / 2
        return out.flatten(0, 1)


@lru_cache(maxsize=16)
def groups_of(attention: ViewAttention, device: torch.device) -> tuple[tuple[Tensor, Tensor], ...]:
    """Views that look at equally many, and at which: numbers [n] and [n,k] on a device, moved there once for a job."""
    groups: dict[int, list[int]] = {}
    for view, seen in enumerate(attention.neighbours):
        groups.setdefault(len(seen), []).append(view)
    return tuple((torch.tensor(members, device=device),
                  torch.tensor([attention.neighbours[view] for view in members], device=device))
                 for members in groups.values())  # fmt: skip
