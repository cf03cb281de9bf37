# SPDX-License-Identifier: Apache-2.0
"""Single-file checkpoints in the original layout give the same model as the folder, or say what is missing."""

from __future__ import annotations

import re
import shutil

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from blender_addon.jobs.errors import ModelError
from engine.models import load_model
from tests.tiny_families import write_tiny_xl
from tests.tiny_models import SD21_SCHEDULER, write_tiny_model

CPU = torch.device("cpu")
UNET = (
    ("conv_in", "input_blocks.0.0"), ("conv_norm_out", "out.0"), ("conv_out", "out.2"),
    ("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"),
    ("down_blocks.0.resnets.0", "input_blocks.1.0"), ("down_blocks.0.attentions.0", "input_blocks.1.1"),
    ("down_blocks.0.downsamplers.0.conv", "input_blocks.2.0.op"), ("down_blocks.1.resnets.0", "input_blocks.3.0"),
    ("mid_block.resnets.0", "middle_block.0"), ("mid_block.attentions.0", "middle_block.1"),
    ("mid_block.resnets.1", "middle_block.2"), ("up_blocks.0.resnets.0", "output_blocks.0.0"),
    ("up_blocks.0.resnets.1", "output_blocks.1.0"), ("up_blocks.0.upsamplers.0.conv", "output_blocks.1.1.conv"),
    ("up_blocks.1.resnets.0", "output_blocks.2.0"), ("up_blocks.1.attentions.0", "output_blocks.2.1"),
    ("up_blocks.1.resnets.1", "output_blocks.3.0"), ("up_blocks.1.attentions.1", "output_blocks.3.1"),
)  # fmt: skip
RESNET = (("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("time_emb_proj", "emb_layers.1"),
          ("norm2", "out_layers.0"), ("conv2", "out_layers.3"), ("conv_shortcut", "skip_connection"))  # fmt: skip


XL_UNET = (
    *UNET[:5], ("add_embedding.linear_1", "label_emb.0.0"), ("add_embedding.linear_2", "label_emb.0.2"),
    ("down_blocks.0.resnets.0", "input_blocks.1.0"), ("down_blocks.0.downsamplers.0.conv", "input_blocks.2.0.op"),
    ("down_blocks.1.resnets.0", "input_blocks.3.0"), ("down_blocks.1.attentions.0", "input_blocks.3.1"), *UNET[9:12],
    ("up_blocks.0.resnets.0", "output_blocks.0.0"), ("up_blocks.0.attentions.0", "output_blocks.0.1"),
    ("up_blocks.0.resnets.1", "output_blocks.1.0"), ("up_blocks.0.attentions.1", "output_blocks.1.1"),
    ("up_blocks.0.upsamplers.0.conv", "output_blocks.1.2.conv"), ("up_blocks.1.resnets.0", "output_blocks.2.0"),
    ("up_blocks.1.resnets.1", "output_blocks.3.0"),
)  # fmt: skip
OPEN_CLIP = (("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"), ("self_attn.out_proj", "attn.out_proj"),
             ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"))  # fmt: skip


def unet_name(key, names=UNET):
    block = next((pair for pair in names if key.startswith(pair[0] + ".")), None)
    key = block[1] + key.removeprefix(block[0])
    if "resnets" in block[0]:
        for ours, theirs in RESNET:
            key = re.sub(rf"\.{ours}\.(weight|bias)$", rf".{theirs}.\1", key)
    return "model.diffusion_model." + key


def vae_name(key):
    blocks = len((8, 8, 8, 8))
    key = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", key)
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
    key = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{blocks - 1 - int(m[1])}.block", key)
    key = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample", key)
    for ours, theirs in (("mid_block.resnets.0", "mid.block_1"), ("mid_block.resnets.1", "mid.block_2"),
                         ("mid_block.attentions.0", "mid.attn_1"), ("group_norm", "norm"), ("to_out.0", "proj_out"),
                         ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("conv_norm_out", "norm_out"),
                         ("conv_shortcut", "nin_shortcut")):  # fmt: skip
        key = key.replace(ours, theirs)
    return "first_stage_model." + key


def open_clip(folder, prefix):
    """A text encoder as OpenCLIP names and shapes it: queries, keys and values in one matrix, the projection turned."""
    found = {re.sub(r"^text_model\.", "", key): one for key, one in
             load_file(next(folder.glob("*.safetensors"))).items()}  # fmt: skip
    tensors = {"positional_embedding": found.pop("embeddings.position_embedding.weight"),
               "token_embedding.weight": found.pop("embeddings.token_embedding.weight")}  # fmt: skip
    if "text_projection.weight" in found:
        tensors["text_projection"] = found.pop("text_projection.weight").T.contiguous()
    for kind in ("weight", "bias"):
        tensors[f"ln_final.{kind}"] = found.pop(f"final_layer_norm.{kind}")
        for layer in range(2):
            own = [found.pop(f"encoder.layers.{layer}.self_attn.{one}_proj.{kind}") for one in "qkv"]
            tensors[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"] = torch.cat(own)
    for key, one in found.items():
        for ours, theirs in OPEN_CLIP:
            key = key.replace(ours, theirs)
        tensors[key.replace("encoder.layers", "transformer.resblocks")] = one
    return {prefix + key: one for key, one in tensors.items()}


def write_checkpoint(folder, path, family="sd1"):
    """The folder's weights in one file, named and shaped as the original training code does."""
    names = XL_UNET if family == "xl" else UNET
    weights = load_file(next((folder / "unet").glob("*.safetensors")))
    tensors = {unet_name(key, names): tensor for key, tensor in weights.items()}
    for key, tensor in load_file(next((folder / "vae").glob("*.safetensors"))).items():
        name = vae_name(key)
        convolution = re.search(r"attn_1\.(q|k|v|proj_out)\.weight$", name)  # attention by convolutions of one pixel
        tensors[name] = tensor[..., None, None].contiguous() if convolution else tensor
    first = {"sd1": "cond_stage_model", "xl": "conditioner.embedders.0"}.get(family)
    if first:
        for key, tensor in load_file(next((folder / "text_encoder").glob("*.safetensors"))).items():
            tensors[f"{first}.transformer.text_model." + key.removeprefix("text_model.")] = tensor
    if family == "xl":
        tensors |= open_clip(folder / "text_encoder_2", "conditioner.embedders.1.model.")
    if family == "sd2":
        tensors |= open_clip(folder / "text_encoder", "cond_stage_model.model.")
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("models") / "base", control=False)


@pytest.mark.parametrize("family", ["sd1", "sd2", "xl"])
def test_a_checkpoint_gives_the_model_of_the_folder(folder, tmp_path, family):
    if family == "sd2":
        folder = write_tiny_model(tmp_path / "base", SD21_SCHEDULER, control=False)
    if family == "xl":
        folder = write_tiny_xl(tmp_path / "base", "")
    path = write_checkpoint(folder, tmp_path / "dream.safetensors", family)
    configs = shutil.copytree(folder, tmp_path / "dream")
    for file in configs.rglob("*.safetensors"):
        file.unlink()
    found, expected = (load_model(f"{one}+none", CPU, torch.float32) for one in (path, folder))
    assert found.name == "dream" and len(found.info["fingerprint"]) == 16
    pairs = [(getattr(found, part), getattr(expected, part)) for part in ("unet", "codec")]
    pairs += [(one.encoder, two.encoder) for one, two in zip(found.readers, expected.readers, strict=True)]
    assert len(pairs) == (4 if family == "xl" else 3)
    for mine, theirs in ((one.state_dict(), two.state_dict()) for one, two in pairs):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    x, level = torch.randn(1, 4, 8, 8), found.levels(4)[1]
    one, two = (model.denoiser(["a red brick"], [""], None, 3.0)(x, level) for model in (found, expected))
    assert torch.equal(one, two)


def test_what_is_no_checkpoint_or_lacks_something(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    path = write_checkpoint(folder, tmp_path / "alone.safetensors")
    with pytest.raises(ModelError, match="configs") as caught:
        load_model(f"{path}+none", CPU)
    assert '"alone"' in caught.value.action and "internet" in caught.value.action
    shutil.copytree(folder, tmp_path / "alone")
    tensors = load_file(path)
    lost = "model.diffusion_model.middle_block.0.in_layers.2.weight"
    save_file({key: tensor for key, tensor in tensors.items() if key != lost}, path)
    with pytest.raises(ModelError, match=r"unet|could not be loaded"):
        load_model(f"{path}+none", CPU)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match="cut short"):
        load_model(f"{path}+none", CPU)
    for name, keys, words in (
        ("flux", "double_blocks.0.img_attn.qkv.weight", "FLUX"),
        ("lora", "lora_unet_x.alpha", "no checkpoint"),
    ):
        save_file({keys: torch.zeros(1)}, tmp_path / f"{name}.safetensors")
        with pytest.raises(ModelError, match=words) as caught:
            load_model(f"{tmp_path / name}.safetensors", CPU)
        assert caught.value.action
    (tmp_path / "old.ckpt").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ModelError, match="pickles"):
        load_model(str(tmp_path / "old.ckpt"), CPU)
