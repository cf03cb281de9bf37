# SPDX-License-Identifier: Apache-2.0
"""LoRA files, merged into a model's weights when it is loaded: W += weight * alpha / rank * B A (Hu et al. 2021).

The names that kohya's trainer, diffusers and PEFT give the same matrices are brought to one: the module's path with "_"
for ".". Nothing is left behind in the model but changed weights, so merging costs nothing while painting; a model with
other LoRAs is another model and is loaded anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from blender_addon.jobs.errors import ModelError
from engine.models.folders import check_safetensors

_END = re.compile(r"^(?P<path>.+?)[._](?:lora(?:_linear_layer)?[._])(?P<half>A|B|down|up)(?:\.default)?(?:\.weight)?$")
_HALVES = {"A": "down", "down": "down", "B": "up", "up": "up"}
_ALPHA = re.compile(r"^(?P<path>.+?)(?:\.lora)?\.alpha$")
_PREFIXES = (
    ("lora_unet_", "unet"), ("lora_transformer_", "unet"), ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"), ("lora_te3_", "text_encoder_3"), ("lora_te_", "text_encoder"),
    ("lycoris_", "unet"), ("unet.", "unet"), ("transformer.", "unet"), ("diffusion_model.", "unet"),
    ("text_encoder_2.", "text_encoder_2"), ("text_encoder_3.", "text_encoder_3"), ("text_encoder.", "text_encoder"),
)  # fmt: skip
_OTHER_KINDS = {"hada_": "LoHa", "lokr_": "LoKr", "dora_scale": "DoRA", "lora_mid": "a LoRA with a middle matrix",
                "lora_magnitude_vector": "DoRA", "oft_": "OFT", "ia3": "IA3"}  # fmt: skip


@dataclass(frozen=True)
class Delta:
    """What one pair of matrices adds to one layer, before the artist's weight."""

    down: Tensor  # [rank, in] or [rank, in, k, k]
    up: Tensor  # [out, rank] or [out, rank, 1, 1]
    scale: float  # alpha / rank

    def matrix(self) -> Tensor:
        """[out, in] or [out, in, k, k] in float32."""
        flat = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return (flat * self.scale).reshape(len(self.up), *self.down.shape[1:])


@dataclass(frozen=True)
class FoundLora:
    """A LoRA's file, how much it counts, and what reports call it; `revision`: of the repository it came from."""

    path: Path
    weight: float
    name: str
    revision: str = ""

    def report(self) -> dict[str, Any]:
        told = {"name": self.name, "weight": self.weight}
        return {**told, "revision": self.revision} if self.revision else told


def merge_loras(loras: Sequence[tuple[Path, float]], modules: Mapping[str, nn.Module]) -> None:
    """Adds every file's deltas, times its weight, to the weights of `modules` ("unet", "text_encoder", ...).

    Raises `ModelError` for a file that is missing, pickled, damaged or of another kind, or made for another model; the
    model is unchanged then.
    """
    changes: list[tuple[nn.Module, Tensor]] = []
    for path, weight in loras:
        changes += [(layer, matrix * weight) for layer, matrix in _changes(path, modules)]
    for layer, matrix in changes:
        with torch.no_grad():
            merged = layer.weight.float() + matrix.to(layer.weight.device)
            layer.weight.copy_(merged.to(layer.weight.dtype))


def _changes(path: Path, modules: Mapping[str, nn.Module]) -> list[tuple[nn.Module, Tensor]]:
    deltas = read_lora(path)
    places = {part: _places(module) for part, module in modules.items()}
    found, lost = [], []
    for (part, name), delta in deltas.items():
        layers = places.get(part, {}).get(name)
        matrix = delta.matrix()
        if layers is None or not _fits(layers, matrix):
            lost.append(name)
            continue
        rows = [len(layer.weight) for layer in layers]
        found += list(zip(layers, matrix.split(rows), strict=True))
    if lost:
        raise ModelError(
            f'The LoRA "{_called(path)}" does not fit this model: {len(lost)} of its {len(deltas)} layers have no '
            f"place in it, the first is {sorted(lost)[0]}.",
            "Choose a LoRA made for this model's family (SD 1.5, SDXL, SD 3.5 and FLUX need different ones).",
        )
    return found


def _called(path: Path) -> str:
    """The file's name; of one in the hub's cache with its repository's, since many are called alike."""
    folders = [part for part in path.parts if part.startswith("models--")]
    return "/".join([*folders[-1].split("--")[1:], path.name]) if folders else path.name


def read_lora(path: Path) -> dict[tuple[str, str], Delta]:
    """The deltas in a file, by (part of the model, module path with "_")."""
    if not path.is_file():
        raise ModelError(f'There is no LoRA file "{path}".', "Give the path of a .safetensors file.")
    if path.suffix != ".safetensors":
        raise ModelError(f'The LoRA "{path.name}" is no .safetensors file; others are pickles, which can run code.',
                         "Use a version of it in .safetensors.")  # fmt: skip
    check_safetensors(path, path.name)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            told = json.loads((file.metadata() or {}).get("lora_adapter_metadata") or "{}")
    except (SafetensorError, ValueError, OSError) as error:
        raise ModelError(f'The LoRA "{path.name}" cannot be read: {error}.', "Download it again.") from error
    for word, kind in _OTHER_KINDS.items():
        if any(word in key for key in tensors):
            raise ModelError(f'"{path.name}" is {kind}, which Tweed cannot merge.', "Use an ordinary LoRA.")
    return _deltas(path, tensors, told)


def _deltas(path: Path, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> dict[tuple[str, str], Delta]:
    halves: dict[tuple[str, str], dict[str, Tensor]] = {}
    alphas: dict[tuple[str, str], float] = {}
    for key, tensor in tensors.items():
        ending, alpha = _END.match(key), _ALPHA.match(key)
        if ending:
            halves.setdefault(_name(ending["path"]), {})[_HALVES[ending["half"]]] = tensor
        elif alpha:
            alphas[_name(alpha["path"])] = float(tensor)
        else:
            raise ModelError(f'"{path.name}" holds "{key}", which is no part of a LoRA.', "Choose a LoRA file.")
    found = {}
    for name, pair in halves.items():
        if set(pair) != {"down", "up"} or pair["up"].shape[1] != len(pair["down"]):
            raise ModelError(f'"{path.name}" holds only half of the layer {name[1]}.', "Download it again.")
        rank = len(pair["down"])
        alpha = alphas.get(name, told.get(f"{name[0]}.lora_alpha", rank))
        found[name] = Delta(pair["down"], pair["up"], float(alpha) / rank)
    if not found:
        raise ModelError(f'"{path.name}" holds no LoRA.', "Choose a LoRA file; checkpoints go into the model setting.")
    return found


def _name(path: str) -> tuple[str, str]:
    """(part, module path with "_") of a key's path in any of the layouts."""
    path = path.removeprefix("base_model.model.")
    part = "unet"
    for prefix, named in _PREFIXES:
        if path.startswith(prefix):
            part, path = named, path.removeprefix(prefix)
            break
    flat = path.replace(".", "_").replace("_processor_", "_")
    return part, flat.removeprefix("text_model_") if part.startswith("text") else flat


def _fits(layers: Sequence[nn.Module], matrix: Tensor) -> bool:
    shapes = {tuple(layer.weight.shape[1:]) for layer in layers}
    return shapes == {tuple(matrix.shape[1:])} and sum(len(layer.weight) for layer in layers) == len(matrix)


def _places(module: nn.Module) -> dict[str, list[nn.Module]]:
    """The layers a name in a LoRA file can mean; several where a trainer keeps one fused matrix of them."""
    layers = {name: layer for name, layer in module.named_modules() if getattr(layer, "weight", None) is not None
              and layer.weight.ndim in (2, 4)}  # fmt: skip
    found = {}
    for name, layer in layers.items():
        flat = name.replace(".", "_").removeprefix("text_model_")
        found[flat] = [layer]
        if flat.endswith("to_out_0"):
            found[flat.removesuffix("_0")] = [layer]
        for clip, older in (("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out")):
            if "self_attn" in flat and flat.endswith(clip):  # diffusers' older name for the text encoder's
                found[flat.removesuffix(clip) + older] = [layer]
    if hasattr(module, "down_blocks"):
        found.update({_sgm(name, module.config.layers_per_block): found[name] for name in list(found)})
    if hasattr(module, "single_transformer_blocks"):
        found.update(_flux(layers))
    return found


_OUTER = {
    "time_embedding_linear_1": "time_embed_0", "time_embedding_linear_2": "time_embed_2",
    "add_embedding_linear_1": "label_emb_0_0", "add_embedding_linear_2": "label_emb_0_2",
    "conv_in": "input_blocks_0_0", "conv_out": "out_2",
}  # fmt: skip
_INNER = (("_conv1", "_in_layers_2"), ("_conv2", "_out_layers_3"), ("_time_emb_proj", "_emb_layers_1"),
          ("_conv_shortcut", "_skip_connection"))  # fmt: skip


def _sgm(name: str, layers: int) -> str:
    """The name of a U-Net's layer in the original (LDM, sgm) block order, which SDXL's trainers keep."""
    for ours, theirs in _INNER:
        if "_resnets_" in name and name.endswith(ours):
            name = name.removesuffix(ours) + theirs
    if block := re.match(r"(down|up)_blocks_(\d+)_(resnets|attentions|downsamplers|upsamplers)_(\d+)_(.+)", name):
        where, number, kind, layer, rest = block.groups()
        number, layer = int(number), int(layer)
        if kind == "downsamplers":
            return f"input_blocks_{number * (layers + 1) + layers + 1}_0_{rest.replace('conv', 'op')}"
        if kind == "upsamplers":
            return f"output_blocks_{number * (layers + 1) + layers}_2_{rest}"
        inner = 0 if kind == "resnets" else 1
        if where == "down":
            return f"input_blocks_{number * (layers + 1) + layer + 1}_{inner}_{rest}"
        return f"output_blocks_{number * (layers + 1) + layer}_{inner}_{rest}"
    if middle := re.match(r"mid_block_(resnets|attentions)_(\d+)_(.+)", name):
        return f"middle_block_{1 if middle[1] == 'attentions' else 2 * int(middle[2])}_{middle[3]}"
    return _OUTER.get(name, name)


_DOUBLE = {
    "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"), "img_attn_proj": ("attn.to_out.0",),
    "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"), "txt_attn_proj": ("attn.to_add_out",),
    "img_mlp_0": ("ff.net.0.proj",), "img_mlp_2": ("ff.net.2",), "img_mod_lin": ("norm1.linear",),
    "txt_mlp_0": ("ff_context.net.0.proj",), "txt_mlp_2": ("ff_context.net.2",),
    "txt_mod_lin": ("norm1_context.linear",),
}  # fmt: skip
_SINGLE = {"linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"), "linear2": ("proj_out",),
           "modulation_lin": ("norm.linear",)}  # fmt: skip


def _flux(layers: Mapping[str, nn.Module]) -> dict[str, list[nn.Module]]:
    """FLUX's layers by the names of its original code, where queries, keys and values are one matrix."""
    found = {}
    for kind, prefix, table in (("transformer_blocks", "double_blocks", _DOUBLE),
                                ("single_transformer_blocks", "single_blocks", _SINGLE)):  # fmt: skip
        numbers = {name.split(".")[1] for name in layers if name.startswith(kind + ".")}
        for number in numbers:
            for theirs, ours in table.items():
                paths = [f"{kind}.{number}.{path}" for path in ours]
                if all(path in layers for path in paths):
                    found[f"{prefix}_{number}_{theirs}"] = [layers[path] for path in paths]
    return found
