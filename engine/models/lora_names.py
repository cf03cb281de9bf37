# SPDX-License-Identifier: Apache-2.0
"""What the setting `lora` names: a file here, or one of a repository on the hub, fetched and pinned as models are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blender_addon.jobs.catalogue import entry
from blender_addon.jobs.controls import hub_lora
from blender_addon.jobs.errors import ModelError
from engine.models.hub import fetch_files, weights_of
from engine.models.lora import FoundLora

USUAL = "pytorch_lora_weights.safetensors"  # as diffusers saves a LoRA


def find_loras(loras: Sequence[tuple[str, float]], family: str) -> tuple[FoundLora, ...]:
    """The files of the LoRAs (name, weight), fetched where they are not here.

    `family`: the model's, as in the catalogue. A file that lies at the path comes before a repository of the same name.
    Raises `ModelError` for a repository that cannot be had, that is no LoRA, or whose file for this family cannot be
    told.
    """
    return tuple(_found(name, weight, family) for name, weight in loras)


def _found(name: str, weight: float, family: str) -> FoundLora:
    path, named = Path(name).expanduser(), hub_lora(name)
    if path.exists() or named is None:
        return FoundLora(path, weight, path.name)
    repository, file = named
    file = file or _file(repository, family)
    folder = fetch_files(repository, (file,))
    return FoundLora(folder.path / file, weight, f"{repository.partition('@')[0]}/{file}", folder.revision)


def _file(repository: str, family: str) -> str:
    """Which file of a repository is meant that was named alone."""
    known = entry(repository)
    if known is not None and known.role != "lora":
        raise ModelError(f'"{repository}" is no LoRA; the catalogue has it for this: {known.good_for}.',
                         "Give a LoRA's file or name in lora.")  # fmt: skip
    if known is not None:
        if file := known.file_for(family):
            return file
        raise ModelError(
            f'The LoRA "{repository}" is for {known.family}, and the model is {family or "of none of these"}.',
            f"Choose another LoRA, or name its file: {known.name}/{known.files[0]}." if family else
            "Choose a LoRA and a model of the same family.",
        )  # fmt: skip
    found = weights_of(repository)
    if len(found) > 1 and USUAL not in found:
        raise ModelError(f'"{repository}" holds several files: {", ".join(found[:12])}.',
                         f"Name the one you want: {repository.partition('@')[0]}/{found[0]}.")  # fmt: skip
    return found[0] if len(found) == 1 else USUAL
