# SPDX-License-Identifier: Apache-2.0
"""UVs outside 0-1, UDIM tiles, faces that are seen but not painted: each comes out right or is refused in a sentence."""

from dataclasses import replace

import numpy as np
import pytest

from blender_addon.jobs.arrays import MeshArrays
from blender_addon.jobs.errors import MeshError, SettingsError
from blender_addon.jobs.rigs import build_rig
from engine.finish import complete, covered_share
from engine.finish.bake import prepare
from engine.finish.sheet import Sheet
from engine.mesh import from_arrays
from engine.opening import chosen_faces
from engine.tiles import PLAIN, lay_out
from tests import shapes
from tests.jobs import small_job
from tests.painted import RASTERIZER, colour_of, rendered_views

SIZE = 96


def arrays_of(shape, offsets=None) -> MeshArrays:
    """The shape with a tile offset [F,2] for each face."""
    uvs = shape.uvs[shape.triangle_uvs].reshape(-1, 2)
    if offsets is not None:
        uvs = uvs + np.repeat(offsets, 3, 0)
    corners = np.arange(len(uvs), dtype=np.int32).reshape(-1, 3)
    return MeshArrays(shape.positions, shape.triangles, uvs.astype(np.float32), corners)


def halves(shape) -> np.ndarray:
    """bool[F]: faces on the right."""
    return shape.positions[shape.triangles].mean(1)[:, 0] > 0


def painted(arrays, mode="auto", chosen=None, paint=colour_of):
    arrays, windows = lay_out(arrays, mode, chosen)
    mesh = from_arrays(arrays)
    cameras = build_rig("auto", 8, mesh.positions)
    sheets = [Sheet.blank(mesh, SIZE, window) for window in windows]
    sources = prepare(rendered_views(mesh, cameras, 128, paint), mesh, cameras, RASTERIZER)
    for sheet in sheets:
        sheet.gather(sources)
    coverage = covered_share(mesh, sheets)
    complete(mesh, sheets)
    return mesh, sheets, coverage


def fidelity(sheet, paint=colour_of) -> float:
    """PSNR over the seen texels of a sheet."""
    texels = sheet.texels
    seen = sheet.owner.reshape(-1)[texels.index] >= 0
    error = sheet.image.reshape(-1, 3)[texels.index] - paint(texels.position)
    return float(-10 * np.log10((error[seen] ** 2).mean()))


def test_a_plain_map_is_left_alone():
    shape = shapes.cylinder()
    arrays = MeshArrays(*shape)
    same, windows = lay_out(arrays)
    assert same is arrays and windows == PLAIN


@pytest.mark.parametrize(("offset", "mode"), [((3, 2), "auto"), ((-1, 0), "auto"), ((0, -4), "repeat"), ((3, 2), "repeat")])
def test_whole_charts_in_another_tile_are_painted_where_the_repeating_texture_shows_them(offset, mode):
    shape = shapes.torus()
    moved = arrays_of(shape, np.tile(np.array(offset), (len(shape.triangles), 1)))
    back, windows = lay_out(moved, mode)
    assert [w.name for w in windows] == [""]
    np.testing.assert_allclose(back.uvs[back.triangle_uvs], shape.uvs[shape.triangle_uvs], atol=1e-5)


def test_udim_tiles_get_a_texture_each_in_their_own_uvs():
    shape = shapes.uv_sphere(32, 16)
    offsets = np.where(halves(shape)[:, None], [1, 0], [0, 1])  # tiles 1002 and 1011, neither is 1001
    mesh, sheets, coverage = painted(arrays_of(shape, offsets))
    assert sorted(sheet.window.name for sheet in sheets) == ["1002", "1011"]
    for sheet in sheets:
        right = sheet.texels.position[:, 0].mean() > 0
        assert right == (sheet.window.name == "1002")
        uv = np.einsum("mk,mkc->mc", sheet.texels.barycentrics, sheet.mesh.uvs[sheet.mesh.triangle_uvs[sheet.texels.triangle]])
        row, column = np.divmod(sheet.texels.index, SIZE)
        inner = ~sheet.texels.border
        # the window gives back the artist's own UVs: a texel's point of the surface is where the artist put it
        np.testing.assert_allclose(uv[inner], np.stack([(column + 0.5) / SIZE, 1 - (row + 0.5) / SIZE], 1)[inner], atol=1e-4)
        assert fidelity(sheet) > 40
        assert (sheet.image > 0.001).any(2).all()  # no black texel, padding included
    assert coverage > 0.9


def test_tiles_of_one_udim_map_agree_at_their_common_border():
    shape = shapes.uv_sphere(32, 16)
    _, sheets, _ = painted(arrays_of(shape, np.where(halves(shape)[:, None], [1, 0], [0, 0])))
    a, b = (sheet.texels for sheet in sheets)
    one, other = (sheet.image.reshape(-1, 3)[sheet.texels.index] for sheet in sheets)
    from scipy.spatial import cKDTree

    away, near = cKDTree(b.position).query(a.position)
    close = away < 0.01
    assert close.sum() > 20
    assert np.abs(one[close] - other[near[close]]).max() < 0.08


def test_faces_that_are_not_painted_give_and_take_nothing():
    shape = shapes.uv_sphere(32, 16)
    right = halves(shape)
    uvs = shape.uvs.copy()
    stacked = arrays_of(shape._replace(uvs=uvs))
    # both halves on the same part of the map: what an object with two materials and a texture each looks like
    both = stacked.uvs.reshape(-1, 3, 2)
    both[~right, :, 0] = both[right, :, 0][: (~right).sum()] if right.sum() >= (~right).sum() else both[~right, :, 0]

    def red_and_blue(position):
        return np.where(position[..., :1] > 0, [0.8, 0.1, 0.1], [0.1, 0.1, 0.8])

    mesh, sheets, _ = painted(stacked, chosen=right, paint=red_and_blue)
    assert len(sheets) == 1 and sheets[0].window.name == ""
    shown = sheets[0].image.reshape(-1, 3)[sheets[0].texels.index]
    away = sheets[0].texels.position[:, 0] > 0.15  # the views mix the two colours at their border
    assert away.sum() > 500 and shown[away][:, 0].min() > 0.6 and shown[away][:, 2].max() < 0.3
    assert (sheets[0].texels.position[:, 0] > -0.05).all()


@pytest.mark.parametrize(("change", "mode", "words"), [
    (lambda uv: uv * 3, "auto", "across the border"),
    (lambda uv: uv + 0.4, "auto", "across the border"),
    (lambda uv: uv - 2, "udim", "UDIM has not"),
    (lambda uv: uv + [12, 0], "udim", "UDIM has not"),
])  # fmt: skip
def test_what_cannot_be_painted_is_refused_in_words(change, mode, words):
    shape = shapes.torus()
    arrays = arrays_of(shape._replace(uvs=change(shape.uvs).astype(np.float32)))
    with pytest.raises(MeshError, match=words) as refused:
        lay_out(arrays, mode)
    assert refused.value.action


def test_too_many_tiles_and_nothing_chosen_are_refused():
    shape = shapes.icosphere(2)
    spread = np.stack([np.arange(len(shape.triangles)) % 10, np.arange(len(shape.triangles)) // 10], 1)
    with pytest.raises(MeshError, match="at most 64"):
        lay_out(arrays_of(shape, spread))
    with pytest.raises(MeshError, match="No face"):
        lay_out(arrays_of(shape), "auto", np.zeros(len(shape.triangles), bool))


def test_faces_that_are_not_painted_may_lie_across_the_borders_of_tiles():
    shape = shapes.uv_sphere(32, 16)
    right = halves(shape)
    arrays = arrays_of(shape)
    corners = arrays.uvs.reshape(-1, 3, 2)
    corners[~right] = corners[~right] * 5 - 2
    with pytest.raises(MeshError, match="across the border"):
        lay_out(arrays)
    mesh, sheets, _ = painted(arrays, chosen=right)
    assert len(sheets) == 1 and fidelity(sheets[0]) > 40
    assert (sheets[0].texels.position[:, 0] > -0.05).all()


@pytest.mark.parametrize(("tile", "named"), [((0, 0), [""]), ((1, 0), ["1001", "1002"])])
def test_faces_without_area_on_a_border_make_no_texture_of_their_own(tile, named):
    """A face whose corners all are at u = 1 has its middle there, where tile 1002 begins."""
    shape = shapes.uv_sphere(32, 16)
    arrays = arrays_of(shape, np.where(halves(shape)[:, None], tile, [0, 0]))
    corners = arrays.uvs.reshape(-1, 3, 2)
    first, last = np.flatnonzero(~halves(shape))[0], np.flatnonzero(halves(shape))[0]
    corners[first] = [1, 0.5]
    corners[last] = np.float32(tile) + [1, 1]
    _, windows = lay_out(arrays)
    assert [window.name for window in windows] == named


def test_tiles_come_in_the_order_of_their_numbers():
    shape = shapes.uv_sphere(32, 16)
    number = np.arange(len(shape.triangles)) % 3
    _, windows = lay_out(arrays_of(shape, np.array([[0, 1], [9, 0], [1, 0]])[number]))
    assert [window.name for window in windows] == ["1002", "1010", "1011"]


def test_materials_that_nobody_has_numbered_are_refused():
    with pytest.raises(SettingsError, match=r"in Blender only") as refused:
        chosen_faces(small_job(slots="Moss"))
    assert refused.value.action
    chosen = chosen_faces(replace(small_job(slots="Moss"), objects=[{"name": "Rock", "paint": [1]}]))
    np.testing.assert_array_equal(chosen, [False, True, False, True])  # tests.jobs: materials 0, 1, 0, 1
