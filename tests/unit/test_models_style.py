# SPDX-License-Identifier: Apache-2.0
"""IP-Adapters in every layout that is known: one view equals the family's own pipeline with the same adapter."""

from __future__ import annotations

import shutil

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    FluxPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from safetensors.torch import load_file, save_file

from blender_addon.jobs.errors import ModelError
from engine.models import _style_folder, load_model, loading, stable_diffusion_3, stable_diffusion_xl
from engine.models.flux import pack, unpack
from engine.models.folders import ModelFolder
from engine.models.loading import Extras
from engine.models.style import DEVIATION, MEAN
from engine.sampling import sample, start
from engine.schedule import levels_from_config
from tests.tiny_families import FLOW_LATENTS, write_tiny_flux, write_tiny_sd3, write_tiny_xl
from tests.tiny_models import LATENT, write_tiny_model
from tests.tiny_styles import write_style
from transformers import CLIPVisionModelWithProjection, SiglipVisionModel

CPU = torch.device("cpu")
SIDE, STEPS, STRENGTH, GUIDANCE = LATENT * 8, 3, 0.7, 4.0
FAMILIES = {
    "sd15": (lambda folder: write_tiny_model(folder, control=False), StableDiffusionPipeline),
    "sdxl": (lambda folder: write_tiny_xl(folder, ""), StableDiffusionXLPipeline),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """(folder of the model, its pipeline)."""
    write, pipeline = FAMILIES[request.param]
    return write(tmp_path_factory.mktemp(request.param) / "model"), pipeline


def picture():
    """As large as the encoder sees, so that nothing is made smaller."""
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1


def seen(mean=MEAN, deviation=DEVIATION):
    """The same, as a pipeline takes a tensor: as its encoder wants it."""
    return ((picture() + 1) / 2 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)


def noise(channels=4):
    return torch.randn(1, channels, LATENT, LATENT, generator=torch.Generator().manual_seed(7))


def loaded(folder, style):
    return load_model(f"{folder}+none", CPU, torch.float32, extras=Extras(style=str(style)))


def painted(model, image, strength=STRENGTH, guidance=GUIDANCE):
    levels = levels_from_config({**model.scheduler, "_class_name": "DDIMScheduler"}, STEPS, final="config")
    bound = model.denoiser(["a red brick"], ["ugly wall"], None, guidance, style=(image, strength))
    return sample(bound, start(noise(), levels[0]), levels, "ddim")


@pytest.mark.parametrize("layout", ["plain", "plus", "full"])
def test_a_style_image_equals_the_pipeline(family, tmp_path, layout):
    """The pipeline sees the picture itself and loads the adapter by itself."""
    folder, kind = family
    pipeline = kind.from_pretrained(folder)
    style = write_style(tmp_path / layout, pipeline.unet, layout)
    model = loaded(folder, style)
    found = painted(model, picture())
    pipeline.load_ip_adapter(str(style), subfolder="", weight_name="ip-adapter.safetensors")
    pipeline.set_ip_adapter_scale(STRENGTH)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(prompt=["a red brick"], negative_prompt=["ugly wall"], num_inference_steps=STEPS, height=SIDE,
                        width=SIDE, guidance_scale=GUIDANCE, latents=noise(), output_type="latent",
                        ip_adapter_image=seen()).images  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - painted(model, picture(), 0.1)).abs().max() > 1e-3
    assert (found - painted(model, -picture())).abs().max() > 1e-3


def test_kept_in_one_byte_per_weight_it_still_paints(family, tmp_path):
    """The network's own number format is then that of its weights in store, not the one it computes in."""
    folder, kind = family
    style = str(write_style(tmp_path / "plus", kind.from_pretrained(folder).unet, "plus"))
    exact, rough = (load_model(f"{folder}+none", CPU, torch.float32, extras=Extras(style=style, precision=precision))
                    for precision in ("auto", "float8"))  # fmt: skip
    assert any(weight.dtype == torch.float8_e4m3fn for weight in rough.unet.parameters())
    one, two = (painted(model, picture()) for model in (exact, rough))
    assert 1e-4 < (one - two).pow(2).mean().sqrt() < 0.3 * one.std()


def test_the_memory_plan_counts_the_adapter(family, tmp_path, monkeypatch):
    folder, kind = family
    style = write_style(tmp_path / "plus", kind.from_pretrained(folder).unet, "plus")
    numbers = sum(tensor.numel() for tensor in load_file(style / "ip-adapter.safetensors").values())
    planned, plan = [], loading.plan_model
    monkeypatch.setattr(loading, "plan_model", lambda groups, *rest, **more: planned.append(dict(groups)) or plan(
        groups, *rest, **more))
    for chosen in ("", str(style), str(style / "ip-adapter.safetensors")):
        load_model(f"{folder}+none", CPU, torch.float32, extras=Extras(style=chosen))
    without, by_folder, by_file = (one["networks"] for one in planned)
    assert by_folder - without == by_file - without == 4 * numbers  # bytes, in float32


def changed(style, place, change):
    """A copy of the adapter whose tensors are `change`d."""
    folder = shutil.copytree(style, place)
    path = folder / "ip-adapter.safetensors"
    save_file(change(load_file(path)), path)
    return folder


def test_layouts_that_are_not_known_are_refused_by_name(family, tmp_path):
    folder, kind = family
    unet = kind.from_pretrained(folder).unet
    plus, full = (write_style(tmp_path / layout, unet, layout) for layout in ("plus", "full"))
    face = changed(full, tmp_path / "face", lambda old: {
        key.replace("proj.3", "norm"): value for key, value in old.items()})  # as FaceID's: proj.0, proj.2, norm
    deeper = changed(plus, tmp_path / "deeper", lambda old: {
        key.replace("image_proj.", "image_proj.perceiver_resampler."): value for key, value in old.items()})
    short = changed(plus, tmp_path / "short", lambda old: {
        key: value for key, value in old.items() if "layers.3.0.to_q" not in key})
    for style, words in ((face, r"image_proj\.norm\.bias"), (deeper, "perceiver_resampler"), (short, "layers.3")):
        with pytest.raises(ModelError, match=words) as caught:
            loaded(folder, style)
        assert "ip-adapter.safetensors" in caught.value.message and caught.value.action


def test_the_image_encoder_that_fits_is_taken(family, tmp_path):
    """As h94/IP-Adapter lies on the hub: another encoder beside SDXL's adapters than most of them were made with."""
    folder, kind = family
    unet, hub = kind.from_pretrained(folder).unet, tmp_path / "hub"
    alone = write_style(tmp_path / "alone", unet, "plus")
    (hub / "models").mkdir(parents=True)
    shutil.copytree(alone / "image_encoder", hub / "models" / "image_encoder")
    shutil.copytree(alone, hub / "sdxl_models")
    config = hub / "sdxl_models" / "image_encoder" / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 16', '"hidden_size": 24'))
    found = load_model(f"{folder}+none", CPU, torch.float32,
                       extras=Extras(style=str(hub / "sdxl_models" / "ip-adapter.safetensors")))  # fmt: skip
    torch.testing.assert_close(painted(found, picture()), painted(loaded(folder, alone), picture()))
    shutil.rmtree(hub / "models")
    with pytest.raises(ModelError, match=r"reads 16 numbers, and its image encoder makes 24") as caught:
        loaded(folder, hub / "sdxl_models" / "ip-adapter.safetensors")
    assert "image_encoder" in caught.value.action


def test_the_usual_adapters_are_asked_for_by_word(monkeypatch, tmp_path):
    asked = []

    def fetch(name, parts, files=(), ask=False):
        asked.append((name, parts, files, ask))
        return ModelFolder(tmp_path, name)
    monkeypatch.setattr("engine.models.fetch", fetch)
    base = ModelFolder(write_tiny_xl(tmp_path / "xl", ""), "xl")
    _, file = _style_folder(stable_diffusion_xl, base, "plus")
    assert file == "sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors"
    # the second time because the first answer, found here, has no such file
    assert asked == [("h94/IP-Adapter", ("models/image_encoder",), (file,), ask) for ask in (False, True)]
    assert _style_folder(stable_diffusion_xl, base, "h94/IP-Adapter") == _style_folder(stable_diffusion_xl, base, "auto")


def flowing(model, image, strength=STRENGTH, guidance=GUIDANCE):
    levels = model.levels(STEPS, size=SIDE)
    bound = model.denoiser(["a red brick"], ["ugly wall"], None, guidance, style=(image, strength))
    return sample(bound, start(noise(FLOW_LATENTS), levels[0]), levels, "flow-euler")


@pytest.mark.parametrize(("guidance", "whole"), [(GUIDANCE, False), (1.0, True)])
def test_sd3_with_a_style_image_equals_the_pipeline(tmp_path, guidance, whole):
    """The image encoder alone, and as half of a whole SigLIP as Google publishes it."""
    folder = write_tiny_sd3(tmp_path / "sd3", control=False, dual=())
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, local_files_only=True)
    style = write_style(tmp_path / "style", pipeline.transformer, "sd3", whole=whole)
    model = loaded(folder, style)
    found = flowing(model, picture(), guidance=guidance)
    pipeline.register_modules(image_encoder=SiglipVisionModel.from_pretrained(style / "image_encoder"))
    pipeline.load_ip_adapter(str(style), weight_name="ip-adapter.safetensors", subfolder="", image_encoder_folder=None)
    pipeline.set_ip_adapter_scale(STRENGTH)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(prompt=["a red brick"], negative_prompt=["ugly wall"], num_inference_steps=STEPS, height=SIDE,
                        width=SIDE, guidance_scale=guidance, latents=noise(FLOW_LATENTS), output_type="latent",
                        ip_adapter_image=seen((0.5,) * 3, (0.5,) * 3)).images  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - flowing(model, picture(), 0.1, guidance)).abs().max() > 1e-3
    assert (found - flowing(model, -picture(), guidance=guidance)).abs().max() > 1e-3


@pytest.mark.parametrize("told", [True, False], ids=["dev", "schnell"])
def test_flux_with_a_style_image_equals_the_pipeline(tmp_path, told):
    """The image encoder is half of a whole CLIP, as OpenAI publishes the one that XLabs' adapters were made with. With
    guidance of its own, the part of the avoided texts sees a black picture."""
    folder = write_tiny_flux(tmp_path / "flux", told=told)
    pipeline = FluxPipeline.from_pretrained(folder, local_files_only=True)
    style = write_style(tmp_path / "style", pipeline.transformer, "flux", whole=True)
    model = loaded(folder, style)
    found = flowing(model, picture(), guidance=GUIDANCE if told else 2.0)
    pipeline.register_modules(image_encoder=CLIPVisionModelWithProjection.from_pretrained(style / "image_encoder"))
    pipeline.load_ip_adapter(str(style), weight_name="ip-adapter.safetensors", subfolder="",
                             image_encoder_pretrained_model_name_or_path=None)  # fmt: skip
    pipeline.set_ip_adapter_scale(STRENGTH)
    pipeline.set_progress_bar_config(disable=True)
    black = (0 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    more = {} if told else {"negative_prompt": ["ugly wall"], "true_cfg_scale": 2.0}
    expected = pipeline(prompt=["a red brick"], num_inference_steps=STEPS, height=SIDE, width=SIDE,
                        guidance_scale=GUIDANCE, latents=pack(noise(FLOW_LATENTS)), output_type="latent",
                        ip_adapter_image=seen(), negative_ip_adapter_image=black.view(1, 3, 1, 1).expand(1, 3, 32, 32),
                        **more).images  # fmt: skip
    torch.testing.assert_close(found, unpack(expected, LATENT, LATENT), rtol=1e-4, atol=1e-4)
    assert (found - flowing(model, picture(), 0.1, GUIDANCE if told else 2.0)).abs().max() > 1e-3
    assert (found - flowing(model, -picture(), guidance=GUIDANCE if told else 2.0)).abs().max() > 1e-3


def test_an_adapter_for_another_family_is_refused_by_name(tmp_path):
    flux, sd3 = write_tiny_flux(tmp_path / "flux"), write_tiny_sd3(tmp_path / "sd3", control=False, dual=())
    sd15 = write_tiny_model(tmp_path / "sd15", control=False)
    networks = {
        "flux": FluxPipeline.from_pretrained(flux).transformer,
        "sd3": StableDiffusion3Pipeline.from_pretrained(sd3).transformer,
        "plus": StableDiffusionPipeline.from_pretrained(sd15).unet,
    }
    folders = {"flux": flux, "sd3": sd3, "plus": sd15}
    styles = {layout: write_style(tmp_path / f"{layout} style", net, layout) for layout, net in networks.items()}
    for layout, style in styles.items():
        for other, folder in folders.items():
            if other != layout:
                with pytest.raises(ModelError) as caught:
                    loaded(folder, style)
                assert "ip-adapter.safetensors" in caught.value.message or "image_encoder" in caught.value.message
                assert caught.value.action


def test_flux_takes_layers_over_with_a_style_too(tmp_path):
    """The second call with the same view leaves the later blocks out; there the adapter has no layers of its own."""
    folder = write_tiny_flux(tmp_path / "flux")
    style = write_style(tmp_path / "style", FluxPipeline.from_pretrained(folder).transformer, "flux")
    model = loaded(folder, style)
    level, x = model.levels(STEPS, size=SIDE)[1], noise(FLOW_LATENTS)
    more = {"control": None, "guidance": GUIDANCE, "style": (picture(), STRENGTH)}
    plain = model.denoiser(["a red brick"], [""], **more)(x, level)
    saving = model.denoiser(["a red brick"], [""], **more, reuse=0.1)
    for _ in range(2):
        torch.testing.assert_close(saving(x, level), plain, rtol=1e-4, atol=1e-4)
