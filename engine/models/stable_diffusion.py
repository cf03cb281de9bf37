# SPDX-License-Identifier: Apache-2.0
"""Stable Diffusion 1.x and 2.x with a depth ControlNet, and `swatch`, which has the same layout.

diffusers supplies the networks; the denoising loop is ours, so that a synchronizer can stand between them.
"""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from blender_addon.jobs.errors import ModelError, SettingsError
from engine.denoiser import PREDICTIONS, Denoiser, guide, predicts_x0
from engine.device import dtype_for, free_memory, memory_guard
from engine.models.folders import ModelFolder, Report, fingerprint, licence, load_part
from engine.schedule import Level, levels_from_config

CODECS = ("AutoencoderKL", "AutoencoderTiny", "LinearPatchCodec")
LINEAR_CODECS = ("LinearPatchCodec",)
FEATURE_MAPS = 100  # peak working memory of U-Net and ControlNet, counted in feature maps of the first level's width
# Depth ControlNets of published models, by the width of the text features their U-Net reads (SD 1.x: 768).
USUAL_CONTROL = {768: "lllyasviel/control_v11f1p_sd15_depth"}


@dataclass(frozen=True)
class StableDiffusion:
    """A loaded model of this family; see `engine.models.Model` for what its members promise."""

    name: str
    view_size: int
    factor: int
    channels: int
    default_guidance: float
    default_guidance_rescale: float
    default_steps: int
    cheap_codec: bool
    known_words: dict[str, Any] | None
    info: dict[str, Any] = field(repr=False)
    unet: nn.Module = field(repr=False)
    controlnet: nn.Module | None = field(repr=False)  # without its first layers, which are:
    depth_embedding: nn.Module | None = field(repr=False)
    codec: nn.Module = field(repr=False)
    text_encoder: nn.Module = field(repr=False)
    tokenizer: Any = field(repr=False)
    scheduler: dict[str, Any] = field(repr=False)  # scheduler_config.json
    device: torch.device
    dtype: torch.dtype

    def levels(self, steps: int, strength: float = 1.0) -> list[Level]:
        """`steps + 1` levels of the model's own noise schedule, fewer with `strength` below 1; the last is clean."""
        return levels_from_config(self.scheduler, steps, strength)

    @torch.no_grad()
    def encode(self, rgb: Tensor) -> Tensor:
        """Latents float32 [N,C,H/factor,W/factor] of images [N,3,H,W] in -1..1; the mode, not a sample."""
        with memory_guard(self.device, "Encoding the views"):
            return torch.cat([self._encode(piece) for piece in rgb.split(self._codec_chunk(len(rgb)))]).to(rgb.device)

    def _encode(self, rgb: Tensor) -> Tensor:
        encoded = self.codec.encode(rgb.to(self.device, self.codec.dtype))
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        scale, shift = _latent_scale(self.codec)
        return (latents.float() - shift) * scale

    @torch.no_grad()
    def decode(self, latents: Tensor, refine: bool = True) -> Tensor:
        """Images float32 [N,3,H,W], about -1..1 and not clamped. `refine` False leaves out a codec's learned detail."""
        with memory_guard(self.device, "Decoding the views"):
            pieces = [self._decode(piece, refine) for piece in latents.split(self._codec_chunk(len(latents)))]
            return torch.cat(pieces).to(latents.device)

    def _decode(self, latents: Tensor, refine: bool) -> Tensor:
        scale, shift = _latent_scale(self.codec)
        latents = (latents.to(self.device, torch.float32) / scale + shift).to(self.codec.dtype)
        options = {"refine": refine} if self.cheap_codec else {}
        return self.codec.decode(latents, **options).sample.float()

    def _codec_chunk(self, views: int) -> int:
        return views if self.cheap_codec else 1  # a large autoencoder is bound by its own work, not by launches

    def readable(self, text: str) -> str:
        """What is read of `text`: all of it, or for a small model the words it knows, which others would only blur."""
        if not self.known_words:
            return text
        known = _vocabulary(self.known_words)
        kept = " ".join(word for word in _words(text) if word in known or word == ",")
        return re.sub(r"( ?,)+", ",", kept).strip(" ,")

    def prompt_notes(self, prompt: str) -> list[str]:
        """Sentences about the words of `prompt` that will not be read: unknown to a small model, or too many."""
        notes = []
        if self.known_words:
            known = _vocabulary(self.known_words)
            unknown = dict.fromkeys(word for word in _words(prompt) if word not in known and word != ",")
            if unknown:
                notes.append(f"{self.name} does not know: {', '.join(unknown)}.")
        length = _text_length(self.tokenizer, self.text_encoder)
        tokens = self.tokenizer(self.readable(prompt), truncation=False, verbose=False).input_ids
        if len(tokens) > length:
            lost = self.tokenizer.decode(tokens[length - 1 : -1]).strip()
            notes.append(f'The prompt is too long for {self.name}, which does not read: "{lost}".')
        return notes

    @torch.no_grad()
    def text_features(self, texts: list[str]) -> Tensor:
        """What the U-Net reads of the texts, [len(texts), L, D]; each distinct text is encoded once."""
        texts = [self.readable(text) for text in texts]
        distinct = list(dict.fromkeys(texts))
        tokens = self.tokenizer(
            distinct, padding="max_length", max_length=_text_length(self.tokenizer, self.text_encoder),
            truncation=True, return_tensors="pt",
        )  # fmt: skip
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        features = self.text_encoder(
            tokens.input_ids.to(self.device), attention_mask=tokens.attention_mask.to(self.device) if masked else None
        )[0]
        return features.to(self.dtype)[[distinct.index(text) for text in texts]]

    def denoiser(
        self,
        prompts: list[str],
        avoids: list[str],
        control: Tensor | None,
        guidance: float,
        guidance_rescale: float = 0.0,
        control_scale: float = 1.0,
        chunk: int | None = None,
    ) -> Denoiser:
        """The denoiser of N views with everything but the noisy views bound in.

        Args:
            prompts, avoids: one text per view.
            control: depth [N,1,H,W] in 0..1, near bright, background 0; None leaves the ControlNet out.
            guidance: 1 leaves the avoided texts out and halves the work.
            guidance_rescale: 0..1, see `engine.denoiser.guide`.
            control_scale: strength of the ControlNet; 0 leaves it out.
            chunk: views per batch; None: as many as memory has room for. Attention hooks that look across views
                need all of them: then pass len(prompts).

        The batch given to the U-Net is [avoided texts of views 0..N-1, prompts of views 0..N-1].
        """
        if len(prompts) != len(avoids) or (control is not None and len(control) != len(prompts)):
            depths = 0 if control is None else len(control)
            raise ValueError(f"{len(prompts)} prompts, {len(avoids)} avoids, {depths} depths")
        if control is not None and any(side % self.factor for side in control.shape[-2:]):
            sides = " x ".join(str(side) for side in control.shape[-2:])
            raise SettingsError(f"view_size is {sides}; {self.name} needs a multiple of {self.factor}.",
                                f"{self.name} was trained at {self.view_size}.", key="view_size")  # fmt: skip
        with memory_guard(self.device, "Preparing the views"):
            network = BoundNetwork(
                model=self,
                features=self.text_features([*avoids, *prompts] if guidance != 1 else prompts),
                depth=self._depth_features(control) if control is not None and control_scale else None,
                guidance=guidance,
                rescale=guidance_rescale,
                control_scale=control_scale,
                chunk=chunk,
            )
        return predicts_x0(network, self.scheduler.get("prediction_type", "epsilon"))

    @torch.no_grad()
    def _depth_features(self, control: Tensor) -> Tensor:
        """The ControlNet's embedding of the depth, which its forward would compute again in each step."""
        if self.controlnet is None or self.depth_embedding is None:
            raise ModelError(f'Model "{self.name}" was loaded without a ControlNet, so it cannot follow the mesh.',
                             "Name one after a plus sign: MODEL+CONTROLNET.")  # fmt: skip
        config = self.controlnet.config
        depth = control.expand(-1, config.conditioning_channels, -1, -1).to(self.device, self.dtype)
        features = torch.cat([self.depth_embedding(one) for one in depth.split(1 if depth.is_cuda else len(depth))])
        # forward() flips the channels of what it takes for the image; every channel of a depth map is the same
        return features.flip(1) if config.controlnet_conditioning_channel_order == "bgr" else features


@dataclass(frozen=True)
class BoundNetwork:
    """The networks' guided prediction for all views: `network(x [N,C,h,w], timestep) -> [N,C,h,w]` float32."""

    model: StableDiffusion
    features: Tensor  # [N or 2N,L,D] text, avoided half first
    depth: Tensor | None  # [N,c,h,w] the ControlNet's embedding
    guidance: float
    rescale: float
    control_scale: float
    chunk: int | None

    @torch.no_grad()
    def __call__(self, x: Tensor, timestep: float) -> Tensor:
        views = len(x)
        halves = len(self.features) // views
        if len(self.features) != halves * views or halves not in (1, 2):
            raise ValueError(f"this denoiser was made for {len(self.features)} texts, not for {views} views")
        model = self.model
        chunk = self.chunk or views_at_once(model, x, halves)
        sample = x.to(model.device, model.dtype)
        time = torch.tensor(timestep, dtype=torch.float32, device=model.device)
        with memory_guard(model.device, "Denoising the views"):
            pieces = [self._predict(sample, time, slice(at, at + chunk), halves) for at in range(0, views, chunk)]
        return torch.cat(pieces).to(x.device)

    def _predict(self, sample: Tensor, time: Tensor, views: slice, halves: int) -> Tensor:
        sample = sample[views]
        text = self.features.unflatten(0, (halves, -1))[:, views].flatten(0, 1)
        residuals = {}
        if self.depth is not None:
            residuals = self._control(sample, time, text, self.depth[views], halves)
        both = sample.repeat(halves, 1, 1, 1)
        output = self.model.unet(both, time, text, return_dict=False, **residuals)[0].float()
        if halves == 1:
            return output
        uncond, cond = output.chunk(2)
        return guide(cond, uncond, self.guidance, self.rescale)

    def _control(self, sample: Tensor, time: Tensor, text: Tensor, depth: Tensor, halves: int) -> dict[str, Any]:
        """The U-Net's extra residuals. A ControlNet that reads no text gives both halves the same: it runs once."""
        once = not _reads_text(self.model.controlnet)
        repeat = 1 if once else halves
        down, middle = self.model.controlnet(
            sample.repeat(repeat, 1, 1, 1), time, text[: len(sample) * repeat], depth.repeat(repeat, 1, 1, 1),
            conditioning_scale=self.control_scale, return_dict=False,
        )  # fmt: skip
        if once and halves == 2:
            down, middle = [one.repeat(2, 1, 1, 1) for one in down], middle.repeat(2, 1, 1, 1)
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


def load(
    folder: ModelFolder, control: ModelFolder | None, device: torch.device, dtype: torch.dtype | None, progress: Report
) -> StableDiffusion:
    """Reads all parts of the folder (and the ControlNet from its own), checks that they fit, and moves them."""
    dtype = dtype or dtype_for(device)
    exact = dtype if device.type == "cuda" else torch.float32  # text and codec: little work, visible rounding
    scheduler = folder.json("scheduler/scheduler_config.json")
    wanted = [("tokenizer", ("CLIPTokenizer",), None), ("text_encoder", ("CLIPTextModel",), exact),
              ("vae", CODECS, exact), ("unet", ("UNet2DConditionModel",), dtype)]  # fmt: skip
    total = len(wanted) + (control is not None)
    parts: dict[str, Any] = {}
    for done, (part, classes, kind) in enumerate(wanted):
        progress(part, done, total)
        parts[part] = load_part(folder, part, classes, kind)
    if control is not None:
        progress("controlnet", total - 1, total)
        parts["controlnet"] = load_part(control, ".", ("ControlNetModel",), dtype)
    _check_fit(folder.name, parts, scheduler)
    with memory_guard(device, f"Loading {folder.name}"):
        for part, module in parts.items():
            if part != "tokenizer":
                module.to(device)
            if part in ("unet", "controlnet") and device.type == "cuda":
                module.to(memory_format=torch.channels_last)
    progress("ready", total, total)
    return _assemble(folder, control, parts, scheduler, device, dtype)


def _assemble(
    folder: ModelFolder, control: ModelFolder | None, parts: dict[str, Any], scheduler: dict[str, Any],
    device: torch.device, dtype: torch.dtype,
) -> StableDiffusion:  # fmt: skip
    codec, unet, controlnet = parts["vae"], parts["unet"], parts.get("controlnet")
    card, factor = folder.card(), _factor(codec)
    defaults = card.get("defaults", {})
    depth_embedding = None
    if controlnet is not None:
        depth_embedding, controlnet.controlnet_cond_embedding = controlnet.controlnet_cond_embedding, nn.Identity()
    return StableDiffusion(
        name=folder.name,
        view_size=int(card.get("view_size") or unet.config.sample_size * factor),
        factor=factor,
        channels=int(unet.config.in_channels),
        default_guidance=float(defaults.get("guidance", 7.5)),
        default_guidance_rescale=float(defaults.get("guidance_rescale", 0.0)),
        default_steps=int(defaults.get("steps", 30)),
        cheap_codec=type(codec).__name__ in LINEAR_CODECS,
        known_words=card.get("words"),
        info=_info(folder, control, dtype),
        unet=unet,
        controlnet=controlnet,
        depth_embedding=depth_embedding,
        codec=codec,
        text_encoder=parts["text_encoder"],
        tokenizer=parts["tokenizer"],
        scheduler=scheduler,
        device=device,
        dtype=dtype,
    )


def usual_control(folder: ModelFolder) -> str:
    """The hub id of the depth ControlNet that fits a published model without one of its own."""
    width = folder.json("unet/config.json").get("cross_attention_dim")
    if width not in USUAL_CONTROL:
        raise ModelError(
            f'Model "{folder.name}" has no ControlNet, which it needs to follow the mesh.',
            "Put a depth ControlNet into its controlnet folder, or name one after a plus sign: MODEL+CONTROLNET.",
        )
    return USUAL_CONTROL[width]


def views_at_once(model: StableDiffusion, x: Tensor, halves: int) -> int:
    """How many views fit into half of the free memory, at least 1."""
    width = model.unet.config.block_out_channels[0]
    one = FEATURE_MAPS * width * x.shape[-2] * x.shape[-1] * model.dtype.itemsize * halves
    return max(1, min(len(x), int(free_memory(model.device) * 0.5 / one)))


def _check_fit(name: str, parts: dict[str, Any], scheduler: dict[str, Any]) -> None:
    """Raises `ModelError` where parts of different models were put together, or the family cannot feed them."""
    unet, control = parts["unet"].config, parts.get("controlnet")
    latents = parts["vae"].config.latent_channels
    if unet.in_channels != latents:
        raise ModelError(
            f'The U-Net of model "{name}" takes {unet.in_channels} channels and its autoencoder makes {latents}.',
            "Choose a text-to-image model: inpainting, depth-to-image and edit models have extra inputs.",
        )
    text = parts["text_encoder"].config.hidden_size
    if unet.cross_attention_dim != text:
        raise ModelError(
            f'The U-Net of model "{name}" reads text of width {unet.cross_attention_dim}, not {text}.',
            "The parts are of different models: copy or download the folder again.",
        )
    keys = ("in_channels", "cross_attention_dim", "block_out_channels")
    if control is not None and any(_plain(control.config[key]) != _plain(unet[key]) for key in keys):
        raise ModelError(
            f'The ControlNet does not fit the U-Net of model "{name}".',
            "Choose a ControlNet made for this model's version (SD 1.5 and SD 2.1 need different ones).",
        )
    prediction = scheduler.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise ModelError(f'Model "{name}" predicts "{prediction}", which is not known here.',
                         f"Known are {', '.join(PREDICTIONS)}.")  # fmt: skip
    levels_from_config(scheduler, 1)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def _factor(codec: nn.Module) -> int:
    """View pixels per latent cell."""
    config = codec.config
    if "patch_size" in config:
        return int(config["patch_size"])
    return 2 ** (len(config.get("block_out_channels") or config["encoder_block_out_channels"]) - 1)


def _latent_scale(codec: nn.Module) -> tuple[float, float]:
    """(scale, shift) with latents = (encoded - shift) * scale."""
    return float(codec.config.get("scaling_factor") or 1.0), float(codec.config.get("shift_factor") or 0.0)


def _reads_text(controlnet: nn.Module) -> bool:
    blocks = [*controlnet.down_blocks, controlnet.mid_block]
    return any(getattr(block, "has_cross_attention", False) for block in blocks)


def _text_length(tokenizer: Any, text_encoder: nn.Module) -> int:
    """Tokens per prompt; a tokenizer without a limit of its own has the text encoder's."""
    return min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)


def _words(text: str) -> list[str]:
    """Words and commas of `text` in lower case."""
    return re.findall(r"[^\W\d_]+|,", text.lower())


def _vocabulary(known: Any) -> set[str]:
    """Every word in the phrases of a card's nested dictionaries and lists; "{1}" in them stands for a colour."""
    if isinstance(known, str):
        return set(_words(known)) - {","}
    return set().union(*(_vocabulary(entry) for entry in (known.values() if isinstance(known, dict) else known)))


def _info(folder: ModelFolder, control: ModelFolder | None, dtype: torch.dtype) -> dict[str, Any]:
    libraries = ("torch", "diffusers", "transformers")
    found = {
        "name": folder.name,
        "folder": str(folder.path),
        "revision": folder.revision,
        "licence": licence(folder),
        "fingerprint": fingerprint(folder.path),
        "dtype": str(dtype).removeprefix("torch."),
        "versions": {library: importlib.metadata.version(library) for library in libraries},
    }
    if control is not None and control.path.parent != folder.path:
        print_of = fingerprint(control.path)
        found["control"] = {"name": control.name, "revision": control.revision, "fingerprint": print_of}
    return found
