# SPDX-License-Identifier: Apache-2.0
"""Choosing a back end, the nvdiffrast adapter on a stand-in with its conventions, and the kernels' cache."""

import sys
import threading
import types

import numpy as np
import pytest
import torch

from blender_addon.jobs.errors import DeviceError, SettingsError
from blender_addon.jobs.settings import SETTINGS
from engine.cameras import clip_positions
from engine.raster import MISSING, RASTERIZERS, available_rasterizers, jit, nvdiffrast_backend, pick_rasterizer
from engine.raster.nvdiffrast_backend import NvdiffrastRasterizer, decode_ids
from tests.raster_rules import camera
from tests.shapes import torus


def test_registry_is_what_the_settings_offer():
    assert {"auto", *RASTERIZERS} == set(SETTINGS["rasterizer"].choices)
    assert set(MISSING) == set(RASTERIZERS) == set(available_rasterizers())


def test_pick():
    assert pick_rasterizer("numba").name == "numba" and pick_rasterizer("reference").name == "reference"
    assert pick_rasterizer("auto", torch.device("cpu")).name == "numba"
    with pytest.raises(SettingsError, match="magic"):
        pick_rasterizer("magic")


def test_nvdiffrast_is_taken_on_cuda_only_where_it_works(monkeypatch):
    made = []
    monkeypatch.setitem(RASTERIZERS, "nvdiffrast", lambda device: made.append(device))
    monkeypatch.setitem(MISSING, "nvdiffrast", lambda: "")
    pick_rasterizer("auto", torch.device("cuda:1"))
    pick_rasterizer("auto", "cpu")
    assert made == ["cuda:1"]
    monkeypatch.setitem(MISSING, "nvdiffrast", lambda: "it is not installed")
    assert pick_rasterizer("auto", "cuda").name == "numba"
    assert available_rasterizers()["nvdiffrast"] == "it is not installed"
    with pytest.raises(DeviceError, match="it is not installed"):
        pick_rasterizer("nvdiffrast", "cuda")


def test_reference_serves_where_numba_does_not(monkeypatch):
    monkeypatch.setitem(MISSING, "numba", lambda: "numba is not installed")
    assert pick_rasterizer("auto").name == "reference"


def encode(ids):
    """nvdiffrast's triidx_to_float: f32 of ids counted from 1, above 2^24 by their bits."""
    big = (ids.to(torch.int32) + 0x4A800000).view(torch.float32)
    return torch.where(ids <= 16777216, ids.to(torch.float32), big)


def test_decode_ids():
    ids = torch.tensor([0, 1, 2, 77, 16777215, 16777216, 16777217, 16777218, 40_000_001, 2**26], dtype=torch.int32)
    assert decode_ids(encode(ids)).tolist() == (ids - 1).tolist()


@pytest.fixture
def stand_in(monkeypatch):
    """A module with nvdiffrast's conventions: rows bottom-up, (u, v, z/w, id + 1), drawn by the reference."""
    calls = []

    def rasterize(context, vertices, faces, resolution, grad_db):
        assert vertices.dtype == torch.float32 and faces.dtype == torch.int32 and vertices.is_contiguous()
        calls.append((len(vertices), len(faces)))
        clip = vertices.double().numpy()
        ids = torch.from_numpy(pick_rasterizer("reference").triangle_ids(clip, faces.numpy(), *resolution)).flip(1)
        depths = (vertices[..., 2] / vertices[..., 3])[:, faces.long()].mean(-1)  # of triangles [n,F], roughly
        depth = depths.gather(1, ids.clamp(min=0).flatten(1).long()).reshape(ids.shape)
        return torch.stack([depth, depth, torch.where(ids >= 0, depth, 0), encode(ids + 1)], -1), None

    module = types.ModuleType("nvdiffrast.torch")
    module.RasterizeCudaContext = lambda device: f"context on {device}"
    module.rasterize = rasterize
    package = types.ModuleType("nvdiffrast")
    package.torch = module
    monkeypatch.setitem(sys.modules, "nvdiffrast", package)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", module)
    return calls


def test_adapter_turns_rows_and_decodes(stand_in):
    shape = torus(12, 6)
    clip = clip_positions(shape.positions, [camera((3, 1, 2)), camera((0, 3, -2))])
    backend = NvdiffrastRasterizer("cpu")
    assert backend.context == "context on cpu"
    ids = backend.triangle_ids(clip, shape.triangles, 40, 48)
    expected = pick_rasterizer("numba").triangle_ids(clip, shape.triangles, 40, 48)
    assert ids.dtype == np.int32 and (ids != expected).mean() < 0.002


def test_adapter_draws_a_few_views_and_triangles_at_a_time(stand_in, monkeypatch):
    shape = torus(12, 6)
    clip = clip_positions(shape.positions, [camera((3, 1, 2)), camera((0, 3, -2)), camera((1, 0, 3))])
    expected = NvdiffrastRasterizer("cpu").triangle_ids(clip, shape.triangles, 32, 32)
    monkeypatch.setattr(nvdiffrast_backend, "PIXELS", 2 * 32 * 32)
    monkeypatch.setattr(nvdiffrast_backend, "TRIANGLES", 100)
    stand_in.clear()
    ids = NvdiffrastRasterizer("cpu").triangle_ids(clip, shape.triangles, 32, 32)
    assert stand_in == [(2, 100), (2, 44), (1, 100), (1, 44)]
    assert (ids != expected).mean() < 0.03  # the stand-in's depths are rough


def test_cache_folder(monkeypatch, tmp_path):
    source = tmp_path / "package" / "module.py"
    monkeypatch.setattr(jit.numba.config, "CACHE_DIR", "")
    assert jit.cache_folder(source) is None  # writable: beside the source
    monkeypatch.setattr(jit, "user_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(jit, "writable", lambda folder: "package" not in str(folder))
    assert jit.cache_folder(source) == tmp_path / "cache" / "tweed" / "numba"
    monkeypatch.setattr(jit, "writable", lambda folder: False)
    fallback = jit.cache_folder(source)
    assert fallback.is_dir() and "tweed-numba-" in fallback.name
    fallback.rmdir()
    monkeypatch.setattr(jit.numba.config, "CACHE_DIR", "elsewhere")
    assert jit.cache_folder(source) is None  # the user's choice stands


def test_writable(tmp_path):
    assert jit.writable(tmp_path / "new" / "folder")
    (tmp_path / "file").write_text("")
    assert not jit.writable(tmp_path / "file" / "folder")


def test_user_cache(monkeypatch):
    monkeypatch.setattr(jit.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert jit.user_cache().as_posix() == "/somewhere"
    monkeypatch.setattr(jit.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert jit.user_cache().as_posix() == "/local"
    monkeypatch.setattr(jit.sys, "platform", "darwin")
    assert jit.user_cache().as_posix().endswith("Library/Caches")


def test_plain():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert jit.plain(array, np.float32) is array
    array.flags.writeable = False
    assert jit.plain(array, np.float32).flags.writeable
    assert jit.plain(array.T, np.float32).flags.c_contiguous


@pytest.mark.parametrize("count", [0, 1, 2, 5, 40])
def test_spread_gives_each_number_once(monkeypatch, count):
    monkeypatch.setattr(jit, "thread_count", lambda: 3)
    monkeypatch.setattr(jit, "_pool", None)
    done, lock = [], threading.Lock()

    def worker(numbers):
        for number in numbers:
            with lock:
                done.append(number)

    jit.spread(count, worker)
    assert sorted(done) == list(range(count))


@pytest.mark.timeout(20)
def test_spread_within_spread(monkeypatch):
    """All threads of the pool wait for each other unless each can do its work alone."""
    monkeypatch.setattr(jit, "thread_count", lambda: 2)
    monkeypatch.setattr(jit, "_pool", None)
    done, lock = [], threading.Lock()

    def inner(numbers):
        for number in numbers:
            with lock:
                done.append(number)

    def outer(numbers):
        for _ in numbers:
            jit.spread(6, inner)

    jit.spread(8, outer)
    assert sorted(done) == sorted([*range(6)] * 8)


def test_spread_passes_errors_on():
    def worker(numbers):
        for number in numbers:
            if number == 3:
                raise ValueError("three")

    with pytest.raises(ValueError, match="three"):
        jit.spread(8, worker)


def test_two_threads_may_draw_at_once():
    shape = torus(12, 6)
    clip = clip_positions(shape.positions, [camera((3, 1, 2))] * 4)
    backend = pick_rasterizer("numba")
    expected = backend.triangle_ids(clip, shape.triangles, 64, 64)
    found = [None] * 4

    def draw(i):
        found[i] = backend.triangle_ids(clip, shape.triangles, 64, 64)

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ids in found:
        np.testing.assert_array_equal(ids, expected)
