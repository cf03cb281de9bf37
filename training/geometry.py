# SPDX-License-Identifier: Apache-2.0
"""Views of random solids: sphere-traced positions, normals and the depth map the ControlNet sees.

Patterns live in the *material frame*: the axes of the solid's main primitive, centred, with the bounding
radius as unit, so that the size of a pattern is relative to the object.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .shapes import random_scenes

COARSE = 4          # full-resolution pixels per side of one coarse marching cell
COARSE_STEPS = 28
FINE_STEPS = 24     # fewer leaves dotted gaps along inner silhouettes


@dataclass(frozen=True)
class Views:
    """`B` views of `S`×`S` pixels. Material-frame units; row 0 is the top row."""

    position: torch.Tensor   # (B,S,S,3)
    normal: torch.Tensor     # (B,S,S,3)
    depth: torch.Tensor      # (B,S,S) inverse depth scaled per view to 0.1 (farthest) .. 1 (nearest), background 0
    up: torch.Tensor         # (B,3) the world's z axis in the material frame


def random_views(count, size, generator, kind="pile"):
    """Render `count` random views of scenes of one kind."""
    device = generator.device
    scene = random_scenes(count, generator, kind)
    camera = _random_cameras(scene, count, generator)
    hit, distance, pick, rays = _march(scene, camera, size)
    eye = camera["eye"][:, :, None]
    points = eye + rays * distance[:, None]
    offsets = torch.tensor([[1.0, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], device=device)[:, None, :, None]
    normal = F.normalize(sum(o * scene(points + 0.004 * o)[:, None] for o in offsets), dim=1)
    inverse = 1 / ((rays * camera["forward"][:, :, None]).sum(1) * distance)
    low = torch.where(hit, inverse, torch.full_like(inverse, 1e9)).amin(1, True)
    high = torch.where(hit, inverse, torch.zeros_like(inverse)).amax(1, True)
    depth = torch.where(hit, (inverse - low) / (high - low).clamp_min(1e-6) * 0.9 + 0.1, torch.zeros_like(inverse))
    position = scene.frame @ ((points - camera["centre"][:, :, None]) / camera["radius"][:, None, None])
    normal = scene.frame @ normal

    def image(values):
        blank = torch.zeros(count, values.shape[1], size * size, device=device)
        values = torch.where(hit[:, None], values, torch.zeros_like(values))
        blank.scatter_(2, pick[:, None].expand(-1, values.shape[1], -1), values)
        return blank.unflatten(2, (size, size)).permute(0, 2, 3, 1)

    return Views(image(position), image(normal), image(depth[:, None])[..., 0], scene.frame[:, :, 2])


def _random_cameras(scene, count, generator):
    """Cameras that frame the solid: half of them near the horizon, where synchronized rigs mostly live."""
    device = generator.device

    def uniform():
        return torch.rand(count, generator=generator, device=device)

    azimuth, elevation = uniform() * 2 * math.pi, uniform() * 105 - 25
    elevation = torch.where(uniform() < 0.5, elevation, uniform() * 40 - 5).deg2rad()
    fov = (25 + 25 * uniform()).deg2rad()
    toward = torch.stack([elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()], -1)
    right = F.normalize(torch.cross(-toward, torch.tensor([0.0, 0, 1], device=device).expand(count, 3), dim=-1), dim=-1)
    axis = torch.linspace(-1.7, 1.7, 24, device=device)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).reshape(1, 3, -1)
    inside = (scene(grid.expand(count, -1, -1)) < 0.06)[:, None]
    high = torch.where(inside, grid, torch.full_like(grid, -9)).amax(-1)
    low = torch.where(inside, grid, torch.full_like(grid, 9)).amin(-1)
    centre, radius = (high + low) / 2, ((high - low).norm(dim=-1) / 2).clamp(0.2, 2.4)
    away = radius / (fov / 2).sin() * (0.56 + 0.34 * uniform())
    return dict(eye=centre + toward * away[:, None], forward=-toward, right=right, up=torch.cross(right, -toward, dim=-1),
                half_width=(fov / 2).tan(), centre=centre, radius=radius, away=away,
                near=(away - radius * 1.15).clamp_min(0.05), far=away + radius * 1.15)


def _rays(camera, size):
    """Unit directions (B,3,size²) through pixel centres."""
    line = (torch.arange(size, device=camera["eye"].device) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(-line, line, indexing="ij")
    x, y = (v.reshape(1, 1, -1) * camera["half_width"][:, None, None] for v in (x, y))
    return F.normalize(camera["forward"][:, :, None] + camera["right"][:, :, None] * x + camera["up"][:, :, None] * y, dim=1)


def _march(scene, camera, size):
    """Cone marching on a coarse grid, then sphere tracing of the pixels that may hit.

    Returns hit (B,P), distance (B,P), pixel index (B,P), ray (B,3,P) for P candidate pixels per view.
    """
    coarse, count = size // COARSE, len(camera["eye"])
    eye = camera["eye"][:, :, None]
    ray, reach = _rays(camera, coarse), camera["near"][:, None].expand(count, coarse * coarse).clone()
    cone = camera["half_width"][:, None] * 2 / coarse * 0.75
    for _ in range(COARSE_STEPS):
        gap = scene(eye + ray * reach[:, None])
        reach = torch.where(gap > cone * reach, reach + gap - cone * reach * 0.5, reach)
    maybe = ((gap < cone * reach * 1.6) & (reach < camera["far"][:, None] + 0.3)).float().view(count, 1, coarse, coarse)
    maybe = F.max_pool2d(maybe, 3, 1, 1)
    grown = F.interpolate(torch.stack([maybe[:, 0], reach.view(count, coarse, coarse)], 1), scale_factor=COARSE)
    maybe, reach = grown.flatten(2).unbind(1)
    most = int(maybe.sum(1).max().clamp_min(1))
    pick = maybe.sort(dim=1, descending=True, stable=True).indices[:, :most]
    reach, alive = reach.gather(1, pick), maybe.gather(1, pick) > 0
    ray = _rays(camera, size).gather(2, pick[:, None].expand(-1, 3, -1))
    reach = torch.minimum(reach, camera["far"][:, None] + 0.3)
    for _ in range(FINE_STEPS):
        gap = scene(eye + ray * reach[:, None])
        reach = torch.minimum(reach + gap, camera["far"][:, None] + 0.5)
    hit = alive & (gap < 0.004 * camera["away"][:, None]) & (reach < camera["far"][:, None] + 0.3)
    return hit, reach, pick, ray
