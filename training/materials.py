# SPDX-License-Identifier: Apache-2.0
"""Procedural surfaces: functions from points and normals (P,3) and a `Look` to unlit base colour (P,3) in 0..1.

Everything is a solid or a box-mapped pattern, so it sits still on the object in every view.
`look.frequency` is about 1.3 for a normal pattern, higher for "fine", lower for "large".
"""

import math
from dataclasses import dataclass

import torch

from .noise import box_map, cell_hash, mix, noise, soft, voronoi, wave


@dataclass(frozen=True)
class Look:
    first: torch.Tensor     # (3,) main colour
    second: torch.Tensor    # (3,) the other colour of two-colour patterns
    frequency: float
    seed: float             # 0..1
    offset: torch.Tensor    # (3,) where the pattern starts


def grey(value, like):
    return torch.full((3,), value, device=like.device)


def _uv(points, normals, look, scale):
    """Box-mapped coordinates in pattern cells; the three axes get different pieces of the pattern."""
    uv, axis = box_map(points, normals)
    return uv * (look.frequency * scale) + look.offset[:2] + axis[:, None] * 9.37


def _grain(points, look, stretch=(1.0, 1.0, 1.0), period=2.0):
    return noise(points * torch.tensor(stretch, device=points.device), look.offset, period)


def brick(p, n, look):
    uv = _uv(p, n, look, 1.0) * torch.tensor([1.35, 3.0], device=p.device)
    row = uv[:, 1].floor()
    uv = torch.stack([uv[:, 0] + (row % 2) * 0.5, uv[:, 1]], -1)
    edge = 0.5 - (uv - uv.floor() - 0.5).abs()
    edge = torch.minimum(edge[:, 0] * 2.2, edge[:, 1])
    shade = 0.75 + 0.4 * cell_hash(uv.floor(), look.seed) + 0.05 * _grain(p, look)[:, 2]
    return mix(grey(0.74, p), look.first * shade[:, None], soft(edge - 0.11, 0.08))


def tiles(p, n, look):
    uv = _uv(p, n, look, 1.7)
    edge = (0.5 - (uv - uv.floor() - 0.5).abs()).amin(-1)
    shade = 0.88 + 0.22 * cell_hash(uv.floor(), look.seed)
    return mix(grey(0.93, p), look.first * shade[:, None], soft(edge - 0.08, 0.06))


def planks(p, n, look):
    uv = _uv(p, n, look, 1.0) * torch.tensor([2.0, 0.5], device=p.device)
    column = uv[:, 0].floor()
    shift = cell_hash(column[:, None], look.seed)
    along = uv[:, 1] + shift
    edge = torch.minimum(0.5 - (uv[:, 0] - column - 0.5).abs(), (0.5 - (along - along.floor() - 0.5).abs()) * 4)
    board = cell_hash(torch.stack([column, along.floor()], -1), look.seed)
    grain = _grain(p + board[:, None], look, (2.6, 2.6, 0.3))
    shade = 0.78 + 0.36 * board + 0.12 * grain[:, 0]
    return mix(look.first * 0.22, look.first * shade[:, None], soft(edge - 0.07, 0.07))


def wood(p, n, look):
    grain = _grain(p, look, (1.0, 1.0, 0.3))
    ring = ((p[:, :2] + look.offset[:2] - 0.5) ** 2).sum(-1).sqrt() * look.frequency * 4.5 + grain[:, 1] * 0.7
    share = 1 - (ring - ring.floor()) ** 2 + 0.1 * grain[:, 2]
    return mix(look.first * 0.45, look.first * 1.1, share)


def marble(p, n, look):
    grain = noise(p, look.offset, 2.8)
    vein = ((p[:, 0] + 0.6 * p[:, 2]) * look.frequency * 1.7 + grain[:, 1] * 1.3).sin().abs()
    strength = (0.1 + grain[:, 3].abs() * 1.5).clamp(0, 1)
    return mix(look.second, look.first + 0.03 * grain[:, :1], torch.maximum((vein * 2.4).clamp(0, 1), 1 - strength) ** 0.8)


def checker(p, n, look):
    return mix(look.first, look.second, _uv(p, n, look, 1.8).floor().sum(-1) % 2)


def stripes(p, n, look):
    return mix(look.first, look.second, soft(wave(p[:, 2] * look.frequency * 1.9 + look.offset[0]) - 0.5, 0.14))


def vertical_stripes(p, n, look):
    turns = torch.atan2(p[:, 1], p[:, 0]) / math.tau * round(6 * look.frequency)
    return mix(look.first, look.second, soft(wave(turns + look.offset[0]) - 0.5, 0.14))


def dots(p, n, look):
    uv = _uv(p, n, look, 2.2)
    uv = torch.stack([uv[:, 0] + (uv[:, 1].floor() % 2) * 0.5, uv[:, 1]], -1)
    return mix(look.second, look.first, soft((uv - uv.floor() - 0.5).norm(dim=-1) - 0.31, 0.07))


def mosaic(p, n, look):
    _, border, label = voronoi(_uv(p, n, look, 2.5), look.seed * 10)
    cell = mix(look.first, look.second, (label > 0.5).float()) * (0.85 + 0.3 * (label * 5).frac())[:, None]
    return mix(grey(0.9, p), cell, soft(border - 0.1, 0.08))


def cobblestone(p, n, look):
    centre, border, label = voronoi(_uv(p, n, look, 2.1), look.seed * 10)
    shade = 0.78 + 0.45 * label - 0.25 * centre + 0.05 * _grain(p, look)[:, 2]
    return mix(look.first * 0.2, look.first * shade[:, None], soft(border - 0.13, 0.13))


def plaid(p, n, look):
    uv = _uv(p, n, look, 1.5)
    band = ((wave(uv) > 0.55).float()).sum(-1) / 2
    line = (wave(uv + 0.0) < 0.14).float().amax(-1)
    return mix(mix(look.first, look.second, band), grey(0.95, p), 0.7 * line)


def scales(p, n, look):
    uv = _uv(p, n, look, 2.1)
    v = uv[:, 1] * 1.6
    reach, label = torch.full_like(v, 0.56), torch.zeros_like(v)
    for step in (1, 0):                                     # the lower row overlaps the upper one
        row = v.floor() + step
        u = uv[:, 0] + (row % 2) * 0.5
        gap = ((u - u.floor() - 0.5) ** 2 + ((v - row) * 0.6) ** 2).sqrt()
        inside = gap < 0.56
        reach = torch.where(inside, gap, reach)
        label = torch.where(inside, cell_hash(torch.stack([u.floor(), row], -1), look.seed), label)
    return look.first * ((1.15 - 0.8 * (reach / 0.56) ** 3) * (0.85 + 0.3 * label))[:, None]


def honeycomb(p, n, look):
    uv = _uv(p, n, look, 2.0)
    ratio = torch.tensor([1.0, 1.7320508], device=p.device)
    near = uv - ratio * (uv / ratio).round()
    far = uv - ratio * ((uv / ratio - 0.5).round() + 0.5)
    cell = torch.where((near.norm(dim=-1) < far.norm(dim=-1))[:, None], near, far).abs()
    edge = torch.maximum(cell[:, 0], cell[:, 0] * 0.5 + cell[:, 1] * 0.8660254)
    return mix(look.first, look.second, soft(edge - 0.4, 0.07))


def plastic(p, n, look):
    return look.first * (1 + 0.02 * _grain(p, look)[:, 2:3])


def metal(p, n, look):
    return look.first * (0.92 + 0.13 * _grain(p, look, (0.4, 0.4, 5.0))[:, :1])


def gold(p, n, look):
    base = torch.tensor([0.83, 0.62, 0.17], device=p.device)
    shade = 0.95 + 0.16 * _grain(p, look, (0.5, 0.5, 1.6))[:, 1:2]
    return base * shade + 0.25 * (shade - 1.1).clamp_min(0)


def camouflage(p, n, look):
    field = noise(p * look.frequency * 0.5, look.offset, 2.2)
    blotch = mix(look.first, look.second, soft(field[:, 1] - 0.1, 0.12))
    return mix(blotch, look.first * 0.4, soft(field[:, 3] - 0.8, 0.12))


def gradient(p, n, look):
    return mix(look.first, look.second, 0.5 + p[:, 2] * 0.8)


def zebra(p, n, look):
    bend = noise(p, look.offset, 3.0)[:, 1]
    return mix(look.first, look.second, soft(((p[:, 2] + 0.5 * p[:, 0]) * look.frequency * 6.5 + bend * 1.5).sin(), 0.35))


def leopard(p, n, look):
    bend = noise(p, look.offset, 1.5)[:, :2]
    centre, _, label = voronoi(_uv(p, n, look, 2.3) + 0.12 * bend, look.seed * 10)
    size = 0.3 + 0.12 * label + 0.05 * bend[:, 0]
    ring = soft(size - centre, 0.08)
    core = soft(size * 0.5 - centre, 0.08)
    return mix(mix(look.first, look.second, ring), look.first * 0.7, core)


def leather(p, n, look):
    _, border, label = voronoi(_uv(p, n, look, 4.5) + 0.1 * _grain(p, look)[:, :2], look.seed * 10)
    shade = 0.92 + 0.14 * label + 0.07 * noise(p, look.offset, 2.5)[:, 1]
    return look.first * (shade * (0.55 + 0.45 * soft(border - 0.1, 0.2)))[:, None]


def concrete(p, n, look):
    grain = _grain(p * 1.3, look)
    base = look.first * (0.92 + 0.09 * grain[:, :1] + 0.05 * grain[:, 2:3])
    return mix(base, look.first * 0.55, 0.7 * soft(grain[:, 2] - 1.9, 0.4))


def stone(p, n, look):
    grain = noise(p * look.frequency, look.offset, 1.6)
    crack = (grain[:, 0] * 0.5 + grain[:, 3] * 0.5).abs()
    return look.first * ((0.9 + 0.2 * grain[:, 1]) * (0.5 + 0.5 * soft(crack - 0.1, 0.2)))[:, None]


def _two_tone(p, look, low, high, period=1.2):
    low, high = torch.tensor(low, device=p.device), torch.tensor(high, device=p.device)
    grain = noise(p, look.offset, period)
    return mix(low, high, 0.5 + 0.28 * grain[:, 0] + 0.1 * grain[:, 2])


def moss(p, n, look):
    return _two_tone(p, look, (0.09, 0.19, 0.03), (0.36, 0.5, 0.12))


def snow(p, n, look):
    return _two_tone(p, look, (0.83, 0.87, 0.93), (0.98, 0.98, 0.99), 1.8)


def sand(p, n, look):
    ripple = (p[:, 2] * look.frequency * 14 + 1.8 * noise(p, look.offset, 2.5)[:, 1]).sin()
    return torch.tensor([0.83, 0.69, 0.46], device=p.device) * (0.93 + 0.09 * ripple)[:, None]


def rust(p, n, look):
    base = _two_tone(p, look, (0.30, 0.12, 0.05), (0.72, 0.34, 0.11))
    return mix(base, base * 0.45, soft(noise(p, look.offset, 1.5)[:, 3] - 0.9, 0.5))


def lava(p, n, look):
    grain = noise(p * look.frequency, look.offset, 2.0)
    glow = (1 - (grain[:, 0] * 0.7 + grain[:, 1] * 0.5).abs() * 2.6).clamp(0, 1)
    crust = torch.tensor([0.09, 0.06, 0.06], device=p.device)
    hot = mix(torch.tensor([0.85, 0.14, 0.02], device=p.device), torch.tensor([1.0, 0.8, 0.2], device=p.device), glow * 1.6 - 0.6)
    return mix(crust, hot, glow * 2.2 - 0.5)
