# SPDX-License-Identifier: Apache-2.0
"""Models that edit equal diffusers' InstructPix2Pix pipeline for one view without synchronization."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel

from blender_addon.jobs.errors import ModelError, SettingsError
from engine.models import follows_instructions, load_model
from engine.models.edits import EditGuidance
from engine.sampling import sample, start
from engine.schedule import levels_from_config
from tests.tiny_models import LATENT, SD15_SCHEDULER, TEXT_WIDTH, WIDTHS, randomize, write_tiny_model

CPU = torch.device("cpu")
STEPS, SIDE = 5, LATENT * 8


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of timbrooks/instruct-pix2pix in small: a U-Net with 8 input channels and no ControlNet."""
    folder = write_tiny_model(tmp_path_factory.mktemp("models") / "edit", SD15_SCHEDULER, control=False)
    shutil.rmtree(folder / "unet")
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        sample_size=LATENT, in_channels=8, out_channels=4, block_out_channels=WIDTHS, layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT_WIDTH, attention_head_dim=2, norm_num_groups=8,
    )  # fmt: skip
    randomize(unet).save_pretrained(folder / "unet")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"_class_name": "StableDiffusionInstructPix2PixPipeline", "image_encoder": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def model(tiny):
    return load_model(str(tiny), CPU, torch.float32)


def picture(views=1):
    return torch.rand(views, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5)) * 2 - 1


def noise(views=1):
    return torch.randn(views, 4, LATENT, LATENT, generator=torch.Generator().manual_seed(7))


def ours(model, guidance, image_guidance, avoid="ugly wall"):
    denoiser = model.denoiser(["a red brick"], [avoid], None, guidance, image=picture(), image_guidance=image_guidance)
    levels = levels_from_config(model.scheduler, STEPS, final="config")
    return sample(denoiser, start(noise(), levels[0]), levels, "ddim")


@pytest.mark.filterwarnings("ignore:The configuration file of this scheduler:FutureWarning")
@pytest.mark.parametrize(("guidance", "image_guidance"), [(7.5, 1.5), (3.0, 1.0), (5.0, 4.0)])
def test_one_view_equals_the_published_pipeline(tiny, model, guidance, image_guidance):
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(tiny, local_files_only=True, safety_checker=None)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt=["a red brick"], negative_prompt=["ugly wall"], image=(picture() + 1) / 2, num_inference_steps=STEPS,
        guidance_scale=guidance, image_guidance_scale=image_guidance, eta=0.0, latents=noise(), output_type="latent",
    ).images  # fmt: skip
    torch.testing.assert_close(ours(model, guidance, image_guidance), theirs, rtol=1e-4, atol=1e-4)


def test_both_scales_and_both_texts_count(model):
    base = ours(model, 7.5, 1.5)
    for changed in (ours(model, 6.0, 1.5), ours(model, 7.5, 2.0), ours(model, 7.5, 1.5, avoid="gold")):
        assert (base - changed).abs().max() > 1e-3


def test_the_equation_at_its_corners():
    """s_I = s_T = 0 is e(0,0), s_T = 0 and s_I = 1 is e(0,I), both 1 is e(T,I), in one part instead of three."""
    nothing, seen, told = outputs = torch.randn(3, 2, 4, 5, 5, dtype=torch.float64)
    for text, image, expected in ((0, 0, nothing), (0, 1, seen), (1, 1, told)):
        if (text, image) != (1, 1):
            torch.testing.assert_close(EditGuidance(text, image).combine(outputs), expected)
    torch.testing.assert_close(nothing + (seen - nothing) + (told - seen), told)
    assert EditGuidance(1, 1).parts == 1 and torch.equal(EditGuidance(1, 1).combine(outputs[2:]), told)
    assert EditGuidance(7.5).image == 1.5


def test_some_views_are_edited_as_among_all(model):
    denoiser = model.denoiser(["red brick", "gold", "stone"], ["", "ugly", ""], None, 7.5, image=picture(3))
    level = model.levels(STEPS)[1]
    some = denoiser.only([2, 0])(noise(3)[[2, 0]], level)
    torch.testing.assert_close(some, denoiser(noise(3), level)[[2, 0]], rtol=1e-4, atol=1e-5)


def test_the_depth_is_left_out_where_there_is_no_controlnet(tiny, model):
    """The picture shows the shape; no ControlNet is fetched for such a model."""
    depth = torch.rand(1, 1, SIDE, SIDE)
    level = model.levels(STEPS)[1]
    with_depth = model.denoiser(["gold"], [""], depth, 3.0, image=picture())(noise(), level)
    assert torch.equal(with_depth, model.denoiser(["gold"], [""], None, 3.0, image=picture())(noise(), level))
    assert model.edits and model.controlnet is None and model.channels == 4


def test_models_are_told_apart_before_they_are_loaded(tiny, tmp_path):
    assert follows_instructions(str(tiny)) is True
    assert follows_instructions("swatch") is False
    assert follows_instructions("somebody/some-model") is None
    with pytest.raises(ModelError):
        follows_instructions(str(shutil.copytree(tiny / "unet", tmp_path / "x" / "unet").parent)) or load_model(
            str(tmp_path / "x"), CPU)  # fmt: skip


def test_a_model_is_used_for_what_it_can(model, tmp_path):
    with pytest.raises(SettingsError, match="changes a picture") as caught:
        model.denoiser(["gold"], [""], None, 3.0)
    assert caught.value.key == "model" and "edit" in caught.value.action
    plain = load_model(str(write_tiny_model(tmp_path / "plain", control=False)) + "+none", CPU, torch.float32)
    with pytest.raises(SettingsError, match="cannot follow an instruction"):
        plain.denoiser(["gold"], [""], None, 3.0, image=picture())
