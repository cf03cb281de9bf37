# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: C901, PLR0913  (kernels: arrays in, arrays out)
"""Screen-space kernels of the maps between texels and pixels, one view at a time.

`vertices` are a view's f64[V,4] clip `x, y, w` and view distance `d` (see `Screen`): distances are interpolated by
the barycentric weights, so orthographic cameras need no case of their own, and nothing divides by a vertex's `w`,
so triangles that reach behind the camera need none either. They share a file because of numba's cache
(engine/raster/jit.py).
"""

import numpy as np

from engine.raster.jit import kernel

SAME_SURFACE = 5e-3   # relative distance within which a pixel's plane passes through the texel
LOWEST = 0.02         # weight of a view at the very edge of a surface
BACK_FACING = 1e-2    # a view of the wrong side counts where no view sees the right one


@kernel
def barycentric(a, b, c, x, y):
    """Perspective-correct weights of clip-space corners `a, b, c` at NDC `(x, y)`; extrapolates outside.

    Returns (0, 0, 0) for a triangle seen edge-on.
    """
    ax, ay = a[0] - x * a[2], a[1] - y * a[2]
    bx, by = b[0] - x * b[2], b[1] - y * b[2]
    cx, cy = c[0] - x * c[2], c[1] - y * c[2]
    u, v, w = bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx
    total = u + v + w
    if total == 0.0:
        return 0.0, 0.0, 0.0
    return u / total, v / total, w / total


@kernel
def plane_distance(vertices, triangles, triangle, x, y):
    """View distance at NDC `(x, y)` of the plane of `triangle`; 0 where it has none in front of the camera."""
    a, b, c = vertices[triangles[triangle, 0]], vertices[triangles[triangle, 1]], vertices[triangles[triangle, 2]]
    u, v, w = barycentric(a, b, c, x, y)
    return max(u * a[3] + v * b[3] + w * c[3], 0.0)


@kernel
def extent(vertices, triangles, triangle):
    """|d(NDC area) / d(barycentric area)| times w cubed: the perspective Jacobian's constant for a triangle."""
    a, b, c = vertices[triangles[triangle, 0]], vertices[triangles[triangle, 1]], vertices[triangles[triangle, 2]]
    return abs(a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
               + a[2] * (b[0] * c[1] - b[1] * c[0]))


@kernel
def pairs_of_view(index, position, normal, smooth, triangle, visible, slot, vertices, matrix, toward, triangles,
                  density, ids, away, reach, lowest, view, base, share, steep, trust, edge):
    height, width = ids.shape
    for m in range(len(visible)):
        if not visible[m]:
            continue
        pair = slot[m]
        view[pair] = index
        px, py, pz = position[m, 0], position[m, 1], position[m, 2]
        tx, ty, tz = toward[0] - toward[3] * px, toward[1] - toward[3] * py, toward[2] - toward[3] * pz
        length = np.sqrt(tx * tx + ty * ty + tz * tz)
        facing = (tx * normal[m, 0] + ty * normal[m, 1] + tz * normal[m, 2]) / length
        if abs(facing) < lowest:
            continue
        w = matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] * pz + matrix[2, 3]
        distance = matrix[3, 0] * px + matrix[3, 1] * py + matrix[3, 2] * pz + matrix[3, 3]
        if w <= 0.0 or distance <= 0.0:
            continue
        x = (matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] * pz + matrix[0, 3]) / w
        y = (matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] * pz + matrix[1, 3]) / w
        column, row = (x * 0.5 + 0.5) * width - 0.5, (0.5 - y * 0.5) * height - 0.5
        if not (-0.5 <= column <= width - 0.5 and -0.5 <= row <= height - 0.5):
            continue
        left, top = min(max(int(np.floor(column)), 0), width - 2), min(max(int(np.floor(row)), 0), height - 2)
        fx, fy = min(max(column - left, 0.0), 1.0), min(max(row - top, 0.0), 1.0)
        total, soft = 0.0, 0.0
        for tap in range(4):
            c, r = left + (tap & 1), top + (tap >> 1)
            bilinear = (fx if tap & 1 else 1.0 - fx) * (fy if tap >> 1 else 1.0 - fy)
            there = ids[r, c]
            if there < 0 or bilinear == 0.0:
                continue
            if there != triangle[m]:
                plane = plane_distance(vertices, triangles, there, x, y)
                if abs(plane - distance) > SAME_SURFACE * distance:
                    continue
            share[pair, tap] = bilinear
            total += bilinear
            soft += bilinear * away[r, c]
        if total <= 0.0:
            continue
        for tap in range(4):
            share[pair, tap] /= total
        edge[pair] = soft / total
        base[pair] = (index * height + top) * width + left
        pixels = extent(vertices, triangles, triangle[m]) * height * width * 0.25 / (w * w * w)
        footprint = min(pixels / density[triangle[m]], 1.0) if density[triangle[m]] > 0.0 else 1.0
        bend = abs(tx * smooth[m, 0] + ty * smooth[m, 1] + tz * smooth[m, 2]) / length
        soft = min(max(edge[pair] / reach, LOWEST), 1.0)
        steep[pair] = np.log(max(bend, 0.02) * np.sqrt(soft))  # or the straightest view wins up to its very edge
        side = 1.0 if facing > 0.0 else BACK_FACING
        trust[pair] = np.log(max(footprint, 1e-6) * soft * side)


@kernel
def breaks_of_view(ids, vertices, triangles, right, below):
    height, width = ids.shape
    tolerance = max(SAME_SURFACE, 3.0 / max(height, width))
    for r in range(height):
        for c in range(width):
            for down in range(2):
                r2, c2 = r + down, c + 1 - down
                if r2 >= height or c2 >= width:
                    continue
                a, b = ids[r, c], ids[r2, c2]
                if a == b:
                    continue
                cut = a < 0 or b < 0
                if not cut:
                    x, y = (c2 + 0.5) / width * 2 - 1, 1 - (r2 + 0.5) / height * 2
                    here = plane_distance(vertices, triangles, b, x, y)
                    there = plane_distance(vertices, triangles, a, x, y)
                    cut = abs(here - there) > tolerance * here
                    if cut:
                        x, y = (c + 0.5) / width * 2 - 1, 1 - (r + 0.5) / height * 2
                        here = plane_distance(vertices, triangles, a, x, y)
                        there = plane_distance(vertices, triangles, b, x, y)
                        cut = abs(here - there) > tolerance * here
                if cut:
                    if down:
                        below[r, c] = True
                    else:
                        right[r, c] = True


@kernel
def lookup_of_view(ids, samples, vertices, triangles, corners, charts, slot, texel_charts, room, count, columns,
                   values, coverage):
    """Bilinear taps of every subsample, summed per texel. Fills count i32[H*W], columns, values, coverage f32[H,W]."""
    size, height, width = len(slot), ids.shape[0] // samples, ids.shape[1] // samples
    place = 0
    for r in range(height):
        for c in range(width):
            found, total, hits = 0, 0.0, 0
            for s in range(samples * samples):
                sr, sc = r * samples + s // samples, c * samples + s % samples
                triangle = ids[sr, sc]
                if triangle < 0:
                    continue
                x, y = (sc + 0.5) / ids.shape[1] * 2 - 1, 1 - (sr + 0.5) / ids.shape[0] * 2
                u, v, w = barycentric(vertices[triangles[triangle, 0]], vertices[triangles[triangle, 1]],
                                      vertices[triangles[triangle, 2]], x, y)
                u, v = min(max(u, 0.0), 1.0), min(max(v, 0.0), 1.0)
                if u + v > 1.0:
                    u, v = u / (u + v), v / (u + v)
                w = 1.0 - u - v
                i, j, k = corners[triangle, 0], corners[triangle, 1], corners[triangle, 2]
                column = (u * i[0] + v * j[0] + w * k[0]) * size - 0.5
                row = (1 - (u * i[1] + v * j[1] + w * k[1])) * size - 0.5
                left, top = int(np.floor(column)), int(np.floor(row))
                kept = False
                for tap in range(4):
                    fx, fy = column - left, row - top
                    share = (fx if tap & 1 else 1.0 - fx) * (fy if tap >> 1 else 1.0 - fy)
                    if share <= 0.0:
                        continue
                    texel = slot[min(max(top + (tap >> 1), 0), size - 1), min(max(left + (tap & 1), 0), size - 1)]
                    if texel < 0 or texel_charts[texel] != charts[triangle]:
                        continue
                    kept = True
                    total += share
                    k = 0
                    while k < found and columns[place + k] != texel:
                        k += 1
                    if k < found:
                        values[place + k] += share
                    elif found < room:
                        columns[place + k], values[place + k] = texel, share
                        found += 1
                    else:
                        total -= share
                hits += kept
            if found:
                for k in range(found):
                    values[place + k] /= total
                place += found
                count[r * width + c] = found
                coverage[r, c] = hits / (samples * samples)
    return place


@kernel
def noise_of_view(ids, samples, vertices, triangles, corners, density, size, count, columns, values, shared):
    """Area shares of the texels behind each pixel, divided by the root of the sum of their squares.

    ids i32[H*S,W*S]; fills count i32[H*W] (texels per pixel), columns and values in pixel order, and shared f32[H,W].
    Returns the number of entries.
    """
    height, width = ids.shape[0] // samples, ids.shape[1] // samples
    place = 0
    for r in range(height):
        for c in range(width):
            found, common = 0, 0.0
            for s in range(samples * samples):
                sr, sc = r * samples + s // samples, c * samples + s % samples
                triangle = ids[sr, sc]
                if triangle < 0:
                    continue
                x, y = (sc + 0.5) / ids.shape[1] * 2 - 1, 1 - (sr + 0.5) / ids.shape[0] * 2
                i, j, k = triangles[triangle, 0], triangles[triangle, 1], triangles[triangle, 2]
                a, b, w = barycentric(vertices[i], vertices[j], vertices[k], x, y)
                u = a * corners[triangle, 0, 0] + b * corners[triangle, 1, 0] + w * corners[triangle, 2, 0]
                v = 1 - (a * corners[triangle, 0, 1] + b * corners[triangle, 1, 1] + w * corners[triangle, 2, 1])
                texel = np.int32(min(max(int(v * size), 0), size - 1) * size + min(max(int(u * size), 0), size - 1))
                away = a * vertices[i, 2] + b * vertices[j, 2] + w * vertices[k, 2]
                pixel = extent(vertices, triangles, triangle) * height * width * 0.25
                common += min(density[triangle] * abs(away) ** 3 / pixel, 1.0) if pixel > 0.0 else 0.0
                at = 0
                while at < found and columns[place + at] != texel:
                    at += 1
                if at == found:
                    columns[place + at], values[place + at] = texel, 0.0
                    found += 1
                values[place + at] += 1.0
            if found:
                square = 0.0
                for at in range(found):
                    square += values[place + at] ** 2
                for at in range(found):
                    values[place + at] /= np.sqrt(square)
                count[r * width + c] = found
                place += found
                shared[r, c] = common / (samples * samples)
    return place


@kernel
def correspond_views(ids, other_ids, vertices, other_vertices, triangles, place, valid):
    """Fills place f32[H,W,2] and valid bool[H,W]; see correspond.py."""
    height, width = ids.shape
    for r in range(height):
        for c in range(width):
            triangle = ids[r, c]
            if triangle < 0:
                continue
            i, j, k = triangles[triangle, 0], triangles[triangle, 1], triangles[triangle, 2]
            x, y = (c + 0.5) / width * 2 - 1, 1 - (r + 0.5) / height * 2
            u, v, t = barycentric(vertices[i], vertices[j], vertices[k], x, y)
            point = u * other_vertices[i] + v * other_vertices[j] + t * other_vertices[k]
            if point[2] <= 0.0 or point[3] <= 0.0:
                continue
            x, y = point[0] / point[2], point[1] / point[2]
            column, row = (x * 0.5 + 0.5) * width, (0.5 - y * 0.5) * height
            place[r, c, 0], place[r, c, 1] = column, row
            if not (0 <= column < width and 0 <= row < height):
                continue
            left, top = int(np.floor(column - 0.5)), int(np.floor(row - 0.5))
            for tap in range(4):
                r2, c2 = top + (tap >> 1), left + (tap & 1)
                if r2 < 0 or c2 < 0 or r2 >= height or c2 >= width:
                    continue
                there = other_ids[r2, c2]
                if there == triangle:
                    valid[r, c] = True
                elif there >= 0:
                    plane = plane_distance(other_vertices, triangles, there, x, y)
                    if abs(plane - point[3]) <= SAME_SURFACE * point[3]:
                        valid[r, c] = True
