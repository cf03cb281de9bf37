# SPDX-License-Identifier: Apache-2.0
"""Wood and what is woven from it."""

import torch

from ..noise import cell_hash, mix, soft, voronoi, wave
from .look import cells, rgb, streaks


def planks(p, n, look):
    uv = cells(p, n, look, 1.0, (2.0, 0.5))
    column = uv[:, 0].floor()
    shift = cell_hash(column[:, None], look.seed)
    along = uv[:, 1] + shift
    edge = torch.minimum(0.5 - (uv[:, 0] - column - 0.5).abs(), (0.5 - (along - along.floor() - 0.5).abs()) * 4)
    board = cell_hash(torch.stack([column, along.floor()], -1), look.seed)
    grain = streaks(p + board[:, None], look, (2.6, 2.6, 0.3))
    shade = 0.78 + 0.36 * board + 0.12 * grain[:, 0]
    return mix(look.first * 0.22, look.first * shade[:, None], soft(edge - 0.07, 0.07))


def wood(p, n, look):
    grain = streaks(p, look, (1.0, 1.0, 0.3))
    ring = ((p[:, :2] + look.offset[:2] - 0.5) ** 2).sum(-1).sqrt() * look.frequency * 4.5 + grain[:, 1] * 0.7
    share = 1 - (ring - ring.floor()) ** 2 + 0.1 * grain[:, 2]
    return mix(look.first * 0.45, look.first * 1.1, share)


def bark(p, n, look):
    uv = cells(p, n, look, 1.0) + 0.04 * streaks(p, look)[:, :2]
    _, border, label = voronoi(uv * rgb(p, 4.4, 1.15), look.seed * 10)
    shade = 0.75 + 0.35 * label + 0.05 * streaks(p, look)[:, 0]
    return mix(look.first * 0.22, look.first * shade[:, None], soft(border - 0.13, 0.16))


def parquet(p, n, look):
    uv = cells(p, n, look, 1.65)
    cell = uv.floor()
    inside, turned = uv - cell, (cell.sum(-1) % 2)[:, None] > 0
    inside = torch.where(turned, inside.flip(-1), inside)
    strip = inside[:, 1] * 3
    label = cell_hash(torch.cat([cell, strip.floor()[:, None]], -1), look.seed)
    edge = torch.minimum(0.5 - (strip - strip.floor() - 0.5).abs(), (0.5 - (inside[:, 0] - 0.5).abs()) * 3)
    shade = 0.7 + 0.5 * label + 0.06 * streaks(p, look)[:, 0]
    return mix(look.first * 0.3, look.first * shade[:, None], soft(edge - 0.09, 0.1))


def wicker(p, n, look):
    uv = cells(p, n, look, 2.5)
    inside = uv - uv.floor() - 0.5
    inside = torch.where((uv.floor().sum(-1) % 2 > 0)[:, None], inside.flip(-1), inside)
    round_off = 1 - (2 * inside[:, 0].abs()) ** 3
    round_off = round_off * (0.62 + 0.5 * wave(inside[:, 0] * 2))             # two reeds per strip
    ends = 1 - 0.6 * (2 * inside[:, 1].abs()) ** 3
    return look.first * (0.28 + 0.95 * round_off * ends)[:, None]


def bamboo(p, n, look):
    uv = cells(p, n, look, 2.9)
    column = uv[:, 0].floor()
    across = (uv[:, 0] - column - 0.5).abs() * 2
    label = cell_hash(column[:, None], look.seed)
    along = uv[:, 1] * 0.4 + label
    joint = (along - along.round()).abs()
    cane = look.first * ((0.85 + 0.3 * label) * (1.1 - 0.7 * across**3))[:, None]
    cane = mix(cane, look.first * 0.45 + 0.45, soft(0.09 - joint, 0.04) * soft(0.85 - across, 0.2))
    cane = mix(cane, look.first * 0.3, soft(0.035 - joint, 0.03))
    return mix(cane, look.first * 0.15, soft(across - 0.9, 0.12))
