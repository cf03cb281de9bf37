# SPDX-License-Identifier: Apache-2.0
"""SD 3.5 and FLUX.1: one view equals diffusers' own pipelines; levels, controls, and what is refused."""

from __future__ import annotations

import shutil

import pytest
import torch
from diffusers import (
    FluxControlNetPipeline,
    FluxControlPipeline,
    FluxPipeline,
    StableDiffusion3ControlNetPipeline,
    StableDiffusion3Pipeline,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from blender_addon.jobs.errors import ModelError, SettingsError
from engine.models import load_model
from engine.models.controls import Control
from engine.models.flux import pack, unpack
from engine.models.view_attention import ViewAttention
from engine.sampling import sample, start
from tests.tiny_families import FLOW_LATENTS, write_tiny_flux, write_tiny_sd3
from tests.tiny_models import LATENT

CPU = torch.device("cpu")
STEPS = 4
SIDE = LATENT * 8


@pytest.fixture(autouse=True)
def encoding_without_chance(monkeypatch):
    """The pipelines draw a sample of the control's latents; ours takes the mode, which is no worse and repeatable."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())


def picture(views=1):
    return torch.rand(views, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))


def noise(views=1):
    return torch.randn(views, FLOW_LATENTS, LATENT, LATENT, generator=torch.Generator().manual_seed(7))


def ours(folder, guidance, control=None, avoid="ugly wall", **more):
    model = load_model(str(folder) + ("" if control else "+none"), CPU, torch.float32)
    controls = [Control(control, picture(), 0.7)] if control else None
    denoiser = model.denoiser(["a red brick"], [avoid], controls, guidance, **more)
    levels = model.levels(STEPS, size=SIDE)
    return sample(denoiser, start(noise(), levels[0]), levels, "flow-euler")


def theirs(folder, kind, guidance, packed=False, avoid="ugly wall", **more):
    absent = {} if (folder / "tokenizer_3").exists() or "flux" in folder.name else dict.fromkeys(
        ("text_encoder_3", "tokenizer_3"))  # fmt: skip
    pipeline = kind.from_pretrained(folder, local_files_only=True, **absent)
    pipeline.set_progress_bar_config(disable=True)
    latents = pack(noise()) if packed else noise()
    if not packed:
        more["negative_prompt"] = [avoid]
    found = pipeline(prompt=["a red brick"], num_inference_steps=STEPS, guidance_scale=guidance, latents=latents,
                     output_type="latent", height=SIDE, width=SIDE, **more).images  # fmt: skip
    return unpack(found, LATENT, LATENT) if packed else found


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("guidance,t5", [(4.0, True), (1.0, True), (4.0, False)])
def test_sd3_equals_the_pipeline(tmp_path, guidance, t5):
    folder = write_tiny_sd3(tmp_path / "sd3", control=False, t5=t5)
    close(ours(folder, guidance), theirs(folder, StableDiffusion3Pipeline, guidance))


@pytest.mark.parametrize("options", [{}, {"force_zeros_for_pooled_projection": False}, {
    "use_pos_embed": False, "joint_attention_dim": None, "caption_projection_dim": 32,
    "force_zeros_for_pooled_projection": False}], ids=["instantx", "pooled", "stability"])  # fmt: skip
def test_sd3_controlnets_equal_the_pipeline(tmp_path, options):
    folder = write_tiny_sd3(tmp_path / "sd3", **options)
    expected = theirs(folder, StableDiffusion3ControlNetPipeline, 4.0, control_image=picture() * 2 - 1,
                      controlnet_conditioning_scale=0.7)  # fmt: skip
    found = ours(folder, 4.0, "depth")
    close(found, expected)
    assert (found - ours(folder, 4.0)).abs().max() > 1e-3


@pytest.mark.parametrize("told", [True, False], ids=["dev", "schnell"])
def test_flux_equals_the_pipeline(tmp_path, told):
    folder = write_tiny_flux(tmp_path / "flux", told=told)
    found = ours(folder, 3.5 if told else 1.0)
    close(found, theirs(folder, FluxPipeline, 3.5, packed=True))
    if told:  # the guidance is an input
        assert (found - ours(folder, 2.0)).abs().max() > 1e-4
    else:  # the avoided text is read by a second part
        assert (found - ours(folder, 2.0)).abs().max() > 1e-4
        close(ours(folder, 2.0), theirs(folder, FluxPipeline, 3.5, packed=True, negative_prompt=["ugly wall"],
                                        true_cfg_scale=2.0))  # fmt: skip


@pytest.mark.parametrize("control", ["plain", "union", "joined"])
def test_flux_controls_equal_the_pipeline(tmp_path, control):
    folder = write_tiny_flux(tmp_path / "flux", control)
    found = ours(folder, 3.5, "depth")
    if control == "joined":
        expected = theirs(folder, FluxControlPipeline, 3.5, packed=True, control_image=picture() * 2 - 1)
    else:
        mode = {"control_mode": 2} if control == "union" else {}
        expected = theirs(folder, FluxControlNetPipeline, 3.5, packed=True, control_image=picture() * 2 - 1,
                          controlnet_conditioning_scale=0.7, **mode)  # fmt: skip
    close(found, expected)


def test_packing_is_undone_and_keeps_cells_together():
    latents = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    assert pack(latents).shape == (2, 6, 12)
    assert pack(latents)[0, 1].tolist() == latents[0, :, :2, 2:4].flatten().tolist()
    assert torch.equal(unpack(pack(latents), 4, 6), latents)


def test_views_do_not_disturb_each_other(tmp_path):
    for folder in (write_tiny_sd3(tmp_path / "sd3"), write_tiny_flux(tmp_path / "flux", "union")):
        model = load_model(str(folder), CPU, torch.float32)
        level = model.levels(4)[1]
        prompts, avoids = ["a red brick", "a gold wall", "blue stone"], ["", "ugly", ""]
        bound = model.denoiser(prompts, avoids, picture(3), 3.0)
        together = bound(noise(3), level)
        for view in (2, 0):
            close(bound.only([view])(noise(3)[[view]], level), together[[view]])
        close(model.denoiser(prompts, avoids, picture(3), 3.0, chunk=2)(noise(3), level), together)


def test_flux_shifts_its_levels_with_the_size(tmp_path):
    """mu goes in a straight line from 0.5 at 256 tokens to 1.15 at 4096; sigma' = e^mu s / (1 + (e^mu - 1) s)."""
    model = load_model(str(write_tiny_flux(tmp_path / "flux")) + "+none", CPU, torch.float32)
    shift = torch.tensor(1.15).exp().item()
    assert model.levels(2, size=1024)[1].sigma == pytest.approx(shift * 0.5 / (1 + (shift - 1) * 0.5))
    shift = torch.tensor(0.5).exp().item()
    assert model.levels(2, size=256)[1].sigma == pytest.approx(shift * 0.5 / (1 + (shift - 1) * 0.5))


def test_what_they_cannot_do_is_refused_by_setting(tmp_path):
    model = load_model(str(write_tiny_flux(tmp_path / "flux", "union")), CPU, torch.float32)
    for more, key in (({"attention": ViewAttention(((0,),))}, "view_attention"),
                      ({"style": (picture(), 1.0)}, "style_image"),
                      ({"image": picture()}, "model")):  # fmt: skip
        with pytest.raises(SettingsError) as caught:
            model.denoiser(["a"], [""], None, 1.0, **more)
        assert caught.value.key == key and caught.value.action
    with pytest.raises(SettingsError, match="normal") as caught:
        model.denoiser(["a"], [""], [Control("normal", picture())], 1.0)
    assert caught.value.key == "control"
    with pytest.raises(SettingsError, match="multiple of 16"):
        model.denoiser(["a"], [""], torch.zeros(1, 1, 72, 72), 1.0)


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_broken_folders_are_refused_by_name(tmp_path, family):
    folder = (write_tiny_sd3 if family == "sd3" else write_tiny_flux)(tmp_path / family)
    part = "text_encoder_3" if family == "sd3" else "text_encoder_2"
    weights = next((folder / part).glob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(ModelError, match="cut short"):
        load_model(f"{folder}+none", CPU)
    weights.unlink()
    (folder / part / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ModelError, match="pickled"):
        load_model(f"{folder}+none", CPU)
    shutil.rmtree(folder / "transformer")
    with pytest.raises(ModelError, match=r"text_encoder|transformer"):
        load_model(f"{folder}+none", CPU)


def test_the_end_of_a_prompt_that_nobody_reads_is_told(tmp_path):
    model = load_model(str(write_tiny_flux(tmp_path / "flux")) + "+none", CPU, torch.float32)
    assert model.prompt_notes("a red brick " * 20) == []  # T5 reads 512 tokens
    assert "too long" in model.prompt_notes("a red brick " * 300)[0]


def whole_passes(model):
    """Counts how often the last block of the transformer runs."""
    runs, last = [], model.transformer.single_transformer_blocks[-1]
    plain = last.attn.forward
    last.attn.forward = lambda *args, **more: runs.append(1) or plain(*args, **more)
    return runs


def test_flux_takes_layers_over_where_the_first_answers_as_before(tmp_path):
    """The first block answers the same to the same: with any threshold the second call leaves the others out and gives
    the same. A view that changes much is done in full, and the batch beside it is not asked."""
    model = load_model(f"{write_tiny_flux(tmp_path / 'flux')}+none", CPU, torch.float32)
    level, runs = model.levels(STEPS, size=SIDE)[1], whole_passes(model)
    views = {"prompts": ["a red brick"] * 2, "avoids": [""] * 2, "control": None, "guidance": 3.5, "chunk": 1}
    plain = model.denoiser(**views)(noise(2), level)
    bound = model.denoiser(**views, reuse=0.1)
    runs.clear()
    close(bound(noise(2), level), plain)
    assert len(runs) == 2
    close(bound(noise(2), level), plain)
    assert len(runs) == 2  # nothing more
    close(bound.only([1])(noise(2)[1:], level), plain[1:])
    assert len(runs) == 2  # the second view is known by its number
    other = noise(2)
    other[1] = torch.randn(other[1].shape, generator=torch.Generator().manual_seed(99)) * 3
    bound(other, level)
    assert len(runs) == 3
    model.denoiser(**views, reuse=0.1)(noise(2), level)
    assert len(runs) == 5  # another job starts with nothing
    close(model.denoiser(**views)(noise(2), level), plain)
    assert len(runs) == 7 and not model.transformer.is_cache_enabled


def test_what_cannot_take_layers_over_says_so(tmp_path):
    union = load_model(str(write_tiny_flux(tmp_path / "flux", "union")), CPU, torch.float32)
    sd3 = load_model(f"{write_tiny_sd3(tmp_path / 'sd3', control=False)}+none", CPU, torch.float32)
    for model, control in ((union, [Control("depth", picture())]), (sd3, None)):
        with pytest.raises(SettingsError, match="leave layers out") as caught:
            model.denoiser(["a"], [""], control, 1.0, reuse=0.1)
        assert caught.value.key == "reuse" and "Set reuse to 0" in caught.value.action
