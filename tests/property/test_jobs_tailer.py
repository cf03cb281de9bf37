# SPDX-License-Identifier: Apache-2.0
"""However the bytes of events.jsonl trickle in, each line arrives once, whole and in order."""

import json
import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from blender_addon.jobs.events import Tailer, append_event

messages = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=8)


def lines(texts):
    """Events as a foreign writer may put them: not in ASCII, so that characters can be cut."""
    events = [{"ev": "warning", "i": i, "message": text} for i, text in enumerate(texts)]
    return events, b"".join(json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in events)


@given(messages, st.lists(st.integers(1, 40), max_size=60))
def test_any_chunks_give_the_same_events(texts, sizes):
    events, data = lines(texts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        tailer, found = Tailer(path), []
        with open(path, "ab", buffering=0) as file:
            for size in [*sizes, len(data)]:
                file.write(data[:size])
                data = data[size:]
                found += tailer.poll()
        assert found == events


@given(st.binary(max_size=400))
def test_any_bytes_give_as_many_events_as_filled_lines(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        path.write_bytes(data + b"\n")
        found = Tailer(path).poll()
        assert len(found) == sum(bool(line.strip()) for line in data.split(b"\n"))
        assert all(isinstance(event["ev"], str) for event in found)


class Following(RuleBasedStateMachine):
    """The file is appended to, torn, truncated, replaced and removed while a tailer follows it.

    A model knows which events a follower must have seen when it polls after each change.
    """

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "events.jsonl"
        self.tailer = Tailer(self.path)
        self.number = 0
        self.torn = False
        self.expected = []

    def teardown(self):
        self.folder.cleanup()

    def _next(self):
        self.number += 1
        return self.number

    @rule(text=st.text(max_size=20))
    def append(self, text):
        number = self._next()
        if self.torn:
            self.expected.append("unreadable")
            self.torn = False
        append_event(self.path, "step", i=number, message=text)
        self.expected.append(number)

    @precondition(lambda self: not self.torn)
    @rule()
    def tear(self):
        with open(self.path, "ab") as file:
            file.write(b'{"ev": "step", "i": %d' % self._next())
        self.torn = True

    @rule()
    def truncate(self):
        self.path.write_bytes(b"")
        self.torn = False
        self.tailer.poll()

    @rule(count=st.integers(1, 5))
    def replace(self, count):
        other = self.path.with_name("other")
        numbers = [self._next() for _ in range(count)]
        for number in numbers:
            append_event(other, "step", i=number)
        os.replace(other, self.path)
        self.torn = False
        self.expected += numbers

    @precondition(lambda self: self.path.exists())
    @rule()
    def remove_and_poll(self):
        self.path.unlink()
        assert self.tailer.poll() == []
        self.torn = False

    @invariant()
    def everything_arrived(self):
        found = [event.get("i", "unreadable") for event in self.tailer.poll()]
        assert found == self.expected
        self.expected = []


TestFollowing = Following.TestCase
TestFollowing.settings = settings(max_examples=40, stateful_step_count=25)
