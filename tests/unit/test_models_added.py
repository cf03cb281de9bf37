# SPDX-License-Identifier: Apache-2.0
"""What is added to SD 1.5: controls, ranges, style image, other autoencoders, distilled forms, depth in the U-Net."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    ControlNetModel,
    DDIMScheduler,
    LCMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel

from blender_addon.jobs.errors import ModelError, SettingsError
from engine.denoiser import from_epsilon
from engine.models import load_model
from engine.models.controls import Control
from engine.models.loading import Extras
from engine.sampling import sample, start
from engine.schedule import levels_from_config
from tests.tiny_families import write_tiny_style
from tests.tiny_models import LATENT, SD15_SCHEDULER, kl_codec, randomize, tiny_controlnet, tiny_unet, write_tiny_model

CPU = torch.device("cpu")
STEPS = 5
SIDE = LATENT * 8


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def picture(seed=5):
    return torch.rand(1, 3, SIDE, SIDE, generator=seeded(seed))


def noise():
    return torch.randn(1, 4, LATENT, LATENT, generator=seeded(7))


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def denoised(model, guidance, controls=None, avoid="ugly wall", **more):
    denoiser = model.denoiser(["a red brick"], [avoid], controls, guidance, **more)
    levels = levels_from_config(model.scheduler, STEPS, final="config")
    return sample(denoiser, start(noise(), levels[0]), levels, "ddim")


def pipeline_result(pipeline, guidance, avoid="ugly wall", **more):
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(prompt=["a red brick"], negative_prompt=[avoid], num_inference_steps=STEPS, guidance_scale=guidance,
                    latents=noise(), output_type="latent", height=SIDE, width=SIDE, **more).images  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("models") / "plain", control=False)


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """Two ControlNets in folders of their own; the second takes colours in reverse order, as some do."""
    folders = []
    for seed, order in ((11, "rgb"), (12, "bgr")):
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp("nets") / f"net{seed}"
        net = randomize(tiny_controlnet())
        net.register_to_config(controlnet_conditioning_channel_order=order)
        with torch.no_grad():  # else the picture hardly shows in the result
            for weight in net.controlnet_cond_embedding.parameters():
                weight.mul_(3)
        net.save_pretrained(folder)
        folders.append(folder)
    return folders


def test_several_controls_equal_the_pipeline(plain, nets):
    model = load_model(f"{plain}+{nets[0]}+{nets[1]}", CPU, torch.float32)
    found = denoised(model, 5.0, [Control("depth", picture(1), 0.9), Control("normal", picture(2), 0.4)])
    both = MultiControlNetModel([ControlNetModel.from_pretrained(folder) for folder in nets])
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(plain, controlnet=both)
    close(
        found, pipeline_result(pipeline, 5.0, image=[picture(1), picture(2)], controlnet_conditioning_scale=[0.9, 0.4])
    )
    swapped = denoised(model, 5.0, [Control("depth", picture(2), 0.9), Control("normal", picture(1), 0.4)])
    assert (found - swapped).abs().max() > 1e-3


def test_the_range_of_a_control_equals_the_pipelines(plain, nets):
    """Timesteps 801, 601, 401, 201, 1 are shares 0.199, 0.399, 0.599, 0.799, 0.999 from the noisiest. The pipeline
    counts steps: from 0.2 to 0.8 it keeps steps 1, 2 and 3, those of the shares within 0.3 and 0.9."""
    model = load_model(f"{plain}+{nets[0]}", CPU, torch.float32)
    found = denoised(model, 5.0, [Control("depth", picture(), 1.0, 0.3, 0.9)])
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        plain, controlnet=ControlNetModel.from_pretrained(nets[0])
    )
    close(found, pipeline_result(pipeline, 5.0, image=picture(), control_guidance_start=0.2, control_guidance_end=0.8))
    assert (found - denoised(model, 5.0, [Control("depth", picture())])).abs().max() > 1e-3


def test_outside_of_its_interval_guidance_costs_and_does_nothing(plain):
    model = load_model(f"{plain}+none", CPU, torch.float32)
    batches = []
    hook = model.unet.register_forward_hook(lambda module, inputs, output: batches.append(len(output[0])))
    levels = levels_from_config(model.scheduler, STEPS)
    bound = model.denoiser(["a red brick"], ["ugly"], None, 5.0, interval=(0.3, 0.9))
    found = [bound(noise(), level) for level in levels[:-1]]
    hook.remove()
    assert batches == [1, 2, 2, 2, 1]
    whole, without = (model.denoiser(["a red brick"], ["ugly"], None, scale) for scale in (5.0, 1.0))
    for k, one in enumerate(found):
        close(one, (without if k in (0, 4) else whole)(noise(), levels[k]))


def test_kinds_that_are_not_known_or_have_no_network(plain, nets):
    with pytest.raises(SettingsError, match="depth, normal, canny"):
        Control("pose", picture())
    model = load_model(f"{plain}+{nets[0]}", CPU, torch.float32)
    with pytest.raises(SettingsError) as caught:
        model.denoiser(["a"], [""], [Control("depth", picture()), Control("canny", picture())], 1.0)
    assert caught.value.key == "control" and "plus" in caught.value.action


@pytest.fixture(scope="module")
def styled(plain, tmp_path_factory):
    unet = UNet2DConditionModel.from_pretrained(plain / "unet")
    return write_tiny_style(tmp_path_factory.mktemp("style") / "adapter", unet)


def test_a_style_image_equals_the_pipeline(plain, styled):
    model = load_model(f"{plain}+none", CPU, torch.float32, extras=Extras(style=str(styled)))
    image = torch.rand(1, 3, 40, 50, generator=seeded(3)) * 2 - 1
    found = denoised(model, 5.0, style=(image, 0.7))
    pipeline = StableDiffusionPipeline.from_pretrained(plain)
    pipeline.load_ip_adapter(str(styled), subfolder="", weight_name="ip-adapter.safetensors")
    pipeline.set_ip_adapter_scale(0.7)
    embeds = model.style.features(image)[:, 0]  # nothing, then the picture; the pipeline takes both in one tensor
    close(found, pipeline_result(pipeline, 5.0, ip_adapter_image_embeds=[embeds]))
    assert (found - denoised(model, 5.0, style=(image, 0.2))).abs().max() > 1e-3
    assert (found - denoised(model, 5.0, style=(-image, 0.7))).abs().max() > 1e-4


def test_a_picture_is_seen_as_clip_sees_it(plain, styled):
    """The middle square, made small, minus CLIP's mean over its deviation: for grey 0.5 known by hand."""
    model = load_model(f"{plain}+none", CPU, torch.float32, extras=Extras(style=str(styled)))
    seen = []
    hook = model.style.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image = torch.full((1, 3, 30, 90), -1.0)
    image[..., 30:60] = 0.0
    none, own = model.style.features(image)
    hook.remove()
    mean, deviation = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    np.testing.assert_allclose(seen[0].mean((0, 2, 3)), (0.5 - mean) / deviation, rtol=1e-4)
    assert seen[0].std((2, 3)).max() < 1e-5 and none.abs().max() == 0 and own.abs().max() > 0


def test_style_adapters_that_cannot_be_used(plain, styled, tmp_path):
    model = load_model(f"{plain}+none", CPU, torch.float32)
    with pytest.raises(ModelError, match="style"):
        model.denoiser(["a"], [""], None, 1.0, style=(picture(), 1.0))
    broken = shutil.copytree(styled, tmp_path / "broken")
    file = broken / "ip-adapter.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    foreign = shutil.copytree(styled, tmp_path / "foreign")
    shutil.copy(next((plain / "vae").glob("*.safetensors")), foreign / "ip-adapter.safetensors")
    pickled = shutil.copytree(styled, tmp_path / "pickled")
    (pickled / "ip-adapter.safetensors").rename(pickled / "ip-adapter.bin")
    for folder, words in ((broken, "cut short"), (foreign, "no IP-Adapter"), (pickled, "pickled")):
        with pytest.raises(ModelError, match=words) as caught:
            load_model(f"{plain}+none", CPU, torch.float32, extras=Extras(style=str(folder)))
        assert caught.value.action


def test_another_autoencoder_and_a_preview_decoder(plain, tmp_path):
    torch.manual_seed(5)
    other, tiny = randomize(kl_codec()), randomize(AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4, num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4))  # fmt: skip
    other.save_pretrained(tmp_path / "vae")
    tiny.save_pretrained(tmp_path / "tiny")
    extras = Extras(vae=str(tmp_path / "vae"), preview_vae=str(tmp_path / "tiny"))
    model = load_model(f"{plain}+none", CPU, torch.float32, extras=extras)
    latents = noise()
    scale, shift = other.config.scaling_factor, other.config.shift_factor
    with torch.no_grad():
        close(model.decode(latents), other.decode(latents / scale + shift).sample)
        close(model.decode(latents, refine=False), tiny.decode(latents).sample)
    randomize(kl_codec(8)).save_pretrained(tmp_path / "wide")
    for extras in (Extras(vae=str(tmp_path / "wide")), Extras(preview_vae=str(tmp_path / "vae"))):
        with pytest.raises(ModelError):
            load_model(f"{plain}+none", CPU, torch.float32, extras=extras)


def with_unet(plain, folder, pipeline, **options):
    """A copy of the folder with another U-Net."""
    shutil.copytree(plain, folder)
    shutil.rmtree(folder / "unet")
    torch.manual_seed(4)
    randomize(tiny_unet(**options)).save_pretrained(folder / "unet")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": pipeline}))
    return folder


def test_depth_in_the_unet_equals_the_pipeline(plain, tmp_path):
    """The pipeline starts from a picture, so one call of its network is compared: guided noise, then x0."""
    folder = with_unet(plain, tmp_path / "depth", "StableDiffusionDepth2ImgPipeline", in_channels=5)
    model = load_model(str(folder), CPU, torch.float32)
    assert model.controlnets == () and model.channels == 4
    pipeline = StableDiffusionDepth2ImgPipeline(
        vae=model.codec, text_encoder=model.text_encoder, tokenizer=model.tokenizer, unet=model.unet,
        scheduler=DDIMScheduler.from_config(SD15_SCHEDULER), depth_estimator=None, feature_extractor=None)  # fmt: skip
    calls = []
    hook = model.unet.register_forward_hook(lambda module, inputs, output: calls.append((*inputs, output[0])))
    depth = picture()[:, 0]
    pipeline.set_progress_bar_config(disable=True)
    pipeline(prompt=["a red brick"], negative_prompt=["ugly"], image=picture(2), depth_map=depth, strength=1.0,
             num_inference_steps=STEPS, guidance_scale=4.0, output_type="latent", generator=seeded(0))  # fmt: skip
    hook.remove()
    both, time, output = calls[1]
    x, level = both[:1, :4], next(one for one in model.levels(STEPS) if one.timestep == float(time))
    uncond, cond = output.chunk(2)
    bound = model.denoiser(["a red brick"], ["ugly"], depth[:, None], 4.0)
    close(bound(x, level), from_epsilon(uncond + 4.0 * (cond - uncond), x, level))
    with pytest.raises(SettingsError, match="depth"):
        model.denoiser(["a"], [""], None, 1.0)


def test_lcm_equals_the_pipeline(plain, tmp_path):
    """Guidance is told to the network; the sampler notes each clean image and noises it anew with the same draws."""
    folder = with_unet(plain, tmp_path / "lcm", "LatentConsistencyModelPipeline", time_cond_proj_dim=10)
    model = load_model(f"{folder}+none", CPU, torch.float32, extras=Extras(schedule="lcm"))
    levels = model.levels(4)
    bound = model.denoiser(["a red brick"], ["ugly"], None, 6.0)
    assert bound.network.guidance.parts == 1
    generator = seeded(1)
    found = sample(bound, start(noise(), levels[0]), levels, "lcm",
                   noise=lambda: torch.randn(noise().shape, generator=generator))  # fmt: skip
    pipeline = StableDiffusionPipeline.from_pretrained(plain, unet=model.unet)
    pipeline.scheduler = LCMScheduler.from_config({**SD15_SCHEDULER, "original_inference_steps": 50})
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(prompt=["a red brick"], num_inference_steps=4, guidance_scale=6.0, latents=noise(), height=SIDE,
                        width=SIDE, output_type="latent", generator=seeded(1)).images  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    # stops of the distillation are 19, 39 ... 999; four of fifty evenly: the 1st, 13th, 26th and 38th from the noisiest
    assert [level.timestep for level in levels] == [999.0, 759.0, 499.0, 259.0, 0.0]
    with pytest.raises(ModelError, match="50 steps"):
        model.levels(60)


def test_trailing_levels_start_from_pure_noise(plain):
    model = load_model(f"{plain}+none", CPU, torch.float32, extras=Extras(schedule="trailing"))
    assert [level.timestep for level in model.levels(4)] == [999.0, 749.0, 499.0, 249.0, 0.0]


def test_float8_keeps_one_byte_per_weight_and_computes_in_another_format(plain):
    """Three bits of mantissa: a weight is off by at most one part in 16."""
    exact, rough = (
        load_model(f"{plain}+none", CPU, torch.float32, extras=Extras(precision=kind)) for kind in ("auto", "float8")
    )
    assert rough.unet.mid_block.resnets[0].conv1.weight.dtype == torch.float8_e4m3fn
    level = exact.levels(10)[3]
    one, two = (model.denoiser(["a red brick"], [""], None, 3.0)(noise(), level) for model in (exact, rough))
    assert 1e-4 < (one - two).pow(2).mean().sqrt() < 0.1 * one.std()


def test_number_formats_by_wish_and_what_is_compiled(plain):
    half = load_model(f"{plain}+none", CPU, extras=Extras(precision="bfloat16", compiled=True))
    assert half.unet.dtype == torch.bfloat16 == half.dtype and half.text_encoder.dtype == torch.float32
    assert half.unet._compiled_call_impl is not None  # compiled when first called, which takes minutes: not here
