# SPDX-License-Identifier: Apache-2.0
"""What can be added to a model, in the families that the other files leave out: LoRA in all, IP-Adapter in SDXL."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    FluxPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.models import attention_processor
from safetensors.torch import save_file

from blender_addon.jobs.errors import OutOfMemory
from engine.models import codec as codecs
from engine.models import load_model
from engine.models.flux import pack, unpack
from engine.models.loading import Extras
from engine.sampling import sample, start
from engine.schedule import levels_from_config
from tests.tiny_families import FLOW_LATENTS, write_tiny_flux, write_tiny_sd3, write_tiny_style, write_tiny_xl
from tests.tiny_models import LATENT, write_tiny_model

CPU = torch.device("cpu")
SIDE, STEPS, RANK, ALPHA, WEIGHT = LATENT * 8, 3, 2, 3.0, 0.7
BLOCK = "mid_block.attentions.0.transformer_blocks.0"
U_NET = tuple(f"{BLOCK}.{name}" for name in ("attn1.to_q", "attn2.to_v", "ff.net.2"))
CLIP = "encoder.layers.0.self_attn.q_proj"
# family -> how its folder is written, its pipeline, the layers that the LoRA changes
FAMILIES = {
    "sd15": (lambda folder: write_tiny_model(folder, control=False), StableDiffusionPipeline,
             {"unet": U_NET, "text_encoder": (CLIP,)}),
    "sdxl": (lambda folder: write_tiny_xl(folder, ""), StableDiffusionXLPipeline,
             {"unet": U_NET, "text_encoder": (CLIP,), "text_encoder_2": (CLIP,)}),
    "sd3": (lambda folder: write_tiny_sd3(folder, control=False), StableDiffusion3Pipeline,
            {"transformer": ("transformer_blocks.0.attn.to_q", "transformer_blocks.1.attn.add_k_proj"),
             "text_encoder": (CLIP,)}),
    "flux": (lambda folder: write_tiny_flux(folder), FluxPipeline,
             {"transformer": ("transformer_blocks.0.attn.to_q", "single_transformer_blocks.0.proj_mlp"),
              "text_encoder": (CLIP,)}),
}  # fmt: skip


def noise(channels=4):
    return torch.randn(1, channels, LATENT, LATENT, generator=torch.Generator().manual_seed(7))


def layer(part, name):
    """A layer of a pipeline's part; some releases of transformers wrap the text encoder's in `text_model`."""
    return (part.text_model if hasattr(part, "text_model") else part).get_submodule(name)


def adapted(pipeline, layers, path):
    """Writes a LoRA in PEFT's layout, and adds its branch, B A x, to the layers' answers: nothing is merged."""
    tensors, generator = {}, torch.Generator().manual_seed(3)
    for part, names in layers.items():
        for name in names:
            linear = layer(getattr(pipeline, part), name)
            a = torch.randn(RANK, linear.in_features, generator=generator) / linear.in_features**0.5
            b = torch.randn(linear.out_features, RANK, generator=generator) / 2
            whole = f"text_model.{name}" if part.startswith("text") else name
            tensors |= {f"{part}.{whole}.lora_A.weight": a, f"{part}.{whole}.lora_B.weight": b,
                        f"{part}.{whole}.alpha": torch.tensor(ALPHA)}  # fmt: skip
            linear.register_forward_hook(lambda module, inputs, output, a=a, b=b:
                                         output + WEIGHT * ALPHA / RANK * (inputs[0] @ a.T @ b.T))  # fmt: skip
    save_file(tensors, path)


@pytest.mark.parametrize("family", FAMILIES)
def test_with_a_lora_one_view_equals_the_pipeline(family, tmp_path):
    write, kind, layers = FAMILIES[family]
    folder, path = write(tmp_path / family), tmp_path / "style.safetensors"
    pipeline = kind.from_pretrained(folder, local_files_only=True)
    adapted(pipeline, layers, path)
    channels = 4 if family.startswith("sd15") or family == "sdxl" else FLOW_LATENTS
    found, plain = (run_ours(folder, family, channels, loras) for loras in (((str(path), WEIGHT),), ()))
    expected = run_theirs(pipeline, family, channels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - plain).abs().max() > 1e-2


def run_ours(folder, family, channels, loras):
    model = load_model(f"{folder}+none", CPU, torch.float32, extras=Extras(loras=loras))
    bound = model.denoiser(["a red brick"], ["ugly wall"], None, 4.0)
    if family in ("sd3", "flux"):
        levels = model.levels(STEPS, size=SIDE)
        return sample(bound, start(noise(channels), levels[0]), levels, "flow-euler")
    levels = levels_from_config({**model.scheduler, "_class_name": "DDIMScheduler"}, STEPS, final="config")
    return sample(bound, start(noise(channels), levels[0]), levels, "ddim")


def run_theirs(pipeline, family, channels):
    pipeline.set_progress_bar_config(disable=True)
    common = {"prompt": ["a red brick"], "num_inference_steps": STEPS, "guidance_scale": 4.0, "height": SIDE,
              "width": SIDE, "output_type": "latent"}  # fmt: skip
    if family == "flux":
        return unpack(pipeline(latents=pack(noise(channels)), **common).images, LATENT, LATENT)
    if family != "sd3":
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    return pipeline(negative_prompt=["ugly wall"], latents=noise(channels), **common).images


def test_with_a_style_image_one_view_of_sdxl_equals_the_pipeline(tmp_path):
    folder = write_tiny_xl(tmp_path / "xl", "")
    style = write_tiny_style(tmp_path / "style", UNet2DConditionModel.from_pretrained(folder / "unet"))
    model = load_model(f"{folder}+none", CPU, torch.float32, extras=Extras(style=str(style)))
    image = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(3)) * 2 - 1
    levels = levels_from_config({**model.scheduler, "_class_name": "DDIMScheduler"}, STEPS, final="config")
    found, weak = (
        sample(model.denoiser(["a red brick"], ["ugly wall"], None, 4.0, style=(image, strength)),
               start(noise(), levels[0]), levels, "ddim") for strength in (0.7, 0.1)
    )  # fmt: skip
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder)
    pipeline.load_ip_adapter(str(style), subfolder="", weight_name="ip-adapter.safetensors")
    pipeline.set_ip_adapter_scale(0.7)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        prompt=["a red brick"], negative_prompt=["ugly wall"], num_inference_steps=STEPS, guidance_scale=4.0,
        height=SIDE, width=SIDE, latents=noise(), output_type="latent",
        ip_adapter_image_embeds=[model.style.features(image)[:, 0]],
    ).images  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - weak).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_never_writes_out_its_matrix(family, tmp_path):
    """torch's fused attention everywhere: memory grows with the tokens and not with their square, so that there is
    nothing to slice."""
    folder = FAMILIES[family][0](tmp_path / family)
    model = load_model(f"{folder}+none", CPU, torch.float32)
    network = model.unet if hasattr(model, "unet") else model.transformer
    kinds = {type(one).__name__ for one in network.attn_processors.values()}
    known = {"AttnProcessor2_0", "JointAttnProcessor2_0", "FluxAttnProcessor"}
    assert kinds <= known and hasattr(attention_processor.F, "scaled_dot_product_attention")


@pytest.mark.parametrize("tight", [False, True])
def test_an_image_too_large_for_the_autoencoder_goes_through_it_in_tiles(tmp_path, monkeypatch, tight):
    """Tiles when the estimate is more than what is free; afterwards the autoencoder is as it was."""
    model = load_model(f"{write_tiny_model(tmp_path / 'model', control=False)}+none", CPU, torch.float32)
    needed = codecs.working_bytes(model.codec, SIDE * SIDE)
    assert needed == 12 * 8 * SIDE * SIDE * 4  # maps of 8 channels at full size, 4 bytes each
    monkeypatch.setattr(codecs, "free_memory", lambda device: needed - 1 if tight else needed)
    used = []
    for name in ("encode", "decode"):
        plain = getattr(model.codec, name)
        monkeypatch.setattr(model.codec, name, lambda x, plain=plain: used.append(model.codec.use_tiling) or plain(x))
    decoded = model.decode(noise())
    assert used == [tight] and not model.codec.use_tiling and decoded.shape == (1, 3, SIDE, SIDE)
    assert model.encode(decoded).shape == noise().shape and used == [tight, tight] and not model.codec.use_tiling


def test_memory_that_runs_out_while_decoding_is_said_with_a_remedy(tmp_path, monkeypatch):
    model = load_model(f"{write_tiny_model(tmp_path / 'model', control=False)}+none", CPU, torch.float32)
    monkeypatch.setattr(model.codec, "decode", lambda latents: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    with pytest.raises(OutOfMemory, match="Decoding the views") as caught:
        model.decode(noise())
    assert "fewer views" in caught.value.action
