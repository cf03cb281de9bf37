# SPDX-License-Identifier: Apache-2.0
"""What the families with a U-Net have in common: Stable Diffusion 1.x, 2.x and XL, and `swatch`.

diffusers supplies the networks; the denoising loop is ours, so that a synchronizer can stand between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from blender_addon.jobs.errors import ModelError, SettingsError
from engine.device import constant, memory_guard
from engine.models.bound import (
    FEATURE_MAPS,
    Batch,
    BoundControl,
    BoundDenoiser,
    BoundNetwork,
    TextGuidance,
    no_reuse,
    stacked,
)
from engine.models.codec import Codec
from engine.models.controls import Control, ControlNet, as_controls, bind, check_controls, residuals
from engine.models.depot import Depot
from engine.models.edits import IMAGE_GUIDANCE, EditGuidance, check_use, raw_latents
from engine.models.multiview import Adapter, MultiViewGuide
from engine.models.style import Style
from engine.models.text import ClipText, readable, spread, too_long, unknown_words
from engine.models.view_attention import ViewAttention
from engine.schedule import Level, levels_from_config


@dataclass(frozen=True)
class UNetModel:
    """A loaded model with a U-Net; see `engine.models.Model` for what its members promise.

    readers: one CLIP for SD 1.x and 2.x; two for XL, whose features are joined and whose last one also gives a summary.
    extra: what is joined to the latents as further channels: "depth" (SD 2 depth), "image" (InstructPix2Pix) or "".
    """

    name: str
    view_size: int
    default_guidance: float
    default_guidance_rescale: float
    default_steps: int
    known_words: dict[str, Any] | None
    info: dict[str, Any] = field(repr=False)
    unet: nn.Module = field(repr=False)
    controlnets: tuple[ControlNet, ...] = field(repr=False)
    codec_: Codec = field(repr=False)
    readers: tuple[ClipText, ...] = field(repr=False)
    scheduler: dict[str, Any] = field(repr=False)  # scheduler_config.json
    device: torch.device
    dtype: torch.dtype
    depot: Depot = field(repr=False)
    style: Style | None = field(default=None, repr=False)
    multiview: Adapter | None = field(default=None, repr=False)
    extra: str = ""
    empty_is_zero: bool = False  # an empty avoided text is no text at all (XL)

    @property
    def factor(self) -> int:
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

    @property
    def edits(self) -> bool:
        """Whether it changes pictures by instructions."""
        return self.extra == "image"

    @property
    def follows_mesh(self) -> bool:
        """Whether it reads pictures of the mesh: by ControlNets, or depth in the U-Net itself."""
        return bool(self.controlnets) or self.extra == "depth"

    @property
    def controlnet(self) -> nn.Module | None:
        """The first ControlNet's network, without its first layers, which are `depth_embedding`."""
        return self.controlnets[0].net if self.controlnets else None

    @property
    def depth_embedding(self) -> nn.Module | None:
        return self.controlnets[0].embedding if self.controlnets else None

    @property
    def tokenizer(self) -> Any:
        return self.readers[0].tokenizer

    @property
    def text_encoder(self) -> nn.Module:
        return self.readers[0].encoder

    def encode(self, rgb: Tensor) -> Tensor:
        return self.codec_.encode(rgb)

    def decode(self, latents: Tensor, refine: bool = True) -> Tensor:
        return self.codec_.decode(latents, refine)

    def levels(self, steps: int, strength: float = 1.0, size: int | None = None) -> list[Level]:
        """`steps + 1` levels of the model's own noise schedule, fewer with `strength` below 1; the last is clean."""
        return levels_from_config(self.scheduler, steps, strength)

    def readable(self, text: str) -> str:
        """What is read of `text`: all of it, or for a small model the words it knows."""
        return readable(text, self.known_words)

    def prompt_notes(self, prompt: str) -> list[str]:
        """Sentences about the words of `prompt` that will not be read: unknown to a small model, or too many."""
        unknown = unknown_words(prompt, self.known_words) if self.known_words else []
        notes = [f"{self.name} does not know: {', '.join(unknown)}."] if unknown else []
        return notes + too_long(self.name, self.readers, self.readable(prompt))

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """What the U-Net reads of the texts, [len(texts), L, D]."""
        return self.read(texts)["text"]

    def read(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Features "text" [n,L,D], and for XL "pooled" [n,P]; each distinct text is encoded once."""
        return spread([self.readable(text) for text in texts], self._read)

    def _read(self, texts: Sequence[str]) -> dict[str, Tensor]:
        self.depot.bring("text")
        found = [reader.read(texts) for reader in self.readers]
        text = torch.cat([features.to(self.dtype) for features, _ in found], -1)
        return {"text": text, "pooled": found[-1][1].to(self.dtype)} if len(found) > 1 else {"text": text}

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
        image_guidance: float = IMAGE_GUIDANCE,
        tell: Callable[[str], None] | None = None,
        multiview: MultiViewGuide | None = None,
        reuse: float = 0.0,
    ) -> BoundDenoiser:
        """See `engine.models.Model.denoiser`. The U-Net's batch is [avoided texts of views 0..N-1, prompts of them].

        image: [N,3,H,W] in -1..1, what a model that edits is to change, kept to with the strength `image_guidance`.
        """
        controls, views = as_controls(control), len(prompts)
        if len(avoids) != views:
            raise ValueError(f"{views} prompts, {len(avoids)} avoids")
        check_controls(controls, views, self.factor, self.name, self.view_size)
        check_use(self.name, self.edits, image)
        if reuse:
            raise no_reuse(self.name)
        if self.known_words and any(one.kind != "depth" for one in controls):
            raise SettingsError(f"{self.name} follows depth only.", "Set control to depth.", key="control")
        asked: Any = self._guidance(guidance, guidance_rescale, interval)
        if image is not None:
            asked = EditGuidance(guidance, image_guidance)
        with memory_guard(self.device, "Preparing the views"), torch.no_grad():
            extra, controls = self._extra(controls)
            given = self._texts(asked.texts(prompts, avoids), avoids, asked.parts)
            given |= self._guidance_embedding(guidance, views, asked.parts)
            if extra is not None:
                given["beside"] = extra[None].expand(asked.parts, -1, -1, -1, -1)
            if image is not None:
                given["beside"] = asked.beside(raw_latents(self, image))
            if style is not None:
                given |= self._style(*style, views, asked.parts)
            self.depot.bring("networks")
            bound = bind(self.controlnets, controls, control_scale, self.name, self.dtype)
            given |= self._multiview(multiview, asked.parts)
        lines = None if multiview is None else multiview.lines
        network = BoundNetwork(self, views, given, asked, bound, Batch(chunk, tell), attention, lines)
        return BoundDenoiser(network, self.scheduler.get("prediction_type", "epsilon"))

    def _guidance(self, scale: float, rescale: float, interval: tuple[float, float]) -> TextGuidance:
        """A U-Net distilled with guidance (LCM) is told its scale and needs no second part."""
        return TextGuidance(1.0 if self._told_guidance else scale, rescale, interval)

    @property
    def _told_guidance(self) -> int:
        """Width of the embedding in which the U-Net is told the guidance; 0 where it is not."""
        return self.unet.config.get("time_cond_proj_dim") or 0

    def _guidance_embedding(self, guidance: float, views: int, parts: int) -> dict[str, Tensor]:
        """Sines and cosines of w = guidance - 1 (Luo et al. 2023, §4.1; as the timestep, w in thousandths)."""
        if not self._told_guidance:
            return {}
        half = self._told_guidance // 2
        rates = torch.exp(torch.arange(half) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
        angles = (guidance - 1) * 1000 * rates
        told = torch.cat([angles.sin(), angles.cos(), torch.zeros(self._told_guidance % 2)])
        return {"told": told.to(self.device, self.dtype).expand(parts, views, -1)}

    def _texts(self, texts: list[str], avoids: list[str], parts: int) -> dict[str, Tensor]:
        given = {name: stacked(tensor, parts) for name, tensor in self.read(texts).items()}
        if self.empty_is_zero and parts > 1:
            for name, tensor in given.items():
                given[name] = tensor.clone()
                given[name][0, [not text.strip() for text in avoids]] = 0
        return given

    def _extra(self, controls: list[Control]) -> tuple[Tensor | None, list[Control]]:
        """The channels joined to the latents [N,c,h,w], and the controls that are left for ControlNets."""
        if self.extra != "depth":
            return None, [] if self.edits and not self.controlnets else controls
        depth = next((one.image for one in controls if one.kind == "depth"), None)
        if depth is None:
            raise SettingsError(f"{self.name} needs the depth of the mesh, and control does not name it.",
                                "Set control to depth.", key="control")  # fmt: skip
        small = interpolate(depth.float(), [side // self.factor for side in depth.shape[-2:]], mode="bicubic")
        low, high = small.amin((1, 2, 3), keepdim=True), small.amax((1, 2, 3), keepdim=True)
        small = 2 * (small - low) / (high - low).clamp(min=1e-6) - 1
        return small.to(self.device, self.dtype), [one for one in controls if one.kind != "depth"]

    def _style(self, picture: Tensor, scale: float, views: int, parts: int) -> dict[str, Tensor]:
        if self.style is None:
            raise ModelError(f'Model "{self.name}" was loaded without a style adapter.', "Name one in style_adapter.")
        scales = torch.full((parts, views), scale)  # read by the processor in each step, so it stays in main memory
        return {"style": self.style.bound(picture, views, parts), "style_scale": scales}

    def _multiview(self, guide: MultiViewGuide | None, parts: int) -> dict[str, Tensor]:
        """What the multi-view adapter adds to the U-Net's features, "depth0", "depth1", ..., the same for all parts."""
        if guide is None:
            return {}
        if self.multiview is None:
            raise ModelError(f'Model "{self.name}" was loaded without a multi-view adapter.', "Name one in multiview.")
        step = self.multiview.multiple
        if any(side % step for side in guide.image.shape[-2:]):
            raise SettingsError(f"The multi-view adapter needs views whose sides are multiples of {step} px, not "
                                f"{guide.image.shape[-1]}.", "Set view_size to 768.", key="view_size")  # fmt: skip
        found = self.multiview.features(guide.image)
        return {f"depth{k}": one.expand(parts, *one.shape) for k, one in enumerate(found)}

    def predict(self, sample: Tensor, timestep: float, given: Mapping[str, Tensor], controls: Sequence[BoundControl],
                parts: int) -> Tensor:  # fmt: skip
        """See `engine.models.bound.Networks`."""
        time = torch.full((), timestep, dtype=torch.float32, device=self.device)
        text, added = given["text"], {}
        if "pooled" in given:
            added = {"text_embeds": given["pooled"], "time_ids": self._sizes(sample)}
        more: dict[str, Any] = residuals(self.controlnets, controls, sample, time, text, added, parts)
        if "told" in given:
            more["timestep_cond"] = given["told"]
        if "depth0" in given:
            more["down_intrablock_additional_residuals"] = [given[key] for key in given if key.startswith("depth")]
        if "beside" in given:
            sample = torch.cat([sample, given["beside"]], 1)
        strength: Any = nullcontext()
        if "style" in given:
            added["image_embeds"] = [given["style"]]
            strength = self.style.strength(float(given["style_scale"][0]))
        if added:
            more["added_cond_kwargs"] = added
        with strength:
            return self.unet(sample, time, text, return_dict=False, **more)[0]

    def _sizes(self, sample: Tensor) -> Tensor:
        """XL's micro-conditioning [B,6]: original height and width, crop's top and left, wanted height and width."""
        height, width = (side * self.factor for side in sample.shape[-2:])
        return constant((height, width, 0, 0, height, width), sample.dtype, sample.device).expand(len(sample), -1)

    def view_bytes(self, height: int, width: int) -> int:
        """See `engine.models.bound.Networks`."""
        return FEATURE_MAPS * self.unet.config.block_out_channels[0] * height * width * self.dtype.itemsize
