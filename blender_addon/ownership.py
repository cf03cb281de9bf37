# SPDX-License-Identifier: GPL-3.0-or-later
"""Which view painted which part of a texture, and the job that does one view's part anew.

The engine leaves a map of owners beside each texture. A part that was done anew refers to the job whose views and map
count (`origin["views_of"]`), so that any number of views can be done one after the other.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import bpy
import numpy as np
from mathutils import Vector
from mathutils.interpolate import poly_3d_calc

from . import history, material, slots
from .flow import Part
from .jobs.errors import TweedError, UserError
from .jobs.folder import OWNER_FILE, Camera, owner_file, read_cameras, read_result
from .jobs.png import png_bytes
from .jobs.uv_tiles import in_set, number_of, place_of

CHAIN = "views_of"
_AGAIN = "Generate the texture again; then its views can be done one by one."


@dataclass(frozen=True)
class Source:
    """The views that painted a texture.

    `owners` u8[T,T], row 0 on top, by the texture's name ("", a UDIM tile, see `in_set`): number of the view from 1, 0: none.
    """

    folder: Path  # of the job whose views they are
    latest: Path  # of the job that the material shows
    objects: list[dict]
    cameras: tuple[Camera, ...]
    owners: dict[str, np.ndarray]

    def names(self) -> list[str]:
        return [camera.name for camera in self.cameras]

    def share(self, index: int) -> float:
        """Of the texels that any view painted, the part 0..1 that is this one's."""
        painted = sum(np.count_nonzero(owner) for owner in self.owners.values())
        return sum(np.count_nonzero(owner == index + 1) for owner in self.owners.values()) / max(1, painted)

    def at(self, u: float, v: float, number: int = 0) -> Camera | None:
        """The view that painted the texel at (u, v), uv (0, 0) bottom-left, of that set of textures; None where none did."""
        owner = self.owners.get(in_set(number, ""))
        if owner is None:
            owner = self.owners.get(in_set(number, str(number_of(int(np.floor(u)), int(np.floor(v))))))
        if owner is None:
            return None
        size = len(owner)
        row, column = int((1 - v % 1) * size), int(u % 1 * size)
        number = int(owner[min(row, size - 1), min(column, size - 1)])
        return self.cameras[number - 1] if 0 < number <= len(self.cameras) else None


def job_of(objects, jobs: Path) -> Path:
    """The folder of the job whose texture the objects show; of several, on the chosen materials. Raises UserError."""
    found = material.textured(objects)
    shown = {m["tweed"]["job"] for _, _, m in found}
    if not shown:
        raise UserError("There is no texture of Tweed's on the selected objects.", "Generate one first.")
    if len(shown) > 1:
        chosen = dict(zip(objects, slots.wanted(objects, bpy.context.scene.tweed.slots), strict=True))
        shown = {m["tweed"]["job"] for obj, index, m in found if chosen[obj] is None or index in chosen[obj]}
    if len(shown) != 1:
        raise UserError("The selected objects have textures of different jobs.",
                        "Select one of them, or choose the materials of one texture in Materials.")  # fmt: skip
    folder = jobs / shown.pop()
    if not folder.is_dir():
        raise UserError(f"The job that made this texture is not in {jobs} any more.", _AGAIN)
    return folder


def views_folder(folder: Path) -> Path:
    """The job whose views a texture consists of: itself, or the one of which it is a part."""
    named = history.read(folder).origin.get(CHAIN)
    return folder.with_name(Path(str(named)).name) if named else folder


def source(objects, jobs: Path) -> Source:
    """What is known of the objects' texture. Raises UserError, JobError."""
    latest = job_of(objects, jobs)
    folder = views_folder(latest)
    owners = {tile: _read(path) for tile, path in maps_of(folder).items()}
    return Source(folder, latest, history.objects(folder), read_cameras(folder), owners)


def maps_of(folder: Path) -> dict[str, Path]:
    """The maps of owners of a job by the texture's name, "" for a plain one.

    Raises UserError where one is missing, JobError for a damaged folder.
    """
    if (folder / OWNER_FILE).is_file():
        return {"": folder / OWNER_FILE}
    result = read_result(folder)
    names = [name.partition(".")[2] for name in result["images"] if name.startswith("base_color.")] if result else []
    paths = {tile: folder / owner_file(tile) for tile in names if tile and place_of(tile)} or {"": folder / OWNER_FILE}
    missing = next((path for path in paths.values() if not path.is_file()), None)
    if missing is not None:
        raise UserError(f"It is not known which view painted what: there is no {missing}.", _AGAIN)
    return paths


def _read(path: Path) -> np.ndarray:
    """A grey PNG as u8[T,T], through an image that is removed again."""
    try:
        image = bpy.data.images.load(str(path))
    except RuntimeError as fault:
        raise UserError(f"Blender cannot load {path} ({fault}).", _AGAIN) from None
    try:
        image.colorspace_settings.name = "Non-Color"
        (width, height), channels = image.size, image.channels
        if not width or width != height:
            raise UserError(f"{path} is damaged.", _AGAIN)
        values = np.empty(width * height * channels, np.float32)
        image.pixels.foreach_get(values)
    finally:
        bpy.data.images.remove(image)
    return np.rint(values.reshape(height, width, channels)[::-1, :, 0] * 255).astype(np.uint8)


def find(found: Source, name: str) -> int:
    """The number, from 0, of the view of that name. Raises UserError."""
    names = found.names()
    if name not in names:
        known = f"Views of this texture: {', '.join(names)}."
        raise UserError(f"There is no view named '{name}'." if name else "No view is chosen.", known)
    index = names.index(name)
    if not found.share(index):
        raise UserError(f"No part of the texture is by the view '{name}': others see everything better.",
                        "Choose another view.")  # fmt: skip
    return index


def check_shown(found: Source, targets) -> None:
    """Refuse to do a view anew on objects (scene.Target) of which one shows another texture by now. Raises UserError."""
    for target in targets:
        jobs = {m["tweed"]["job"] for _, _, m in material.textured([target.object])}
        if target.slots and found.latest.name not in jobs:
            raise UserError(f"'{target.object.name}' does not show this texture any more.",
                            "Apply it again from the history, or generate the objects one by one.")  # fmt: skip


def again(found: Source, name: str, prompt: str, avoid: str, changes: dict) -> tuple[dict, Part]:
    """Settings and part of a job that does one view anew, from the texture as it is now. Raises UserError, JobError.

    The other views' texels are known to the model and come back bit for bit. `changes` are settings that differ from
    those of the job before.
    """
    index = find(found, name)
    settings = history.read(found.folder).settings
    if not settings:
        raise UserError(f"The settings of {found.folder.name} cannot be read.", _AGAIN)
    if settings["method"] != "edit":  # the others go from view to view, or wander for long: one view needs neither
        settings = settings | {"method": "synchronized"}
    region = {"start": "texture", "strength": 1.0, "region": "mask", "region_mask": "", "detail": "off"}
    view = replace(found.cameras[index], prompt=prompt.strip(), avoid=avoid.strip())
    masks = {
        tile: png_bytes(np.where(owner == index + 1, np.uint8(255), np.uint8(0))[..., None], level=1)
        for tile, owner in found.owners.items()
    }
    values = settings | region | {name: value for name, value in changes.items() if value is not None}
    values.pop("texture_size")  # that of the texture as it is
    return values, Part((view,), masks, {CHAIN: found.folder.name, "view": name})


def clicked(context, found: Source, objects, origin: Vector, direction: Vector) -> Camera:
    """The view that painted what a ray meets. Raises UserError where it meets nothing, or something unpainted."""
    depsgraph = context.evaluated_depsgraph_get()
    hit, point, _, face, obj, matrix = context.scene.ray_cast(depsgraph, origin, direction)
    obj = obj.original if hit else None
    record = next((one for one in found.objects if obj is not None and one.get("name") == obj.name), None)
    if record is None or obj not in objects:
        what = f"'{obj.name}' is not part of this texture." if obj is not None else "There is nothing under the click."
        raise UserError(what, "Click on the textured object, or choose the view by name.")
    u, v = _uv(obj.evaluated_get(depsgraph), record, face, matrix.inverted() @ point)
    view = found.at(u, v, record.get("texture", 0))
    if view is None:
        raise UserError("No view saw this spot; it was filled from around it.", "Click beside it.")
    return view


def _uv(obj, record: dict, face: int, point: Vector) -> tuple[float, float]:
    """(u, v) of a point on a face of an evaluated object, in its own space. Raises UserError if it is not painted."""
    mesh, uv_map = obj.data, record["uv_map"]
    if uv_map not in mesh.uv_layers or face >= len(mesh.polygons):
        raise UserError(f"A modifier of '{obj.name}' drops the UV map '{uv_map}'.", "Choose the view by name.")
    polygon, layer = mesh.polygons[face], mesh.uv_layers[uv_map].uv
    if polygon.material_index not in record.get("paint", [polygon.material_index]):
        raise UserError("This material of the object is not part of the texture.", "Click on one that is painted.")
    weights = poly_3d_calc([mesh.vertices[i].co for i in polygon.vertices], point)
    at = sum((w * layer[i].vector for w, i in zip(weights, polygon.loop_indices, strict=True)), Vector((0.0, 0.0)))
    return at.x, at.y


_known: dict[str, tuple[float, tuple[str, ...]]] = {}


def names_now(objects, jobs: Path) -> tuple[str, ...]:
    """Names of the views of the objects' texture, for a list that is drawn often; empty where there is none."""
    try:
        path = views_folder(job_of(objects, jobs)) / "job.json"
        stamp = path.stat().st_mtime
        if _known.get(str(path), (0.0, ()))[0] != stamp:
            _known.clear()
            _known[str(path)] = (stamp, tuple(camera.name for camera in read_cameras(path.parent)))
        return _known[str(path)][1]
    except (OSError, TweedError):
        return ()
