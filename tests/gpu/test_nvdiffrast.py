# SPDX-License-Identifier: Apache-2.0
"""nvdiffrast on a real GPU draws what the reference draws, up to its 1/16 pixel."""

import numpy as np
import pytest

from blender_addon.jobs.rigs import build_rig
from engine.cameras import clip_positions
from engine.raster import MISSING, pick_rasterizer
from engine.raster.gbuffer import render_gbuffer
from engine.raster.texels import rasterize_uv
from engine.raster.visibility import visible
from tests.raster_rules import camera, disagreements, mesh_of
from tests.shapes import SHAPES, torus

REASON = MISSING["nvdiffrast"]()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(REASON), reason=f"nvdiffrast: {REASON}")]

COINCIDENT = {"duplicated", "zero_area", "l_shape"}  # which of two equally distant triangles it shows is not defined


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in COINCIDENT])
def test_agrees_with_reference(name):
    shape = SHAPES[name]()
    clip = clip_positions(shape.positions, build_rig("auto", 3, shape.positions))
    ids = pick_rasterizer("nvdiffrast", "cuda").triangle_ids(clip, shape.triangles, 80, 96)
    wrong = disagreements(ids, clip, shape.triangles, slack=1 / 16)
    assert len(wrong) <= (0.002 if name != "needles" else 0.01) * ids.size


@pytest.mark.parametrize("name", sorted(COINCIDENT))
def test_coincident_triangles_cover_the_same_pixels(name):
    shape = SHAPES[name]()
    clip = clip_positions(shape.positions, build_rig("auto", 3, shape.positions))
    ids = pick_rasterizer("nvdiffrast", "cuda").triangle_ids(clip, shape.triangles, 80, 96)
    expected = pick_rasterizer("numba").triangle_ids(clip, shape.triangles, 80, 96)
    assert ((ids >= 0) != (expected >= 0)).mean() < 0.005


def test_near_plane():
    shape = torus()
    clip = clip_positions(shape.positions, [camera((0.7, 0.0, 0.02), (0.68, 1.0, 0.1), fov=90, near=0.02, far=20)])
    ids = pick_rasterizer("nvdiffrast", "cuda").triangle_ids(clip, shape.triangles, 80, 96)
    assert len(disagreements(ids, clip, shape.triangles, slack=1 / 16)) <= 0.01 * ids.size


def test_more_than_2_to_the_24_triangles():
    """Ids above 2^24 are encoded by their bits: draw a small mesh after seventeen million triangles far away."""
    shape = torus(16, 8)
    filler = np.zeros((2**24 + 1000, 3), np.int32)  # no area
    clip = clip_positions(shape.positions, [camera((3, 1, 2))])
    expected = pick_rasterizer("numba").triangle_ids(clip, shape.triangles, 64, 64)
    ids = pick_rasterizer("nvdiffrast", "cuda").triangle_ids(clip, np.concatenate([filler, shape.triangles]), 64, 64)
    assert (np.where(ids >= 0, ids - len(filler), -1) != expected).mean() < 0.01


def test_the_rest_of_the_pipeline_does_not_notice():
    mesh = mesh_of(torus())
    cameras = build_rig("auto", 4, mesh.positions)
    gpu, cpu = pick_rasterizer("nvdiffrast", "cuda"), pick_rasterizer("numba")
    one, other = render_gbuffer(gpu, mesh, cameras, 128, 128), render_gbuffer(cpu, mesh, cameras, 128, 128)
    same = one.triangle == other.triangle
    assert same.mean() > 0.99
    np.testing.assert_array_equal(one.depth[same], other.depth[same])
    texels = rasterize_uv(mesh, 128)
    seen = visible(texels, mesh, cameras, gpu, 1024)
    assert (seen == visible(texels, mesh, cameras, cpu, 1024)).mean() > 0.999
