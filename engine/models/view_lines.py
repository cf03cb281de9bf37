# SPDX-License-Identifier: Apache-2.0
"""Lines of pixels that views share, and attention along them (MV-Adapter, Huang et al. 2024, §4.2).

Parallel (orthographic) views that stand level around an object show each height of it in the same row of pixels; a view
from above or below shows each plane of constant x in the same column as the views from the front and the back, which
look at each other mirrored. A multi-view adapter was trained to look along these lines only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from blender_addon.jobs.records import Camera
from engine.cameras import stack

SLACK = 0.02  # of a picture that is 2 high: by how much a point may miss the line it should lie on


@dataclass(frozen=True)
class Line:
    """Views whose rows (or columns) show the same planes. mirrored: whether each view's columns run backwards."""

    views: tuple[int, ...]
    columns: bool = False
    mirrored: tuple[bool, ...] = ()


@dataclass(frozen=True)
class SharedLines:
    """The lines among `count` views; every view is in at least one, if need be alone."""

    lines: tuple[Line, ...]
    count: int

    @property
    def alone(self) -> tuple[int, ...]:
        """The views that look at no other."""
        together = {view for line in self.lines if len(line.views) > 1 for view in line.views}
        return tuple(view for view in range(self.count) if view not in together)

    def only(self, views: Sequence[int]) -> SharedLines:
        """The same among these views, renumbered in their order; who is not there is not looked at."""
        place = {view: k for k, view in enumerate(views)}
        lines = []
        for line in self.lines:
            kept = [k for k, view in enumerate(line.views) if view in place]
            if kept:
                mirrored = tuple(line.mirrored[k] for k in kept) if line.columns else ()
                lines.append(Line(tuple(place[line.views[k]] for k in kept), line.columns, mirrored))
        return SharedLines(tuple(lines), len(views))


def shared_lines(cameras: Sequence[Camera], points: np.ndarray, columns: bool) -> SharedLines:
    """Which of the cameras share lines, over world points [P,3] (the corners of what they look at will do).

    Parallel views whose rows agree go together. `columns`: a parallel view along the axis of such a ring, from above or
    below, goes with those of it and with the other end's whose columns agree with its own, mirrored or not.
    """
    view, projection = stack(cameras)
    flat = np.flatnonzero((projection[:, 3, :3] == 0).all(1)).tolist()
    matrices = projection @ view / np.where(projection[:, 3, 3] == 0, 1, projection[:, 3, 3])[:, None, None]
    spots = np.concatenate([np.asarray(points, np.float64), np.ones((len(points), 1))], 1)
    across, upward = (matrices[:, axis] @ spots.T for axis in (0, 1))  # [N,P], places in the pictures, -1..1
    lines: list[Line] = []
    level: list[int] = []
    for first in flat:
        same = tuple(k for k in flat if np.abs(upward[k] - upward[first]).max() <= SLACK)
        if first not in level and len(same) > 1:
            lines.append(Line(same))
            level += same
    placed = set(level)
    ends = [k for k in flat if level and columns and _along(view[k], matrices[level[0], 1]) and k not in placed]
    for first in ends:
        if first in placed:
            continue
        within = [*level, *ends]
        straight = {k for k in within if np.abs(across[k] - across[first]).max() <= SLACK}
        backwards = {k for k in within if np.abs(across[k] + across[first]).max() <= SLACK}
        same = tuple(sorted(straight | backwards))
        lines.append(Line(same, True, tuple(k not in straight for k in same)))
        placed.update(same)
    lines += [Line((k,)) for k in range(len(cameras)) if k not in placed]
    return SharedLines(tuple(lines), len(cameras))


def _along(view: np.ndarray, row: np.ndarray) -> bool:
    """Whether a camera looks along the axis that a ring's rows count up, to a few degrees."""
    axis = row[:3] / max(float(np.linalg.norm(row[:3])), 1e-12)
    return abs(float(view[2, :3] @ axis)) > 1 - SLACK / 20


class AlongLines:
    """An attention processor around another, to whose answer that of the adapter's own attention is added.

    layers: `to_q_mv`, `to_k_mv`, `to_v_mv`, `to_out_mv` of the adapter. shape: height and width of the latents.
    """

    def __init__(self, inner: Any, layers: nn.Module, lines: SharedLines, shape: tuple[int, int]):
        self.inner, self.layers, self.lines, self.shape = inner, layers, lines, shape
        self.members, self.times = members_of(lines, layers.to_q_mv.weight.device)

    def __call__(self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: None = None,
                 attention_mask: None = None, **more: Any) -> Tensor:
        """hidden_states [parts N,L,D], the features of all views of one part after the other; no mask is known here."""
        own = self.inner(attn, hidden_states, **more)
        return own + self._shared(attn.heads, hidden_states).to(own.dtype) / attn.rescale_output_factor

    def _shared(self, heads: int, features: Tensor) -> Tensor:
        height, width = token_grid(features.shape[1], self.shape)
        layers, count = self.layers, self.lines.count
        query, key, value = (
            layer(features).view(-1, count, height, width, heads, layer.out_features // heads)
            for layer in (layers.to_q_mv, layers.to_k_mv, layers.to_v_mv)
        )
        total = torch.zeros_like(query)
        for line, views in zip(self.lines.lines, self.members, strict=True):
            q, k, v = (_laid(one[:, views], line) for one in (query, key, value))
            parts, rows, _, run = q.shape[:4]
            q, k, v = (one.flatten(2, 3).flatten(0, 1).transpose(1, 2) for one in (q, k, v))
            found = scaled_dot_product_attention(q, k, v).transpose(1, 2)
            found = found.reshape(parts, rows, len(views), run, heads, -1)
            total[:, views] += _raised(found, line)
        return layers.to_out_mv[0]((total / self.times.to(total.dtype)).flatten(4).view(*features.shape[:2], -1))


@lru_cache(maxsize=16)
def members_of(lines: SharedLines, device: torch.device) -> tuple[tuple[Tensor, ...], Tensor]:
    """The views of each line, and in how many lines each view is [count,1,1,1,1]; on a device, moved there once."""
    members = tuple(torch.tensor(line.views, device=device) for line in lines.lines)
    times = [sum(view in line.views for line in lines.lines) for view in range(lines.count)]
    return members, torch.tensor(times, device=device, dtype=torch.float32).view(-1, 1, 1, 1, 1)


def _laid(x: Tensor, line: Line) -> Tensor:
    """[parts,V,H,W,...] -> [parts, lines, V, along the line, ...]; mirrored views' columns in the others' order."""
    if not line.columns:
        return x.transpose(1, 2)
    return _mirrored(x, line).permute(0, 3, 1, 2, *range(4, x.ndim))


def _raised(x: Tensor, line: Line) -> Tensor:
    """What `_laid` does, back."""
    if not line.columns:
        return x.transpose(1, 2)
    return _mirrored(x.permute(0, 2, 3, 1, *range(4, x.ndim)), line)


def _mirrored(x: Tensor, line: Line) -> Tensor:
    return torch.stack([x[:, k].flip(2) if back else x[:, k] for k, back in enumerate(line.mirrored)], 1)


def token_grid(tokens: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a feature map of so many cells, made from `shape` by halving (an odd side rounds up)."""
    height, width = shape
    while height * width > tokens and height * width > 1:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != tokens:
        raise ValueError(f"{tokens} tokens are no feature map of {shape[0]} x {shape[1]} latents")
    return height, width
