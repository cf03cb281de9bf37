# SPDX-License-Identifier: Apache-2.0
"""The mesh as the engine uses it, and what may be wrong with it, in sentences for an artist."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blender_addon.jobs.arrays import MeshArrays
from blender_addon.jobs.errors import MeshError

UV_SLACK = 1e-4  # UVs this little outside 0..1 are clamped
HARD_EDGE = 0.7  # cosine between a triangle's normal and the smooth one at its corner; below this the edge is hard
CONDITION = 1e-12  # a triangle of less area than this times its longest edge squared has none


@dataclass(frozen=True)
class Mesh:
    """Triangles in the world (Z up) with UVs in 0..1, (0, 0) bottom-left. Every triangle has an area in the world."""

    positions: np.ndarray  # f32[V,3]
    triangles: np.ndarray  # i32[F,3] into positions
    uvs: np.ndarray  # f32[U,2]
    triangle_uvs: np.ndarray  # i32[F,3] into uvs
    normals: np.ndarray  # f32[F,3,3] unit normal of every corner
    dropped: int = 0  # triangles without area that were left out


def from_arrays(arrays: MeshArrays, anywhere: bool = False) -> Mesh:
    """Check a mesh that came from outside, and leave out the triangles without area. anywhere: its UVs may lie outside
    the 0-1 square, as in a file; `tiles.lay_out` brings them in.

    Missing normals are computed: smooth, with hard edges above 45 degrees. Raises MeshError if the mesh has no faces,
    no UVs, numbers that are not finite, indices out of range, UVs outside the 0-1 square, or no area at all.
    """
    positions, triangles = arrays.positions, arrays.triangles
    uvs, triangle_uvs = arrays.uvs, arrays.triangle_uvs
    if len(triangles) == 0:
        raise MeshError("The mesh has no faces.", "Add faces to it, or select another object.")
    if len(uvs) == 0 or len(triangle_uvs) != len(triangles):
        raise MeshError("The mesh has no UV map.", "Unwrap it: in Edit Mode, select all and use UV > Smart UV Project.")
    check_indices(triangles, len(positions), "vertex")
    check_indices(triangle_uvs, len(uvs), "UV point")
    check_finite(positions, "vertices", "Delete these vertices or undo what moved them there.")
    check_finite(uvs, "UV points", "Unwrap the mesh again.")
    if not anywhere:
        check_tiles(uvs[triangle_uvs])
        uvs = np.clip(uvs, 0, 1)
    whole = np.ascontiguousarray(has_area(positions[triangles]))
    if not whole.any():
        raise MeshError("All faces of the mesh have zero area.", "Check the object's scale, or select another object.")
    triangles = np.ascontiguousarray(triangles[whole], np.int32)
    if arrays.normals is None:
        normals = corner_normals(positions, triangles)
    else:
        normals = unit_normals(arrays.normals[whole], positions[triangles])
    return Mesh(
        np.ascontiguousarray(positions, np.float32),
        triangles,
        np.ascontiguousarray(uvs, np.float32),
        np.ascontiguousarray(triangle_uvs[whole], np.int32),
        normals,
        int(np.count_nonzero(~whole)),
    )


def check_indices(triangles: np.ndarray, count: int, what: str) -> None:
    low, high = int(triangles.min()), int(triangles.max())
    if low < 0 or high >= count:
        wrong = low if low < 0 else high
        raise MeshError(f"The mesh is damaged: a triangle uses {what} {wrong} of {count}.", "Export it again.")


def check_finite(points: np.ndarray, what: str, action: str) -> None:
    bad = int(np.count_nonzero(~np.isfinite(points).all(1)))
    if bad:
        raise MeshError(f"{bad} of the mesh's {len(points)} {what} are at no place (NaN or infinite).", action)


def check_tiles(corners: np.ndarray) -> None:
    """Refuse UVs outside the 0-1 square, where `tiles.lay_out` has not brought them in."""
    outside = outside_square(corners)
    if not outside.any():
        return
    tiles = np.unique(np.floor(corners[outside].mean(1, dtype=np.float64)).astype(np.int64), axis=0)
    names = [f"{1001 + u + 10 * v}" if 0 <= u < 10 and 0 <= v < 100 else f"({u}, {v})" for u, v in tiles.tolist()]
    where = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    raise MeshError(
        f"{percent(outside.mean())} of the faces have UVs outside the 0-1 square (tile {where}).",
        "In the UV editor, select all and use UV > Pack Islands.",
    )


def outside_square(corners: np.ndarray) -> np.ndarray:
    """bool[F]: triangles of f32[F,3,2] that leave the 0-1 square by more than UV_SLACK."""
    return ((corners < -UV_SLACK) | (corners > 1 + UV_SLACK)).any((1, 2))


def has_area(corners: np.ndarray) -> np.ndarray:
    """bool[F]: triangles of f32[F,3,3] that are more than a line or a point."""
    a, b, c = corners.astype(np.float64).transpose(1, 0, 2)
    longest = np.maximum(np.maximum(((b - a) ** 2).sum(1), ((c - b) ** 2).sum(1)), ((a - c) ** 2).sum(1))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) > CONDITION * longest


def triangle_normals(corners: np.ndarray) -> np.ndarray:
    """Unit normals f64[F,3] of triangles f32[F,3,3], right-handed; 0 for those without area."""
    a, b, c = corners.astype(np.float64).transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)


def corner_normals(positions: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Normals f32[F,3,3] for a mesh without any: angle-weighted over all triangles at the same place.

    A corner whose triangle turns away from that by more than 45 degrees takes its triangle's own normal.
    """
    _, place = np.unique(positions + np.float32(0), axis=0, return_inverse=True)  # + 0: no negative zero
    place = place.reshape(-1)[triangles]
    corners = positions[triangles].astype(np.float64)
    flat = triangle_normals(corners)
    smooth = np.zeros((len(positions), 3))
    for k in range(3):
        left, right = corners[:, k - 2] - corners[:, k], corners[:, k - 1] - corners[:, k]
        angle = np.arctan2(np.linalg.norm(np.cross(left, right), axis=1), (left * right).sum(1))
        for axis in range(3):
            smooth[:, axis] += np.bincount(place[:, k], angle * flat[:, axis], len(positions))
    smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-300)
    at_corner = smooth[place]
    turned = (at_corner * flat[:, None]).sum(2, keepdims=True) < HARD_EDGE
    return np.where(turned, flat[:, None], at_corner).astype(np.float32)


def unit_normals(normals: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Given normals f32[F,3,3] made one long; the triangle's own where they are zero or not finite."""
    given = normals.astype(np.float64)
    length = np.linalg.norm(given, axis=2, keepdims=True)
    good = np.isfinite(length) & (length > 1e-12)
    unit = given / np.where(good, length, 1)
    return np.where(good, unit, triangle_normals(corners)[:, None]).astype(np.float32)


def mesh_remarks(mesh: Mesh, textures: float = 1.0) -> list[str]:
    """What an artist should know about this mesh before it is textured, a sentence each; empty if all is well.

    textures: the part 0..1 of the UV square that will be painted, of which a UV map should use much.
    """
    remarks = []
    if mesh.dropped:
        remarks.append(f"{mesh.dropped} faces have zero area and are left out.")
    corners = mesh.uvs[mesh.triangle_uvs].astype(np.float64)
    outside = outside_square(corners)
    if outside.any():
        remarks.append(f"{percent(outside.mean())} of the faces have UVs outside the 0-1 square.")
    layers = uv_layers(corners)
    covered = np.count_nonzero(layers)
    shared = np.count_nonzero(layers > 1) / max(covered, 1)
    if shared > 0.005:
        remarks.append(
            f"{percent(shared)} of the UV map is used by more than one face; those faces will show the same picture. "
            "That is right for mirrored halves; otherwise unwrap again or use UV > Pack Islands."
        )
    side, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    flat = np.abs(side[:, 0] * other[:, 1] - side[:, 1] * other[:, 0]) < 1e-14
    if flat.any():
        area = surface_areas(mesh)
        remarks.append(
            f"{percent(area[flat].sum() / area.sum())} of the surface has no area in the UV map and will show one "
            "colour per face. Unwrap these faces to paint them."
        )
    if 0 < covered < 0.2 * textures * layers.size and not flat.all():
        remarks.append(
            f"The UV map uses only {percent(covered / layers.size / textures)} of the texture. "
            "UV > Pack Islands gives the surface more pixels."
        )
    return remarks


def surface_areas(mesh: Mesh) -> np.ndarray:
    """World areas f64[F] of the triangles."""
    a, b, c = mesh.positions[mesh.triangles].astype(np.float64).transpose(1, 0, 2)
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def uv_layers(corners: np.ndarray, size: int = 512) -> np.ndarray:
    """How many triangles f64[F,3,2] cover each cell centre of a size x size grid over the UV square, i32[size,size].

    Each triangle adds one where a row of centres enters it and takes one where the row leaves it; edges are computed
    the same from both sides, so neighbours neither overlap nor leave a gap.
    """
    order = np.argsort(corners[:, :, 1], axis=1, kind="stable")
    low, middle, high = np.take_along_axis(corners, order[:, :, None], 1).transpose(1, 0, 2)
    first = np.clip(np.ceil(low[:, 1] * size - 0.5), 0, size).astype(np.int64)
    rows = np.clip(np.ceil(high[:, 1] * size - 0.5), 0, size).astype(np.int64) - first
    steps = np.zeros(size * (size + 1))
    ends = np.cumsum(rows)
    for start in range(0, int(ends[-1]) if len(ends) else 0, 2**21):
        fragment = np.arange(start, min(start + 2**21, int(ends[-1])))
        f = np.searchsorted(ends, fragment, side="right")
        row = first[f] + fragment - (ends[f] - rows[f])
        v = (row + 0.5) / size
        lower = v < middle[f, 1]
        one = crossing(low[f], high[f], v)
        other = crossing(np.where(lower[:, None], low[f], middle[f]), np.where(lower[:, None], middle[f], high[f]), v)
        columns = np.clip(np.ceil(np.stack([one, other]) * size - 0.5), 0, size).astype(np.int64)
        base = row * (size + 1)
        steps += np.bincount(base + columns.min(0), minlength=len(steps))
        steps -= np.bincount(base + columns.max(0), minlength=len(steps))
    return np.cumsum(steps.reshape(size, size + 1), axis=1)[:, :size].round().astype(np.int32)


def crossing(start: np.ndarray, end: np.ndarray, v: np.ndarray) -> np.ndarray:
    """u where edges f64[K,2] (start below end) cross the height v f64[K]."""
    rise = end[:, 1] - start[:, 1]
    return start[:, 0] + (v - start[:, 1]) / np.where(rise > 0, rise, 1) * (end[:, 0] - start[:, 0])


def percent(share: float) -> str:
    """A share as text: "23 %", "0.4 %", "less than 0.1 %"."""
    if 0 < share < 0.001:
        return "less than 0.1 %"
    return f"{100 * share:.0f} %" if share >= 0.02 or share == 0 else f"{100 * share:.1f} %"
