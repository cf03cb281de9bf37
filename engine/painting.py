# SPDX-License-Identifier: Apache-2.0
"""From decoded views to the pictures a job writes: of textures from nothing, or of changed ones; one, or several UDIM tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from blender_addon.jobs.folder import Camera, of_tile
from engine.changed import as_rgb, changed_colour, composed, fine_detail, write_picture
from engine.finish import complete, covered_share, seen_share
from engine.finish.bake import Baked, bake_views, prepare
from engine.finish.image import to_words
from engine.finish.light import flatten_light
from engine.finish.sheet import Sheet
from engine.given import Given
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
    owners: dict[str, np.ndarray]  # of each window, by its name: i16[T,T] the view that counts most at a texel, -1 none

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
        step = complete(self.mesh, self.sheets, self.settings["padding"])
        return {"seam_step": round(step, 5), "textures": len(self.sheets)}

    def write(self, out: Path, about: Mapping[str, object]) -> dict[str, str]:
        deep = self.settings["texture_depth"] == 16
        return write_textures(out, ((sheet.window, to_words(sheet.image) if deep else sheet.image) for sheet in self.sheets),
                              about)  # fmt: skip

    @cached_property
    def texture(self) -> np.ndarray:
        return self.sheets[0].image if self._plain else side_by_side(self._windows, [sheet.image for sheet in self.sheets])

    @cached_property
    def texels(self) -> TexelMap:
        return self.sheets[0].texels if self._plain else rasterize_uv(self.mesh, len(self.texture))

    @property
    def baked(self) -> Baked:
        if self._plain:
            return self.sheets[0].baked
        owners, weights = [sheet.owner for sheet in self.sheets], [sheet.weight for sheet in self.sheets]
        return baked_together(self._windows, self.texels, self.texture, owners, weights)

    @property
    def owners(self) -> dict[str, np.ndarray]:
        return {sheet.window.name: sheet.owner for sheet in self.sheets}

    @property
    def _windows(self) -> list[Window]:
        return [sheet.window for sheet in self.sheets]

    @property
    def _plain(self) -> bool:
        return is_plain(self._windows)


@dataclass
class Changed:
    """The textures an object had, changed. found: what the views say about `given.texels`."""

    mesh: Mesh
    given: Given
    found: Baked
    finest: Callable[[], tuple[Baked | None, float]]
    settings: Mapping[str, Any]

    @cached_property
    def coverage(self) -> float:
        return seen_share(self.mesh, self.given.texels, self.found.owner >= 0)

    def complete(self) -> dict[str, float]:
        colour = changed_colour(self.given, self.found, *self.finest())
        self.pictures = composed(self.given, colour, self.settings["padding"])
        return {"textures": len(self.pictures)}

    def write(self, out: Path, about: Mapping[str, object]) -> dict[str, str]:
        return write_textures(out, zip(self._windows, self.pictures, strict=True), about)

    @cached_property
    def texture(self) -> np.ndarray:
        shown = [as_rgb(picture) for picture in self.pictures]
        return shown[0] if self._plain else side_by_side(self._windows, shown)

    @cached_property
    def texels(self) -> TexelMap:
        return self.given.texels if self._plain else rasterize_uv(self.mesh, len(self.texture))

    @property
    def baked(self) -> Baked:
        if self._plain:
            return self.found
        weights = self.given.spread(self.found.weight, 0)
        return baked_together(self._windows, self.texels, self.texture, list(self.owners.values()), weights)

    @property
    def owners(self) -> dict[str, np.ndarray]:
        owners = self.given.spread(self.found.owner, -1)
        return {skin.window.name: owner for skin, owner in zip(self.given.skins, owners, strict=True)}

    @property
    def _windows(self) -> list[Window]:
        return [skin.window for skin in self.given.skins]

    @property
    def _plain(self) -> bool:
        return is_plain(self._windows)


def is_plain(windows: Sequence[Window]) -> bool:
    """Whether the mesh's UVs are those of a single texture, as they are."""
    return len(windows) == 1 and windows[0].scale == 1.0


def write_textures(out: Path, pictures: Iterable[tuple[Window, np.ndarray]], about: Mapping[str, object]) -> dict[str, str]:
    """Write a picture for each window; returns kinds and file names. The first of several is the `base_color` as well."""
    images = {}
    for window, picture in pictures:
        name = f"{of_tile('base_color', window.name)}.png" if window.name else "texture.png"
        write_picture(out / name, picture, about)
        images[of_tile("base_color", window.name)] = name
    return {"base_color": next(iter(images.values())), **images}


def baked_together(windows: Sequence[Window], texels: TexelMap, texture: np.ndarray, owners: Sequence[np.ndarray],
                   weights: Sequence[np.ndarray]) -> Baked:  # fmt: skip
    """What is known of `texels` of several textures side by side. owners i16, weights [T,T] are of each of them."""
    index = texels.index
    owner = side_by_side(windows, [one[..., None] for one in owners], -1).reshape(-1)[index]
    weight = side_by_side(windows, [one[..., None] for one in weights], 0).reshape(-1)[index]
    colour = np.where((owner >= 0)[:, None], texture.reshape(-1, 3)[index], 0).astype(np.float32)
    return Baked(colour, weight.astype(np.float32), owner.astype(np.int16))


def side_by_side(windows: Sequence[Window], images: Sequence[np.ndarray], empty: float = 0.5) -> np.ndarray:
    """Images [T,T,C] of the windows where the mesh's common UVs have them: the nearest texel of [S,S,C], S at most 4096."""
    scale = max(window.scale for window in windows)
    side = min(int(np.ceil(len(images[0]) * scale / 64)) * 64, LARGEST)
    out = np.full((side, side, images[0].shape[2]), empty, images[0].dtype)
    centre = (np.arange(side) + 0.5) / side
    for window, image in zip(windows, images, strict=True):
        u, v = window.local(np.stack([centre, 1 - centre], 1)).T
        size = len(image)
        # the margin around a cell repeats the texture's edge, for lookups at it
        near = [np.flatnonzero((place > -0.02) & (place < 1.02)) for place in (v, u)]
        row = np.clip(((1 - v[near[0]]) * size).astype(np.int64), 0, size - 1)
        column = np.clip((u[near[1]] * size).astype(np.int64), 0, size - 1)
        out[near[0][:, None], near[1]] = image[row[:, None], column]
    return out
