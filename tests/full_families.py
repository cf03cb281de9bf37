# SPDX-License-Identifier: Apache-2.0
"""The published sizes of the families' networks, as their config.json have them. On the device "meta" they are free."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

SD = {"block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2}
SD15 = {**SD, "attention_head_dim": 8, "cross_attention_dim": 768}
SD21 = {**SD, "attention_head_dim": (5, 10, 20, 20), "cross_attention_dim": 1024, "use_linear_projection": True}
XL = {
    "block_out_channels": (320, 640, 1280), "layers_per_block": 2, "attention_head_dim": (5, 10, 20),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "transformer_layers_per_block": (1, 2, 10), "cross_attention_dim": 2048, "use_linear_projection": True,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
XL_UP = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")


def unet(side: int, config: dict, **more) -> nn.Module:
    return UNet2DConditionModel(sample_size=side, in_channels=4, out_channels=4, **config, **more)


def clip(width: int, layers: int, heads: int, projection: int, kind: type = CLIPTextModel) -> nn.Module:
    return kind(CLIPTextConfig(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
                               num_attention_heads=heads, projection_dim=projection))  # fmt: skip


def clip_large(kind: type = CLIPTextModel) -> nn.Module:
    return clip(768, 12, 12, 768, kind)


def clip_huge() -> nn.Module:
    return clip(1024, 23, 16, 512)


def clip_giant() -> nn.Module:
    return clip(1280, 32, 20, 1280, CLIPTextModelWithProjection)


def t5() -> nn.Module:
    return T5EncoderModel(T5Config(d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, vocab_size=32128,
                                   feed_forward_proj="gated-gelu"))  # fmt: skip


def codec(channels: int = 4) -> nn.Module:
    small = {"use_quant_conv": False, "use_post_quant_conv": False} if channels > 4 else {}
    return AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=channels,
                         down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                         **small)  # fmt: skip


def sd3(layers: int, heads: int, side: int = 192, **more) -> nn.Module:
    return SD3Transformer2DModel(
        sample_size=128, num_layers=layers, num_attention_heads=heads, attention_head_dim=64, in_channels=16,
        out_channels=16, joint_attention_dim=4096, caption_projection_dim=64 * heads, pooled_projection_dim=2048,
        pos_embed_max_size=side, qk_norm="rms_norm", **more,
    )  # fmt: skip


def flux(channels: int = 64) -> nn.Module:
    return FluxTransformer2DModel(in_channels=channels, out_channels=64, num_layers=19, num_single_layers=38,
                                  attention_head_dim=128, num_attention_heads=24, joint_attention_dim=4096,
                                  pooled_projection_dim=768, guidance_embeds=True)  # fmt: skip


Parts = dict[str, Callable[[], nn.Module]]
CONTROLNETS: dict[str, Callable[[], nn.Module]] = {
    "lllyasviel/control_v11f1p_sd15_depth": lambda: ControlNetModel(**SD15),
    "diffusers/controlnet-depth-sdxl-1.0": lambda: ControlNetModel(**XL),
}
# id in the catalogue -> its networks by the names of their folders
MODELS: dict[str, Parts] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": {
        "unet": lambda: unet(64, SD15), "text_encoder": clip_large, "vae": codec},
    "stabilityai/stable-diffusion-2-1": {
        "unet": lambda: unet(96, SD21), "text_encoder": clip_huge, "vae": codec},
    "stabilityai/stable-diffusion-xl-base-1.0": {
        "unet": lambda: unet(128, XL, up_block_types=XL_UP), "text_encoder": clip_large, "text_encoder_2": clip_giant,
        "vae": codec},
    "stabilityai/stable-diffusion-3.5-medium": {
        "transformer": lambda: sd3(24, 24, 384, dual_attention_layers=tuple(range(13))), "vae": lambda: codec(16),
        "text_encoder": lambda: clip_large(CLIPTextModelWithProjection), "text_encoder_2": clip_giant,
        "text_encoder_3": t5},
    "stabilityai/stable-diffusion-3.5-large": {
        "transformer": lambda: sd3(38, 38), "vae": lambda: codec(16),
        "text_encoder": lambda: clip_large(CLIPTextModelWithProjection), "text_encoder_2": clip_giant,
        "text_encoder_3": t5},
    "black-forest-labs/FLUX.1-dev": {
        "transformer": flux, "text_encoder": clip_large, "text_encoder_2": t5, "vae": lambda: codec(16)},
    "black-forest-labs/FLUX.1-Depth-dev": {
        "transformer": lambda: flux(128), "text_encoder": clip_large, "text_encoder_2": t5, "vae": lambda: codec(16)},
}  # fmt: skip


def weights(module: nn.Module) -> int:
    """How many numbers a network has learnt, and keeps in its file."""
    return sum(one.numel() for one in module.parameters())


def on_paper(make: Callable[[], nn.Module]) -> nn.Module:
    """The network at full size, without its numbers."""
    with torch.device("meta"):
        return make().eval().requires_grad_(False)
