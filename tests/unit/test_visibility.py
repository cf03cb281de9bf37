# SPDX-License-Identifier: Apache-2.0
"""Which view sees which texel, against exact rays from every texel to every eye."""

from dataclasses import replace

import numpy as np
import pytest

from blender_addon.jobs.rigs import build_rig
from engine.cameras import clip_positions, eye
from engine.raster import pick_rasterizer
from engine.raster.texels import rasterize_uv
from engine.raster.visibility import visible
from tests.raster_rules import camera, hits, mesh_of, orthographic
from tests.shapes import SHAPES, cube, grid, join, needles, quad, torus

NUMBA = pick_rasterizer("numba")


def sample(texels, count):
    """A random part of a TexelMap."""
    chosen = np.sort(np.random.default_rng(0).choice(len(texels.index), min(count, len(texels.index)), replace=False))
    fields = ("index", "triangle", "barycentrics", "border", "position", "normal")
    return replace(texels, **{name: getattr(texels, name)[chosen] for name in fields})


def truth(texels, mesh, cameras):
    """Visible bool[N,M] by any-hit rays in float64 from exact texel positions, and the signed cosines f64[N,M]."""
    corners = mesh.positions[mesh.triangles].astype(float)
    points = np.einsum("mk,mkd->md", texels.barycentrics.astype(float), corners[texels.triangle])
    seen, cosines = [], []
    for at in eye(cameras):
        toward = at - points
        free = np.ones(len(points), bool)
        for part in np.array_split(np.arange(len(points)), max(1, len(points) * len(corners) // 100_000)):
            t = hits(points[part], toward[part], corners)
            t[np.arange(len(part)), texels.triangle[part]] = np.inf
            free[part] = ~((t > 1e-9) & (t < 1)).any(1)
        seen.append(free)
        cosines.append((toward * texels.normal).sum(1) / np.linalg.norm(toward, axis=1))
    return np.array(seen), np.array(cosines)


@pytest.mark.parametrize("name", ["torus", "interpenetrating", "l_shape", "thin_fins", "cylinder"])
def test_against_exact_rays(name):
    """At cos > 0.2 and 2048 pixels: at most 0.05 % of the visible texels lost, at most 1 % hidden ones let through."""
    mesh = mesh_of(torus(24, 12) if name == "torus" else SHAPES[name]())
    texels = sample(rasterize_uv(mesh, 256, border=0), 1000)  # a border texel lies on its neighbour, too
    cameras = build_rig("auto", 4, mesh.positions)
    expected, cosine = truth(texels, mesh, cameras)
    found = visible(texels, mesh, cameras, NUMBA, 2048)
    steady = cosine > 0.2
    count = (expected & steady).sum()
    assert count > 500
    assert (expected & ~found & steady).sum() <= 0.0005 * count
    assert (found & ~expected & steady).sum() <= 0.01 * count
    behind = cosine < -0.05  # closed meshes: no texel is seen from behind
    assert (found & ~expected & behind).sum() <= 0.01 * count


def test_duplicated_surfaces_hide_nothing():
    mesh, single = mesh_of(SHAPES["duplicated"]()), mesh_of(torus(16, 8))
    texels = rasterize_uv(mesh, 128)
    cameras = build_rig("auto", 4, mesh.positions)
    seen = visible(texels, mesh, cameras, NUMBA, 1024)
    one_of_three = replace(texels, triangle=texels.triangle % len(single.triangles))
    expected = visible(one_of_three, single, cameras, NUMBA, 1024)
    assert (seen & expected).sum() >= 0.999 * expected.sum()


def test_a_shell_a_hundred_thousandth_away_hides_nothing():
    inner, outer = torus(), torus(tube=0.3 * (1 + 1e-5))
    mesh = mesh_of(join(inner, outer))
    cameras = build_rig("auto", 4, mesh.positions)
    texels = rasterize_uv(mesh, 256)
    hidden = texels.triangle < len(inner.triangles)
    alone = mesh_of(join(inner, inner._replace(positions=inner.positions * np.float32(1e-3))))
    expected = visible(texels, alone, cameras, NUMBA, 1024)[:, hidden]
    seen = visible(texels, mesh, cameras, NUMBA, 1024)[:, hidden]
    assert (seen & expected).sum() >= 0.99 * expected.sum()


def test_a_wall_hides_what_is_behind_it():
    """Two sheets; from the front only the first is seen, from the back only the second, from both sides of it."""
    near, far = quad(), quad()
    mesh = mesh_of(join(near, far._replace(positions=far.positions * np.float32(0.5) + np.float32([0, 0.5, 0]))))
    texels = rasterize_uv(mesh, 64)
    first = texels.triangle < 2
    seen = visible(texels, mesh, [camera((0, -4, 0)), camera((0, 4, 0))], NUMBA, 512)
    assert seen[0, first].all() and not seen[0, ~first].any()
    assert seen[1, ~first].all() and 0.5 < seen[1, first].mean() < 0.9


def test_sheets_are_seen_from_behind():
    mesh = mesh_of(quad())
    texels = rasterize_uv(mesh, 32)
    assert visible(texels, mesh, [camera((0, -4, 0)), camera((0, 4, 0))], NUMBA, 256).all()


def test_out_of_the_frame_before_near_and_beyond_far():
    mesh = mesh_of(quad())
    texels = rasterize_uv(mesh, 32)
    at = (0, -4, 0)
    cameras = [camera(at, fov=10), camera(at, near=5), camera(at, far=2), camera(at, (0, -8, 0))]
    seen = visible(texels, mesh, cameras, NUMBA, 256)
    assert 0 < seen[0].mean() < 0.5 and not seen[1:].any()
    clip = clip_positions(texels.position, cameras[:1])[0]
    np.testing.assert_array_equal(seen[0], (abs(clip[:, :2]) <= clip[:, 3:]).all(1))


def test_camera_inside_the_mesh():
    """Triangles that reach behind the eye neither hide nor lose what is before it."""
    box = cube(3.0)
    mesh = mesh_of(join(box, grid(1, 1, lambda s, t: np.stack([s - 0.5, 0 * s + 2, t - 0.5], 1))))
    texels = rasterize_uv(mesh, 128)
    seen = visible(texels, mesh, [camera((0, 0, 0), (0, 1, 0), fov=60, near=0.01)], NUMBA, 512)[0]
    panel = texels.triangle >= len(box.triangles)
    assert seen[panel].all()
    points = texels.position[~panel].astype(float)
    wall = (points[:, 1] > 2.999) & (abs(points[:, [0, 2]]).max(1) < 1.7)
    shadow = abs(points[:, [0, 2]]).max(1) < 0.5 * 1.5
    assert seen[~panel][wall & ~shadow & (abs(points[:, [0, 2]]).max(1) > 0.76)].all()
    assert not seen[~panel][wall & (abs(points[:, [0, 2]]).max(1) < 0.74)].any()


def test_orthographic():
    mesh = mesh_of(cube())
    texels = rasterize_uv(mesh, 64)
    seen = visible(texels, mesh, [orthographic((0, -4, 0))], NUMBA, 512)[0]
    np.testing.assert_array_equal(seen, texels.normal[:, 1] < -0.9999)


def test_thinner_than_a_pixel():
    """Needles that cover no pixel centre are still seen where nothing is in front."""
    mesh = mesh_of(needles())
    texels = rasterize_uv(mesh, 128)
    cameras = build_rig("auto", 2, mesh.positions)
    texels = sample(texels, 800)
    expected, cosine = truth(texels, mesh, cameras)
    seen = visible(texels, mesh, cameras, NUMBA, 256)
    assert (seen & expected)[abs(cosine) > 0.2].sum() > 0.9 * expected[abs(cosine) > 0.2].sum()


def test_any_back_end_and_few_views_at_a_time(monkeypatch):
    mesh = mesh_of(torus(16, 8))
    texels = rasterize_uv(mesh, 64)
    cameras = build_rig("auto", 3, mesh.positions)
    together = visible(texels, mesh, cameras, NUMBA, 96)
    other = visible(texels, mesh, cameras, pick_rasterizer("reference"), 96)
    assert (together == other).mean() > 0.9995
    monkeypatch.setattr("engine.raster.visibility.PIXELS", 1)
    np.testing.assert_array_equal(visible(texels, mesh, cameras, NUMBA, 96), together)


def test_no_views_and_no_texels():
    mesh = mesh_of(quad())
    texels = rasterize_uv(mesh, 16)
    assert visible(texels, mesh, [], NUMBA, 64).shape == (0, len(texels.index))
    nothing = sample(texels, 0)
    assert visible(nothing, mesh, [camera((0, -4, 0))], NUMBA, 64).shape == (1, 0)
