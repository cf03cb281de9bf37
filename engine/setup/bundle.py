# SPDX-License-Identifier: Apache-2.0
"""The extension's zip, which carries the engine along, and unpacking that engine on an artist's machine.

The zip's root is the add-on as Blender wants it. `engine_bundle/` in it holds install.py, the engine with its bundled
model and a copy of the job-folder package, so that the extension can set itself up with no other download than pip's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from engine.setup.console import SetupProblem

LEFT_OUT = re.compile(r"(^|/)(__pycache__|\.[^/]*|tests?)(/|$)|\.(pyc|nbi|nbc|blend1|tmp|part|log)$")
MARK = "bundle.json"
STORED = (".safetensors", ".png", ".npz", ".zip")  # already compressed or incompressible


def is_bundle(root: Path) -> bool:
    """True when this copy of Tweed came out of the extension's zip and is not a checkout."""
    return (root / MARK).exists()


def version(root: Path) -> str:
    """The version in the extension's manifest (checkout) or in the bundle's mark."""
    if is_bundle(root):
        return json.loads((root / MARK).read_text(encoding="utf-8"))["version"]
    text = (root / "blender_addon" / "blender_manifest.toml").read_text(encoding="utf-8")
    found = re.search(r'^version\s*=\s*"([^"]+)"', text, re.MULTILINE)
    if not found:
        raise SetupProblem("blender_addon/blender_manifest.toml names no version.", "Get a fresh copy of Tweed.")
    return found[1]


def files_below(folder: Path) -> Iterator[tuple[Path, str]]:
    """(file, path inside the folder) for everything that ships, in a fixed order."""
    for file in sorted(folder.rglob("*")):
        inside = file.relative_to(folder).as_posix()
        if file.is_file() and not LEFT_OUT.search(inside):
            yield file, inside


def contents(root: Path) -> Iterator[tuple[Path, str]]:
    """(file, path in the zip) for the whole extension."""
    for file, inside in files_below(root / "blender_addon"):
        yield file, inside
    for name in ("install.py", "LICENSE", "THIRD_PARTY.md"):
        yield root / name, f"engine_bundle/{name}"
    for folder in ("requirements", "engine", "blender_addon/jobs", "blender_addon/presets", "LICENSES"):
        for file, inside in files_below(root / folder):
            yield file, f"engine_bundle/{folder}/{inside}"


def build_zip(root: Path, folder: Path) -> Path:
    """Write folder/tweed-<version>.zip; the same sources give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"tweed-{version(root)}.zip"
    temporary = target.with_suffix(".zip.part")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for file, name in contents(root):
                add(archive, name, file.read_bytes())
            add(archive, f"engine_bundle/{MARK}", json.dumps({"version": version(root)}).encode())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0))
    info.external_attr = 0o644 << 16
    info.compress_type = zipfile.ZIP_STORED if name.endswith(STORED) else zipfile.ZIP_DEFLATED
    archive.writestr(info, data)


def unpack_engine(root: Path, prefix: Path) -> Path:
    """Copy the engine out of the extension's folder, which Blender empties on every update; returns its new root."""
    target = prefix / f"engine-{version(root)}"
    if target.exists() and same_files(root, target):
        return target
    prefix.mkdir(parents=True, exist_ok=True)
    for leftover in prefix.glob("unpacking-*"):  # of an installer that was killed; only one runs at a time
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix="unpacking-", dir=prefix))
    try:
        for file, inside in files_below(root):
            (temporary / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, temporary / inside)
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def same_files(source: Path, target: Path) -> bool:
    sizes = [{inside: file.stat().st_size for file, inside in files_below(folder)} for folder in (source, target)]
    return sizes[0] == sizes[1] and all(
        file.read_bytes() == (target / inside).read_bytes() for file, inside in files_below(source)
    )


def write_pointer(data: Path, python: Path, root: Path) -> Path:
    """Tell the extension where the engine is: <data>/engine.json."""
    data.mkdir(parents=True, exist_ok=True)
    target = data / "engine.json"
    temporary = target.with_suffix(".json.new")
    record = {"python": str(python), "root": str(root), "version": version(root)}
    temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, target)
    return target


def read_pointer(data: Path) -> dict | None:
    """The pointer file's content; None when there is none; {} when it cannot be read."""
    try:
        found = json.loads((data / "engine.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
