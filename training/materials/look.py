# SPDX-License-Identifier: Apache-2.0
"""What every material draws with: its `Look`, colours, pattern cells and stretched noise."""

from dataclasses import dataclass

import torch

from ..noise import box_map, noise


@dataclass(frozen=True)
class Look:
    first: torch.Tensor     # (3,) main colour
    second: torch.Tensor    # (3,) the other colour of two-colour patterns
    frequency: float
    seed: float             # 0..1
    offset: torch.Tensor    # (3,) where the pattern starts


def grey(value, like):
    return torch.full((3,), value, device=like.device)


def rgb(like, *values):
    return torch.tensor(values, device=like.device)


def cells(points, normals, look, scale, stretch=(1.0, 1.0)):
    """Box-mapped coordinates in pattern cells; the three axes get different pieces of the pattern."""
    uv, axis = box_map(points, normals)
    return (uv * (look.frequency * scale) + look.offset[:2] + axis[:, None] * 9.37) * rgb(points, *stretch)


def staggered(uv):
    """Every second row moved by half a cell."""
    return torch.stack([uv[:, 0] + (uv[:, 1].floor() % 2) * 0.5, uv[:, 1]], -1)


def streaks(points, look, stretch=(1.0, 1.0, 1.0), period=2.0):
    """Noise (P,4), finer along the axes with a higher `stretch`."""
    return noise(points * rgb(points, *stretch), look.offset, period)


def two_tone(points, look, low, high, period=1.2):
    grain = noise(points, look.offset, period)
    return mix_tones(points, low, high, 0.5 + 0.28 * grain[:, 0] + 0.1 * grain[:, 2])


def mix_tones(points, low, high, share):
    low, high = rgb(points, *low), rgb(points, *high)
    return low + (high - low) * share[:, None].clamp(0, 1)
