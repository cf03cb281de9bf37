# SPDX-License-Identifier: Apache-2.0
"""What every family does when it loads: its parts from their folders, on the device, in the right number format."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from blender_addon.jobs.errors import ModelError
from engine.denoiser import PREDICTIONS
from engine.device import dtype_for, free_memory, memory_guard
from engine.memory import Plan, plan_model
from engine.models.codec import CODECS, Codec
from engine.models.depot import Depot
from engine.models.folders import ModelFolder, Report, fingerprint, licence, load_part, weight_elements
from engine.models.lora import FoundLora, merge_loras
from engine.models.multiview import load_adapter, shifted
from engine.schedule import levels_from_config

NETWORKS = ("unet", "transformer", "controlnet")  # what gains from channels-last memory on CUDA
NUMBERS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
FLOAT8 = torch.float8_e4m3fn  # what weights are kept in with precision "float8", not what they are computed in
# What a schedule of the settings changes in the model's own scheduler config.
SCHEDULES: dict[str, dict[str, Any]] = {
    "model": {},
    "trailing": {"timestep_spacing": "trailing", "steps_offset": 0},  # Lightning, Hyper-SD and Turbo
    "lcm": {"_class_name": "LCMScheduler", "original_inference_steps": 50},  # LCM and LCM-LoRA
}


@dataclass(frozen=True)
class Extras:
    """What a job adds to a model when it is loaded. Two jobs with equal extras share the loaded model.

    vae, preview_vae, style, multiview: a folder, file or hub id, "" for none. loras: (path or hub id, weight). kinds:
    what the ControlNets follow.
    stamps: sizes and times of the LoRA files, so that a file trained anew is loaded anew.
    precision, memory, compiled: see the settings `precision`, `memory` and `compile_model`.
    """

    vae: str = ""
    preview_vae: str = ""
    loras: tuple[tuple[str, float], ...] = ()
    style: str = ""
    schedule: str = "model"
    kinds: tuple[str, ...] = ("depth",)
    stamps: tuple[tuple[int, int], ...] = ()
    precision: str = "auto"
    memory: str = "auto"
    compiled: bool = False
    multiview: str = ""


@dataclass(frozen=True)
class Wanted:
    """One model to load: where its parts are, where they go."""

    folder: ModelFolder
    device: torch.device
    controls: tuple[ModelFolder, ...] = ()
    dtype: torch.dtype | None = None
    progress: Report = field(default=lambda part, done, total: None, repr=False)
    extras: Extras = Extras()
    vae: ModelFolder | None = None  # of its own; None: the folder's
    preview_vae: ModelFolder | None = None
    style: tuple[ModelFolder, str] | None = None  # (folder, weights file)
    style_encoder: ModelFolder | None = None  # what sees the style's picture; None: it lies beside the weights
    loras: tuple[FoundLora, ...] = ()  # those of the extras, found
    multiview: tuple[ModelFolder, str] | None = None  # as that
    pipeline: str = ""  # class in model_index.json
    parts: dict[str, Any] | None = field(default=None, repr=False)  # already loaded from:
    file: Path | None = None  # a single-file checkpoint

    @property
    def number(self) -> torch.dtype:
        """The format the networks compute in. Transformers overflow in float16, so on GPUs they take bfloat16."""
        if self.dtype is not None:
            return self.dtype
        if self.extras.precision in NUMBERS:
            return NUMBERS[self.extras.precision]
        if self.device.type != "cpu" and self.folder.has("transformer"):
            return torch.bfloat16
        return dtype_for(self.device)

    @property
    def exact(self) -> torch.dtype:
        """The format of text encoder and codec: little work, visible rounding."""
        return self.number if self.device.type == "cuda" else torch.float32

    def scheduler(self) -> dict[str, Any]:
        """scheduler_config.json with the changes of the chosen schedule; `ModelError` if it is not known here."""
        config = {**self.folder.json("scheduler/scheduler_config.json"), **SCHEDULES[self.extras.schedule]}
        prediction = config.get("prediction_type", "epsilon")
        if prediction not in PREDICTIONS:
            raise ModelError(f'Model "{self.folder.name}" predicts "{prediction}", which is not known here.',
                             f"Known are {', '.join(PREDICTIONS)}.")  # fmt: skip
        levels_from_config(config, 1, mu=1.0)
        return config if self.multiview is None else shifted(config)


Need = tuple[str, tuple[str, ...], torch.dtype | None]  # part, classes that will do, number format


def load_parts(wanted: Wanted, needs: Sequence[Need], control_classes: tuple[str, ...]) -> dict[str, Any]:
    """The parts by name, on the CPU, with LoRAs merged; "controlnets" is a list. Reports each to `wanted.progress`."""
    total = len(needs) + len(wanted.controls)
    parts: dict[str, Any] = {"controlnets": [], "plan": plan_of(wanted, needs)}
    for done, (part, classes, kind) in enumerate(needs):
        wanted.progress(part, done, total)
        if wanted.parts and part in wanted.parts:
            parts[part] = wanted.parts[part].to(kind) if kind else wanted.parts[part]
        elif part == "vae" and wanted.vae is not None:
            parts[part] = load_part(wanted.vae, ".", classes, kind)
        else:
            parts[part] = load_part(wanted.folder, part, classes, kind)
    for number, folder in enumerate(wanted.controls):
        wanted.progress("controlnet", len(needs) + number, total)
        parts["controlnets"].append(load_part(folder, ".", control_classes, wanted.number))
    if wanted.preview_vae is not None:
        parts["preview_vae"] = load_part(wanted.preview_vae, ".", ("AutoencoderTiny",), wanted.exact)
    if wanted.loras:
        modules = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
        modules.setdefault("unet", modules.get("transformer"))
        merge_loras([(one.path, one.weight) for one in wanted.loras], modules)
    if wanted.multiview is not None:
        parts["multiview"] = load_adapter(*wanted.multiview, parts["unet"], wanted.number)
    return parts


def plan_of(wanted: Wanted, needs: Sequence[Need]) -> Plan:
    """Where the parts are kept, from the headers of their weights. Raises `DeviceError` where they do not fit."""
    groups = {"text": 0, "codec": 0, "networks": 0}
    for part, _, kind in needs:
        if kind is not None and not (wanted.parts and part in wanted.parts):
            where = wanted.vae.path if part == "vae" and wanted.vae is not None else wanted.folder.path / part
            groups[_group(part)] += weight_elements(where) * _bytes(wanted, part, kind)
    if wanted.multiview is not None:
        folder, file = wanted.multiview
        groups["networks"] += weight_elements(folder.path / file) * wanted.number.itemsize
    if wanted.style is not None:
        folder, file = wanted.style
        adapters = [folder.path / file] if file else folder.path.glob("*.safetensors")
        groups["networks"] += sum(weight_elements(path) for path in adapters) * wanted.number.itemsize
    for folder in wanted.controls:
        groups["networks"] += weight_elements(folder.path) * _bytes(wanted, "controlnet", wanted.number)
    return plan_model(groups, free_memory(wanted.device), wanted.folder.name, wanted.extras.memory,
                      own_memory=wanted.device.type == "cuda")  # fmt: skip


def _group(part: str) -> str:
    return "text" if part.startswith("text") else "codec" if part.endswith("vae") else "networks"


def _bytes(wanted: Wanted, part: str, kind: torch.dtype) -> int:
    return 1 if wanted.extras.precision == "float8" and part in NETWORKS else kind.itemsize


def settle(wanted: Wanted, parts: dict[str, Any]) -> Depot:
    """Puts all networks where the plan has them; U-Nets and ControlNets channels-last on CUDA."""
    groups: dict[str, list[nn.Module]] = {"text": [], "codec": [], "networks": []}
    with memory_guard(wanted.device, f"Loading {wanted.folder.name}"):
        for name, module in [*parts.items(), *(("controlnet", net) for net in parts["controlnets"])]:
            if not isinstance(module, nn.Module):
                continue
            if name == "preview_vae":
                module.to(wanted.device)
                continue
            groups[_group(name)].append(module)
            if name in NETWORKS:
                _economize(wanted, module)
        depot = Depot(wanted.device, groups, parts["plan"].offload)
        depot.settle()
    wanted.progress("ready", *[len(parts) - 2 + len(parts["controlnets"])] * 2)
    return depot


def _economize(wanted: Wanted, network: nn.Module) -> None:
    if wanted.device.type == "cuda":
        network.to(memory_format=torch.channels_last)
    if wanted.extras.precision == "float8":
        network.enable_layerwise_casting(storage_dtype=FLOAT8, compute_dtype=wanted.number)
    if wanted.extras.compiled:
        # for each size of batch by itself: sizes that are left open take minutes where views look at each other
        network.compile(dynamic=False)


def codec_of(wanted: Wanted, parts: dict[str, Any], depot: Depot, upcast: bool = False) -> Codec:
    """The codec of the loaded parts. `upcast`: the autoencoder overflows in float16 where its config says so."""
    vae, quick = parts["vae"], parts.get("preview_vae")
    if upcast and vae.dtype == torch.float16 and vae.config.get("force_upcast"):
        vae.to(torch.float32)
    if quick is not None and quick.config.latent_channels != vae.config.latent_channels:
        raise ModelError(f'The preview decoder "{wanted.preview_vae.name}" is for another model: it reads '
                         f"{quick.config.latent_channels} channels, and this one has {vae.config.latent_channels}.",
                         "TinyVAE has one for each family: taesd, taesdxl, taesd3, taef1.")  # fmt: skip
    return Codec(vae, wanted.device, quick, depot)


VAES = CODECS


def check_text_width(name: str, reads: int, width: int) -> None:
    """Raises `ModelError` where the network reads text of another width than the encoders make."""
    if reads != width:
        raise ModelError(f'The U-Net of model "{name}" reads text of width {reads}, not {width}.',
                         "The parts are of different models: copy or download the folder again.")  # fmt: skip


def check_controls_fit(name: str, network: nn.Module, controlnets: Sequence[nn.Module], keys: Sequence[str]) -> None:
    """Raises `ModelError` for a ControlNet whose config differs from the network's in one of `keys`."""
    for net in controlnets:
        if any(_plain(net.config.get(key)) != _plain(network.config.get(key)) for key in keys):
            raise ModelError(
                f'The ControlNet does not fit the U-Net of model "{name}".',
                "Choose a ControlNet made for this model's version (SD 1.5, SD 2.1 and SDXL need different ones).",
            )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def model_info(wanted: Wanted, plan: Plan) -> dict[str, Any]:
    """Licence, fingerprint, revision, versions and dtype, for reports; "notes": what the artist should hear."""
    folder, extras = wanted.folder, wanted.extras
    found: dict[str, Any] = {
        "name": folder.name,
        "folder": str(folder.path),
        "revision": folder.revision,
        "licence": licence(folder),
        "fingerprint": fingerprint(wanted.file or folder.path),
        "dtype": str(wanted.number).removeprefix("torch."),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "diffusers", "transformers")},
    }
    apart = [one for one in wanted.controls if one.path.parent != folder.path]
    if apart:
        told = [{"name": one.name, "revision": one.revision, "fingerprint": fingerprint(one.path)} for one in apart]
        found["control"] = told[0] if len(told) == 1 else told
    if wanted.loras:
        found["loras"] = [one.report() for one in wanted.loras]
    if plan.note:
        found["notes"] = [plan.note]
    if wanted.style is not None:
        parts = [wanted.style[0], *([wanted.style_encoder] if wanted.style_encoder else [])]
        found["style"] = [{"name": one.name, "revision": one.revision} for one in parts]
    for key, value in (("vae", extras.vae), ("multiview", extras.multiview)):
        if value:
            found[key] = value
    return found
