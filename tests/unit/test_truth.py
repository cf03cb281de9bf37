# SPDX-License-Identifier: Apache-2.0
"""The bake against a known texture, and the meshes that textures are judged on."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import meshes
from benchmarks.cells import markdown
from benchmarks.truth import pattern, truth
from engine.compare import best_of
from engine.mesh_io import load_mesh
from engine.spaces.uv.charts import chart_ids
from tests.painted import RASTERIZER


def test_views_of_a_known_texture_bake_back_to_it():
    """Six charts of a ball, 8 views of 192 px, texels as large as pixels: at least 40 dB, and no chart border shows.
    The measure itself is right to within 3 %: that much the true texture's own ratio is off."""
    found = truth(meshes.sphere(), RASTERIZER, size=192)
    assert found["coverage"] > 0.999 and found["psnr_db"] >= 40
    assert found["seam"] <= 1.02 and found["seam_true"] == pytest.approx(1, abs=0.03)
    assert found["owner_true"] == pytest.approx(1, abs=0.02)


def test_the_pattern_is_no_finer_than_it_says():
    """Over a step of 1/100 of its finest wave a colour changes by at most 2 pi / 100 of the sum of its amplitudes."""
    points = np.random.default_rng(1).uniform(-1, 1, (500, 3))
    paint = pattern(points, pixel=0.01)
    step = 0.24 / 100 * np.array([0.6, 0.0, 0.8])
    most = 0.3 * 2 * np.pi / 100 * 16 * 3 / np.sqrt(16)  # 16 waves, three deviations each
    assert 0 < np.abs(paint(points + step) - paint(points)).max() < most
    assert paint(points).std() > 0.1 and paint(points).min() >= 0 and paint(points).max() <= 1


def test_meshes_are_what_their_names_promise(tmp_path):
    chosen = ["vase", "mirrored", "chair"]
    files = meshes.write(tmp_path, chosen)
    assert [file.stem for file in files] == chosen and len(meshes.MESHES) >= 10
    for file in files:
        mesh, notes = load_mesh(file)
        assert not notes, "the file has its own UVs"
        assert len(np.unique(chart_ids(mesh.triangle_uvs))) >= 2 and mesh.uvs.min() >= 0 and mesh.uvs.max() <= 1
        assert 1 < np.ptp(mesh.positions, axis=0).max() < 3
    stamp = files[0].stat().st_mtime_ns
    meshes.write(tmp_path, chosen)
    assert files[0].stat().st_mtime_ns == stamp, "what is there is not made again"


def test_the_rock_is_large():
    mesh = meshes.rock()
    assert len(mesh.triangles) > 200_000 and len(np.unique(chart_ids(mesh.triangle_uvs))) == 54


@pytest.mark.parametrize("name", ["torus_knot", "spring", "cup", "sphere", "fins"])
def test_closed_meshes_face_outward(name):
    """The signed volume of a surface seen from outside is positive; open tubes are closed enough for that."""
    mesh = meshes.MESHES[name]()
    a, b, c = mesh.positions[mesh.triangles].astype(np.float64).transpose(1, 0, 2)
    assert (a * np.cross(b, c)).sum() / 6 > 0


def test_tables_set_the_best_in_bold():
    rows = {"one": {"agreement_db": 30, "seam_ratio": 1.3}, "two": {"agreement_db": 32, "seam_ratio": 0.95}, "no": {}}
    lines = markdown(("agreement_db", "seam_ratio", "clip"), rows, "row", best_of)
    assert lines[0] == "| row | agreement | chart seams |" and lines[1].count("---") == 3
    assert lines[2:] == ["| one | 30.0 dB | 1.30 |", "| two | **32.0 dB** | **0.95** |", "| no |  |  |"]
