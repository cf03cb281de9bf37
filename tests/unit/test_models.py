# SPDX-License-Identifier: Apache-2.0
"""The engine's Stable Diffusion family equals diffusers' own pipelines for one view without synchronization."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionControlNetPipeline, StableDiffusionPipeline, UNet2DConditionModel

from blender_addon.jobs.errors import ModelError, SettingsError
from engine.models import available_models, load_model
from engine.models.controls import Control
from engine.models.folders import write_manifest
from engine.models.loading import Extras
from engine.sampling import sample, start
from engine.schedule import levels_from_config
from tests.tiny_models import LATENT, SD15_SCHEDULER, SD21_SCHEDULER, SWATCH_SCHEDULER, as_published, write_tiny_model

CPU = torch.device("cpu")
STEPS = 5  # divides 1000: diffusers counts back from a step by 1000 // steps, which misses the next one otherwise
SIDE = LATENT * 8
SCHEDULERS = {"sd15": SD15_SCHEDULER, "sd21": SD21_SCHEDULER, "swatch": SWATCH_SCHEDULER}


@pytest.fixture(scope="module", params=SCHEDULERS)
def tiny(request, tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("models") / request.param, SCHEDULERS[request.param])


def depth(views=1):
    return torch.rand(views, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(5))


def noise(views=1):
    return torch.randn(views, 4, LATENT, LATENT, generator=torch.Generator().manual_seed(7))


def ours(folder, guidance, scale=1.0, rescale=0.0, control=True, avoid="ugly wall"):
    model = load_model(str(folder) + ("" if control else "+none"), CPU, torch.float32)
    denoiser = model.denoiser(
        ["a red brick"], [avoid], depth() if control else None, guidance, rescale, control_scale=scale
    )
    levels = levels_from_config(model.scheduler, STEPS, final="config")
    return sample(denoiser, start(noise(), levels[0]), levels, "ddim")


def theirs(folder, guidance, scale=1.0, rescale=0.0, control=True, avoid="ugly wall"):
    kind = StableDiffusionControlNetPipeline if control else StableDiffusionPipeline
    pipeline = kind.from_pretrained(folder, local_files_only=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    extra = {"image": depth().expand(-1, 3, -1, -1), "controlnet_conditioning_scale": scale} if control else {
        "guidance_rescale": rescale}
    return pipeline(
        prompt=["a red brick"], negative_prompt=[avoid], num_inference_steps=STEPS, guidance_scale=guidance, eta=0.0,
        latents=noise(), output_type="latent", height=SIDE, width=SIDE, **extra,
    ).images


@pytest.mark.parametrize("guidance,scale", [(7.5, 1.0), (3.0, 0.6), (1.0, 1.0)])
def test_one_view_equals_the_controlnet_pipeline(tiny, guidance, scale):
    torch.testing.assert_close(ours(tiny, guidance, scale), theirs(tiny, guidance, scale), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:The configuration file of this scheduler:FutureWarning")  # wants steps_offset 1
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_guidance_rescale_equals_the_text_to_image_pipeline(tiny, rescale):
    result = ours(tiny, 7.5, rescale=rescale, control=False)
    torch.testing.assert_close(result, theirs(tiny, 7.5, rescale=rescale, control=False), rtol=1e-4, atol=1e-4)


def test_everything_bound_in_changes_the_result(tiny):
    """The comparisons above would also hold for a pipeline that ignores its inputs; this one does not."""
    base = ours(tiny, 7.5)
    for changed in (ours(tiny, 3.0), ours(tiny, 7.5, 0.5), ours(tiny, 7.5, rescale=0.7), ours(tiny, 7.5, avoid="gold"),
                    ours(tiny, 7.5, control=False)):
        assert (base - changed).abs().max() > 1e-3


def test_older_names_of_published_folders(tmp_path):
    """Stable Diffusion 1.5 as it lies on the hub, and the same weights as today's diffusers would save them."""
    new = write_tiny_model(tmp_path / "new")
    old = as_published(write_tiny_model(tmp_path / "old"))
    new_model, old_model = (load_model(str(folder), CPU, torch.float32) for folder in (new, old))
    torch.testing.assert_close(old_model.text_features(PROMPTS), new_model.text_features(PROMPTS), rtol=0, atol=0)
    torch.testing.assert_close(ours(old, 5.0), theirs(old, 5.0), rtol=1e-4, atol=1e-4)
    rgb = torch.rand(1, 3, SIDE, SIDE) * 2 - 1
    unshifted = new_model.encode(rgb) + new_model.codec.config.shift_factor * new_model.codec.config.scaling_factor
    torch.testing.assert_close(old_model.encode(rgb), unshifted, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    return load_model(str(write_tiny_model(tmp_path_factory.mktemp("models") / "sd15")), CPU, torch.float32)


PROMPTS = ["a red brick", "a gold wall", "a red brick", "blue stone"]
AVOIDS = ["ugly", "", "old wall", ""]


def test_views_do_not_disturb_each_other_in_a_batch(sd15):
    x, control, level = noise(4), depth(4), sd15.levels(10)[3]
    together = sd15.denoiser(PROMPTS, AVOIDS, control, 5.0, 0.5)(x, level)
    for i in range(4):
        alone = sd15.denoiser([PROMPTS[i]], [AVOIDS[i]], control[i : i + 1], 5.0, 0.5)(x[i : i + 1], level)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_change_nothing(sd15, chunk):
    x, control, level = noise(4), depth(4), sd15.levels(10)[3]
    whole = sd15.denoiser(PROMPTS, AVOIDS, control, 5.0, chunk=4)(x, level)
    pieces = sd15.denoiser(PROMPTS, AVOIDS, control, 5.0, chunk=chunk)(x, level)
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-5)


def test_each_text_and_the_depth_are_encoded_once(sd15, monkeypatch):
    texts, depths = [], []
    hooks = [
        sd15.text_encoder.register_forward_hook(lambda module, inputs, output: texts.append(len(output[0]))),
        sd15.depth_embedding.register_forward_hook(lambda module, inputs, output: depths.append(len(output))),
    ]
    denoiser = sd15.denoiser(PROMPTS, AVOIDS, depth(4), 5.0)
    for level in sd15.levels(3)[:-1]:
        denoiser(noise(4), level)
    for hook in hooks:
        hook.remove()
    assert texts == [len({*PROMPTS, *AVOIDS})]
    assert depths == [4]


def test_guidance_one_runs_one_half_and_scale_zero_no_controlnet(sd15):
    batches, controls = [], []
    hooks = [
        sd15.unet.register_forward_hook(lambda module, inputs, output: batches.append(len(output[0]))),
        sd15.controlnet.register_forward_hook(lambda module, inputs, output: controls.append(1)),
    ]
    level = sd15.levels(3)[0]
    sd15.denoiser(PROMPTS, AVOIDS, depth(4), 1.0, control_scale=0.0)(noise(4), level)
    sd15.denoiser(PROMPTS, AVOIDS, depth(4), 2.0)(noise(4), level)
    for hook in hooks:
        hook.remove()
    assert batches == [4, 8]
    assert controls == [1]


def test_unguided_is_guidance_one(sd15):
    """Also of some views: the prompts' half alone, with the same depth."""
    level, plain = sd15.levels(3)[0], sd15.denoiser(PROMPTS, AVOIDS, depth(4), 1.0)
    guided = sd15.denoiser(PROMPTS, AVOIDS, depth(4), 7.5, 0.7)
    torch.testing.assert_close(guided.unguided()(noise(4), level), plain(noise(4), level))
    some = guided.unguided().only([3, 1])(noise(4)[[3, 1]], level)
    torch.testing.assert_close(some, plain(noise(4), level)[[3, 1]], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(guided(noise(4), level), plain(noise(4), level))


def test_controlnet_that_reads_no_text_runs_on_one_half(tmp_path):
    folder = write_tiny_model(tmp_path / "swatch", SWATCH_SCHEDULER, control_reads_text=False)
    model = load_model(str(folder), CPU, torch.float32)
    seen = []
    model.controlnet.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    model.denoiser(PROMPTS, AVOIDS, depth(4), 5.0)(noise(4), model.levels(4)[0])
    assert seen == [4]
    torch.testing.assert_close(ours(folder, 5.0), theirs(folder, 5.0), rtol=1e-4, atol=1e-4)


def test_the_batch_is_avoided_halves_first(sd15):
    """Attention hooks rely on the order [avoided texts of all views, prompts of all views]."""
    seen = []
    hook = sd15.unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[2]))
    sd15.denoiser(PROMPTS, AVOIDS, None, 5.0)(noise(4), sd15.levels(4)[0])
    hook.remove()
    torch.testing.assert_close(seen[0], sd15.text_features([*AVOIDS, *PROMPTS]))


@pytest.mark.parametrize("codec", ["AutoencoderKL", "AutoencoderTiny", "LinearPatchCodec"])
def test_codecs_encode_and_decode_as_diffusers_does(codec, tmp_path):
    model = load_model(str(write_tiny_model(tmp_path / codec, codec=codec)), CPU, torch.float32)
    rgb = torch.rand(3, 3, SIDE, SIDE) * 2 - 1
    latents = model.encode(rgb)
    assert latents.shape == (3, 4, LATENT, LATENT) and latents.dtype == torch.float32
    config, raw = model.codec.config, model.codec.encode(rgb)
    shift, scale = config.get("shift_factor") or 0.0, config.scaling_factor
    expected = raw.latent_dist.mode() if codec == "AutoencoderKL" else raw.latents
    torch.testing.assert_close(latents, (expected - shift) * scale, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        model.decode(latents), model.codec.decode(latents / scale + shift).sample, rtol=1e-4, atol=1e-5
    )
    assert (model.view_size, model.factor, model.channels) == (SIDE, 8, 4)
    assert model.cheap_codec == (codec == "LinearPatchCodec")


def test_bundled_layout_loads_with_its_card(tmp_path, monkeypatch):
    """swatch's folder: its own pipeline class, a card, a manifest, sharded half-precision weights."""
    folder = write_tiny_model(tmp_path / "swatch", SWATCH_SCHEDULER, codec="LinearPatchCodec")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "SwatchPipeline"}))
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").half()
    shutil.rmtree(folder / "unet")
    unet.save_pretrained(folder / "unet", max_shard_size="60KB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    card = {
        "words": {"colours": {"red": ["red"]}, "tones": ["dark"], "materials": {"brick": ["{1} and {2} brick"]}},
        "licence": "Apache-2.0",
        "defaults": {"guidance": 2.0, "steps": 20, "guidance_rescale": 0.5},
        "view_size": 48,
    }
    (folder / "swatch.json").write_text(json.dumps(card))
    write_manifest(folder)
    monkeypatch.setenv("TWEED_SWATCH", str(folder))
    seen = []
    model = load_model("swatch", CPU, torch.float32, progress=lambda *event: seen.append(event))
    assert (model.default_guidance, model.default_guidance_rescale, model.default_steps) == (2.0, 0.5, 20)
    assert (model.view_size, model.cheap_codec) == (48, True)
    assert model.info["licence"] == "Apache-2.0" and len(model.info["fingerprint"]) == 16
    assert model.prompt_notes("A Red Minotaur, in dark-red brick") == ["swatch does not know: a, minotaur, in."]
    assert model.readable("A Red Minotaur, , and dark-red {brick} no. 7,") == "red, and dark red brick"
    torch.testing.assert_close(model.text_features(["red xyz brick"]), model.text_features(["red brick"]))
    assert seen[0] == ("tokenizer", 0, 5) and seen[-1] == ("ready", 5, 5)
    assert available_models(verify=True) == {"swatch": "ready"}
    with pytest.raises(SettingsError, match="depth only"):
        model.denoiser(["red"], [""], [Control("normal", torch.zeros(1, 3, 48, 48))], 1.0)
    with pytest.raises(ModelError, match="style"):
        load_model("swatch", CPU, extras=Extras(style="auto"))
    assert model.unet.dtype == torch.float32


def test_prompt_that_is_too_long_is_told(sd15):
    notes = sd15.prompt_notes("a red brick a red brick a red brick a gold wall")
    assert len(notes) == 1 and '"gold wall"' in notes[0]
    assert sd15.prompt_notes("a red brick") == []


def test_bfloat16_stays_close(sd15, tmp_path):
    folder = write_tiny_model(tmp_path / "same")
    half = load_model(str(folder), CPU, torch.bfloat16)
    level = sd15.levels(10)[3]
    exact = sd15.denoiser(PROMPTS, AVOIDS, depth(4), 3.0)(noise(4), level)
    rough = half.denoiser(PROMPTS, AVOIDS, depth(4), 3.0)(noise(4), level)
    assert rough.dtype == torch.float32
    assert (exact - rough).pow(2).mean().sqrt() < 0.02 * exact.std()


def test_wrong_counts_are_refused(sd15):
    with pytest.raises(ValueError, match="2 prompts, 1 avoids"):
        sd15.denoiser(["a", "b"], [""], None, 1.0)
    with pytest.raises(ValueError, match="not for 3"):
        sd15.denoiser(["a", "b"], ["", ""], None, 1.0)(noise(3), sd15.levels(2)[0])


def test_view_size_must_fit_the_codec(sd15):
    with pytest.raises(SettingsError, match="multiple of 8") as caught:
        sd15.denoiser(["a"], [""], torch.zeros(1, 1, 60, 60), 1.0)
    assert caught.value.key == "view_size"
