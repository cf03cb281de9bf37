# SPDX-License-Identifier: Apache-2.0
"""The textures an object has already: read from the job's folder, limited to a region, and seen by the views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blender_addon.jobs.errors import JobError, MeshError, SettingsError
from blender_addon.jobs.folder import Job, inside, needs_texture, of_tile
from blender_addon.jobs.png import png_header
from engine.finish.bake import part
from engine.finish.fill import fill_unseen
from engine.mesh import Mesh, has_area
from engine.pictures import brightness, colours, read_picture
from engine.raster.gbuffer import GBuffer
from engine.raster.texels import TexelMap, rasterize_uv
from engine.region import feathered
from engine.spaces.uv import UVTexture
from engine.tiles import PLAIN, Window

GREY = 0.0  # in -1..1: what no view sees, and the background


@dataclass(frozen=True)
class Skin:
    """One of the textures that a job starts from: the only one, or that of a UDIM tile. `K` texels in a texture of side T."""

    window: Window
    mesh: Mesh  # with the UVs of this texture
    picture: np.ndarray  # u8 or u16 [T,T,3 or 4], as it was handed in
    mask: np.ndarray | None  # f32[H,W] in 0..1 the region as a picture over its UV square
    texels: TexelMap  # of side T
    rows: slice  # where its texels are among those of all textures

    @property
    def colour(self) -> np.ndarray:
        """f32[K,3] in 0..1: the texture at its texels."""
        peak = np.float32(np.iinfo(self.picture.dtype).max)
        return self.picture.reshape(-1, self.picture.shape[2])[self.texels.index, :3] / peak

    def image(self) -> tuple[np.ndarray, np.ndarray]:
        """(f32[T,T,3] in 0..1, bool[T,T] where the mesh has texels); black elsewhere, whatever lies between the charts."""
        size = self.texels.size
        image, known = np.zeros((size * size, 3), np.float32), np.zeros(size * size, bool)
        image[self.texels.index], known[self.texels.index] = self.colour, True
        return image.reshape(size, size, 3), known.reshape(size, size)


@dataclass(frozen=True)
class Given:
    """The textures that a job starts from, or keeps a part of. `M` texels of the mesh in all of them."""

    skins: tuple[Skin, ...]
    texels: TexelMap  # of all skins, one after the other; `index` is that in a stack of the pictures
    faces: np.ndarray  # i64[F] number of the skin that a triangle has; -1: it is seen, and neither takes nor gives texture
    corners: np.ndarray | None  # f32[F,3] the region at the corners of the triangles
    limited: bool  # there is a region at all
    share: np.ndarray  # f32[M] in 0..1: how much of the new colour a texel takes; 0 outside, rising over the feather
    kept: bool  # the views start from it; else it only fills what lies outside the region

    @property
    def colour(self) -> np.ndarray:
        """f32[M,3] in 0..1: the textures at their texels."""
        return np.concatenate([skin.colour for skin in self.skins])

    def sets(self) -> list[slice]:
        """The texels of each set of textures: of one object, or all of them where there are no sets."""
        numbers = [skin.window.number for skin in self.skins]
        ends = [k + 1 for k, number in enumerate(numbers) if numbers[k + 1 : k + 2] != [number]]
        return [slice(self.skins[first].rows.start, self.skins[end - 1].rows.stop)
                for first, end in zip([0, *ends], ends, strict=False)]  # fmt: skip

    def spread(self, values: np.ndarray, empty: float) -> np.ndarray:
        """Values [M] of the texels as a picture [T,T] for each skin: a stack of them."""
        size = self.texels.size
        out = np.full(len(self.skins) * size**2, empty, values.dtype)
        out[self.texels.index] = values
        return out.reshape(-1, size, size)

    def located(self, texels: TexelMap, mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
        """(number i64[M'] of the skin, f64[M',2] UVs in its own square) of texels of the mesh's common UV square."""
        number = self.faces[texels.triangle]
        return number, self.own(number, np.stack(_places(texels, mesh), 1))

    def own(self, number: np.ndarray, uvs: np.ndarray) -> np.ndarray:
        """UVs f64[K,2] of the common square as those of the skins i64[K]."""
        out = uvs.astype(np.float64)
        for k, skin in enumerate(self.skins):
            out[number == k] = skin.window.local(out[number == k])
        return out

    def may_change(self, texels: TexelMap, mesh: Mesh) -> np.ndarray:
        """f32[M'] in 0..1 at texels of the mesh's common UV square: 1 may change, 0 stays. Without the feather.

        What neither takes nor gives texture may change: nothing is known of how it looks.
        """
        number, uvs = self.located(texels, mesh)
        weights = np.ones(len(number), np.float32)
        for k, skin in enumerate(self.skins):
            rows = np.flatnonzero(number == k)
            weights[rows] = _weights(part(texels, rows), uvs[rows], self.corners, skin.mask)
        return weights


def read_given(folder: Path, job: Job, mesh: Mesh, windows: Sequence[Window] = PLAIN) -> Given | None:
    """The textures and the region of a job, None if it needs neither. windows: of the textures that are painted.

    Raises JobError for pictures that are missing, damaged, not square or too large, SettingsError for a region that
    selects nothing; before a model is loaded.
    """
    settings = job.settings
    if not needs_texture(settings):
        return None
    files = [_texture_file(folder, job, window) for window in windows]  # all are weighed before one is read
    corners, masks = _region(folder, job, windows)
    faces = np.full(len(mesh.triangles), -1, np.int64)
    for number, window in enumerate(windows):
        faces[window.holds(mesh)] = number
    skins, texels = _skins(mesh, windows, [colours(read_picture(file)) for file in files], masks)
    limited = settings["region"] != "all"
    weights = np.concatenate([_weights(s.texels, np.stack(_places(s.texels, s.mesh), 1), corners, s.mask) for s in skins])
    if not weights.any():
        chosen = corners is not None and corners.any()
        words = "None of the chosen faces is painted" if chosen else _NOTHING[settings["region"]]
        raise SettingsError(f"{words}, so nothing of the texture may change.", _REMEDY[settings["region"]], key="region")
    share = feathered(weights, texels, skins[0].mesh, settings["feather"]) if limited else weights
    if not share.any():
        raise SettingsError(f"The region is narrower than its feather of {settings['feather']} texels allows.",
                            "Set feather to 0, or choose a larger region.", key="feather")
    starts = settings["start"] == "texture" or settings["method"] == "edit"
    return Given(skins, texels, faces, corners, limited, share, starts)


def _texture_file(folder: Path, job: Job, window: Window) -> Path:
    """The picture of a texture, of the size that the job wants as far as its header says. JobError, SettingsError."""
    kind, size = of_tile("base_color", window.name), job.settings["texture_size"]
    if kind not in job.inputs and any(name.partition(".")[0] == "base_color" for name in job.inputs):
        tile = f"of the UDIM tile {window.name}" if window.name else "that is one for all UDIM tiles"
        which = f"of {window.name}" if window.number else tile
        raise SettingsError(f"{_reason(job.settings)}, and the job has no texture {which}.",
                            "Give a picture for each tile that the UVs lie in (from the command line: --texture "
                            "NAME.<UDIM>.png), or set uv_tiles to what the UVs mean.", key=_key(job.settings))  # fmt: skip
    if kind not in job.inputs:
        raise SettingsError(
            f"{_reason(job.settings)}, and the job has no texture to start from.",
            "Choose an object with an image on its Base Color (from the command line: --start texture or --texture "
            "FILE), or generate a texture first.", key=_key(job.settings))  # fmt: skip
    path = inside(folder, job.inputs[kind])
    header = png_header(path)
    if header.height != header.width or header.width != size:
        raise JobError(f"{path}: is {header.width} x {header.height} pixels; the job's texture_size is {size}, and an edited "
                       "texture keeps its size.", "Scale the picture to a square of that size, or start the job again.")
    return path


def _skins(mesh: Mesh, windows: Sequence[Window], pictures: Sequence[np.ndarray],
           masks: Sequence[np.ndarray | None]) -> tuple[tuple[Skin, ...], TexelMap]:  # fmt: skip
    """The textures, and the texels of all of them. Raises MeshError where there are none."""
    meshes = [window.of(mesh) for window in windows]
    maps = [rasterize_uv(own, len(picture)) for own, picture in zip(meshes, pictures, strict=True)]
    ends = np.cumsum([len(texels.index) for texels in maps]).tolist()
    if not ends[-1]:
        raise MeshError("The UV map has no area, so the texture cannot be seen on the mesh.", "Unwrap the mesh again.")
    indices = [texels.index for texels in maps]
    whole = _joined(maps)
    skins = []
    for k, (window, own, picture, mask, end) in enumerate(zip(windows, meshes, pictures, masks, ends, strict=True)):
        rows = slice(end - len(indices[k]), end)
        skins.append(Skin(window, own, picture, mask, replace(part(whole, rows), index=indices[k]), rows))
    return tuple(skins), whole


def _joined(maps: list[TexelMap]) -> TexelMap:
    """Texels of textures of one size as those of a stack of them."""
    if len(maps) == 1:
        return maps[0]
    arrays = {field.name: [getattr(texels, field.name) for texels in maps] for field in fields(TexelMap)}
    arrays["index"] = [texels.index + k * texels.size**2 for k, texels in enumerate(maps)]
    whole = {name: np.concatenate(values) for name, values in arrays.items() if isinstance(values[0], np.ndarray)}
    return replace(maps[0], **whole, overlap=max(arrays["overlap"]), overlap_share=float(np.mean(arrays["overlap_share"])))


_NOTHING = {"faces": "No face is selected", "vertex_group": "The vertex group has no weight anywhere",
            "mask": "The mask is black wherever the mesh has UVs", "all": "The mesh has no texels"}  # fmt: skip
_REMEDY = {"faces": "Select faces in Edit Mode, or set region to 'all'.",
           "vertex_group": "Paint weights, or set region to 'all'.",
           "mask": "Paint white where the texture may change, or set region to 'all'.",
           "all": "Unwrap the mesh."}  # fmt: skip


def _reason(settings) -> str:
    if settings["method"] == "edit":
        return "An instruction changes the texture the object has"
    if settings["start"] == "texture":
        return "start is 'texture'"
    return f"region is '{settings['region']}', and what lies outside keeps its texture"


def _key(settings) -> str:
    return "method" if settings["method"] == "edit" else "start" if settings["start"] == "texture" else "region"


def _region(folder: Path, job: Job, windows: Sequence[Window]) -> tuple[np.ndarray | None, list[np.ndarray | None]]:
    """(region at the corners, region as a picture for each window); None where it is not given so."""
    region, none = job.settings["region"], [None] * len(windows)
    if region == "mask":
        paths = []
        for window in windows:
            kind = of_tile("region", window.name)
            if kind not in job.inputs:
                tile = f" of the UDIM tile {window.name}" if window.name else ""
                which = f" of {window.name}" if window.number else tile
                raise SettingsError(f"region is 'mask', and the job has no mask{which}.", "Choose the mask's image "
                                    "(region_mask), with a picture for each UDIM tile, or set region to 'all'.",
                                    key="region_mask")  # fmt: skip
            paths.append(inside(folder, job.inputs[kind]))
        return None, [brightness(read_picture(path)) for path in paths]
    if region in ("faces", "vertex_group"):
        if job.mesh.region is None:
            raise SettingsError(f"region is '{region}', and the job's mesh has none.",
                                "It comes from Blender; from a file, give a mask (--region FILE).", key="region")
        given = np.nan_to_num(job.mesh.region, nan=0.0, posinf=0.0, neginf=0.0)
        return np.clip(given[has_area(job.mesh.positions[job.mesh.triangles])], 0, 1), none
    return None, none


def _weights(texels: TexelMap, uvs: np.ndarray, corners: np.ndarray | None, mask: np.ndarray | None) -> np.ndarray:
    """The region f32[M] at texels whose UVs f64[M,2] are those of the mask's square."""
    if corners is not None:
        weights = np.einsum("mk,mk->m", texels.barycentrics, corners[texels.triangle]).clip(0, 1)
        return np.where(weights > 1 - 1e-5, 1, weights).astype(np.float32)  # barycentrics sum to 1 but for rounding
    if mask is not None:
        return bilinear(mask[..., None], np.ones(mask.shape, bool), uvs[:, 0], uvs[:, 1], mask.shape)[:, 0]
    return np.ones(len(texels.index), np.float32)


def _places(texels: TexelMap, mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """(u, v) f64[M]: a texel's centre, or the point of the chart that a texel of the border shows."""
    row, column = np.divmod(texels.index, texels.size)
    u, v = (column + 0.5) / texels.size, 1 - (row + 0.5) / texels.size
    rim = texels.border
    shown = np.einsum("mk,mkc->mc", texels.barycentrics[rim], mesh.uvs[mesh.triangle_uvs[texels.triangle[rim]]])
    u[rim], v[rim] = shown[:, 0], shown[:, 1]
    return u, v


def bilinear(image: np.ndarray, known: np.ndarray, u: np.ndarray, v: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Values f32[K,C] of `image` [H,W,C] at (u, v), from the `known` bool[H,W] of the four pixels around.

    Where none of the four is known, the nearest pixel whatever it is.
    """
    height, width = shape
    x, y = np.asarray(u, np.float64) * width - 0.5, (1 - np.asarray(v, np.float64)) * height - 0.5
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    total, weight = np.zeros((len(x), image.shape[2]), np.float32), np.zeros((len(x), 1), np.float32)
    for down in (0, 1):
        for right in (0, 1):
            row, column = np.clip(top + down, 0, height - 1), np.clip(left + right, 0, width - 1)
            part = (1 - np.abs(x - left - right)) * (1 - np.abs(y - top - down)) * known[row, column]
            part = part.astype(np.float32)[:, None]
            total += part * image[row, column]
            weight += part
    row, column = (np.clip(np.rint(place).astype(np.int64), 0, end - 1) for place, end in ((y, height), (x, width)))
    return np.where(weight > 1e-6, total / np.maximum(weight, 1e-6), image[row, column]).astype(np.float32)


def given_views(
    given: Given | None, space: UVTexture, mesh: Mesh, gbuffer: GBuffer
) -> tuple[Tensor | None, Tensor | None]:
    """(the start views, the region on the texels of `space`) as a method's task wants them."""
    if given is None:
        return None, None
    region = torch.from_numpy(given.may_change(space.texels, mesh)).to(space.device) if given.limited else None
    return start_views(given, space, mesh, gbuffer), region


def start_views(given: Given, space: UVTexture, mesh: Mesh, gbuffer: GBuffer) -> Tensor:
    """The views [N,3,H,H] in -1..1 of the textures, as `space` projects them; the background is grey.

    Texels of the space are means of the textures' own, never of the padding between charts. Pixels of the mesh that no
    texel of the space stands for (too steep for every view) look the texture up by themselves. Faces that neither take
    nor give texture go on in the colours around them: how they look is not known, and grey would be a thing to see.
    """
    bare = torch.from_numpy(gbuffer.mask) & (space.mask[:, 0] == 0).cpu()
    steep = bare.numpy()
    number, uvs = given.located(space.texels, mesh)
    pixel = given.faces[gbuffer.triangle[steep]]
    seen = given.own(pixel, gbuffer.uv[steep])
    found = np.zeros((len(number) + len(pixel), 3), np.float32)
    texels, pixels = found[: len(number)], found[len(number) :]
    for k, skin in enumerate(given.skins):
        (image, known), mine, own = skin.image(), number == k, pixel == k
        texels[mine] = bilinear(image, known, *uvs[mine].T, known.shape)
        pixels[own] = bilinear(image, known, *seen[own].T, known.shape)
        _average(skin, image, space.texels, mine, texels)
    if (given.faces < 0).any():
        position = np.concatenate([space.texels.position, gbuffer.position[steep]])
        normal = np.concatenate([space.texels.normal, gbuffer.normal[steep]])
        found = fill_unseen(position, normal, found, np.append(number, pixel) >= 0)
    z = torch.from_numpy(found[: len(number)]).t() * 2 - 1
    views = torch.where(space.mask > 0, space.project(z.contiguous().to(space.device)), torch.tensor(GREY))
    views.permute(0, 2, 3, 1)[bare] = torch.from_numpy(found[len(number) :]).to(space.device) * 2 - 1
    return views


def _average(skin: Skin, image: np.ndarray, coarse: TexelMap, mine: np.ndarray, out: np.ndarray) -> None:
    """Give those texels of a space (`mine` bool[M']) that have finer ones of the skin inside their mean, in out f32[M',3]."""
    fine = skin.texels
    if fine.size * skin.window.scale <= coarse.size:
        return
    row, column = np.divmod(fine.index, fine.size)
    u, v = skin.window.common(np.stack([column + 0.5, fine.size - row - 0.5], 1) / fine.size).T
    cell = ((1 - v) * coarse.size).astype(np.int64) * coarse.size + (u * coarse.size).astype(np.int64)
    place = np.full(coarse.size**2, -1, np.int64)
    place[coarse.index[mine]] = np.flatnonzero(mine)
    slot = place[cell]
    inner = slot >= 0
    count = np.bincount(slot[inner], minlength=len(out))
    values = image.reshape(-1, 3)[fine.index[inner]]
    sums = np.stack([np.bincount(slot[inner], values[:, k], len(out)) for k in range(3)], 1)
    filled = count > 0
    out[filled] = sums[filled] / count[filled, None]


def edit_of(settings, before: Tensor | None) -> dict:
    """What the denoiser of an edit is given more than others."""
    if settings["method"] != "edit":
        return {}
    asked = settings["image_guidance"]
    return {"image": before, **({"image_guidance": asked} if asked >= 0 else {})}
