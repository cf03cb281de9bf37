# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PLR0913, C901  (kernels: arrays in, arrays out)
"""The kernels that turn triangle ids into numbers, for any back end: at pixel centres, and at texels' projections.

Barycentrics come from homogeneous coordinates: with q = (x, y, w) of the corners in clip space, the ray through the
image point (x, y) meets the triangle's plane at weights proportional to det(p, q1, q2), det(q0, p, q2), det(q0, q1, p),
p = (x, y, 1). They are perspective-correct and need no clipping; outside the triangle they extrapolate its plane.
"""

from __future__ import annotations

import numpy as np

from .jit import kernel


@kernel
def weights_at(clip, i, j, k, x, y):
    """Barycentrics (summing to 1) of the plane of triangle i, j, k at the image point x, y in -1..1; NaN if edge-on."""
    ax, ay = clip[i, 0] - x * clip[i, 3], clip[i, 1] - y * clip[i, 3]
    bx, by = clip[j, 0] - x * clip[j, 3], clip[j, 1] - y * clip[j, 3]
    cx, cy = clip[k, 0] - x * clip[k, 3], clip[k, 1] - y * clip[k, 3]
    a, b, c = bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx
    total = a + b + c
    return a / total, b / total, c / total, total


@kernel
def clamp_weights(a, b, c):
    """The weights moved into the triangle: what is negative becomes zero, the sum one. Edge-on: the first corner."""
    a, b, c = max(a, 0.0), max(b, 0.0), max(c, 0.0)
    total = a + b + c
    if not (total > 0.0 and total < np.inf):
        return 1.0, 0.0, 0.0
    return a / total, b / total, c / total


@kernel
def resolve_rows(first, last, ids, clip, positions, triangles, uvs, triangle_uvs, away, toward,
                 barycentrics, depth, position, normal, uv, cosine, footprint):  # fmt: skip
    """Fill rows first..last of one view. away f64[4]: view distance of a point; toward f64[4]: see `toward_eye`."""
    height, width = ids.shape
    n, point = np.empty(3), np.empty(3)
    for row in range(first, last):
        y = 1.0 - (2.0 * row + 1.0) / height
        for column in range(width):
            f = ids[row, column]
            if f < 0:
                continue
            x = (2.0 * column + 1.0) / width - 1.0
            i, j, k = triangles[f, 0], triangles[f, 1], triangles[f, 2]
            a, b, c, total = weights_at(clip, i, j, k, x, y)
            a, b, c = clamp_weights(a, b, c)
            barycentrics[row, column, 0], barycentrics[row, column, 1], barycentrics[row, column, 2] = a, b, c
            for axis in range(3):
                point[axis] = a * positions[i, axis] + b * positions[j, axis] + c * positions[k, axis]
                position[row, column, axis] = point[axis]
            depth[row, column] = away[0] * point[0] + away[1] * point[1] + away[2] * point[2] + away[3]
            length, along, distance = 0.0, 0.0, 0.0
            for axis in range(3):
                p, q = (axis + 1) % 3, (axis + 2) % 3
                up, uq = np.float64(positions[j, p]) - positions[i, p], np.float64(positions[j, q]) - positions[i, q]
                vp, vq = np.float64(positions[k, p]) - positions[i, p], np.float64(positions[k, q]) - positions[i, q]
                n[axis] = up * vq - uq * vp
                length += n[axis] * n[axis]
            if length > 0.0:
                for axis in range(3):
                    n[axis] /= np.sqrt(length)
                    normal[row, column, axis] = n[axis]
                    ray = toward[axis] - toward[3] * point[axis]
                    along += ray * n[axis]
                    distance += ray * ray
                cosine[row, column] = min(abs(along) / np.sqrt(distance), 1.0) if distance > 0.0 else 0.0
            ti, tj, tk = triangle_uvs[f, 0], triangle_uvs[f, 1], triangle_uvs[f, 2]
            uv[row, column, 0] = a * uvs[ti, 0] + b * uvs[tj, 0] + c * uvs[tk, 0]
            uv[row, column, 1] = a * uvs[ti, 1] + b * uvs[tj, 1] + c * uvs[tk, 1]
            area = (np.float64(uvs[tj, 0]) - uvs[ti, 0]) * (np.float64(uvs[tk, 1]) - uvs[ti, 1])
            area -= (np.float64(uvs[tj, 1]) - uvs[ti, 1]) * (np.float64(uvs[tk, 0]) - uvs[ti, 0])
            volume = clip[i, 0] * (clip[j, 1] * clip[k, 3] - clip[j, 3] * clip[k, 1])
            volume -= clip[i, 1] * (clip[j, 0] * clip[k, 3] - clip[j, 3] * clip[k, 0])
            volume += clip[i, 3] * (clip[j, 0] * clip[k, 1] - clip[j, 1] * clip[k, 0])
            if total != 0.0:
                stretch = abs(area * volume * volume / (total * total * total))
                footprint[row, column] = min(stretch * 4.0 / (width * height), 1.0)


@kernel
def see_texels(first, last, position, normal, triangle, matrix, away, toward, ids, clip, distance, triangles,
               tolerance, lowest, seen):  # fmt: skip
    """Fill seen[first:last] for one view: whether each texel is the front surface where it projects.

    Of the four pixels around the projection one must show the texel's own triangle, or a triangle whose plane,
    extrapolated to the exact point, is not nearer than the texel by more than `tolerance` (a share of the distance;
    a tenth of that for a texel seen from behind, so that thin walls do not let the front through). Four empty pixels
    also do: a feature thinner than a pixel hides nothing and nothing hides it. distance f64[V]: view distance of the
    vertices; matrix f64[4,4]: world to clip; lowest: the smallest |cosine| that counts.
    """
    height, width = ids.shape
    for m in range(first, last):
        seen[m] = False
        px, py, pz = np.float64(position[m, 0]), np.float64(position[m, 1]), np.float64(position[m, 2])
        tx, ty, tz = toward[0] - toward[3] * px, toward[1] - toward[3] * py, toward[2] - toward[3] * pz
        facing = tx * normal[m, 0] + ty * normal[m, 1] + tz * normal[m, 2]
        if not abs(facing) > lowest * np.sqrt(tx * tx + ty * ty + tz * tz):
            continue
        w = matrix[3, 0] * px + matrix[3, 1] * py + matrix[3, 2] * pz + matrix[3, 3]
        z = matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] * pz + matrix[2, 3]
        if not (w > 0.0 and abs(z) <= w):
            continue
        x = (matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] * pz + matrix[0, 3]) / w
        y = (matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] * pz + matrix[1, 3]) / w
        if not (abs(x) <= 1.0 and abs(y) <= 1.0):
            continue
        left = np.int64(np.floor((x * 0.5 + 0.5) * width - 0.5))
        top = np.int64(np.floor((0.5 - y * 0.5) * height - 0.5))
        far = away[0] * px + away[1] * py + away[2] * pz + away[3]
        slack = tolerance * abs(far) if facing > 0.0 else 0.1 * tolerance * abs(far)
        empty, checked = 0, np.int32(-1)
        for tap in range(4):
            row, column = min(max(top + (tap >> 1), 0), height - 1), min(max(left + (tap & 1), 0), width - 1)
            f = ids[row, column]
            if f < 0:
                empty += 1
                continue
            if f == checked:
                continue
            checked = f
            if f != triangle[m]:
                i, j, k = triangles[f, 0], triangles[f, 1], triangles[f, 2]
                a, b, c, total = weights_at(clip, i, j, k, x, y)
                plane = a * distance[i] + b * distance[j] + c * distance[k]
                in_front = a * clip[i, 3] + b * clip[j, 3] + c * clip[k, 3]
                if not (in_front > 0.0 and far <= plane + slack):
                    continue
            seen[m] = True
            break
        if empty == 4:
            seen[m] = True
