# SPDX-License-Identifier: Apache-2.0
"""Write the model as ordinary diffusers folders, as a whole or not at all."""

import copy
import hashlib
import json
import os
import shutil
from pathlib import Path

import diffusers

from .words import BEHIND, COLOURS, FREQUENCIES, MATERIALS, SYNONYMS, TONES

CLASSES = {
    "vae": ["engine.models.patch_codec", "LinearPatchCodec"], "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
    "controlnet": ["diffusers", "ControlNetModel"], "scheduler": ["diffusers", "DDIMScheduler"]}
VERSION = 2    # of the recipe and its words
DEFAULTS = dict(steps=20, guidance=2.0, guidance_rescale=0.7)


def export(networks, codec, recipe, facts, folder):
    """Write `folder`: half-precision nets, and the codec in full precision so that its round trip stays exact."""
    def write(fresh):
        codec.save_pretrained(fresh / "vae")
        config = json.loads((fresh / "vae" / "config.json").read_text())
        config.pop("_name_or_path", None)   # where it was trained is nobody's business
        _write(fresh / "vae" / "config.json", config)
        for name, module in networks.modules.items():
            copy.deepcopy(module).half().save_pretrained(fresh / name)
        networks.tokenizer.save_pretrained(fresh / "tokenizer")
        networks.scheduler.save_pretrained(fresh / "scheduler")
        _write(fresh / "model_index.json", {"_class_name": "SwatchPipeline", "_diffusers_version": diffusers.__version__, **CLASSES})
        (fresh / "README.md").write_text(model_card(facts))
        weights = sorted(fresh.rglob("*.safetensors"))
        for path in weights:
            path.chmod(0o644)
        _write(fresh / "swatch.json", {
            "name": "swatch", "version": VERSION, "view_size": recipe.view_size, "latent_factor": recipe.patch,
            "latent_channels": recipe.channels, "defaults": DEFAULTS, "words": known_words(), "training": facts,
            "bytes": sum(p.stat().st_size for p in weights),
            "sha256": {p.relative_to(fresh).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
                       for p in sorted(fresh.rglob("*")) if p.suffix in (".safetensors", ".json", ".txt")}})

    replace_by(folder, write)


def replace_by(folder, write):
    """Let `write` fill a temporary neighbour, then put it where `folder` is; readers see the old or the new one."""
    folder = Path(folder)
    fresh, old = (folder.with_name(f"{folder.name}.{os.getpid()}.{end}") for end in ("new", "old"))
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    write(fresh)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def known_words():
    """The words a prompt can use, by kind, main spelling first."""
    def spelled(words):
        return {w: SYNONYMS.get(w, [w]) for w in words}

    wear = dict.fromkeys(w for m in MATERIALS.values() for w in m.wear)
    sizes = [s for s in FREQUENCIES if s]
    return dict(colours=spelled(COLOURS), tones=list(TONES), materials={k: list(m.phrases) for k, m in MATERIALS.items()},
                wear={w: spelled([w])[w] + ([BEHIND[w]] if w in BEHIND else []) for w in wear}, sizes=spelled(sizes))


def model_card(facts):
    text = (Path(__file__).parent / "model_card.md").read_text()
    runs = [*facts.get("before", []), facts]
    told = [f"- {run.get('recipe', 'recipe not recorded')}, on {run.get('device', 'cpu')}: {run['seconds'] / 60:.0f} minutes, "
            f"{run['samples'] / 1000:.0f} thousand windows" for run in runs]
    lines = [f"- {key}: {value}" for key, value in facts.items() if key not in ("loss", "before")]
    hours = sum(run["seconds"] for run in runs) / 3600
    for name, value in (("version", VERSION), ("hours", f"{hours:.1f}"), ("runs", "\n".join(told)), ("facts", "\n".join(lines))):
        text = text.replace("{{" + name + "}}", str(value))
    return text


def _write(path, content):
    path.write_text(json.dumps(content, indent=2) + "\n")

