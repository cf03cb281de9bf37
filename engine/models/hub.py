# SPDX-License-Identifier: Apache-2.0
"""Models from the Hugging Face hub: pinned revisions, safetensors only, and no network once they are here."""

from __future__ import annotations

import re
from pathlib import Path

from blender_addon.jobs.errors import ModelError
from engine.models.folders import ModelFolder

# Revisions these models were pinned at. "org/name@revision" chooses another one; any other id takes its main branch.
PINNED = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    "lllyasviel/control_v11f1p_sd15_depth": "539f99181d33db39cf1af2e517cd8056785f0a87",
}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
ENDINGS = ("*.json", "*.txt", "*.safetensors")
SKIPPED = ("*non_ema*", "*.fp16.*")  # training leftovers; the same weights again at half precision
TIMEOUT = 5.0  # seconds to wait for the hub's first answer


def is_hub_id(name: str) -> bool:
    """Whether `name` looks like "org/name" or "org/name@revision"."""
    return HUB_ID.fullmatch(name) is not None


def fetch(name: str, parts: tuple[str, ...]) -> ModelFolder:
    """The folder of hub model `name` on this machine, downloaded (or its download resumed) when it is not whole yet.

    `parts` are the components needed ("unet", ...); () means the files at the top of the repository. A model that is
    here already is found without asking the network. Raises `ModelError` when it cannot be had.
    """
    repository, _, revision = name.partition("@")
    revision = revision or PINNED.get(repository, "main")
    places = [f"{part}/" for part in parts] or [""]
    wanted = [place + ending for place in places for ending in ENDINGS] + ["model_index.json", "README.md"]
    here = _snapshot(repository, revision, wanted, local=True)
    if here is None or not _whole(here, parts):
        here = _snapshot(repository, revision, wanted, local=False) or here
    if here is not None and not _whole(here, parts):  # published in half precision only
        here = _snapshot(repository, revision, wanted, local=False, skip=SKIPPED[:1]) or here
    if here is None:
        raise ModelError(f'Model "{name}" is not on this machine.', _remedy(repository))
    return ModelFolder(here, name, here.name)


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
    from huggingface_hub import snapshot_download
    from huggingface_hub import errors as hub

    try:
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=wanted, ignore_patterns=list(skip),
                local_files_only=local, etag_timeout=TIMEOUT,
            )
        )  # fmt: skip
    except hub.GatedRepoError as error:
        raise ModelError(
            f'Model "{repository}" is gated: its owners want you to accept a licence first.',
            f"Accept it at huggingface.co/{repository}, then set the environment variable HF_TOKEN.",
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
