# SPDX-License-Identifier: Apache-2.0
"""What the flow-matching families have in common: Stable Diffusion 3.x and FLUX, whose networks are transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from blender_addon.jobs.errors import ModelError, SettingsError
from engine.device import memory_guard
from engine.models.bound import Batch, BoundControl, BoundDenoiser, BoundNetwork, TextGuidance, no_reuse
from engine.models.codec import Codec, latent_scale
from engine.models.controls import Control, as_controls, check_controls, paired
from engine.models.depot import Depot
from engine.models.multiview import MultiViewGuide
from engine.models.style import Style
from engine.models.text import ClipText, T5Text, too_long
from engine.models.view_attention import ViewAttention

TOKEN_MAPS = 60  # peak working memory of a transformer, counted in token features of its full width


@dataclass(frozen=True)
class FlowModel:
    """A loaded flow-matching model; see `engine.models.Model` for what its members promise. Families complete it."""

    name: str
    view_size: int
    default_guidance: float
    default_steps: int
    info: dict[str, Any] = field(repr=False)
    transformer: nn.Module = field(repr=False)
    controlnets: tuple[nn.Module, ...] = field(repr=False)
    codec_: Codec = field(repr=False)
    clips: tuple[ClipText, ...] = field(repr=False)
    t5: T5Text | None = field(repr=False)
    scheduler: dict[str, Any] = field(repr=False)  # scheduler_config.json
    device: torch.device
    dtype: torch.dtype
    depot: Depot = field(repr=False)
    default_guidance_rescale: float = 0.0
    known_words: None = None
    edits: bool = False
    style: Style | None = field(default=None, repr=False)

    @property
    def factor(self) -> int:
        """View pixels per latent cell."""
        return self.codec_.factor

    @property
    def channels(self) -> int:
        return self.codec_.channels

    @property
    def cheap_codec(self) -> bool:
        return self.codec_.linear

    @property
    def codec(self) -> nn.Module:
        return self.codec_.module

    def encode(self, rgb: Tensor) -> Tensor:
        return self.codec_.encode(rgb)

    def decode(self, latents: Tensor, refine: bool = True) -> Tensor:
        return self.codec_.decode(latents, refine)

    def prompt_notes(self, prompt: str) -> list[str]:
        """A sentence about the end of a prompt that not even the text encoder that reads most of it reads."""
        return too_long(self.name, [*self.clips, *([self.t5] if self.t5 else [])], prompt)

    def denoiser(  # noqa: PLR0913 one for each thing that is bound
        self,
        prompts: list[str],
        avoids: list[str],
        control: Tensor | Sequence[Control] | None,
        guidance: float,
        guidance_rescale: float = 0.0,
        control_scale: float = 1.0,
        chunk: int | None = None,
        attention: ViewAttention | None = None,
        interval: tuple[float, float] = (0.0, 1.0),
        style: tuple[Tensor, float] | None = None,
        image: Tensor | None = None,
        image_guidance: float = 1.5,
        tell: Callable[[str], None] | None = None,
        multiview: MultiViewGuide | None = None,
        reuse: float = 0.0,
    ) -> BoundDenoiser:
        """See `engine.models.Model.denoiser`."""
        self._refuse(attention, style, image, multiview)
        controls, views = as_controls(control), len(prompts)
        if len(avoids) != views:
            raise ValueError(f"{views} prompts, {len(avoids)} avoids")
        check_controls(controls, views, 2 * self.factor, self.name, self.view_size)  # patches of two by two cells
        self.begin(reuse, controls)
        asked = self.guided(guidance, guidance_rescale, interval)
        with memory_guard(self.device, "Preparing the views"), torch.no_grad():
            self.depot.bring("text")
            given = self.texts(asked.texts(prompts, avoids), asked.parts, guidance)
            wanted = [one for one in controls if one.scale * control_scale]
            given, wanted = self.beside(given, wanted, asked.parts)
            if style is not None:
                scales = torch.full((asked.parts, views), style[1])  # for the processor, as in the U-Nets
                given |= {"style": self.style.bound(style[0], views, asked.parts), "style_scale": scales}
            bound = self.bind(wanted, control_scale)
        return BoundDenoiser(BoundNetwork(self, views, given, asked, bound, Batch(chunk, tell)), "flow_prediction")

    def _refuse(self, attention: ViewAttention | None, style: Any, image: Tensor | None, multiview: Any) -> None:
        if multiview is not None:
            raise SettingsError(f"{self.name} takes no multi-view adapter.",
                                "Leave multiview empty, or use SDXL or SD 2.1.", key="multiview")  # fmt: skip
        if attention is not None:
            raise SettingsError(f"view_attention is not known for {self.name}, whose network is no U-Net.",
                                "Set view_attention to 'off'.", key="view_attention")  # fmt: skip
        if style is not None and self.style is None:
            raise SettingsError(f"{self.name} was loaded without a style adapter.",
                                "Name one in style_adapter, or leave style_image empty.",
                                key="style_image")  # fmt: skip
        if image is not None:
            raise SettingsError(f'"{self.name}" cannot follow an instruction.',
                                "Choose an InstructPix2Pix model, or another method.", key="model")  # fmt: skip

    def styled(self, given: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """While this lasts, the style adapter is as strong as this batch asks."""
        return self.style.strength(float(given["style_scale"][0])) if "style" in given else nullcontext()

    def begin(self, reuse: float, controls: Sequence[Control]) -> None:
        """Prepares the transformer for a new denoiser that takes over what hardly changes; see the setting `reuse`."""
        if reuse:
            raise no_reuse(self.name)

    def guided(self, scale: float, rescale: float, interval: tuple[float, float]) -> TextGuidance:
        return TextGuidance(scale, rescale, interval)

    def texts(self, texts: list[str], parts: int, guidance: float) -> dict[str, Tensor]:
        """What the networks are told, each [parts, N, ...]."""
        raise NotImplementedError

    def beside(self, given: dict[str, Tensor], controls: list[Control],
               parts: int) -> tuple[dict[str, Tensor], list[Control]]:  # fmt: skip
        """Joins what the transformer itself reads of the controls; gives the rest, for ControlNets."""
        return given, controls

    def bind(self, controls: Sequence[Control], scale: float) -> tuple[BoundControl, ...]:
        return tuple(
            BoundControl(self.control_features(one, self.controlnets[number]), number, one.kind, one.scale * scale,
                         one.start, one.end)
            for number, one in paired(self.controlnets, controls, self.name, self.reads_every_kind)
        )  # fmt: skip

    @property
    def joined(self) -> bool:
        """Whether the transformer itself reads a picture of the mesh."""
        return False

    @property
    def follows_mesh(self) -> bool:
        """Whether it reads pictures of the mesh."""
        return bool(self.controlnets) or self.joined

    @property
    def reads_every_kind(self) -> bool:
        return False

    def control_features(self, control: Control, net: nn.Module) -> Tensor:
        raise NotImplementedError

    def encode_control(self, image: Tensor, shifted: bool = True) -> Tensor:
        """Latents [N,C,h,w] of a control picture [N,1 or 3,H,W] in 0..1, the mode; `shifted` as the model's own are."""
        latents = self.encode(image.expand(-1, 3, -1, -1).float() * 2 - 1)
        if not shifted:
            scale, shift = latent_scale(self.codec)
            latents = latents + shift * scale
        return latents.to(self.device, self.dtype)

    def view_bytes(self, height: int, width: int) -> int:
        """See `engine.models.bound.Networks`."""
        config = self.transformer.config
        features = config.num_attention_heads * config.attention_head_dim
        return TOKEN_MAPS * features * (height * width // 4) * self.dtype.itemsize


def check_transformer(name: str, transformer: nn.Module, controlnets: Sequence[nn.Module], latents: int,
                      allowed: Sequence[int]) -> None:  # fmt: skip
    """Raises `ModelError` where parts of different models were put together."""
    config = transformer.config
    if config.in_channels not in allowed:
        raise ModelError(
            f'The transformer of model "{name}" takes {config.in_channels} channels, and its autoencoder makes '
            f"{latents}.",
            "Choose a text-to-image or depth model: inpainting and redux models have other inputs.",
        )
    width = config.num_attention_heads * config.attention_head_dim
    for net in controlnets:
        if net.config.num_attention_heads * net.config.attention_head_dim != width:
            raise ModelError(f'The ControlNet does not fit the transformer of model "{name}".',
                             "Choose a ControlNet made for this model.")  # fmt: skip
