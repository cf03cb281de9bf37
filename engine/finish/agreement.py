# SPDX-License-Identifier: Apache-2.0
"""How well the decoded views agree about the surface, before they are blended."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from engine.spaces.uv.gather import Pairs

WELL_SEEN = 0.5  # cosine: views within 60 degrees of the surface's normal


def agreement(views: Tensor, pairs: Pairs) -> float | None:
    """PSNR in dB between all pairs of views, over the texels that both see at a cosine above 0.5; None without any.

    views: [N,3,H,H] in 0..1. For a texel seen by n views, the sum of squared differences over its ordered pairs is
    2 n^2 times the variance of its n colours, so no pair has to be formed.
    """
    pixels = views.detach().float().clamp(0, 1).permute(0, 2, 3, 1).reshape(-1, views.shape[1]).cpu().numpy()
    texel = np.repeat(np.arange(pairs.texels), np.diff(pairs.start))
    good = pairs.cosine > WELL_SEEN
    texel, base, share = texel[good], pairs.base[good], pairs.share[good]
    taps = np.minimum(base[:, None] + np.array([0, 1, pairs.width, pairs.width + 1]), len(pixels) - 1)
    colour = np.einsum("pt,ptc->pc", share, pixels[taps])
    count = np.bincount(texel, minlength=pairs.texels).astype(np.float64)
    squares = 0.0
    for channel in colour.T.astype(np.float64):
        mean = np.bincount(texel, channel, pairs.texels) / np.maximum(count, 1)
        squares += float((2 * count[texel] * (channel - mean[texel]) ** 2).sum())
    comparisons = float((count * (count - 1)).sum()) * colour.shape[1]
    if comparisons == 0:
        return None
    return float(-10 * np.log10(max(squares / comparisons, 1e-10)))
