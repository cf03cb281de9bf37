# SPDX-License-Identifier: Apache-2.0
"""Broken, foreign and absent models are refused by name, with a remedy, before any work is done."""

from __future__ import annotations

import json
import shutil
import time

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from blender_addon.jobs.errors import ModelError
from engine.models import available_models, find_folder, load_model, split_name
from engine.models.folders import ModelFolder, fingerprint, verify_manifest, weight_elements, write_manifest
from engine.models.hub import is_hub_id
from tests.tiny_models import SWATCH_SCHEDULER, write_tiny_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("models") / "whole")


@pytest.fixture
def model(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "mine")


def refused(folder) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load_model(str(folder), CPU, torch.float32)
    assert caught.value.action
    return caught.value


def weights(folder, part):
    return next((folder / part).glob("*.safetensors"))


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_missing_part(model, part):
    shutil.rmtree(model / part)
    assert part in refused(model).message


@pytest.mark.parametrize(
    "file",
    ["unet/config.json", "vae/config.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer.json",
     "model_index.json"],  # fmt: skip
)
@pytest.mark.parametrize("content", [None, "", "{", "[1]", '"x"'])
def test_missing_or_broken_text_file(model, file, content):
    path = model / file
    path.unlink() if content is None else path.write_text(content)
    if file == "model_index.json" and content is None:
        load_model(str(model), CPU, torch.float32)  # told by its parts, as the bundled model is
        return
    assert file.split("/")[-2 if file.startswith("tokenizer") else -1] in refused(model).message


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "controlnet"])
@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights(model, part, keep):
    path = weights(model, part)
    path.write_bytes(path.read_bytes()[:keep])
    message = refused(model).message
    assert path.name in message and "cut short" in message


def test_damaged_header(model):
    path = weights(model, "unet")
    content = bytearray(path.read_bytes())
    content[8:16] = b"\0" * 8
    path.write_bytes(bytes(content))
    assert "damaged header" in refused(model).message


def test_git_lfs_pointer(model):
    weights(model, "unet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n")
    assert "git lfs pull" in refused(model).action


def test_missing_shard(model):
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    shutil.rmtree(model / "unet")
    unet.save_pretrained(model / "unet", max_shard_size="100KB")
    lost = sorted((model / "unet").glob("*.safetensors"))[1]
    lost.unlink()
    assert lost.name in refused(model).message


def test_pickle_is_never_opened(model):
    """A folder with only .bin weights is refused before any of its bytes are read."""
    path = weights(model, "unet")
    path.unlink()
    (model / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert "pickled" in refused(model).message


@pytest.mark.parametrize("part,name", [("unet", "FluxModel"), ("vae", "VQModel"), ("controlnet", "T2IAdapter")])
def test_wrong_class(model, part, name):
    edit(model / part / "config.json", _class_name=name)
    message = refused(model).message
    assert name in message and part in message


def test_unsupported_pipeline(model):
    edit(model / "model_index.json", _class_name="KandinskyPipeline")
    error = refused(model)
    assert "KandinskyPipeline" in error.message and "StableDiffusionXLPipeline" in error.action
    (model / "mvadapter_t2mv_sdxl.safetensors").write_bytes(b"")
    assert "MV-Adapter" in refused(model).message


def test_weights_that_do_not_fit_their_config(model):
    edit(model / "unet" / "config.json", block_out_channels=[16, 64])
    assert '"unet"' in refused(model).message


def test_lacking_weights_are_not_made_up(model):
    """diffusers would fill them with random numbers and only log a warning."""
    from safetensors.torch import load_file, save_file

    for part in ("unet", "text_encoder"):
        path = weights(model, part)
        tensors = load_file(path)
        name = sorted(tensors)[0]
        save_file({key: value for key, value in tensors.items() if key != name}, path)
        assert "1 weights are missing" in refused(model).message
        save_file(tensors, path, metadata={"format": "pt"})
    load_model(str(model), CPU, torch.float32)


def test_parts_of_different_models(model):
    edit(model / "scheduler" / "scheduler_config.json", prediction_type="dream")
    assert "dream" in refused(model).message
    other = write_tiny_model(model.parent / "other", SWATCH_SCHEDULER, seed=1)
    edit(other / "controlnet" / "config.json", cross_attention_dim=8)
    assert "controlnet" in refused(other).message.lower()


def test_model_without_a_controlnet(tmp_path):
    folder = write_tiny_model(tmp_path / "plain", control=False)
    assert "ControlNet" in refused(folder).message
    assert load_model(f"{folder}+none", CPU, torch.float32).controlnet is None


def test_controlnet_from_its_own_folder(whole, tmp_path):
    plain = write_tiny_model(tmp_path / "plain", control=False)
    control = shutil.copytree(whole / "controlnet", tmp_path / "depth net")
    model = load_model(f"{plain}+{control}", CPU, torch.float32)
    assert model.controlnet is not None and model.info["control"]["name"] == "depth net"


def test_control_is_needed_for_depth(tmp_path):
    folder = write_tiny_model(tmp_path / "plain", control=False)
    model = load_model(f"{folder}+none", CPU, torch.float32)
    with pytest.raises(ModelError, match="ControlNet"):
        model.denoiser(["a"], [""], torch.zeros(1, 1, 64, 64), 1.0)


def test_manifest(model):
    assert verify_manifest(ModelFolder(model, "mine")) == 0
    write_manifest(model)
    assert verify_manifest(ModelFolder(model, "mine")) > 8
    load_model(str(model), CPU, torch.float32)
    path = weights(model, "unet")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    verify_manifest(ModelFolder(model, "mine"), contents=False)
    error = refused(model)
    assert f"unet/{path.name}" in error.message and "damaged" in error.message
    path.unlink()
    assert f"unet/{path.name}" in refused(model).message


def test_checksums_in_the_card(model):
    """swatch's own list, for its weights only."""
    path = weights(model, "unet")
    edit_card = {"sha256": {f"unet/{path.name}": "0" * 64}}
    (model / "swatch.json").write_text(json.dumps(edit_card))
    assert path.name in refused(model).message


def test_fingerprint_changes_with_the_weights(model):
    before = fingerprint(model)
    path = weights(model, "unet")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    assert fingerprint(model) != before


def test_folder_names_with_spaces_plus_and_letters_beyond_ascii(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "Möbel + Holz ü")
    assert load_model(str(folder), CPU, torch.float32).name == "Möbel + Holz ü"


def test_broken_manifest(model):
    for content in ('{"sha256": []}', "{}", "[]", "?"):
        (model / "manifest.json").write_text(content)
        assert "manifest.json" in refused(model).message
    (model / "manifest.json").write_text('{"sha256": {"unet/config.json": 3}}')
    assert "unet/config.json" in refused(model).message


def test_unknown_names():
    for name in ("", "  ", "no-such-model", "./no/such/folder", "/no/such"):
        with pytest.raises(ModelError) as caught:
            load_model(name, CPU)
        assert "swatch" in caught.value.action


def test_bundled_model_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("TWEED_SWATCH", str(tmp_path))
    with pytest.raises(ModelError, match="swatch"):
        find_folder("swatch")
    assert "not in" in available_models()["swatch"]


def test_names():
    assert split_name("a/b+c/d") == ("a/b", ("c/d",))
    assert split_name("a/b+c/d+e/f") == ("a/b", ("c/d", "e/f"))
    assert split_name("swatch") == ("swatch", ())
    assert is_hub_id("org/name") and is_hub_id("org/name@refs/pr/3") and is_hub_id("o-r.g/n_a-me@abc")
    assert not any(is_hub_id(name) for name in ("name", "/a/b", "../a", "a/b/c", "a/", "C:\\a", "a/b c"))


def test_hub_model_offline(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    began = time.monotonic()
    error = refused("stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert time.monotonic() - began < 5
    assert "HF_HUB_OFFLINE" in error.action and "stable-diffusion-v1-5" in error.message


def test_hub_model_without_network(monkeypatch, tmp_path):
    """Nothing listens at the hub's address: the error comes at once and names the way out."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    error = refused("org/name")
    assert time.monotonic() - began < 10
    assert "internet" in error.action and "org/name" in error.message


def test_hub_model_in_the_cache_needs_no_network(whole, monkeypatch, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--org--name" / "snapshots" / commit
    shutil.copytree(whole, snapshot)
    (tmp_path / "models--org--name" / "refs").mkdir()
    (tmp_path / "models--org--name" / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("org/name", f"org/name@{commit}"):
        model = load_model(name, CPU, torch.float32)
        assert model.name == name and model.info["revision"] == commit


def test_only_the_weights_that_will_be_loaded_are_counted(tmp_path):
    """xinsir's union lies beside another ControlNet of the same size, some parts beside themselves in half precision:
    3 x 4 + 5 = 17 numbers, whatever else is there. In shards, those that the index names."""
    def write(name, *shapes):
        save_file({f"w{k}": torch.zeros(shape) for k, shape in enumerate(shapes)}, tmp_path / name)
    assert weight_elements(tmp_path) == 0
    write("diffusion_pytorch_model.fp16.safetensors", (3, 4), (5,))
    assert weight_elements(tmp_path) == 17
    write("diffusion_pytorch_model.safetensors", (3, 4), (5,))
    write("diffusion_pytorch_model_promax.safetensors", (3, 4), (5,), (2,))
    assert weight_elements(tmp_path) == 17
    assert weight_elements(tmp_path / "diffusion_pytorch_model_promax.safetensors") == 19
    write("diffusion_pytorch_model-00001-of-00002.safetensors", (7,))
    write("diffusion_pytorch_model-00002-of-00002.safetensors", (2, 2))
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {
        f"w{k}": f"diffusion_pytorch_model-0000{k}-of-00002.safetensors" for k in (1, 2)}}))
    assert weight_elements(tmp_path) == 11
    index.write_text("{")
    assert weight_elements(tmp_path) == 0  # loading names it
