# SPDX-License-Identifier: Apache-2.0
"""What guides a model besides the prompt: pictures of the mesh, and the ControlNets that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from blender_addon.jobs.controls import KINDS
from blender_addon.jobs.errors import ModelError, SettingsError
from engine.models.bound import BoundControl, repeated

# Number of each kind in ControlNets that read several (xinsir's union for SDXL; its order is the published one).
UNION_TYPES = {"depth": 1, "canny": 3, "normal": 4}


@dataclass(frozen=True)
class Control:
    """One picture of the mesh for every view.

    image: [N,1 or 3,H,W] in 0..1. Depth: near is bright, background 0. start, end: shares of the noise levels from the
        noisiest between which it guides.
    """

    kind: str
    image: Tensor
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SettingsError(f"control is {self.kind!r}; allowed: {', '.join(KINDS)}.", key="control")


@dataclass(frozen=True)
class ControlNet:
    """A ControlNet of a U-Net without its first layers, which are run once per job: `embedding`."""

    net: nn.Module = field(repr=False)
    embedding: nn.Module = field(repr=False)
    name: str = ""

    @property
    def union(self) -> bool:
        """Whether it reads every kind, and is told which."""
        return hasattr(self.net, "task_embedding")

    @property
    def reads_text(self) -> bool:
        blocks = [*self.net.down_blocks, self.net.mid_block]
        return any(getattr(block, "has_cross_attention", False) for block in blocks) or bool(
            self.net.config.get("addition_embed_type"))

    def features(self, image: Tensor, dtype: torch.dtype) -> Tensor:
        """Its embedding [N,c,h,w] of a picture [N,1 or 3,H,W], which forward() would compute again in each step."""
        config = self.net.config
        image = image.expand(-1, config.conditioning_channels, -1, -1).to(self.net.device, dtype)
        if config.controlnet_conditioning_channel_order == "bgr":
            image = image.flip(1)
        # taken out of the net, the embedding no longer moves with it where a model's parts take turns on a card
        self.embedding.to(self.net.device)
        found = torch.cat([self.embedding(one) for one in image.split(1 if image.is_cuda else len(image))])
        # forward() flips the channels of what it takes for the image, which now is the embedding
        return found.flip(1) if config.controlnet_conditioning_channel_order == "bgr" else found


def without_embedding(net: nn.Module, name: str = "") -> ControlNet:
    """Takes the first layers out of a freshly loaded ControlNet."""
    embedding, net.controlnet_cond_embedding = net.controlnet_cond_embedding, nn.Identity()
    return ControlNet(net, embedding, name)


def as_controls(control: Tensor | Sequence[Control] | None) -> list[Control]:
    """A bare tensor is depth."""
    if control is None:
        return []
    return [Control("depth", control)] if isinstance(control, Tensor) else list(control)


def check_controls(controls: Sequence[Control], views: int, factor: int, name: str, trained: int) -> None:
    """Raises ValueError for a wrong number of pictures, `SettingsError` for a size that the codec cannot take."""
    for one in controls:
        if len(one.image) != views:
            raise ValueError(f"{views} prompts, {len(one.image)} pictures of {one.kind}")
        if any(side % factor for side in one.image.shape[-2:]):
            sides = " x ".join(str(side) for side in one.image.shape[-2:])
            raise SettingsError(f"view_size is {sides}; {name} needs a multiple of {factor}.",
                                f"{name} was trained at {trained}.", key="view_size")  # fmt: skip


def paired(nets: Sequence[Any], controls: Sequence[Control], name: str, union: bool) -> list[tuple[int, Control]]:
    """Which network reads which picture: the first the first, and so on; one for several kinds reads all."""
    if not nets and controls:
        raise ModelError(f'Model "{name}" was loaded without a ControlNet, so it cannot follow the mesh.',
                         "Name one after a plus sign: MODEL+CONTROLNET.")  # fmt: skip
    if len(nets) == 1 and union:
        return [(0, one) for one in controls]
    if len(controls) > len(nets):
        kinds = ", ".join(one.kind for one in controls)
        raise SettingsError(
            f"control is {kinds!r}, and {name} has {len(nets)} ControlNet{'s' if len(nets) > 1 else ''}.",
            "Name one for each kind after plus signs, in the same order: MODEL+CONTROLNET+CONTROLNET.", key="control",
        )  # fmt: skip
    return list(enumerate(controls))


def bind(nets: Sequence[ControlNet], controls: Sequence[Control], scale: float, name: str,
         dtype: torch.dtype) -> tuple[BoundControl, ...]:  # fmt: skip
    """The pictures embedded, once for the whole job; `scale` multiplies the strength of each. None of strength 0."""
    wanted = [one for one in controls if one.scale * scale]
    union = any(net.union for net in nets)
    return tuple(
        BoundControl(nets[number].features(one.image, dtype), number, one.kind, one.scale * scale, one.start, one.end)
        for number, one in paired(nets, wanted, name, union)
    )


def residuals(nets: Sequence[ControlNet], controls: Sequence[BoundControl], sample: Tensor, time: Tensor,
              text: Tensor, added: Mapping[str, Tensor], parts: int) -> dict[str, Any]:  # fmt: skip
    """What the ControlNets add to the U-Net's features; {} without any.

    A ControlNet that reads no text gives all parts the same: it runs once.
    """
    sums: tuple[list[Tensor], Tensor] | None = None
    for number, net in enumerate(nets):
        mine = [one for one in controls if one.net == number]
        if not mine:
            continue
        once = parts > 1 and not net.reads_text
        count = len(sample) // parts if once else len(sample)
        more = {"added_cond_kwargs": dict(added)} if added else {}
        mine = [replace(one, features=one.features[:count]) for one in mine]
        down, middle = _run(net, mine, sample[:count], time, text[:count], more)
        if once:
            down, middle = [repeated(one, parts) for one in down], repeated(middle, parts)
        if sums is not None:
            down, middle = [a + b for a, b in zip(sums[0], down, strict=True)], sums[1] + middle
        sums = (down, middle)
    if sums is None:
        return {}
    return {"down_block_additional_residuals": sums[0], "mid_block_additional_residual": sums[1]}


def _run(net: ControlNet, controls: Sequence[BoundControl], sample: Tensor, time: Tensor, text: Tensor,
         more: dict[str, Any]) -> tuple[list[Tensor], Tensor]:  # fmt: skip
    if not net.union:
        (one,) = controls
        down, middle = net.net(
            sample, time, text, one.features, conditioning_scale=one.scale, return_dict=False, **more
        )
        return list(down), middle
    places = [UNION_TYPES[one.kind] for one in controls]
    kinds = torch.zeros(len(sample), net.net.config.num_control_type, dtype=sample.dtype, device=sample.device)
    for place in places:  # one by one: a list of them would be moved to the card in each step
        kinds[:, place] = 1
    down, middle = net.net(
        sample, time, text, controlnet_cond=[one.features for one in controls], control_type=kinds,
        control_type_idx=places, conditioning_scale=[one.scale for one in controls], return_dict=False, **more,
    )  # fmt: skip
    return list(down), middle
