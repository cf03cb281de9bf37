# SPDX-License-Identifier: Apache-2.0
"""The UV map's texels: where they are on the surface, their border, overlaps, odd UV maps."""

import numpy as np
import pytest

from engine.raster.texels import BORDER, rasterize_uv
from tests.raster_rules import mesh_of
from tests.shapes import SHAPES, cube, grid, join, quad, separate_charts, torus


def centres(texels):
    """UV of the texel centres f64[M,2], from the contract: row r is at v = 1 - (r + 0.5) / size."""
    row, column = np.divmod(texels.index, texels.size)
    return np.stack([(column + 0.5) / texels.size, 1 - (row + 0.5) / texels.size], 1)


@pytest.mark.parametrize("name", SHAPES)
def test_invariants(name):
    mesh = mesh_of(SHAPES[name]())
    texels = rasterize_uv(mesh, 96)
    count = len(texels.index)
    assert count > 0 and texels.size == 96
    assert (np.diff(texels.index) > 0).all() and texels.index[0] >= 0 and texels.index[-1] < 96 * 96
    assert texels.index.dtype == np.int64 and texels.triangle.dtype == np.int32 and texels.border.dtype == bool
    weights = texels.barycentrics
    assert weights.dtype == np.float32 and weights.min() >= 0 and abs(weights.sum(1) - 1).max() < 1e-6
    corners = mesh.positions[mesh.triangles[texels.triangle]].astype(float)
    scale = np.ptp(mesh.positions, axis=0).max()
    np.testing.assert_allclose(texels.position, np.einsum("mk,mkd->md", weights, corners), atol=1e-5 * scale)
    assert abs(np.linalg.norm(texels.normal, axis=1) - 1).max() < 1e-5
    uv = np.einsum("mk,mkd->md", weights, mesh.uvs[mesh.triangle_uvs[texels.triangle]].astype(float))
    away = np.linalg.norm(uv - centres(texels), axis=1) * texels.size
    assert away[~texels.border].max(initial=0) < 1e-3  # snapping is 1/4096 texel
    assert away.max() <= BORDER + 1e-3


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("size", [37, 128])
def test_every_bilinear_lookup_finds_four_texels(name, size):
    """A border of 1.42 texels is enough, anywhere on the surface, also for triangles without area in the UV map."""
    mesh = mesh_of(SHAPES[name]())
    texels = rasterize_uv(mesh, size)
    random = np.random.default_rng(0)
    triangle = random.integers(0, len(mesh.triangles), 20000)
    weights = random.dirichlet((0.5, 0.5, 0.5), 20000)
    weights[:3000] = np.eye(3)[random.integers(0, 3, 3000)]  # corners are the hardest
    uv = np.einsum("mk,mkd->md", weights, mesh.uvs[mesh.triangle_uvs[triangle]].astype(float))
    x, y = uv[:, 0] * size - 0.5, (1 - uv[:, 1]) * size - 0.5
    full = np.zeros(size * size, bool)
    full[texels.index] = True
    for dy in (0, 1):
        for dx in (0, 1):
            column = np.clip(np.floor(x).astype(int) + dx, 0, size - 1)
            row = np.clip(np.floor(y).astype(int) + dy, 0, size - 1)
            assert full[row * size + column].all()


def test_smaller_border_is_not_enough():
    """The test above can fail: with a border of half a texel it does."""
    mesh = mesh_of(torus())
    assert len(rasterize_uv(mesh, 64, border=0).index) < len(rasterize_uv(mesh, 64, border=0.5).index)
    assert not rasterize_uv(mesh, 64, border=0).border.any()
    assert len(rasterize_uv(mesh, 64, border=0.5).index) < len(rasterize_uv(mesh, 64).index)


def test_border_is_every_texel_within_reach_and_takes_the_nearest_point():
    """Against distances to all triangles, by brute force."""
    mesh = mesh_of(SHAPES["icosphere"](0))
    size = 48
    texels = rasterize_uv(mesh, size)
    corners = mesh.uvs[mesh.triangle_uvs].astype(float) * size
    rows, columns = np.mgrid[:size, :size]
    points = np.stack([columns + 0.5, size - rows - 0.5], -1).reshape(-1, 1, 2)
    start, end = corners, corners[:, [1, 2, 0]]
    best = np.full((size * size, len(corners)), np.inf)
    for edge in range(3):
        a, b = start[:, edge], end[:, edge]
        t = np.clip(((points - a) * (b - a)).sum(2) / ((b - a) ** 2).sum(1), 0, 1)
        best = np.minimum(best, np.linalg.norm(points - a - t[..., None] * (b - a), axis=2))
    inner = np.zeros(size * size, bool)
    inner[texels.index[~texels.border]] = True
    reached = np.flatnonzero(~inner & (best.min(1) <= BORDER - 1e-6))
    drawn = texels.index[texels.border]
    assert set(reached) <= set(drawn) and best[drawn].min(1).max() <= BORDER + 1e-6
    chosen = best[drawn, texels.triangle[texels.border]]
    np.testing.assert_allclose(chosen, best[drawn].min(1), atol=1e-3)
    uv = np.einsum("mk,mkd->md", texels.barycentrics, mesh.uvs[mesh.triangle_uvs[texels.triangle]].astype(float))
    away = np.linalg.norm(uv - centres(texels), axis=1)[texels.border] * size
    np.testing.assert_allclose(away, best[drawn].min(1), atol=1e-3)


def test_rows_run_down_from_v_one():
    sheet = grid(1, 1, lambda s, t: np.stack([s, t, 0 * s], 1))
    texels = rasterize_uv(mesh_of(sheet._replace(uvs=np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32))), 8)
    assert texels.index.tolist() == list(range(64)) and not texels.border.any()
    np.testing.assert_allclose(texels.position[:, :2], centres(texels), atol=1e-6)
    assert texels.position[0].tolist() == pytest.approx([1 / 16, 15 / 16, 0])


def test_overlap():
    once, twice = cube(), join(cube(), cube())
    stacked = twice._replace(uvs=np.concatenate([once.uvs, once.uvs]))
    proper, double = rasterize_uv(mesh_of(once), 64), rasterize_uv(mesh_of(stacked), 64)
    assert proper.overlap == 1 and proper.overlap_share == 0
    assert double.overlap == 2 and double.overlap_share == 1
    assert (double.triangle < len(once.triangles)).all()
    np.testing.assert_array_equal(double.index, proper.index)


def test_neighbours_leave_no_gap_and_no_overlap_on_texel_centres():
    """Edges that run exactly through texel centres: each texel has one owner (top-left rule)."""
    sheet = grid(8, 8, lambda s, t: np.stack([s, t, 0 * s], 1))
    steps = np.rint((sheet.uvs - 0.03) / 0.94 * 8)  # 0..8
    texels = rasterize_uv(mesh_of(sheet._replace(uvs=(steps * 1.75 + 0.5).astype(np.float32) / 16)), 16)
    assert texels.overlap == 1
    assert np.count_nonzero(~texels.border) == 14 * 14


def test_map_on_one_point():
    mesh = mesh_of(cube()._replace(uvs=np.full_like(cube().uvs, 0.5)))
    texels = rasterize_uv(mesh, 32)
    assert texels.border.all() and 4 <= len(texels.index) <= 16 and texels.overlap == 0


def test_triangles_smaller_than_a_texel():
    """A whole mesh within one texel still has that texel and its neighbours."""
    sphere = SHAPES["icosphere"]()
    mesh = mesh_of(sphere._replace(uvs=sphere.uvs * np.float32(0.001) + np.float32(0.7)))
    assert len(rasterize_uv(mesh, 64).index) >= 4


def test_tiny_and_odd_sizes():
    mesh = mesh_of(quad())
    assert rasterize_uv(mesh, 1).index.tolist() == [0]
    assert rasterize_uv(mesh, 3).index.tolist() == list(range(9))
    assert rasterize_uv(mesh, 65).index[-1] < 65 * 65


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_matter(monkeypatch, threads):
    mesh = mesh_of(separate_charts(*SHAPES["random_soup"]()[:2]))
    expected = rasterize_uv(mesh, 200)
    monkeypatch.setattr("engine.raster.scan.thread_count", lambda: threads)
    monkeypatch.setattr("engine.raster.jit.thread_count", lambda: threads)
    texels = rasterize_uv(mesh, 200)
    for name in ("index", "triangle", "barycentrics", "border", "position", "normal"):
        np.testing.assert_array_equal(getattr(texels, name), getattr(expected, name))
