# SPDX-License-Identifier: Apache-2.0
"""`python -m engine models list | add NAME | verify [NAME] | remove NAME | import FOLDER`: what is on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from blender_addon.jobs.catalogue import Entry, entry, licence_line
from blender_addon.jobs.errors import ModelError
from engine.models import PIPELINE_PARTS, available_models, find_folder
from engine.models.folders import verify_manifest
from engine.models.hub import PINNED, download_size, fetch
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
        print(f"Removed {arguments.name}: {remove(arguments.name) / GB:.2f} GB are free again.")
        return OK
    found = import_folder(arguments.folder, arguments.name)
    print(f'Imported as "{found.name}" at {found.revision[:12]}, {found.size / GB:.2f} GB.')
    return OK


def rows() -> list[dict]:
    """The catalogue as plain values, each with its state: "ready", "not here" or what is wrong."""
    bundled = {name: ("ready" if state == "ready" else state) for name, state in available_models().items()}
    found = [_row(entry(name), state) for name, state in bundled.items()]
    return found + [_row(one, _word(state)) for one, state in listing()]


def _row(one: Entry, state: str) -> dict:
    return {
        "name": one.name, "family": one.family, "role": one.role, "state": state, "good_for": one.good_for,
        "licence": licence_line(one.name), "gated": one.gated, "size_gb": one.size, "memory_gb": one.memory,
        "revision": one.revision, "verified": one.verified, "settings": dict(one.settings),
    }  # fmt: skip


def _word(state: State | None) -> str:
    if state is None:
        return "not here"
    return f"incomplete: {state.faults[0]}" if state.faults else "ready"


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
        print(f"    {row['good_for']}; {row['size_gb']:g} GB{memory}\n    {row['licence'].rstrip('.')}{gated}{pinned}")
    return OK


def _add(name: str) -> int:
    one, repository = entry(name), name.partition("@")[0]
    if name == "swatch":
        print("swatch comes with Tweed.")
        return _verify(name)
    parts: tuple[str, ...] = PIPELINE_PARTS if one is None or one.role == "model" else ()
    files = one.files if one else ()
    removed = discard_faulty(name)
    if removed:
        print(f"{removed} damaged or missing file{'s' if removed > 1 else ''} will be fetched again.", file=sys.stderr)
    require_room(download_size(name, parts, files), repository_folder(repository))
    folder = fetch(name, parts, files, ask=True)
    state = state_of(f"{repository}@{folder.revision}", contents=True)
    if state is None or state.faults:
        raise ModelError(f'"{name}" is not whole: {state.faults[0] if state else "nothing came"}.', "Add it again.")
    print(f"{repository} at {folder.revision[:12]}, {state.size / GB:.2f} GB, is whole. {licence_line(name)}".rstrip())
    if repository not in PINNED and "@" not in name:
        print(f'Its revision is not pinned in Tweed; "{repository}@{folder.revision}" names exactly these files.')
    return OK


def _verify(name: str) -> int:
    if name == "swatch" or (Path(name).expanduser().is_dir() and name):
        print(f"{name}: {verify_manifest(find_folder(name))} files agree with their checksums.")
        return OK
    names = [name] if name else [one.name for one, state in listing() if state is not None]
    worst = OK
    for one in names:
        state = state_of(one, contents=True)
        if state is None:
            raise ModelError(f'Model "{one}" is not on this machine.', f"python -m engine models add {one}")
        print(f"{one} at {state.revision[:12]}: {'whole' if not state.faults else '; '.join(state.faults)}")
        worst = max(worst, FAULTY if state.faults else OK)
    if worst:
        print('"python -m engine models add NAME" fetches what is missing or damaged again.', file=sys.stderr)
    return worst
