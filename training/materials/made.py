# SPDX-License-Identifier: Apache-2.0
"""Metal, plastic and other made things."""

import torch

from ..noise import cell_hash, mix, noise, soft, voronoi, wave
from .look import cells, grey, rgb, streaks, two_tone


def plastic(p, n, look):
    return look.first * (1 + 0.02 * streaks(p, look)[:, 2:3])


def metal(p, n, look):
    return look.first * (0.92 + 0.13 * streaks(p, look, (0.4, 0.4, 5.0))[:, :1])


def gold(p, n, look):
    base = rgb(p, 0.83, 0.62, 0.17)
    shade = 0.95 + 0.16 * streaks(p, look, (0.5, 0.5, 1.6))[:, 1:2]
    return base * shade + 0.25 * (shade - 1.1).clamp_min(0)


def rust(p, n, look):
    base = two_tone(p, look, (0.30, 0.12, 0.05), (0.72, 0.34, 0.11))
    return mix(base, base * 0.45, soft(noise(p, look.offset, 1.5)[:, 3] - 0.9, 0.5))


def honeycomb(p, n, look):
    uv = cells(p, n, look, 2.0)
    ratio = rgb(p, 1.0, 1.7320508)
    near = uv - ratio * (uv / ratio).round()
    far = uv - ratio * ((uv / ratio - 0.5).round() + 0.5)
    cell = torch.where((near.norm(dim=-1) < far.norm(dim=-1))[:, None], near, far).abs()
    edge = torch.maximum(cell[:, 0], cell[:, 0] * 0.5 + cell[:, 1] * 0.8660254)
    return mix(look.first, look.second, soft(edge - 0.4, 0.07))


def brushed_steel(p, n, look):
    streak = streaks(p, look, (0.25, 0.25, 4.0))
    sheen = wave(p[:, 0] * 0.8 + p[:, 1] * 0.5 + look.offset[0] + 0.06 * streak[:, 1])
    return rgb(p, 0.60, 0.62, 0.65) * (0.74 + 0.12 * streak[:, 0] + 0.5 * sheen)[:, None]


def copper(p, n, look):
    sheen = wave(p[:, 0] * 0.9 - p[:, 1] * 0.6 + p[:, 2] * 0.5 + look.offset[0] + 0.1 * streaks(p, look)[:, 1])
    base = mix(rgb(p, 0.42, 0.17, 0.12), rgb(p, 0.88, 0.50, 0.38), sheen * 1.5)
    return mix(base, rgb(p, 1.0, 0.84, 0.76), sheen * 3 - 2)


def verdigris(p, n, look):
    streak = streaks(p * (0.75 * look.frequency), look, (1.0, 1.0, 0.5))
    green = mix(rgb(p, 0.25, 0.56, 0.48), rgb(p, 0.58, 0.82, 0.71), 0.5 + 0.45 * streak[:, 1])
    return mix(rgb(p, 0.40, 0.22, 0.13), green, soft(streak[:, 0] + 0.75, 0.45))


def carbon_fibre(p, n, look):
    uv = cells(p, n, look, 3.2)
    cell = uv.floor()
    over = ((cell[:, 0] + cell[:, 1]) % 4 < 2)[:, None]
    inside = torch.where(over, uv - cell, (uv - cell).flip(-1)) - 0.5
    tone = torch.where(over[:, 0], 0.27, 0.10) + 0.05 * inside[:, 0]
    return (tone * (1 - 0.6 * (2 * inside[:, 1].abs()) ** 4))[:, None] * rgb(p, 0.96, 1.0, 1.06) + 0.03


def circuit(p, n, look):
    uv = cells(p, n, look, 3.1)
    cell = uv.floor()
    place = uv - cell - 0.5
    right, above = rgb(p, 1.0, 0.0), rgb(p, 0.0, 1.0)
    line = place.norm(dim=-1)
    for i, step in ((0, right), (1, above)):                # a trace to a neighbour is decided on their shared side
        seed = look.seed + i * 0.37
        lower = cell_hash(cell - step, seed)
        wired = torch.where(place[:, i] > 0, cell_hash(cell, seed), lower) > 0.35
        line = torch.where(wired, torch.minimum(line, place[:, 1 - i].abs()), line)
    board = mix(look.first * 0.55, look.first * 0.6 + rgb(p, 0.34, 0.38, 0.22), soft(0.14 - line, 0.06))
    radius = place.norm(dim=-1)
    pad = soft(0.3 - radius, 0.06) * (cell_hash(cell, look.seed + 0.71) > 0.55)
    board = mix(board, rgb(p, 0.90, 0.72, 0.32), pad)
    return mix(board, grey(0.08, p), pad * soft(0.13 - radius, 0.06))


def glaze(p, n, look):
    grain = streaks(p, look)
    centre, _, label = voronoi(cells(p, n, look, 2.6), look.seed * 10)
    coat = look.first * (0.9 + 0.12 * grain[:, 1:2]) + 0.06
    return mix(coat, rgb(p, 0.24, 0.15, 0.09), 0.9 * soft(0.08 + 0.16 * (label * 3).frac() - centre, 0.06))


def crystal(p, n, look):
    uv = cells(p, n, look, 1.5)
    _, border, label = voronoi(uv, look.seed * 10)
    turn = label * 40
    facet = 0.4 + 0.85 * (label * 3).frac() + 0.3 * ((uv[:, 0] * turn.cos() + uv[:, 1] * turn.sin()) * 4).sin()
    stone = look.first * facet.clamp_min(0.25)[:, None] + 0.25 * (facet[:, None] - 0.8).clamp_min(0)
    return mix(stone, look.first * 0.3 + 0.68, 0.9 * soft(0.06 - border, 0.07))
