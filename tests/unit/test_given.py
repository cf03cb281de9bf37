# SPDX-License-Identifier: Apache-2.0
"""The texture an object has: read to the bit, seen in the views, changed only where it may."""

from __future__ import annotations

import io
import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from blender_addon.jobs.errors import JobError, SettingsError
from blender_addon.jobs.folder import Job, MeshArrays, edited_size, new_job_id, read_job, write_job
from blender_addon.jobs.png import parse_header, png_bytes
from blender_addon.jobs.rigs import build_rig
from blender_addon.jobs.settings import resolve
from engine.changed import as_rgb, changed_colour, composed, kept_detail
from engine.finish.bake import Baked
from engine.given import given_views, read_given
from engine.mesh import from_arrays
from engine.pictures import as_png, brightness, decode_png
from engine.progress import Progress
from engine.raster import pick_rasterizer
from engine.raster.gbuffer import render_gbuffer
from engine.raster.texels import rasterize_uv
from engine.region import border_distance, feathered, texel_sizes
from engine.run import run_job
from engine.schedule import Level
from engine.spaces.uv import UVTexture
from engine.warm import Models
from tests.shapes import cube, grid, icosphere
from tests.tiny_models import SWATCH_SCHEDULER, write_tiny_model

SIZE = 64


def random_picture(size=SIZE, channels=3, dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (size, size, channels))
    return values.astype(dtype)


def job_of(shape, **settings) -> Job:
    positions = np.asarray(shape.positions, np.float32)
    mesh = MeshArrays(positions, shape.triangles, shape.uvs, shape.triangle_uvs, None, None, None)
    given = {"prompt": "x", "views": 4, "steps": 2, "texture_size": SIZE, "view_size": 64, "start": "texture",
             "device": "cpu", "seed": 5, **settings}  # fmt: skip
    return Job(new_job_id(), resolve(given), mesh, build_rig("auto", 4, positions), [{"name": "Ball"}], {})


def faces_above(shape, height=0.0):
    """A region of whole faces: those whose centre lies above."""
    chosen = np.asarray(shape.positions)[shape.triangles].mean(1)[:, 2] > height
    return np.repeat(chosen[:, None], 3, 1).astype(np.float32)


# ---- PNG, both ways


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pictures_are_written_and_read_to_the_bit(dtype, channels):
    pixels = random_picture(37, channels, dtype)[:, :29]
    data = png_bytes(pixels, {"prompt": "é"})
    assert np.array_equal(decode_png(data, "x"), pixels)
    header = parse_header(data, "x")
    assert (header.width, header.height, header.depth, header.channels) == (29, 37, 8 * pixels.itemsize, channels)
    if dtype == np.uint8:  # what others make of it, and we of theirs
        assert np.array_equal(np.atleast_3d(np.asarray(Image.open(io.BytesIO(data)))), pixels)


def test_every_filter_of_png_is_undone():
    """Pillow chooses among all five by the picture: ramps, noise and flat parts make it use them."""
    y, x = np.mgrid[:60, :80]
    ramps = np.stack([x * 3 % 256, y * 5 % 256, (x + y) % 256], 2)
    ramps[20:40] = random_picture(80)[:20]
    stream = io.BytesIO()
    Image.fromarray(ramps.astype(np.uint8)).save(stream, "PNG")
    assert np.array_equal(decode_png(stream.getvalue(), "x"), ramps)


@pytest.mark.parametrize("mode", ["P", "1", "L", "LA", "RGBA"])
def test_rare_kinds_are_read_as_pillow_reads_them(mode):
    image = Image.fromarray(random_picture(16)).convert(mode)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    found = decode_png(stream.getvalue(), "x")
    expected = np.asarray(image.convert({"P": "RGB", "1": "L"}.get(mode, mode)))
    assert np.array_equal(found, np.atleast_3d(expected))


def damaged():
    """PNG files that lie or are not whole."""
    good = png_bytes(random_picture(16))
    bomb = bytearray(png_bytes(np.zeros((64, 64, 3), np.uint8)))
    bomb[16:24] = (8).to_bytes(4, "big") * 2  # says 8 x 8, holds 64 x 64
    huge = bytearray(good)
    huge[16:20] = (2**31 - 1).to_bytes(4, "big")
    for changed in (bomb, huge):
        changed[29:33] = zlib.crc32(bytes(changed[12:29])).to_bytes(4, "big")
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    return {"cut": good[:-30], "no picture": b"GIF89a" + good, "flipped": bytes(flipped), "bomb": bytes(bomb),
            "huge": bytes(huge), "header only": good[:33], "empty": b""}  # fmt: skip


@pytest.mark.parametrize("what", damaged())
def test_damaged_pictures_are_refused_by_name(what):
    with pytest.raises(JobError, match="skin.png"):
        decode_png(damaged()[what], "skin.png")


def test_other_formats_become_png_and_masks_one_number_per_pixel():
    stream = io.BytesIO()
    Image.fromarray(random_picture(16)).save(stream, "BMP")
    assert np.array_equal(decode_png(as_png(stream.getvalue(), "x"), "x"), random_picture(16))
    with pytest.raises(JobError, match="skin.gif"):
        as_png(b"GIF89a nonsense", "skin.gif")
    half = np.array([[[255, 0, 0, 255], [255, 255, 255, 128], [0, 0, 0, 255]]], np.uint8)
    np.testing.assert_allclose(brightness(half), [[1 / 3, 128 / 255, 0]], atol=1e-6)


# ---- the job folder


def test_pictures_travel_inside_the_folder(tmp_path):
    data = {"base_color": png_bytes(random_picture()), "region": png_bytes(random_picture(8, 1))}
    folder = write_job(tmp_path, job_of(icosphere(1)), data)
    job = read_job(folder)
    assert job.inputs == {"base_color": "inputs/base_color.png", "region": "inputs/region.png"}
    assert (folder / job.inputs["base_color"]).read_bytes() == data["base_color"]
    region = faces_above(icosphere(1))
    read = read_job(write_job(tmp_path / "more", chosen(job_of(icosphere(1)), region)))
    assert np.array_equal(read.mesh.region, region)


@pytest.mark.parametrize(("inputs", "words"), [
    ({"base_color": "../secret.png"}, "leads out"), ({"base_color": "/etc/hostname"}, "not relative"),
    ({"normal": "inputs/base_color.png"}, "normal"), ({"base_color": "inputs/none.png"}, "missing"),
    ({"base_color": 3}, "inputs"), (["base_color"], "inputs"), ({"base_color": "mesh.npz"}, "no PNG"),
])  # fmt: skip
def test_inputs_that_do_not_serve_are_refused(tmp_path, inputs, words):
    folder = write_job(tmp_path, job_of(icosphere(1)), {"base_color": png_bytes(random_picture())})
    record = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps(record | {"inputs": inputs}))
    with pytest.raises(JobError, match=words):
        read_job(folder)


def test_a_texture_to_start_from_is_square_and_of_a_size_there_is():
    assert edited_size(1024, 1024, "skin") == 1024
    for size, better in (((128, 64), 128), ((100, 100), 104), ((32, 32), 64), ((16384, 16384), 8192)):
        with pytest.raises(SettingsError) as caught:
            edited_size(*size, "skin")
        assert f"{better} x {better}" in caught.value.action and "skin" in caught.value.message


# ---- what is refused before a model is loaded


def given_of(tmp_path, job, pictures):
    folder = write_job(tmp_path, job, pictures)
    return read_given(folder, job := read_job(folder), from_arrays(job.mesh))


SKIN = {"base_color": png_bytes(random_picture())}


@pytest.mark.parametrize(("settings", "pictures", "key", "words"), [
    ({}, {}, "start", "no texture to start from"),
    ({"start": "nothing", "method": "edit"}, {}, "method", "no texture to start from"),
    ({"start": "nothing", "region": "mask"}, {}, "region", "keeps its texture"),
    ({"region": "mask"}, SKIN, "region_mask", "no mask"),
    ({"region": "faces"}, SKIN, "region", "has none"),
    ({"region": "mask"}, SKIN | {"region": png_bytes(np.zeros((8, 8, 1), np.uint8))}, "region", "black wherever"),
])  # fmt: skip
def test_what_cannot_work_is_said_before_a_model_is_loaded(tmp_path, settings, pictures, key, words):
    with pytest.raises(SettingsError, match=words) as caught:
        given_of(tmp_path, job_of(icosphere(1), **settings), pictures)
    assert caught.value.key == key and caught.value.action


def test_no_selected_face_and_a_wrong_size_are_refused(tmp_path):
    none = np.zeros((len(icosphere(1).triangles), 3), np.float32)
    with pytest.raises(SettingsError, match="No face is selected") as caught:
        given_of(tmp_path, chosen(job_of(icosphere(1)), none), SKIN)
    assert caught.value.key == "region"
    with pytest.raises(JobError, match="64 x 64 pixels; the job's texture_size is 128"):
        given_of(tmp_path / "b", job_of(icosphere(1), texture_size=128), SKIN)


def chosen(job: Job, region, **settings) -> Job:
    """The same job, limited to faces."""
    return replace(job, mesh=replace(job.mesh, region=region), settings={**job.settings, "region": "faces", **settings})


def test_starting_from_nothing_needs_no_texture(tmp_path):
    assert given_of(tmp_path, job_of(icosphere(1), start="nothing"), {}) is None


# ---- feather


def test_feather_rises_inside_and_never_outside():
    """A flat sheet, left half chosen: k texels from the border the share is smoothstep((k - 1/2) / width)."""
    shape = grid(2, 1, lambda s, t: np.stack([s, t, 0 * s], 1))
    mesh = from_arrays(MeshArrays(*shape))
    texels = rasterize_uv(mesh, SIZE)
    column = texels.index % SIZE
    weights = (column < SIZE // 2).astype(np.float32)
    share = feathered(weights, texels, mesh, 8)
    away = SIZE // 2 - column  # texel centres to the first column outside
    t = np.clip((away - 0.5) / 8, 0, 1)
    inner = ~texels.border
    np.testing.assert_allclose(share[inner], (weights * t * t * (3 - 2 * t))[inner], atol=2e-3)
    assert (share[column >= SIZE // 2] == 0).all() and (share[away > 9] == 1).all()
    rows = [share[inner & (column == c)].mean() for c in range(SIZE // 2 - 1, 2, -1)]
    assert all(a <= b + 1e-6 for a, b in zip(rows, rows[1:], strict=False)), "not monotone inside"
    assert np.array_equal(feathered(weights, texels, mesh, 0), weights), "0 cuts hard"


def test_feather_crosses_the_cuts_between_charts_but_not_a_thin_sheet():
    """Six charts of a cube, its top chosen: the sides are outside though their charts lie elsewhere. Front and back of
    a sheet are a thousandth apart; choosing the whole front leaves it whole."""
    mesh = from_arrays(MeshArrays(*cube()))
    texels = rasterize_uv(mesh, 128)
    top = texels.normal[:, 2] > 0.9
    share = feathered(top.astype(np.float32), texels, mesh, 4)
    edge = np.abs(texels.position[:, :2]).max(1) > np.abs(mesh.positions).max() * 0.97
    assert share[top & edge].max() < 0.5 and share[top & ~edge].mean() > 0.8

    front = grid(2, 2, lambda s, t: np.stack([s, t, 0 * s], 1))
    uvs = np.concatenate([front.uvs * [0.5, 1], front.uvs * [0.5, 1] + [0.5, 0]])
    back = front.positions - np.array([0, 0, 0.001], np.float32)
    triangles = np.concatenate([front.triangles, front.triangles[:, ::-1] + len(front.positions)])
    sheet = from_arrays(MeshArrays(np.concatenate([front.positions, back]), triangles, uvs.astype(np.float32),
                                   triangles))  # fmt: skip
    texels = rasterize_uv(sheet, 128)
    away = border_distance(texels.normal[:, 2] < 0, texels, sheet, 4)
    assert np.isinf(away[texels.normal[:, 2] > 0]).all()


# ---- the views of the texture


def coloured(size, shape):
    """A texture whose colours are the surface's positions, and bright green between the charts."""
    mesh = from_arrays(MeshArrays(*shape))
    texels = rasterize_uv(mesh, size)
    low, high = mesh.positions.min(0), mesh.positions.max(0)
    picture = np.zeros((size, size, 3), np.uint8)
    picture[..., 1] = 255
    picture.reshape(-1, 3)[texels.index] = np.round((texels.position - low) / (high - low) * 255)
    return mesh, picture, lambda position: (position - low) / (high - low) * 2 - 1


@pytest.mark.parametrize("size", [128, 512])  # coarser and finer than the texture in which the views meet
def test_views_show_the_texture_where_it_is(tmp_path, size):
    """Positions as colours: each pixel shows its own, as fine as the texture is, with nothing of the padding in it."""
    shape = icosphere(3)
    mesh, picture, expected = coloured(size, shape)
    job = job_of(shape, texture_size=size)
    given = given_of(tmp_path, job, {"base_color": png_bytes(picture)})
    rasterizer = pick_rasterizer("numba")
    gbuffer = render_gbuffer(rasterizer, mesh, job.cameras, 96, 96)
    space = UVTexture(mesh, job.cameras, rasterizer, 96, channels=3)
    views, region = given_views(given, space, mesh, gbuffer)
    assert region is None and views.shape == (4, 3, 96, 96)
    seen, found = gbuffer.mask, views.permute(0, 2, 3, 1).numpy()
    assert (found[~seen & (space.mask[:, 0] == 0).numpy()] == 0).all(), "the background is grey"
    off = np.abs(found[seen] - expected(gbuffer.position[seen]))
    # a pixel, a texel of the texture and one of the space, as large as they are; colours have the range of positions
    step = 2.2 / 96 + texel_sizes(given.texels, mesh).max() + texel_sizes(space.texels, mesh).max()
    assert np.quantile(off, 0.99) < step and np.median(off) < 0.25 * step


# ---- putting an edit together


def edit_by_hand(tmp_path, picture, region=None, **settings):
    job = job_of(icosphere(2), **settings)
    job = job if region is None else chosen(job, region)
    return given_of(tmp_path, job, {"base_color": png_bytes(picture)})


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("feather", [0, 3])
def test_outside_the_region_every_bit_comes_back(tmp_path, dtype, channels, feather):
    """Padding, unchosen faces and alpha included; inside, the new colour, exactly so beyond the feather."""
    picture = random_picture(channels=channels, dtype=dtype)
    region = faces_above(icosphere(2), 0.2)
    given = edit_by_hand(tmp_path, picture, region, feather=feather)
    colour = np.random.default_rng(1).random((len(given.texels.index), 3)).astype(np.float32)
    [out] = composed(given, colour, padding=16)
    peak, rgb = np.iinfo(dtype).max, picture if channels > 2 else picture[..., [0, 0, 0, 1][: channels + 2]]
    assert out.dtype == dtype and out.shape == rgb.shape
    inside = np.zeros(SIZE * SIZE, bool)
    inside[given.texels.index] = region[given.texels.triangle, 0] > 0
    inside = inside.reshape(SIZE, SIZE)
    assert 0.1 < inside.mean() < 0.6
    assert np.array_equal(out[~inside], rgb[~inside])
    assert np.array_equal(out[..., 3:], rgb[..., 3:])
    full = given.share == 1
    assert full.any() and (feather == 0) == bool(full[given.share > 0].all())
    np.testing.assert_array_equal(out.reshape(-1, out.shape[2])[given.texels.index[full], :3],
                                  np.round(colour[full].astype(np.float64) * peak))
    np.testing.assert_allclose(as_rgb(out), out[..., :3] / peak, atol=1e-6)


def test_without_a_region_charts_are_padded_and_alpha_stays(tmp_path):
    picture = random_picture(channels=4, dtype=np.uint16)
    given = edit_by_hand(tmp_path, picture)
    colour = np.full((len(given.texels.index), 3), 0.25, np.float32)
    [out] = composed(given, colour, padding=16)
    assert (out[..., :3] == round(0.25 * 65535)).all() and np.array_equal(out[..., 3], picture[..., 3])


def test_views_that_did_not_change_leave_the_texture_as_it_was(tmp_path):
    """after = before cancels whatever the views cannot show, at full detail; also what no view sees stays."""
    picture = random_picture(dtype=np.uint16)
    given = edit_by_hand(tmp_path, picture)
    count = len(given.texels.index)
    blurred = np.random.default_rng(2).random((count, 3)).astype(np.float32)
    owner = np.where(np.arange(count) % 3 == 0, -1, 0).astype(np.int16)
    baked = Baked(blurred, np.ones(count, np.float32), owner)
    colour = changed_colour(given, baked, baked, 1.0)
    np.testing.assert_allclose(colour, given.colour, atol=1e-6)
    # a change that all seen texels share is carried to the unseen ones
    lighter = Baked(blurred + np.float32(0.1), baked.weight, owner)
    moved = changed_colour(given, lighter, baked, 1.0) - given.colour
    inside = given.colour.max(1) < 0.89
    np.testing.assert_allclose(moved[inside], 0.1, atol=1e-3)


def test_detail_that_is_kept_is_the_textures_share_of_the_noisy_state():
    settings = {"method": "synchronized", "start": "texture"}
    assert kept_detail(settings, [Level(0.6, 0.8, 500)]) == pytest.approx(0.36)  # alpha^2 of alpha^2 + sigma^2 = 1
    assert kept_detail(settings, [Level(0.0, 1.0, 999)]) == 0
    assert kept_detail({**settings, "start": "nothing"}, [Level(0.6, 0.8, 500)]) == 0
    assert kept_detail({**settings, "method": "edit"}, [Level(0.0, 1.0, 999)]) == 1


# ---- whole jobs


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), SWATCH_SCHEDULER, codec="LinearPatchCodec")


@pytest.fixture(scope="module")
def models():
    return Models()


def run(folder, models):
    run_job(folder, Progress([], lambda: False), models)
    return decode_png((folder / "out" / "texture.png").read_bytes(), "out")


def test_a_whole_edit_of_a_region(tmp_path, model, models):
    """Through the job folder and the engine: sixteen bits, alpha, faces; what is outside is the same picture."""
    picture = random_picture(channels=4, dtype=np.uint16)
    region = faces_above(icosphere(2))
    job = chosen(job_of(icosphere(2), model=str(model)), region, strength=0.9, feather=2)
    folder = write_job(tmp_path, job, {"base_color": png_bytes(picture)})
    out = run(folder, models)
    mesh = from_arrays(job.mesh)
    texels = rasterize_uv(mesh, SIZE)
    inside = np.zeros(SIZE * SIZE, bool)
    inside[texels.index] = region[texels.triangle, 0] > 0
    inside = inside.reshape(SIZE, SIZE)
    assert out.dtype == np.uint16 and np.array_equal(out[~inside], picture[~inside])
    assert (out != picture)[inside].any(1).mean() > 0.9


def test_at_full_strength_nothing_of_the_texture_is_left(tmp_path, model, models):
    """alpha is 0 at the first level, so nothing of the old texture is in the state, nor in the detail that is kept."""
    made = {strength: [] for strength in (1.0, 0.6)}
    for strength, found in made.items():
        for seed in (0, 9):
            job = job_of(icosphere(2), model=str(model), strength=strength)
            pictures = {"base_color": png_bytes(random_picture(seed=seed))}
            found.append(run(write_job(tmp_path / f"{strength} {seed}", job, pictures), models))
    assert np.array_equal(*made[1.0])
    assert not np.array_equal(*made[0.6])


def test_torch_is_not_asked_for_randomness_by_reading(tmp_path):
    """The same generator state after preparing a start: the noise of a job does not depend on the texture."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    edit_by_hand(tmp_path, random_picture())
    assert torch.equal(before, torch.get_rng_state())
