# SPDX-License-Identifier: Apache-2.0
"""A file is replaced whole or not at all, and no path leads out of the job's folder."""

import errno
from pathlib import Path

import pytest

from blender_addon.jobs import files
from blender_addon.jobs.errors import JobError, NoRoom
from blender_addon.jobs.files import atomic_write_bytes, atomic_write_text, inside


def test_text_is_written_with_plain_line_ends(tmp_path):
    atomic_write_text(tmp_path / "a.txt", "ä\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == "ä\nb\n".encode()


@pytest.mark.parametrize("call", ["os.fsync", "os.replace"])
def test_disk_that_fills_up_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "a.bin"
    atomic_write_bytes(path, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, call.removeprefix("os."), full)
    with pytest.raises(NoRoom) as caught:
        atomic_write_bytes(path, b"x" * 1000)
    assert f"No room left in {tmp_path}: 1,000 bytes needed, " in str(caught.value) and "free" in str(caught.value)
    assert [item.name for item in tmp_path.iterdir()] == ["a.bin"] and path.read_bytes() == b"old"


OUT = ["", ".", "..", "../a", "a/../../b", "a/..", "/a", "//server/a", "C:a", "C:/a", "c:\\a", "a\\b", "\\\\server\\a"]
OUT += ["a\0b", "a\nb", "a:stream", "a" * 5000, None, 3, b"a", "\ud800", "link/a", "link"]


@pytest.mark.parametrize("relative", OUT, ids=range(len(OUT)))
def test_path_out_of_the_folder_is_refused(tmp_path, relative):
    home = tmp_path / "job"
    home.mkdir()
    try:
        (home / "link").symlink_to(tmp_path)
    except OSError:
        pytest.skip("links cannot be made here")
    with pytest.raises(JobError) as caught:
        inside(home, relative)
    assert str(home) in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize("relative", ["a", "out/texture.png", "out/a b é.png", "./a", "a//b", "..a", Path("out") / "x"])
def test_path_in_the_folder_is_given(tmp_path, relative):
    assert inside(tmp_path, relative) == tmp_path / relative


def test_folder_may_itself_be_reached_through_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    try:
        (tmp_path / "link").symlink_to(tmp_path / "real")
    except OSError:
        pytest.skip("links cannot be made here")
    assert inside(tmp_path / "link", "a/b") == tmp_path / "link" / "a" / "b"
