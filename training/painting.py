# SPDX-License-Identifier: Apache-2.0
"""Paint views: unlit base colour on the object, mid-grey behind it (0 in −1..1, so latents are 0 there)."""

import torch

from .wear import weather
from .words import base_colour


def paint(views, specs, density=1.0):
    """Images (B,3,S,S) in −1..1 of `views` painted with one spec each.

    Only object pixels are computed, view by view (fits a CPU's cache). `density` multiplies pattern
    frequencies: views at half size use about 0.6, so that patterns keep their size in pixels.
    """
    size = views.depth.shape[1]
    images = torch.zeros(len(specs), size * size, 3, device=views.depth.device)
    for i, spec in enumerate(specs):
        visible = views.depth[i].flatten() > 0
        points, normals = views.position[i].reshape(-1, 3)[visible], views.normal[i].reshape(-1, 3)[visible]
        points = points * density
        colour = base_colour(spec, points, normals)
        if spec.layer:
            colour = weather(colour, points, normals, views.up[i], spec.layer, spec.look.seed)
        images[i, visible] = colour.clamp(0, 1) * 2 - 1
    return images.unflatten(1, (size, size)).permute(0, 3, 1, 2).contiguous()


def half_size(views):
    """Every second pixel: the same views at half the resolution (the object looks half as large)."""
    pick = slice(1, None, 2)
    return type(views)(views.position[:, pick, pick], views.normal[:, pick, pick], views.depth[:, pick, pick], views.up)
