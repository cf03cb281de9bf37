# SPDX-License-Identifier: Apache-2.0
"""One message of the remote protocol as bytes. Every size is checked before memory is taken for it.

A frame is two big-endian 32-bit numbers, the bytes of its head and of its body; then the head, a JSON object in UTF-8
whose "do" says what is meant; then the body, raw bytes. The far side's first word is BANNER, so that what a shell's
start-up files print before it can be told from the protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .errors import ProtocolError
from .files import json_text, parse_json

REMOTE = 1  # version of the frames and of what they mean
BANNER = b"\ntweed remote\n"
MAX_HEAD = 1 << 18
MAX_BODY = 1 << 18
MAX_NOISE = 1 << 16  # bytes before the banner
_LENGTHS = struct.Struct(">II")


@dataclass(frozen=True)
class Frame:
    do: str
    fields: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""


def encode(do: str, body: bytes = b"", **fields: Any) -> bytes:
    """The bytes of a frame. ValueError for one that no reader would take."""
    head = json_text({**fields, "do": do}).encode("ascii")
    if len(head) > MAX_HEAD or len(body) > MAX_BODY:
        raise ValueError(f"a frame of {len(head)} + {len(body)} bytes; at most {MAX_HEAD} + {MAX_BODY} are allowed")
    return _LENGTHS.pack(len(head), len(body)) + head + body


class Frames:
    """Reads frames. `read(n)` gives at most n bytes and none at the end, as a raw file's does."""

    def __init__(self, read: Callable[[int], bytes | None]) -> None:
        self._read = read

    def skip_to_banner(self) -> bytes:
        """Reads past BANNER; gives what stood before it. ProtocolError, with that as its log, if none comes."""
        seen = bytearray()
        while not seen.endswith(BANNER):
            byte = self._read(1) if len(seen) < MAX_NOISE else b""
            if not byte:
                words = seen.decode("utf-8", "replace")[-2000:].strip()
                raise ProtocolError("The other side did not answer as Tweed's engine does.", log=words)
            seen += byte
        return bytes(seen[: -len(BANNER)])

    def next(self) -> Frame | None:
        """The next frame, or None at the end. ProtocolError for one that is cut off, too large or no frame."""
        lengths = self._exactly(_LENGTHS.size, at_start=True)
        if not lengths:
            return None
        head_bytes, body_bytes = _LENGTHS.unpack(lengths)
        if head_bytes > MAX_HEAD or body_bytes > MAX_BODY:
            raise _broken(f"a message of {head_bytes:,} + {body_bytes:,} bytes")
        try:
            head = parse_json(self._exactly(head_bytes))
        except ValueError as error:
            raise _broken(f"a message that is no JSON ({error})") from None
        if not isinstance(head, dict) or not isinstance(head.get("do"), str):
            raise _broken("a message that says nothing")
        return Frame(head.pop("do"), head, self._exactly(body_bytes))

    def _exactly(self, size: int, at_start: bool = False) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._read(size - len(data))
            if not part:
                if at_start and not data:
                    return b""
                raise _broken("a message that is cut off")
            data += part
        return bytes(data)


def _broken(what: str) -> ProtocolError:
    return ProtocolError(
        f"The other side sent {what}.", "Start again; if it stays so, run install.py again on both machines."
    )
