# SPDX-License-Identifier: Apache-2.0
"""What a pixel sees: barycentrics, depth, position, normal, uv, cosine, footprint, and the depth image for control."""

import numpy as np
import pytest

from blender_addon.jobs.rigs import build_rig
from engine.cameras import clip_positions, eye, stack
from engine.raster import pick_rasterizer
from engine.raster.depth import control_depth
from engine.raster.gbuffer import render_gbuffer
from tests.raster_rules import camera, mesh_of, orthographic
from tests.shapes import SHAPES, cube, grid, one_triangle, quad, torus

NUMBA = pick_rasterizer("numba")


def project(points, cameras, size):
    """Pixel coordinates (x right, y down) of points f64[N,H,W,3]."""
    clip = np.stack([clip_positions(p.reshape(-1, 3), [c])[0] for p, c in zip(points, cameras, strict=True)])
    ndc = (clip[..., :2] / clip[..., 3:]).reshape(*points.shape[:3], 2)
    return np.stack([(ndc[..., 0] + 1) / 2 * size, (1 - ndc[..., 1]) / 2 * size], -1)


@pytest.mark.parametrize("name", SHAPES)
def test_invariants(name):
    mesh = mesh_of(SHAPES[name]())
    size = 64
    cameras = build_rig("auto", 4, mesh.positions)
    g = render_gbuffer(NUMBA, mesh, cameras, size, size)
    mask = g.mask
    assert mask.any()
    for image in (g.barycentrics, g.depth, g.position, g.normal, g.uv, g.cosine, g.footprint):
        assert image.dtype == np.float32 and np.isfinite(image).all()
        assert not image[~mask].any()
    weights = g.barycentrics[mask]
    assert weights.min() >= 0 and abs(weights.sum(1) - 1).max() < 1e-6
    corners = mesh.positions[mesh.triangles[g.triangle[mask]]].astype(float)
    scale = np.ptp(mesh.positions, axis=0).max()
    np.testing.assert_allclose(g.position[mask], np.einsum("mk,mkd->md", weights, corners), atol=1e-5 * scale)
    edge = corners[:, 1] - corners[:, 0]
    slope = (g.normal[mask] * edge).sum(1) / np.linalg.norm(edge, axis=1)
    assert abs(slope).max() < 1e-4 and abs(np.linalg.norm(g.normal[mask], axis=1) - 1).max() < 1e-5
    expected = np.einsum("mk,mkd->md", weights, mesh.uvs[mesh.triangle_uvs[g.triangle[mask]]])
    np.testing.assert_allclose(g.uv[mask], expected, atol=1e-6)
    assert g.uv.min() >= 0 and g.uv.max() <= 1 and 0 <= g.cosine.min() and g.cosine.max() <= 1
    toward = eye(cameras)[:, None, None] - g.position
    cosine = abs((toward * g.normal).sum(-1)) / np.linalg.norm(toward, axis=-1)
    np.testing.assert_allclose(g.cosine[mask], cosine[mask], atol=1e-4)
    view = stack(cameras)[0]
    depth = -(np.einsum("nd,nhwd->nhw", view[:, 2, :3], g.position) + view[:, 2, 3, None, None])
    np.testing.assert_allclose(g.depth[mask], depth[mask], rtol=1e-5)


@pytest.mark.parametrize("name", ["cube", "torus", "icosphere", "interpenetrating", "huge", "tiny"])
def test_positions_project_back_to_their_pixels(name):
    """Perspective-correct: what a pixel centre sees lies on that pixel's ray."""
    mesh = mesh_of(SHAPES[name]())
    cameras = build_rig("auto", 3, mesh.positions)
    g = render_gbuffer(NUMBA, mesh, cameras, 64, 64)
    rows, columns = np.mgrid[:64, :64] + 0.5
    away = project(g.position, cameras, 64) - np.stack([columns, rows], -1)
    inner = g.mask & (g.cosine > 0.1)
    assert abs(away[inner]).max() < 2e-3


def test_camera_inside_the_mesh():
    """A triangle that reaches behind the eye interpolates like any other."""
    floor = mesh_of(grid(1, 1, lambda s, t: np.stack([200 * s - 100, 200 * t - 100, 0 * s - 0.2], 1)))
    cameras = [camera((0.1, 0.2, 0.0), (5.0, 1.0, -1.3), fov=90, near=0.01, far=500)]
    g = render_gbuffer(NUMBA, floor, cameras, 64, 64)
    assert g.mask.mean() > 0.6
    np.testing.assert_allclose(g.position[g.mask][:, 2], -0.2, atol=1e-6)
    rows, columns = np.mgrid[:64, :64] + 0.5
    away = project(g.position, cameras, 64) - np.stack([columns, rows], -1)
    assert abs(away[g.mask]).max() < 1e-2


@pytest.mark.parametrize("kind", [camera, orthographic])
def test_footprint_is_the_area_of_a_pixel_in_uv(kind):
    """By finite differences of uv between neighbours on one triangle; and all of them make up the UV map's area."""
    mesh = mesh_of(quad())
    g = render_gbuffer(NUMBA, mesh, [kind((0.9, -3.0, 0.7))], 200, 200)
    uv, triangle = g.uv[0].astype(float), g.triangle[0]
    across, down = uv[1:-1, 2:] - uv[1:-1, :-2], uv[2:, 1:-1] - uv[:-2, 1:-1]
    area = abs(across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]) / 4
    middle = triangle[1:-1, 1:-1]
    same = (middle >= 0) & (triangle[1:-1, 2:] == middle) & (triangle[1:-1, :-2] == middle)
    same &= (triangle[2:, 1:-1] == middle) & (triangle[:-2, 1:-1] == middle)
    assert same.sum() > 5000
    np.testing.assert_allclose(g.footprint[0, 1:-1, 1:-1][same], area[same], rtol=0.01)
    assert g.footprint.sum() == pytest.approx(0.94**2, rel=0.02)


def test_orthographic_depth_and_cosine():
    mesh = mesh_of(cube())
    g = render_gbuffer(NUMBA, mesh, [orthographic((0, -5.0, 0))], 64, 64)
    assert g.mask.any()
    np.testing.assert_allclose(g.depth[g.mask], 4.0, rtol=1e-6)
    np.testing.assert_allclose(g.cosine[g.mask], 1.0, rtol=1e-6)


def test_a_face_seen_from_behind_counts():
    mesh = mesh_of(quad())
    front, back = render_gbuffer(NUMBA, mesh, [camera((0, -3, 0)), camera((0, 3, 0))], 64, 64).cosine
    np.testing.assert_allclose(front, back[:, ::-1], atol=1e-6)
    assert front.max() > 0.99


def test_right_way_up():
    """Row 0 is the top of the image and sees the top of the mesh; columns run to the camera's right."""
    mesh = mesh_of(quad())
    g = render_gbuffer(NUMBA, mesh, [camera((0, -4, 0))], 64, 64)
    rows, columns = np.nonzero(g.mask[0])
    z, x = g.position[0, ..., 2], g.position[0, ..., 0]
    assert z[rows.min(), 32] > 0.9 and z[rows.max(), 32] < -0.9
    assert x[32, columns.min()] < -0.9 and x[32, columns.max()] > 0.9
    assert g.uv[0, rows.min(), columns.min()].tolist() == pytest.approx([0.03, 0.97], abs=0.03)


def test_empty_view_and_one_triangle():
    mesh = mesh_of(one_triangle())
    g = render_gbuffer(NUMBA, mesh, [camera((0, -4, 0)), camera((0, -4, 0), (0, -8, 0))], 48, 40)
    assert g.mask[0].any() and not g.mask[1].any()
    assert g.uv.shape == (2, 48, 40, 2)
    depth = control_depth(g)
    assert depth.dtype == np.float32 and not depth[1].any()
    assert depth[0][g.mask[0]].min() == pytest.approx(0.1) and depth[0].max() == 1


def test_control_depth_is_inverse_depth():
    g = render_gbuffer(NUMBA, mesh_of(torus()), build_rig("auto", 3, torus().positions), 64, 64)
    depth = control_depth(g)
    for image, far, mask in zip(depth, g.depth, g.mask, strict=True):
        assert (image[~mask] == 0).all()
        nearest, farthest = far[mask].min(), far[mask].max()
        expected = 0.1 + 0.9 * (1 / far[mask] - 1 / farthest) / (1 / nearest - 1 / farthest)
        np.testing.assert_allclose(image[mask], expected, atol=1e-5)


def test_control_depth_of_a_wall():
    """All pixels equally far: 1, not a division by zero."""
    g = render_gbuffer(NUMBA, mesh_of(quad()), [orthographic((0, -4, 0))], 32, 32)
    depth = control_depth(g)
    assert set(np.unique(depth)) <= {np.float32(0), np.float32(1)} and depth.any()


def test_back_ends_give_the_same_numbers():
    mesh = mesh_of(torus(16, 8))
    cameras = build_rig("auto", 2, mesh.positions)
    one = render_gbuffer(NUMBA, mesh, cameras, 48, 48)
    other = render_gbuffer(pick_rasterizer("reference"), mesh, cameras, 48, 48)
    same = one.triangle == other.triangle
    assert same.mean() > 0.999
    for name in ("barycentrics", "depth", "position", "normal", "uv", "cosine", "footprint"):
        np.testing.assert_array_equal(getattr(one, name)[same], getattr(other, name)[same])
