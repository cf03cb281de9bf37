# SPDX-License-Identifier: Apache-2.0
"""Tiny random folders of the larger families in their published layouts, and of what is added to a model: nothing is
downloaded. The bricks are those of `tests.tiny_models`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    FluxControlNetModel,
    FluxTransformer2DModel,
    SD3ControlNetModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from tests.tiny_models import LATENT, LENGTH, TEXT_WIDTH, WIDTHS, WORDS, kl_codec, randomize, tokenizer

# scheduler_config.json as SDXL publishes it
XL_SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
    "interpolation_type": "linear", "num_train_timesteps": 1000, "prediction_type": "epsilon",
    "sample_max_value": 1.0, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
    "timestep_spacing": "leading", "trained_betas": None, "use_karras_sigmas": False,
}  # fmt: skip
POOLED = 12
TIME_WIDTH = 4  # numbers per size that the U-Net is told


def write_pipeline(folder: Path, pipeline: str, parts: dict[str, Any], scheduler: dict, **more: Any) -> Path:
    """Writes modules and tokenizers as `save_pretrained` of a diffusers pipeline lays them out."""
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": "0.42.1",
                             "scheduler": ["diffusers", scheduler["_class_name"]], **more}  # fmt: skip
    for name, part in parts.items():
        if part is None:
            index[name] = [None, None]
            continue
        if isinstance(part, nn.Module):
            randomize(part).save_pretrained(folder / name, safe_serialization=True)
        else:
            part.save_pretrained(folder / name)
        library = "transformers" if type(part).__module__.startswith("transformers") else "diffusers"
        index[name] = [library, type(part).__name__]
    (folder / "scheduler").mkdir(parents=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def clip_text(kind: type = CLIPTextModel, projection: int = TEXT_WIDTH) -> nn.Module:
    """A CLIP text encoder whose last layer but one differs from its last."""
    words = tokenizer()
    return kind(
        CLIPTextConfig(
            vocab_size=len(words), hidden_size=TEXT_WIDTH, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=LENGTH, projection_dim=projection,
            bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
        )
    )  # fmt: skip


BLOCKS = {
    "block_out_channels": WIDTHS, "layers_per_block": 1, "norm_num_groups": 8, "attention_head_dim": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "use_linear_projection": True,
    "transformer_layers_per_block": (1, 2), "cross_attention_dim": 2 * TEXT_WIDTH, "addition_embed_type": "text_time",
    "addition_time_embed_dim": TIME_WIDTH, "projection_class_embeddings_input_dim": 6 * TIME_WIDTH + POOLED,
}  # fmt: skip
UNION = {"num_control_type": 6, "num_trans_channel": WIDTHS[0], "num_trans_head": 2, "num_proj_channel": WIDTHS[0]}


def xl_unet() -> UNet2DConditionModel:
    up = ("CrossAttnUpBlock2D", "UpBlock2D")
    return UNet2DConditionModel(sample_size=LATENT, in_channels=4, out_channels=4, up_block_types=up, **BLOCKS)


def write_tiny_xl(folder: Path, control: str = "one", scheduler: dict = XL_SCHEDULER, seed: int = 0) -> Path:
    """SDXL. control: "one" ControlNet, "union", or "" for none."""
    torch.manual_seed(seed)
    parts: dict[str, Any] = {
        "vae": kl_codec(), "unet": xl_unet(),
        "text_encoder": clip_text(), "text_encoder_2": clip_text(CLIPTextModelWithProjection, POOLED),
        "tokenizer": tokenizer(), "tokenizer_2": tokenizer(), "feature_extractor": None, "image_encoder": None,
    }  # fmt: skip
    kind = "StableDiffusionXLPipeline"
    if control:
        embedding = {"conditioning_embedding_out_channels": (4, 8, 8, 8)}
        parts["controlnet"] = ControlNetModel(**BLOCKS, **embedding) if control == "one" else ControlNetUnionModel(
            **BLOCKS, **embedding, **UNION)  # fmt: skip
        kind = f"StableDiffusionXLControlNet{'Union' if control == 'union' else ''}Pipeline"
    return write_pipeline(folder, kind, parts, scheduler, force_zeros_for_empty_prompt=True)


def write_tiny_style(folder: Path, unet: nn.Module, deep: bool = False, seed: int = 3) -> Path:
    """An IP-Adapter for this U-Net: `image_encoder/` and `ip-adapter.safetensors`, keys as h94/IP-Adapter has them."""
    torch.manual_seed(seed)
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                         image_size=32, patch_size=16, projection_dim=10)
    )  # fmt: skip
    randomize(encoder).save_pretrained(folder / "image_encoder")
    width = unet.config.cross_attention_dim
    tensors = {
        "image_proj.proj.weight": torch.randn(4 * width, 10), "image_proj.proj.bias": torch.randn(4 * width),
        "image_proj.norm.weight": torch.rand(width) + 0.5, "image_proj.norm.bias": torch.randn(width),
    }  # fmt: skip
    number = 1  # odd numbers, in the order of the processors
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            layer = unet.get_submodule(name.removesuffix(".processor"))
            for half in ("k", "v"):
                weight = torch.randn(layer.to_k.weight.shape) * 0.3
                tensors[f"ip_adapter.{number}.to_{half}_ip.weight"] = weight
            number += 2
    save_file(tensors, folder / "ip-adapter.safetensors")
    return folder


# scheduler_config.json as SD 3.5 and FLUX.1 dev publish it
SD3_SCHEDULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
FLUX_SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler", "base_image_seq_len": 256, "base_shift": 0.5,
    "max_image_seq_len": 4096, "max_shift": 1.15, "num_train_timesteps": 1000, "shift": 3.0,
    "use_dynamic_shifting": True,
}  # fmt: skip
FLOW_LATENTS = 4
T5_WIDTH = 40


def t5_tokenizer() -> T5TokenizerFast:
    """A T5 tokenizer that knows WORDS and single letters."""
    pieces = ["▁" + word for word in WORDS] + ["▁", *"abcdefghijklmnopqrstuvwxyz"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(piece, -float(k)) for k, piece in enumerate(pieces)]
    return T5TokenizerFast(vocab=vocabulary, extra_ids=0, model_max_length=LENGTH)


def t5_text() -> T5EncoderModel:
    size = len(t5_tokenizer())
    return T5EncoderModel(T5Config(vocab_size=size, d_model=T5_WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2))


def flow_codec() -> nn.Module:
    return kl_codec(FLOW_LATENTS, use_quant_conv=False, use_post_quant_conv=False)


SD3_BLOCKS = {
    "sample_size": LATENT, "patch_size": 2, "in_channels": FLOW_LATENTS, "attention_head_dim": 8,
    "num_attention_heads": 4, "joint_attention_dim": T5_WIDTH, "caption_projection_dim": 32,
    "pooled_projection_dim": 2 * POOLED, "pos_embed_max_size": 12,
}  # fmt: skip


def write_tiny_sd3(folder: Path, control: bool = True, t5: bool = True, seed: int = 0, **control_options: Any) -> Path:
    """SD 3.5 with a ControlNet, and with or without its T5."""
    torch.manual_seed(seed)
    parts: dict[str, Any] = {
        "vae": flow_codec(), "transformer": SD3Transformer2DModel(
            num_layers=2, out_channels=FLOW_LATENTS, qk_norm="rms_norm", dual_attention_layers=(0,), **SD3_BLOCKS),
        "text_encoder": clip_text(CLIPTextModelWithProjection, POOLED), "tokenizer": tokenizer(),
        "text_encoder_2": clip_text(CLIPTextModelWithProjection, POOLED), "tokenizer_2": tokenizer(),
        "text_encoder_3": t5_text() if t5 else None, "tokenizer_3": t5_tokenizer() if t5 else None,
        "image_encoder": None, "feature_extractor": None,
    }  # fmt: skip
    if control:
        parts["controlnet"] = SD3ControlNetModel(num_layers=1, **{**SD3_BLOCKS, **control_options})
    kind = f"StableDiffusion3{'ControlNet' if control else ''}Pipeline"
    return write_pipeline(folder, kind, parts, SD3_SCHEDULER)


FLUX_BLOCKS = {
    "patch_size": 1, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": T5_WIDTH, "pooled_projection_dim": TEXT_WIDTH, "axes_dims_rope": (4, 4, 8),
}  # fmt: skip


def flux_transformer(pictures: int = 1, told: bool = True) -> FluxTransformer2DModel:
    channels = 4 * FLOW_LATENTS
    return FluxTransformer2DModel(
        in_channels=channels * pictures, out_channels=channels, guidance_embeds=told, **FLUX_BLOCKS
    )


def write_tiny_flux(folder: Path, control: str = "", told: bool = True, seed: int = 0) -> Path:
    """FLUX.1. control: "", "union", "plain", or "joined" as FLUX.1 Depth. told: guidance is an input (dev)."""
    torch.manual_seed(seed)
    channels = 4 * FLOW_LATENTS
    joined = control == "joined"
    parts: dict[str, Any] = {
        "vae": flow_codec(), "transformer": flux_transformer(1 + joined, told),
        "text_encoder": clip_text(), "tokenizer": tokenizer(),
        "text_encoder_2": t5_text(), "tokenizer_2": t5_tokenizer(),
    }  # fmt: skip
    if control in ("union", "plain"):
        modes = 4 if control == "union" else None
        parts["controlnet"] = FluxControlNetModel(
            in_channels=channels, guidance_embeds=told, num_mode=modes, **FLUX_BLOCKS
        )
    kind = "FluxControlPipeline" if joined else "FluxControlNetPipeline" if control else "FluxPipeline"
    scheduler = FLUX_SCHEDULER if told else {**SD3_SCHEDULER, "shift": 1.0}
    return write_pipeline(folder, kind, parts, scheduler)
