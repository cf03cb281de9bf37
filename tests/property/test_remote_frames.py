# SPDX-License-Identifier: Apache-2.0
"""The remote protocol's frames and files: what goes in comes out, and nothing else is ever taken or written."""

from __future__ import annotations

import os
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blender_addon.jobs.errors import JobError, NoRoom, ProtocolError, UserError
from blender_addon.jobs.frames import BANNER, MAX_BODY, MAX_HEAD, MAX_NOISE, Frame, Frames, encode
from blender_addon.jobs.mirror import BACK, MAX_FILE, THERE, Inbound, files_back, files_there, pieces

JOB = "20261123T043000Z-1a2b3c"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(st.text(max_size=8).filter(lambda key: key not in ("do", "body")), JSON, max_size=4)
FRAME = st.builds(Frame, st.text(min_size=1, max_size=12), FIELDS, st.binary(max_size=300))


class Stream:
    """Bytes that come in parts of the given sizes, over and over, as a pipe's do. `most`: the largest read asked."""

    def __init__(self, data: bytes, parts=(1 << 30,)):
        self.data, self.parts, self.at, self.turn, self.most = data, parts, 0, 0, 0

    def read(self, size: int) -> bytes:
        self.most = max(self.most, size)
        size = min(size, self.parts[self.turn % len(self.parts)])
        self.turn, self.at = self.turn + 1, self.at + size
        return self.data[self.at - size : self.at]


def written(frames) -> bytes:
    return b"".join(encode(frame.do, frame.body, **frame.fields) for frame in frames)


def everything(data: bytes, parts=(1 << 30,)) -> list[Frame]:
    frames, found = Frames(Stream(data, parts).read), []
    while (frame := frames.next()) is not None:
        found.append(frame)
    return found


@given(st.lists(FRAME, max_size=5), st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_round_trip_in_any_parts(frames, parts):
    assert everything(written(frames), parts) == frames


@given(FRAME, st.data())
def test_cut_off_anywhere_is_said(frame, data):
    whole = written([frame])
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(ProtocolError, match="cut off"):
        everything(whole[:cut])


@given(st.binary(max_size=200))
def test_rubbish_never_gives_anything_but_frames_or_a_protocol_error(data):
    try:
        assert all(isinstance(frame, Frame) for frame in everything(data))
    except ProtocolError:
        pass


@pytest.mark.parametrize("head, body", [(MAX_HEAD + 1, 0), (2, MAX_BODY + 1), (2**32 - 1, 2**32 - 1)])
def test_too_large_is_refused_before_it_is_read(head, body):
    stream = Stream(struct.pack(">II", head, body) + b"{}" + b"x" * 100)
    with pytest.raises(ProtocolError, match="a message of"):
        Frames(stream.read).next()
    assert stream.most == 8, "more than the two lengths was asked for"
    with pytest.raises(ValueError):
        encode("x", b"x" * (MAX_BODY + 1))


@pytest.mark.parametrize("head", [b"[]", b"null", b'{"to": 1}', b'{"do": 1}', b"{", b'{"do": NaN}', b"\xff"])
def test_a_head_that_says_nothing(head):
    with pytest.raises(ProtocolError):
        everything(struct.pack(">II", len(head), 0) + head)


@given(st.binary(max_size=300).filter(lambda noise: BANNER not in noise + BANNER[:-1]), st.integers(1, 9))
def test_what_a_shell_prints_first_is_told_apart(noise, part):
    frames = Frames(Stream(noise + BANNER + encode("hello", b"x"), [part]).read)
    assert frames.skip_to_banner() == noise
    assert frames.next() == Frame("hello", {}, b"x")


def test_no_banner_gives_its_words():
    with pytest.raises(ProtocolError) as caught:
        Frames(Stream(b"Welcome to box!\n").read).skip_to_banner()
    assert caught.value.log == "Welcome to box!"
    stream = Stream(b"x" * (2 * MAX_NOISE))
    with pytest.raises(ProtocolError):
        Frames(stream.read).skip_to_banner()
    assert stream.at <= MAX_NOISE


def took(folder: Path, frames, allowed=BACK) -> list[str]:
    inbound = Inbound(folder, allowed)
    try:
        return [path for one in everything(b"".join(frames)) if (path := inbound.take(one.do, one.fields, one.body))]
    finally:
        inbound.close()


def below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(["out/a.png", "out/views/ü b.png", "preview.png", "result.json"]),
                       st.sampled_from([0, 1, 999, MAX_BODY, MAX_BODY + 1, 3 * MAX_BODY - 1])))  # fmt: skip
def test_files_arrive_as_they_were(sizes):
    with tempfile.TemporaryDirectory() as parent:
        here, there = Path(parent, "here", JOB), Path(parent, "there", JOB)
        there.mkdir(parents=True)
        for name, size in sizes.items():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_bytes(os.urandom(size))
        names = files_back(here) + (["result.json"] if "result.json" in sizes else [])
        assert took(there, (piece for name in names for piece in pieces(here, name))) == names
        assert below(there) == (below(here) if here.exists() else {})


def piece(path, size=3, at=0, body=b"abc", **more) -> bytes:
    return encode("file", body, **{"job": JOB, "path": path, "size": size, "at": at, **more})


HOSTILE = ["../x", "out/../../x", "/etc/x", "C:/x", "C:\\x", "out\\..\\x", "out/\0x", "", ".", "..", "x.png",
           "job.json", "mesh.npz", "events.jsonl", "out/.hidden", ".x.tmp", "out/a/b/c/d/e.png", "out//x",
           "out/" + "x" * 300, "result.json/x", "//host/x", "out/\n", "inputs/x.png"]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE)
def test_a_path_that_may_not_come_writes_nothing(tmp_path, path):
    folder = tmp_path / "jobs" / JOB
    folder.mkdir(parents=True)
    with pytest.raises((JobError, ProtocolError)):
        took(folder, [piece(path)])
    assert below(tmp_path) == {} and list(folder.iterdir()) == []


@given(st.text(st.sampled_from("./\\:~ax\0ü"), max_size=12) | st.text(max_size=12))
def test_no_path_leads_out(path):
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "jobs", JOB)
        folder.mkdir(parents=True)
        for allowed in (BACK, THERE):
            try:
                took(folder, [piece(path)], allowed)
            except (UserError, ProtocolError):
                pass
        assert all(name.startswith((f"jobs/{JOB}/out/", f"jobs/{JOB}/inputs/")) for name in below(Path(parent)))


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize("name", ["out", "out/a.png", "out/views", "events.jsonl", "preview.png"])
def test_links_are_refused_both_ways(tmp_path, name):
    folder, outside = tmp_path / JOB, tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_text("secret")
    (folder / name).parent.mkdir(parents=True)
    (folder / name).symlink_to(outside / "secret.png" if "." in name else outside)
    path = {"out": "out/secret.png", "out/views": "out/views/secret.png"}.get(name, name)
    frame = encode("append", b"x", job=JOB, at=0) if name == "events.jsonl" else piece(path)
    with pytest.raises(JobError):
        took(folder, [frame])
    assert below(outside) == {"secret.png": b"secret"}
    with pytest.raises(JobError):
        list(pieces(folder, path))
    assert not [found for found in files_back(folder) if "secret" in found or found == name]


@pytest.mark.parametrize(
    "frames",
    [
        [piece("out/a", size=MAX_FILE + 1)],
        [piece("out/a", size=-1, body=b"")],
        [piece("out/a", size=2)],
        [piece("out/a", at=1)],
        [piece("out/a", size=9), piece("out/a", size=9, at=4)],
        [piece("out/a", size=9), piece("out/b", size=9, at=3)],
        [piece("out/a", size=9), piece("out/a", size=8, at=3)],
        [piece("out/a", body=b"")],
        [piece("out/a", size="3")],
        [piece("out/a", size=True)],
        [piece("out/a", size=9)],
        [piece(7)],
        [encode("append", b"x", job=JOB, at=1)],
    ],
)
def test_pieces_that_do_not_fit_leave_nothing(tmp_path, frames):
    try:
        took(tmp_path, frames)
    except (JobError, ProtocolError):
        pass
    else:
        assert frames == [piece("out/a", size=9)], "only an end in the middle is no fault of its own"
    assert below(tmp_path) == {}


def test_more_files_than_a_job_may_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("blender_addon.jobs.mirror.MAX_FILES", 2)
    with pytest.raises(JobError, match="more than a job may hold"):
        took(tmp_path, [piece(f"out/{n}") for n in range(3)])
    monkeypatch.setattr("blender_addon.jobs.mirror.MAX_FOLDER", 5)
    with pytest.raises(JobError, match="more than a job may hold"):
        took(tmp_path, [piece(f"out/x{n}") for n in range(2)])


def test_no_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 2})())
    with pytest.raises(NoRoom, match="No room left"):
        took(tmp_path, [piece("out/a")])
    assert below(tmp_path) == {}


def test_a_job_is_its_inputs_mesh_and_record(tmp_path):
    for name in ("inputs/region.png", "inputs/.x.tmp", "mesh.npz", "job.json", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert files_there(tmp_path) == ["inputs/region.png", "mesh.npz", "job.json"]


def test_events_only_grow(tmp_path):
    frames = [encode("append", b"ab\n", job=JOB, at=0), encode("append", b"c\n", job=JOB, at=3)]
    took(tmp_path, frames)
    assert (tmp_path / "events.jsonl").read_bytes() == b"ab\nc\n"
    with pytest.raises(ProtocolError):
        took(tmp_path, frames[:1], THERE)
