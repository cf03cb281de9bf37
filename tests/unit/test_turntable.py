# SPDX-License-Identifier: Apache-2.0
"""A turntable shows the mesh from all around, one frame in memory at a time, whole or not at all."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
import torch
from PIL import Image

from blender_addon.jobs.errors import Cancelled
from engine.finish.contact import PAPER
from engine.finish.turntable import turn, turntable
from engine.progress import Progress, bar_sink
from engine.raster import pick_rasterizer
from tests.painted import mesh_of
from tests.shapes import cube

NUMBA = pick_rasterizer("numba", torch.device("cpu"))
SIDE = 64


@pytest.fixture
def boxed(monkeypatch):
    """A cube whose four sides are red, green, blue and white from the front on, by its texture's columns."""
    mesh = mesh_of(cube())
    a, b, c = mesh.positions[mesh.triangles].transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    colours = {(0, -1): 0, (1, 0): 1, (0, 1): 2, (-1, 0): 3}
    column = np.array([colours.get((round(float(x)), round(float(y))), 3) for x, y in normal[:, :2]])
    uvs = np.repeat(((column + 0.5) / 4)[:, None], 2, 1).astype(np.float32)
    faces = np.arange(len(uvs), dtype=np.int32)
    texture = np.zeros((64, 64, 3), np.float32)
    for number, rgb in enumerate([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)]):
        texture[:, 16 * number : 16 * number + 16] = rgb
    return replace(mesh, uvs=uvs, triangle_uvs=np.repeat(faces[:, None], 3, 1)), texture


def frames_of(path):
    with Image.open(path) as picture:
        for number in range(picture.n_frames):
            picture.seek(number)
            yield np.asarray(picture.convert("RGB")).astype(int)


def test_each_quarter_turn_shows_the_next_side(tmp_path, boxed):
    mesh, texture = boxed
    told = []
    turntable(mesh, texture, tmp_path / "turn.webp", NUMBA, 4, lambda i, n: told.append((i, n)), SIDE)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    seen = list(frames_of(tmp_path / "turn.webp"))
    assert [frame.shape for frame in seen] == [(SIDE, SIDE, 3)] * 4
    for frame, strong in zip(seen, ([0], [1], [2], [0, 1, 2]), strict=True):
        middle = frame[SIDE // 2, SIDE // 2]
        weak = [channel for channel in range(3) if channel not in strong]
        assert middle[strong].min() > 150 and (not weak or middle[weak].max() < 60), middle
        assert np.abs(frame[0, 0] - PAPER).max() < 6
    with Image.open(tmp_path / "turn.webp") as picture:
        assert picture.info["loop"] == 0, "it goes round for ever"


def test_all_of_the_mesh_is_in_every_frame():
    mesh = mesh_of(cube())
    cameras = turn(mesh.positions * [1, 5, 2], 24)
    points = np.concatenate([mesh.positions * [1, 5, 2], np.ones((len(mesh.positions), 1))], 1)
    clip = np.stack([points @ (camera.projection @ camera.view).T for camera in cameras])
    assert len(cameras) == 24 and (np.abs(clip[..., :3]) < clip[..., 3:]).all()


def test_memory_does_not_grow_with_the_frames(tmp_path, boxed):
    """A frame takes SIDE^2 * 3 bytes; forty more of them may not take the room of twenty, nor be pictures somewhere."""
    mesh, texture = boxed
    peaks, pictures = [], []

    def count(i, n):
        if i in (4, n):
            pictures.append(sum(issubclass(type(one), Image.Image) for one in gc.get_objects()))

    for frames in (4, 4, 44):  # the first run compiles
        pictures.clear()
        gc.collect()
        tracemalloc.start()
        turntable(mesh, texture, tmp_path / "turn.webp", NUMBA, frames, count, SIDE)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 20 * SIDE * SIDE * 3
    after_four, after_all = pictures
    assert after_all - after_four < 10


def test_the_bar_stays_on_its_line_until_the_last_frame():
    class Terminal(StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    progress = Progress([bar_sink(screen)])
    with progress.phase("write", 3):
        for frame in (1, 2, 3):
            progress.step(frame, 3)
    assert screen.getvalue().count("\n") == 1 and screen.getvalue().endswith("\n")
    with progress.phase("write"):
        pass
    assert screen.getvalue().count("\n") == 2, "also where the phase has no steps"


def test_a_turn_that_is_stopped_leaves_no_file(tmp_path, boxed):
    mesh, texture = boxed

    def stop(i, n):
        if i == 2:
            raise Cancelled()

    with pytest.raises(Cancelled):
        turntable(mesh, texture, tmp_path / "turn.webp", NUMBA, 8, stop, SIDE)
    assert list(tmp_path.iterdir()) == []
