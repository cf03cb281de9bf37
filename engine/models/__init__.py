# SPDX-License-Identifier: Apache-2.0
"""The models: one contract, one module per family, found by the names an artist can type.

`load_model("swatch", device)` loads the bundled model. A name can also be the path of a diffusers folder or the id of a
model on the Hugging Face hub ("org/name", "org/name@revision"), each with "+" and the folders or ids of ControlNets
when the folder has none of its own. A new family is one module and one line in `FAMILIES`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from blender_addon.jobs.catalogue import entry
from blender_addon.jobs.errors import ModelError
from engine.models.controls import Control
from engine.models.edits import takes_instructions
from engine.models.folders import CARD, ModelFolder, Report, fingerprint, verify_manifest
from engine.models.hub import PINNED, fetch, fetch_files, is_hub_id
from engine.models.loading import Extras, Wanted
from engine.models.lora_names import find_loras
from engine.models.multiview import PUBLISHED, usual_file
from engine.models.single_file import open_single_file
from engine.models.style import lacks_encoder

if TYPE_CHECKING:
    from engine.denoiser import ViewDenoiser
    from engine.models.depot import Depot
    from engine.models.multiview import MultiViewGuide
    from engine.models.view_attention import ViewAttention
    from engine.schedule import Level

# Pipeline class in model_index.json -> the module that loads it; docs/adding-a-model.md lists what is asked of it.
FAMILIES = {
    "StableDiffusionPipeline": "engine.models.stable_diffusion",
    "StableDiffusionControlNetPipeline": "engine.models.stable_diffusion",
    "StableDiffusionDepth2ImgPipeline": "engine.models.stable_diffusion",
    "StableDiffusionInstructPix2PixPipeline": "engine.models.stable_diffusion",
    "LatentConsistencyModelPipeline": "engine.models.stable_diffusion",
    "SwatchPipeline": "engine.models.stable_diffusion",
    "StableDiffusionXLPipeline": "engine.models.stable_diffusion_xl",
    "StableDiffusionXLControlNetPipeline": "engine.models.stable_diffusion_xl",
    "StableDiffusionXLControlNetUnionPipeline": "engine.models.stable_diffusion_xl",
    "StableDiffusion3Pipeline": "engine.models.stable_diffusion_3",
    "StableDiffusion3ControlNetPipeline": "engine.models.stable_diffusion_3",
    "FluxPipeline": "engine.models.flux",
    "FluxControlPipeline": "engine.models.flux",
    "FluxControlNetPipeline": "engine.models.flux",
}
BUNDLED = {"swatch": Path(__file__).parent / "swatch"}
STYLE_ENCODER = "models/image_encoder"  # in the repository of the usual style adapters; one for SD 1.5 and SDXL
NO_CONTROL = "none"  # in place of a ControlNet's name: the prompt alone decides


class Model(Protocol):
    """What every family offers. Images are float32 RGB in -1..1, latents float32 with unit variance, channels first."""

    name: str
    view_size: int  # pixels per side the model was trained at
    factor: int  # view pixels per latent cell
    channels: int  # latent channels
    default_guidance: float
    default_guidance_rescale: float
    default_steps: int
    cheap_codec: bool  # encode and decode are linear and cost nothing: views can be joined as pixels in each step
    known_words: dict[str, Any] | None  # what a small model knows, phrases by kind as in swatch.json; None: any words
    info: dict[str, Any]  # licence, fingerprint, revision, versions, dtype: for reports
    follows_mesh: bool  # it reads pictures of the mesh: `control`
    edits: bool  # it changes pictures by instructions: `image`
    device: torch.device  # where its networks compute
    depot: Depot  # where they wait

    def encode(self, rgb: torch.Tensor) -> torch.Tensor:
        """Images [N,3,H,W] -> latents [N,C,H/factor,W/factor]."""

    def decode(self, latents: torch.Tensor, refine: bool = True) -> torch.Tensor:
        """Latents -> images [N,3,H,W], not clamped. `refine` False: the quick version, where there is one."""

    def levels(self, steps: int, strength: float = 1.0, size: int | None = None) -> list[Level]:
        """The noise levels this model was trained for, from noise (strength 1) or part of the way, to clean.

        size: side of the views in pixels (None: the model's own), with which some models shift their levels.
        """

    def prompt_notes(self, prompt: str) -> list[str]:
        """Sentences about what the model will not read of `prompt`; empty when it reads all of it."""

    def denoiser(  # noqa: PLR0913 one for each thing that is bound
        self,
        prompts: list[str],
        avoids: list[str],
        control: torch.Tensor | Sequence[Control] | None,
        guidance: float,
        guidance_rescale: float = 0.0,
        control_scale: float = 1.0,
        chunk: int | None = None,
        attention: ViewAttention | None = None,
        interval: tuple[float, float] = (0.0, 1.0),
        style: tuple[torch.Tensor, float] | None = None,
        image: torch.Tensor | None = None,
        image_guidance: float = 1.5,
        tell: Callable[[str], None] | None = None,
        multiview: MultiViewGuide | None = None,
        reuse: float = 0.0,
    ) -> ViewDenoiser:
        """D(x, level) -> x0 for N views, `only(views)` of it for some, with everything but the noisy views bound in.

        Args:
            prompts, avoids: one text per view.
            control: pictures of the mesh; a bare tensor is depth [N,1,H,W] in 0..1, near is bright, background is 0.
                None leaves the ControlNets out.
            guidance: 1 leaves the avoided texts out and halves the work.
            guidance_rescale: 0..1, see `engine.denoiser.guide`.
            control_scale: multiplies the strength of every control; 0 leaves them out.
            chunk: views per batch; None: as many as memory has room for.
            attention: which views look at which others; all of them are then one batch, whatever the chunk.
            interval: where guidance acts, in shares of the noise levels from the noisiest.
            style: (picture [1,3,H,W] in -1..1, strength) for a model loaded with a style adapter.
            image, image_guidance: what a model that edits is to change [N,3,H,W] in -1..1, and how strongly it is kept.
            tell: hears when memory ran out and the batches were made smaller.
            multiview: what a model loaded with a multi-view adapter is told; all views are then one batch.
            reuse: how little the first layers' answer may change for the rest to be taken over from an earlier step.
        """


def load_model(
    name: str,
    device: torch.device,
    dtype: torch.dtype | None = None,
    progress: Report | None = None,
    extras: Extras | None = None,
) -> Model:
    """Loads a model onto `device`. Raises `ModelError` saying what is missing or broken and what to do about it."""
    if not name.strip():
        raise ModelError("No model was chosen.", 'Choose "swatch", a folder, or the id of a model on the hub.')
    extras = extras or Extras()
    base, controls = split_name(name.strip())
    parts, file = None, Path(base).expanduser().resolve()
    if file.is_file():
        folder, pipeline, parts = open_single_file(file)
    else:
        folder = find_folder(base)
        verify_manifest(folder)
        pipeline = family_of(folder)
    if extras.style and pipeline == "SwatchPipeline":
        raise ModelError(f"{folder.name} takes no style picture.", "Leave style_image empty, or choose another model.")
    family = importlib.import_module(FAMILIES[pipeline])
    if extras.multiview and (pipeline == "SwatchPipeline" or not hasattr(family, "multiview_base")):
        raise ModelError(f"{folder.name} takes no multi-view adapter.",
                         "Leave multiview empty, or choose SDXL or SD 2.1.")  # fmt: skip
    wanted = Wanted(
        folder, device, _control_folders(family, folder, controls, extras.kinds), dtype, progress or _silent, extras,
        pipeline=pipeline, parts=parts, file=file if parts else None, **_added(family, folder, extras),
    )  # fmt: skip
    return family.load(wanted)


def _added(family: Any, base: ModelFolder, extras: Extras) -> dict[str, Any]:
    """The folders of what a job adds to the model."""
    found: dict[str, Any] = {}
    for key in ("vae", "preview_vae"):
        if name := getattr(extras, key):
            folder = find_folder(name, parts=())
            found[key] = ModelFolder(folder.path / "vae", name, folder.revision) if folder.has("vae") else folder
    if extras.style:
        found["style"] = _style_folder(family, base, extras.style)
        found["style_encoder"] = _style_encoder(family, base, *found["style"])
    if extras.loras:
        found["loras"] = find_loras(extras.loras, family.family_name(base))
    if extras.multiview:
        found["multiview"] = _multiview_file(extras.multiview, family.multiview_base(base))
    return found


def _multiview_file(name: str, base: str) -> tuple[ModelFolder, str]:
    """(folder, weights file) of a multi-view adapter for models of the kind `base`; "auto" is the published one."""
    path = Path(name).expanduser()
    if path.is_file():
        return ModelFolder(path.resolve().parent, path.name), path.name
    if path.is_dir():
        return ModelFolder(path.resolve(), path.name), usual_file(path, base)
    repository = PUBLISHED if name == "auto" else name
    if not is_hub_id(repository):
        raise ModelError(f'There is no multi-view adapter "{name}".',
                         f'Give its file or folder in multiview, "auto", or an id such as {PUBLISHED}.')  # fmt: skip
    if not base:
        raise ModelError("No multi-view adapter was published for this model's family.",
                         "Choose SDXL or SD 2.1, or give an adapter's own file in multiview.")  # fmt: skip
    file = f"mvadapter_tg2mv_{base}.safetensors"
    folder = fetch(repository, (), files=(file,))
    if not (folder.path / file).exists():  # another file of the same repository was fetched before
        folder = fetch(repository, (), files=(file,), ask=True)
    return folder, file


def _style_folder(family: Any, base: ModelFolder, name: str) -> tuple[ModelFolder, str]:
    """(folder, weights file) of a style adapter; "auto" and "plus" are the family's usual ones on the hub."""
    path, known = Path(name).expanduser(), entry(name)
    if path.is_file():
        return ModelFolder(path.resolve().parent, path.name), path.name
    listed = known is not None and known.role == "style" and not path.is_dir()
    if name not in ("auto", "plus") and not listed:
        return find_folder(name, parts=()), ""
    usual = family.usual_style(base, "auto" if listed else name)
    if usual is None or (listed and usual[0] != known.name):
        said = f"{known.name} is for {known.family}" if listed and usual else "no usual one was published for it"
        raise ModelError(f'{base.name} cannot take that style adapter: {said}.',
                         "Set style_adapter to auto, give the adapter's file or folder in it, or leave style_image "
                         "empty.")  # fmt: skip
    repository, file = (name if listed else usual[0]), usual[1]
    if entry(repository).needs:  # its image encoder is elsewhere
        return fetch_files(repository, (file,)), file
    folder = fetch(repository, (STYLE_ENCODER,), files=(file,))
    if not (folder.path / file).exists():  # another file of the same repository was fetched before
        folder = fetch(repository, (STYLE_ENCODER,), files=(file,), ask=True)
    return folder, file


def _style_encoder(family: Any, base: ModelFolder, folder: ModelFolder, file: str) -> ModelFolder | None:
    """The image encoder that a family's adapters are published without; None: it is there, or is missed by name."""
    usual = family.usual_style(base, "auto")
    needs = entry(usual[0]).needs if usual else ()
    network = "transformer" if base.has("transformer") else "unet"
    if not needs or not lacks_encoder(folder, file, base.class_name(network)):
        return None
    return fetch_files(needs[0], entry(needs[0]).files)


def split_name(name: str) -> tuple[str, tuple[str, ...]]:
    """"base+control+control" as (base, controls). A "+" in an existing path is part of it."""
    pieces, names = name.split("+"), []
    while pieces:
        whole = (k for k in range(len(pieces), 1, -1) if Path("+".join(pieces[:k])).expanduser().exists())
        count = next(whole, 1)
        names.append("+".join(pieces[:count]).strip())
        pieces = pieces[count:]
    return names[0], tuple(names[1:])


def find_folder(name: str, parts: tuple[str, ...] | None = None) -> ModelFolder:
    """The folder of a bundled model, a path, or a hub id. `parts`: what to fetch from the hub (default: a pipeline)."""
    if name in BUNDLED:
        path = Path(os.environ.get(f"TWEED_{name.upper()}") or BUNDLED[name])
        if not (path / CARD).exists():
            raise ModelError(
                f'The bundled model "{name}" is not in {path}.',
                "Get the whole repository again (with its engine/models folder), or choose another model.",
            )
        return ModelFolder(path, name)
    path = Path(name).expanduser()
    if path.is_dir():
        return ModelFolder(path.resolve(), path.resolve().name)
    if path.is_file():
        raise ModelError(
            f'"{path}" is a single file, and a diffusers folder is needed here.',
            "Give the folder that holds its config.json and .safetensors file.",
        )
    if is_hub_id(name) and not path.is_absolute():
        return fetch(name, PIPELINE_PARTS if parts is None else parts)
    known = ", ".join(f'"{word}"' for word in BUNDLED)
    raise ModelError(
        f'There is no model "{name}": no folder of that name, and it is no hub id.',
        f"Choose {known}, the path of a diffusers folder, or an id such as {next(iter(PINNED))}.",
    )


PIPELINE_PARTS = (
    "unet", "transformer", "vae", "scheduler", "controlnet",
    *(f"{part}{number}" for part in ("text_encoder", "tokenizer") for number in ("", "_2", "_3")),
)  # fmt: skip


def family_of(folder: ModelFolder) -> str:
    """The pipeline class the folder is made for. Folders without a model_index.json are told by their U-Net."""
    if not (folder.path / "model_index.json").exists() and folder.has("unet"):
        return "StableDiffusionPipeline"
    if any(folder.path.glob("mvadapter*.safetensors")):
        raise ModelError(
            f'"{folder.name}" is an MV-Adapter, which is added to a model and is none itself.',
            "Choose an SDXL or SD 2.1 model, and give the adapter's folder in multiview.",
        )
    named = str(folder.json("model_index.json").get("_class_name", ""))
    if named not in FAMILIES:
        raise ModelError(
            f'Model "{folder.name}" is made for {named or "an unnamed pipeline"}, which Tweed cannot run yet.',
            f"Choose a model made for one of: {', '.join(name for name in FAMILIES if name != 'SwatchPipeline')}.",
        )
    return named


def follows_instructions(name: str) -> bool | None:
    """Whether the model of that name changes pictures by instructions, as far as its folder tells; None if it is not here.

    Raises ModelError for a folder that cannot be read.
    """
    base, _ = split_name(name.strip())
    return takes_instructions(find_folder(base)) if is_here(base) else None


def is_here(name: str) -> bool:
    """Whether a part of a model's name is bundled or a folder, so that finding it asks no hub."""
    return name in BUNDLED or Path(name).expanduser().is_dir()


def weights_mark(name: str) -> str:
    """Changes when the weights of that name do, as far as they are in folders here. A hub's id names its own."""
    base, controls = split_name(name.strip())
    return " ".join(fingerprint(find_folder(part, parts=()).path) for part in (base, *controls) if is_here(part))


def available_models(verify: bool = False) -> dict[str, str]:
    """Bundled models by name -> "ready" or what is wrong with them. `verify` also compares every checksum."""
    states = {}
    for name in BUNDLED:
        try:
            verify_manifest(find_folder(name), contents=verify)
            states[name] = "ready"
        except ModelError as error:
            states[name] = error.message
    return states


def _control_folders(
    family: Any, folder: ModelFolder, names: tuple[str, ...], kinds: tuple[str, ...]
) -> tuple[ModelFolder, ...]:
    """Where the ControlNets are: as named, else inside the model, else the family's usual ones. (): without."""
    if names == (NO_CONTROL,):
        return ()
    if names:
        return tuple(find_folder(name, parts=()) for name in names)
    own = [part for part in ("controlnet", "controlnet_1", "controlnet_2") if folder.has(part)]
    if own:
        return tuple(ModelFolder(folder.path / part, folder.name, folder.revision) for part in own)
    usual = dict.fromkeys(family.usual_control(folder, kind) for kind in kinds)
    return tuple(find_folder(name, parts=()) for name in usual if name)


def _silent(part: str, done: int, total: int) -> None:
    """Nobody watches this loading."""
