# SPDX-License-Identifier: Apache-2.0
"""The models Tweed knows by name: what each is good for, under which licence, how large. Data only; the panel lists it.

Sizes and memory needs are computed from the published numbers of weights at two bytes each (float16 or bfloat16), plus
what a batch of one view takes; none of them was downloaded or run where Tweed was made. Licence names are those of the
models' pages as known at the time of writing: read the page before selling what you make.
"""

from __future__ import annotations

from dataclasses import dataclass

ROLES = ("model", "control", "vae", "preview", "style", "encoder", "multiview", "lora")


@dataclass(frozen=True)
class Entry:
    """One model or part. Sizes in GB (10^9 bytes).

    name: what to type: "swatch" or a hub id. revision: the commit it is pinned to, where several public projects that
        know nothing of each other name the same one, or the hub's own pages of the model do; "" where they do not, then
        the main branch is taken and its commit recorded. files: what of the repository is needed, as patterns; () for
        the usual parts of a pipeline; of a LoRA for several families one for each, in their order. needs: the entries
        that it is no use without. memory: of a graphics card, with all parts on it, one view at a time.
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
    needs: tuple[str, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether its revision was pinned, so that two machines get the same files."""
        return (self.role == "model" and self.name == "swatch") or bool(self.revision)

    def file_for(self, family: str) -> str:
        """The file of a LoRA that is for models of this family, as an entry names it; "" where there is none."""
        found = dict(zip(self.family.split(", "), self.files, strict=True))
        return found.get(family, "")


_FEW = (("guidance", 1.0), ("schedule", "trailing"))

CATALOGUE: tuple[Entry, ...] = (
    Entry("swatch", "swatch", "model", "any machine, no download; words for colours, materials, patterns and wear",
          "Apache-2.0", 0.05, 0.5),
    Entry("stable-diffusion-v1-5/stable-diffusion-v1-5", "SD 1.5", "model", "small cards; the largest choice of LoRAs",
          "CreativeML OpenRAIL-M", 2.1, 4.0, "451f4fe16113bff5a5d2269ed5ad43b0592e9a14", commercial="conditions"),
    Entry("lllyasviel/control_v11f1p_sd15_depth", "SD 1.5", "control", "depth for SD 1.5", "OpenRAIL", 0.7,
          revision="539f99181d33db39cf1af2e517cd8056785f0a87", commercial="conditions"),
    Entry("lllyasviel/control_v11p_sd15_normalbae", "SD 1.5", "control", "normals for SD 1.5", "OpenRAIL", 0.7,
          commercial="conditions",
          revision="cb7296e6587a219068e9d65864e38729cd862aa8"),
    Entry("lllyasviel/control_v11p_sd15_canny", "SD 1.5", "control", "edges for SD 1.5", "OpenRAIL", 0.7,
          commercial="conditions",
          revision="115a470d547982438f70198e353a921996e2e819"),
    Entry("timbrooks/instruct-pix2pix", "SD 1.5", "model", "changing a texture by an instruction (method 'edit')",
          "MIT", 2.1, 4.5,
          revision="31519b5cb02a7fd89b906d88731cd4d6a7bbf88d"),
    Entry("SimianLuo/LCM_Dreamshaper_v7", "SD 1.5", "model", "a look in 4 to 8 steps", "MIT", 2.1, 4.0,
          settings=(("schedule", "lcm"), ("sampler", "lcm"), ("steps", 6), ("guidance", 8.0)),
          revision="a85df6a8bd976cdd08b4fd8f3b73f229c9e54df5"),
    Entry("stabilityai/stable-diffusion-2-1", "SD 2.1", "model", "768 pixel views on small cards",
          "CreativeML OpenRAIL++-M", 2.6, 5.0, commercial="conditions",
          revision="5cae40e6a2745ae2b01ad92ae5043f95f23644d6"),
    Entry("stabilityai/stable-diffusion-2-depth", "SD 2.1", "model", "reads depth itself, no ControlNet",
          "CreativeML OpenRAIL++-M", 2.6, 4.5, commercial="conditions",
          revision="d49bafe6f381b0fe37ccfc4c8f6a23424b09d6ef"),
    Entry("stabilityai/stable-diffusion-xl-base-1.0", "SDXL", "model", "1024 pixel views, detail and prompts",
          "CreativeML OpenRAIL++-M", 6.9, 11.0, commercial="conditions",
          revision="462165984030d82259a11f4367a4eed129e94a7b"),
    Entry("stabilityai/sdxl-turbo", "SDXL", "model", "a look in 1 to 4 steps at 512 pixels",
          "Stability AI Non-Commercial", 6.9, 10.0, commercial="no",
          settings=(*_FEW, ("steps", 4), ("view_size", 512)),
          revision="71153311d3dbb46851df1931d3ca6e939de83304"),
    Entry("diffusers/controlnet-depth-sdxl-1.0", "SDXL", "control", "depth for SDXL", "OpenRAIL++", 2.5,
          commercial="conditions",
          revision="17bb97973f29801224cd66f192c5ffacf82648b4"),
    Entry("diffusers/controlnet-canny-sdxl-1.0", "SDXL", "control", "edges for SDXL", "OpenRAIL++", 2.5,
          commercial="conditions",
          revision="eb115a19a10d14909256db740ed109532ab1483c"),
    Entry("xinsir/controlnet-union-sdxl-1.0", "SDXL", "control", "depth, normals and edges in one, for SDXL",
          "Apache-2.0", 2.5,
          revision="801a4a3fa3d4c936f4feea95b98607bc6726f80c"),
    Entry("madebyollin/sdxl-vae-fp16-fix", "SDXL", "vae", "SDXL's autoencoder without overflow in float16",
          "MIT", 0.17,
          revision="207b116dae70ace3637169f1ddd2434b91b3a8cd"),
    Entry("stabilityai/stable-diffusion-3.5-medium", "SD 3.5", "model", "newer prompts on 16 GB",
          "Stability AI Community", 16.0, 18.0, gated=True, commercial="conditions",
          revision="b940f670f0eda2d07fbb75229e779da1ad11eb80"),
    Entry("stabilityai/stable-diffusion-3.5-large", "SD 3.5", "model", "newer prompts, depth and edges",
          "Stability AI Community", 27.0, 30.0, gated=True, commercial="conditions",
          revision="ceddf0a7fdf2064ea28e2213e3b84e4afa170a0f"),
    Entry("stabilityai/stable-diffusion-3.5-large-controlnet-depth", "SD 3.5", "control", "depth for 3.5 large",
          "Stability AI Community", 8.7, gated=True, commercial="conditions",
          revision="6bcad403a0aca0d000b3624f751d0c391303e12f"),
    Entry("black-forest-labs/FLUX.1-dev", "FLUX", "model", "the finest detail of these, on large cards",
          "FLUX.1 [dev] Non-Commercial", 34.0, 37.0, gated=True, commercial="no",
          revision="3de623fc3c33e44ffbe2bad470d0f45bccf2eb21"),
    Entry("black-forest-labs/FLUX.1-schnell", "FLUX", "model", "FLUX in 4 steps", "Apache-2.0", 34.0, 36.0, gated=True,
          settings=(("steps", 4), ("guidance", 1.0)),
          revision="741f7c3ce8b383c54771c7003378a50191e9efe9"),
    Entry("black-forest-labs/FLUX.1-Depth-dev", "FLUX", "model", "FLUX that reads depth itself",
          "FLUX.1 [dev] Non-Commercial", 34.0, 37.0, gated=True, commercial="no",
          revision="fb5e9b1bae41b8c8adcea4ea2a87b74dd298f07a"),
    Entry("InstantX/FLUX.1-dev-Controlnet-Union", "FLUX", "control", "depth and edges for FLUX.1 dev",
          "FLUX.1 [dev] Non-Commercial", 6.6, commercial="no",
          revision="4f32d6f2b220f8873d49bb8acc073e1df180c994"),
    Entry("h94/IP-Adapter", "SD 1.5, SDXL", "style", "style images; plus keeps more of them", "Apache-2.0", 4.2,
          files=("models/ip-adapter_sd15.safetensors", "models/ip-adapter-plus_sd15.safetensors",
                 "models/image_encoder/*", "sdxl_models/ip-adapter_sdxl_vit-h.safetensors",
                 "sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors"),
          revision="018e402774aeeddd60609b4ecdb7e298259dc729"),
    Entry("InstantX/SD3.5-Large-IP-Adapter", "SD 3.5", "style", "style images on 3.5 large",
          "Stability AI Community", 1.6, files=("ip-adapter.safetensors",), commercial="conditions",
          needs=("google/siglip-so400m-patch14-384",),
          revision="f1f54ca369ae759f9278ae9c87d46def9f133c78"),  # a pull request's: main holds a pickle alone
    Entry("XLabs-AI/flux-ip-adapter", "FLUX", "style", "style images on FLUX.1 dev",
          "FLUX.1 [dev] Non-Commercial", 0.98, files=("ip_adapter.safetensors",), commercial="no",
          needs=("openai/clip-vit-large-patch14",),
          revision="18f6940238ab5dc3744df7a8e30315892279d5f9"),
    Entry("google/siglip-so400m-patch14-384", "SD 3.5", "encoder", "sees the style image for SD 3.5",
          "Apache-2.0", 3.51, files=("config.json", "model.safetensors"),
          revision="9fdffc58afc957d1a03a25b10dba0329ab15c2a3"),
    Entry("openai/clip-vit-large-patch14", "FLUX", "encoder", "sees the style image for FLUX",
          "MIT", 1.71, files=("config.json", "model.safetensors"),
          revision="32bd64288804d66eefd0ccbe215aa642df71cc41"),
    Entry("huanngzh/mv-adapter", "SDXL, SD 2.1", "multiview", "views that look at each other, for setting multiview",
          "Apache-2.0", 1.2, files=("mvadapter_tg2mv_sdxl.safetensors", "mvadapter_tg2mv_sd21.safetensors"),
          settings=(("multiview", "auto"), ("rig", "box"), ("views", 6), ("lens", "parallel"), ("view_size", 768)),
          revision="6de4033df6b53366f3c009d22f5ec434bb55e59f"),
    Entry("latent-consistency/lcm-lora-sdv1-5", "SD 1.5", "lora", "4 to 8 steps with any SD 1.5 model",
          "OpenRAIL++", 0.14, files=("pytorch_lora_weights.safetensors",), commercial="conditions",
          settings=(("schedule", "lcm"), ("sampler", "lcm"), ("steps", 6), ("guidance", 1.5)),
          revision="cf2fced511dbe7e26c8d1d397e728fbab875db4b"),
    Entry("ByteDance/Hyper-SD", "SD 1.5, SDXL", "lora", "1 to 8 steps with any SD 1.5 or SDXL model",
          "OpenRAIL++", 1.1, commercial="conditions",
          files=("Hyper-SD15-1step-lora.safetensors", "Hyper-SDXL-1step-lora.safetensors"),
          settings=(("schedule", "lcm"), ("sampler", "tcd"), ("eta", 1.0), ("steps", 6), ("guidance", 1.0)),
          revision="bc08d970a87c74c71209491d64e3525845698863"),
    Entry("h1t/TCD-SDXL-LoRA", "SDXL", "lora", "4 to 8 steps with any SDXL model; eta sets the detail",
          "MIT", 0.39, files=("pytorch_lora_weights.safetensors",),
          settings=(("schedule", "lcm"), ("sampler", "tcd"), ("eta", 0.3), ("steps", 4), ("guidance", 1.0)),
          revision="ea69e290a201cbb9ac232be2d5c81ef6dc0fc3a2"),
    Entry("ByteDance/SDXL-Lightning", "SDXL", "lora", "4 steps with any SDXL model",
          "OpenRAIL++", 0.39, files=("sdxl_lightning_4step_lora.safetensors",), commercial="conditions",
          settings=(*_FEW, ("sampler", "euler"), ("steps", 4)),
          revision="c9a24f48e1c025556787b0c58dd67a091ece2e44"),
    Entry("madebyollin/taesd", "SD 1.5, SD 2.1", "preview", "quick previews", "MIT", 0.01,
          revision="614f76814bbe30edbe2e627ace1c2234c81a2c0e"),
    Entry("madebyollin/taesdxl", "SDXL", "preview", "quick previews", "MIT", 0.01,
          revision="b20258aaef75ef61e659c1e0f14f251cf0ad153e"),
    Entry("madebyollin/taesd3", "SD 3.5", "preview", "quick previews", "MIT", 0.01,
          revision="d58dcaccd2b36fcb7a6b9e93c1cc507acab5a778"),
    Entry("madebyollin/taef1", "FLUX", "preview", "quick previews", "MIT", 0.01,
          revision="b1b2d00e9e440cfbf3dedb34266864da86016ceb"),
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
