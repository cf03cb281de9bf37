# SPDX-License-Identifier: Apache-2.0
"""Style adapters whose image encoder is in another repository, and LoRAs by name. The hub is folders."""

from __future__ import annotations

import json
import shutil

import huggingface_hub
import pytest
import torch
from diffusers import FluxPipeline, StableDiffusion3Pipeline, UNet2DConditionModel
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from blender_addon import models as panel
from blender_addon.jobs.catalogue import entry
from blender_addon.jobs.controls import hub_lora, parse_loras
from blender_addon.jobs.errors import ModelError, UserError
from blender_addon.jobs.settings import resolve
from engine.__main__ import main
from engine.models import load_model, store
from engine.models.loading import Extras
from engine.models.lora_names import find_loras
from engine.models.wishes import extras_of
from tests.fake_hub import COMMIT, Hub
from tests.tiny_families import write_tiny_flux, write_tiny_sd3, xl_unet
from tests.tiny_models import write_tiny_model
from tests.tiny_styles import write_style
from tests.unit.test_models_lora import kohya, matrices, weight_of, write_lora

CPU = torch.device("cpu")
SD3, FLUX = "InstantX/SD3.5-Large-IP-Adapter", "XLabs-AI/flux-ip-adapter"
SIGLIP, CLIP = "google/siglip-so400m-patch14-384", "openai/clip-vit-large-patch14"
LCM, HYPER = "latent-consistency/lcm-lora-sdv1-5", "ByteDance/Hyper-SD"


@pytest.fixture(params=[False, True], ids=["", "strict"])
def hub(request, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "README.md").write_text("---\nlicense: mit\n---\n")
    fake = Hub(empty, tmp_path / "cache")
    fake.strict = request.param
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return fake


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """family -> (model, adapter with its encoder in one folder, repository of the adapter, that of the encoder).

    The encoder is half of a whole SigLIP or CLIP, as published: weights at the root, `vision_model.` before their
    names, the buffer that older files hold, and beside them what is not needed.
    """
    found = {}
    for family, write, pipeline, file in (
        ("sd3", lambda folder: write_tiny_sd3(folder, control=False, dual=()), StableDiffusion3Pipeline,
         "ip-adapter.safetensors"),
        ("flux", write_tiny_flux, FluxPipeline, "ip_adapter.safetensors"),
    ):  # fmt: skip
        place = tmp_path_factory.mktemp(family)
        model = write(place / "model")
        whole = write_style(place / "whole", pipeline.from_pretrained(model).transformer, family, whole=True)
        adapter, encoder = place / "adapter", shutil.copytree(whole / "image_encoder", place / "encoder")
        adapter.mkdir()
        shutil.copyfile(whole / "ip-adapter.safetensors", adapter / file)
        (adapter / "ip-adapter.bin").write_bytes(b"cos\nsystem\n")
        tensors = load_file(encoder / "model.safetensors")
        assert {key.split(".")[0] for key in tensors} >= {"vision_model", "text_model"}
        tensors["vision_model.embeddings.position_ids"] = torch.arange(4)[None]
        save_file(tensors, encoder / "model.safetensors", metadata={"format": "pt"})
        for unneeded in ("pytorch_model.bin", "flax_model.msgpack", "vocab.json"):
            (encoder / unneeded).write_bytes(b"{}")
        config = json.loads((encoder / "config.json").read_text())
        assert config["architectures"][0] in ("SiglipModel", "CLIPModel") and "hidden_size" in config["vision_config"]
        found[family] = model, whole, adapter, encoder
    return found


def seen(model):
    """What the adapter is given of a picture."""
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return model.style.features(picture)


def styled(folder, style="auto"):
    return load_model(f"{folder}+none", CPU, torch.float32, extras=Extras(style=str(style)))


NAMES = {"sd3": (SD3, SIGLIP), "flux": (FLUX, CLIP)}


@pytest.mark.parametrize("family", NAMES)
def test_auto_takes_the_image_encoder_from_another_repository(hub, published, family):
    """The same as from a folder built by hand; both pinned, nothing else is fetched, and offline nothing is asked."""
    model, whole, adapter, encoder = published[family]
    names = NAMES[family]
    hub.repositories = dict(zip(names, (adapter, encoder), strict=True))
    found = styled(model)
    torch.testing.assert_close(seen(found), seen(styled(model, whole)), rtol=0, atol=0)
    assert {(name, revision) for name, revision, _ in hub.asked} == {(name, entry(name).revision) for name in names}
    assert found.info["style"] == [{"name": name, "revision": entry(name).revision} for name in names]
    came = {path.name for name in names for path in store.state_of(name).path.rglob("*") if path.is_file()}
    assert came == {entry(names[0]).files[0], "config.json", "model.safetensors"}
    hub.asked.clear()
    hub.offline = True
    assert torch.equal(seen(styled(model)), seen(found)) and not hub.asked
    store.remove(names[1])
    with pytest.raises(ModelError, match=names[1]) as caught:
        styled(model)
    assert "not on this machine" in caught.value.message and caught.value.action


def test_an_own_adapter_gets_its_familys_encoder(hub, published, tmp_path):
    """A folder, a file and an id that is not in the catalogue; one with an encoder beside it keeps that."""
    model, whole, adapter, encoder = published["sd3"]
    hub.repositories = {SIGLIP: encoder, "someone/converted": adapter}
    for style in (adapter, adapter / "ip-adapter.safetensors", "someone/converted"):
        assert torch.equal(seen(styled(model, style)), seen(styled(model, whole)))
    store.remove(SIGLIP)
    hub.asked.clear()
    styled(model, whole)
    foreign = published["flux"][2]
    with pytest.raises(ModelError, match="no IP-Adapter for this model"):
        styled(model, foreign)
    assert not hub.asked, "for an adapter that does not fit no encoder is fetched"


def test_an_encoder_of_another_width_is_refused(hub, published, tmp_path):
    model, _, adapter, encoder = published["sd3"]
    other = shutil.copytree(encoder, tmp_path / "other")
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config.replace('"hidden_size": 16', '"hidden_size": 24'))
    hub.repositories = {SD3: adapter, SIGLIP: other}
    with pytest.raises(ModelError, match="reads 16 numbers, and its image encoder makes 24"):
        styled(model)


def test_what_has_no_usual_adapter_is_refused_before_anything_is_asked(hub, published, tmp_path):
    model, flux = published["sd3"][0], published["flux"][0]
    medium = shutil.copytree(model, tmp_path / "medium")
    config = json.loads((medium / "transformer" / "config.json").read_text())
    (medium / "transformer" / "config.json").write_text(json.dumps({**config, "num_layers": 24}))  # as published
    two = shutil.copytree(write_tiny_model(tmp_path / "sd15", control=False), tmp_path / "sd21")
    config = json.loads((two / "unet" / "config.json").read_text())
    (two / "unet" / "config.json").write_text(json.dumps({**config, "cross_attention_dim": 1024}))
    for folder, style, words in ((medium, "auto", "no usual one"), (two, "auto", "no usual one"),
                                 (flux, "plus", "no usual one"), (flux, SD3, "is for SD 3.5"),
                                 (model, FLUX, "is for FLUX"), (model, "h94/IP-Adapter", "is for SD 1.5")):  # fmt: skip
        with pytest.raises(ModelError, match=words) as caught:
            styled(folder, style)
        assert "style_adapter" in caught.value.action
    assert not hub.asked


def test_add_list_verify_and_remove_know_what_an_adapter_needs(hub, published, capsys, monkeypatch, tmp_path):
    _, _, adapter, encoder = published["flux"]
    hub.repositories = {FLUX: adapter, CLIP: encoder}
    sizes = [(place / name).stat().st_size for place, name in ((adapter, "ip_adapter.safetensors"),
             (encoder, "config.json"), (encoder, "model.safetensors"))]  # fmt: skip
    wanted = []
    monkeypatch.setattr("engine.models_command.require_room", lambda size, where: wanted.append(size))
    assert main(["models", "add", FLUX]) == 0 and wanted == [sum(sizes)]
    said = capsys.readouterr().out
    assert f"{FLUX} at" in said and "no commercial use" in said and f"{CLIP} at" in said
    assert "not pinned" not in said

    def state(name):
        assert main(["models", "list", "--json"]) == 0
        return next(row for row in json.loads(capsys.readouterr().out) if row["name"] == name)["state"]
    assert state(FLUX) == state(CLIP) == "ready" and main(["models", "verify", FLUX]) == 0
    assert CLIP in capsys.readouterr().out
    blob = (store.state_of(CLIP).path / "model.safetensors").resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(bytes(content))
    assert main(["models", "verify", FLUX]) != 0 and "damaged" in capsys.readouterr().out
    assert main(["models", "add", FLUX]) == 0 and main(["models", "verify", FLUX]) == 0
    capsys.readouterr()
    assert main(["models", "remove", CLIP]) == 0 and f"{FLUX} is no use without it" in capsys.readouterr().out
    assert state(FLUX) == f"incomplete: needs {CLIP}"
    assert main(["models", "verify"]) != 0 and f"{CLIP}, which it needs, is not here" in capsys.readouterr().out
    monkeypatch.setenv("HF_HUB_CACHE", str(hub.cache))
    panel.forget_states()
    assert panel.missing(FLUX) == [CLIP]
    assert main(["models", "add", FLUX]) == 0 and main(["models", "remove", FLUX]) == 0
    assert f"models remove {CLIP}" in capsys.readouterr().out
    assert main(["models", "list"]) == 0 and f"needs {CLIP}" in capsys.readouterr().out


def test_both_from_a_stick(hub, published, capsys):
    model, whole, adapter, encoder = published["sd3"]
    hub.offline, hub.strict = True, False  # no list of files comes with a stick
    assert main(["models", "import", str(adapter), "--name", SD3]) == 0
    assert f"no use without {SIGLIP}" in capsys.readouterr().out
    assert main(["models", "import", str(encoder), "--name", SIGLIP]) == 0
    assert "no use without" not in capsys.readouterr().out
    assert torch.equal(seen(styled(model)), seen(styled(model, whole))) and not hub.asked
    assert not list(hub.cache.rglob("*.bin"))


def test_names_of_loras_and_paths():
    """A revision is at the end, a weight behind it; what could be no repository is a path."""
    assert parse_loras(f"{LCM}:0.5, {HYPER}/a b.safetensors@refs/pr/1:-1, {LCM}@main, C:\\x\\y.safetensors") == [
        (LCM, 0.5), (f"{HYPER}/a b.safetensors@refs/pr/1", -1.0), (f"{LCM}@main", 1.0), ("C:\\x\\y.safetensors", 1.0)]
    assert hub_lora(LCM) == (LCM, "") and hub_lora(f"{LCM}@1") == (f"{LCM}@1", "")
    assert hub_lora(f"{HYPER}/x/y.safetensors@refs/pr/1") == (f"{HYPER}@refs/pr/1", "x/y.safetensors")
    for path in ("a.safetensors", "loras/a.safetensors", "/a/b", "./a/b", "../a/b", "~/a/b", "a/b/c", "a\\b",
                 "a/b/../../c.safetensors", "C:\\a\\b.safetensors", "//beside/it.safetensors"):  # fmt: skip
        assert hub_lora(path) is None, path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model", control=False)


@pytest.fixture
def loras(hub, tiny, tmp_path):
    """Repositories: one file, one for each of two families, several files, none. Returns the first's file."""
    one, two, some = (tmp_path / name for name in ("one", "two", "some"))
    for place in (one, two, some):
        place.mkdir()
    write_lora(tiny, one / "pytorch_lora_weights.safetensors", seed=1)
    write_lora(tiny, two / "Hyper-SD15-1step-lora.safetensors", seed=2)
    save_file(kohya(matrices(xl_unet(), ["add_embedding.linear_1"])), two / "Hyper-SDXL-1step-lora.safetensors")
    write_lora(tiny, two / "Hyper-SD15-8steps-lora.safetensors", seed=3)
    write_lora(tiny, some / "a.safetensors", seed=4)
    write_lora(tiny, some / "b.safetensors", seed=5)
    hub.repositories = {LCM: one, HYPER: two, "someone/some": some, "someone/one": one}
    return one / "pytorch_lora_weights.safetensors"


def merged(tiny, text):
    extras = extras_of(resolve({"prompt": "rust", "lora": text, "precision": "float32"}))
    return load_model(f"{tiny}+none", CPU, extras=extras)


def test_a_lora_by_its_name_is_the_one_of_its_file(hub, loras, tiny):
    found = merged(tiny, f"{LCM}:0.5")
    assert torch.equal(weight_of(found), weight_of(merged(tiny, f"{loras}:0.5")))
    assert hub.asked and {one[:2] for one in hub.asked} == {(LCM, entry(LCM).revision)}
    assert found.info["loras"] == [{"name": f"{LCM}/{loras.name}", "weight": 0.5, "revision": entry(LCM).revision}]
    hub.asked.clear()
    hub.offline = True
    assert torch.equal(weight_of(merged(tiny, f"{LCM}:0.5")), weight_of(found)) and not hub.asked
    store.remove(LCM)
    with pytest.raises(ModelError, match=f'"{LCM}" is not on this machine') as caught:
        merged(tiny, LCM)
    assert caught.value.action


def test_the_file_of_the_models_family_is_chosen(hub, loras, tiny):
    """Of a repository with one for each family; another is named by its file, and comes beside it."""
    plain = UNet2DConditionModel.from_pretrained(tiny / "unet").state_dict()
    key = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    for text, file in ((HYPER, "Hyper-SD15-1step-lora"), (f"{HYPER}/Hyper-SD15-8steps-lora.safetensors",) * 2):
        found = merged(tiny, text)
        path = hub.repositories[HYPER] / f"{file.removeprefix(HYPER + '/').removesuffix('.safetensors')}.safetensors"
        assert torch.equal(weight_of(found), weight_of(merged(tiny, str(path))))
        assert not torch.equal(weight_of(found), plain[key])
    assert find_loras([(HYPER, 1.0)], "SDXL")[0].path.name == "Hyper-SDXL-1step-lora.safetensors"
    with pytest.raises(ModelError, match="ByteDance/Hyper-SD/Hyper-SDXL-1step-lora.safetensors. does not fit"):
        merged(tiny, f"{HYPER}/Hyper-SDXL-1step-lora.safetensors")


def test_names_that_cannot_be_meant_are_refused_by_name(hub, loras, tiny):
    hub.asked.clear()
    for name, family, words in ((HYPER, "FLUX", "is for SD 1.5, SDXL, and the model is FLUX"),
                                (LCM, "", "is for SD 1.5, and the model is of none of these"),
                                (SD3, "SD 3.5", "is no LoRA")):  # fmt: skip
        with pytest.raises(ModelError, match=words) as caught:
            find_loras([(name, 1.0)], family)
        assert caught.value.action
    assert not hub.asked
    with pytest.raises(ModelError, match=r"several files: a\.safetensors, b\.safetensors") as caught:
        merged(tiny, "someone/some")
    assert "someone/some/a.safetensors" in caught.value.action
    with pytest.raises(ModelError, match=r"no c\.safetensors.*there is a\.safetensors, b\.safetensors"):
        merged(tiny, "someone/some/c.safetensors")
    with pytest.raises(ModelError, match="someone/nothing"):
        merged(tiny, "someone/nothing")
    with pytest.raises(ModelError, match="no LoRA file"):
        merged(tiny, "loras/missing.safetensors")


def test_ids_that_the_catalogue_does_not_know(hub, loras, tiny):
    """The only file of a repository, at its main branch; a revision; one of several, which offline is the one here."""
    found = merged(tiny, "someone/one")
    assert torch.equal(weight_of(found), weight_of(merged(tiny, str(loras))))
    assert found.info["loras"][0]["revision"] == COMMIT
    other = "f" * 40
    assert merged(tiny, f"someone/one@{other}").info["loras"][0]["revision"] == other
    merged(tiny, "someone/some/b.safetensors:0.5")
    hub.offline = True
    assert merged(tiny, "someone/some").info["loras"][0]["name"] == "someone/some/b.safetensors"
    with pytest.raises(ModelError, match="not on this machine"):
        merged(tiny, "someone/some/a.safetensors")


def test_a_file_at_the_path_comes_before_the_name(hub, loras, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "someone" / "some"
    place.mkdir(parents=True)
    write_lora(tiny, place / "a.safetensors", seed=9)
    hub.asked.clear()
    found = merged(tiny, "someone/some/a.safetensors")
    assert torch.equal(weight_of(found), weight_of(merged(tiny, str(place / "a.safetensors")))) and not hub.asked


def test_loras_are_added_and_verified_as_models_are(hub, loras, tiny, capsys):
    file = f"{HYPER}/Hyper-SD15-8steps-lora.safetensors"
    assert main(["models", "add", LCM]) == 0 and main(["models", "add", file]) == 0
    assert [path.name for path in store.state_of(HYPER).path.glob("*.safetensors")] == [file.rpartition("/")[2]]
    hub.asked.clear()
    merged(tiny, f"{LCM}, {file}:0.2")
    assert not hub.asked and main(["models", "verify", file]) == 0
    blob = (store.state_of(LCM).path / loras.name).resolve()
    blob.write_bytes(blob.read_bytes()[:-1])
    assert main(["models", "verify", LCM]) != 0 and "cut short" in capsys.readouterr().out
    with pytest.raises(ModelError, match="cut short"):
        merged(tiny, LCM)
    assert main(["models", "add", LCM]) == 0 and main(["models", "verify"]) == 0
    assert main(["models", "add", "someone/some"]) != 0
    said = capsys.readouterr().err
    assert "a.safetensors, b.safetensors" in said and "someone/some/FILE.safetensors" in said
    assert main(["models", "remove", file]) == 0 and store.state_of(HYPER) is None


def test_the_panel_offers_them():
    assert {LCM, HYPER} <= {name for name, _ in panel.offered("lora")}
    assert {SD3, FLUX} <= {name for name, _ in panel.offered("style")}
    assert {entry(name).licence for name in (SIGLIP, CLIP)} == {"Apache-2.0", "MIT"}
    with pytest.raises(UserError, match="-4 to 4"):
        parse_loras(f"{LCM}:9")
