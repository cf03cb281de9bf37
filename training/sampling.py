# SPDX-License-Identifier: Apache-2.0
"""Plain single-view sampling of the exported folder, through stock `from_pretrained`: what the sheets show."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from engine.models.patch_codec import LinearPatchCodec

from .tokens import token_ids


@dataclass(frozen=True)
class Swatch:
    """The parts of an exported model folder."""

    vae: LinearPatchCodec
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    controlnet: ControlNetModel
    scheduler: DDIMScheduler

    @classmethod
    def load(cls, folder, device="cpu"):
        kinds = dict(vae=LinearPatchCodec, tokenizer=CLIPTokenizer, text_encoder=CLIPTextModel, unet=UNet2DConditionModel,
                     controlnet=ControlNetModel, scheduler=DDIMScheduler)
        parts = {name: kind.from_pretrained(Path(folder) / name) for name, kind in kinds.items()}
        return cls(**{k: v.to(device).float().eval() if hasattr(v, "parameters") else v for k, v in parts.items()})


@torch.inference_mode()
def sample(swatch, captions, depth, steps=20, guidance=2.5, rescale=0.5, seed=0):
    """Images (B,3,S,S) in −1..1 for captions and depth maps (B,S,S) in 0..1."""
    device, count = swatch.unet.device, len(captions)
    side = depth.shape[-1] // swatch.vae.config.patch_size
    noise = torch.randn(count, swatch.unet.config.in_channels, side, side, generator=torch.Generator().manual_seed(seed)).to(device)
    tokens = token_ids(swatch.tokenizer, [*captions, *[""] * count]).to(device)
    hidden = swatch.text_encoder(input_ids=tokens).last_hidden_state
    control = depth[:, None].expand(-1, 3, -1, -1).repeat(2, 1, 1, 1).to(device)
    swatch.scheduler.set_timesteps(steps)
    latents = noise
    for t in swatch.scheduler.timesteps:
        both = torch.cat([latents, latents])
        down, middle = swatch.controlnet(both, t, hidden, controlnet_cond=control, return_dict=False)
        v = swatch.unet(both, t, hidden, down_block_additional_residuals=down, mid_block_additional_residual=middle).sample
        latents = swatch.scheduler.step(guided(*v.chunk(2), guidance, rescale), t, latents).prev_sample
    return swatch.vae.decode(latents).sample


def guided(with_text, without, guidance, rescale):
    """Classifier-free guidance, pulled `rescale` of the way back to the contrast of the unguided prediction."""
    v = without + guidance * (with_text - without)
    contrast = with_text.std((1, 2, 3), keepdim=True) / v.std((1, 2, 3), keepdim=True)
    return v * (1 - rescale + rescale * contrast)
