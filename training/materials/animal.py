# SPDX-License-Identifier: Apache-2.0
"""Skins, coats and plumage."""

import torch

from ..noise import cell_hash, mix, noise, soft, voronoi, wave
from .look import cells, rgb, streaks


def scales(p, n, look):
    uv = cells(p, n, look, 2.1)
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


def zebra(p, n, look):
    bend = noise(p, look.offset, 3.0)[:, 1]
    stripe = ((p[:, 2] + 0.5 * p[:, 0]) * look.frequency * 6.5 + bend * 1.5).sin()
    return mix(look.first, look.second, soft(stripe, 0.35))


def leopard(p, n, look):
    bend = noise(p, look.offset, 1.5)[:, :2]
    centre, _, label = voronoi(cells(p, n, look, 2.3) + 0.12 * bend, look.seed * 10)
    size = 0.3 + 0.12 * label + 0.05 * bend[:, 0]
    ring = soft(size - centre, 0.08)
    core = soft(size * 0.5 - centre, 0.08)
    return mix(mix(look.first, look.second, ring), look.first * 0.7, core)


def leather(p, n, look):
    _, border, label = voronoi(cells(p, n, look, 4.5) + 0.1 * streaks(p, look)[:, :2], look.seed * 10)
    shade = 0.92 + 0.14 * label + 0.07 * noise(p, look.offset, 2.5)[:, 1]
    return look.first * (shade * (0.55 + 0.45 * soft(border - 0.1, 0.2)))[:, None]


def camouflage(p, n, look):
    field = noise(p * look.frequency * 0.5, look.offset, 2.2)
    blotch = mix(look.first, look.second, soft(field[:, 1] - 0.1, 0.12))
    return mix(blotch, look.first * 0.4, soft(field[:, 3] - 0.8, 0.12))


def giraffe(p, n, look):
    _, border, label = voronoi(cells(p, n, look, 2.0) + 0.08 * streaks(p, look)[:, :2], look.seed * 10)
    patch = rgb(p, 0.58, 0.31, 0.11) * (0.75 + 0.4 * label)[:, None]
    return mix(rgb(p, 0.94, 0.83, 0.62), patch, soft(border - 0.2, 0.08))


def tiger(p, n, look):
    bend = noise(p, look.offset, 2.6)
    stripe = ((p[:, 2] + 0.45 * p[:, 1].abs() + 0.6 * p[:, 0]) * look.frequency * 9.5 + bend[:, 1]).sin()
    coat = mix(rgb(p, 0.90, 0.48, 0.10), rgb(p, 0.97, 0.88, 0.74), soft(-n[:, 2] - 0.8, 0.3))
    return mix(coat, rgb(p, 0.07, 0.05, 0.04), soft(stripe - 0.35 - 0.2 * bend[:, 3], 0.3))


def cow(p, n, look):
    field = noise(p * look.frequency * 0.65, look.offset, 1.9)
    return mix(rgb(p, 0.95, 0.93, 0.89), rgb(p, 0.09, 0.07, 0.06), soft(field[:, 1] + 0.12 * field[:, 0] - 0.25, 0.1))


def fur(p, n, look):
    bend = 0.03 * noise(p, look.offset, 2.2)[:, :3]
    hair = streaks(p + bend, look, (3.0, 3.0, 0.4))
    return mix(look.first * 0.4, look.first * 0.9 + 0.16, 0.5 + 0.34 * hair[:, 0])


def feathers(p, n, look):
    uv = cells(p, n, look, 2.0)
    v = uv[:, 1] * 1.35
    shade = torch.full_like(v, 0.25)
    for step in (0, 1):                                     # the tips of the upper row lie on the lower one
        row = v.floor() + step
        u = uv[:, 0] + (row % 2) * 0.5
        across = (u - u.floor() - 0.5).abs()
        along = (row + 1 - v) / 1.8
        half = 0.52 * (1 - along**2.2)
        inside = across < half
        barbs = wave(along * 4.5 + across * 3.0)
        label = cell_hash(torch.stack([u.floor(), row], -1), look.seed)
        rim = 0.55 + 0.45 * soft(half - across - 0.06, 0.12)
        plume = (0.7 + 0.25 * label + 0.2 * barbs) * (1.1 - 0.3 * along**2) * rim
        shade = torch.where(inside, torch.where(across < 0.055, torch.full_like(v, 1.35), plume), shade)
    return look.first * shade[:, None] + 0.25 * (shade[:, None] - 1.1).clamp_min(0)


def snakeskin(p, n, look):
    uv = cells(p, n, look, 1.0)
    turned = torch.stack([uv[:, 0] * 3.2 + uv[:, 1] * 2.2, uv[:, 0] * 3.2 - uv[:, 1] * 2.2], -1)
    scale = turned.floor()
    edge = (0.5 - (turned - scale - 0.5).abs()).amin(-1)
    centre = torch.stack([(scale[:, 0] + scale[:, 1] + 1) / 6, (scale[:, 0] - scale[:, 1]) / 6], -1)
    mark = (centre - centre.round()).abs().sum(-1)          # each scale has one colour, so marks end at scales
    skin = mix(look.first, look.first * 0.3, (mark < 0.28).float())
    skin = mix(skin, look.first * 0.4 + 0.55, (mark > 0.6).float())
    return mix(skin * 0.3, skin, soft(edge - 0.1, 0.12))
