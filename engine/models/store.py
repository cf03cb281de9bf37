# SPDX-License-Identifier: Apache-2.0
"""Models on this machine: the hub's own cache, shared with every other program that uses it, and what is in it.

The cache keeps each file under the checksum that the hub gave for it, so whether a model is whole can be told without
asking anybody: sha256 for weights, git's sha1 for small files.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from blender_addon.jobs.catalogue import CATALOGUE, Entry, entry
from blender_addon.jobs.errors import ModelError, UserError
from engine.models.folders import PICKLES, check_safetensors, sha256
from engine.models.hub import HUB_ID, cache_folder

GB = 10**9
SPARE = 1.1  # room asked for, beyond the size of what is to come


@dataclass(frozen=True)
class State:
    """A model in the cache. size: bytes. faults: sentences about what is not whole."""

    name: str
    path: Path  # the newest snapshot
    revision: str
    size: int
    faults: tuple[str, ...] = ()


def repository_folder(name: str) -> Path:
    return cache_folder() / ("models--" + name.partition("@")[0].replace("/", "--"))


def state_of(name: str, contents: bool = False) -> State | None:
    """What is here of a hub model; None if nothing is. `contents` compares every checksum, else only lengths.

    A wanted revision comes after "@", else it is the pinned one, else the newest here.
    """
    repository, _, revision = name.partition("@")
    folder = repository_folder(repository)
    known = entry(repository)
    revision = revision or (known.revision if known else "")
    snapshots = sorted((folder / "snapshots").glob("*"), key=lambda path: path.stat().st_mtime)
    wanted = [path for path in snapshots if path.name == revision] or ([] if revision else snapshots)
    if not wanted:
        return None
    snapshot = wanted[-1]
    files = [path for path in sorted(snapshot.rglob("*")) if path.is_file() or path.is_symlink()]
    faults = [fault for path in files if (fault := _fault(path, snapshot, contents))]
    faults += [f"{path.name[:12]}... was not downloaded to its end" for path in (folder / "blobs").glob("*.incomplete")]
    size = sum(path.stat().st_size for path in files if path.exists())
    return State(repository, snapshot, snapshot.name, size, tuple(faults))


def _fault(path: Path, snapshot: Path, contents: bool) -> str:
    """What is wrong with one file of a snapshot; "" for nothing."""
    relative = path.relative_to(snapshot).as_posix()
    if not path.exists():
        return f"{relative} is missing"
    if path.suffix == ".safetensors":
        try:
            check_safetensors(path, relative)
        except ModelError as error:
            return error.message
    if contents and path.is_symlink() and not _same(path.resolve()):
        return f"{relative} was changed or damaged"
    return ""


def _same(blob: Path) -> bool:
    """Whether a blob's content has the checksum that is its name; True for names that are none."""
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return sha256(blob) == blob.name
    if re.fullmatch(r"[0-9a-f]{40}", blob.name):  # git's own: over a header with the length, then the content
        data = blob.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == blob.name
    return True


def listing() -> list[tuple[Entry, State | None]]:
    """Every entry of the catalogue but the bundled model, with what is here of it."""
    return [(one, state_of(one.name)) for one in CATALOGUE if "/" in one.name]


def discard_faulty(name: str) -> int:
    """Removes the files that `state_of` finds fault with, so that they are fetched again; their number."""
    state = state_of(name, contents=True)
    removed = 0
    if state is None:
        return 0
    for path in [path for path in state.path.rglob("*") if path.is_symlink() or path.is_file()]:
        if _fault(path, state.path, True):
            blob = path.resolve()
            path.unlink()
            blob.unlink(missing_ok=True)
            removed += 1
    return removed


def remove(name: str) -> int:
    """Deletes a hub model with all its revisions from the cache; the bytes that are free again."""
    repository = name.partition("@")[0]
    folder = repository_folder(repository)
    if not HUB_ID.fullmatch(repository) or not folder.is_dir():
        raise ModelError(
            f'Model "{name}" is not in the cache {cache_folder()}.',
            'See "python -m engine models list" for what is; folders of your own are yours to delete.',
        )
    freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    shutil.rmtree(folder)
    return freed


def require_room(size: int, where: Path) -> None:
    """Raises `UserError` where `size` bytes do not fit on the disk of `where`."""
    place = where
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if size * SPARE > free:
        raise UserError(
            f"{size / GB:.1f} GB are needed in {where}, and {free / GB:.1f} GB are free.",
            "Make room, or set HF_HOME to a folder on a larger disk.",
        )


def import_folder(source: Path, name: str = "") -> State:
    """Puts a model from a folder (a stick, another machine) into the cache, under a hub id, for use without network.

    source: a folder in the diffusers layout, or a "models--org--name" folder out of another machine's cache.
    name: the id it shall answer to; by default that of the cache folder, else "imported/" and the folder's name.
    """
    if not source.is_dir():
        raise UserError(f'There is no folder "{source}".', "Give the folder that holds the model.")
    whole = re.fullmatch(r"models--(.+?)--(.+)", source.name)
    if whole and (source / "snapshots").is_dir():
        newest = sorted((source / "snapshots").glob("*"), key=lambda path: path.stat().st_mtime)
        if not newest:
            raise ModelError(f"{source} holds no snapshot of the model.", "Copy the folder again.")
        return _take(newest[-1], name or f"{whole[1]}/{whole[2]}", newest[-1].name)
    known = entry(name) if name else None
    return _take(source, name or f"imported/{source.resolve().name}", known.revision if known else "")


def _take(source: Path, name: str, revision: str) -> State:
    if not HUB_ID.fullmatch(name) or "@" in name:
        raise UserError(f'"{name}" is no id.', 'Give one such as --name "org/name".')
    files = [path for path in sorted(source.rglob("*")) if path.is_file() and path.suffix not in PICKLES]
    weights = [path for path in files if path.suffix == ".safetensors"]
    known = entry(name)
    bare = known is not None and (known.role in ("lora", "multiview") or bool(known.needs))  # weights alone
    if not weights or not (bare or any(path.name.endswith("config.json") for path in files)):
        raise ModelError(
            f"{source} holds no model: a config.json and .safetensors files are needed.",
            "Pickled weights (.bin, .ckpt) are not taken, because they can run code.",
        )
    for path in weights:
        check_safetensors(path, name)
    target = repository_folder(name)
    require_room(sum(path.stat().st_size for path in files), target)
    revision = revision or _content_name(source, files)
    snapshot, unfinished = target / "snapshots" / revision, target / f".importing-{os.getpid()}"
    try:
        for path in files:
            place = unfinished / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        if snapshot.exists():
            shutil.rmtree(snapshot)
        snapshot.parent.mkdir(parents=True, exist_ok=True)
        unfinished.rename(snapshot)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    (target / "refs").mkdir(exist_ok=True)
    (target / "refs" / "main").write_text(revision, encoding="ascii")
    found = state_of(f"{name}@{revision}")
    if found is None or found.faults:
        raise ModelError(f'"{name}" was not copied whole.', "Import it again.")
    return found


def _content_name(source: Path, files: list[Path]) -> str:
    """40 hex digits that stand for a folder's content where no commit is known."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(source).as_posix()} {path.stat().st_size}\n".encode())
        digest.update(sha256(path).encode())
    return digest.hexdigest()[:40]
