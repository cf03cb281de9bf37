# SPDX-License-Identifier: Apache-2.0
"""A hub that is folders: `huggingface_hub.snapshot_download` without a network, into the cache's real layout."""

from __future__ import annotations

import hashlib
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

from huggingface_hub import errors

COMMIT = "0123456789abcdef0123456789abcdef01234567"  # of every main branch


class Hub:
    """Blobs by checksum, snapshots of links. `folder`: what every repository holds, but those in `repositories`.

    asked: (repository, revision, token) of each download. gated, offline: what it refuses with. breaks_after: so many
    files, then the connection is lost. strict: a snapshot that lacks what is asked for is none, as the library has it
    where it knows the repository's list of files; else any part of it will do, as after an import.
    """

    def __init__(self, folder: Path, cache: Path):
        self.folder, self.cache, self.asked, self.gated, self.breaks_after = folder, cache, [], False, None
        self.repositories: dict[str, Path] = {}
        self.offline = self.strict = False

    def __call__(self, repository, revision=None, allow_patterns=None, ignore_patterns=None, local_files_only=False,
                 dry_run=False, token=None, **more):  # fmt: skip
        folder = self.repositories.get(repository, self.folder)
        target = self.cache / f"models--{repository.replace('/', '--')}"
        main = target / "refs" / "main"
        found = main.read_text() if revision == "main" and main.exists() else revision
        commit = revision if len(revision) == 40 else COMMIT
        snapshot = target / "snapshots" / (found if local_files_only else commit)
        names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        names = [name for name in names if any(fnmatch(name, one) for one in allow_patterns)
                 and not any(fnmatch(name, one) for one in ignore_patterns or ())]  # fmt: skip
        missing = [name for name in names if not (snapshot / name).exists()]
        if local_files_only:
            if not snapshot.is_dir() or (self.strict and missing):
                raise errors.LocalEntryNotFoundError("nothing here")
            return str(snapshot)
        if self.offline:
            raise errors.DryRunError("offline") if dry_run else errors.OfflineModeIsEnabled("offline")
        self.asked.append((repository, revision, token))
        if self.gated:
            response = SimpleNamespace(headers={}, request=None, status_code=403)
            raise errors.GatedRepoError("gated", response=response)
        if dry_run:
            return [SimpleNamespace(filename=name, will_download=name in missing,
                                    file_size=(folder / name).stat().st_size) for name in names]  # fmt: skip
        self._bring(folder, target, snapshot, missing)
        main.parent.mkdir(exist_ok=True)
        main.write_text(commit)
        return str(snapshot)

    def _bring(self, folder: Path, target: Path, snapshot: Path, names: list[str]) -> None:
        (target / "blobs").mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names):
            if self.breaks_after is not None and number >= self.breaks_after:
                (target / "blobs" / "feed.incomplete").write_bytes(b"half")
                raise OSError("connection lost")
            data = (folder / name).read_bytes()
            if name.endswith(".safetensors"):
                digest = hashlib.sha256(data).hexdigest()
            else:
                digest = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            (target / "blobs" / digest).write_bytes(data)
            link = snapshot / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(target / "blobs" / digest)
        for left in (target / "blobs").glob("*.incomplete"):
            left.unlink()
