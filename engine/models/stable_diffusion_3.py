# SPDX-License-Identifier: Apache-2.0
"""Stable Diffusion 3 and 3.5 (Esser et al. 2024) with ControlNets: two CLIPs and a T5, which may be absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from blender_addon.jobs.errors import ModelError
from engine.models.bound import BoundControl, stacked
from engine.models.controls import Control
from engine.models.flow import FlowModel, check_transformer
from engine.models.folders import ModelFolder
from engine.models.loading import VAES, Wanted, codec_of, load_parts, model_info, settle
from engine.models.style import wanted_style
from engine.models.text import ClipText, T5Text, spread
from engine.schedule import Level, flow_shift, levels_from_config

CONTROL_CLASSES = ("SD3ControlNetModel",)
USUAL_CONTROL = {
    "depth": "stabilityai/stable-diffusion-3.5-large-controlnet-depth",
    "canny": "stabilityai/stable-diffusion-3.5-large-controlnet-canny",
}
USUAL_STYLE = {"auto": ("InstantX/SD3.5-Large-IP-Adapter", "ip-adapter.safetensors")}
MEDIUM = 24  # blocks of SD 3 and SD 3.5 medium, for which no style adapter was published
T5_LENGTH = 256
GUIDANCE = 4.5


@dataclass(frozen=True)
class StableDiffusion3(FlowModel):
    """A loaded model of this family."""

    def levels(self, steps: int, strength: float = 1.0, size: int | None = None) -> list[Level]:
        tokens = ((size or self.view_size) // (self.factor * self.transformer.config.patch_size)) ** 2
        mu = flow_shift(self.scheduler, tokens) if self.scheduler.get("use_dynamic_shifting") else None
        return levels_from_config(self.scheduler, steps, strength, mu=mu)

    def texts(self, texts: list[str], parts: int, guidance: float) -> dict[str, Tensor]:
        return {name: stacked(tensor, parts) for name, tensor in spread(texts, self._read).items()}

    def _read(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """"text" [n,L,D]: both CLIPs side by side, padded, then T5 (zeros where there is none); "pooled" [n,P]."""
        found = [reader.read(texts) for reader in self.clips]
        width = self.transformer.config.joint_attention_dim
        clip = torch.cat([features for features, _ in found], -1)
        clip = pad(clip, (0, width - clip.shape[-1])).to(self.dtype)
        if self.t5 is None:
            long = torch.zeros(len(texts), T5_LENGTH, width, device=self.device, dtype=self.dtype)
        else:
            long = self.t5.read(texts).to(self.dtype)
        pooled = torch.cat([pooled for _, pooled in found], -1).to(self.dtype)
        return {"text": torch.cat([clip, long], 1), "pooled": pooled}

    def control_features(self, control: Control, net: nn.Module) -> Tensor:
        # ControlNets that were trained without the text's summary were also trained without the latents' shift
        return self.encode_control(control.image, shifted=not net.config.force_zeros_for_pooled_projection)

    def predict(self, sample: Tensor, timestep: float, given: Mapping[str, Tensor], controls: Sequence[BoundControl],
                parts: int) -> Tensor:  # fmt: skip
        """See `engine.models.bound.Networks`."""
        time = torch.full((len(sample),), timestep, dtype=torch.float32, device=self.device)
        added: list[Tensor] | None = None
        for one in controls:
            net = self.controlnets[one.net]
            pooled = given["pooled"]
            found = net(
                hidden_states=sample, timestep=time, controlnet_cond=one.features, conditioning_scale=one.scale,
                encoder_hidden_states=None if net.config.joint_attention_dim is None else given["text"],
                pooled_projections=torch.zeros_like(pooled) if net.config.force_zeros_for_pooled_projection else pooled,
                return_dict=False,
            )[0]  # fmt: skip
            added = list(found) if added is None else [a + b for a, b in zip(added, found, strict=True)]
        more = {"joint_attention_kwargs": {"ip_adapter_image_embeds": given["style"][:, 0]}} if "style" in given else {}
        with self.styled(given):
            return self.transformer(
                hidden_states=sample, timestep=time, encoder_hidden_states=given["text"],
                pooled_projections=given["pooled"], block_controlnet_hidden_states=added, return_dict=False, **more,
            )[0]  # fmt: skip


def load(wanted: Wanted) -> StableDiffusion3:
    """Reads all parts of the folder (and the ControlNets from their own), checks that they fit, and moves them."""
    scheduler = wanted.scheduler()
    long = wanted.folder.has("text_encoder_3")
    needs = [(f"tokenizer{k}", ("CLIPTokenizer",), None) for k in ("", "_2")]
    needs += [(f"text_encoder{k}", ("CLIPTextModelWithProjection",), wanted.exact) for k in ("", "_2")]
    if long:
        needs += [("tokenizer_3", ("T5TokenizerFast",), None), ("text_encoder_3", ("T5EncoderModel",), wanted.exact)]
    needs += [("vae", VAES, wanted.exact), ("transformer", ("SD3Transformer2DModel",), wanted.number)]
    parts = load_parts(wanted, needs, CONTROL_CLASSES)
    transformer, latents = parts["transformer"], parts["vae"].config.latent_channels
    check_transformer(wanted.folder.name, transformer, parts["controlnets"], latents, (latents,))
    for net in parts["controlnets"]:
        if net.config.get("use_pos_embed") is False:  # these use the transformer's own
            net.pos_embed = net._get_pos_embed_from_transformer(transformer).to(net.dtype)
    style = wanted_style(wanted, transformer)
    depot = settle(wanted, parts)
    codec = codec_of(wanted, parts, depot)
    return StableDiffusion3(
        name=wanted.folder.name,
        view_size=int(transformer.config.sample_size * codec.factor),
        default_guidance=GUIDANCE,
        default_steps=28,
        info=model_info(wanted, parts["plan"]),
        transformer=transformer,
        controlnets=tuple(parts["controlnets"]),
        codec_=codec,
        clips=tuple(ClipText(parts[f"tokenizer{k}"], parts[f"text_encoder{k}"], penultimate=True) for k in ("", "_2")),
        t5=T5Text(parts["tokenizer_3"], parts["text_encoder_3"], T5_LENGTH) if long else None,
        scheduler=scheduler,
        device=wanted.device,
        dtype=wanted.number,
        depot=depot,
        style=style,
    )


def usual_control(folder: ModelFolder, kind: str) -> str:
    """The hub id of the ControlNet of that kind to take when none is named (made for 3.5 large)."""
    if kind not in USUAL_CONTROL:
        raise ModelError(f'Model "{folder.name}" has no usual ControlNet for {kind}.',
                         "Name one after a plus sign (MODEL+CONTROLNET), or set control to depth.")  # fmt: skip
    return USUAL_CONTROL[kind]


def usual_style(folder: ModelFolder, word: str) -> tuple[str, str] | None:
    """(repository, file) of the usual style adapter, "auto"; None where none was published, as for medium."""
    return None if folder.json("transformer/config.json").get("num_layers") == MEDIUM else USUAL_STYLE.get(word)


def family_name(folder: ModelFolder) -> str:
    """What the catalogue calls the family."""
    return "SD 3.5"
