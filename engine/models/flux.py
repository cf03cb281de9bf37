# SPDX-License-Identifier: Apache-2.0
"""FLUX.1 (Black Forest Labs 2024): latents as tokens of two by two cells, a CLIP for the summary and a T5 for the text.

Depth comes by a ControlNet, or joined to the latents in the models made for it (FLUX.1 Depth).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FirstBlockCacheConfig
from torch import Tensor, nn

from blender_addon.jobs.errors import ModelError, SettingsError
from engine.models.bound import BoundControl, TextGuidance, no_reuse, stacked
from engine.models.controls import Control
from engine.models.flow import FlowModel, check_transformer
from engine.models.folders import ModelFolder
from engine.models.loading import VAES, Wanted, codec_of, load_parts, model_info, settle
from engine.models.style import wanted_style
from engine.models.text import ClipText, T5Text, spread
from engine.schedule import Level, flow_shift, levels_from_config

CONTROL_CLASSES = ("FluxControlNetModel",)
USUAL_CONTROL = "InstantX/FLUX.1-dev-Controlnet-Union"
USUAL_STYLE = {"auto": ("XLabs-AI/flux-ip-adapter", "ip_adapter.safetensors")}
UNION_MODES = {"canny": 0, "depth": 2}  # of the published union; it has none for normals
T5_LENGTH = 512
VIEW = 1024


@dataclass(frozen=True)
class Flux(FlowModel):
    """A loaded model of this family."""

    @property
    def told_guidance(self) -> bool:
        """The guidance is an input of the network (FLUX.1 dev): avoided texts are not read, one part is enough."""
        return bool(self.transformer.config.guidance_embeds)

    @property
    def joined(self) -> bool:
        """The control's latents are joined to the noisy ones (FLUX.1 Depth, FLUX.1 Canny)."""
        return self.transformer.config.in_channels == 8 * self.channels

    @property
    def reads_every_kind(self) -> bool:
        return any(net.union for net in self.controlnets)

    def begin(self, reuse: float, controls: Sequence[Control]) -> None:
        """Diffusers' FirstBlockCache: where the first block's answer differs by less than the share `reuse` from that
        of the last whole pass, the other blocks' sum of that pass is taken again. What was kept of another job goes.

        ControlNets are left out: what they add would be taken twice.
        """
        if self.transformer.is_cache_enabled:
            self.transformer.disable_cache()
        if reuse and self.controlnets and controls:
            raise no_reuse(self.name)
        if reuse:
            self.transformer.enable_cache(FirstBlockCacheConfig(threshold=reuse))

    @contextmanager
    def remembering(self, batch: Hashable) -> Iterator[None]:
        """While this lasts, what is kept is that of this batch of views."""
        if not self.transformer.is_cache_enabled:
            yield
            return
        with self.transformer.cache_context(str(batch)):
            yield

    def levels(self, steps: int, strength: float = 1.0, size: int | None = None) -> list[Level]:
        tokens = ((size or self.view_size) // (2 * self.factor)) ** 2
        return levels_from_config(self.scheduler, steps, strength, mu=flow_shift(self.scheduler, tokens), even=True)

    def guided(self, scale: float, rescale: float, interval: tuple[float, float]) -> TextGuidance:
        return TextGuidance(1.0 if self.told_guidance else scale, rescale, interval)

    def texts(self, texts: list[str], parts: int, guidance: float) -> dict[str, Tensor]:
        given = {name: stacked(tensor, parts) for name, tensor in spread(texts, self._read).items()}
        if self.told_guidance or any(net.config.guidance_embeds for net in self.controlnets):
            given["guidance"] = torch.full(given["pooled"].shape[:2], guidance, device=self.device)
        return given

    def _read(self, texts: Sequence[str]) -> dict[str, Tensor]:
        return {"text": self.t5.read(texts).to(self.dtype), "pooled": self.clips[0].read(texts)[1].to(self.dtype)}

    def beside(self, given: dict[str, Tensor], controls: list[Control],
               parts: int) -> tuple[dict[str, Tensor], list[Control]]:  # fmt: skip
        if not self.joined:
            return given, controls
        if not controls:
            raise SettingsError(f"{self.name} needs a picture of the mesh to follow, and control_scale is 0.",
                                "Set control_scale above 0.", key="control_scale")  # fmt: skip
        tokens = pack(self.encode_control(controls[0].image))
        return given | {"beside": tokens.expand(parts, *tokens.shape)}, controls[1:]

    def control_features(self, control: Control, net: nn.Module) -> Tensor:
        if net.union and control.kind not in UNION_MODES:
            raise SettingsError(f"control is {control.kind!r}, which this ControlNet does not read.",
                                f"Set control to one of: {', '.join(UNION_MODES)}.", key="control")  # fmt: skip
        if net.input_hint_block is not None:  # XLabs': reads the picture itself
            return (control.image.expand(-1, 3, -1, -1) * 2 - 1).to(self.device, self.dtype)
        return pack(self.encode_control(control.image))

    def predict(self, sample: Tensor, timestep: float, given: Mapping[str, Tensor], controls: Sequence[BoundControl],
                parts: int) -> Tensor:  # fmt: skip
        """See `engine.models.bound.Networks`."""
        height, width = sample.shape[-2:]
        tokens = pack(sample)
        common = {
            "timestep": torch.full((len(sample),), timestep / 1000, device=self.device, dtype=sample.dtype),
            "pooled_projections": given["pooled"], "encoder_hidden_states": given["text"],
            "txt_ids": torch.zeros(given["text"].shape[1], 3, device=self.device, dtype=sample.dtype),
            "img_ids": places(height // 2, width // 2, sample.dtype, self.device), "return_dict": False,
        }  # fmt: skip
        more = self._controlled(tokens, common, given, controls)
        if "beside" in given:
            tokens = torch.cat([tokens, given["beside"]], 2)
        if "style" in given:
            more["joint_attention_kwargs"] = {"ip_adapter_image_embeds": [given["style"]]}
        guidance = given["guidance"] if self.told_guidance else None
        with self.styled(given):
            found = self.transformer(hidden_states=tokens, guidance=guidance, **common, **more)[0]
        return unpack(found, height, width)

    def _controlled(self, tokens: Tensor, common: Mapping[str, Any], given: Mapping[str, Tensor],
                    controls: Sequence[BoundControl]) -> dict[str, Any]:  # fmt: skip
        """What the ControlNets add to the transformer's blocks."""
        double: list[Tensor] | None = None
        single: list[Tensor] | None = None
        repeats = False
        for one in controls:
            net = self.controlnets[one.net]
            mode = torch.full((len(tokens), 1), UNION_MODES[one.kind], device=self.device) if net.union else None
            found = net(
                hidden_states=tokens, controlnet_cond=one.features, controlnet_mode=mode, conditioning_scale=one.scale,
                guidance=given["guidance"] if net.config.guidance_embeds else None, **common,
            )  # fmt: skip
            double, single = _added(double, found[0]), _added(single, found[1])
            repeats |= net.input_hint_block is not None
        return {"controlnet_block_samples": double, "controlnet_single_block_samples": single,
                "controlnet_blocks_repeat": repeats}  # fmt: skip


def _added(sums: list[Tensor] | None, found: Sequence[Tensor] | None) -> list[Tensor] | None:
    if found is None or sums is None:
        return sums if found is None else list(found)
    return [a + b for a, b in zip(sums, found, strict=True)]


def pack(latents: Tensor) -> Tensor:
    """Latents [N,C,h,w] as tokens [N, h/2 w/2, 4 C]: each two by two cells, channel by channel, row by row."""
    count, channels, height, width = latents.shape
    cells = latents.view(count, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(count, height * width // 4, channels * 4)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """Undoes `pack`."""
    count, _, channels = tokens.shape
    cells = tokens.view(count, height // 2, width // 2, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(count, channels // 4, height, width)


def places(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[rows columns, 3]: 0, row and column of each token."""
    row, column = torch.meshgrid(*(torch.arange(count, device=device) for count in (rows, columns)), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], -1).reshape(-1, 3).to(dtype)


def load(wanted: Wanted) -> Flux:
    """Reads all parts of the folder (and the ControlNets from their own), checks that they fit, and moves them."""
    scheduler = wanted.scheduler()
    parts = load_parts(wanted, [
        ("tokenizer", ("CLIPTokenizer",), None), ("tokenizer_2", ("T5TokenizerFast",), None),
        ("text_encoder", ("CLIPTextModel",), wanted.exact), ("text_encoder_2", ("T5EncoderModel",), wanted.exact),
        ("vae", VAES, wanted.exact), ("transformer", ("FluxTransformer2DModel",), wanted.number),
    ], CONTROL_CLASSES)  # fmt: skip
    transformer, latents = parts["transformer"], parts["vae"].config.latent_channels
    check_transformer(wanted.folder.name, transformer, parts["controlnets"], latents, (4 * latents, 8 * latents))
    style = wanted_style(wanted, transformer)
    depot = settle(wanted, parts)
    told = transformer.config.guidance_embeds
    return Flux(
        name=wanted.folder.name,
        view_size=VIEW,
        default_guidance=3.5 if told else 1.0,
        default_steps=28 if told else 4,
        info=model_info(wanted, parts["plan"]),
        transformer=transformer,
        controlnets=tuple(parts["controlnets"]),
        codec_=codec_of(wanted, parts, depot),
        clips=(ClipText(parts["tokenizer"], parts["text_encoder"]),),
        t5=T5Text(parts["tokenizer_2"], parts["text_encoder_2"], T5_LENGTH),
        scheduler=scheduler,
        device=wanted.device,
        dtype=wanted.number,
        depot=depot,
        style=style,
    )


def usual_control(folder: ModelFolder, kind: str) -> str:
    """The hub id of the ControlNet to take when none is named; "" for a model that reads its control itself."""
    channels = folder.json("vae/config.json").get("latent_channels", 16)
    if folder.json("transformer/config.json").get("in_channels") == 8 * channels:
        return ""
    if kind not in UNION_MODES:
        raise ModelError(f'Model "{folder.name}" has no usual ControlNet for {kind}.',
                         "Name one after a plus sign (MODEL+CONTROLNET), or set control to depth.")  # fmt: skip
    return USUAL_CONTROL


def usual_style(folder: ModelFolder, word: str) -> tuple[str, str] | None:
    """(repository, file) of the usual style adapter, "auto" (made for FLUX.1 dev); None for other words."""
    return USUAL_STYLE.get(word)


def family_name(folder: ModelFolder) -> str:
    """What the catalogue calls the family."""
    return "FLUX"
