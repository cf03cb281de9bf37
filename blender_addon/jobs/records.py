# SPDX-License-Identifier: Apache-2.0
"""What a job consists of: cameras, settings, mesh. A record that exists has been checked."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from .arrays import MeshArrays, same_array
from .errors import JobError, SettingsError
from .schema import is_text
from .settings import SETTINGS, resolve
from .uv_tiles import place_of

MAX_CAMERAS = 256
MAX_OBJECTS = 10_000
MAX_NAME = 500
MAX_TEXT = 2000
INPUT_KINDS = ("base_color", "region", "style")
TILED_KINDS = ("base_color", "region")  # there may be one for each texture: base_color.1001, base_color.set1

_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")


@dataclass(frozen=True, eq=False)
class Camera:
    """One view. `view` f64[4,4] takes world to camera (looking down -Z), `projection` f64[4,4] to OpenGL clip.

    Y points up; `prompt` and `avoid` are added to the job's for this view only. JobError if a matrix
    is not 4 x 4, not finite or not invertible.
    """

    name: str
    view: np.ndarray
    projection: np.ndarray
    prompt: str = ""
    avoid: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise JobError("A camera has no name.")
        for key, limit in (("name", MAX_NAME), ("prompt", MAX_TEXT), ("avoid", MAX_TEXT)):
            if not is_text(getattr(self, key), limit):
                raise JobError(f"Camera {ascii(self.name)[:60]}: {key} is no text of up to {limit} characters.")
        for key in ("view", "projection"):
            object.__setattr__(self, key, _matrix(getattr(self, key), self.name, key))
        if not np.array_equal(self.view[3], [0, 0, 0, 1]):
            raise JobError(f"Camera {self.name!r}: the last row of view is not 0 0 0 1.")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Camera):
            return NotImplemented
        texts = (self.name, self.prompt, self.avoid) == (other.name, other.prompt, other.avoid)
        return texts and same_array(self.view, other.view) and same_array(self.projection, other.projection)

    __hash__ = None  # type: ignore[assignment]


def _matrix(value: Any, name: str, key: str) -> np.ndarray:
    try:
        matrix = np.array(value)
    except ValueError:  # rows of different lengths
        matrix = np.empty(0, dtype=object)
    if matrix.dtype.kind not in "fiu":
        raise JobError(f"Camera {name!r}: {key} holds something else than a table of numbers.")
    matrix = matrix.astype(np.float64)
    if matrix.shape != (4, 4):
        raise JobError(f"Camera {name!r}: {key} has the shape {matrix.shape}; expected (4, 4).")
    if not np.isfinite(matrix).all():
        raise JobError(f"Camera {name!r}: {key} has a number that is not finite.")
    if not np.isfinite(np.linalg.slogdet(matrix)[1]):
        raise JobError(f"Camera {name!r}: {key} cannot be inverted.")
    return matrix


@dataclass(frozen=True)
class Job:
    """One request. Settings are checked and completed here, so a Job that exists is valid.

    `objects` are plain JSON values, one per object (name, uid, uv_map, fingerprint, slots …), `origin`
    says where the job comes from (blend file, Blender's version …); both come back as written. `inputs`
    are pictures by kind, as paths inside the job's folder: `base_color` is the texture the objects have,
    square, as the artist sees it (sRGB, 8 or 16 bits), `region` a mask of any size over the same UV square,
    white where the texture may change, `style` a copy of the picture that `style_image` names. Of UDIM tiles each has
    its own: `base_color.1001`, `region.1001` and so on; those of the textures have one size. So has each set, where an
    object's record says that it has a texture of its own ("texture": 1, ...): `base_color.set1`, `region.set2.1001`.
    """

    id: str
    settings: dict[str, Any]
    mesh: MeshArrays
    cameras: tuple[Camera, ...]
    objects: list[dict[str, Any]] = field(default_factory=list)
    origin: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not _ID.fullmatch(self.id):
            raise JobError(f"The job's id {str(self.id)[:60]!r} is malformed.")
        object.__setattr__(self, "settings", resolve(self.settings))
        object.__setattr__(self, "cameras", tuple(self.cameras))
        if not 0 < len(self.cameras) <= MAX_CAMERAS:
            raise JobError(f"The job has {len(self.cameras)} cameras; 1 to {MAX_CAMERAS} are allowed.")
        names = [camera.name for camera in self.cameras]
        if len(set(names)) < len(names):
            raise JobError("Two cameras of the job have the same name.")
        if not isinstance(self.objects, list) or not all(isinstance(item, dict) for item in self.objects):
            raise JobError("The job's objects are no list of records.")
        if len(self.objects) > MAX_OBJECTS:
            raise JobError(f"The job has {len(self.objects)} objects; at most {MAX_OBJECTS} are allowed.")
        if not isinstance(self.origin, dict):
            raise JobError("The job's origin is no record.")
        if not isinstance(self.inputs, dict) or not all(isinstance(path, str) for path in self.inputs.values()):
            raise JobError("The job's inputs are no record of paths.")
        for kind in self.inputs:
            name, dot, tile = kind.partition(".")
            if not (tile and place_of(tile) and name in TILED_KINDS if dot else kind in INPUT_KINDS):
                raise JobError(f"The job has an input {ascii(kind)[:60]}; known are {', '.join(INPUT_KINDS)}, and "
                               f"{' and '.join(TILED_KINDS)} of a UDIM tile, such as {of_tile('base_color', '1001')}.")


def of_tile(kind: str, tile: str) -> str:
    """The name of a picture that a job has for each texture: `base_color`, or `base_color.1001` of a UDIM tile.

    tile: a texture's name, as `uv_tiles.in_set` makes it.
    """
    return f"{kind}.{tile}" if tile else kind


def needs_texture(settings: Mapping[str, Any]) -> bool:
    """Whether a job with these settings starts from, or keeps a part of, the texture that the objects have."""
    return settings["start"] == "texture" or settings["region"] != "all" or settings["method"] == "edit"


def edited_size(width: int, height: int, name: str) -> int:
    """The `texture_size` of a job that starts from a picture of that size: a texture that is changed keeps its size.

    SettingsError, with the nearest size that works, for pictures that are not square or of a size no texture may have.
    """
    setting = SETTINGS["texture_size"]
    try:
        if width == height:
            return setting.check(width)
    except SettingsError:
        pass
    near = -(-max(width, height) // setting.multiple) * setting.multiple
    near = int(min(max(near, setting.minimum), setting.maximum))
    raise SettingsError(f"The picture {name} is {width} x {height} pixels; a texture to start from is square, with "
                        f"{setting.allowed}.", f"Scale it to {near} x {near}.", key="start")


def new_job_id(now: datetime | None = None) -> str:
    """Gives an id that sorts by time, such as 20261123T043000Z-1a2b3c."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"{moment:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
