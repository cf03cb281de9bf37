# SPDX-License-Identifier: GPL-3.0-or-later
"""The texture that objects have now, and which part of it the artist chose, as pictures and numbers for a job.

Nothing is changed: images are read through their pixels, or from the file they came from where that keeps more bits.
"""

from pathlib import Path

import bpy
import numpy as np

from . import nodes, tiled
from .atlas import Atlas
from .jobs.errors import JobError, UserError
from .jobs.folder import edited_size, of_tile
from .jobs.png import MAX_SIDE, parse_header, png_bytes
from .jobs.uv_tiles import Textures, in_set

_LINEAR = ("Linear Rec.709", "Linear", "Linear BT.709 I-D65", "scene_linear")
_OR_NOTHING = "or set Start From to Nothing and Region to All."
_FIRST = f"Generate a texture first, {_OR_NOTHING}"
_OR_ALL = "or set Region to All."
_FAST = 1  # zlib level: the file lives for one job


def pictures(objects, records, settings, atlas: Atlas, masks=None) -> tuple[dict[str, bytes], int]:
    """The job's input pictures by kind, and the textures' side. Raises UserError for what cannot be started from.

    atlas: what will be painted. masks: the region as PNG files by the textures' names, in place of the image that the
    settings name; that image counts for the UV square of each set of textures.
    """
    inputs, sizes = {}, {}
    for members, textures in zip(atlas.sets, atlas.textures, strict=True):
        number = atlas.number(members[0])
        image = base_color([objects[i] for i in members], [records[i] for i in members])
        sizes.setdefault(edited_size(*_size_of(image, textures), f"'{image.name}'"), image.name)
        found = {"base_color": _read(image, textures, color_png)}
        if settings["region"] == "mask":
            found["region"] = mask_pngs(settings["region_mask"], textures) if masks is None else {
                name: masks[in_set(number, name)] for name in textures.names if in_set(number, name) in masks}  # fmt: skip
        for kind, files in found.items():
            inputs |= {of_tile(kind, in_set(number, tile)): data for tile, data in files.items()}
    (size, name), *others = sizes.items()
    for wide, other in others:
        raise UserError(f"The textures of the objects differ in size: '{name}' has {size}, '{other}' {wide} pixels.",
                        "Scale them to one size (Image > Resize), or change them one by one.")  # fmt: skip
    return inputs, size


def _tiles(image, textures: Textures) -> dict[str, int]:
    """The tile of an image with UDIM tiles that each texture shows. Raises UserError where one shows several."""
    if textures.names != ("",):
        return {name: int(name) for name in textures.names}
    if textures.home is None:
        raise UserError(f"'{image.name}' has UDIM tiles, and the UVs lie in several or in none of them, as if one texture "
                        "repeats.", "Set UV Tiles to Auto or UDIM, or move the UVs into a tile.")  # fmt: skip
    return {"": textures.home}


def _size_of(image, textures: Textures) -> tuple[int, int]:
    """Width and height of a texture, which all its tiles have. Raises UserError."""
    if image.source != "TILED":
        return tuple(image.size)
    sizes = {tile.number: tuple(tile.size) for tile in image.tiles}
    for number in _tiles(image, textures).values():
        if not any(sizes.get(number, ())):
            what = "is empty" if number in sizes else "does not exist"
            raise UserError(f"Some UVs lie in the tile {number} of '{image.name}', which {what}.",
                            f"Add it in the Image Editor's sidebar, {_OR_NOTHING}")
    first, *others = _tiles(image, textures).values()
    for number in others:
        if sizes[number] != sizes[first]:
            (width, height), (other, high) = sizes[first], sizes[number]
            raise UserError(f"The tiles of '{image.name}' differ in size: {first} is {width} x {height}, {number} is "
                            f"{other} x {high} pixels.", "Scale them to one size: Image > Resize.")  # fmt: skip
    return sizes[first]


def _read(image, textures: Textures, take) -> dict[str, bytes]:
    """`take` of the picture that each texture shows, by name. A plain picture repeats in every tile."""
    if image.source != "TILED":
        return dict.fromkeys(textures.names, take(image))
    shown = _tiles(image, textures)
    found = tiled.read(image, shown.values(), take)
    return {name: found[number] for name, number in shown.items()}


def base_color(objects, records) -> bpy.types.Image:
    """The one image that feeds the Base Color of every material that is painted. Raises UserError."""
    found = {}
    for obj, record in zip(objects, records, strict=True):
        painted = record.get("paint", record["slots"])
        slots = [i for i in painted if i < len(obj.material_slots)]
        if painted and not slots:
            raise UserError(f"'{obj.name}' has no material to start from.", _FIRST)
        for index in slots:
            material = obj.material_slots[index].material
            if material is None:
                raise UserError(f"Slot {index + 1} of '{obj.name}' is empty.", _FIRST)
            found.setdefault(_image_of(material, obj, record["uv_map"]), []).append(material.name)
    if len(found) > 1:
        names = " and ".join(f"'{image.name}'" for image in found)
        raise UserError(f"The materials use different images: {names}.",
                        f"Texture them one by one, set Textures to Each, {_OR_NOTHING}")
    return next(iter(found))


def _image_of(material, obj, uv_map: str):
    """The image behind the Base Color of a material, looked up by the UV map of the job."""
    bake = f"Bake it into an image, {_OR_NOTHING}"
    images = {}
    for principled in nodes.find_principled(material):
        node, socket, groups = nodes.source(principled, "Base Color")
        if node is None:
            raise UserError(f"The Base Color of '{material.name}' is a plain colour.", _FIRST)
        if node.bl_idname != "ShaderNodeTexImage" or socket != "Color":
            raise UserError(f"The Base Color of '{material.name}' comes from '{node.name}', which is no image.", bake)
        used = _uv_of(node, groups, obj)
        if used is None or node.projection != "FLAT":
            raise UserError(f"The image of '{material.name}' is not placed by a plain UV map.", bake)
        if used != uv_map:
            raise UserError(f"The image of '{material.name}' uses the UV map '{used}', and '{uv_map}' is active.",
                            f"Make '{used}' active in Object Data > UV Maps, {_OR_NOTHING}")
        images[node.image] = True
    if not images:
        raise UserError(f"'{material.name}' has no Principled BSDF node.", _FIRST)
    if len(images) > 1:
        raise UserError(f"'{material.name}' mixes several images.", bake)
    image = next(iter(images))
    _check(image, f"The image of '{material.name}'")
    return image


def _uv_of(node, groups, obj) -> str | None:
    """The name of the UV map that places an image node; None when something else does."""
    rendered = next((layer.name for layer in obj.data.uv_layers if layer.active_render), "")
    source, socket, _ = nodes.source(node, "Vector", groups)
    if source is None or (source.bl_idname == "ShaderNodeTexCoord" and socket == "UV"):
        return rendered
    return (source.uv_map or rendered) if source.bl_idname == "ShaderNodeUVMap" else None


def _check(image, whose: str) -> None:
    if image is None:
        raise UserError(f"{whose} is not chosen.", "Choose one in its Image Texture node.")
    if image.source not in ("FILE", "GENERATED", "TILED"):
        kind = {"SEQUENCE": "is a sequence", "MOVIE": "is a movie"}
        raise UserError(f"{whose} '{image.name}' {kind.get(image.source, 'is no picture')}.", "Use a single picture.")
    sizes = [tuple(tile.size) for tile in image.tiles] if image.source == "TILED" else [tuple(image.size)]
    width, height = max(sizes, key=max)
    if not width or not height:
        raise UserError(f"{whose} '{image.name}' cannot be loaded.", "Find its file: File > External Data.")
    if max(width, height) > MAX_SIDE:
        raise UserError(f"{whose} '{image.name}' is {width} x {height} pixels; at most {MAX_SIDE} per side are read.",
                        "Scale it down: Image > Resize.")


def color_png(image) -> bytes:
    """An image as a PNG file, as it looks: sRGB, 8 bits where it has 8, else 16; alpha where it has any. UserError."""
    space = image.colorspace_settings
    if image.is_float and not image.is_dirty:
        stored = _stored_png(image)
        if stored is not None and space.name == "sRGB":
            return stored
    values = _pixels(image)
    if image.is_float:
        return png_bytes(_display(values, image.alpha_mode in ("STRAIGHT", "PREMUL")), level=_FAST)
    if space.name == "sRGB":
        return png_bytes(_without_full_alpha(np.rint(values * 255).astype(np.uint8)), level=_FAST)
    if space.is_data or space.name in _LINEAR:
        return png_bytes(_display(values, premultiplied=False), level=_FAST)
    raise UserError(f"The image '{image.name}' has the color space '{space.name}', which cannot be kept.",
                    "Set it to sRGB in the Image Editor's sidebar, or bake it into a new image.")


def mask_pngs(name: str, textures: Textures) -> dict[str, bytes]:
    """The image of that name as a grey PNG file for each texture, by its name. Raises UserError.

    A tile that the image has not is black: nobody has painted in it.
    """
    if not name.strip():
        raise UserError("Region is Mask, and no image is chosen for it.", f"Choose the mask's image, {_OR_ALL}")
    image = bpy.data.images.get(name)
    if image is None:
        near = ", ".join(i.name for i in bpy.data.images if i.source in ("FILE", "GENERATED", "TILED"))
        raise UserError(f"There is no image named '{name}'.", f"Images in this file: {near or 'none'}.")
    _check(image, "The mask")
    if image.source != "TILED":
        if len(textures.names) > 1:
            raise UserError(f"The mask '{name}' is a single picture, and the texture has the UDIM tiles "
                            f"{', '.join(textures.names)}.", "Press New Mask, which makes one with tiles, or choose one.")
        return {textures.names[0]: mask_png(image)}
    painted = {tile.number for tile in image.tiles if tile.size[0]}
    shown = _tiles(image, textures)
    found = tiled.read(image, painted & set(shown.values()), mask_png)
    black = png_bytes(np.zeros((1, 1, 1), np.uint8))
    return {name: found.get(number, black) for name, number in shown.items()}


def mask_png(image) -> bytes:
    """An image as a grey PNG file: the mean of its colours, times alpha."""
    values = np.clip(_pixels(image), 0, 1)
    channels = values.shape[2]
    grey = values[..., : min(channels, 3)].mean(2)
    if channels == 4 and not image.is_float:  # pixels in floating point are multiplied already
        grey = grey * values[..., 3]
    return png_bytes(np.rint(grey * 255).astype(np.uint8)[..., None], level=_FAST)


def _pixels(image) -> np.ndarray:
    """f32[H,W,C] as stored, row 0 on top."""
    width, height = image.size
    values = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(values)
    return values.reshape(height, width, image.channels)[::-1]


def _display(values: np.ndarray, premultiplied: bool) -> np.ndarray:
    """u16[H,W,3 or 4] in sRGB of linear values; what is brighter than white is cut."""
    values = values.astype(np.float64)
    if values.shape[2] == 4 and premultiplied:
        alpha = values[..., 3:]
        values[..., :3] /= np.where(alpha > 0, alpha, 1)
    rgb = np.clip(values[..., :3] if values.shape[2] > 2 else values[..., [0, 0, 0]], 0, 1)
    shown = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    if values.shape[2] == 4:
        shown = np.concatenate([shown, np.clip(values[..., 3:], 0, 1)], 2)
    return _without_full_alpha(np.rint(shown * 65535).astype(np.uint16))


def _without_full_alpha(pixels: np.ndarray) -> np.ndarray:
    full = pixels.shape[2] in (2, 4) and bool((pixels[..., -1] == np.iinfo(pixels.dtype).max).all())
    return np.ascontiguousarray(pixels[..., :-1] if full else pixels)


def _stored_png(image) -> bytes | None:
    """The PNG file behind an image that is as it was loaded; None if there is none, or it is another picture by now."""
    try:
        if image.packed_file is not None:
            data = bytes(image.packed_file.data)
        else:
            data = Path(bpy.path.abspath(image.filepath, library=image.library)).read_bytes()
        header = parse_header(data, image.name)
    except (OSError, JobError):
        return None
    return data if (header.width, header.height) == tuple(image.size) and header.depth == 16 else None


def region_weights(mesh, obj, kind: str, corners: np.ndarray, polygons: np.ndarray) -> np.ndarray | None:
    """The region f32[F,3] at the corners of the triangles of an evaluated mesh: faces or vertex_group; else None.

    corners: i32[F,3] vertices. polygons: i32[F] the face of each triangle.
    """
    if kind == "faces":
        chosen = np.zeros(len(mesh.polygons), bool)
        mesh.polygons.foreach_get("select", chosen)
        return np.repeat(chosen[polygons].astype(np.float32)[:, None], 3, axis=1)
    if kind != "vertex_group":
        return None
    weights, group = np.zeros(len(mesh.vertices), np.float32), obj.vertex_groups.active
    if group is not None:
        for vertex in mesh.vertices:
            for entry in vertex.groups:
                if entry.group == group.index:
                    weights[vertex.index] = entry.weight
    return weights[corners]


def check_choice(objects, kind: str, mask: str) -> None:
    """Refuse a region that cannot select anything, as far as a redraw can tell. Raises UserError."""
    if kind == "vertex_group" and not any(obj.vertex_groups.active for obj in objects):
        raise UserError("Region is Vertex Group, and there is none.", f"Make one and paint weights, {_OR_ALL}")
    if kind == "mask" and not mask.strip():
        raise UserError("Region is Mask, and no image is chosen for it.", f"Press New Mask or choose an image, {_OR_ALL}")
    if kind == "mask" and mask not in bpy.data.images:
        raise UserError(f"There is no image named '{mask}'.", f"Choose the mask again, {_OR_ALL}")
    if kind == "faces" and not any(_has_selected_face(obj) for obj in objects):
        raise UserError("Region is Faces, and no face is selected.", f"Select faces in Edit Mode, {_OR_ALL}")


def _has_selected_face(obj) -> bool:
    mesh = obj.data
    if obj.mode == "EDIT":
        return mesh.total_face_sel > 0
    chosen = np.zeros(len(mesh.polygons), bool)
    mesh.polygons.foreach_get("select", chosen)
    return bool(chosen.any())


def check_region(kind: str, region, objects, painted) -> None:
    """Refuse a region f32[F,3] that selects nothing of the faces that are painted, bool[F]. Raises UserError."""
    if region is None or region[painted].any():
        return
    if region.any():
        raise UserError("The region has only faces of materials that are not painted.", f"Choose others, {_OR_ALL}")
    if kind == "faces":
        raise UserError("Region is Faces, and no face is selected.", f"Select faces in Edit Mode, {_OR_ALL}")
    groups = [obj.vertex_groups.active for obj in objects if obj.vertex_groups.active]
    if not groups:
        raise UserError("Region is Vertex Group, and there is none.", f"Make one and paint weights, {_OR_ALL}")
    raise UserError(f"The vertex group '{groups[0].name}' has no weight on any face.", f"Paint weights, {_OR_ALL}")
