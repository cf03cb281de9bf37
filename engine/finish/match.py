# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PLR0913  (kernels: arrays in, arrays out)
"""Views made to agree in their broad tones before one of them is chosen for each texel.

Detail must come from one view, or it ghosts; broad tones must not, or the borders between views show (a Laplacian blend, as
in panorama stitching). What each view differs by, texel for texel, from the mean of the views is taken back to the view,
split into bands there and removed, each band with a mean of its own sharpness. So nothing is changed where views agree;
blending the bands themselves loses 3 to 12 dB there, because an oblique view's blur covers more of the surface.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix, diags

from engine.raster.jit import kernel
from engine.spaces.uv.gather import Pairs

from .bands import smooth

BANDS = ((1 / 128, 16.0), (1 / 32, 4.0))  # blur in views that a band begins at; sharpness of the mean it agrees on
DARK = 0.02  # below this a colour says nothing of a gain
STIFF = 0.02  # how strongly gains are held at 1, as a share of what the texels say
RIM = 1.5  # pixels from an edge up to which a pixel is no witness; a full one at twice that
FEATHER = 1.5  # of a band's blur: nearer to an edge a view says less about it


def matched(views: np.ndarray, right: np.ndarray, below: np.ndarray, pairs: Pairs,
            bands: Sequence[tuple[float, float]] = BANDS) -> np.ndarray:
    """The views f32[N,H,W,3] with their broad tones in agreement; right, below: bool[N,H,W] see `spaces.uv.edges.breaks`.

    pairs: texels about as large as pixels, and the views that show them. Where no texel is, nothing changes.
    """
    out = views.copy()
    for place, (blur, power) in enumerate(bands):
        sigma = blur * views.shape[1]
        weight, _ = pairs.feathered(FEATHER * sigma).weights(power)
        apart = differences(views, pairs, weight)
        low = mean_around(apart, right, below, sigma)
        if place + 1 < len(bands):
            low -= mean_around(apart, right, below, bands[place + 1][0] * views.shape[1])
        out += low
    return out


def differences(views: np.ndarray, pairs: Pairs, weight: np.ndarray) -> np.ndarray:
    """f32[N,H,W,4]: the sum over the texels that a pixel shows of (mean of the views - this view), and how many.

    Pixels on rims, which differ for a reason of their own, are asked less: their difference would spread inward.
    """
    total = np.zeros((*views.shape[:3], 4), np.float32)
    flat, into = np.ascontiguousarray(views).reshape(-1, 3), total.reshape(-1, 4)
    clear = np.clip((pairs.edge - RIM) / RIM, 0, 1)
    take_apart(pairs.start, weight, clear, pairs.share, pairs.base, pairs.width, flat, into)
    return total


def mean_around(apart: np.ndarray, right: np.ndarray, below: np.ndarray, sigma: float) -> np.ndarray:
    """Mean difference f32[N,H,W,3] within about `sigma` pixels on the same surface; 0 where nothing is known near."""
    both = smooth(apart, right, below, sigma)
    return np.where(both[..., 3:] > 1e-4, both[..., :3] / np.maximum(both[..., 3:], 1e-4), 0)


@kernel
def take_apart(start, weight, clear, share, base, width, pixels, total):
    mean, own = np.empty(3, np.float32), np.empty(3, np.float32)
    for m in range(len(start) - 1):
        mean[:] = 0
        for pair in range(start[m], start[m + 1]):
            if weight[pair] > 0:
                for tap in range(4):
                    value, place = weight[pair] * share[pair, tap], base[pair] + (tap & 1) + (tap >> 1) * width
                    if value > 0:
                        for k in range(3):
                            mean[k] += value * pixels[place, k]
        for pair in range(start[m], start[m + 1]):
            own[:] = 0
            known = np.float32(0)
            for tap in range(4):
                value, place = share[pair, tap], base[pair] + (tap & 1) + (tap >> 1) * width
                if value > 0:
                    known += value
                    for k in range(3):
                        own[k] += value * pixels[place, k]
            if known == 0 or clear[pair] == 0:
                continue
            for tap in range(4):
                value, place = clear[pair] * share[pair, tap], base[pair] + (tap & 1) + (tap >> 1) * width
                if value > 0:
                    total[place, 3] += value
                    for k in range(3):
                        total[place, k] += value * (mean[k] - own[k])


def even_gains(views: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Gains f32[N,3] that bring the views f32[N,H,W,3] nearest to each other on the texels they share.

    Least squares of log g_i c_i - log g_j c_j over all pairs of views of a texel, per channel, each gain held at 1 a
    little (Brown and Lowe 2007, "Automatic panoramic image stitching", 6). Views that share nothing keep theirs.
    """
    good = (pairs.cosine > 0.5) & (pairs.share.sum(1) > 0)
    texel, view = pairs.texel()[good], pairs.view[good].astype(np.int64)
    taps = pairs.base[good][:, None] + np.array([0, 1, pairs.width, pairs.width + 1])
    flat = views.reshape(-1, 3)
    colour = np.einsum("pt,ptc->pc", pairs.share[good], flat[np.minimum(taps, len(flat) - 1)])
    value = np.log(np.maximum(colour, DARK))
    count = np.maximum(np.bincount(texel, minlength=pairs.texels), 1)
    seen = coo_matrix((np.ones(len(texel)), (texel, view)), shape=(pairs.texels, len(views))).tocsr()
    normal = np.diag(np.asarray(seen.sum(0)).ravel()) - (seen.T @ diags(1 / count) @ seen).toarray()
    normal += np.eye(len(views)) * max(STIFF * np.trace(normal) / len(views), 1e-9)
    away = [value[:, k] - (np.bincount(texel, value[:, k], pairs.texels) / count)[texel] for k in range(3)]
    right = np.stack([-np.bincount(view, one, len(views)) for one in away], 1)
    return np.exp(np.linalg.solve(normal, right)).astype(np.float32)
