# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PLR0913, C901  (kernels: arrays in, arrays out)
"""Which point of the surface each texel shows: the UV map rasterized by the same kernel as the views.

A border of 1.42 texels around every chart takes the nearest point of the chart (its barycentrics clamped into the
triangle), so that each of the four texels of a bilinear lookup anywhere on the surface exists: they are at most
sqrt(2) texels away. With a border of 1 up to 0.1 % of lookups still miss one (research/rasterizers.md 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.mesh import Mesh

from .jit import kernel, plain, slices, spread
from .scan import scan

BORDER = 1.42
ROWS = 64


@dataclass(frozen=True)
class TexelMap:
    """The `M` texels of a `size` by `size` texture that the mesh uses, by ascending index. Row 0 is at v = 1."""

    size: int
    index: np.ndarray  # i64[M] row * size + column, each at most once
    triangle: np.ndarray  # i32[M]; where charts overlap, the lowest number
    barycentrics: np.ndarray  # f32[M,3] in 0..1, sum 1
    border: np.ndarray  # bool[M] outside its chart; shows the chart's nearest point
    position: np.ndarray  # f32[M,3] world
    normal: np.ndarray  # f32[M,3] the triangle's unit normal in the world
    overlap: int  # the largest number of triangles on one texel: 1 for a proper UV map, at most 255
    overlap_share: float  # share of the inner texels that more than one triangle covers


@dataclass(frozen=True)
class UVImage:
    """Which triangle owns each texel: all that a texture needs to keep, 4 bytes a texel; the rest is made of it in parts."""

    size: int
    ids: np.ndarray  # i32[T,T] the triangle of each texel, -1 none, -2 - number in the border around a chart
    overlap: int
    overlap_share: float

    def bands(self, texels: int = 2**18) -> list[slice]:
        """Rows in pieces of about so many texels."""
        return slices(self.size, max(texels // self.size, 1))

    def texels(self, mesh: Mesh, rows: slice = slice(None)) -> TexelMap:
        """The texels of some rows of the mesh that was drawn."""
        positions, triangles = plain(mesh.positions, np.float32), plain(mesh.triangles, np.int32)
        uvs, triangle_uvs = plain(mesh.uvs, np.float32), plain(mesh.triangle_uvs, np.int32)
        top, bottom, _ = rows.indices(self.size)
        ids = self.ids[top:bottom]
        start = np.zeros(len(ids) + 1, np.int64)
        np.cumsum(np.count_nonzero(ids != -1, axis=1), out=start[1:])
        count = int(start[-1])
        index, triangle, outside = np.empty(count, np.int64), np.empty(count, np.int32), np.empty(count, np.bool_)
        barycentrics, position, normal = (np.empty((count, 3), np.float32) for _ in range(3))
        pieces = slices(len(ids), ROWS)

        def place(numbers):
            for number in numbers:
                piece = pieces[number]
                place_texels(piece.start, piece.stop, top, ids, start, positions, triangles, uvs, triangle_uvs,
                             index, triangle, outside, barycentrics, position, normal)  # fmt: skip

        spread(len(pieces), place)
        return TexelMap(self.size, index, triangle, barycentrics, outside, position, normal, self.overlap,
                        self.overlap_share)


def rasterize_uv(mesh: Mesh, size: int, border: float = BORDER) -> TexelMap:
    """The texels of a square texture. `border` is in texels. A UV map on a single point gives a few texels or none."""
    return draw_uv(mesh, size, border).texels(mesh)


def draw_uv(mesh: Mesh, size: int, border: float = BORDER) -> UVImage:
    """The triangles of a square texture. What lies outside the 0-1 square is not drawn."""
    uvs, triangle_uvs = plain(mesh.uvs, np.float32), plain(mesh.triangle_uvs, np.int32)
    clip = np.zeros((1, len(uvs), 4))
    clip[0, :, :2], clip[0, :, 3] = 2.0 * uvs - 1.0, 1.0
    ids, layers = (image[0] for image in scan(clip, triangle_uvs, size, size, count_layers=True))
    covered = int(np.count_nonzero(layers))
    shared = int(np.count_nonzero(layers > 1))
    most = int(layers.max(initial=0))
    del layers, clip
    bands = slices(size, ROWS)
    if border > 0:
        order, begin = by_rows(uvs, triangle_uvs, size, border)

        def surround(numbers):
            keys = np.empty((min(ROWS, size), size), np.uint64)
            for number in numbers:
                rows = bands[number]
                some = order[begin[number] : begin[number + 1]]
                grow_band(uvs, triangle_uvs, some, size, border, rows.start, ids[rows], keys[: rows.stop - rows.start])

        spread(len(bands), surround)
    return UVImage(size, ids, most, shared / max(covered, 1))


def by_rows(uvs: np.ndarray, triangle_uvs: np.ndarray, size: int, border: float) -> tuple[np.ndarray, np.ndarray]:
    """Triangles that reach each band of `ROWS` rows: numbers i32[K], grouped by band, and where each begins i64[bands+1]."""
    height = (1.0 - uvs[:, 1].astype(np.float64)[triangle_uvs]) * size - 0.5
    count = -(-size // ROWS)
    first = np.floor(np.maximum(height.min(1) - border, 0) / ROWS).astype(np.int64)
    last = np.floor(np.minimum(height.max(1) + border, size - 1) / ROWS).astype(np.int64)
    bands = np.maximum(last - first + 1, 0)
    triangle = np.repeat(np.arange(len(triangle_uvs), dtype=np.int32), bands)
    band = np.arange(len(triangle)) - np.repeat(np.cumsum(bands) - bands, bands) + first[triangle]
    inside = band < count
    triangle, band = triangle[inside], band[inside]
    begin = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(band, minlength=count), out=begin[1:])
    return triangle[np.argsort(band, kind="stable")], begin


@kernel
def nearest_weights(px, py, ax, ay, bx, by, cx, cy):
    """Barycentrics of the point of the triangle nearest to (px, py), and the squared distance to it."""
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area != 0.0:
        b = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) / area
        c = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) / area
        if b >= 0.0 and c >= 0.0 and b + c <= 1.0:
            return max(1.0 - b - c, 0.0), b, c, 0.0
    best_a, best_b, best_c, best = 1.0, 0.0, 0.0, np.inf
    for edge in range(3):
        sx, sy, ex, ey = ax, ay, bx, by
        if edge == 1:
            sx, sy, ex, ey = bx, by, cx, cy
        elif edge == 2:
            sx, sy, ex, ey = cx, cy, ax, ay
        dx, dy = ex - sx, ey - sy
        length = dx * dx + dy * dy
        t = min(max(((px - sx) * dx + (py - sy) * dy) / length, 0.0), 1.0) if length > 0.0 else 0.0
        away = (px - sx - t * dx) ** 2 + (py - sy - t * dy) ** 2
        if away < best:
            best = away
            best_a, best_b, best_c = 1.0 - t, t, 0.0
            if edge == 1:
                best_a, best_b, best_c = 0.0, 1.0 - t, t
            elif edge == 2:
                best_a, best_b, best_c = t, 0.0, 1.0 - t
    return best_a, best_b, best_c, best


@kernel
def grow_band(uvs, triangle_uvs, some, size, radius, first_row, ids, keys):
    """Give each empty texel of the band ids i32[rows,size] within `radius` of a triangle that triangle, as -2 - number.

    Of the triangles `some` i32[K] the nearest wins, then the lowest number. keys u64[rows,size] is scratch.
    """
    nobody = np.uint64(0xFFFFFFFFFFFFFFFF)
    keys[:] = nobody
    rows = ids.shape[0]
    steps = 4294967000.0 / (radius * radius)
    for number in range(len(some)):
        f = some[number]
        i, j, k = triangle_uvs[f, 0], triangle_uvs[f, 1], triangle_uvs[f, 2]
        ax, ay = np.float64(uvs[i, 0]) * size - 0.5, (1.0 - np.float64(uvs[i, 1])) * size - 0.5
        bx, by = np.float64(uvs[j, 0]) * size - 0.5, (1.0 - np.float64(uvs[j, 1])) * size - 0.5
        cx, cy = np.float64(uvs[k, 0]) * size - 0.5, (1.0 - np.float64(uvs[k, 1])) * size - 0.5
        left, right = np.ceil(min(ax, bx, cx) - radius), np.floor(max(ax, bx, cx) + radius)
        top, bottom = np.ceil(min(ay, by, cy) - radius), np.floor(max(ay, by, cy) + radius)
        if not (right >= 0.0 and left < size and bottom >= first_row and top < first_row + rows):
            continue
        first_column, last_column = np.int64(max(left, 0.0)), np.int64(min(right, size - 1.0))
        for row in range(np.int64(max(top, first_row)), np.int64(min(bottom, first_row + rows - 1.0)) + 1):
            for column in range(first_column, last_column + 1):
                if ids[row - first_row, column] >= 0:
                    continue
                away = nearest_weights(np.float64(column), np.float64(row), ax, ay, bx, by, cx, cy)[3]
                if away <= radius * radius:
                    key = (np.uint64(away * steps) << np.uint64(32)) | np.uint64(f)
                    if key < keys[row - first_row, column]:
                        keys[row - first_row, column] = key
    for row in range(rows):
        for column in range(size):
            if keys[row, column] != nobody:
                ids[row, column] = -2 - np.int32(keys[row, column] & np.uint64(0x7FFFFFFF))


@kernel
def place_texels(first, last, above, ids, start, positions, triangles, uvs, triangle_uvs,
                 index, triangle, border, barycentrics, position, normal):  # fmt: skip
    """Fill the texels of rows first..last; row r's begin at start[r], and `above` rows are not in `ids`. Border texels
    have ids -2 - number."""
    size = ids.shape[1]
    n = np.empty(3)
    for row in range(first, last):
        m = start[row]
        for column in range(size):
            f = ids[row, column]
            if f == -1:
                continue
            border[m] = f < -1
            if f < -1:
                f = -2 - f
            index[m] = np.int64(above + row) * size + column
            triangle[m] = f
            u, v = (column + 0.5) / size, 1.0 - (above + row + 0.5) / size
            i, j, k = triangle_uvs[f, 0], triangle_uvs[f, 1], triangle_uvs[f, 2]
            a, b, c, _ = nearest_weights(
                u, v, np.float64(uvs[i, 0]), np.float64(uvs[i, 1]), np.float64(uvs[j, 0]), np.float64(uvs[j, 1]),
                np.float64(uvs[k, 0]), np.float64(uvs[k, 1]),
            )  # fmt: skip
            barycentrics[m, 0], barycentrics[m, 1], barycentrics[m, 2] = a, b, c
            i, j, k = triangles[f, 0], triangles[f, 1], triangles[f, 2]
            length = 0.0
            for axis in range(3):
                position[m, axis] = a * positions[i, axis] + b * positions[j, axis] + c * positions[k, axis]
                p, q = (axis + 1) % 3, (axis + 2) % 3
                up, uq = np.float64(positions[j, p]) - positions[i, p], np.float64(positions[j, q]) - positions[i, q]
                vp, vq = np.float64(positions[k, p]) - positions[i, p], np.float64(positions[k, q]) - positions[i, q]
                n[axis] = up * vq - uq * vp
                length += n[axis] * n[axis]
            for axis in range(3):
                normal[m, axis] = n[axis] / np.sqrt(length) if length > 0.0 else 0.0
            m += 1
