# SPDX-License-Identifier: Apache-2.0
"""Ground, water, sky and plants."""

import torch

from ..noise import TURN, cell_hash, mix, noise, soft, voronoi, wave
from .look import cells, grey, rgb, streaks, two_tone


def moss(p, n, look):
    return two_tone(p, look, (0.09, 0.19, 0.03), (0.36, 0.5, 0.12))


def snow(p, n, look):
    return two_tone(p, look, (0.83, 0.87, 0.93), (0.98, 0.98, 0.99), 1.8)


def sand(p, n, look):
    ripple = (p[:, 2] * look.frequency * 14 + 1.8 * noise(p, look.offset, 2.5)[:, 1]).sin()
    return rgb(p, 0.83, 0.69, 0.46) * (0.93 + 0.09 * ripple)[:, None]


def lava(p, n, look):
    grain = noise(p * look.frequency, look.offset, 2.0)
    glow = (1 - (grain[:, 0] * 0.7 + grain[:, 1] * 0.5).abs() * 2.6).clamp(0, 1)
    crust = rgb(p, 0.09, 0.06, 0.06)
    hot = mix(rgb(p, 0.85, 0.14, 0.02), rgb(p, 1.0, 0.8, 0.2), glow * 1.6 - 0.6)
    return mix(crust, hot, glow * 2.2 - 0.5)


def grass(p, n, look):
    uv = cells(p, n, look, 1.0, (4.2, 2.2))
    colour = rgb(p, 0.05, 0.15, 0.03).expand(len(p), 3)
    for step in (0, -1):                                    # the blades of the lower row stand in front
        row = uv[:, 1].floor() + step
        along = (uv[:, 1] - row) / 2
        label = cell_hash(torch.stack([(uv[:, 0] + (row % 2) * 0.5).floor(), row], -1), look.seed)
        u = uv[:, 0] + (row % 2) * 0.5
        across = (u - u.floor() - 0.5 + 0.4 * (label - 0.5) * along).abs()
        blade = mix(rgb(p, 0.13, 0.36, 0.06), rgb(p, 0.52, 0.76, 0.20), 0.3 * label + 0.75 * along)
        colour = mix(colour, blade, soft(0.5 * (1 - along**1.5) - across, 0.1))
    return colour


def ice(p, n, look):
    grain = noise(p * look.frequency * 0.8, look.offset, 2.4)
    deep = mix(rgb(p, 0.42, 0.70, 0.88), rgb(p, 0.80, 0.92, 0.97), 0.5 + 0.35 * grain[:, 1])
    crack = torch.minimum((grain[:, 0] + 0.2).abs(), (grain[:, 3] - 0.2).abs() * 1.3)
    return mix(deep, grey(0.99, p), 0.95 * soft(0.1 - crack, 0.14))


def jade(p, n, look):
    grain = noise(p * look.frequency * 0.7, look.offset, 2.4)
    stone = mix(rgb(p, 0.04, 0.33, 0.20), rgb(p, 0.40, 0.72, 0.52), 0.5 + 0.36 * grain[:, 1])
    return mix(stone, rgb(p, 0.80, 0.92, 0.80), 0.7 * soft(0.12 - (grain[:, 0] - grain[:, 1]).abs(), 0.3))


def mud(p, n, look):
    _, border, label = voronoi(cells(p, n, look, 1.75) + 0.06 * streaks(p, look)[:, :2], look.seed * 10)
    earth = rgb(p, 0.66, 0.50, 0.35) * (0.82 + 0.2 * label + 0.14 * soft(0.3 - border, 0.2))[:, None]
    return mix(rgb(p, 0.14, 0.08, 0.05), earth, soft(border - 0.1, 0.06))


def clouds(p, n, look):
    field = noise(p * look.frequency * 0.7, look.offset, 2.2)
    return mix(rgb(p, 0.26, 0.53, 0.88), rgb(p, 0.98, 0.98, 0.99), soft(field[:, 1] + 0.25 * field[:, 0], 1.1))


def galaxy(p, n, look):
    field = noise(p * look.frequency * 0.6, look.offset, 2.2)
    sky = mix(rgb(p, 0.03, 0.02, 0.09), rgb(p, 0.52, 0.12, 0.60), 0.45 * field[:, 1])
    sky = mix(sky, rgb(p, 0.08, 0.32, 0.72), 0.4 * field[:, 3])
    centre, _, label = voronoi(cells(p, n, look, 2.6), look.seed * 10)
    return mix(sky, rgb(p, 1.0, 0.97, 0.90), soft(0.06 + 0.09 * label - centre, 0.06) * (label > 0.3))


def fire(p, n, look):
    place = p * look.frequency * rgb(p, 1.1, 1.1, 0.55)
    field = noise(place + 0.1 * noise(place, look.offset, 1.6)[:, :3], look.offset, 1.8)
    heat = 0.5 + 0.42 * field[:, 1] + 0.1 * field[:, 0]
    flame = mix(rgb(p, 0.22, 0.02, 0.01), rgb(p, 0.93, 0.26, 0.02), heat * 2.2)
    return mix(flame, rgb(p, 1.0, 0.92, 0.45), heat * 2.2 - 1)


def water(p, n, look):
    ripple = streaks(p, look)
    border = voronoi(cells(p, n, look, 1.7) + 0.16 * ripple[:, :2], look.seed * 10)[1]
    pool = mix(rgb(p, 0.03, 0.33, 0.60), rgb(p, 0.08, 0.56, 0.76), 0.5 + 0.3 * ripple[:, 1])
    return mix(pool, rgb(p, 0.80, 0.97, 0.98), 0.9 * soft(0.13 - border, 0.22))


def watermelon(p, n, look):
    jag = noise(p, look.offset, 1.5)
    turns = torch.atan2(p[:, 1], p[:, 0]) / TURN * round(5 * look.frequency)
    band = soft(wave(turns + 0.14 * jag[:, 0] + look.offset[0]) - 0.45, 0.25)
    rind = mix(rgb(p, 0.07, 0.27, 0.09), rgb(p, 0.56, 0.76, 0.34), band)
    return rind * (0.95 + 0.05 * jag[:, 1:2])
