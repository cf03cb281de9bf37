# SPDX-License-Identifier: Apache-2.0
"""Objects with the same UVs and a texture each: names, layout, limits, colours, and what stays bit for bit."""

from dataclasses import replace

import numpy as np
import pytest

from blender_addon.flow import check_result
from blender_addon.jobs.errors import EngineError, JobError, MeshError, SettingsError
from blender_addon.jobs.folder import owner_file, read_job, read_result, write_job
from blender_addon.jobs.png import png_bytes
from blender_addon.jobs.uv_tiles import in_set, place_of, sets_of, textures_of
from engine.changed import changed_colour, composed
from engine.finish import complete, fill_sheets
from engine.finish.bake import Baked, prepare
from engine.finish.sheet import Sheet
from engine.given import read_given
from engine.mesh import from_arrays, mesh_remarks
from engine.opening import chosen_faces, sets_of_faces
from engine.tiles import lay_out, share_of
from engine.warm import Models
from tests import shapes
from tests.jobs import small_job
from tests.painted import RASTERIZER, rendered_views
from tests.tiny_models import SWATCH_SCHEDULER, write_tiny_model
from tests.unit.test_given_tiles import SIZE, above, job_of, random_picture, run
from tests.unit.test_tiles import arrays_of


def pair(apart=3.0, one=None, **settings):
    """Two rings, or other shapes, side by side with the same UVs: their shape and the job."""
    one = one or shapes.torus(32, 16)
    count = len(one.triangles)
    both = one._replace(
        positions=np.concatenate([one.positions, one.positions + np.float32([apart, 0, 0])]),
        triangles=np.concatenate([one.triangles, one.triangles + len(one.positions)]).astype(np.int32),
        triangle_uvs=np.concatenate([one.triangle_uvs, one.triangle_uvs]),
    )
    whose = np.repeat(np.int32([0, 1]), count)
    arrays = replace(arrays_of(both), objects=whose, materials=np.zeros(2 * count, np.int32))
    records = [{"name": "A", "uv_map": "UVMap", "texture": 1}, {"name": "B", "uv_map": "UVMap", "texture": 2}]
    return both, job_of(arrays, records, **settings)


def painted(job, paint, views=128):
    arrays, windows = lay_out(job.mesh, "auto", chosen_faces(job), sets_of_faces(job))
    mesh = from_arrays(arrays)
    sheets = [Sheet.blank(mesh, 96, window) for window in windows]
    sources = prepare(rendered_views(mesh, job.cameras, views, paint), mesh, job.cameras, RASTERIZER)
    for sheet in sheets:
        sheet.gather(sources)
    return mesh, sheets


# ---- names


@pytest.mark.parametrize(("name", "place"), [
    ("", (0, 0)), ("1001", (0, 1001)), ("set1", (1, 0)), ("set64", (64, 0)), ("set2.1011", (2, 1011)), ("set65", None),
    ("set0", None), ("set01", None), ("set", None), ("set1.", None), ("set1.999", None), ("set1.2001", None), (".1001", None),
    ("set11001", None), ("1001.set1", None), ("set١", None), ("set1\n", None), ("SET1", None),
])  # fmt: skip
def test_a_name_says_the_set_and_the_tile(name, place):
    assert place_of(name) == place
    if place:
        assert in_set(place[0], str(place[1] or "")) == name


def test_the_files_of_a_result_go_by_set_and_tile(tmp_path):
    (tmp_path / "out").mkdir()

    def found(*names, plain=True):
        images = {name: f"out/{name}.png" for name in (*names, *(["base_color"] if plain else []))}
        for path in images.values():
            (tmp_path / path).touch()
        places = check_result(tmp_path, {"images": images})
        return {number: list(tiles) for number, tiles in places.items()}

    assert found() == {0: [0]} and found("base_color.1002", "base_color.1001") == {0: [1001, 1002]}
    names = ("base_color.set2.1002", "base_color.set1", "base_color.set2.1001")
    assert found(*names) == {1: [0], 2: [1001, 1002]}
    for wrong in (("base_color.set1", "base_color.1001"), ("base_color.set1", "base_color.set1.1001"), ("base_color.",),
                  ("base_color.set1.5",), ("base_color.set99",)):  # fmt: skip
        with pytest.raises(EngineError):
            found(*wrong)


# ---- which faces have which texture


def test_each_set_has_textures_as_if_it_were_alone():
    tile = np.array([[0, 0], [1, 0], [0, 0], [-2, 5], [7, 0]])
    number = np.array([1, 1, 2, 3, 4])
    found = sets_of(tile, number, "auto", np.array([True, True, True, True, False]))
    assert found.names == ("set1.1001", "set1.1002", "set2", "set3")
    np.testing.assert_array_equal(found.cell, [0, 1, 2, 3, -1])
    assert sets_of(tile[:3], number[:3], "repeat").names == ("set1", "set2")
    with pytest.raises(MeshError, match="UDIM has not"):
        sets_of(tile, number, "udim")


def test_at_most_64_textures():
    """Of 40 objects with one tile and 12 with two: 64, which may be; one more object is refused."""
    number = np.array([*range(1, 41), *np.repeat(np.arange(41, 54), 2)])
    tile = np.stack([np.append(np.zeros(40, int), np.tile([0, 1], 13)), np.zeros(66, int)], 1)
    assert len(sets_of(tile[:64], number[:64]).names) == 64
    with pytest.raises(MeshError, match="66 textures; at most 64") as refused:
        sets_of(tile, number)
    assert refused.value.action
    with pytest.raises(MeshError, match="No face"):
        sets_of(tile, number, "auto", np.zeros(66, bool))


def test_without_sets_nothing_is_different():
    _, job = pair()
    alone = replace(job, objects=[{"name": "A", "uv_map": "UVMap"}, {"name": "B", "uv_map": "UVMap"}])
    assert sets_of_faces(alone) is None
    assert lay_out(job.mesh)[0] is job.mesh
    assert textures_of(np.zeros((4, 2), np.int64)).names == ("",)


def test_sets_lie_apart_in_the_common_square():
    shape, job = pair()
    arrays, windows = lay_out(job.mesh, "auto", None, sets_of_faces(job))
    assert [(window.name, window.number) for window in windows] == [("set1", 1), ("set2", 2)]
    mesh = from_arrays(arrays)
    first = np.arange(len(mesh.triangles)) < len(mesh.triangles) // 2
    for window, own in zip(windows, (first, ~first), strict=True):
        np.testing.assert_array_equal(window.holds(mesh), own)
        local = window.of(mesh)
        np.testing.assert_allclose(local.uvs[local.triangle_uvs[own]], shape.uvs[shape.triangle_uvs][own], atol=1e-5)


def test_cells_that_are_nobodys_are_no_waste_of_the_map():
    """Of 4 cells 2 are in use and each UV map covers 0.94^2 * 0.45 = 40 % of its square: less than 20 % of the common one."""
    _, job = pair()
    mesh = replace(job.mesh, uvs=job.mesh.uvs * np.float32([0.45, 1]))
    arrays, windows = lay_out(mesh, "auto", None, sets_of_faces(job))
    assert share_of(windows) == pytest.approx(2 * (0.96 / 2) ** 2)
    laid = from_arrays(arrays)
    assert any("uses only" in remark for remark in mesh_remarks(laid))
    assert not any("uses only" in remark for remark in mesh_remarks(laid, share_of(windows)))
    assert any("uses only" in remark for remark in mesh_remarks(laid, 2.2 * share_of(windows)))


def test_an_object_that_is_not_painted_has_no_texture():
    _, job = pair()
    job.objects[0].pop("texture")
    with pytest.raises(JobError, match="texture of object 0 is None"):
        sets_of_faces(job)
    job.objects[0]["paint"] = []
    sets = sets_of_faces(job)
    assert sets.tolist() == [0] * (len(sets) // 2) + [2] * (len(sets) // 2)
    _, windows = lay_out(job.mesh, "auto", chosen_faces(job), sets)
    assert [window.name for window in windows] == ["set2"]


@pytest.mark.parametrize("wrong", [0, -1, 65, "1", True, 1.0, [1]])
def test_records_that_make_no_sense_are_refused(wrong):
    _, job = pair()
    job.objects[1]["texture"] = wrong
    with pytest.raises(JobError, match="texture of object 1"):
        sets_of_faces(job)
    with pytest.raises(JobError, match="which faces are whose"):
        sets_of_faces(replace(job, objects=[{"name": "A", "texture": 1}]))


def test_a_mesh_file_is_one_object():
    with pytest.raises(SettingsError, match="in Blender only") as refused:
        sets_of_faces(replace(small_job(atlas="each"), objects=[{"name": "Rock"}]))
    assert refused.value.key == "atlas" and refused.value.action
    assert sets_of_faces(small_job(atlas="one")) is None


# ---- colours


def test_no_colour_of_one_object_is_on_the_other():
    """Two squares in one plane that touch at x = 1: the red one is seen left of x = 0 only, the blue one everywhere. What is
    not seen of the red one lies nearer to the blue, and is red. As one object it would be half blue."""

    def reddest(job):
        arrays, windows = lay_out(job.mesh, "auto", None, sets_of_faces(job))
        mesh = from_arrays(arrays)
        sheets = [Sheet.blank(mesh, 96, window) for window in windows]
        for sheet in sheets:
            texels = sheet.texels
            red, seen = texels.position[:, 0] < 1, (texels.position[:, 0] < 0) | (texels.position[:, 0] > 1)
            sheet.image.reshape(-1, 3)[texels.index] = np.where(red[:, None], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]) * seen[:, None]
            sheet.owner.reshape(-1)[texels.index] = np.where(seen, 0, -1)
        fill_sheets(sheets)
        shown = sheets[0].image.reshape(-1, 3)[sheets[0].texels.index]
        return float(shown[sheets[0].texels.position[:, 0] < 1, 0].min())

    _, job = pair(2.0, shapes.quad())
    assert reddest(job) == pytest.approx(0.8, abs=1e-3)
    side_by_side = replace(job.mesh, uvs=job.mesh.uvs * np.float32([0.5, 1]) + np.repeat(np.float32([[0, 0], [0.5, 0]]), 6, 0))
    assert reddest(replace(job, mesh=side_by_side, objects=[{"name": "A"}])) < 0.6


def test_an_object_that_no_view_sees_is_filled_from_the_others():
    _, job = pair(0.1, shapes.icosphere(3))
    job.mesh.positions[: len(job.mesh.positions) // 2] *= np.float32(0.5)  # one in the other
    mesh, sheets = painted(job, lambda position: np.broadcast_to([0.2, 0.6, 0.3], position.shape))
    assert (sheets[0].owner < 0).all() and (sheets[1].owner >= 0).any()
    complete(mesh, sheets)
    shown = sheets[0].image.reshape(-1, 3)[sheets[0].texels.index]
    np.testing.assert_allclose(shown, np.tile([0.2, 0.6, 0.3], (len(shown), 1)), atol=0.05)


# ---- edits


PICTURES = {"base_color.set1": random_picture(seed=1), "base_color.set2": random_picture(channels=4, dtype=np.uint16)}


def opened(tmp_path, job, pictures):
    """As the engine reads it."""
    folder = write_job(tmp_path, job, {kind: png_bytes(pixels) for kind, pixels in pictures.items()})
    job = read_job(folder)
    arrays, windows = lay_out(job.mesh, "auto", chosen_faces(job), sets_of_faces(job))
    mesh = from_arrays(arrays)
    return read_given(folder, job, mesh, windows), mesh, job


def test_outside_the_region_every_bit_of_every_texture_comes_back(tmp_path):
    shape, job = pair(feather=2)
    region = above(shape)
    region[len(region) // 2 :] = 0  # of the first object only
    _, job = pair(feather=2, faces=region)
    given, mesh, job = opened(tmp_path, job, PICTURES)
    assert given.sets() == [given.skins[0].rows, given.skins[1].rows]
    colour = np.random.default_rng(1).random((len(given.texels.index), 3)).astype(np.float32)
    first, second = composed(given, colour, 16)
    np.testing.assert_array_equal(second, PICTURES["base_color.set2"])
    inside = np.zeros(SIZE * SIZE, bool)
    inside[given.skins[0].texels.index] = region[given.skins[0].texels.triangle, 0]
    inside = inside.reshape(SIZE, SIZE)
    assert 0.3 < inside.mean() < 0.7 and np.array_equal(first[~inside], PICTURES["base_color.set1"][~inside])
    assert (first != PICTURES["base_color.set1"])[inside].any(1).mean() > 0.8


def test_unseen_texels_of_an_edit_take_colours_of_their_own_object(tmp_path):
    _, job = pair(2.02, shapes.icosphere(3), start="nothing", method="edit")
    given, mesh, job = opened(tmp_path, job, PICTURES)
    second = given.faces[given.texels.triangle] == 1
    x = given.texels.position[:, 0] - np.where(second, 2.02, 0)
    seen = np.where(second, x > -0.5, x < 0.5)  # between the two nothing is seen
    colour = np.where(second[:, None], [0, 0, 1], [1, 0, 0]).astype(np.float32)
    shown = np.where(seen[:, None], colour, 0).astype(np.float32)
    baked = Baked(shown, seen.astype(np.float32), np.where(seen, 0, -1).astype(np.int16))
    np.testing.assert_allclose(changed_colour(given, baked, None, 0.0), colour, atol=1e-4)


@pytest.mark.parametrize(("missing", "words"), [("base_color.set2", "no texture of set2"), ("region.set1", "no mask of set1")])
def test_a_picture_that_is_missing_is_named(tmp_path, missing, words):
    _, job = pair(region="mask")
    pictures = PICTURES | {"region.set1": random_picture(8, 1), "region.set2": random_picture(8, 1)}
    del pictures[missing]
    with pytest.raises(SettingsError, match=words):
        opened(tmp_path, job, pictures)


# ---- whole jobs


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_tiny_model(tmp_path_factory.mktemp("tiny"), SWATCH_SCHEDULER, codec="LinearPatchCodec"))


@pytest.fixture(scope="module")
def models():
    return Models()


@pytest.mark.parametrize("start", ["nothing", "texture"])
def test_a_whole_job_makes_a_texture_and_a_map_of_owners_for_each(tmp_path, model, models, start):
    _, job = pair(model=model, start=start, strength=0.8, contact_sheet=True, save_views=True)
    folder, images, report = run(tmp_path, job, PICTURES if start == "texture" else {}, models)
    assert set(images) == {"base_color", "base_color.set1", "base_color.set2"} and report["textures"] == 2
    assert not np.array_equal(images["base_color.set1"], images["base_color.set2"][..., :3])
    assert (folder / owner_file("set1")).is_file() and (folder / owner_file("set2")).is_file()
    assert not (folder / owner_file("")).exists()


def test_a_whole_job_of_udim_tiles_and_a_plain_texture(tmp_path, model, models):
    _, job = pair(model=model, start="nothing")
    right = job.mesh.positions[job.mesh.triangles].mean(1)[:, 0] > 3
    job.mesh.uvs[np.repeat(right, 3)] += np.float32([1, 0])
    folder, images, report = run(tmp_path, job, {}, models)
    assert set(images) == {"base_color", "base_color.set1", "base_color.set2.1001", "base_color.set2.1002"}
    assert report["textures"] == 3
    found = check_result(folder, read_result(folder))
    assert {number: list(tiles) for number, tiles in found.items()} == {1: [0], 2: [1001, 1002]}
