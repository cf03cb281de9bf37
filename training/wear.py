# SPDX-License-Identifier: Apache-2.0
"""What time does to a surface: moss, snow, rust, dirt, dust, cracks and age laid over a base colour (P,3).

Wear follows the geometry: moss and snow lie on top, rust and chipped paint start at edges, dirt stays in cavities.
"""

from dataclasses import dataclass

import torch

from .noise import box_map, mix, noise, soft, voronoi


@dataclass(frozen=True)
class Place:
    """Where wear falls."""

    points: torch.Tensor        # (P,3)
    normals: torch.Tensor       # (P,3)
    up: torch.Tensor            # (P,) cosine of the normal with the vertical
    curvature: torch.Tensor     # (P,) −1 in cavities, 0 where flat, 1 on sharp edges
    field: torch.Tensor         # (P,4) noise of unit deviation
    seed: float
    wooden: bool                # under the paint there is wood, else bare metal


def _rgb(place, *values):
    return torch.tensor(values, device=place.points.device)


def mossy(colour, at):
    moss = _rgb(at, 0.20, 0.35, 0.07) * (1 + 0.25 * at.field[:, 2:3])
    return mix(colour, moss, soft(at.up * 0.9 + 0.4 * at.field[:, 0] - 0.35, 0.25))


def snowy(colour, at):
    return mix(colour, _rgb(at, 0.95, 0.96, 0.98), soft(at.up * 1.1 + 0.22 * at.field[:, 0] - 0.45, 0.18))


def rusty(colour, at):
    rust = mix(_rgb(at, 0.28, 0.12, 0.05), _rgb(at, 0.68, 0.31, 0.09), 0.5 + 0.4 * at.field[:, 2])
    return mix(colour, rust, soft(at.field[:, 0] + 1.2 * at.curvature - 0.25, 0.35))


def dirty(colour, at):
    return mix(colour, _rgb(at, 0.20, 0.15, 0.10), (0.25 + 0.42 * at.field[:, 0] - 0.9 * at.curvature).clamp(0, 0.85))


def dusty(colour, at):
    return mix(colour, _rgb(at, 0.72, 0.68, 0.60), (0.35 + 0.3 * at.up + 0.15 * at.field[:, 0]).clamp(0, 0.8))


def cracked(colour, at):
    uv, axis = box_map(at.points * 1.8 + 0.12 * at.field[:, :3], at.normals)
    border = voronoi(uv + axis[:, None] * 5.1, at.seed * 9)[1]
    return mix(colour * 0.15, colour, soft(border - 0.05, 0.05))


def old(colour, at):
    faded = colour.mean(-1, keepdim=True) * 0.35 + colour * 0.65
    return faded * (0.86 + 0.16 * at.field[:, :1]) + 0.02


def chipped(colour, at):
    bare = _rgb(at, 0.74, 0.58, 0.40) if at.wooden else _rgb(at, 0.62, 0.63, 0.65)
    bare = bare * (1 + 0.06 * at.field[:, 2:3])
    depth = at.field[:, 0] + 0.35 * at.field[:, 2] + 2.2 * at.curvature - 1.1
    primer = mix(colour, colour * 0.4, soft(depth + 0.16, 0.1))         # the broken rim of the paint
    return mix(primer, bare, soft(depth, 0.1))


def charred(colour, at):
    soot = _rgb(at, 0.055, 0.045, 0.04) * (1 + 0.35 * at.field[:, 2:3])
    heat = at.field[:, 0] + 1.3 * at.curvature
    burnt = mix(colour, colour * 0.35 + _rgb(at, 0.04, 0.015, 0.0), soft(heat + 0.5, 0.8))
    return mix(burnt, soot, soft(heat - 0.2, 0.6))


def faded(colour, at):
    pale = colour.mean(-1, keepdim=True) * 0.3 + colour * 0.3 + 0.4
    return mix(colour, pale, (0.55 + 0.3 * at.up + 0.15 * at.field[:, 1]).clamp(0.2, 0.95))


LAYERS = {f.__name__: f for f in (mossy, snowy, rusty, dirty, dusty, cracked, old, chipped, charred, faded)}
BY_CURVATURE = ("rusty", "dirty", "chipped", "charred")
WOODEN = ("planks", "wood", "parquet", "wicker", "bark", "bamboo")


def weather(colour, layers, place):
    """Lay named layers over `colour`, the first one lowest."""
    for layer in layers:
        colour = LAYERS[layer](colour, place)
    return colour


def place_of(points, normals, up, curvature, spec):
    """The `Place` of one view's pixels; `up` (3,) is the world's vertical in their frame."""
    seed = spec.look.seed
    offset = torch.tensor([seed * 3.3 % 1, seed * 5.7 % 1, seed], device=points.device)
    return Place(points, normals, normals @ up, curvature, noise(points, offset, 2.4), seed, spec.material in WOODEN)
