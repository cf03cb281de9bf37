# SPDX-License-Identifier: Apache-2.0
"""The job folder: job.json and mesh.npz written by the add-on, result.json by the engine.

A folder appears whole or not at all. Reading checks everything: a damaged folder gives a JobError (or
SettingsError, ProtocolError) that names the file and the fault.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import replace as replace_fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .arrays import MAX_MESH_BYTES, MAX_TRIANGLES, MAX_UVS, MAX_VERTICES, MeshArrays, mesh_bytes, read_mesh, write_mesh
from .errors import JobError, ProtocolError, SettingsError, TweedError
from .files import (
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    explain_os_error,
    inside,
    json_text,
    parse_json,
    read_limited,
    replace,
    require_room,
    write_synced,
)
from .png import png_header
from .records import INPUT_KINDS, MAX_CAMERAS, MAX_OBJECTS, Camera, Job, edited_size, needs_texture, new_job_id, of_tile
from .settings import resolve

PROTO = 1
VERSION = "0.1.0"

JOB_FILE, MESH_FILE, RESULT_FILE = "job.json", "mesh.npz", "result.json"
EVENTS_FILE, PREVIEW_FILE, INPUTS, OUTPUTS = "events.jsonl", "preview.png", "inputs", "out"
OWNER_FILE = f"{OUTPUTS}/owner.png"  # which view painted which texel, from 1; 0: none. Of a UDIM tile: see `owner_file`
STATUSES = ("done", "failed", "cancelled")

MAX_JSON_BYTES = 16 * 1024**2


def owner_file(tile: str) -> str:
    """Where in a job's folder the map of owners of a texture is, by its name: that of a UDIM tile ..., or "" for the only one."""
    return f"{OUTPUTS}/{of_tile('owner', tile)}.png"


def write_job(parent: Path, job: Job, pictures: Mapping[str, bytes] | None = None) -> Path:
    """Writes the job as the new folder parent/<id> and gives its path; it appears whole or not at all.

    `pictures` are the job's inputs as PNG files, by kind; they become `inputs/<kind>.png` whatever `job.inputs` says.
    UserError if it exists already, if there is no room (NoRoom) or if `parent` cannot be written.
    """
    parent = Path(parent)
    folder = parent / job.id
    pictures = dict(pictures or {})
    missing = [kind for kind in job.inputs if kind not in pictures]
    if missing:
        raise JobError(f"The job's input {missing[0]} was not given as a picture.")
    job = replace_fields(job, inputs={kind: f"{INPUTS}/{kind}.png" for kind in pictures})
    text = json_text(_job_record(job), indent=1) + "\n"
    if len(text) > MAX_JSON_BYTES:
        raise JobError(f"{folder / JOB_FILE}: {len(text):,} bytes; at most {MAX_JSON_BYTES:,} are allowed.")
    size = mesh_bytes(job.mesh) + len(text) + sum(map(len, pictures.values()))
    temporary = parent / f".{job.id}.{secrets.token_hex(4)}.tmp"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        require_room(parent, size)
        if folder.exists():
            raise JobError(f"{folder}: the folder exists already.", "Start the job again.")
        (temporary / INPUTS).mkdir(parents=True)
        write_synced(temporary / MESH_FILE, lambda file: write_mesh(file, job.mesh))
        for kind, data in pictures.items():
            write_synced(temporary / INPUTS / f"{kind}.png", lambda file, data=data: file.write(data))
        write_synced(temporary / JOB_FILE, lambda file: file.write(text.encode("ascii")))
        replace(temporary, folder)
    except OSError as error:
        raise explain_os_error(error, folder, size) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _job_record(job: Job) -> dict[str, Any]:
    cameras = [
        {
            "name": camera.name,
            "view": camera.view.tolist(),
            "projection": camera.projection.tolist(),
            "prompt": camera.prompt,
            "avoid": camera.avoid,
        }
        for camera in job.cameras
    ]
    return {
        "tweed": VERSION,
        "proto": PROTO,
        "id": job.id,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": job.settings,
        "cameras": cameras,
        "mesh": MESH_FILE,
        "inputs": job.inputs,
        "objects": job.objects,
        "origin": job.origin,
    }


def read_job(folder: Path) -> Job:
    """Reads and checks a whole job. JobError, SettingsError or ProtocolError name the file and the fault."""
    folder = Path(folder)
    path = folder / JOB_FILE
    record = _read_record(path)
    _check_proto(path, record)
    mesh = record.get("mesh")
    if not isinstance(mesh, str) or not mesh:
        raise JobError(f"{path}: names no mesh file (mesh).", "Start the job again.")
    mesh_path = inside(folder, mesh)
    try:
        cameras = _read_cameras(record.get("cameras"))
        settings = resolve(record.get("settings"))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error.message}", error.action, key=error.key) from None
    except JobError as error:
        raise JobError(f"{path}: {error.message}", error.action) from None
    arrays = read_mesh(mesh_path)
    try:
        job = Job(record.get("id"), settings, arrays, cameras, record.get("objects"), record.get("origin"),
                  record.get("inputs", {}))  # fmt: skip
    except JobError as error:
        raise JobError(f"{path}: {error.message}", error.action) from None
    for picture in job.inputs.values():
        png_header(inside(folder, picture))
    return job


def read_cameras(folder: Path) -> tuple[Camera, ...]:
    """Reads the cameras of a job without its mesh. JobError names the file and the fault."""
    path = Path(folder) / JOB_FILE
    record = _read_record(path)
    _check_proto(path, record)
    try:
        return _read_cameras(record.get("cameras"))
    except JobError as error:
        raise JobError(f"{path}: {error.message}", error.action) from None


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = parse_json(read_limited(path, MAX_JSON_BYTES))
    except ValueError as error:
        raise JobError(f"{path}: no valid JSON ({error}).", "Start the job again.") from None
    if not isinstance(record, dict):
        raise JobError(f"{path}: holds {type(record).__name__}; expected a record.")
    return record


def _check_proto(path: Path, record: dict[str, Any]) -> None:
    proto = record.get("proto")
    if not isinstance(proto, int) or isinstance(proto, bool):
        raise JobError(f"{path}: has no protocol version (proto).")
    if proto != PROTO:
        raise ProtocolError(
            f"{path}: written with protocol {proto} (Tweed {str(record.get('tweed'))[:20]}); "
            f"this is protocol {PROTO} (Tweed {VERSION}).",
            "Update the extension and the engine to the same version.",
        )


def _read_cameras(records: Any) -> tuple[Camera, ...]:
    if not isinstance(records, list) or len(records) > MAX_CAMERAS:
        raise JobError(f"cameras is no list of up to {MAX_CAMERAS}.")
    cameras = []
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise JobError(f"camera {number} is no record.")
        keys = ("name", "view", "projection", "prompt", "avoid")
        cameras.append(Camera(**{key: record.get(key, "") for key in keys}))
    return tuple(cameras)


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Writes result.json atomically: status, images, report, error. ValueError if the caller got them wrong.

    `images` maps a kind such as base_color to a path inside the folder; `error` is an error's to_dict()
    or None. Missing parts are filled in with empty ones.
    """
    record = {"tweed": VERSION, "proto": PROTO, "images": {}, "report": {}, "error": None, **result}
    fault = _result_fault(Path(folder), record)
    if fault:
        raise ValueError(fault)
    atomic_write_json(Path(folder) / RESULT_FILE, record)


def read_result(folder: Path) -> dict[str, Any] | None:
    """Gives result.json, or None while there is none. JobError if it is damaged or points out of the folder."""
    path = Path(folder) / RESULT_FILE
    if not path.exists():
        return None
    record = _read_record(path)
    _check_proto(path, record)
    fault = _result_fault(Path(folder), record)
    if fault:
        raise JobError(f"{path}: {fault}.", "Run the job again.")
    return record


def _result_fault(folder: Path, record: dict[str, Any]) -> str:
    """Says what is wrong with a result, or nothing."""
    status, images, error = record.get("status"), record.get("images"), record.get("error")
    if status not in STATUSES:
        return f"status is {str(status)[:40]!r}; expected {', '.join(STATUSES)}"
    if not isinstance(images, dict) or not isinstance(record.get("report"), dict):
        return "images and report are no records"
    if error is not None and not (isinstance(error, dict) and isinstance(error.get("message"), str)):
        return "error has no message"
    if status == "failed" and error is None:
        return "it failed without saying why"
    try:
        for relative in images.values():
            inside(folder, relative)
    except TweedError as problem:
        return problem.message
    return ""


__all__ = [
    "EVENTS_FILE", "INPUTS", "INPUT_KINDS", "JOB_FILE", "MAX_CAMERAS", "MAX_JSON_BYTES", "MAX_MESH_BYTES",
    "MAX_OBJECTS", "MAX_TRIANGLES", "MAX_UVS", "MAX_VERTICES", "MESH_FILE", "OUTPUTS", "OWNER_FILE", "PREVIEW_FILE", "PROTO",
    "RESULT_FILE",
    "STATUSES", "VERSION", "Camera", "Job", "MeshArrays", "atomic_write_bytes", "atomic_write_json",
    "atomic_write_text", "edited_size", "inside", "needs_texture", "new_job_id", "of_tile", "owner_file", "read_cameras",
    "read_job", "read_result", "write_job", "write_result",
]  # fmt: skip
