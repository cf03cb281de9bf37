# SPDX-License-Identifier: Apache-2.0
"""The networks with prompts, controls and guidance bound in: what every family's `denoiser` gives.

A family says how one batch goes through its networks (`Networks.predict`); here is everything that is alike in all of
them: the parts that guidance needs, batches of as many views as memory has room for, and stepping down when it has not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from blender_addon.jobs.errors import OutOfMemory, SettingsError
from engine.denoiser import guide, predicts_x0
from engine.device import constant, free_memory, memory_guard
from engine.memory import plan_views
from engine.models.view_attention import NOISIEST, ViewAttention, looking_across
from engine.models.view_lines import SharedLines
from engine.schedule import Level

FEATURE_MAPS = 100  # peak working memory of U-Net and ControlNet, counted in feature maps of the first level's width


class Networks(Protocol):
    """What a family lends to the bound network. B = parts x views of one batch, part by part."""

    device: torch.device
    dtype: torch.dtype

    def predict(self, sample: Tensor, timestep: float, given: Mapping[str, Tensor], controls: Sequence[BoundControl],
                parts: int) -> Tensor:
        """The networks' output [B,C,h,w] for `sample` [B,C,h,w]; every tensor of `given` and `controls` is [B, ...]."""

    def view_bytes(self, height: int, width: int) -> int:
        """Working memory for one part of one view of latents height x width (an estimate)."""


class Guidance(Protocol):
    """How the predictions of the parts become one."""

    parts: int  # what the networks are given is stacked as [parts, views, ...], the prompts' part last

    def active(self, timestep: float) -> bool:
        """Whether all parts are needed at this noise level; else only the last one runs."""

    def combine(self, outputs: Tensor) -> Tensor:
        """[parts,n,C,h,w] -> [n,C,h,w]."""

    def texts(self, prompts: Sequence[str], avoids: Sequence[str]) -> list[str]:
        """The texts of all parts, part by part."""


@dataclass(frozen=True)
class TextGuidance:
    """Classifier-free guidance (Ho and Salimans 2022): parts are [avoided texts, prompts].

    interval: (start, end) as shares of the noise levels from the noisiest; outside of it only the prompt counts, and
        the work is halved (Kynkäänniemi et al. 2024). rescale: see `engine.denoiser.guide`.
    """

    scale: float
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)

    @property
    def parts(self) -> int:
        return 1 if self.scale == 1 else 2

    def active(self, timestep: float) -> bool:
        return within(timestep, *self.interval)

    def combine(self, outputs: Tensor) -> Tensor:
        return guide(outputs[1], outputs[0], self.scale, self.rescale) if len(outputs) == 2 else outputs[0]

    def texts(self, prompts: Sequence[str], avoids: Sequence[str]) -> list[str]:
        return list(prompts) if self.parts == 1 else [*avoids, *prompts]


@dataclass(frozen=True)
class BoundControl:
    """One control image of every view, as its network wants it. `features` [N, ...]; `net`: which of the family's."""

    features: Tensor
    net: int
    kind: str
    scale: float
    start: float = 0.0
    end: float = 1.0

    def active(self, timestep: float) -> bool:
        return self.scale != 0 and within(timestep, self.start, self.end)


def within(timestep: float, start: float, end: float) -> bool:
    """Whether a timestep (0..1000, 1000 noisiest) lies in start..end of the noise levels, counted from the noisiest."""
    share = 1 - timestep / NOISIEST
    return start <= share and (share < end or end >= 1)


class Batch:
    """How many views go through the networks at once. Shared by the denoiser of all views and those of some.

    Steps down once, to half, when memory runs out in the middle of a run; `tell` hears of it.
    """

    def __init__(self, views: int | None, tell: Callable[[str], None] | None = None):
        self.views, self.stepped, self.tell = views, False, tell or (lambda sentence: None)

    def step_down(self, now: int) -> bool:
        """Whether there is a smaller batch to try instead of `now` views."""
        if self.stepped or now < 2:
            return False
        self.views, self.stepped = now // 2, True
        self.tell(f"Memory ran out with {now} views at once; going on with {self.views}, which takes longer.")
        return True


@dataclass(frozen=True)
class BoundDenoiser:
    """D(x, level) -> x0 of the views of a job, and of some of them."""

    network: BoundNetwork
    prediction: str

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        return predicts_x0(self.network, self.prediction)(x, level)

    def only(self, views: Sequence[int]) -> BoundDenoiser:
        """The denoiser of these views, in this order."""
        return replace(self, network=self.network.only(list(views)))

    def unguided(self) -> BoundDenoiser:
        """The denoiser of the prompts alone, as if guidance were 1."""
        return replace(self, network=replace(self.network, guidance=TextGuidance(1.0)))


@dataclass(frozen=True)
class BoundNetwork:
    """The networks' guided prediction for all views: `network(x [N,C,h,w], timestep) -> [N,C,h,w]` float32.

    given: what the family's networks are told besides x, each [parts, N, ...]; "beside" is joined to x as channels.
    """

    model: Networks
    views: int
    given: dict[str, Tensor]
    guidance: Guidance
    controls: tuple[BoundControl, ...] = ()
    batch: Batch = field(default_factory=lambda: Batch(None))
    attention: ViewAttention | None = None  # then all views are one batch
    lines: SharedLines | None = None  # as then
    numbers: tuple[int, ...] | None = None  # of the views among those of the job; None: they are all of them

    @property
    def coupled(self) -> bool:
        """Whether the networks let the views look at each other, so that they may not be parted."""
        return self.attention is not None or self.lines is not None

    def only(self, views: list[int]) -> BoundNetwork:
        def at(tensor: Tensor) -> Tensor:
            return constant(tuple(views), torch.long, tensor.device)

        controls = tuple(replace(one, features=one.features[at(one.features)]) for one in self.controls)
        given = {name: tensor[:, at(tensor)] for name, tensor in self.given.items()}
        across = None if self.attention is None else self.attention.only(views)
        lines = None if self.lines is None else self.lines.only(views)
        return replace(self, views=len(views), given=given, controls=controls, attention=across, lines=lines,
                       numbers=tuple(views if self.numbers is None else (self.numbers[view] for view in views)))

    @torch.no_grad()
    def __call__(self, x: Tensor, timestep: float) -> Tensor:
        if len(x) != self.views:
            raise ValueError(f"this denoiser was made for {self.views} views, not for {len(x)}")
        parts = self.guidance.parts if self.guidance.active(timestep) else 1
        chunk = self._views_at_once(x, parts)
        try:
            return self._pieces(x, timestep, parts, chunk)
        except OutOfMemory:
            if self.coupled or not self.batch.step_down(chunk):
                raise
        return self._pieces(x, timestep, parts, min(chunk, self.batch.views))

    def _views_at_once(self, x: Tensor, parts: int) -> int:
        if self.coupled:
            return self.views
        return min(self.batch.views or views_at_once(self.model, x, parts), self.views)

    def _pieces(self, x: Tensor, timestep: float, parts: int, chunk: int) -> Tensor:
        model = self.model
        depot = getattr(model, "depot", None)
        if depot is not None:
            depot.bring("networks")
        sample = x.to(model.device, model.dtype)
        unet, adapter = getattr(model, "unet", None), getattr(model, "multiview", None)
        along = nullcontext() if adapter is None else adapter.looking_along(unet, self.lines, tuple(sample.shape[-2:]))
        with memory_guard(model.device, "Denoising the views"), looking_across(unet, self.attention, timestep), along:
            pieces = [self._piece(sample, timestep, slice(at, at + chunk), parts) for at in range(0, self.views, chunk)]
        return torch.cat(pieces).to(x.device)

    def _piece(self, sample: Tensor, timestep: float, views: slice, parts: int) -> Tensor:
        given = {name: tensor[-parts:, views].flatten(0, 1) for name, tensor in self.given.items()}
        controls = [replace(one, features=repeated(one.features[views], parts))
                    for one in self.controls if one.active(timestep)]  # fmt: skip
        batch = repeated(sample[views], parts)
        numbers = (self.numbers or tuple(range(self.views)))[views]
        with getattr(self.model, "remembering", nullcontext)((parts, numbers)):
            output = self.model.predict(batch, timestep, given, controls, parts).float().unflatten(0, (parts, -1))
        return self.guidance.combine(output) if parts == self.guidance.parts else output[-1]


def no_reuse(name: str) -> SettingsError:
    """For the families that cannot take layers' answers over from earlier steps."""
    return SettingsError(f"{name} cannot leave layers out: reuse is for FLUX without a ControlNet.", "Set reuse to 0.",
                         key="reuse")  # fmt: skip


def repeated(tensor: Tensor, parts: int) -> Tensor:
    """[n, ...] -> [parts n, ...], part by part."""
    return tensor if parts == 1 else tensor.repeat(parts, *[1] * (tensor.ndim - 1))


def stacked(tensor: Tensor, parts: int) -> Tensor:
    """[parts n, ...] -> [parts, n, ...] for `BoundNetwork.given`."""
    return tensor.unflatten(0, (parts, -1))


def views_at_once(model: Any, x: Tensor, parts: int) -> int:
    """How many views go through the networks at once."""
    one = model.view_bytes(*x.shape[-2:]) * parts
    return plan_views(one, len(x), free_memory(model.device))
