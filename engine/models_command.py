# SPDX-License-Identifier: Apache-2.0
"""`python -m engine models list | add NAME | verify [NAME] | remove NAME | import FOLDER`: what is on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from blender_addon.jobs.catalogue import CATALOGUE, Entry, entry, licence_line
from blender_addon.jobs.controls import hub_lora
from blender_addon.jobs.errors import ModelError
from engine.models import PIPELINE_PARTS, available_models, find_folder
from engine.models.folders import verify_manifest
from engine.models.hub import PINNED, download_size, fetch, weights_of
from engine.models.store import (
    GB,
    State,
    discard_faulty,
    import_folder,
    listing,
    remove,
    repository_folder,
    require_room,
    state_of,
)

OK, FAULTY = 0, 4


def run_models(arguments: argparse.Namespace) -> int:
    """Does what the parsed arguments ask; an exit code. Raises `UserError` for what the artist can mend."""
    if arguments.models == "list":
        return _list(arguments.json)
    if arguments.models == "add":
        return _add(arguments.name)
    if arguments.models == "verify":
        return _verify(arguments.name)
    if arguments.models == "remove":
        return _remove(arguments.name)
    found = import_folder(arguments.folder, arguments.name)
    print(f'Imported as "{found.name}" at {found.revision[:12]}, {found.size / GB:.2f} GB.')
    for need in _absent(found.name):
        print(f"It is no use without {need}: import that too, or run: python -m engine models add {need}")
    return OK


def rows() -> list[dict]:
    """The catalogue as plain values, each with its state: "ready", "not here" or what is wrong."""
    bundled = {name: ("ready" if state == "ready" else state) for name, state in available_models().items()}
    found = [_row(entry(name), state) for name, state in bundled.items()]
    return found + [_row(one, _word(one, state)) for one, state in listing()]


def _row(one: Entry, state: str) -> dict:
    return {
        "name": one.name, "family": one.family, "role": one.role, "state": state, "good_for": one.good_for,
        "licence": licence_line(one.name), "gated": one.gated, "size_gb": one.size, "memory_gb": one.memory,
        "revision": one.revision, "verified": one.verified, "settings": dict(one.settings), "needs": list(one.needs),
    }  # fmt: skip


def _word(one: Entry, state: State | None) -> str:
    if state is None:
        return "not here"
    faults = [*state.faults, *(f"needs {need}" for need in _absent(one.name))]
    return f"incomplete: {faults[0]}" if faults else "ready"


def _absent(name: str) -> list[str]:
    """What a model is no use without, and is not here."""
    one = entry(name)
    return [need for need in one.needs if state_of(need) is None] if one else []


def _list(as_json: bool) -> int:
    found = rows()
    if as_json:
        print(json.dumps(found, indent=1))
        return OK
    for row in found:
        pinned = "" if row["verified"] else "; revision not verified here"
        gated = "; gated" if row["gated"] else ""
        print(f"{row['name']:<58} {row['family']:<12} {row['role']:<8} {row['state']}")
        memory = f", about {row['memory_gb']:g} GB of graphics memory" if row["memory_gb"] else ""
        needs = f"; needs {', '.join(row['needs'])}" if row["needs"] else ""
        print(f"    {row['good_for']}; {row['size_gb']:g} GB{memory}{needs}")
        print(f"    {row['licence'].rstrip('.')}{gated}{pinned}")
    return OK


Piece = tuple[str, tuple[str, ...], tuple[str, ...]]  # id with or without "@revision", parts, files


def _add(name: str) -> int:
    if name == "swatch":
        print("swatch comes with Tweed.")
        return _verify(name)
    one, pieces = entry(name), [_piece(name)]
    pieces += [_piece(need) for need in (one.needs if one else ())]
    removed = sum(discard_faulty(piece[0]) for piece in pieces)
    if removed:
        print(f"{removed} damaged or missing file{'s' if removed > 1 else ''} will be fetched again.", file=sys.stderr)
    require_room(sum(download_size(*piece) for piece in pieces), repository_folder(pieces[0][0]))
    for piece in pieces:
        _fetch(*piece)
    return OK


def _plain(name: str) -> str:
    """The id in a name that may have a file's name behind it, as the setting `lora` writes it."""
    return (hub_lora(name) or (name, ""))[0]


def _piece(name: str) -> Piece:
    """What to fetch by a name: of the catalogue, of any model, or of one file of a repository."""
    at, file = hub_lora(name) or (name, "")
    one = entry(at)
    if file:
        return at, (), (file,)
    return at, PIPELINE_PARTS if one is None or one.role == "model" else (), one.files if one else ()


def _fetch(name: str, parts: tuple[str, ...], files: tuple[str, ...]) -> None:
    repository = name.partition("@")[0]
    folder = fetch(name, parts, files, ask=True)
    wrong = [file for file in files if "*" not in file and not (folder.path / file).exists()]
    if wrong or not any(folder.path.rglob("*.safetensors")):
        has = ", ".join(weights_of(name, ask=True)[:12]) or "none"
        raise ModelError(
            f'"{name}" has no {wrong[0] if wrong else "model of the diffusers layout"}. Its weights: {has}.',
            "Pickles are not taken. Of a LoRA name the file: "
            f"python -m engine models add {repository}/FILE.safetensors",
        )
    state = state_of(f"{repository}@{folder.revision}", contents=True)
    if state is None or state.faults:
        raise ModelError(f'"{name}" is not whole: {state.faults[0] if state else "nothing came"}.', "Add it again.")
    print(f"{repository} at {folder.revision[:12]}, {state.size / GB:.2f} GB, is whole. {licence_line(name)}".rstrip())
    if repository not in PINNED and "@" not in name:
        print(f'Its revision is not pinned in Tweed; "{repository}@{folder.revision}" names exactly these files.')


def _remove(name: str) -> int:
    print(f"Removed {_plain(name)}: {remove(_plain(name)) / GB:.2f} GB are free again.")
    removed, here = entry(name), [one for one in CATALOGUE if one.needs and state_of(one.name) is not None]
    for need in removed.needs if removed else ():
        if state_of(need) is not None and not any(need in one.needs for one in here):
            print(f"Nothing else here needs {need}: python -m engine models remove {need}")
    for one in here:
        if removed and removed.name in one.needs:
            print(f"{one.name} is no use without it.")
    return OK


def _verify(name: str) -> int:
    if name == "swatch" or (Path(name).expanduser().is_dir() and name):
        print(f"{name}: {verify_manifest(find_folder(name))} files agree with their checksums.")
        return OK
    names = [_plain(name)] if name else [one.name for one, state in listing() if state is not None]
    known = entry(names[0]) if name else None
    names += [need for need in (known.needs if known else ()) if state_of(need) is not None]
    worst = OK
    for one in names:
        state = state_of(one, contents=True)
        if state is None:
            raise ModelError(f'Model "{one}" is not on this machine.', f"python -m engine models add {one}")
        faults = [*state.faults, *(f"{need}, which it needs, is not here" for need in _absent(one))]
        print(f"{one} at {state.revision[:12]}: {'whole' if not faults else '; '.join(faults)}")
        worst = max(worst, FAULTY if faults else OK)
    if worst:
        print('"python -m engine models add NAME" fetches what is missing or damaged again.', file=sys.stderr)
    return worst
