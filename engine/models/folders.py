# SPDX-License-Identifier: Apache-2.0
"""Model folders in the diffusers layout: what is in them, whether it is whole, and its parts as torch modules.

    model_index.json  scheduler/scheduler_config.json  unet/config.json  unet/diffusion_pytorch_model.safetensors  vae/

Weights are read from safetensors only: a pickle (.bin, .ckpt) can run any code when it is opened. Whatever is missing
or broken is a `ModelError` that names the file and what to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from blender_addon.jobs.errors import ModelError

# Which module each class that a config may name comes from. A new codec or network is one line here.
CLASSES = {
    "AutoencoderKL": "diffusers",
    "AutoencoderTiny": "diffusers",
    "LinearPatchCodec": "engine.models.patch_codec",
    "UNet2DConditionModel": "diffusers",
    "ControlNetModel": "diffusers",
    "ControlNetUnionModel": "diffusers",
    "SD3Transformer2DModel": "diffusers",
    "SD3ControlNetModel": "diffusers",
    "FluxTransformer2DModel": "diffusers",
    "FluxControlNetModel": "diffusers",
    "CLIPTextModel": "transformers",
    "CLIPTextModelWithProjection": "transformers",
    "CLIPVisionModelWithProjection": "transformers",
    "SiglipVisionModel": "transformers",
    "T5EncoderModel": "transformers",
    "CLIPTokenizer": "transformers",
    "T5TokenizerFast": "transformers",
}
# Published whole where only the half that sees pictures is needed.
SEEING = {"CLIPModel": "CLIPVisionModelWithProjection", "SiglipModel": "SiglipVisionModel"}
WEIGHT_NAMES = ("diffusion_pytorch_model", "model")  # diffusers' and transformers' file names, without the ending
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
MANIFEST = "manifest.json"  # {"sha256": {"unet/config.json": "9f86d0...", ...}}; the card may hold the same list
Report = Callable[[str, int, int], None]  # (part that is being loaded, how many are done, of how many)
CARD = "swatch.json"  # the bundled model's own facts: words, licence, defaults, checksums


@dataclass(frozen=True)
class ModelFolder:
    """A folder on this machine that holds one model. `name` is what the artist asked for."""

    path: Path
    name: str
    revision: str = ""

    def has(self, part: str) -> bool:
        """Whether the folder has a component called `part`, such as "controlnet"."""
        return (self.path / part).is_dir()

    def json(self, relative: str) -> dict[str, Any]:
        """A JSON file of the folder as a dictionary."""
        return read_json(self.path / relative, self.name)

    def card(self) -> dict[str, Any]:
        """The model's own description of itself; empty for published models, which have none."""
        return self.json(CARD) if (self.path / CARD).exists() else {}

    def class_name(self, part: str) -> str:
        """The class that the component's config asks for, such as "UNet2DConditionModel"."""
        if is_tokenizer(part):
            told = self.path / part / "tokenizer_config.json"
            named = read_json(told, self.name).get("tokenizer_class", "") if told.exists() else ""
            return "T5TokenizerFast" if str(named).startswith("T5") else "CLIPTokenizer"
        config = self.json(f"{part}/config.json")
        listed = config.get("architectures")  # transformers' way
        return str(config.get("_class_name") or (listed[0] if isinstance(listed, list) and listed else ""))


def read_json(path: Path, model: str) -> dict[str, Any]:
    """The JSON object in `path`, or a `ModelError` naming the file and the fault."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f'Model "{model}" has no {_where(path)}.', _again(model)) from error
    except (OSError, ValueError) as error:
        raise ModelError(f'{_where(path)} of model "{model}" cannot be read: {error}.', _again(model)) from error
    if not isinstance(found, dict):
        raise ModelError(f'{_where(path)} of model "{model}" is not a JSON object.', _again(model))
    return found


def load_part(folder: ModelFolder, part: str, allowed: Iterable[str], dtype: torch.dtype | None = None) -> Any:
    """The component `part` as an object of the class its config names, in evaluation mode on the CPU.

    `allowed` are the class names this family can use there. `part` "." is the folder itself (a ControlNet published on
    its own). Raises `ModelError` for a missing part, another class, pickled, truncated or incomplete weights.
    """
    where = folder.path / part
    if not where.is_dir():
        raise ModelError(f'Model "{folder.name}" has no "{part}" folder in {folder.path}.', _again(folder.name))
    named = folder.class_name(part)
    named = SEEING.get(named, named)
    if named not in set(allowed):
        raise ModelError(
            f'"{where.resolve().name}" of model "{folder.name}" is a {named or "config without a class name"}, '
            f"which Tweed cannot use there (it can use: {', '.join(sorted(allowed))}).",
            "Choose another model, or put the right component into that folder.",
        )
    found = getattr(importlib.import_module(CLASSES[named]), named)
    if is_tokenizer(part):
        return _load_tokenizer(found, where, folder)
    variant = check_weights(where, folder.name)
    return _load_module(found, where, folder, dtype, variant)


def is_tokenizer(part: str) -> bool:
    return part.startswith("tokenizer")


def _load_tokenizer(tokenizer_class: Any, where: Path, folder: ModelFolder) -> Any:
    if not (where / "tokenizer.json").exists():
        # T5's other file, spiece.model, needs a library that Tweed does not bring
        needed = ("tokenizer.json",) if "T5" in tokenizer_class.__name__ else ("vocab.json", "merges.txt")
        for name in needed:
            if not (where / name).exists():
                raise ModelError(f'Model "{folder.name}" has no {where.name}/{name}.', _again(folder.name))
    try:
        return tokenizer_class.from_pretrained(where, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(where, folder, error) from error


def _load_module(module_class: Any, where: Path, folder: ModelFolder, dtype: torch.dtype | None, variant: str) -> Any:
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    if variant:
        options["variant"] = variant
    options["dtype" if CLASSES[module_class.__name__] == "transformers" else "torch_dtype"] = dtype or torch.float32
    try:
        with _quiet():
            module, report = module_class.from_pretrained(where, **options)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise _broken(where, folder, error) from error
    wrong = list(report.get("missing_keys", ())) + [str(key) for key in report.get("mismatched_keys", ())]
    if wrong:
        raise _broken(where, folder, ValueError(f"{len(wrong)} weights are missing, the first is {sorted(wrong)[0]}"))
    return module.eval().requires_grad_(False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the libraries' loading tables out of the log; what matters in them becomes a `ModelError`."""
    import transformers

    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def check_weights(where: Path, model: str) -> str:
    """Makes sure the weights in `where` are whole safetensors. Returns the variant to load: "" or "fp16".

    Reads headers only, a few kB for any size of model.
    """
    variant, files = _loaded_files(where, model)
    for file in files:
        check_safetensors(file, model)
    if files:
        return variant
    if any(path.suffix in PICKLES for path in where.iterdir()):
        raise ModelError(
            f'Model "{model}" has only pickled weights (.bin) in {where}, which Tweed never opens: they can run code.',
            "Use a version of the model with .safetensors files, or convert it with diffusers on a machine you trust.",
        )
    raise ModelError(f'Model "{model}" has no weights (.safetensors) in {where}.', _again(model))


def _loaded_files(where: Path, model: str) -> tuple[str, list[Path]]:
    """The variant and the weight files in `where` that will be loaded, of those that may lie there; "", [] for none."""
    for variant in ("", "fp16"):
        dot = f".{variant}" if variant else ""
        for name in WEIGHT_NAMES:
            index = where / f"{name}.safetensors.index{dot}.json"
            single = where / f"{name}{dot}.safetensors"
            if index.exists():
                shards = set(read_json(index, model).get("weight_map", {}).values())
                return variant, [where / shard for shard in sorted(shards)]
            if single.exists() or single.is_symlink():
                return variant, [single]
    return "", []


def check_safetensors(path: Path, model: str) -> None:
    """Raises `ModelError` unless `path` is a safetensors file of exactly the length its own header promises.

    Format: 8 bytes little-endian header length, JSON header with data offsets, data.
    """
    if not path.exists():
        raise ModelError(f'Model "{model}" has no {_where(path)}.', _again(model))
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith(b"version "):
            raise ModelError(
                f'{_where(path)} of model "{model}" is only a Git LFS pointer, not the weights.',
                'Run "git lfs pull" in the folder it came from.',
            )
        length = int.from_bytes(start, "little") if len(start) == 8 else 0
        if not 0 < length <= min(size - 8, 100_000_000):
            raise ModelError(f'{_where(path)} of model "{model}" is cut short or no safetensors file.', _again(model))
        try:
            header = json.loads(file.read(length))
            data = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f'{_where(path)} of model "{model}" has a damaged header.', _again(model)) from error
    if size != 8 + length + data:
        raise ModelError(
            f'{_where(path)} of model "{model}" is cut short: {size} of {8 + length + data} bytes.', _again(model)
        )


def verify_manifest(folder: ModelFolder, contents: bool = True) -> int:
    """Compares the folder's files with its list of checksums where it has one; `contents` False: that they are there.

    Returns the number of files checked (0 without a list). Raises `ModelError` naming the first wrong file.
    """
    source = MANIFEST if (folder.path / MANIFEST).exists() else CARD
    listed = folder.json(source).get("sha256", {}) if (folder.path / source).exists() else {}
    if not isinstance(listed, dict) or (source == MANIFEST and not listed):
        raise ModelError(f'{source} of model "{folder.name}" does not list the files.', _again(folder.name))
    for relative, expected in sorted(listed.items()):
        path = folder.path / relative
        if not path.is_file():
            raise ModelError(f'Model "{folder.name}" has no {relative}.', _again(folder.name))
        if contents and sha256(path) != expected:
            raise ModelError(f'{relative} of model "{folder.name}" was changed or damaged.', _again(folder.name))
    return len(listed)


def write_manifest(path: Path) -> dict[str, Any]:
    """Writes `manifest.json` for the folder `path` (every file but itself) and returns it."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name != MANIFEST]
    found = {"sha256": {file.relative_to(path).as_posix(): sha256(file) for file in files}}
    (path / MANIFEST).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def sha256(path: Path) -> str:
    """Hex digest of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weight_files(path: Path) -> list[Path]:
    """Every safetensors file under `path`, sorted; `path` itself where it is one."""
    return [path] if path.is_file() else sorted(path.rglob("*.safetensors"))


def weight_elements(where: Path) -> int:
    """How many numbers the weights in `where` hold that will be loaded, from their headers. 0 for what is absent or
    damaged: loading says so by name. `where` may be one file."""
    if where.suffix == ".safetensors":
        return _elements(where)
    try:
        return sum(_elements(file) for file in _loaded_files(where, where.name)[1])
    except ModelError:  # an index that cannot be read
        return 0


def _elements(path: Path) -> int:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < 100_000_000 else {}
        return sum(math.prod(entry["shape"]) for key, entry in header.items() if key != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0


def fingerprint(path: Path) -> str:
    """16 hex digits that name these weights: a hash over names, lengths, first and last 64 kB of every weight file.

    Cheap for any size; changes whenever a model is retrained, which is what a report needs.
    """
    digest = hashlib.sha256()
    for file in weight_files(path):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path).as_posix()} {size}\n".encode())
        with file.open("rb") as handle:
            digest.update(handle.read(65536))
            handle.seek(max(0, size - 65536))
            digest.update(handle.read(65536))
    return digest.hexdigest()[:16]


def licence(folder: ModelFolder) -> str:
    """The licence the folder states (its card, or the header of its README), or "unknown"."""
    stated = folder.card().get("licence") or folder.card().get("license")
    if stated:
        return str(stated)
    readme = folder.path / "README.md"
    if readme.exists():
        for line in readme.read_text(encoding="utf-8", errors="replace").splitlines()[:40]:
            if line.startswith("license:"):
                return line.split(":", 1)[1].strip()
    return "unknown"


def _broken(where: Path, folder: ModelFolder, error: Exception) -> ModelError:
    said = " ".join(str(error).split())[:300]
    return ModelError(f'"{where.name}" of model "{folder.name}" could not be loaded: {said}', _again(folder.name))


def _where(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _again(model: str) -> str:
    return f'Copy or download "{model}" again; a part of it is missing or damaged.'
