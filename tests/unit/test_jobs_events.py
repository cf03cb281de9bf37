# SPDX-License-Identifier: Apache-2.0
"""Events arrive whole, once and in order, whatever happens to the file."""

import json
import os

import numpy as np
import pytest

from blender_addon.jobs import events
from blender_addon.jobs.errors import EngineError, NoRoom, UserError
from blender_addon.jobs.events import MAX_LINE, Tailer, append_event


def test_events_come_back_as_written(tmp_path):
    path = tmp_path / "events.jsonl"
    append_event(path, "started", message="Größe\u2028\n😀", seed=np.int64(3), share=float("nan"))
    append_event(path, "step", phase="denoise", i=1, n=20, eta_s=1.5)
    first, second = Tailer(path).poll()
    assert first["ev"] == "started" and first["message"] == "Größe\u2028\n😀"
    assert first["seed"] == 3 and first["share"] is None and first["t"] > 1e9
    assert (second["phase"], second["i"], second["n"], second["eta_s"]) == ("denoise", 1, 20, 1.5)
    assert path.read_bytes().count(b"\n") == 2


def test_file_may_appear_late_and_is_read_once(tmp_path):
    path = tmp_path / "late" / "events.jsonl"
    tailer = Tailer(path)
    assert tailer.poll() == []
    path.parent.mkdir()
    append_event(path, "started")
    assert [event["ev"] for event in tailer.poll()] == ["started"]
    assert tailer.poll() == []


def test_half_line_and_half_character_wait_for_their_end(tmp_path):
    path = tmp_path / "events.jsonl"
    line = json.dumps({"ev": "warning", "message": "é😀"}, ensure_ascii=False).encode() + b"\n"
    tailer, got = Tailer(path), []
    with open(path, "ab", buffering=0) as file:
        for i in range(len(line)):
            assert got == []
            file.write(line[i : i + 1])
            got += tailer.poll()
    assert got == [{"ev": "warning", "message": "é😀"}]


def test_truncated_file_starts_anew(tmp_path):
    path = tmp_path / "events.jsonl"
    for i in range(5):
        append_event(path, "step", i=i)
    tailer = Tailer(path)
    assert len(tailer.poll()) == 5
    path.write_bytes(b"")
    assert tailer.poll() == []
    append_event(path, "started")
    assert [event["ev"] for event in tailer.poll()] == ["started"]


@pytest.mark.parametrize("count", [1, 5, 50])
def test_replaced_file_starts_anew_even_when_longer(tmp_path, count):
    path, other = tmp_path / "events.jsonl", tmp_path / "other"
    for i in range(5):
        append_event(path, "step", i=i)
    tailer = Tailer(path)
    tailer.poll()
    for i in range(count):
        append_event(other, "step", i=100 + i)
    os.replace(other, path)
    assert [event["i"] for event in tailer.poll()] == [100 + i for i in range(count)]


def test_copy_that_grew_goes_on_where_it_was(tmp_path):
    """A relay that replaces the file by a longer copy of itself repeats nothing."""
    path, copy = tmp_path / "events.jsonl", tmp_path / "copy"
    append_event(path, "started")
    tailer = Tailer(path)
    tailer.poll()
    copy.write_bytes(path.read_bytes())
    append_event(copy, "done")
    os.replace(copy, path)
    assert [event["ev"] for event in tailer.poll()] == ["done"]


def test_vanished_file_may_come_back(tmp_path):
    path = tmp_path / "events.jsonl"
    append_event(path, "started")
    tailer = Tailer(path)
    tailer.poll()
    data = path.read_bytes()
    path.unlink()
    assert tailer.poll() == []
    path.write_bytes(data)
    append_event(path, "done")
    assert [event["ev"] for event in tailer.poll()] == ["done"]


BAD_LINES = [
    b"no json",
    b"[1]",
    b"{}",
    b'{"ev": 3}',
    b"\xff\xfe",
    b'{"ev": "x"',
    b"[" * 5000,
    b'{"ev":"a","t":NaN}',
    b"\0",
]


@pytest.mark.parametrize("line", BAD_LINES)
def test_bad_line_becomes_unreadable_and_the_next_is_read(tmp_path, line):
    path = tmp_path / "events.jsonl"
    path.write_bytes(line + b'\n\n{"ev": "done"}\r\n')
    bad, good = Tailer(path).poll()
    assert bad["ev"] == "unreadable" and bad["message"] and len(bad["line"]) <= 200
    assert good == {"ev": "done"}


def test_torn_line_of_a_crashed_writer_spoils_only_itself(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"ev": "step", "i')
    append_event(path, "failed")
    assert [event["ev"] for event in Tailer(path).poll()] == ["unreadable", "failed"]


def test_endless_line_is_given_up_once_and_the_next_is_read(tmp_path):
    path = tmp_path / "events.jsonl"
    tailer = Tailer(path)
    found = []
    with open(path, "ab", buffering=0) as file:
        for _ in range(5):
            file.write(b"x" * MAX_LINE)
            found += tailer.poll()
        file.write(b'tail\n{"ev": "done"}\n')
        found += tailer.poll()
    assert [event["ev"] for event in found] == ["unreadable", "done"]


def test_a_poll_reads_a_bounded_amount(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "MAX_POLL", 100)
    path = tmp_path / "events.jsonl"
    for i in range(20):
        append_event(path, "step", i=i)
    tailer, found = Tailer(path), []
    for _ in range(100):
        got = tailer.poll()
        assert len(got) <= 3
        found += got
    assert [event["i"] for event in found] == list(range(20))


def test_long_message_is_cut_so_that_the_line_stays_readable(tmp_path):
    path = tmp_path / "events.jsonl"
    append_event(path, "failed", message="x" * (2 * MAX_LINE))
    assert len(Tailer(path).poll()[0]["message"]) == 2000
    with pytest.raises(ValueError, match="too long"):
        append_event(path, "failed", message=["x" * MAX_LINE])


def test_unknown_event_is_the_callers_mistake(tmp_path):
    with pytest.raises(ValueError, match="progress"):
        append_event(tmp_path / "events.jsonl", "progress")
    assert not list(tmp_path.iterdir())


def test_folder_in_place_of_the_file_is_an_engine_error(tmp_path):
    with pytest.raises(EngineError, match="is no file"):
        Tailer(tmp_path).poll()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipe_in_place_of_the_file_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "events.jsonl")
    with pytest.raises(EngineError, match="is no file"):
        Tailer(tmp_path / "events.jsonl").poll()


def test_event_that_cannot_be_written_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        append_event(tmp_path / "missing" / "events.jsonl", "started")
    if os.path.exists("/dev/full"):
        with pytest.raises(NoRoom, match="No room left in /dev"):
            append_event("/dev/full", "started")
