# SPDX-License-Identifier: Apache-2.0
"""Resumable state as safetensors plus one JSON file; never pickle."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from .export import replace_by

MOMENTS = ("exp_avg", "exp_avg_sq")


def save(folder, networks, ema, optimizer, facts):
    """Replace the checkpoint in `folder` as a whole."""
    moments = {}
    for i, parameter in enumerate(networks.parameters()):
        state = optimizer.state.get(parameter, {})
        moments |= {f"{i}.{key}": state[key].contiguous() for key in MOMENTS if key in state}

    def write(fresh):
        save_file(_tensors(networks), fresh / "weights.safetensors")
        save_file(_tensors(ema), fresh / "ema.safetensors")
        save_file(moments, fresh / "moments.safetensors")
        (fresh / "facts.json").write_text(json.dumps(facts, indent=1))

    replace_by(folder, write)


def load(folder, networks, ema, optimizer):
    """Restore what `save` wrote and return its facts, or None when there is no checkpoint."""
    folder = Path(folder)
    if not (folder / "facts.json").exists():
        return None
    for name, nets in (("weights", networks), ("ema", ema)):
        load_weights(nets, folder / f"{name}.safetensors")
    facts = json.loads((folder / "facts.json").read_text())
    moments = load_file(folder / "moments.safetensors")
    for i, parameter in enumerate(networks.parameters()):
        if f"{i}.exp_avg" in moments:
            optimizer.state[parameter] = {key: moments[f"{i}.{key}"] for key in MOMENTS}
            optimizer.state[parameter]["step"] = torch.tensor(float(facts["iteration"]))
    return facts


def load_weights(networks, path):
    tensors = load_file(path)
    for name, module in networks.modules.items():
        module.load_state_dict({k.removeprefix(name + "."): v for k, v in tensors.items() if k.startswith(name + ".")})


def adopt(networks, folder):
    """Start from the weights of an exported model, whose vocabulary and layers may be fewer: tokens are matched by name.

    Returns how many of the networks' numbers were taken over, 0..1.
    """
    folder, taken, total = Path(folder), 0, 0
    old = CLIPTokenizer.from_pretrained(folder / "tokenizer").get_vocab()
    rows = [(new, old[token]) for token, new in networks.tokenizer.get_vocab().items() if token in old]
    for name, module in networks.modules.items():
        found = {}
        for path in (folder / name).glob("*.safetensors"):
            found |= load_file(path)
        state = module.state_dict()
        with torch.no_grad():
            for key, value in state.items():
                total += value.numel()
                if key not in found:
                    continue
                if value.shape == found[key].shape:
                    value.copy_(found[key])
                    taken += value.numel()
                elif key.endswith("token_embedding.weight"):
                    mine, theirs = (torch.tensor(part) for part in zip(*rows))
                    value[mine] = found[key][theirs].to(value)
                    taken += value[mine].numel()
    return taken / total


def _tensors(networks):
    return {f"{name}.{key}": value.contiguous() for name, module in networks.modules.items()
            for key, value in module.state_dict().items()}


def history(folder):
    """The training runs whose weights an exported model goes back to, oldest first, its own last."""
    facts = json.loads((Path(folder) / "swatch.json").read_text())["training"]
    own = {key: facts[key] for key in ("recipe", "device", "samples", "seconds", "seed") if key in facts}
    return [*facts.get("before", []), own]
