# SPDX-License-Identifier: Apache-2.0
"""The models Tweed knows by name: what each is good for, under which licence, how large. Data only; the panel lists it.

Sizes and memory needs are computed from the published numbers of weights at two bytes each (float16 or bfloat16), plus
what a batch of one view takes; none of them was downloaded or run where Tweed was made. Licence names are those of the
models' pages as known at the time of writing: read the page before selling what you make.
"""

from __future__ import annotations

from dataclasses import dataclass

ROLES = ("model", "control", "vae", "preview", "style", "lora")


@dataclass(frozen=True)
class Entry:
    """One model or part. Sizes in GB (10^9 bytes).

    name: what to type: "swatch" or a hub id. revision: the commit it is pinned to; "" where none was verified, then the
        main branch is taken and its commit recorded. files: what of the repository is needed, as patterns; () for the
        usual parts of a pipeline. memory: of a graphics card, with all parts on it, one view at a time.
    """

    name: str
    family: str
    role: str
    good_for: str
    licence: str
    size: float
    memory: float = 0.0
    revision: str = ""
    gated: bool = False
    commercial: str = "yes"  # "yes", "no", or "conditions": the licence limits who or what for
    files: tuple[str, ...] = ()
    settings: tuple[tuple[str, object], ...] = ()  # what goes well with it

    @property
    def verified(self) -> bool:
        """Whether its revision was pinned, so that two machines get the same files."""
        return (self.role == "model" and self.name == "swatch") or bool(self.revision)


_FEW = (("guidance", 1.0), ("schedule", "trailing"))

CATALOGUE: tuple[Entry, ...] = (
    Entry("swatch", "swatch", "model", "any machine, no download; words for colours, materials, patterns and wear",
          "Apache-2.0", 0.05, 0.5),
    Entry("stable-diffusion-v1-5/stable-diffusion-v1-5", "SD 1.5", "model", "small cards; the largest choice of LoRAs",
          "CreativeML OpenRAIL-M", 2.1, 4.0, "451f4fe16113bff5a5d2269ed5ad43b0592e9a14", commercial="conditions"),
    Entry("lllyasviel/control_v11f1p_sd15_depth", "SD 1.5", "control", "depth for SD 1.5", "OpenRAIL", 0.7,
          revision="539f99181d33db39cf1af2e517cd8056785f0a87", commercial="conditions"),
    Entry("lllyasviel/control_v11p_sd15_normalbae", "SD 1.5", "control", "normals for SD 1.5", "OpenRAIL", 0.7,
          commercial="conditions"),
    Entry("lllyasviel/control_v11p_sd15_canny", "SD 1.5", "control", "edges for SD 1.5", "OpenRAIL", 0.7,
          commercial="conditions"),
    Entry("timbrooks/instruct-pix2pix", "SD 1.5", "model", "changing a texture by an instruction (method 'edit')",
          "MIT", 2.1, 4.5),
    Entry("SimianLuo/LCM_Dreamshaper_v7", "SD 1.5", "model", "a look in 4 to 8 steps", "MIT", 2.1, 4.0,
          settings=(("schedule", "lcm"), ("sampler", "lcm"), ("steps", 6), ("guidance", 8.0))),
    Entry("stabilityai/stable-diffusion-2-1", "SD 2.1", "model", "768 pixel views on small cards",
          "CreativeML OpenRAIL++-M", 2.6, 5.0, commercial="conditions"),
    Entry("stabilityai/stable-diffusion-2-depth", "SD 2.1", "model", "reads depth itself, no ControlNet",
          "CreativeML OpenRAIL++-M", 2.6, 4.5, commercial="conditions"),
    Entry("stabilityai/stable-diffusion-xl-base-1.0", "SDXL", "model", "1024 pixel views, detail and prompts",
          "CreativeML OpenRAIL++-M", 6.9, 11.0, commercial="conditions"),
    Entry("stabilityai/sdxl-turbo", "SDXL", "model", "a look in 1 to 4 steps at 512 pixels",
          "Stability AI Non-Commercial", 6.9, 10.0, commercial="no",
          settings=(*_FEW, ("steps", 4), ("view_size", 512))),
    Entry("diffusers/controlnet-depth-sdxl-1.0", "SDXL", "control", "depth for SDXL", "OpenRAIL++", 2.5,
          commercial="conditions"),
    Entry("diffusers/controlnet-canny-sdxl-1.0", "SDXL", "control", "edges for SDXL", "OpenRAIL++", 2.5,
          commercial="conditions"),
    Entry("xinsir/controlnet-union-sdxl-1.0", "SDXL", "control", "depth, normals and edges in one, for SDXL",
          "Apache-2.0", 2.5),
    Entry("madebyollin/sdxl-vae-fp16-fix", "SDXL", "vae", "SDXL's autoencoder without overflow in float16",
          "MIT", 0.17),
    Entry("stabilityai/stable-diffusion-3.5-medium", "SD 3.5", "model", "newer prompts on 16 GB",
          "Stability AI Community", 16.0, 18.0, gated=True, commercial="conditions"),
    Entry("stabilityai/stable-diffusion-3.5-large", "SD 3.5", "model", "newer prompts, depth and edges",
          "Stability AI Community", 27.0, 30.0, gated=True, commercial="conditions"),
    Entry("stabilityai/stable-diffusion-3.5-large-controlnet-depth", "SD 3.5", "control", "depth for 3.5 large",
          "Stability AI Community", 8.7, gated=True, commercial="conditions"),
    Entry("black-forest-labs/FLUX.1-dev", "FLUX", "model", "the finest detail of these, on large cards",
          "FLUX.1 [dev] Non-Commercial", 34.0, 37.0, gated=True, commercial="no"),
    Entry("black-forest-labs/FLUX.1-schnell", "FLUX", "model", "FLUX in 4 steps", "Apache-2.0", 34.0, 36.0, gated=True,
          settings=(("steps", 4), ("guidance", 1.0))),
    Entry("black-forest-labs/FLUX.1-Depth-dev", "FLUX", "model", "FLUX that reads depth itself",
          "FLUX.1 [dev] Non-Commercial", 34.0, 37.0, gated=True, commercial="no"),
    Entry("InstantX/FLUX.1-dev-Controlnet-Union", "FLUX", "control", "depth and edges for FLUX.1 dev",
          "FLUX.1 [dev] Non-Commercial", 6.6, commercial="no"),
    Entry("h94/IP-Adapter", "SD 1.5, SDXL", "style", "style images", "Apache-2.0", 3.2,
          files=("models/ip-adapter_sd15.safetensors", "models/image_encoder/*",
                 "sdxl_models/ip-adapter_sdxl_vit-h.safetensors")),
    Entry("latent-consistency/lcm-lora-sdv1-5", "SD 1.5", "lora", "4 to 8 steps with any SD 1.5 model",
          "OpenRAIL++", 0.14, files=("pytorch_lora_weights.safetensors",), commercial="conditions",
          settings=(("schedule", "lcm"), ("sampler", "lcm"), ("steps", 6), ("guidance", 1.5))),
    Entry("madebyollin/taesd", "SD 1.5, SD 2.1", "preview", "quick previews", "MIT", 0.01),
    Entry("madebyollin/taesdxl", "SDXL", "preview", "quick previews", "MIT", 0.01),
    Entry("madebyollin/taesd3", "SD 3.5", "preview", "quick previews", "MIT", 0.01),
    Entry("madebyollin/taef1", "FLUX", "preview", "quick previews", "MIT", 0.01),
)  # fmt: skip


def entry(name: str) -> Entry | None:
    """The catalogue's entry of a name, with or without a revision; None for a model it does not know."""
    plain = name.partition("@")[0].strip()
    return next((one for one in CATALOGUE if one.name == plain), None)


def licence_line(name: str) -> str:
    """One sentence for the panel and the report about what the model's licence allows; "" for unknown models."""
    found = entry(name.partition("+")[0])
    if found is None:
        return ""
    allows = {"yes": "commercial use is allowed", "no": "no commercial use",
              "conditions": "commercial use with conditions"}[found.commercial]  # fmt: skip
    return f"{found.licence}: {allows}."
