# SPDX-License-Identifier: Apache-2.0
"""SDXL: one view equals diffusers' own pipelines, with guidance, avoided text, ControlNet and union ControlNet."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLControlNetUnionPipeline,
    StableDiffusionXLPipeline,
)

from blender_addon.jobs.errors import ModelError, SettingsError
from engine.models import load_model
from engine.models.controls import Control
from engine.sampling import sample, start
from engine.schedule import levels_from_config
from tests.tiny_families import write_tiny_xl
from tests.tiny_models import LATENT

CPU = torch.device("cpu")
STEPS = 5
SIDE = LATENT * 8


@pytest.fixture(scope="module", params=["", "one", "union"])
def tiny(request, tmp_path_factory):
    return request.param, write_tiny_xl(tmp_path_factory.mktemp("xl") / (request.param or "plain"), request.param)


def picture(seed=5):
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def noise():
    return torch.randn(1, 4, LATENT, LATENT, generator=torch.Generator().manual_seed(7))


def ours(folder, guidance, controls=None, avoid="ugly wall", scale=0.8, rescale=0.0):
    model = load_model(str(folder) + ("" if controls else "+none"), CPU, torch.float32)
    denoiser = model.denoiser(["a red brick"], [avoid], controls, guidance, rescale, control_scale=scale)
    levels = levels_from_config({**model.scheduler, "_class_name": "DDIMScheduler"}, STEPS, final="config")
    return sample(denoiser, start(noise(), levels[0]), levels, "ddim")


def theirs(folder, kind, guidance, avoid="ugly wall", **more):
    pipeline = kind.from_pretrained(folder, local_files_only=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(prompt=["a red brick"], negative_prompt=[avoid] if avoid else None, num_inference_steps=STEPS,
                    guidance_scale=guidance, eta=0.0, latents=noise(), output_type="latent", height=SIDE, width=SIDE,
                    **more).images  # fmt: skip


@pytest.mark.parametrize("guidance,avoid", [(6.0, "ugly wall"), (6.0, ""), (1.0, "")])
def test_one_view_equals_the_pipeline(tiny, guidance, avoid):
    kind, folder = tiny
    if kind == "":
        expected, found = (
            theirs(folder, StableDiffusionXLPipeline, guidance, avoid),
            ours(folder, guidance, None, avoid),
        )
    elif kind == "one":
        expected = theirs(folder, StableDiffusionXLControlNetPipeline, guidance, avoid, image=picture(),
                          controlnet_conditioning_scale=0.8)  # fmt: skip
        found = ours(folder, guidance, [Control("depth", picture())], avoid)
    else:
        expected = theirs(folder, StableDiffusionXLControlNetUnionPipeline, guidance, avoid, control_image=[picture()],
                          control_mode=[1], controlnet_conditioning_scale=[0.8])  # fmt: skip
        found = ours(folder, guidance, [Control("depth", picture())], avoid)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_rescale_equals_the_pipeline(tmp_path):
    folder = write_tiny_xl(tmp_path / "xl", "")
    expected = theirs(folder, StableDiffusionXLPipeline, 6.0, guidance_rescale=0.7)
    torch.testing.assert_close(ours(folder, 6.0, rescale=0.7), expected, rtol=1e-4, atol=1e-4)


def test_union_reads_several_kinds_with_their_strengths(tmp_path):
    """Kinds 1, 4 and 3 of the published union are depth, normal and canny."""
    folder = write_tiny_xl(tmp_path / "union", "union")
    pictures = [picture(k) for k in range(3)]
    expected = theirs(folder, StableDiffusionXLControlNetUnionPipeline, 4.0, control_image=pictures,
                      control_mode=[1, 4, 3], controlnet_conditioning_scale=[0.8, 0.4, 0.2])  # fmt: skip
    controls = [Control(kind, one, strength) for kind, one, strength in
                zip(("depth", "normal", "canny"), pictures, (0.8, 0.4, 0.2), strict=True)]  # fmt: skip
    found = ours(folder, 4.0, controls, scale=1.0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    other = ours(folder, 4.0, [Control(kind, one.image, one.scale) for kind, one in
                               zip(("normal", "depth", "canny"), controls, strict=True)], scale=1.0)  # fmt: skip
    assert (found - other).abs().max() > 1e-3


def test_sizes_and_both_encoders_matter(tmp_path):
    """The comparisons would also hold for networks that ignore their inputs; this one does not."""
    model = load_model(str(write_tiny_xl(tmp_path / "xl", "")) + "+none", CPU, torch.float32)
    denoiser = model.denoiser(["a red brick"], [""], None, 1.0)
    level = model.levels(4)[1]
    base = denoiser(noise(), level)
    for name, change in (("pooled", 0.5), ("text", 0.5)):
        network = denoiser.network
        tensor = network.given[name]
        network.given[name] = tensor + change * (torch.arange(tensor.shape[-1]) >= tensor.shape[-1] // 2)
        assert (denoiser(noise(), level) - base).abs().max() > 1e-3
        network.given[name] = tensor
    wide = torch.cat([noise(), noise()], 3)[..., : LATENT + 2]
    assert denoiser(wide, level).shape == wide.shape


def test_the_float16_autoencoder_is_upcast_unless_it_is_fixed(tmp_path):
    folder = write_tiny_xl(tmp_path / "xl", "")
    assert load_model(f"{folder}+none", CPU, torch.float16).codec.dtype == torch.float32
    cuda_like = load_model(f"{folder}+none", CPU, torch.float32)
    assert cuda_like.codec.config.force_upcast


def test_the_refiner_is_refused(tmp_path):
    folder = write_tiny_xl(tmp_path / "xl", "")
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "addition_embed_type": None}))
    with pytest.raises(ModelError, match="told") as caught:
        load_model(f"{folder}+none", CPU)
    assert "refiner" in caught.value.action


def test_missing_second_encoder_and_foreign_controlnet(tmp_path):
    import shutil

    folder = write_tiny_xl(tmp_path / "xl", "one")
    path = folder / "controlnet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "cross_attention_dim": 16}))
    with pytest.raises(ModelError, match=r"controlnet|ControlNet"):
        load_model(str(folder), CPU)
    shutil.rmtree(folder / "text_encoder_2")
    with pytest.raises(ModelError, match="text_encoder_2"):
        load_model(str(folder), CPU)


def test_more_kinds_than_controlnets(tmp_path):
    model = load_model(str(write_tiny_xl(tmp_path / "xl", "one")), CPU, torch.float32)
    with pytest.raises(SettingsError, match="1 ControlNet") as caught:
        model.denoiser(["a"], [""], [Control("depth", picture()), Control("canny", picture())], 1.0)
    assert caught.value.key == "control"
