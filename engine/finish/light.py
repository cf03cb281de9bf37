# SPDX-License-Identifier: Apache-2.0
"""Light that a model has painted onto a surface, taken off again as far as it follows the surface's direction.

What a distant light does to a matt surface is a function of the normal that nine spherical harmonics describe to 99 %
(Ramamoorthi and Hanrahan 2001, "An efficient representation for irradiance environment maps"). They are fitted to the
texture's luminance; patterns that do not follow the normal stay. So does a colour that does: a green top on a brown
trunk looks like light, which is why this is off unless asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.mesh import surface_areas

from .sheet import Sheet

LUMA = np.array([0.2126, 0.7152, 0.0722])
GAMMA = 2.2
DARK = 1e-3   # linear luminance below which a texel says nothing
MOST = 2.5    # largest change of brightness, as a factor


def flatten_light(sheets: Sequence[Sheet], share: float) -> None:
    """Divide the seen texels by `share` 0..1 of the light that their normals explain, in place; mean brightness stays."""
    normal = np.zeros((9, 9))
    right, total, mean = np.zeros(9), 0.0, 0.0
    area = surface_areas(sheets[0].mesh)
    for sheet in sheets:
        count, _ = sheet.shown()
        for texels in sheet.parts():
            seen = sheet.owner.reshape(-1)[texels.index] >= 0
            light = luminance(sheet.image.reshape(-1, 3)[texels.index[seen]])
            lit = light > DARK
            rows = np.flatnonzero(seen)[lit]
            weight = area[texels.triangle[rows]] / np.maximum(count[texels.triangle[rows]], 1)
            basis, value = harmonics(texels.normal[rows]), np.log(light[lit])
            normal += basis.T @ (weight[:, None] * basis)
            right += basis.T @ (weight * value)
            total, mean = total + weight.sum(), mean + (weight * value).sum()
    if total == 0:
        return
    mean /= total
    fitted = np.linalg.solve(normal + np.diag([0.0] + [1e-3 * total] * 8) + 1e-12 * total * np.eye(9), right)
    for sheet in sheets:
        image = sheet.image.reshape(-1, 3)
        for texels in sheet.parts():
            rows = texels.index[sheet.owner.reshape(-1)[texels.index] >= 0]
            lift = harmonics(texels.normal[sheet.owner.reshape(-1)[texels.index] >= 0]) @ fitted - mean
            gain = np.exp(np.clip(-share * lift, -np.log(MOST), np.log(MOST)) / GAMMA)
            image[rows] = np.clip(image[rows] * gain[:, None], 0, 1)


def luminance(rgb: np.ndarray) -> np.ndarray:
    """Linear luminance f64[K] of sRGB colours f32[K,3] in 0..1, by a plain power of 2.2."""
    return rgb.astype(np.float64) ** GAMMA @ LUMA


def harmonics(normal: np.ndarray) -> np.ndarray:
    """The nine real spherical harmonics up to degree 2, unscaled but for the constant 1, f64[K,9] of unit vectors."""
    x, y, z = normal.astype(np.float64).T
    return np.stack([np.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], 1)
