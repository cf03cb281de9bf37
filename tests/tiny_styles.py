# SPDX-License-Identifier: Apache-2.0
"""IP-Adapters in the published layouts with random weights: `image_encoder/` and `ip-adapter.safetensors`."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tests.tiny_models import randomize

SEES, SUMMARY, HIDDEN, QUERIES = 16, 10, 64, 3  # widths of the encoder's tokens and summary, of the resampler; tokens
VISION = {"hidden_size": SEES, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
          "image_size": 32, "patch_size": 16}  # fmt: skip


def write_style(folder: Path, network: nn.Module, layout: str, seed: int = 3, whole: bool = False) -> Path:
    """An adapter for this network. layout: "plain", "plus", "full" (h94/IP-Adapter, for U-Nets), "flux" (XLabs-AI) or
    "sd3" (InstantX). whole: the encoder is half of a whole CLIP or SigLIP, as OpenAI and Google publish theirs."""
    torch.manual_seed(seed)
    if layout == "sd3":
        vision = SiglipVisionConfig(**VISION)
        text = SiglipTextConfig(vocab_size=9, hidden_size=SEES, intermediate_size=8, num_hidden_layers=1,
                                num_attention_heads=1, projection_size=SEES)  # fmt: skip
        both = SiglipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
        encoder: nn.Module = SiglipModel(both) if whole else SiglipVisionModel(vision)
    elif whole:
        text = CLIPTextConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                              num_attention_heads=1, projection_dim=SUMMARY)  # fmt: skip
        vision = CLIPVisionConfig(**VISION, projection_dim=SUMMARY)
        encoder = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(),
                                       projection_dim=SUMMARY))  # fmt: skip
    else:
        encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION, projection_dim=SUMMARY))
    randomize(encoder).save_pretrained(folder / "image_encoder")
    save_file(TENSORS[layout](network), folder / "ip-adapter.safetensors")
    return folder


def _linear(name: str, inside: int, outside: int, bias: bool = True) -> dict[str, Tensor]:
    weight = {f"{name}.weight": torch.randn(outside, inside) / inside**0.5}
    return weight | ({f"{name}.bias": torch.randn(outside) * 0.1} if bias else {})


def _norm(name: str, width: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.rand(width) + 0.5, f"{name}.bias": torch.randn(width) * 0.1}


def _resampler(width: int, told: bool) -> dict[str, Tensor]:
    """As Tencent's "plus" adapters have it: pairs of attention and feed-forward; `told` the time, as InstantX's."""
    found = {"latents": torch.randn(1, QUERIES, HIDDEN), **_linear("proj_in", SEES, HIDDEN),
             **_linear("proj_out", HIDDEN, width), **_norm("norm_out", width)}  # fmt: skip
    for k in range(4):
        one = f"layers.{k}"
        found |= _norm(f"{one}.0.norm1", HIDDEN) | _norm(f"{one}.0.norm2", HIDDEN) | _norm(f"{one}.1.0", HIDDEN)
        for name, inside, outside in (("0.to_q", HIDDEN, 64), ("0.to_kv", HIDDEN, 128), ("0.to_out", 64, HIDDEN),
                                      ("1.1", HIDDEN, 4 * HIDDEN), ("1.3", 4 * HIDDEN, HIDDEN)):  # fmt: skip
            found |= _linear(f"{one}.{name}", inside, outside, bias=False)
        if told:
            found |= _linear(f"{one}.2.1", HIDDEN, 4 * HIDDEN)
    if told:
        found |= _linear("time_embedding.linear_1", 32, HIDDEN) | _linear("time_embedding.linear_2", HIDDEN, HIDDEN)
    return found


def _unet(projection: dict[str, Tensor], unet: nn.Module) -> dict[str, Tensor]:
    tensors = {f"image_proj.{key}": value for key, value in projection.items()}
    number = 1  # odd numbers, in the order of the processors
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            layer = unet.get_submodule(name.removesuffix(".processor"))
            for half in ("k", "v"):
                tensors[f"ip_adapter.{number}.to_{half}_ip.weight"] = torch.randn(layer.to_k.weight.shape) * 0.3
            number += 2
    return tensors


def _plain(unet: nn.Module) -> dict[str, Tensor]:
    width = unet.config.cross_attention_dim
    return _unet(_linear("proj", SUMMARY, 4 * width) | _norm("norm", width), unet)


def _plus(unet: nn.Module) -> dict[str, Tensor]:
    return _unet(_resampler(unet.config.cross_attention_dim, told=False), unet)


def _full(unet: nn.Module) -> dict[str, Tensor]:
    width = unet.config.cross_attention_dim
    return _unet(_linear("proj.0", SEES, SEES) | _linear("proj.2", SEES, width) | _norm("proj.3", width), unet)


def _flux(transformer: nn.Module) -> dict[str, Tensor]:
    config, start = transformer.config, "ip_adapter_proj_model"
    text, width = config.joint_attention_dim, config.num_attention_heads * config.attention_head_dim
    found = _linear(f"{start}.proj", SUMMARY, 4 * text) | _norm(f"{start}.norm", text)
    for k in range(config.num_layers):
        for half in ("k", "v"):
            found |= _linear(f"double_blocks.{k}.processor.ip_adapter_double_stream_{half}_proj", text, width)
    return found


def _sd3(transformer: nn.Module) -> dict[str, Tensor]:
    config = transformer.config
    head, width = config.attention_head_dim, config.num_attention_heads * config.attention_head_dim
    found = {f"image_proj.{key}": value for key, value in _resampler(width, told=True).items()}
    for k in range(config.num_layers):
        one = f"ip_adapter.{k}"
        found |= _linear(f"{one}.norm_ip.linear", HIDDEN, 2 * width)
        found |= _linear(f"{one}.to_k_ip", width, width, bias=False) | _linear(f"{one}.to_v_ip", width, width, False)
        found |= {f"{one}.{name}.weight": torch.rand(head) + 0.5 for name in ("norm_q", "norm_k", "norm_ip_k")}
    return found


TENSORS = {"plain": _plain, "plus": _plus, "full": _full, "flux": _flux, "sd3": _sd3}
