# SPDX-License-Identifier: Apache-2.0
"""Model folders in the published layouts with random weights, small enough for a unit test. Nothing is downloaded.

Every weight is drawn at random, also those that training starts at zero (ControlNet's outputs, the last convolution):
otherwise a test could not see whether they are used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WORDS = ("a", "red", "blue", "brick", "stone", "gold", "wall", "ugly", "old", "mossy", "left", "front", "view")
TEXT_WIDTH = 16
LENGTH = 12  # tokens per prompt
WIDTHS = (16, 32)
LATENT = 8  # cells per side of a view

# scheduler_config.json as Stable Diffusion 1.5 publishes it, and as 2.1 (768) does
SD15_SCHEDULER = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "clip_sample": False, "num_train_timesteps": 1000, "set_alpha_to_one": False,
    "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
}  # fmt: skip
SD21_SCHEDULER = {**SD15_SCHEDULER, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
SWATCH_SCHEDULER = {
    "_class_name": "DDIMScheduler", "beta_schedule": "squaredcos_cap_v2", "clip_sample": False,
    "num_train_timesteps": 1000, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True, "timestep_spacing": "trailing",
}  # fmt: skip


def write_tiny_model(
    folder: Path, scheduler: dict = SD15_SCHEDULER, codec: str = "AutoencoderKL", control: bool = True, seed: int = 0,
    control_reads_text: bool = True,
) -> Path:  # fmt: skip
    """Writes a whole pipeline folder and returns it."""
    torch.manual_seed(seed)
    parts = {"vae": _codec(codec), "text_encoder": _text_encoder(), "unet": tiny_unet()}
    if control:
        parts["controlnet"] = tiny_controlnet(control_reads_text)
    for name, module in parts.items():
        randomize(module).save_pretrained(folder / name, safe_serialization=True)
    tokenizer().save_pretrained(folder / "tokenizer")
    (folder / "scheduler").mkdir(parents=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    index = {
        "_class_name": "StableDiffusionControlNetPipeline" if control else "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", codec],
        **({"controlnet": ["diffusers", "ControlNetModel"]} if control else {}),
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def as_published(folder: Path) -> Path:
    """Rewrites a folder the way Stable Diffusion 1.5 lies on the hub: older names for the same things.

    Text encoder keys under "text_model." with a stray position_ids, the autoencoder's attention as query, key, value
    and proj_attn, the tokenizer as vocab.json and merges.txt, and configs without today's newer fields.
    """
    path = folder / "text_encoder" / "model.safetensors"
    tensors = {f"text_model.{key}": value for key, value in load_file(path).items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(LENGTH)[None]
    save_file(tensors, path, metadata={"format": "pt"})
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    older = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    tensors = {}
    for key, value in load_file(path).items():
        new = next((name for name in older if name in key), "")
        tensors[key.replace(new, older[new]) if new else key] = value
    save_file(tensors, path, metadata={"format": "pt"})
    path = folder / "tokenizer" / "tokenizer.json"
    model = json.loads(path.read_text())["model"]
    path.unlink()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "tokenizer" / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    config = {"model_max_length": LENGTH, "do_lower_case": True, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config))
    for part in ("unet", "vae"):
        path = folder / part / "config.json"
        newer = ("shift_factor", "force_upcast", "latents_mean", "latents_std", "use_quant_conv", "use_post_quant_conv",
                 "mid_block_add_attention", "num_attention_heads", "dropout")  # fmt: skip
        config = {key: value for key, value in json.loads(path.read_text()).items() if key not in newer}
        path.write_text(json.dumps({**config, "_diffusers_version": "0.6.0"}))
    return folder


def randomize(module: nn.Module) -> nn.Module:
    """Draws every floating-point weight anew where training would start it at a constant."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.is_floating_point() and bool((weight == weight.flatten()[0]).all()):
                noise = torch.randn_like(weight) * 0.1
                weight.copy_(noise + 1 if "norm" in name and name.endswith("weight") else noise)
    return module.eval()


def tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer that knows `WORDS` and, letter by letter, everything else in a-z."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        if len(word) > 1:
            _merge_word(word, merges)
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), *(left + right for left, right in merges)]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=LENGTH)


def _merge_word(word: str, merges: list[tuple[str, str]]) -> None:
    """Adds the merges that make one token of `word`, given those there are."""
    pieces = [*word[:-1], word[-1] + "</w>"]
    for left, right in merges:
        at = 0
        while at < len(pieces) - 1:
            if (pieces[at], pieces[at + 1]) == (left, right):
                pieces[at : at + 2] = [left + right]
            at += 1
    while len(pieces) > 1:
        merges.append((pieces[0], pieces[1]))
        pieces[:2] = [pieces[0] + pieces[1]]


def _text_encoder() -> CLIPTextModel:
    words = tokenizer()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words), hidden_size=TEXT_WIDTH, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=LENGTH, projection_dim=TEXT_WIDTH,
            bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
        )
    )  # fmt: skip


def tiny_unet(in_channels: int = 4, **more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=LATENT, in_channels=in_channels, out_channels=4, block_out_channels=WIDTHS, layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT_WIDTH, attention_head_dim=2, norm_num_groups=8, **more,
    )  # fmt: skip


def tiny_controlnet(reads_text: bool = True) -> ControlNetModel:
    first, middle = "CrossAttnDownBlock2D", "UNetMidBlock2DCrossAttn"
    if not reads_text:
        first, middle = "DownBlock2D", "UNetMidBlock2D"
    return ControlNetModel(
        in_channels=4, block_out_channels=WIDTHS, layers_per_block=1, down_block_types=(first, "DownBlock2D"),
        mid_block_type=middle, cross_attention_dim=TEXT_WIDTH, attention_head_dim=2, norm_num_groups=8,
        conditioning_embedding_out_channels=(4, 8, 8, 8),
    )  # fmt: skip


def kl_codec(channels: int = 4, **more: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1, scaling_factor=0.18215, shift_factor=0.1, **more,
    )  # fmt: skip


def _codec(name: str) -> nn.Module:
    if name == "AutoencoderKL":
        return kl_codec()
    if name == "AutoencoderTiny":
        return AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
            num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1),
        )  # fmt: skip
    from engine.models.patch_codec import LinearPatchCodec

    return LinearPatchCodec(patch_size=8, latent_channels=4, hidden_channels=8, num_blocks=1)
