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
    T2IAdapter,
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
XL_TEXT = (12, 20)  # widths of its two text encoders, which single files are told apart by
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


def clip_text(kind: type = CLIPTextModel, projection: int = TEXT_WIDTH, width: int = TEXT_WIDTH) -> nn.Module:
    """A CLIP text encoder whose last layer but one differs from its last."""
    words = tokenizer()
    return kind(
        CLIPTextConfig(
            vocab_size=len(words), hidden_size=width, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=LENGTH, projection_dim=projection,
            bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
        )
    )  # fmt: skip


BLOCKS = {
    "block_out_channels": WIDTHS, "layers_per_block": 1, "norm_num_groups": 8, "attention_head_dim": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "use_linear_projection": True,
    "transformer_layers_per_block": (1, 2), "cross_attention_dim": sum(XL_TEXT), "addition_embed_type": "text_time",
    "addition_time_embed_dim": TIME_WIDTH, "projection_class_embeddings_input_dim": 6 * TIME_WIDTH + POOLED,
}  # fmt: skip
UNION = {"num_control_type": 6, "num_trans_channel": WIDTHS[0], "num_trans_head": 2, "num_proj_channel": WIDTHS[0]}


# as deep as SDXL, whose adapters reach the third level and the middle
DEEP = {**BLOCKS, "block_out_channels": (*WIDTHS, WIDTHS[-1]), "transformer_layers_per_block": (1, 1, 2),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")}  # fmt: skip


def xl_unet(blocks: dict[str, Any] = BLOCKS) -> UNet2DConditionModel:
    up = tuple(kind.replace("Down", "Up") for kind in reversed(blocks["down_block_types"]))
    return UNet2DConditionModel(sample_size=LATENT, in_channels=4, out_channels=4, up_block_types=up, **blocks)


def write_tiny_xl(
    folder: Path, control: str = "one", scheduler: dict = XL_SCHEDULER, seed: int = 0, blocks: dict[str, Any] = BLOCKS
) -> Path:
    """SDXL. control: "one" ControlNet, "union", or "" for none."""
    torch.manual_seed(seed)
    parts: dict[str, Any] = {
        "vae": kl_codec(), "unet": xl_unet(blocks),
        "text_encoder": clip_text(width=XL_TEXT[0]),
        "text_encoder_2": clip_text(CLIPTextModelWithProjection, POOLED, XL_TEXT[1]),
        "tokenizer": tokenizer(), "tokenizer_2": tokenizer(), "feature_extractor": None, "image_encoder": None,
    }  # fmt: skip
    kind = "StableDiffusionXLPipeline"
    if control:
        embedding = {"conditioning_embedding_out_channels": (4, 8, 8, 8)}
        parts["controlnet"] = ControlNetModel(**blocks, **embedding) if control == "one" else ControlNetUnionModel(
            **blocks, **embedding, **UNION)  # fmt: skip
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


def write_tiny_multiview(
    folder: Path, unet: nn.Module, file: str = "mvadapter_tg2mv_sdxl.safetensors", seed: int = 4
) -> Path:
    """An MV-Adapter for this U-Net as huanngzh/mv-adapter publishes them: the U-Net's names of its own attention's
    weights, and those of a T2I-Adapter of six channels. Returns the file."""
    torch.manual_seed(seed)
    large = unet.config.addition_embed_type == "text_time"
    widths = tuple(unet.config.block_out_channels)
    encoder = T2IAdapter(
        in_channels=6, channels=(*widths, widths[-1]) if large else widths, num_res_blocks=unet.config.layers_per_block,
        downscale_factor=16 if large else 8, adapter_type="full_adapter_xl" if large else "full_adapter",
    )  # fmt: skip
    tensors = dict(encoder.state_dict())
    for name in unet.attn_processors:
        if name.endswith("attn1.processor"):
            width = unet.get_submodule(name.removesuffix(".processor")).to_q.in_features
            for key in ("to_q_mv", "to_k_mv", "to_v_mv", "to_out_mv.0"):
                tensors[f"{name}.{key}.weight"] = torch.randn(width, width) * 1.5 / width**0.5
            tensors[f"{name}.to_out_mv.0.bias"] = torch.randn(width) * 0.1
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / file)
    return folder / file


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


def write_tiny_sd3(
    folder: Path, control: bool = True, t5: bool = True, seed: int = 0, dual: tuple[int, ...] = (0,),
    **control_options: Any,
) -> Path:  # fmt: skip
    """SD 3.5 with a ControlNet, and with or without its T5. dual: blocks with a second attention (medium has them)."""
    torch.manual_seed(seed)
    parts: dict[str, Any] = {
        "vae": flow_codec(), "transformer": SD3Transformer2DModel(
            num_layers=2, out_channels=FLOW_LATENTS, qk_norm="rms_norm", dual_attention_layers=dual, **SD3_BLOCKS),
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
