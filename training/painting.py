# SPDX-License-Identifier: Apache-2.0
"""Paint views: unlit base colour on the object, mid-grey behind it (0 in −1..1, so latents are 0 there)."""

import torch
import torch.nn.functional as F

from .wear import BY_CURVATURE, place_of, weather
from .words import base_colour

SHARP = 0.24        # curvatures (1/radius in object radii) times this are clamped to −1..1
ROUND = 0.40        # what is left of it on round solids, which have no edges and no cavities
JUMP = 6.0          # a step this many times as long as the view's usual one crosses a silhouette


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
        layers = [layer for layer in (spec.under, spec.layer) if layer]
        if layers:
            bent = points.new_zeros(len(points))
            if any(layer in BY_CURVATURE for layer in layers):
                bent = curvature(views.position[i], views.normal[i], views.depth[i]).flatten()[visible]
            colour = weather(colour, layers, place_of(points, normals, views.up[i], bent, spec))
        images[i, visible] = colour.clamp(0, 1) * 2 - 1
    return images.unflatten(1, (size, size)).permute(0, 3, 1, 2).contiguous()


def curvature(position, normal, depth):
    """Mean curvature (S,S) of one view, smoothed: 1 on convex edges, −1 in cavities, 0 across silhouettes.

    Screen space at half resolution is enough to tell edges from cavities, and costs a tenth of painting.
    """
    size = len(depth)
    position, normal, seen = position[::2, ::2], normal[::2, ::2], depth[::2, ::2] > 0
    step = max(1, size // 128)
    bend, weight = torch.zeros_like(depth[::2, ::2]), torch.zeros_like(depth[::2, ::2])
    for axis in (0, 1):
        count = len(seen) - step
        near, far = (slice(None),) * axis + (slice(0, count),), (slice(None),) * axis + (slice(step, None),)
        reach, turn = position[far] - position[near], normal[far] - normal[near]
        length = (reach * reach).sum(-1)
        usual = length[seen[near] & seen[far]].median() if (seen[near] & seen[far]).any() else 0.0
        valid = (seen[near] & seen[far] & (length < JUMP**2 * usual)).float()
        value = (turn * reach).sum(-1) / length.clamp_min(1e-8) * valid
        for half in (near, far):                # a step belongs to both of its ends
            bend[half] += value
            weight[half] += valid
    bend = (bend / weight.clamp_min(1) * SHARP).clamp(-1, 1)
    bend = F.softshrink(bend, ROUND) / (1 - ROUND)
    known = (weight > 0).float()
    smooth = F.avg_pool2d(torch.stack([bend * known, known])[None], 3, 1, 1)[0]
    smooth = (smooth[0] / smooth[1].clamp_min(1e-3) * known)[None, None]
    return F.interpolate(smooth, size=(size, size), mode="nearest")[0, 0] * (depth > 0)


def half_size(views):
    """Every second pixel: the same views at half the resolution (the object looks half as large)."""
    pick = slice(1, None, 2)
    return type(views)(views.position[:, pick, pick], views.normal[:, pick, pick], views.depth[:, pick, pick], views.up)
