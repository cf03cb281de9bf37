# SPDX-License-Identifier: Apache-2.0
"""From decoded views to the pictures a job writes: of a texture from nothing, of several UDIM tiles, or of a changed one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from blender_addon.jobs.folder import Camera
from blender_addon.jobs.uv_tiles import not_to_be_changed
from engine.finish import complete, covered_share, seen_share
from engine.finish.bake import Baked, bake_views, prepare
from engine.finish.image import to_words
from engine.finish.light import flatten_light
from engine.finish.sheet import Sheet
from engine.given import Given, changed_colour, composed, fine_detail, write_picture
from engine.mesh import Mesh
from engine.raster import Rasterizer
from engine.raster.texels import TexelMap, rasterize_uv
from engine.spaces.uv.gather import Pairs
from engine.tiles import Window

LARGEST = 4096  # side of the picture of several tiles side by side, which only measures and the contact sheet look at


class Painting(Protocol):
    """A texture between bake and file."""

    coverage: float  # share 0..1 of the painted surface that some view sees
    texture: np.ndarray  # f32[T,T,3] in 0..1 in the mesh's UVs; several tiles: side by side, as the mesh has them
    texels: TexelMap  # of `texture`
    baked: Baked  # of `texels`
    owners: np.ndarray | None  # i16[T,T] the view that counts most at each texel, -1 none; None where there are several

    def complete(self) -> dict[str, float]:
        """Everything after the bake; returns facts for the report."""
        ...

    def write(self, out: Path, about: Mapping[str, object]) -> dict[str, str]:
        """Write the picture files into `out`; returns kinds and file names."""
        ...


def begin(given: Given | None, mesh: Mesh, windows: Sequence[Window], cameras: Sequence[Camera], rasterizer: Rasterizer,
          settings: Mapping[str, Any], pairs: Pairs, model, before: Tensor | None, views: Tensor) -> Painting:
    """The views [N,3,H,H] in 0..1 baked. pairs: texels as large as pixels, of the same views; before: see `given_views`."""
    if given is None:
        sheets = [Sheet.blank(mesh, settings["texture_size"], window) for window in windows]
        sources = prepare(views, mesh, cameras, rasterizer, pairs=pairs, level=settings["level_views"])
        for sheet in sheets:
            sheet.gather(sources)
        return Fresh(mesh, sheets, settings)
    bake = partial(bake_views, texels=given.texels, mesh=mesh, cameras=cameras, rasterizer=rasterizer)
    return Changed(mesh, given, bake(views), lambda: fine_detail(settings, model, before, bake), settings)


def check_windows(windows: Sequence[Window], edits: bool) -> None:
    """Raises SettingsError where a texture is to be changed that is more than one."""
    if edits and (len(windows) > 1 or windows[0].scale != 1.0):
        raise not_to_be_changed()


@dataclass
class Fresh:
    """Textures painted from nothing, one per window."""

    mesh: Mesh
    sheets: list[Sheet]
    settings: Mapping[str, Any]

    @cached_property
    def coverage(self) -> float:
        return covered_share(self.mesh, self.sheets)

    def complete(self) -> dict[str, float]:
        self.coverage  # noqa: B018  (of what the views see, before the rest is filled)
        if self.settings["flatten_light"] > 0:
            flatten_light(self.sheets, self.settings["flatten_light"])
        return {"seam_step": round(complete(self.mesh, self.sheets, self.settings["padding"]), 5)}

    def write(self, out: Path, about: Mapping[str, object]) -> dict[str, str]:
        images = {}
        for sheet in self.sheets:
            name = f"base_color.{sheet.window.name}.png" if sheet.window.name else "texture.png"
            deep = self.settings["texture_depth"] == 16
            write_picture(out / name, to_words(sheet.image) if deep else sheet.image, about)
            images[f"base_color.{sheet.window.name}" if sheet.window.name else "base_color"] = name
        return {"base_color": next(iter(images.values())), **images}

    @cached_property
    def texture(self) -> np.ndarray:
        return self.sheets[0].image if self._plain else side_by_side(self.sheets, [sheet.image for sheet in self.sheets])

    @cached_property
    def texels(self) -> TexelMap:
        return self.sheets[0].texels if self._plain else rasterize_uv(self.mesh, len(self.texture))

    @property
    def baked(self) -> Baked:
        if self._plain:
            return self.sheets[0].baked
        index, texels = self.texels.index, self.texels
        owner = side_by_side(self.sheets, [sheet.owner[..., None] for sheet in self.sheets], -1).reshape(-1)[index]
        weight = side_by_side(self.sheets, [sheet.weight[..., None] for sheet in self.sheets], 0).reshape(-1)[index]
        colour = np.where((owner >= 0)[:, None], self.texture.reshape(-1, 3)[texels.index], 0).astype(np.float32)
        return Baked(colour, weight.astype(np.float32), owner.astype(np.int16))

    @property
    def owners(self) -> np.ndarray | None:
        return self.sheets[0].owner if self._plain else None

    @property
    def _plain(self) -> bool:
        return len(self.sheets) == 1 and self.sheets[0].window.scale == 1.0


@dataclass
class Changed:
    """The texture an object had, changed."""

    mesh: Mesh
    given: Given
    baked: Baked
    finest: Callable[[], tuple[Baked | None, float]]
    settings: Mapping[str, Any]

    @cached_property
    def coverage(self) -> float:
        return seen_share(self.mesh, self.given.texels, self.baked.owner >= 0)

    def complete(self) -> dict[str, float]:
        colour = changed_colour(self.given, self.baked, *self.finest())
        self.picture, self.texture = composed(self.given, colour, self.settings["padding"])
        return {}

    def write(self, out: Path, about: Mapping[str, object]) -> dict[str, str]:
        write_picture(out / "texture.png", self.picture, about)
        return {"base_color": "texture.png"}

    @property
    def texels(self) -> TexelMap:
        return self.given.texels

    @property
    def owners(self) -> np.ndarray:
        out = np.full(self.given.size**2, -1, np.int16)
        out[self.given.texels.index] = self.baked.owner
        return out.reshape(self.given.size, self.given.size)


def side_by_side(sheets: Sequence[Sheet], images: Sequence[np.ndarray], empty: float = 0.5) -> np.ndarray:
    """Images [T,T,C] of the sheets where the mesh's common UVs have them: the nearest texel of [S,S,C], S at most 4096."""
    scale = max(sheet.window.scale for sheet in sheets)
    side = min(int(np.ceil(sheets[0].uv.size * scale / 64)) * 64, LARGEST)
    out = np.full((side, side, images[0].shape[2]), empty, images[0].dtype)
    centre = (np.arange(side) + 0.5) / side
    for sheet, image in zip(sheets, images, strict=True):
        u, v = sheet.window.local(np.stack([centre, 1 - centre], 1)).T
        size = len(image)
        # the margin around a cell repeats the texture's edge, for lookups at it
        near = [np.flatnonzero((place > -0.02) & (place < 1.02)) for place in (v, u)]
        row = np.clip(((1 - v[near[0]]) * size).astype(np.int64), 0, size - 1)
        column = np.clip((u[near[1]] * size).astype(np.int64), 0, size - 1)
        out[near[0][:, None], near[1]] = image[row[:, None], column]
    return out
