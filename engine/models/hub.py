# SPDX-License-Identifier: Apache-2.0
"""Models from the Hugging Face hub: pinned revisions, safetensors only, and no network once they are here."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from pathlib import Path
from typing import Any

from blender_addon.jobs.catalogue import CATALOGUE
from blender_addon.jobs.errors import ModelError
from engine.models.folders import ModelFolder

# Revisions these models are pinned at. "org/name@revision" chooses another one; any other id takes its main branch.
PINNED = {one.name: one.revision for one in CATALOGUE if one.revision}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
TEXTS = ("*.json", "*.txt")
ENDINGS = (*TEXTS, "*.safetensors")
# Training leftovers; another ControlNet beside xinsir's union; last, the same weights again at half precision.
SKIPPED = ("*non_ema*", "*_promax.*", "*.fp16.*")
TIMEOUT = 5.0  # seconds to wait for the hub's first answer


def is_hub_id(name: str) -> bool:
    """Whether `name` looks like "org/name" or "org/name@revision"."""
    return HUB_ID.fullmatch(name) is not None


def fetch(
    name: str, parts: tuple[str, ...], files: tuple[str, ...] = (), weights: bool = True, ask: bool = False
) -> ModelFolder:
    """The folder of hub model `name` on this machine, downloaded (or its download resumed) when it is not whole yet.

    `parts` are the components needed ("unet", ...); () means the files at the top of the repository; `files` are single
    ones besides; `weights` False leaves the weights out. A model that is here already is found without asking the
    network, unless `ask`: then the hub is asked for what is missing, and what is here counts if it does not answer.
    Raises `ModelError` when it cannot be had.
    """
    repository, revision, wanted = _wanted(name, parts, files, weights)
    here = None if ask else _snapshot(repository, revision, wanted, local=True)
    if not weights:
        here = here or _snapshot(repository, revision, wanted, local=False)
    elif here is None or not _whole(here, parts):
        here = _snapshot(repository, revision, wanted, local=False) or here
    if weights and here is not None and not _whole(here, parts):  # published in half precision only
        here = _snapshot(repository, revision, wanted, local=False, skip=SKIPPED[:-1]) or here
    here = here or (_snapshot(repository, revision, wanted, local=True) if ask else None)
    if here is None:
        raise ModelError(f'Model "{name}" is not on this machine.', _remedy(repository))
    return ModelFolder(here, name, here.name)


def _wanted(
    name: str, parts: tuple[str, ...], files: tuple[str, ...], weights: bool = True
) -> tuple[str, str, list[str]]:
    """(repository, revision, patterns of the files) of a hub model."""
    repository, _, revision = name.partition("@")
    places = [] if files and not parts else [f"{part}/" for part in parts] or [""]
    endings = ENDINGS if weights else TEXTS
    wanted = [place + ending for place in places for ending in endings] + ["model_index.json", "README.md", *files]
    return repository, revision or PINNED.get(repository, "main"), wanted


def fetch_files(name: str, files: tuple[str, ...]) -> ModelFolder:
    """These files of a hub repository, found here or downloaded. Raises `ModelError` that names one that is not there.

    The hub is asked only for what is not here, also where other files of the repository are.
    """
    folder = fetch(name, (), files)
    if any(not (folder.path / file).exists() for file in files):
        folder = fetch(name, (), files, ask=True)
    missing = [file for file in files if not (folder.path / file).exists()]
    if missing:
        has = ", ".join(weights_of(name, ask=True)[:8])
        raise ModelError(
            f'"{name}" has no {missing[0]}, or it is not on this machine{f"; there is {has}" if has else ""}.',
            f"Check the spelling, or, with a network: python -m engine models add {name}",
        )
    return folder


def weights_of(name: str, ask: bool = False) -> list[str]:
    """The .safetensors files of a hub repository: those that are here, else all it has; `ask` for all, else those here.

    [] where nothing is here and the hub cannot be asked.
    """
    repository, revision, _ = _wanted(name, (), ())
    here = _snapshot(repository, revision, [], local=True)
    found = sorted(path.relative_to(here).as_posix() for path in here.rglob("*.safetensors")) if here else []
    if found and not ask:
        return found
    return sorted(one.filename for one in _dry_run(repository, revision, ["*.safetensors"])) or found


def download_size(name: str, parts: tuple[str, ...], files: tuple[str, ...] = ()) -> int:
    """Bytes that `fetch` would bring: the hub is asked. 0 when it cannot be asked, or nothing is missing."""
    return sum(one.file_size for one in _dry_run(*_wanted(name, parts, files)) if one.will_download)


def _dry_run(repository: str, revision: str, wanted: list[str]) -> list[Any]:
    """What a download would bring, and what of it is here; [] when the hub cannot be asked."""
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(
            repository, revision=revision, allow_patterns=wanted, ignore_patterns=list(SKIPPED), dry_run=True,
            etag_timeout=TIMEOUT, token=token(),
        )  # fmt: skip
    except (hub.HfHubHTTPError, hub.HTTPError, hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, OSError):
        return []


def cache_folder() -> Path:
    """Where the hub's files are kept (HF_HOME, HF_HUB_CACHE)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def token() -> str | None:
    """The hub's token: HF_TOKEN, else the system keyring's where the package keyring is installed, else the hub's file.

    None lets huggingface_hub look for the first and the last by itself.
    """
    if os.environ.get("HF_TOKEN"):
        return None
    if importlib.util.find_spec("keyring") is None:
        return None
    keyring = importlib.import_module("keyring")
    try:
        return keyring.get_password("tweed", "huggingface")
    except keyring.errors.KeyringError:
        return None


def _whole(here: Path, parts: tuple[str, ...]) -> bool:
    """Whether every component that has a config.json here has its weights too."""
    for place in [here / part for part in parts] or [here]:
        if (place / "config.json").exists() and not any(place.glob("*.safetensors")):
            return False
    return True


def _snapshot(
    repository: str, revision: str, wanted: list[str], local: bool, skip: tuple[str, ...] = SKIPPED
) -> Path | None:
    """The snapshot's folder; None when it is not (wholly) on this machine and `local` is set or the hub is silent."""
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=wanted, ignore_patterns=list(skip),
                local_files_only=local, etag_timeout=TIMEOUT, token=None if local else token(),
            )
        )  # fmt: skip
    except hub.GatedRepoError as error:
        raise ModelError(
            f'Model "{repository}" is gated: its owners want you to accept a licence first.',
            f"Accept it at huggingface.co/{repository}, then set the environment variable HF_TOKEN "
            "(or: keyring set tweed huggingface).",
        ) from error
    except (hub.RepositoryNotFoundError, hub.RevisionNotFoundError) as error:
        raise ModelError(
            f'The hub has no model "{repository}" at revision "{revision}".', "Check the spelling, or give a folder."
        ) from error
    except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled):
        return None
    except (hub.HfHubHTTPError, hub.HTTPError, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(f'Model "{repository}" could not be downloaded: {said}', _remedy(repository)) from error


def _remedy(repository: str) -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return (
            "HF_HUB_OFFLINE is set, so nothing is downloaded: unset it while you are online, "
            "or give the path of a folder that holds the model."
        )
    return (
        f"Connect to the internet (huggingface.co/{repository} must be reachable) and try again: a download that broke "
        "off is continued. Without internet, give the path of a folder that holds the model."
    )
