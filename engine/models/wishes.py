# SPDX-License-Identifier: Apache-2.0
"""What the settings of a job ask of a model: what is added to it, what it follows, whose style it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blender_addon.jobs.controls import hub_lora, parse_controls, parse_loras
from blender_addon.jobs.errors import ModelError, SettingsError
from blender_addon.jobs.records import Camera
from engine.mesh import Mesh
from engine.models.controls import Control
from engine.models.loading import Extras
from engine.models.multiview import MultiViewGuide, follows_geometry, lines_of
from engine.models.view_lines import SharedLines
from engine.pictures import colours, read_picture
from engine.raster.gbuffer import GBuffer
from engine.raster.guides import camera_maps, control_picture, geometry_maps


def extras_of(settings: Mapping[str, Any]) -> Extras:
    """What a model is loaded with. Raises before anything is read: SettingsError, and ModelError for absent LoRAs."""
    loras = tuple(parse_loras(settings["lora"]))
    for name, start, end in (("control", *_range(settings, "control")), ("guidance", *_range(settings, "guidance"))):
        if start >= end:
            raise SettingsError(f"{name}_start is {start:g} and {name}_end is {end:g}: nothing lies between.",
                                f"Set {name}_start below {name}_end.", key=f"{name}_start")  # fmt: skip
    return Extras(
        vae=settings["vae"], preview_vae=settings["preview_vae"], loras=loras,
        style=settings["style_adapter"] if settings["style_image"] else "", schedule=settings["schedule"],
        kinds=tuple(kind for kind, _ in parse_controls(settings["control"])),
        stamps=stamps_of(loras),
        precision=settings["precision"], memory=settings["memory"], compiled=settings["compile_model"],
        multiview=settings["multiview"],
    )  # fmt: skip


def _range(settings: Mapping[str, Any], name: str) -> tuple[float, float]:
    return settings[f"{name}_start"], settings[f"{name}_end"]


def stamps_of(loras: Sequence[tuple[str, float]]) -> tuple[tuple[int, int], ...]:
    """Size and time of each file, zeros for those of the hub; `ModelError` for a path where none is."""
    found = []
    for path, _ in loras:
        try:
            state = Path(path).expanduser().stat()
        except OSError as error:
            if hub_lora(path) is None:
                raise ModelError(f'There is no LoRA file "{path}".',
                                 "Give a .safetensors file's path in lora, or an id: org/name.") from error  # fmt: skip
            found.append((0, 0))
            continue
        found.append((state.st_size, state.st_mtime_ns))
    return tuple(found)


def controls_of(settings: Mapping[str, Any], gbuffer: GBuffer, mesh: Mesh, cameras: Sequence[Camera]) -> list[Control]:
    """The pictures that the setting `control` names, with their strengths and range."""
    return [
        Control(kind, torch.from_numpy(np.ascontiguousarray(control_picture(kind, gbuffer, mesh, cameras))), strength,
                *_range(settings, "control"))
        for kind, strength in parse_controls(settings["control"])
    ]  # fmt: skip


def multiview_lines(settings: Mapping[str, Any], mesh: Mesh, cameras: Sequence[Camera]) -> SharedLines | None:
    """Along which lines the views look at each other by the setting `multiview`; None without an adapter.

    Raises SettingsError for cameras that share none, and for an adapter that cannot be told apart.
    """
    return lines_of(settings["multiview"], cameras, mesh.positions) if settings["multiview"] else None


def multiview_of(
    settings: Mapping[str, Any], gbuffer: GBuffer, mesh: Mesh, cameras: Sequence[Camera]
) -> MultiViewGuide | None:
    """What the multi-view adapter is told of the job; None without one."""
    lines = multiview_lines(settings, mesh, cameras)
    if lines is None:
        return None
    geometry = follows_geometry(settings["multiview"])
    maps = geometry_maps(gbuffer, mesh) if geometry else camera_maps(mesh, cameras, gbuffer.mask.shape[1:])
    return MultiViewGuide(torch.from_numpy(maps), lines)


def style_of(settings: Mapping[str, Any]) -> tuple[torch.Tensor, float] | None:
    """(picture [1,3,H,W] in -1..1, strength) of `style_image` and `style_scale`; transparent parts are grey."""
    if not settings["style_image"]:
        return None
    pixels = colours(read_picture(Path(settings["style_image"]).expanduser()))
    values = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max * 2 - 1
    if values.shape[2] == 4:
        values = values[..., :3] * (values[..., 3:] + 1) / 2
    return torch.from_numpy(np.ascontiguousarray(values[..., :3])).permute(2, 0, 1)[None], settings["style_scale"]
