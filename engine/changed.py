# SPDX-License-Identifier: Apache-2.0
"""A texture changed without harm to the rest of it.

A finished edit is put together from whole numbers. Texels outside the region are copied, never computed, so they come
back bit for bit; inside, what is added is the *change* that the views show, so detail too fine for a view survives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from blender_addon.jobs.files import atomic_write_bytes
from blender_addon.jobs.png import png_bytes
from engine.finish import texture_image
from engine.finish.bake import Baked
from engine.finish.fill import fill_unseen
from engine.finish.image import to_bytes, write_png
from engine.given import Given, Skin
from engine.schedule import Level


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
    sees the surface: after + detail * (texture - before). Elsewhere detail * texture, and the rest from around it, on the
    same object where objects have textures of their own.
    """
    texture, seen = given.colour, after.owner >= 0
    if not seen.any():
        return texture
    kept = np.float32(detail) * texture
    painted = after.colour if before is None else after.colour - np.float32(detail) * before.colour
    painted = np.where(seen[:, None], painted, np.float32(0)).astype(np.float32)
    for rows in given.sets():
        around = rows if seen[rows].any() else slice(0, len(seen))  # else nothing is known of this object itself
        place = (given.texels.position[around], given.texels.normal[around])
        filled = fill_unseen(*place, painted[around], seen[around])
        kept[rows] += filled[rows.start - around.start : rows.stop - around.start]
    return np.clip(kept, 0, 1)


def composed(given: Given, colour: np.ndarray, padding: int) -> list[np.ndarray]:
    """The finished textures of colours f32[M,3], each u8 or u16 [T,T,3 or 4] as the one it started from, with its alpha.

    With a region, whatever is outside of it, and between the charts, is a copy. Without, charts are padded as usual.
    """
    return [_composed(skin, colour[skin.rows], given.share[skin.rows], given.limited, padding) for skin in given.skins]


def _composed(skin: Skin, colour: np.ndarray, share: np.ndarray, limited: bool, padding: int) -> np.ndarray:
    out, peak = skin.picture.copy(), np.iinfo(skin.picture.dtype).max
    if not limited:
        image = texture_image(colour.astype(np.float32), skin.texels, padding)
        out[..., :3] = to_bytes(image) if peak == 255 else np.round(np.clip(image, 0, 1).astype(np.float64) * peak)
        return out
    inner = share > 0
    old = skin.colour[inner].astype(np.float64)
    mixed = old + share[inner, None].astype(np.float64) * (colour[inner] - old)
    flat = out.reshape(-1, out.shape[2])
    flat[skin.texels.index[inner], :3] = np.round(np.clip(mixed, 0, 1) * peak)
    return out


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
