# SPDX-License-Identifier: Apache-2.0
"""What time does to a surface: moss, snow, rust, dirt, dust, cracks and age laid over a base colour (P,3)."""

import torch

from .noise import box_map, mix, noise, soft, voronoi


def _rgb(points, *values):
    return torch.tensor(values, device=points.device)


def mossy(colour, p, n, up, field, seed):
    moss = _rgb(p, 0.20, 0.35, 0.07) * (1 + 0.25 * field[:, 2:3])
    return mix(colour, moss, soft(up * 0.9 + 0.4 * field[:, 0] - 0.35, 0.25))


def snowy(colour, p, n, up, field, seed):
    return mix(colour, _rgb(p, 0.95, 0.96, 0.98), soft(up * 1.1 + 0.22 * field[:, 0] - 0.45, 0.18))


def rusty(colour, p, n, up, field, seed):
    rust = mix(_rgb(p, 0.28, 0.12, 0.05), _rgb(p, 0.68, 0.31, 0.09), 0.5 + 0.4 * field[:, 2])
    return mix(colour, rust, soft(field[:, 0] - 0.1, 0.35))


def dirty(colour, p, n, up, field, seed):
    return mix(colour, _rgb(p, 0.20, 0.15, 0.10), (0.2 + 0.45 * field[:, 0]).clamp(0, 0.8))


def dusty(colour, p, n, up, field, seed):
    return mix(colour, _rgb(p, 0.72, 0.68, 0.60), (0.35 + 0.3 * up + 0.15 * field[:, 0]).clamp(0, 0.8))


def cracked(colour, p, n, up, field, seed):
    uv, axis = box_map(p * 1.8 + 0.12 * field[:, :3], n)
    border = voronoi(uv + axis[:, None] * 5.1, seed * 9)[1]
    return mix(colour * 0.15, colour, soft(border - 0.05, 0.05))


def old(colour, p, n, up, field, seed):
    faded = colour.mean(-1, keepdim=True) * 0.35 + colour * 0.65
    return faded * (0.86 + 0.16 * field[:, :1]) + 0.02


LAYERS = {f.__name__: f for f in (mossy, snowy, rusty, dirty, dusty, cracked, old)}


def weather(colour, points, normals, up, layer, seed):
    """Lay one named layer over `colour`; `up` (3,) is the world's vertical in the frame of points and normals."""
    offset = torch.tensor([seed * 3.3 % 1, seed * 5.7 % 1, seed], device=points.device)
    return LAYERS[layer](colour, points, normals, normals @ up, noise(points, offset, 2.4), seed)
