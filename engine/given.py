# SPDX-License-Identifier: Apache-2.0
"""The texture an object has already: seen by the views, limited to a region, and changed without harm to the rest.

A finished edit is put together from whole numbers. Texels outside the region are copied, never computed, so they come
back bit for bit; inside, what is added is the *change* that the views show, so detail too fine for a view survives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blender_addon.jobs.errors import JobError, MeshError, SettingsError
from blender_addon.jobs.files import atomic_write_bytes
from blender_addon.jobs.folder import Job, inside, needs_texture
from blender_addon.jobs.png import png_bytes
from engine.finish import texture_image
from engine.finish.bake import Baked
from engine.finish.fill import fill_unseen
from engine.finish.image import to_bytes, write_png
from engine.mesh import Mesh, has_area
from engine.pictures import brightness, colours, read_picture
from engine.raster.gbuffer import GBuffer
from engine.raster.texels import TexelMap, rasterize_uv
from engine.region import feathered
from engine.schedule import Level
from engine.spaces.uv import UVTexture

GREY = 0.0  # in -1..1: what no view sees, and the background


@dataclass(frozen=True)
class Given:
    """The texture that a job starts from, or keeps a part of. `M` texels of the mesh in a texture of side T."""

    picture: np.ndarray  # u8 or u16 [T,T,3 or 4], as it was handed in
    texels: TexelMap  # of side T
    corners: np.ndarray | None  # f32[F,3] the region at the corners of the triangles
    mask: np.ndarray | None  # f32[H,W] in 0..1 the region as a picture over the UV square
    limited: bool  # there is a region at all
    share: np.ndarray  # f32[M] in 0..1: how much of the new colour a texel takes; 0 outside, rising over the feather
    kept: bool  # the views start from it; else it only fills what lies outside the region

    @property
    def size(self) -> int:
        return self.texels.size

    @property
    def colour(self) -> np.ndarray:
        """f32[M,3] in 0..1: the texture at its texels."""
        peak = np.float32(np.iinfo(self.picture.dtype).max)
        return self.picture.reshape(-1, self.picture.shape[2])[self.texels.index, :3] / peak

    def may_change(self, texels: TexelMap, mesh: Mesh) -> np.ndarray:
        """f32[M'] in 0..1 at other texels of the same UV map: 1 may change, 0 stays. Without the feather."""
        return _weights(texels, mesh, self.corners, self.mask)


def read_given(folder: Path, job: Job, mesh: Mesh) -> Given | None:
    """The texture and the region of a job, None if it needs neither.

    Raises JobError for pictures that are missing, damaged, not square or too large, SettingsError for a region that
    selects nothing; before a model is loaded.
    """
    settings = job.settings
    if not needs_texture(settings):
        return None
    if "base_color" not in job.inputs:
        raise SettingsError(
            f"{_reason(settings)}, and the job has no texture to start from.",
            "Choose an object with an image on its Base Color (from the command line: --start texture or --texture "
            "FILE), or generate a texture first.", key=_key(settings))  # fmt: skip
    path = inside(folder, job.inputs["base_color"])
    picture = colours(read_picture(path))
    height, width, _ = picture.shape
    if height != width or width != settings["texture_size"]:
        size = settings["texture_size"]
        raise JobError(f"{path}: is {width} x {height} pixels; the job's texture_size is {size}, and an edited texture "
                       "keeps its size.", "Scale the picture to a square of that size, or start the job again.")
    corners, mask = _region(folder, job)
    texels = rasterize_uv(mesh, width)
    if not len(texels.index):
        raise MeshError("The UV map has no area, so the texture cannot be seen on the mesh.", "Unwrap the mesh again.")
    limited = settings["region"] != "all"
    weights = _weights(texels, mesh, corners, mask)
    if not weights.any():
        raise SettingsError(f"{_NOTHING[settings['region']]}, so nothing of the texture may change.",
                            _REMEDY[settings["region"]], key="region")
    share = feathered(weights, texels, mesh, settings["feather"]) if limited else weights
    if not share.any():
        raise SettingsError(f"The region is narrower than its feather of {settings['feather']} texels allows.",
                            "Set feather to 0, or choose a larger region.", key="feather")
    starts = settings["start"] == "texture" or settings["method"] == "edit"
    return Given(picture, texels, corners, mask, limited, share, starts)


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


def _region(folder: Path, job: Job) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(region at the corners, region as a picture); both None when all may change."""
    region = job.settings["region"]
    if region == "mask":
        if "region" not in job.inputs:
            raise SettingsError("region is 'mask', and the job has no mask.",
                                "Choose the mask's image (region_mask), or set region to 'all'.", key="region_mask")
        return None, brightness(read_picture(inside(folder, job.inputs["region"])))
    if region in ("faces", "vertex_group"):
        if job.mesh.region is None:
            raise SettingsError(f"region is '{region}', and the job's mesh has none.",
                                "It comes from Blender; from a file, give a mask (--region FILE).", key="region")
        given = np.nan_to_num(job.mesh.region, nan=0.0, posinf=0.0, neginf=0.0)
        return np.clip(given[has_area(job.mesh.positions[job.mesh.triangles])], 0, 1), None
    return None, None


def _weights(texels: TexelMap, mesh: Mesh, corners: np.ndarray | None, mask: np.ndarray | None) -> np.ndarray:
    if corners is not None:
        weights = np.einsum("mk,mk->m", texels.barycentrics, corners[texels.triangle]).clip(0, 1)
        return np.where(weights > 1 - 1e-5, 1, weights).astype(np.float32)  # barycentrics sum to 1 but for rounding
    if mask is not None:
        every = np.ones(mask.shape, bool)
        return bilinear(mask[..., None], every, *_places(texels, mesh), mask.shape)[:, 0]
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
    region = torch.from_numpy(given.may_change(space.texels, mesh)) if given.limited else None
    return start_views(given, space, mesh, gbuffer), region


def start_views(given: Given, space: UVTexture, mesh: Mesh, gbuffer: GBuffer) -> Tensor:
    """The views [N,3,H,H] in -1..1 of the texture, as `space` projects it; the background is grey.

    Texels of the space are means of the texture's own, never of the padding between charts. Pixels of the mesh that no
    texel of the space stands for (too steep for every view) look the texture up by themselves.
    """
    image = np.zeros((given.size, given.size, 3), np.float32)
    known = np.zeros((given.size, given.size), bool)
    image.reshape(-1, 3)[given.texels.index], known.reshape(-1)[given.texels.index] = given.colour, True
    z = torch.from_numpy(_onto(image, known, given.texels, space.texels, mesh)).t() * 2 - 1
    views = torch.where(space.mask > 0, space.project(z.contiguous()), torch.tensor(GREY))
    bare = torch.from_numpy(gbuffer.mask) & (space.mask[:, 0] == 0)
    uv = gbuffer.uv[bare.numpy()]
    found = torch.from_numpy(bilinear(image, known, uv[:, 0], uv[:, 1], known.shape)) * 2 - 1
    views.permute(0, 2, 3, 1)[bare] = found
    return views


def _onto(image: np.ndarray, known: np.ndarray, texels: TexelMap, coarse: TexelMap, mesh: Mesh) -> np.ndarray:
    """Colours f32[M',3] of a space's texels: the mean of the texture's texels in each, else a lookup."""
    out = bilinear(image, known, *_places(coarse, mesh), known.shape)
    if texels.size > coarse.size:
        row, column = np.divmod(texels.index, texels.size)
        cell = (row * coarse.size // texels.size) * coarse.size + column * coarse.size // texels.size
        place = np.full(coarse.size**2, -1, np.int64)
        place[coarse.index] = np.arange(len(coarse.index))
        slot = place[cell]
        inner = slot >= 0
        count = np.bincount(slot[inner], minlength=len(out))
        values = image.reshape(-1, 3)[texels.index[inner]]
        sums = np.stack([np.bincount(slot[inner], values[:, k], len(out)) for k in range(3)], 1)
        filled = count > 0
        out[filled] = sums[filled] / count[filled, None]
    return out


def edit_of(settings, before: Tensor | None) -> dict:
    """What the denoiser of an edit is given more than others."""
    if settings["method"] != "edit":
        return {}
    asked = settings["image_guidance"]
    return {"image": before, **({"image_guidance": asked} if asked >= 0 else {})}


def fine_detail(settings, model, before: Tensor, bake: Callable[[Tensor], Baked]) -> tuple[Baked | None, float]:
    """What the start views lose on their way through codec and baking, as `changed_colour` wants it."""
    detail = kept_detail(settings, model.levels(settings["steps"], settings["strength"]))
    if detail == 0:
        return None, 0.0
    return bake((model.decode(model.encode(before)).clamp(-1, 1) + 1) / 2), detail


def kept_detail(settings, levels: Sequence[Level]) -> float:
    """How much of the detail too fine for the views stays, 0..1: the texture's share of the power at the first level.

    alpha^2 / (alpha^2 + sigma^2): 1 with hardly any noise, 0 at a start from pure noise. An instruction keeps all
    of it: it starts from noise, but the model sees the texture and means to keep what it was not told to change.
    """
    if settings["method"] == "edit":
        return 1.0
    if settings["start"] != "texture":
        return 0.0
    first = levels[0]
    return first.alpha**2 / (first.alpha**2 + first.sigma**2)


def changed_colour(given: Given, after: Baked, before: Baked | None, detail: float) -> np.ndarray:
    """The texels' new colours f32[M,3] in 0..1, before the region is applied.

    after, before: the finished views, and the views it started from, baked (None where `detail` is 0). Where a view
    sees the surface: after + detail * (texture - before). Elsewhere detail * texture, and the rest from around it.
    """
    texture, seen = given.colour, after.owner >= 0
    if not seen.any():
        return texture
    kept = np.float32(detail) * texture
    painted = after.colour if before is None else after.colour - np.float32(detail) * before.colour
    painted = np.where(seen[:, None], painted, np.float32(0)).astype(np.float32)
    return np.clip(kept + fill_unseen(given.texels.position, given.texels.normal, painted, seen), 0, 1)


def composed(given: Given, colour: np.ndarray, padding: int) -> tuple[np.ndarray, np.ndarray]:
    """The finished texture, u8 or u16 [T,T,3 or 4] as the one it started from, with its alpha; and f32[T,T,3] in 0..1.

    With a region, whatever is outside of it, and between the charts, is a copy. Without, charts are padded as usual.
    """
    out, peak = given.picture.copy(), np.iinfo(given.picture.dtype).max
    if not given.limited:
        image = texture_image(colour.astype(np.float32), given.texels, padding)
        out[..., :3] = to_bytes(image) if peak == 255 else np.round(np.clip(image, 0, 1).astype(np.float64) * peak)
        return out, as_rgb(out)
    inner = given.share > 0
    old = given.colour[inner].astype(np.float64)
    mixed = old + given.share[inner, None].astype(np.float64) * (colour[inner] - old)
    flat = out.reshape(-1, out.shape[2])
    flat[given.texels.index[inner], :3] = np.round(np.clip(mixed, 0, 1) * peak)
    return out, as_rgb(out)


def as_rgb(picture: np.ndarray) -> np.ndarray:
    """The colours f32[T,T,3] in 0..1 of a picture of whole numbers."""
    return picture[..., :3] / np.float32(np.iinfo(picture.dtype).max)


def write_picture(path: Path, picture: np.ndarray, about: Mapping[str, object]) -> None:
    """Replace the file by a picture, u8 or u16 [H,W,1..4] as it is, or sRGB f32[H,W,3] in 0..1 in 8 bits.

    UserError if there is no room or no permission.
    """
    if picture.dtype.kind == "f":
        write_png(path, picture, about)
    else:
        atomic_write_bytes(path, png_bytes(picture, {"Software": "Tweed", **about}))
