# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panel knows of models: the catalogue, what of it is on this machine, and getting one. Imports no bpy.

The weights lie in the cache of the Hugging Face hub, one folder per model, as `python -m engine models` keeps them. Only
names of files are looked at here; whether their contents are whole is the engine's to say.
"""

import json
import os
import re
import subprocess
import time
from pathlib import Path

from .client import Place, scrubbed_environment
from .jobs.catalogue import CATALOGUE, entry, licence_line
from .jobs.controls import hub_lora, parse_loras
from .jobs.errors import UserError
from .setup import Setup

BUNDLED = "swatch"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_FRESH = 2.0  # seconds that a look at the disk is good for: a panel asks at every redraw
_seen: dict[str, tuple[float, str]] = {}


def offered(role: str) -> list[tuple[str, str]]:
    """(name, what it is good for) of the catalogue's entries of a role: model, vae, preview, style, multiview, lora."""
    return [(one.name, f"{one.family}: {one.good_for}") for one in CATALOGUE if one.role == role]


def cache_folder(environ=os.environ) -> Path:
    """Where the hub's files are kept, as huggingface_hub decides it."""
    if environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(environ.get("HF_HUB_CACHE") or environ["HUGGINGFACE_HUB_CACHE"]).expanduser()
    base = Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(environ.get("HF_HOME") or base).expanduser() / "hub"


def is_hub_id(name: str) -> bool:
    """Whether a name looks like "org/name" or "org/name@revision", and not like a path."""
    return _HUB_ID.fullmatch(name) is not None


def state(name: str, cache: Path | None = None) -> str:
    """"here", "incomplete" (a download that stopped), or "absent", of a model, folder or file."""
    plain = name.strip()
    if plain == BUNDLED or Path(plain).expanduser().exists():
        return "here"
    if not is_hub_id(plain):
        return "absent"
    folder = (cache or cache_folder()) / ("models--" + plain.partition("@")[0].replace("/", "--"))
    known, wanted = entry(plain), plain.partition("@")[2]
    revision = wanted or (known.revision if known else "")
    try:
        snapshots = [path for path in (folder / "snapshots").iterdir() if not revision or path.name == revision]
        stopped = any((folder / "blobs").glob("*.incomplete"))
    except OSError:
        return "absent"
    whole = any(any(path.rglob("*.safetensors")) for path in snapshots)
    return "incomplete" if stopped else "here" if whole else "absent"


def state_now(name: str) -> str:
    """The same, asked of the disk every few seconds only."""
    when, word = _seen.get(name, (-_FRESH, ""))
    if time.monotonic() - when > _FRESH:
        _seen[name] = (time.monotonic(), word := state(name))
    return word


def forget_states() -> None:
    _seen.clear()


def facts(name: str) -> list[str]:
    """Sentences about a chosen model: what for, its licence, the memory it takes. Empty for what no one knows."""
    found = entry(name.partition("+")[0])
    if found is None:
        return []
    needs = f" Takes about {found.memory:g} GB of graphics memory." if found.memory else ""
    return [f"{found.family}: {found.good_for}.{needs}", licence_line(found.name)]


def words(name: str, root: Path) -> dict[str, list[str]]:
    """What a small model knows, by kind, as its folder in the engine at `root` says; {} for a model of any words."""
    try:
        known = json.loads((root / "engine" / "models" / name / f"{name}.json").read_text("utf-8"))["words"]
        kinds = (("Materials", "materials"), ("Colors", "colours"), ("Wear and weather", "wear"), ("Sizes", "sizes"))
        found = {title: [word.replace("_", " ") for word in known[kind]] for title, kind in kinds}
        return {**found, "Tones": [str(word) for word in known["tones"]]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # the engine's own check of the model says what is wrong with it


def obstacle(name: str) -> UserError | None:
    """Why the chosen model cannot be used now, with the remedy; None if it can."""
    for part in missing(name):
        if not is_hub_id(part):
            return UserError(f"There is no model '{part}'.", "Choose one of the list, or the folder of your own.")
        known, stopped = entry(part), state_now(part) == "incomplete"
        size = f" ({known.size:g} GB)" if known else ""
        gated = " Its page on huggingface.co asks you to accept its terms first." if known and known.gated else ""
        return UserError(
            f"{part}{size} {'was not downloaded to its end' if stopped else 'is not on this machine'}.",
            f"Press Download, or run: python -m engine models add {part}{gated}",
        )
    return None


def missing(name: str) -> list[str]:
    """The parts of a model's name, "base+control", and what those are no use without, that are not whole here."""
    parts = [name] if state_now(name) == "here" else [part for part in name.split("+") if part != "none"]
    needs = [need for part in parts if (known := entry(part)) for need in known.needs]
    return [part for part in (*parts, *needs) if state_now(part) != "here"]


def absent(setting: str, value: str, model: str) -> list[str]:
    """Ids that a setting besides `model` names, or that its word stands for with this model, and that are not here."""
    if setting == "lora":
        named = [at for at, file in _loras(value) if not file]
    elif value in ("auto", "plus"):
        role, known = {"style_adapter": "style"}.get(setting, setting), entry(model.partition("+")[0])
        named = [one.name for one in CATALOGUE if known and one.role == role and known.family in one.family.split(", ")]
    else:
        named = [value] if is_hub_id(value) else []
    return [part for name in named for part in missing(name)]


def _loras(text: str) -> list[tuple[str, str]]:
    """(id, file or "") of the LoRAs that a setting names by repositories of the hub."""
    try:
        names = [name for name, _ in parse_loras(text)]
    except UserError:
        return []  # the job's own check says what is wrong with it
    return [found for name in names if not Path(name).expanduser().exists() and (found := hub_lora(name))]


def suits(name: str, loras: str = "") -> dict:
    """Settings that go well with a model of the catalogue, and with the LoRAs of it that are added."""
    known = [entry(name.partition("+")[0]), *(entry(at) for at, _ in _loras(loras))]
    return {setting: value for one in known if one for setting, value in one.settings}


def download(place: Place, name: str, folder: Path, online: bool) -> Setup:
    """Start `python -m engine models add NAME`; its log is in `folder`. Raises UserError; then nothing was started."""
    if not online:
        raise UserError(
            "Downloading a model needs the network, and Blender is set to stay offline.",
            "Allow online access in Preferences > System, or bring it on a stick: python -m engine models import FOLDER.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "download.log"
    quiet = {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {"start_new_session": True}
    with open(log, "wb") as output:
        process = subprocess.Popen(
            place.command("models", "add", name), stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, env=scrubbed_environment(), cwd=place.folder, **quiet,
        )  # fmt: skip
    return Setup(process, log, heading=f"Downloading {name}")


