# SPDX-License-Identifier: Apache-2.0
"""Cloth and printed patterns."""

import torch

from ..noise import TURN, cell_hash, mix, soft, wave
from .look import cells, grey, rgb, staggered, streaks


def checker(p, n, look):
    return mix(look.first, look.second, cells(p, n, look, 1.8).floor().sum(-1) % 2)


def stripes(p, n, look):
    return mix(look.first, look.second, soft(wave(p[:, 2] * look.frequency * 1.9 + look.offset[0]) - 0.5, 0.14))


def vertical_stripes(p, n, look):
    turns = torch.atan2(p[:, 1], p[:, 0]) / TURN * round(6 * look.frequency)
    return mix(look.first, look.second, soft(wave(turns + look.offset[0]) - 0.5, 0.14))


def dots(p, n, look):
    uv = cells(p, n, look, 2.2)
    uv = torch.stack([uv[:, 0] + (uv[:, 1].floor() % 2) * 0.5, uv[:, 1]], -1)
    return mix(look.second, look.first, soft((uv - uv.floor() - 0.5).norm(dim=-1) - 0.31, 0.07))


def plaid(p, n, look):
    uv = cells(p, n, look, 1.5)
    band = ((wave(uv) > 0.55).float()).sum(-1) / 2
    line = (wave(uv + 0.0) < 0.14).float().amax(-1)
    return mix(mix(look.first, look.second, band), grey(0.95, p), 0.7 * line)


def gradient(p, n, look):
    return mix(look.first, look.second, 0.5 + p[:, 2] * 0.8)


def chevron(p, n, look):
    uv = cells(p, n, look, 1.7)
    return mix(look.first, look.second, soft(wave(uv[:, 1] * 1.3 + wave(uv[:, 0]) * 0.75) - 0.5, 0.14))


def waves(p, n, look):
    uv = cells(p, n, look, 1.5)
    return mix(look.first, look.second, soft(wave(uv[:, 1] * 1.1 + 0.3 * (uv[:, 0] * TURN).sin()) - 0.5, 0.14))


def candy(p, n, look):
    turns = torch.atan2(p[:, 1], p[:, 0]) / TURN * round(2 * look.frequency)
    turns = turns + p[:, 2] * look.frequency * 1.3 + look.offset[0]
    return mix(look.first, look.second, soft(wave(turns) - 0.5, 0.12))


def denim(p, n, look):
    uv = cells(p, n, look, 1.0)
    twill = wave(uv.sum(-1) * 5.0)
    fade = 0.5 + 0.25 * streaks(p, look)[:, 1]
    cloth = mix(look.first * 0.6, look.first * 0.75 + 0.2, 0.65 * twill + 0.35 * fade)
    seam = (uv[:, 1] * 0.75 - (uv[:, 1] * 0.75).round()).abs()
    cloth = mix(cloth, look.first * 0.45, soft(0.13 - seam, 0.05))
    return mix(cloth, rgb(p, 0.90, 0.66, 0.28), soft(0.035 - seam, 0.03) * soft(wave(uv[:, 0] * 3.6) - 0.35, 0.2))


def tweed(p, n, look):
    uv = cells(p, n, look, 2.4)
    odd = uv[:, 0].floor() % 2
    lean = (uv[:, 0] - uv[:, 0].floor()) * (1 - 2 * odd)
    line = wave((uv[:, 1] + lean) * 1.7 + odd * 0.5)
    cloth = mix(look.first, look.second, soft(line - 0.5 + 0.05 * streaks(p, look)[:, 2], 0.5))
    return cloth * (0.92 + 0.08 * streaks(p, look, period=1.2)[:, :1])


def knit(p, n, look):
    uv = cells(p, n, look, 2.4)
    across = (uv[:, 0] - uv[:, 0].floor() - 0.5).abs()
    row = uv[:, 1] * 1.35 - across * 1.7                                      # each stitch is a V
    along = row - row.floor() - 0.5
    loop = 1 - 0.75 * (across * 4 - 1) ** 4 - 0.85 * (2 * along) ** 4
    return look.first * (0.35 + 0.7 * loop.clamp(0, 1))[:, None] + 0.03


def quilt(p, n, look):
    uv = cells(p, n, look, 1.6)
    turned = torch.stack([uv[:, 0] + uv[:, 1], uv[:, 0] - uv[:, 1]], -1)
    puff = (1 - (2 * (turned - turned.round()).abs() - 1) ** 4).prod(-1)      # 0 on the seams
    return look.first * (0.45 + 0.65 * puff)[:, None]


def _motif(p, n, look, scale):
    """Radius and turn (1 is all the way round) about the middle of staggered cells, each cell turned its own way."""
    uv = staggered(cells(p, n, look, scale))
    place = uv - uv.floor() - 0.5
    turn = torch.atan2(place[:, 1], place[:, 0]) / TURN + cell_hash(uv.floor(), look.seed)
    return place.norm(dim=-1), turn


def flowers(p, n, look):
    radius, turn = _motif(p, n, look, 1.8)
    petals = mix(look.first, look.second, soft(0.28 + 0.13 * (turn * 5 * TURN).cos() - radius, 0.06))
    return mix(petals, rgb(p, 0.96, 0.78, 0.16), soft(0.12 - radius, 0.05))


def stars(p, n, look):
    radius, turn = _motif(p, n, look, 1.8)
    angle = wave(turn * 5) * (TURN / 10)                    # from a tip, at 0, to the notch beside it
    edge = 0.053 / (0.47 * angle.sin() + 0.19 * (TURN / 10 - angle).sin())
    return mix(look.first, look.second, soft(edge - radius, 0.05))
