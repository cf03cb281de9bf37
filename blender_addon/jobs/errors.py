# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, in words an artist can act on. Anything that is not one of these is a bug."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class TweedError(Exception):
    """An error with a sentence for the artist (`message`) and what to do about it (`action`).

    `code` names the kind on the wire (result.json, events.jsonl); `exit_code` is what both command
    lines return for it; `log` is the tail of the engine's log, where there is one.
    """

    code = "tweed"
    exit_code = 4

    def __init__(self, message: str, action: str = "", log: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.action = action
        self.log = log

    def __str__(self) -> str:
        return self.message

    def to_dict(self) -> dict[str, str]:
        """Gives the error as plain JSON values; `from_dict` is its inverse."""
        values = {"code": self.code, "message": self.message, "action": self.action}
        return {**values, "log": self.log} if self.log else values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TweedError | Cancelled:
        return from_dict(values)


class UserError(TweedError):
    """The artist can fix it; shown verbatim in the panel, without a traceback."""

    code = "user"


class SettingsError(UserError):
    """A setting is unknown, of the wrong type or out of range. `key` is its name, where one is meant."""

    code = "settings"
    exit_code = 2

    def __init__(self, message: str, action: str = "", log: str = "", key: str = "") -> None:
        super().__init__(message, action, log)
        self.key = key


class MeshError(UserError):
    """The mesh cannot be textured as it is."""

    code = "mesh"


class ModelError(UserError):
    """A model is unknown, missing or damaged."""

    code = "model"


class DeviceError(UserError):
    """The asked-for device or rasterizer is not there."""

    code = "device"


class OutOfMemory(DeviceError):
    """The device's memory is too small for the job."""

    code = "out_of_memory"
    exit_code = 6


class NoRoom(UserError):
    """A folder has no space left for what has to be written."""

    code = "no_room"


class JobError(UserError):
    """A job folder is incomplete or damaged, or asks for something outside itself."""

    code = "job"


class EngineError(TweedError):
    """The engine failed in a way the artist did not cause."""

    code = "engine"


class EngineMissing(EngineError):
    """No engine is installed, or none that starts."""

    code = "engine_missing"
    exit_code = 3


class ProtocolError(EngineError):
    """The add-on and the engine do not speak the same version."""

    code = "protocol"


class EngineLost(EngineError):
    """The engine's process ended while it was needed; `log` has its last words."""

    code = "engine_lost"


class Cancelled(Exception):
    """The artist stopped the job. Control flow, never shown as an error."""

    code = "cancelled"
    exit_code = 5

    def to_dict(self) -> dict[str, str]:
        return {"code": self.code, "message": str(self) or "Cancelled.", "action": ""}


def _family(base: type[TweedError]) -> list[type[TweedError]]:
    return [base, *(kind for child in base.__subclasses__() for kind in _family(child))]


def from_dict(values: Mapping[str, Any]) -> TweedError | Cancelled:
    """Gives back the error that `to_dict` wrote; a code of a newer version becomes an EngineError."""
    code, message = str(values.get("code", "")), str(values.get("message", "")) or "Unknown error."
    if code == Cancelled.code:
        return Cancelled(message)
    kinds = {kind.code: kind for kind in _family(TweedError)}
    kind = kinds.get(code, EngineError)
    return kind(message, str(values.get("action", "")), str(values.get("log", "")))
