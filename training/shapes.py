# SPDX-License-Identifier: Apache-2.0
"""Random solids as signed distance fields: piles of primitives, single primitives, and creature-like heads.

Every primitive (ellipsoid, box, capsule, torus, cylinder) is the same branch-free formula, an elongated
disc or torus, so a batch of scenes is a handful of tensor operations on any device.
"""

import math

import torch
import torch.nn.functional as F

ELLIPSOID, BOX, CAPSULE, TORUS, CYLINDER = range(5)
ABSENT = -20.0  # radius of a primitive that is not there


class Scene:
    """`B` solids of `K` primitives each, blended by a smooth minimum. Units: about 1 = half the solid's size."""

    def __init__(self, rotation, scale, centre, half, ring, radius, is_torus, blend, bump, bump_frequency):
        """rotation (B,K,3,3) world→local, scale (B,K,3), centre (B,K,3), half extents (B,K,3), ring and radius (B,K)."""
        self.frame = rotation[:, 0]  # world→material axes: patterns follow the main primitive
        self.matrix = rotation / scale[..., None]
        self.shift = -(self.matrix @ centre[..., None])
        self.min_scale = scale.amin(-1)[..., None]
        self.half, self.ring, self.radius = half[..., None], ring[..., None], radius[..., None]
        self.low = torch.where(is_torus, -9.0, 0.0)[..., None]
        self.blend = blend[:, None]
        self.bump, self.bump_frequency = bump[:, None], bump_frequency[:, None]

    def __call__(self, points):
        """Signed distance (B,P), slightly underestimated, at points (B,3,P)."""
        local = ((self.matrix @ points[:, None] + self.shift).abs() - self.half).clamp_min(0)
        across = torch.maximum((local[:, :, 0] ** 2 + local[:, :, 1] ** 2).sqrt() - self.ring, self.low)
        each = ((across * across + local[:, :, 2] ** 2).sqrt() - self.radius) * self.min_scale
        distance = -self.blend * torch.logsumexp(-each / self.blend[..., None], 1)
        if float(self.bump.max()) > 0:
            wave = (points * self.bump_frequency[:, None]).sin()
            distance = distance + self.bump * wave[:, 0] * wave[:, 1] * wave[:, 2]
        return distance * 0.9


def random_scenes(count, generator, kind):
    """A batch of `count` scenes of one kind: "pile" (1 to 4 primitives) or "creature" (8, mirrored)."""
    return {"pile": _piles, "creature": _creatures}[kind](count, generator)


def _piles(count, generator, slots=4):
    device = generator.device

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, device=device)

    def choose(*kinds):
        return sum((kind == k).float() for k in kinds)

    kind = (uniform(count, slots) * 5).long()
    live_count = (uniform(count) ** 1.4 * slots).long() + 1
    slot = torch.arange(slots, device=device)[None]
    live = slot < live_count[:, None]
    size = torch.where(slot == 0, 1.0, 0.62) * (0.55 + 0.45 * uniform(count, slots))
    size = torch.where(live_count[:, None] == 1, size * 1.25, size)
    rounding = 0.03 + 0.12 * uniform(count, slots)
    half = choose(BOX)[..., None] * size[..., None] * (0.25 + 0.45 * uniform(count, slots, 3))
    half[..., 2] += choose(CAPSULE) * size * (0.25 + 0.35 * uniform(count, slots))
    half[..., 2] += choose(CYLINDER) * size * (0.15 + 0.5 * uniform(count, slots))
    ring = choose(TORUS) * size * (0.45 + 0.2 * uniform(count, slots))
    ring = ring + choose(CYLINDER) * size * (0.25 + 0.3 * uniform(count, slots))
    radius = (choose(ELLIPSOID) * size * 0.75 + choose(BOX, CYLINDER) * size * rounding
              + choose(CAPSULE) * size * (0.25 + 0.2 * uniform(count, slots))
              + choose(TORUS) * size * (0.15 + 0.15 * uniform(count, slots)))
    radius = torch.where(live, radius, torch.full_like(radius, ABSENT))
    stretched = choose(ELLIPSOID) * (uniform(count, slots) < 0.6).float()
    scale = 1 + stretched[..., None] * (0.5 * uniform(count, slots, 3) - 0.35)
    upright = (uniform(count) < 0.7)[:, None, None, None]
    turn = uniform(count, 1) * 2 * math.pi * (uniform(count, 1) < 0.6)
    rotation = torch.where(upright, _turn_z(turn.expand(count, slots)), _random_rotation(count, slots, generator))
    centre = (uniform(count, slots, 3) * 2 - 1) * 0.62
    centre[:, 0] = 0
    blend = 0.02 + 0.10 * uniform(count) ** 2
    bump = 0.05 * uniform(count) * (uniform(count) < 0.25)
    return Scene(rotation, scale, centre, half, ring, radius, kind == TORUS, blend, bump, 4 + 8 * uniform(count))


def _creatures(count, generator):
    """Heads and figures: skull, muzzle, two ears, two eyes or horns, neck or body; mirrored in x, facing −y."""
    device = generator.device

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, device=device)

    def between(low, high, *shape):
        return low + (high - low) * uniform(count, *shape)

    slots = 8
    centre = torch.zeros(count, slots, 3, device=device)
    scale = torch.ones(count, slots, 3, device=device)
    half = torch.zeros(count, slots, 3, device=device)
    radius = torch.full((count, slots), 0.6, device=device)
    scale[:, 0] = between(0.75, 1.1, 3)                                     # skull
    radius[:, 0] = between(0.5, 0.65)
    centre[:, 1] = torch.stack([0 * between(0, 1), between(-0.65, -0.35), between(-0.4, -0.1)], -1)
    radius[:, 1] = between(0.2, 0.4)                                        # muzzle
    scale[:, 1] = between(0.75, 1.1, 3)
    ear = torch.stack([between(0.45, 0.85), between(-0.1, 0.25), between(-0.1, 0.65)], -1)
    eye = torch.stack([between(0.18, 0.34), between(-0.65, -0.45), between(0.05, 0.35)], -1)
    flatten = torch.tensor([1.0, 0.45, 1.0], device=device)
    for slot, place, size, shape in ((2, ear, between(0.22, 0.42), flatten), (4, eye, between(0.1, 0.2), 1.0)):
        for mirror in (0, 1):
            sign = torch.tensor([1.0 - 2 * mirror, 1, 1], device=device)
            centre[:, slot + mirror], radius[:, slot + mirror] = place * sign, size
            scale[:, slot + mirror] = scale[:, slot + mirror] * shape
    centre[:, 6] = torch.stack([0 * between(0, 1), between(-0.1, 0.2), between(-1.0, -0.6)], -1)
    half[:, 6, 2] = between(0.0, 0.4)                                       # neck or body
    radius[:, 6] = torch.where(uniform(count) < 0.6, between(0.2, 0.45), torch.full((count,), ABSENT, device=device))
    centre[:, 7] = torch.stack([0 * between(0, 1), between(-0.45, -0.2), between(0.25, 0.5)], -1)
    radius[:, 7] = torch.where(uniform(count) < 0.6, between(0.15, 0.3), torch.full((count,), ABSENT, device=device))
    scale[:, 7, 0] = 1.4                                                    # brow
    turn = (uniform(count, 1) * 2 * math.pi).expand(count, slots)
    rotation = _turn_z(turn)
    centre = (rotation.transpose(-1, -2) @ centre[..., None])[..., 0]
    zero = torch.zeros(count, slots, device=device)
    return Scene(rotation, scale, centre, half, zero, radius, zero > 1, between(0.03, 0.1), between(0, 0.0), between(4, 8))


def _turn_z(angle):
    """Rotation matrices (...,3,3) about the vertical axis."""
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).unflatten(-1, (3, 3))


def _random_rotation(count, slots, generator):
    quaternion = F.normalize(torch.randn(count, slots, 4, generator=generator, device=generator.device), dim=-1)
    w, x, y, z = quaternion.unbind(-1)
    return torch.stack([
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1).unflatten(-1, (3, 3))
