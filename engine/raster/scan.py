# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PLR0913, C901  (kernels: arrays in, arrays out)
"""Triangles to pixels: which triangle is in front at every pixel centre. For views and for the UV map.

Rules, which make the picture a pure function of the triangles (not of their order, threads or bands):
- Vertices snap to 1/4096 pixel and edges are exact integers, so neighbours leave neither gap nor overlap; a centre
  exactly on an edge belongs to one side (top-left rule).
- A pixel keeps the smallest 64-bit key: z/w of the near..far range in the upper 32 bits, the triangle's number in
  the lower 32. Equal depths go to the lowest number. Equal triangles have equal depths, however their corners are
  ordered, because corners are sorted first.
- Nothing is culled by its facing. Triangles with a corner before the near plane, or more than 65,536 pixels beside
  the view, are clipped in float64; the rest of the way no product exceeds 2^61.
- z/w > 1 (beyond the far plane) is not drawn.
"""

from __future__ import annotations

import numpy as np

from .jit import kernel, plain, spread, thread_count

SUBPIXEL_BITS = 12
ONE = 1 << SUBPIXEL_BITS
HALF = ONE // 2
GUARD = 65536.0  # pixels beside the view's centre
EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)  # as a triangle number: -1
DEPTH_STEPS = 4294967040.0  # below 2^32, so that z/w = 1 is not EMPTY
OUTSIDE = np.int32(-(2**31))
NO_LAYERS = np.zeros((0, 0), np.uint8)


def scan(
    clip: np.ndarray, triangles: np.ndarray, height: int, width: int, count_layers: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Triangle ids i32[N,H,W] (-1 none) and, if asked for, how many triangles cover each pixel, u8[N,H,W] up to 255.

    clip f64[N,V,4] (OpenGL: y up, z in -w..w), triangles i32[F,3] of indices below V. Row 0 is the top.
    """
    clip, triangles = plain(clip, np.float64), plain(triangles, np.int32)
    views, bands = len(clip), band_count(len(clip), height)
    ids = np.empty((views, height, width), np.int32)
    layers = np.zeros((views, height, width) if count_layers else (views, 0, 0), np.uint8)
    snapped = np.zeros((views, clip.shape[1], 2), np.int32)
    depth = np.zeros((views, clip.shape[1]))

    def snap(numbers):
        for view in numbers:
            snap_vertices(clip[view], height, width, snapped[view], depth[view])

    def draw(numbers):
        scratch = np.empty((-(-height // bands), width), np.uint64)
        for number in numbers:
            view, band = divmod(number, bands)
            top, bottom = height * band // bands, height * (band + 1) // bands
            counts = layers[view, top:bottom] if count_layers else NO_LAYERS
            keys, out = scratch[: bottom - top], ids[view, top:bottom]
            scan_band(clip[view], triangles, snapped[view], depth[view], top, height, keys, counts, out)

    spread(views, snap)
    spread(views * bands, draw)
    return ids, layers


def band_count(views: int, height: int) -> int:
    """Bands per view: enough to keep every thread busy, each at least 64 rows."""
    wanted = 1 if views % thread_count() == 0 else -(-2 * thread_count() // views)
    return max(1, min(wanted, height // 64))


@kernel
def snap_vertices(clip, height, width, snapped, depth):
    """Clip space f64[V,4] to snapped i32[V,2] (x right, y down; OUTSIDE if it needs clipping) and depth f64[V] 0..1."""
    limit_x, limit_y = 2.0 * GUARD / width, 2.0 * GUARD / height
    for i in range(clip.shape[0]):
        x, y, z, w = clip[i, 0], clip[i, 1], clip[i, 2], clip[i, 3]
        if w > 0.0 and z >= -w and abs(x) <= limit_x * w and abs(y) <= limit_y * w:
            snapped[i, 0] = np.int32(np.rint((x / w * 0.5 + 0.5) * width * ONE))
            snapped[i, 1] = np.int32(np.rint((0.5 - y / w * 0.5) * height * ONE))
            depth[i] = z / w * 0.5 + 0.5
        else:  # NaN comes here too
            snapped[i, 0] = OUTSIDE


@kernel
def fill_triangle(ax, ay, az, bx, by, bz, cx, cy, cz, number, first_row, keys, layers):
    """Draw one snapped triangle into the band `keys` u64[rows,W] that starts at `first_row`; count into `layers`."""
    if bx < ax or (bx == ax and (by < ay or (by == ay and bz < az))):
        ax, ay, az, bx, by, bz = bx, by, bz, ax, ay, az
    if cx < bx or (cx == bx and (cy < by or (cy == by and cz < bz))):
        bx, by, bz, cx, cy, cz = cx, cy, cz, bx, by, bz
        if bx < ax or (bx == ax and (by < ay or (by == ay and bz < az))):
            ax, ay, az, bx, by, bz = bx, by, bz, ax, ay, az
    rows, width = keys.shape
    left = max((ax + HALF - 1) >> SUBPIXEL_BITS, 0)
    right = min((cx - HALF) >> SUBPIXEL_BITS, width - 1)
    top = max((min(ay, by, cy) + HALF - 1) >> SUBPIXEL_BITS, first_row)
    bottom = min((max(ay, by, cy) - HALF) >> SUBPIXEL_BITS, first_row + rows - 1)
    if left > right or top > bottom:
        return
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area == 0:
        return
    if area < 0:
        bx, by, bz, cx, cy, cz = cx, cy, cz, bx, by, bz
        area = -area
    step_xa, step_ya = by - cy, cx - bx
    step_xb, step_yb = cy - ay, ax - cx
    step_xc, step_yc = ay - by, bx - ax
    rule_a = 0 if step_xa > 0 or (step_xa == 0 and step_ya > 0) else -1
    rule_b = 0 if step_xb > 0 or (step_xb == 0 and step_yb > 0) else -1
    rule_c = 0 if step_xc > 0 or (step_xc == 0 and step_yc > 0) else -1
    x, y = (left << SUBPIXEL_BITS) + HALF, (top << SUBPIXEL_BITS) + HALF
    row_a = step_xa * (x - bx) + step_ya * (y - by) + rule_a
    row_b = step_xb * (x - cx) + step_yb * (y - cy) + rule_b
    row_c = step_xc * (x - ax) + step_yc * (y - ay) + rule_c
    step_xa, step_xb, step_xc = step_xa << SUBPIXEL_BITS, step_xb << SUBPIXEL_BITS, step_xc << SUBPIXEL_BITS
    step_ya, step_yb, step_yc = step_ya << SUBPIXEL_BITS, step_yb << SUBPIXEL_BITS, step_yc << SUBPIXEL_BITS
    scale = 1.0 / area
    counting = layers.shape[0] > 0
    for row in range(top - first_row, bottom - first_row + 1):
        a, b, c = row_a, row_b, row_c
        entered = False
        for column in range(left, right + 1):
            if (a | b | c) >= 0:
                entered = True
                z = ((a - rule_a) * az + (b - rule_b) * bz + (c - rule_c) * cz) * scale
                if z <= 1.0:
                    key = (np.uint64(max(z, 0.0) * DEPTH_STEPS) << np.uint64(32)) | np.uint64(number)
                    if key < keys[row, column]:
                        keys[row, column] = key
                    if counting and layers[row, column] < 255:
                        layers[row, column] += 1
            elif entered:
                break
            a += step_xa
            b += step_xb
            c += step_xc
        row_a += step_ya
        row_b += step_yb
        row_c += step_yc


@kernel
def before(clip, i, j):
    """Whether vertex i sorts before vertex j: by position in clip space, never by number."""
    for k in range(4):
        if clip[i, k] != clip[j, k]:
            return clip[i, k] < clip[j, k]
    return False


@kernel
def clip_polygon(polygon, spare, count, limit_x, limit_y):
    """Cut the convex polygon f64[count,4] by the near plane and the guard band; returns the new count.

    The cut between two corners is always computed from the kept one, so triangles that share an edge share the cut.
    """
    for plane in range(5):
        kept = 0
        for i in range(count):
            j = i + 1 if i + 1 < count else 0
            here, there = 0.0, 0.0
            if plane == 0:
                here, there = polygon[i, 2] + polygon[i, 3], polygon[j, 2] + polygon[j, 3]
            elif plane < 3:
                sign = 1.0 if plane == 1 else -1.0
                here = limit_x * polygon[i, 3] + sign * polygon[i, 0]
                there = limit_x * polygon[j, 3] + sign * polygon[j, 0]
            else:
                sign = 1.0 if plane == 3 else -1.0
                here = limit_y * polygon[i, 3] + sign * polygon[i, 1]
                there = limit_y * polygon[j, 3] + sign * polygon[j, 1]
            if here >= 0.0:
                for k in range(4):
                    spare[kept, k] = polygon[i, k]
                kept += 1
            if (here >= 0.0) != (there >= 0.0):
                part = here / (here - there) if here >= 0.0 else there / (there - here)
                start, end = (i, j) if here >= 0.0 else (j, i)
                for k in range(4):
                    spare[kept, k] = polygon[start, k] + part * (polygon[end, k] - polygon[start, k])
                kept += 1
        count = kept
        for i in range(count):
            for k in range(4):
                polygon[i, k] = spare[i, k]
    return count


@kernel
def fill_clipped(clip, i, j, k, number, first_row, height, polygon, spare, keys, layers):
    """Clip one triangle, then draw what is left of it as a fan."""
    width = keys.shape[1]
    if before(clip, j, i):
        i, j = j, i
    if before(clip, k, j):
        j, k = k, j
        if before(clip, j, i):
            i, j = j, i
    for column in range(4):
        polygon[0, column], polygon[1, column], polygon[2, column] = clip[i, column], clip[j, column], clip[k, column]
    count = clip_polygon(polygon, spare, 3, 2.0 * GUARD / width, 2.0 * GUARD / height)
    for corner in range(count):
        w = polygon[corner, 3]
        x = (polygon[corner, 0] / w * 0.5 + 0.5) * width
        y = (0.5 - polygon[corner, 1] / w * 0.5) * height
        if not (w > 0.0 and abs(x) <= 4.0 * GUARD and abs(y) <= 4.0 * GUARD):
            return  # not finite, or a matrix no camera has
        spare[corner, 0], spare[corner, 1] = np.rint(x * ONE), np.rint(y * ONE)
        spare[corner, 2] = polygon[corner, 2] / w * 0.5 + 0.5
    for corner in range(1, count - 1):
        fill_triangle(
            np.int64(spare[0, 0]), np.int64(spare[0, 1]), spare[0, 2],
            np.int64(spare[corner, 0]), np.int64(spare[corner, 1]), spare[corner, 2],
            np.int64(spare[corner + 1, 0]), np.int64(spare[corner + 1, 1]), spare[corner + 1, 2],
            number, first_row, keys, layers,
        )  # fmt: skip


@kernel
def scan_band(clip, triangles, snapped, depth, first_row, height, keys, layers, ids):
    """Triangle ids i32[rows,W] of the band of rows that starts at `first_row` of a view `height` rows high.

    `keys` u64[rows,W] is scratch; `layers` u8[rows,W] receives how many triangles cover each pixel, or is u8[0,0].
    """
    keys[:] = EMPTY
    polygon, spare = np.empty((10, 4)), np.empty((10, 4))
    for number in range(triangles.shape[0]):
        i, j, k = triangles[number, 0], triangles[number, 1], triangles[number, 2]
        ax, bx, cx = snapped[i, 0], snapped[j, 0], snapped[k, 0]
        if ax == OUTSIDE or bx == OUTSIDE or cx == OUTSIDE:
            fill_clipped(clip, i, j, k, number, first_row, height, polygon, spare, keys, layers)
        else:
            fill_triangle(
                np.int64(ax), np.int64(snapped[i, 1]), depth[i],
                np.int64(bx), np.int64(snapped[j, 1]), depth[j],
                np.int64(cx), np.int64(snapped[k, 1]), depth[k],
                number, first_row, keys, layers,
            )  # fmt: skip
    for row in range(ids.shape[0]):
        for column in range(ids.shape[1]):
            ids[row, column] = np.int32(np.uint32(keys[row, column] & np.uint64(0xFFFFFFFF)))
