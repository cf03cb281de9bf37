# SPDX-License-Identifier: Apache-2.0
"""A damaged job folder reads as the job it was, or gives an error that names the file: nothing else, ever."""

import shutil
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blender_addon.jobs.errors import EngineError, UserError
from blender_addon.jobs.folder import read_job, read_result, write_job, write_result
from blender_addon.jobs.presets import read_preset, write_preset
from tests.jobs import small_job

LARGE = (b"\xff" * 8, b"\x7f" * 8, b"99999999", b"\0\0\0\x7f\0\0\0\0")
FILES = ("job.json", "mesh.npz")


@pytest.fixture(scope="module")
def whole():
    """The bytes of each file of one valid job folder."""
    with tempfile.TemporaryDirectory() as parent:
        folder = write_job(parent, small_job())
        return {name: (folder / name).read_bytes() for name in FILES}


def read_damaged(whole, name, data):
    """Reads the job with one file replaced; gives the job, or the error after checking that it is a good one."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        for other in FILES:
            (folder / other).write_bytes(data if other == name else whole[other])
        try:
            return read_job(folder)
        except (UserError, EngineError) as error:
            assert str(folder) in error.message, "the message names no file"
            assert "\n" not in error.message.replace(str(folder), "") and len(error.message) < 1000
            return error


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_an_error(whole, name):
    data = whole[name].rstrip()
    for length in range(0, len(data), max(1, len(data) // 150)):
        assert isinstance(read_damaged(whole, name, data[:length]), Exception), length


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=250)
@given(data=st.data())
def test_any_flipped_bit_is_harmless_or_named(whole, name, data):
    content = bytearray(whole[name])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    read_damaged(whole, name, bytes(content))


def test_every_flipped_bit_of_the_mesh_data_is_noticed(whole):
    """The checksum covers the arrays; what it does not cover is padding and metadata."""
    content = whole["mesh.npz"]
    start = content.index(b"\x93NUMPY") + 128
    for position in range(start, start + 48):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        assert isinstance(read_damaged(whole, "mesh.npz", bytes(damaged)), UserError)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=150)
@given(data=st.data())
def test_any_splice_is_harmless_or_named(whole, name, data):
    content = whole[name]
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 64)))
    patch = data.draw(st.binary(max_size=64) | st.sampled_from([b"\xff" * 8, b"\0" * 8, b"99999999999", b"PK\x05\x06"]))
    read_damaged(whole, name, content[:start] + patch + content[end:])


@pytest.mark.parametrize("name", FILES)
@given(data=st.binary(max_size=300))
def test_any_bytes_at_all_are_an_error(whole, name, data):
    assert isinstance(read_damaged(whole, name, data), Exception)


@settings(max_examples=150)
@given(data=st.data())
def test_no_damage_takes_much_memory(whole, data):
    content = bytearray(whole["mesh.npz"])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 8))
        content[at : at + 8] = data.draw(st.sampled_from(LARGE))
    tracemalloc.start()
    try:
        read_damaged(whole, "mesh.npz", bytes(content))
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_result_and_preset_are_harmless_or_named(data):
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        write_result(folder, {"status": "done", "images": {"base_color": "out/texture.png"}})
        write_preset(folder / "a.toml", {"prompt": "moss", "views": 3, "eta": 0.5})
        readers = {"result.json": lambda path: read_result(path.parent), "a.toml": read_preset}
        name = data.draw(st.sampled_from(sorted(readers)))
        content = bytearray((folder / name).read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        (folder / name).write_bytes(content[: data.draw(st.integers(0, len(content)))])
        try:
            readers[name](folder / name)
        except (UserError, EngineError) as error:
            assert str(folder / name) in error.message


def test_each_missing_file_is_named(tmp_path):
    for name in FILES:
        folder = write_job(tmp_path / name, small_job())
        (folder / name).unlink()
        with pytest.raises(UserError) as caught:
            read_job(folder)
        assert str(folder / name) in str(caught.value) and "missing" in str(caught.value)
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="missing"):
        read_job(folder)
