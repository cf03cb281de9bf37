# SPDX-License-Identifier: Apache-2.0
"""What finishing writes: textures as PNG, and the contact sheet."""

import numpy as np
import pytest
from PIL import Image

from blender_addon.jobs.errors import UserError
from engine.finish.contact import GREY, contact_sheet, sheet_cameras, shrink
from engine.finish.image import write_png
from tests import shapes
from tests.painted import RASTERIZER, mesh_of


def test_png_keeps_values_and_words(tmp_path):
    rgb = np.linspace(-0.1, 1.1, 4 * 5 * 3, dtype=np.float32).reshape(4, 5, 3)
    write_png(tmp_path / "a.png", rgb, {"prompt": "röstige Kachel, 錆", "seed": 7})
    image = Image.open(tmp_path / "a.png")
    assert image.mode == "RGB" and image.size == (5, 4)
    assert np.array_equal(np.asarray(image), np.round(rgb.clip(0, 1) * 255).astype(np.uint8))
    assert (image.text["prompt"], image.text["seed"]) == ("röstige Kachel, 錆", "7")
    assert image.text["Software"] == "Tweed"


def test_png_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_png(path, np.zeros((2, 2, 3), np.float32))
    before = path.read_bytes()
    with pytest.raises(ValueError):
        write_png(path, np.zeros((2, 2), np.float32))
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(UserError):
        write_png(path, np.ones((2, 2, 3), np.float32))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("name", ["torus", "quad", "tiny", "huge", "one_triangle"])
def test_contact_sheet_shows_the_texture_above_the_grey(tmp_path, name):
    mesh = mesh_of(shapes.SHAPES[name]())
    texture = np.zeros((64, 64, 3), np.float32) + np.float32([0.9, 0.1, 0.1])
    contact_sheet(mesh, texture, tmp_path / "contact.png", RASTERIZER, tile=80)
    sheet = np.asarray(Image.open(tmp_path / "contact.png")).astype(int)
    red = (sheet[..., 0] - sheet[..., 2]) > 60
    grey = (np.abs(sheet - sheet.mean(2, keepdims=True)).max(2) < 3) & (sheet[..., 0] < 215)
    assert red.sum() > 60 and grey.sum() > 60
    assert (sheet[0] > 235).all() and (sheet[:, 0] > 235).all()  # nothing is cut off at the border


def test_the_object_fills_the_tiles_and_stays_inside():
    mesh = mesh_of(shapes.torus())
    for camera in sheet_cameras(mesh.positions):
        clip = np.c_[mesh.positions, np.ones(len(mesh.positions))] @ (camera.projection @ camera.view).T
        assert (np.abs(clip[:, :3]) <= clip[:, 3:] + 1e-6).all()


def test_shrinking_keeps_the_mean():
    texture = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    small = shrink(texture, np.full(10, 64.0 / 64**2))
    assert len(small) == 8 and np.allclose(small.mean((0, 1)), texture.mean((0, 1)), atol=1e-5)
    assert len(shrink(texture, np.zeros(0))) == 64 and 0 < GREY < 1
