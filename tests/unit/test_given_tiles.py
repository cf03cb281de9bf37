# SPDX-License-Identifier: Apache-2.0
"""Textures of UDIM tiles and of some materials: seen in the views, changed where they may be, kept bit for bit elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from blender_addon.jobs.errors import JobError, SettingsError
from blender_addon.jobs.folder import Job, MeshArrays, new_job_id, owner_file, read_job, write_job
from blender_addon.jobs.png import png_bytes
from blender_addon.jobs.rigs import build_rig
from blender_addon.jobs.settings import resolve
from engine.changed import composed
from engine.given import given_views, read_given
from engine.mesh import from_arrays
from engine.opening import chosen_faces
from engine.pictures import decode_png
from engine.progress import Progress
from engine.raster.gbuffer import render_gbuffer
from engine.region import texel_sizes
from engine.run import run_job
from engine.spaces.uv import UVTexture
from engine.texture import Pictures, with_pictures
from engine.tiles import lay_out
from engine.warm import Models
from tests.painted import RASTERIZER
from tests.shapes import grid, icosphere, torus
from tests.tiny_models import SWATCH_SCHEDULER, write_tiny_model
from tests.unit.test_edit_models import tiny  # noqa: F401  a fixture

SIZE = 64


def random_picture(size=SIZE, channels=3, dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (size, size, channels))
    return values.astype(dtype)


def halves(shape) -> np.ndarray:
    """bool[F]: faces on the right."""
    return np.asarray(shape.positions)[shape.triangles].mean(1)[:, 0] > 0


def moved(shape, offsets, **more) -> MeshArrays:
    """The shape with a tile offset [F,2] for each face."""
    uvs = shape.uvs[shape.triangle_uvs] + np.asarray(offsets, np.float32)[:, None]
    corners = np.arange(uvs.size // 2, dtype=np.int32).reshape(-1, 3)
    return MeshArrays(np.asarray(shape.positions, np.float32), shape.triangles, uvs.reshape(-1, 2).astype(np.float32),
                      corners, **more)  # fmt: skip


def tiled(shape, **settings) -> Job:
    """Its right half lies in tile 1002 and the left in 1011."""
    return job_of(moved(shape, np.where(halves(shape)[:, None], [1, 0], [0, 1])), **settings)


def slotted(shape, **settings) -> Job:
    """Its right half has the second of two materials, which alone is painted; both halves use the same part of the square."""
    right = halves(shape)
    mesh = moved(shape, np.zeros((len(right), 2)), objects=np.zeros(len(right), np.int32), materials=right.astype(np.int32))
    corners = mesh.uvs.reshape(-1, 3, 2)
    corners[~right] = corners[right][: (~right).sum()] if right.sum() >= (~right).sum() else corners[~right]
    return job_of(mesh, objects=[{"name": "Ball", "slots": [0, 1], "paint": [1]}], **settings)


def job_of(mesh: MeshArrays, objects=None, faces=None, **settings) -> Job:
    given = {"prompt": "x", "views": 4, "steps": 2, "texture_size": SIZE, "view_size": 64, "start": "texture",
             "device": "cpu", "seed": 5, **settings}  # fmt: skip
    if faces is not None:
        mesh, given = replace(mesh, region=faces.astype(np.float32)), {"region": "faces", **given}
    return Job(new_job_id(), resolve(given), mesh, build_rig("auto", 4, mesh.positions), objects or [{"name": "Ball"}], {})


def above(shape, height=0.0) -> np.ndarray:
    """A region [F,3] of whole faces: those whose centre lies above."""
    return np.repeat((np.asarray(shape.positions)[shape.triangles].mean(1)[:, 2] > height)[:, None], 3, 1)


def given_of(tmp_path, job, pictures):
    folder = write_job(tmp_path, job, {kind: png_bytes(pixels) for kind, pixels in pictures.items()})
    job = read_job(folder)
    arrays, windows = lay_out(job.mesh, job.settings["uv_tiles"], chosen_faces(job))
    mesh = from_arrays(arrays)
    return read_given(folder, job, mesh, windows), mesh, job


SKINS = {"base_color.1002": random_picture(seed=1), "base_color.1011": random_picture(seed=2)}


# ---- the job folder


def test_pictures_of_tiles_travel_inside_the_folder(tmp_path):
    pictures = SKINS | {"region.1002": random_picture(8, 1), "region.1011": random_picture(16, 1)}
    folder = write_job(tmp_path, tiled(torus(16, 8)), {kind: png_bytes(pixels) for kind, pixels in pictures.items()})
    inputs = read_job(folder).inputs
    assert inputs == {kind: f"inputs/{kind}.png" for kind in pictures}
    assert np.array_equal(decode_png((folder / inputs["base_color.1011"]).read_bytes(), "x"), SKINS["base_color.1011"])


@pytest.mark.parametrize("kind", ["style.1001", "base_color.", "base_color.1", "base_color.1000", "base_color.2001",
                                  "base_color.١٠٠١", "base_color.1001.1", "region.x", "owner.1001", "base_color.10010"])  # fmt: skip
def test_kinds_that_there_are_not_are_refused(tmp_path, kind):
    folder = write_job(tmp_path, tiled(torus(16, 8)), {"base_color.1002": png_bytes(random_picture())})
    record = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps(record | {"inputs": {kind: "inputs/base_color.1002.png"}}))
    with pytest.raises(JobError, match="input"):
        read_job(folder)


@pytest.mark.parametrize(("kind", "settings", "key", "words"), [
    ("base_color.1011", {}, "start", "no texture of the UDIM tile 1011"),
    ("base_color.1002", {"start": "nothing", "method": "edit"}, "method", "no texture of the UDIM tile 1002"),
    ("region.1002", {"region": "mask"}, "region_mask", "no mask of the UDIM tile 1002"),
])  # fmt: skip
def test_a_tile_that_is_missing_is_named(tmp_path, kind, settings, key, words):
    pictures = SKINS | {"region.1002": random_picture(8, 1), "region.1011": random_picture(8, 1)}
    del pictures[kind]
    with pytest.raises(SettingsError, match=words) as caught:
        given_of(tmp_path, tiled(torus(16, 8), **settings), pictures)
    assert caught.value.key == key and caught.value.action


def test_one_picture_is_none_for_tiles_and_tiles_are_none_for_one_texture(tmp_path):
    with pytest.raises(SettingsError, match="no texture of the UDIM tile 1002"):
        given_of(tmp_path / "a", tiled(torus(16, 8)), {"base_color": random_picture()})
    with pytest.raises(SettingsError, match="no texture that is one for all"):
        given_of(tmp_path / "b", tiled(torus(16, 8), uv_tiles="repeat"), SKINS)


def test_sizes_are_weighed_before_a_picture_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.given.read_picture", lambda path: pytest.fail("read"))
    with pytest.raises(JobError, match=r"base_color\.1011\.png: is 128 x 128 pixels; the job's texture_size is 64"):
        given_of(tmp_path, tiled(torus(16, 8)), SKINS | {"base_color.1011": random_picture(128)})


# ---- what may change


@pytest.mark.parametrize("feather", [0, 3])
def test_outside_the_region_every_bit_of_every_tile_comes_back(tmp_path, feather):
    """Tiles of different kinds: 16 bits with alpha and 8 bits without; unchosen faces and padding of both."""
    shape = torus(32, 16)
    region = above(shape, 0.2)
    pictures = {"base_color.1002": random_picture(channels=4, dtype=np.uint16), "base_color.1011": random_picture(seed=2)}
    given, mesh, job = given_of(tmp_path, tiled(shape, faces=region, feather=feather), pictures)
    colour = np.random.default_rng(1).random((len(given.texels.index), 3)).astype(np.float32)
    for skin, out, right in zip(given.skins, composed(given, colour, 16), (True, False), strict=True):
        picture = pictures[f"base_color.{skin.window.name}"]
        assert out.dtype == picture.dtype and out.shape == picture.shape
        assert (halves(shape)[skin.texels.triangle] == right).all()
        inside = np.zeros(SIZE * SIZE, bool)
        inside[skin.texels.index] = region[skin.texels.triangle, 0]
        inside = inside.reshape(SIZE, SIZE)
        assert 0.05 < inside.mean() < 0.5
        assert np.array_equal(out[~inside], picture[~inside]) and np.array_equal(out[..., 3:], picture[..., 3:])
        full = given.share[skin.rows] == 1
        assert full.any() and (feather == 0) == bool(full[given.share[skin.rows] > 0].all())
        expected = np.round(colour[skin.rows][full].astype(np.float64) * np.iinfo(picture.dtype).max)
        np.testing.assert_array_equal(out.reshape(-1, out.shape[2])[skin.texels.index[full], :3], expected)


def test_masks_are_of_their_own_tile(tmp_path):
    """The upper half of tile 1002 is white and 1011 is black; a texel of the space in which the views meet asks the same."""
    shape = torus(32, 16)
    white = np.zeros((16, 8, 1), np.uint8)
    white[:8] = 255
    pictures = SKINS | {"region.1002": white, "region.1011": np.zeros((8, 8, 1), np.uint8)}
    given, mesh, job = given_of(tmp_path, tiled(shape, region="mask", feather=0), pictures)
    one, other = given.skins
    row = one.texels.index // SIZE
    assert (given.share[one.rows][row < 30] == 1).all() and (given.share[one.rows][row > 33] == 0).all()
    assert (given.share[other.rows] == 0).all()
    space = UVTexture(mesh, job.cameras, RASTERIZER, 64, channels=3)
    may = given.may_change(space.texels, mesh)
    right = halves(shape)[space.texels.triangle]
    v = np.einsum("mk,mkc->mc", space.texels.barycentrics, shape.uvs[shape.triangle_uvs[space.texels.triangle]])[:, 1]
    assert (may[~right] == 0).all() and (may[right & (v > 0.57)] == 1).all() and (may[right & (v < 0.43)] == 0).all()
    assert (right & (v > 0.57)).sum() > 50


def test_the_feather_does_not_stop_at_the_border_of_a_tile(tmp_path):
    """A sheet two units wide, the left one in tile 1001 and chosen, the right in 1002: texels are 1/64 in both, so k texels
    from the common border the share is smoothstep((k - 1/2) / 8)."""
    shape = grid(2, 1, lambda s, t: np.stack([2 * s, t, 0 * s], 1))
    left = shape.positions[shape.triangles].mean(1)[:, 0] < 1
    mesh = moved(shape._replace(uvs=shape.uvs * np.float32([2, 1])), np.where(left[:, None], [0, 0], [0, 0]))
    job = job_of(mesh, faces=np.repeat(left[:, None], 3, 1), feather=8)
    given, _, _ = given_of(tmp_path, job, {"base_color.1001": random_picture(), "base_color.1002": random_picture()})
    one, other = given.skins
    away = SIZE - one.texels.index % SIZE
    t = np.clip((away - 0.5) / 8, 0, 1)
    np.testing.assert_allclose(given.share[one.rows], t * t * (3 - 2 * t), atol=2e-3)
    assert (given.share[other.rows] == 0).all()


def test_a_region_of_faces_that_are_not_painted_is_refused_in_words(tmp_path):
    shape = torus(32, 16)
    region = np.repeat(~halves(shape)[:, None], 3, 1)
    with pytest.raises(SettingsError, match="None of the chosen faces is painted"):
        given_of(tmp_path, slotted(shape, faces=region), {"base_color": random_picture()})


# ---- the views


def by_position(given, mesh) -> None:
    """Give the pictures the positions of their texels as colours, and bright green between the charts."""
    low, high = mesh.positions.min(0), mesh.positions.max(0)
    for skin in given.skins:
        skin.picture[:] = np.uint8([0, 255, 0])
        skin.picture.reshape(-1, 3)[skin.texels.index] = np.round((skin.texels.position - low) / (high - low) * 255)


@pytest.mark.parametrize("size", [128, 512])  # coarser and finer than the texture in which the views meet
@pytest.mark.parametrize("kind", ["tiles", "slots"])
def test_views_show_each_texture_where_it_is(tmp_path, size, kind):
    """Positions as colours: each pixel shows its own. Faces that are not painted go on in the colours at their border:
    the plane x = 0 through the middle, so red there stays near the middle of its range."""
    shape = torus(48, 24)
    tiles = kind == "tiles"
    job = (tiled if tiles else slotted)(shape, texture_size=size)
    names = ("base_color.1002", "base_color.1011") if tiles else ("base_color",)
    given, mesh, job = given_of(tmp_path, job, {name: random_picture(size) for name in names})
    by_position(given, mesh)
    gbuffer = render_gbuffer(RASTERIZER, mesh, job.cameras, 96, 96)
    space = UVTexture(mesh, job.cameras, RASTERIZER, 96, channels=3)
    views, region = given_views(given, space, mesh, gbuffer)
    assert region is None
    low, high = mesh.positions.min(0), mesh.positions.max(0)
    found = views.permute(0, 2, 3, 1).numpy()
    known = gbuffer.mask & (given.faces[gbuffer.triangle] >= 0)
    off = np.abs(found[known] - ((gbuffer.position[known] - low) / (high - low) * 2 - 1))
    step = 2.2 / 96 + texel_sizes(given.texels, given.skins[0].mesh).max() + texel_sizes(space.texels, mesh).max()
    assert np.quantile(off, 0.99) < step and np.median(off) < 0.25 * step
    other = gbuffer.mask & ~known
    assert other.any() != tiles
    if not tiles:
        red, green = found[other][:, 0], found[other][:, 1]
        assert np.abs(red).mean() < 0.25 and np.abs(green).max() <= 1.001 and green.std() > 0.2


def test_what_is_not_painted_may_be_imagined_freely(tmp_path):
    shape = torus(32, 16)
    region = above(shape) & halves(shape)[:, None]
    given, mesh, job = given_of(tmp_path, slotted(shape, faces=region), {"base_color": random_picture()})
    space = UVTexture(mesh, job.cameras, RASTERIZER, 64, channels=3)
    may, painted = given.may_change(space.texels, mesh), halves(shape)[space.texels.triangle]
    assert (may[~painted] == 1).all()
    np.testing.assert_array_equal(may[painted], region[space.texels.triangle[painted], 0])


# ---- whole jobs


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_tiny_model(tmp_path_factory.mktemp("tiny"), SWATCH_SCHEDULER, codec="LinearPatchCodec"))


@pytest.fixture(scope="module")
def models():
    return Models()


def run(tmp_path, job, pictures, models):
    folder = write_job(tmp_path, job, {kind: png_bytes(pixels) for kind, pixels in pictures.items()})
    result = run_job(folder, Progress([], lambda: False), models)
    images = {kind: decode_png((folder / path).read_bytes(), path) for kind, path in result["images"].items()
              if kind.startswith("base_color")}  # fmt: skip
    return folder, images, result["report"]


def test_a_whole_edit_of_a_region_over_two_tiles(tmp_path, model, models):
    shape = icosphere(3)
    region = above(shape)
    pictures = {"base_color.1002": random_picture(channels=4, dtype=np.uint16), "base_color.1011": random_picture(seed=2)}
    job = tiled(shape, model=model, faces=region, strength=0.9, feather=2, contact_sheet=True, save_views=True)
    given, _, _ = given_of(tmp_path / "given", job, pictures)
    folder, images, report = run(tmp_path, job, pictures, models)
    assert report["textures"] == 2
    np.testing.assert_array_equal(images["base_color"], images["base_color.1002"])
    for skin in given.skins:
        out, picture = images[f"base_color.{skin.window.name}"], pictures[f"base_color.{skin.window.name}"]
        inside = np.zeros(SIZE * SIZE, bool)
        inside[skin.texels.index] = region[skin.texels.triangle, 0]
        inside = inside.reshape(SIZE, SIZE)
        assert out.dtype == picture.dtype and np.array_equal(out[~inside], picture[~inside])
        assert (out != picture)[inside].any(1).mean() > 0.9
        owner = np.asarray(Image.open(folder / owner_file(skin.window.name)))
        chart = np.zeros(SIZE * SIZE, bool)
        chart[skin.texels.index] = True
        assert owner.shape == (SIZE, SIZE) and set(np.unique(owner)) <= {0, 1, 2, 3, 4} and len(np.unique(owner)) > 2
        assert (owner[~chart.reshape(SIZE, SIZE)] == 0).all()
    assert not (folder / owner_file("")).exists()


def test_a_whole_edit_of_one_material(tmp_path, model, models):
    """The other half of the ring, on the same part of the square, gives nothing: texels of the painted half alone change."""
    shape = torus(32, 16)
    picture = random_picture()
    job = slotted(shape, model=model, faces=above(shape), strength=0.9, feather=0)
    given, _, _ = given_of(tmp_path / "given", job, {"base_color": picture})
    folder, images, report = run(tmp_path, job, {"base_color": picture}, models)
    assert report["textures"] == 1 and set(images) == {"base_color"} and (folder / owner_file("")).is_file()
    skin, inside = given.skins[0], np.zeros(SIZE * SIZE, bool)
    assert halves(shape)[skin.texels.triangle].all()
    inside[skin.texels.index] = above(shape)[skin.texels.triangle, 0]
    inside = inside.reshape(SIZE, SIZE)
    assert np.array_equal(images["base_color"][~inside], picture[~inside])
    assert (images["base_color"] != picture)[inside].any(1).mean() > 0.9


def test_a_single_tile_stays_a_tile(tmp_path, model, models):
    shape = torus(16, 8)
    job = job_of(moved(shape, np.tile([1, 0], (len(shape.triangles), 1))), model=model, uv_tiles="udim", strength=0.5)
    folder, images, _ = run(tmp_path, job, {"base_color.1002": random_picture()}, models)
    assert set(images) == {"base_color", "base_color.1002"} and (folder / owner_file("1002")).is_file()


def test_an_instruction_changes_both_tiles_in_their_region(tmp_path, tiny, models):  # noqa: F811
    shape = icosphere(3)
    job = tiled(shape, model=str(tiny), method="edit", start="nothing", prompt="make it rusty", faces=above(shape), feather=0)
    given, _, _ = given_of(tmp_path / "given", job, SKINS)
    assert given.kept
    _, images, _ = run(tmp_path, job, SKINS, models)
    for skin in given.skins:
        inside = np.zeros(SIZE * SIZE, bool)
        inside[skin.texels.index] = above(shape)[skin.texels.triangle, 0]
        inside, name = inside.reshape(SIZE, SIZE), f"base_color.{skin.window.name}"
        assert np.array_equal(images[name][~inside], SKINS[name][~inside])
        assert (images[name] != SKINS[name])[inside].any(1).mean() > 0.8


# ---- the command line


def test_the_command_line_takes_a_picture_for_each_tile(tmp_path):
    mesh = tmp_path / "ball.obj"
    write_obj(mesh, tiled(torus(16, 8)).mesh)
    for name, pixels in SKINS.items():
        (tmp_path / f"skin.{name[-4:]}.png").write_bytes(png_bytes(pixels))
        (tmp_path / f"mask.{name[-4:]}.png").write_bytes(png_bytes(pixels[:8, :8, :1]))
    files = Pictures(tmp_path / "skin.<UDIM>.png", tmp_path / "mask.<UDIM>.png")
    values, inputs = with_pictures(mesh, {"prompt": "x"}, files)
    assert (values["texture_size"], values["start"], values["region"]) == (SIZE, "texture", "mask")
    assert set(inputs) == {"base_color.1002", "base_color.1011", "region.1002", "region.1011"}
    assert np.array_equal(decode_png(inputs["base_color.1011"], "x"), SKINS["base_color.1011"])
    (tmp_path / "skin.1011.png").write_bytes(png_bytes(random_picture(128)))
    with pytest.raises(SettingsError, match="differ in size: 64 and 128"):
        with_pictures(mesh, {"prompt": "x"}, files)
    (tmp_path / "skin.1011.png").unlink()
    with pytest.raises(Exception, match=r"skin\.1011\.png cannot be read"):
        with_pictures(mesh, {"prompt": "x"}, files)
    with pytest.raises(SettingsError, match="as if one texture repeats"):
        with_pictures(mesh, {"prompt": "x", "uv_tiles": "repeat"}, files)


def write_obj(path, mesh):
    lines = [f"v {x} {y} {z}" for x, y, z in mesh.positions] + [f"vt {u} {v}" for u, v in mesh.uvs]
    faces = np.stack([mesh.triangles, mesh.triangle_uvs], 2) + 1
    path.write_text("\n".join([*lines, *("f " + " ".join(f"{p}/{t}" for p, t in face) for face in faces)]) + "\n")


def test_many_texels_are_filled_a_part_at_a_time(monkeypatch):
    """The same colours as all at once, but for the order of sums."""
    from engine.finish import fill

    rng = np.random.default_rng(0)
    position = rng.normal(size=(3000, 3)).astype(np.float32)
    position /= np.linalg.norm(position, axis=1, keepdims=True)
    known, colour = position[:, 0] > -0.2, (position + 1).astype(np.float32) / 2
    whole = fill.fill_unseen(position, position, colour, known)
    monkeypatch.setattr(fill, "TEXELS", 177)
    parts = fill.fill_unseen(position, position, colour, known)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert np.array_equal(parts[known], colour[known]) and not np.array_equal(whole[~known], colour[~known])
