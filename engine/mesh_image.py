# SPDX-License-Identifier: Apache-2.0
"""The base colour picture that a mesh file carries or names, as the file holds it: glTF and OBJ."""

from __future__ import annotations

import base64
import json
import struct
import urllib.parse
from pathlib import Path
from typing import Any

from blender_addon.jobs.errors import MeshError, UserError
from blender_addon.jobs.files import inside

FAULTS = (OSError, ValueError, KeyError, IndexError, TypeError, struct.error)
REMEDY = "Give the picture's file with --texture FILE, or start from nothing."
MAX_BYTES = 3 * 1024**3


def base_color_of(path: Path) -> bytes:
    """The bytes of the base colour's picture file (PNG, JPEG ...) of a .glb, .gltf or .obj.

    Raises MeshError: there is none, there are several, it is moved over the UV map, or it cannot be read.
    """
    path = Path(path)
    readers = {".glb": _of_gltf, ".gltf": _of_gltf, ".obj": _of_obj}
    kind = path.suffix.lower()
    if kind not in readers:
        raise MeshError(f"A {kind} file holds no picture to start from.", REMEDY)
    try:
        return readers[kind](path)
    except FAULTS as error:
        raise MeshError(f"The base colour picture of {path.name} cannot be read ({error}).", REMEDY) from None


def texture_bytes(path: Path) -> bytes:
    """A picture file as bytes. UserError if it cannot be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is longer than {MAX_BYTES:,} bytes.", "Choose another picture.")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).", "Check the name.") from None


def _one(found: list, path: Path) -> Any:
    if len(found) != 1:
        many = f"{len(found)} pictures as base colours" if found else "no base colour picture"
        raise MeshError(f"{path.name} has {many}; one is needed to start from.", REMEDY)
    return found[0]


def _of_gltf(path: Path) -> bytes:
    data = path.read_bytes()
    binary = b""
    if data[:4] == b"glTF":
        length = struct.unpack_from("<I", data, 12)[0]
        text, binary = data[20 : 20 + length], data[20 + length + 8 :]
    else:
        text = data
    tree = json.loads(text)
    used = {p.get("material") for mesh in tree.get("meshes", []) for p in mesh["primitives"]}
    entries = []
    for number, material in enumerate(tree.get("materials", [])):
        entry = material.get("pbrMetallicRoughness", {}).get("baseColorTexture")
        if number in used and entry is not None:
            if entry.get("texCoord", 0) != 0 or "KHR_texture_transform" in entry.get("extensions", {}):
                raise MeshError(f"The base colour of {path.name} uses another UV map, or is moved over it.", REMEDY)
            entries.append(tree["textures"][entry["index"]]["source"])
    image = tree["images"][_one(sorted(set(entries)), path)]
    if "bufferView" in image:
        view = tree["bufferViews"][image["bufferView"]]
        whole = _buffer(tree["buffers"][view["buffer"]], path, binary)
        return whole[view.get("byteOffset", 0) :][: view["byteLength"]]
    return _uri(image["uri"], path)


def _buffer(entry: dict, path: Path, binary: bytes) -> bytes:
    return _uri(entry["uri"], path) if "uri" in entry else binary


def _uri(uri: str, path: Path) -> bytes:
    if uri.startswith("data:"):
        return base64.b64decode(uri.partition(",")[2], validate=True)
    return texture_bytes(inside(path.parent, urllib.parse.unquote(uri)))


def _of_obj(path: Path) -> bytes:
    libraries = [words[1] for words in _lines(path) if words[0] == "mtllib"]
    used = {words[1] for words in _lines(path) if words[0] == "usemtl"}
    pictures = []
    for library in dict.fromkeys(libraries):
        name = ""
        for words in _lines(inside(path.parent, library)):
            if words[0] == "newmtl":
                name = words[1]
            elif words[0] == "map_Kd" and (name in used or not used):
                if words[1].startswith("-"):
                    raise MeshError(f"The base colour of {path.name} is moved over the UV map.", REMEDY)
                pictures.append(words[1].replace("\\", "/"))
    return texture_bytes(inside(path.parent, _one(list(dict.fromkeys(pictures)), path)))


def _lines(path: Path) -> list[list[str]]:
    """The lines of an OBJ or MTL file as [keyword, rest]."""
    with open(path, encoding="utf-8", errors="replace") as file:
        found = [line.split(None, 1) for line in file if line[:1] in "mun"]
    return [[words[0], words[1].strip()] for words in found if len(words) == 2]
