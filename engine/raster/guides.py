# SPDX-License-Identifier: Apache-2.0
"""The pictures of the mesh that ControlNets follow besides depth: normals and edges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blender_addon.jobs.folder import Camera
from engine.cameras import eye, outward, stack
from engine.mesh import Mesh

from .depth import control_depth
from .gbuffer import GBuffer

CREASE = np.cos(np.radians(30.0))  # neighbours whose faces turn by more are on two sides of an edge
STEP = 0.01  # neighbours whose planes miss each other by more than this share of the distance are not on one surface
FLAT = (0.5, 0.5, 1.0)  # the background: facing the camera, as normal estimators paint an empty wall


def control_picture(kind: str, gbuffer: GBuffer, mesh: Mesh, cameras: Sequence[Camera]) -> np.ndarray:
    """f32[N,C,H,W] in 0..1 of "depth" (C 1), "normal" (C 3) or "canny" (C 1) for every view."""
    if kind == "normal":
        return control_normal(gbuffer, mesh, cameras)
    return (control_canny(gbuffer) if kind == "canny" else control_depth(gbuffer))[:, None]


def control_normal(gbuffer: GBuffer, mesh: Mesh, cameras: Sequence[Camera]) -> np.ndarray:
    """Smooth normals in camera space f32[N,3,H,W] in 0..1: red to the left, green up, blue to the camera.

    ScanNet's convention, which the normal ControlNets were trained with (their estimator is Bae et al. 2021). Faces
    seen from behind are turned round.
    """
    corners = mesh.normals[np.maximum(gbuffer.triangle, 0)]  # [N,H,W,3 corners,3]
    world = np.einsum("nhwk,nhwkc->nhwc", gbuffer.barycentrics, corners)
    view = np.einsum("nij,nhwj->nhwi", stack(cameras)[0][:, :3, :3], world)
    view /= np.maximum(np.linalg.norm(view, axis=-1, keepdims=True), 1e-12)
    view *= np.where(view[..., 2:] < 0, -1, 1)
    colour = (view * (-1, 1, 1) + 1) / 2
    found = np.where(gbuffer.mask[..., None], colour, np.array(FLAT))
    return np.moveaxis(found, -1, 1).astype(np.float32)


def geometry_maps(gbuffer: GBuffer, mesh: Mesh) -> np.ndarray:
    """Where each pixel's surface lies and how it faces, f32[N,6,H,W] in 0..1, grey (0.5) where there is none.

    What MV-Adapter's tg2mv weights read: places in the cube around the mesh (its longest side 0 to 1, its middle 0.5),
    then smooth normals (n + 1) / 2, both in the world's axes, Z up and the front at -Y.
    """
    low, high = mesh.positions.min(0), mesh.positions.max(0)
    place = (gbuffer.position - (low + high) / 2) / max(float((high - low).max()), 1e-12)
    corners = mesh.normals[np.maximum(gbuffer.triangle, 0)]
    normal = np.einsum("nhwk,nhwkc->nhwc", gbuffer.barycentrics, corners)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    both = np.concatenate([place + 0.5, normal / 2 + 0.5], -1).clip(0, 1)
    return np.moveaxis(np.where(gbuffer.mask[..., None], both, 0.5), -1, 1).astype(np.float32)


def camera_maps(mesh: Mesh, cameras: Sequence[Camera], shape: tuple[int, int]) -> np.ndarray:
    """Where each camera looks and stands, f32[N,6,H,W] in 0..1, the same in all pixels of a view.

    What MV-Adapter's t2mv weights read of parallel views: the unit direction of view, then that from the middle of the
    mesh to the camera, each (d + 1) / 2.
    """
    middle = (mesh.positions.min(0) + mesh.positions.max(0)) / 2
    stand = eye(cameras) - middle
    stand /= np.maximum(np.linalg.norm(stand, axis=1, keepdims=True), 1e-12)
    told = (np.concatenate([-outward(cameras), stand], 1) + 1) / 2
    return np.broadcast_to(told[..., None, None], (*told.shape, *shape)).astype(np.float32)


def control_canny(gbuffer: GBuffer) -> np.ndarray:
    """Edges f32[N,H,W], white (1) on black, one pixel wide: outlines, steps in depth, creases of more than 30 degrees.

    What an edge detector finds in an evenly lit picture of the mesh, without its noise.
    """
    edges = np.zeros(gbuffer.mask.shape, np.float32)
    for axis in (1, 2):
        here, there = (np.take(np.arange(edges.shape[axis]), range(k, edges.shape[axis] - 1 + k)) for k in (0, 1))
        first, second = (_taken(gbuffer, axis, place) for place in (here, there))
        (mask_a, depth_a, normal_a, point_a), (mask_b, depth_b, normal_b, point_b) = first, second
        outline = mask_a != mask_b
        both = mask_a & mask_b
        apart = np.minimum(*(np.abs(((point_b - point_a) * normal).sum(-1)) for normal in (normal_a, normal_b)))
        step = both & (apart > STEP * np.minimum(depth_a, depth_b))
        crease = both & (np.abs((normal_a * normal_b).sum(-1)) < CREASE)
        nearer = np.where(both, depth_a <= depth_b, mask_a)  # the edge belongs to what is in front
        index: list[slice | np.ndarray] = [slice(None)] * 3
        for place, own in ((here, nearer), (there, ~nearer)):
            index[axis] = place
            edges[tuple(index)] = np.maximum(edges[tuple(index)], ((outline | step | crease) & own).astype(np.float32))
    return edges


def _taken(gbuffer: GBuffer, axis: int, place: np.ndarray) -> tuple[np.ndarray, ...]:
    images = (gbuffer.mask, gbuffer.depth, gbuffer.normal, gbuffer.position)
    return tuple(np.take(image, place, axis) for image in images)
