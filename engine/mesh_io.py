# SPDX-License-Identifier: Apache-2.0
"""Mesh files in, a textured GLB out.

trimesh reads them, with two repairs: it forgets a glTF primitive's UVs when there is no material, and takes 8- and
16-bit UVs for whole numbers. Axes follow Blender's importers: glTF and OBJ are Y up and are turned, PLY and STL not.
"""

from __future__ import annotations

import io
import json
import logging
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blender_addon.jobs.arrays import MeshArrays
from blender_addon.jobs.errors import MeshError
from blender_addon.jobs.files import atomic_write_bytes

from .mesh import Mesh, check_finite, corner_normals, from_arrays, has_area

FORMATS = (".glb", ".gltf", ".obj", ".ply", ".stl")
Y_UP = (".glb", ".gltf", ".obj")
FAULTS = (
    OSError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError, struct.error,
    RuntimeError, NotImplementedError, EOFError, ImportError,
)  # fmt: skip  # what trimesh raises on a damaged file
UNREADABLE = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_mesh_quantization")

UV_COPY = "_TWEED_UV"  # a second name for TEXCOORD_0 that trimesh hands through untouched


@dataclass(frozen=True)
class Part:
    """One object of a file, in the world."""

    name: str
    positions: np.ndarray  # f64[V,3]
    triangles: np.ndarray  # i64[F,3]
    uvs: np.ndarray | None  # f64[V,2]
    normals: np.ndarray | None  # f64[V,3]


def load_mesh(path: Path) -> tuple[Mesh, list[str]]:
    """Everything in a mesh file as one mesh, and notes on what was done to it, a sentence each.

    The scene's transforms are applied. The file's own UVs are kept (glTF: the first set); xatlas makes them if no
    object has any; they may lie outside 0-1. Raises MeshError for files that cannot be read, hold no faces, or mix objects
    with and without UVs.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise MeshError(f"Tweed cannot read {path.name}.", f"Use one of: {' '.join(FORMATS)}.")
    if not path.is_file():
        raise MeshError(f"There is no file {path}.", "Check the name.")
    try:
        parts, notes = read_parts(path)
    except FAULTS as error:
        raise MeshError(
            f"{path.name} cannot be read; it may be damaged ({type(error).__name__}: {error}).",
            "Export the mesh again, or use another format.",
        ) from error
    if not parts:
        raise MeshError(f"{path.name} has no faces.", "Export a mesh, not only points or curves.")
    bare = [part.name for part in parts if part.uvs is None]
    if bare and len(bare) < len(parts):
        names = ", ".join(bare[:3]) + (" ..." if len(bare) > 3 else "")
        message = f"{len(bare)} of {len(parts)} objects in {path.name} have no UVs: {names}."
        raise MeshError(message, "Unwrap or remove them.")
    arrays = unwrapped(parts, notes) if bare else joined(parts)
    return from_arrays(arrays, anywhere=True), notes


def read_parts(path: Path) -> tuple[list[Part], list[str]]:
    """The objects of a file in Blender's axes, instances written out, and notes."""
    import trimesh

    logging.getLogger("trimesh").setLevel(logging.CRITICAL)
    kind = path.suffix.lower()
    data = path.read_bytes()
    if kind in (".glb", ".gltf"):
        data = with_uv_copy(data)
    resolver = trimesh.resolvers.FilePathResolver(str(path))
    scene = trimesh.load_scene(io.BytesIO(data), kind[1:], resolver, process=False, skip_materials=True)
    parts, notes, skipped = [], [], 0
    for node in scene.graph.nodes_geometry:
        matrix, name = scene.graph[node]
        geometry = scene.geometry[name]
        if not isinstance(geometry, trimesh.Trimesh) or len(geometry.faces) == 0:
            skipped += 1
            continue
        parts.append(placed(str(node), geometry, (TURN if kind in Y_UP else np.eye(4)) @ matrix))
    if skipped and parts:
        notes.append(f"{skipped} objects without faces were left out.")
    return parts, notes


TURN = np.array([[1.0, 0, 0, 0], [0, 0, -1.0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1.0]])  # Y up to Z up, as Blender does


def placed(name: str, geometry, matrix: np.ndarray) -> Part:
    """A trimesh geometry moved by a world matrix; triangles are turned over if it mirrors."""
    linear = matrix[:3, :3]
    triangles = np.asarray(geometry.faces, np.int64)
    normals = None
    if "vertex_normals" in geometry._cache:  # trimesh's own exporters tell given normals from computed ones like this
        normals = np.asarray(geometry.vertex_normals) @ cofactors(linear).T
    if np.linalg.det(linear) < 0:
        triangles = triangles[:, ::-1]
        normals = None if normals is None else -normals
    positions = np.asarray(geometry.vertices) @ linear.T + matrix[:3, 3]
    return Part(name, positions, triangles, vertex_uvs(geometry), normals)


def cofactors(linear: np.ndarray) -> np.ndarray:
    """What normals are multiplied with; the inverse transpose up to a factor, also for a matrix without inverse."""
    a, b, c = linear
    return np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)])


def vertex_uvs(geometry) -> np.ndarray | None:
    """UVs f64[V,2] with (0, 0) bottom-left, or None."""
    raw = geometry.vertex_attributes.get(UV_COPY)
    if raw is not None:
        uvs = np.asarray(raw)[:, :2]
        whole = np.iinfo(uvs.dtype).max if uvs.dtype.kind == "u" else 1
        return np.stack([uvs[:, 0] / np.float64(whole), 1 - uvs[:, 1] / np.float64(whole)], 1)
    uvs = getattr(geometry.visual, "uv", None)
    if uvs is None or np.shape(uvs) != (len(geometry.vertices), 2):
        return None
    return np.asarray(uvs, np.float64)


def with_uv_copy(data: bytes) -> bytes:
    """A .glb or .gltf whose primitives have their UVs under a second name."""
    if data[:4] != b"glTF":
        return json.dumps(name_uvs(json.loads(data))).encode()
    length, kind = struct.unpack_from("<II", data, 12)
    if kind != 0x4E4F534A:
        raise ValueError("its first chunk is not JSON")
    text = json.dumps(name_uvs(json.loads(data[20 : 20 + length]))).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    head = struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), kind)
    return head + text + rest


def name_uvs(tree: dict) -> dict:
    used = [name for name in tree.get("extensionsRequired", []) if name in UNREADABLE]
    if used:
        message = f"The file is compressed ({', '.join(used)}), which Tweed cannot read."
        raise MeshError(message, "Export it without compression.")
    for mesh in tree.get("meshes", []):
        for primitive in mesh["primitives"]:
            attributes = primitive["attributes"]
            if "TEXCOORD_0" in attributes:
                attributes[UV_COPY] = attributes["TEXCOORD_0"]
    return tree


def joined(parts: list[Part]) -> MeshArrays:
    """One mesh of parts that all have UVs. Parts without normals get theirs when any other part has them."""
    base = np.cumsum([0] + [len(part.positions) for part in parts])
    triangles = np.concatenate([part.triangles + start for part, start in zip(parts, base[:-1])])
    normals = None
    if any(part.normals is not None for part in parts):
        normals = np.concatenate([part_normals(part) for part in parts])
    return MeshArrays(
        np.concatenate([part.positions for part in parts]).astype(np.float32),
        triangles.astype(np.int32),
        np.concatenate([part.uvs for part in parts]).astype(np.float32),
        triangles.astype(np.int32),
        normals,
        np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.triangles) for part in parts]),
    )


def part_normals(part: Part) -> np.ndarray:
    if part.normals is None:
        return corner_normals(part.positions.astype(np.float32), part.triangles)
    return part.normals[part.triangles].astype(np.float32)


def unwrapped(parts: list[Part], notes: list[str]) -> MeshArrays:
    """One mesh of parts without UVs, unwrapped by xatlas into separate charts."""
    import xatlas

    base = np.cumsum([0] + [len(part.positions) for part in parts])
    triangles = np.concatenate([part.triangles + start for part, start in zip(parts, base[:-1])])
    positions = np.concatenate([part.positions for part in parts]).astype(np.float32)
    check_finite(positions, "vertices", "Repair the file.")
    positions, place = np.unique(positions, axis=0, return_inverse=True)  # STL has three vertices per triangle
    triangles = place.reshape(-1)[triangles]
    triangles = triangles[has_area(positions[triangles])]
    if len(triangles) == 0:
        raise MeshError("All faces of the mesh have zero area.", "Check the file's scale.")
    atlas = xatlas.Atlas()
    atlas.add_mesh(positions, triangles.astype(np.uint32))
    options = xatlas.PackOptions()
    options.resolution, options.padding = 1024, 4
    atlas.generate(pack_options=options)
    vertices, corners, uvs = atlas[0]
    notes.append(f"The file has no UVs: Tweed made a UV map of {atlas.chart_count} charts (with xatlas).")
    corners = corners.astype(np.int32)
    return MeshArrays(positions, vertices[corners].astype(np.int32), uvs.astype(np.float32), corners)


def save_glb(path: Path, mesh: Mesh, texture_png: Path) -> None:
    """Write the mesh as a .glb with the texture inside, byte for byte, on a rough non-metallic material."""
    positions, normals, uvs, indices = welded(mesh)
    uvs = np.stack([uvs[:, 0], 1 - uvs[:, 1].astype(np.float64)], 1).astype(np.float32)
    back = TURN[:3, :3].astype(np.float32)  # v @ TURN is the inverse turn, as TURN is orthogonal
    blobs = [positions @ back, normals @ back, uvs, indices.astype(np.uint32), Path(texture_png).read_bytes()]
    binary, views = b"", []
    for blob in blobs:
        data = blob if isinstance(blob, bytes) else np.ascontiguousarray(blob).tobytes()
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
        binary += data + b"\0" * (-len(data) % 4)
    for view, target in zip(views, (34962, 34962, 34962, 34963)):
        view["target"] = target
    accessors = [
        {"bufferView": i, "componentType": 5126, "count": len(positions), "type": kind}
        for i, kind in enumerate(("VEC3", "VEC3", "VEC2"))
    ]
    accessors[0] |= {"min": blobs[0].min(0).tolist(), "max": blobs[0].max(0).tolist()}
    accessors.append({"bufferView": 3, "componentType": 5125, "count": indices.size, "type": "SCALAR"})
    surface = {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": 0.9}
    primitive = {"attributes": {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 2}, "indices": 3, "material": 0}
    tree = {
        "asset": {"version": "2.0", "generator": "Tweed"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": Path(path).stem}],
        "meshes": [{"name": Path(path).stem, "primitives": [primitive]}],
        "materials": [{"name": "Tweed", "pbrMetallicRoughness": surface, "doubleSided": True}],
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [{"magFilter": 9729, "minFilter": 9987}],
        "images": [{"bufferView": 4, "mimeType": "image/png"}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(binary), len(text), 0x4E4F534A)
    atomic_write_bytes(Path(path), head + text + struct.pack("<II", len(binary), 0x004E4942) + binary)


def welded(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices that are one position, one normal and one UV each (positions, normals, uvs), and indices [3F].

    Normals that agree to a millionth are one.
    """
    steps = np.rint((mesh.normals.reshape(-1, 3).astype(np.float64) + 1) * 2**19).astype(np.int64)
    _, normal = np.unique((steps[:, 0] << 42) | (steps[:, 1] << 21) | steps[:, 2], return_inverse=True)
    pair = mesh.triangles.reshape(-1).astype(np.int64) * len(mesh.uvs) + mesh.triangle_uvs.reshape(-1)
    _, pair = np.unique(pair, return_inverse=True)
    key = pair.reshape(-1) * (int(normal.max()) + 1) + normal.reshape(-1)
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    return (
        mesh.positions[mesh.triangles.reshape(-1)[first]],
        mesh.normals.reshape(-1, 3)[first],
        mesh.uvs[mesh.triangle_uvs.reshape(-1)[first]],
        index.reshape(-1),
    )
