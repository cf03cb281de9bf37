# SPDX-License-Identifier: Apache-2.0
"""Stone and clay."""

import torch

from ..noise import cell_hash, mix, noise, soft, voronoi
from .look import cells, grey, rgb, staggered, streaks


def brick(p, n, look):
    uv = cells(p, n, look, 1.0, (1.35, 3.0))
    row = uv[:, 1].floor()
    uv = torch.stack([uv[:, 0] + (row % 2) * 0.5, uv[:, 1]], -1)
    edge = 0.5 - (uv - uv.floor() - 0.5).abs()
    edge = torch.minimum(edge[:, 0] * 2.2, edge[:, 1])
    shade = 0.75 + 0.4 * cell_hash(uv.floor(), look.seed) + 0.05 * streaks(p, look)[:, 2]
    return mix(grey(0.74, p), look.first * shade[:, None], soft(edge - 0.11, 0.08))


def tiles(p, n, look):
    uv = cells(p, n, look, 1.7)
    edge = (0.5 - (uv - uv.floor() - 0.5).abs()).amin(-1)
    shade = 0.88 + 0.22 * cell_hash(uv.floor(), look.seed)
    return mix(grey(0.93, p), look.first * shade[:, None], soft(edge - 0.08, 0.06))


def mosaic(p, n, look):
    _, border, label = voronoi(cells(p, n, look, 2.5), look.seed * 10)
    cell = mix(look.first, look.second, (label > 0.5).float()) * (0.85 + 0.3 * (label * 5).frac())[:, None]
    return mix(grey(0.9, p), cell, soft(border - 0.1, 0.08))


def cobblestone(p, n, look):
    centre, border, label = voronoi(cells(p, n, look, 2.1), look.seed * 10)
    shade = 0.78 + 0.45 * label - 0.25 * centre + 0.05 * streaks(p, look)[:, 2]
    return mix(look.first * 0.2, look.first * shade[:, None], soft(border - 0.13, 0.13))


def marble(p, n, look):
    grain = noise(p, look.offset, 2.8)
    vein = ((p[:, 0] + 0.6 * p[:, 2]) * look.frequency * 1.7 + grain[:, 1] * 1.3).sin().abs()
    strength = (0.1 + grain[:, 3].abs() * 1.5).clamp(0, 1)
    share = torch.maximum((vein * 2.4).clamp(0, 1), 1 - strength) ** 0.8
    return mix(look.second, look.first + 0.03 * grain[:, :1], share)


def stone(p, n, look):
    grain = noise(p * look.frequency, look.offset, 1.6)
    crack = (grain[:, 0] * 0.5 + grain[:, 3] * 0.5).abs()
    return look.first * ((0.9 + 0.2 * grain[:, 1]) * (0.5 + 0.5 * soft(crack - 0.1, 0.2)))[:, None]


def concrete(p, n, look):
    grain = streaks(p * 1.3, look)
    base = look.first * (0.92 + 0.09 * grain[:, :1] + 0.05 * grain[:, 2:3])
    return mix(base, look.first * 0.55, 0.7 * soft(grain[:, 2] - 1.9, 0.4))


def shingles(p, n, look):
    uv = staggered(cells(p, n, look, 2.5, (1.0, 1.2)))
    tile = uv.floor()
    label, inside = cell_hash(tile, look.seed), uv - tile
    shade = (0.78 + 0.4 * label) * (1.12 - 0.75 * inside[:, 1] ** 3)         # the row above throws a shadow
    gap = soft(0.5 - (inside[:, 0] - 0.5).abs() - 0.05, 0.06)
    return mix(look.first * 0.25, look.first * shade[:, None], gap * soft(inside[:, 1] - 0.04, 0.06))


def pebbles(p, n, look):
    centre, border, label = voronoi(cells(p, n, look, 3.5), look.seed * 10)
    stone = mix(look.first, rgb(p, 0.72, 0.60, 0.46), 0.75 * ((label * 7).frac() > 0.6).float())
    stone = mix(stone, grey(0.92, p), 0.8 * ((label * 3).frac() > 0.75).float())
    shade = soft(border - 0.17, 0.14) * (0.65 + 0.55 * label) * (1.2 - 1.1 * centre**2)
    return stone * shade.clamp_min(0.12)[:, None]


def granite(p, n, look):
    label = voronoi(cells(p, n, look, 7.5), look.seed * 10)[2]
    mineral = mix(look.first, look.first * 0.4 + 0.6, (label > 0.66).float())
    return mix(mineral, look.first * 0.35, (label < 0.3).float())


def terrazzo(p, n, look):
    _, border, label = voronoi(cells(p, n, look, 2.3) + 0.25 * streaks(p, look)[:, :2], look.seed * 10)
    chips = rgb(p, [0.75, 0.33, 0.22], [0.96, 0.95, 0.92], [0.16, 0.17, 0.20], [0.86, 0.66, 0.30], [0.36, 0.50, 0.48])
    chip = chips[(label * 5).long().clamp(0, 4)]
    return mix(look.first, chip, soft(border - 0.22 - 0.3 * (label * 9).frac(), 0.06))


def plaster(p, n, look):
    place = p * look.frequency
    beside = place + rgb(p, 0.02, 0.02, -0.04)
    relief = streaks(place, look, period=1.0)[:, 1] - streaks(beside, look, period=1.0)[:, 1]
    return look.first * (0.9 + 0.3 * relief.clamp(-1.0, 0.5))[:, None]


def terracotta(p, n, look):
    grain = streaks(p, look)
    ring = (p[:, 2] * look.frequency * 13 + 0.25 * grain[:, 1]).sin()
    clay = rgb(p, 0.74, 0.37, 0.23) * (0.93 + 0.14 * ring + 0.03 * grain[:, 0])[:, None]
    return mix(clay, rgb(p, 0.88, 0.70, 0.58), 0.4 * soft(grain[:, 3] - 1.3, 0.9))
