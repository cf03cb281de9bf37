# SPDX-License-Identifier: Apache-2.0
"""Building blocks of patterns: band-limited noise, cell hashes, box mapping, Voronoi cells, soft edges.

Points are (P,3) in the material frame (the object fills about −1..1); results are (P,) or (P,k).
"""

import functools
import math

import torch
import torch.nn.functional as F


@functools.cache
def _volume(device, side=64):
    """One periodic (1,4,side+1,…) volume of unit-variance noise; channels: rough, smooth, fine, rough."""
    generator = torch.Generator().manual_seed(7)
    axis = torch.fft.fftfreq(side) * side
    wave = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2).sqrt()
    channels = []
    for power, lowest in ((1.8, 1.5), (2.3, 1.5), (1.2, 3.0), (1.8, 1.5)):
        spectrum = torch.where(wave < lowest, 0.0, wave.clamp_min(1) ** -power)
        values = torch.fft.ifftn(torch.fft.fftn(torch.randn(side, side, side, generator=generator)) * spectrum).real
        channels.append(values / values.std())
    return F.pad(torch.stack(channels)[None], (0, 1) * 3, mode="circular").to(device)


def noise(points, offset, period=2.0):
    """Smooth periodic noise (P,4) of unit standard deviation; `offset` (3,) decorrelates surfaces."""
    place = torch.remainder(points / period + offset, 1.0) * 2 - 1
    values = F.grid_sample(_volume(points.device), place[None, None, None], mode="bilinear", align_corners=True)
    return values[0, :, 0, 0].T


def cell_hash(cell, seed):
    """A number in [0,1) per integer cell (P,k)."""
    weights = torch.tensor([12.9898, 78.233, 37.719], device=cell.device)[: cell.shape[-1]]
    return ((((cell * weights).sum(-1) + seed * 17.3).sin() * 4375.85453).frac()).abs()


def box_map(points, normals):
    """Project along the dominant axis: uv (P,2), v up on the sides, and the axis number (P,)."""
    axis = normals.abs().argmax(-1)
    u = torch.where(axis == 0, points[:, 1], points[:, 0])
    v = torch.where(axis == 2, points[:, 1], points[:, 2])
    return torch.stack([u, v], -1), axis.float()


def voronoi(uv, seed):
    """Distance to the nearest cell centre, distance gap to the second (0 at borders), cell hash; each (P,)."""
    corner = uv.floor()
    first = torch.full(uv.shape[:1], 9.0, device=uv.device)
    second, label = first.clone(), first.clone()
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            cell = corner + torch.tensor([i, j], device=uv.device)
            x, y = cell_hash(cell, seed), cell_hash(cell + 31.7, seed)
            gap = ((cell[:, 0] + 0.15 + 0.7 * x - uv[:, 0]) ** 2 + (cell[:, 1] + 0.15 + 0.7 * y - uv[:, 1]) ** 2).sqrt()
            nearer = gap < first
            second = torch.where(nearer, first, torch.minimum(second, gap))
            label = torch.where(nearer, (x * 7.31 + y * 3.7).frac(), label)
            first = torch.where(nearer, gap, first)
    return first, second - first, label


def soft(value, width):
    """A soft step around zero: 0 below −width/2, 1 above width/2."""
    return (value / width + 0.5).clamp(0, 1)


def mix(first, second, share):
    """Blend colours (P,3) or (3,) by `share` (P,): 0 is the first."""
    return first + (second - first) * share[:, None].clamp(0, 1)


def wave(phase):
    """A triangle wave of period 1 in 0..1, 0 at integers."""
    return (phase - phase.round()).abs() * 2


TURN = 2 * math.pi
