# SPDX-License-Identifier: Apache-2.0
"""LoRAs: every layout gives the same weights, which are those of the formula; nothing is left for the next job."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel

from blender_addon.jobs.controls import parse_loras
from blender_addon.jobs.errors import ModelError, SettingsError
from engine.models import load_model
from engine.models.loading import Extras
from engine.models.lora import merge_loras, read_lora
from engine.models.wishes import stamps_of
from engine.warm import Models
from tests.tiny_families import flux_transformer, xl_unet
from tests.tiny_models import write_tiny_model

CPU = torch.device("cpu")
RANK = 3
LAYERS = ("mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
          "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0", "mid_block.resnets.1.conv1",
          "mid_block.attentions.0.proj_in", "mid_block.resnets.0.time_emb_proj")  # fmt: skip


def matrices(module, names=LAYERS, seed=0):
    """(A [rank,in,...], B [out,rank,...]) of each layer."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name in names:
        shape = module.get_submodule(name).weight.shape
        ones = (1,) * (len(shape) - 2)
        found[name] = (
            torch.randn(RANK, *shape[1:], generator=generator),
            torch.randn(shape[0], RANK, *ones, generator=generator),
        )
    return found


def formula(module, pairs, weight, alpha=RANK):
    """W + weight * alpha / rank * B A, the convolution's kernel position by position."""
    found = {}
    for name, (a, b) in pairs.items():
        if a.ndim == 4:
            product = torch.einsum("or,rikl->oikl", b[:, :, 0, 0], a)
        else:
            product = b @ a
        found[name] = module.get_submodule(name).weight + weight * alpha / RANK * product
    return found


def peft(pairs, prefix="unet."):
    return {
        f"{prefix}{name}.lora_{half}.weight": m
        for name, pair in pairs.items()
        for half, m in zip("AB", pair, strict=True)
    }


def diffusers_old(pairs):
    return {
        f"unet.{name}.lora.{half}.weight": m
        for name, pair in pairs.items()
        for half, m in zip(("down", "up"), pair, strict=True)
    }


def kohya(pairs, alpha=None, names=lambda name: name):
    found = {}
    for name, (a, b) in pairs.items():
        flat = "lora_unet_" + names(name).replace(".", "_")
        found |= {f"{flat}.lora_down.weight": a, f"{flat}.lora_up.weight": b}
        if alpha is not None:
            found[f"{flat}.alpha"] = torch.tensor(float(alpha))
    return found


def sgm(name):
    """SDXL's middle block as its trainers call it."""
    for ours, theirs in (("mid_block.resnets.0", "middle_block.0"), ("mid_block.attentions.0", "middle_block.1"),
                         ("mid_block.resnets.1", "middle_block.2"), ("conv1", "in_layers.2"),
                         ("time_emb_proj", "emb_layers.1")):  # fmt: skip
        name = name.replace(ours, theirs)
    return name


@pytest.mark.parametrize("layout", ["peft", "older", "kohya", "sgm"])
def test_every_layout_gives_the_weights_of_the_formula(tmp_path, layout):
    torch.manual_seed(0)
    unet = xl_unet()
    pairs = matrices(unet)
    alpha = 1.5 if layout in ("kohya", "sgm") else None
    tensors = {"peft": lambda: peft(pairs), "older": lambda: diffusers_old(pairs), "kohya": lambda: kohya(pairs, alpha),
               "sgm": lambda: kohya(pairs, alpha, sgm)}[layout]()  # fmt: skip
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / "style.safetensors")
    expected = formula(unet, pairs, 0.8, alpha or RANK)
    untouched = unet.get_submodule("mid_block.resnets.0.conv1").weight.clone()
    merge_loras([(tmp_path / "style.safetensors", 0.8)], {"unet": unet})
    for name, weight in expected.items():
        torch.testing.assert_close(unet.get_submodule(name).weight, weight, rtol=1e-5, atol=1e-5)
    assert torch.equal(unet.get_submodule("mid_block.resnets.0.conv1").weight, untouched)


@pytest.mark.parametrize("theirs,ours", [
    ("input_blocks.1.0.in_layers.2", "down_blocks.0.resnets.0.conv1"),
    ("input_blocks.2.0.op", "down_blocks.0.downsamplers.0.conv"),
    ("input_blocks.3.1.proj_in", "down_blocks.1.attentions.0.proj_in"),
    ("output_blocks.1.1.proj_out", "up_blocks.0.attentions.1.proj_out"),
    ("output_blocks.1.2.conv", "up_blocks.0.upsamplers.0.conv"),
    ("output_blocks.2.0.skip_connection", "up_blocks.1.resnets.0.conv_shortcut"),
    ("label_emb.0.2", "add_embedding.linear_2"), ("time_embed.0", "time_embedding.linear_1"),
    ("input_blocks.0.0", "conv_in"), ("out.2", "conv_out")])  # fmt: skip
def test_names_of_the_original_blocks(tmp_path, theirs, ours):
    """One layer per block: input_blocks 1 and 3 are the two blocks' layers, 2 the first's downsampling; output_blocks
    0 and 1 are the first up block's layers, the latter with its upsampling, 2 and 3 the second's."""
    unet = xl_unet()
    pairs = matrices(unet, [ours])
    save_file(kohya(pairs, names=lambda name: theirs), tmp_path / "a.safetensors")
    expected = formula(unet, pairs, 1.0)
    merge_loras([(tmp_path / "a.safetensors", 1.0)], {"unet": unet})
    torch.testing.assert_close(unet.get_submodule(ours).weight, expected[ours], rtol=1e-5, atol=1e-5)


def test_fused_matrices_of_flux(tmp_path):
    """kohya keeps queries, keys and values as one matrix, as FLUX's original code does; rows are q, k, v in order."""
    torch.manual_seed(0)
    transformer = flux_transformer()
    block = transformer.transformer_blocks[0].attn
    before = [block.to_q.weight.clone(), block.to_k.weight.clone(), block.to_v.weight.clone()]
    width = block.to_q.weight.shape[1]
    a, b = torch.randn(RANK, width), torch.randn(3 * width, RANK)
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    save_file({f"{name}.lora_down.weight": a, f"{name}.lora_up.weight": b},
              tmp_path / "a.safetensors")  # fmt: skip
    merge_loras([(tmp_path / "a.safetensors", 2.0)], {"unet": transformer})
    for layer, old, rows in zip((block.to_q, block.to_k, block.to_v), before, (b @ a).split(width), strict=True):
        torch.testing.assert_close(layer.weight, old + 2 * rows, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("lora") / "model", control=False)


def write_lora(folder, path, seed=0):
    """A LoRA of the U-Net's queries and of the text encoder's, as kohya writes it for SD 1.5."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    tensors = kohya(matrices(unet, ["mid_block.attentions.0.transformer_blocks.0.attn1.to_q"], seed), alpha=1)
    name = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    generator = torch.Generator().manual_seed(seed)
    tensors |= {f"{name}.lora_down.weight": torch.randn(2, 16, generator=generator),
                f"{name}.lora_up.weight": torch.randn(16, 2, generator=generator)}  # fmt: skip
    save_file(tensors, path)
    return str(path)


def extras(*loras):
    return Extras(loras=loras, stamps=stamps_of(loras), precision="float32")


def weight_of(model):
    return model.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight


def test_a_stack_adds_up_and_a_warm_model_keeps_nothing(tiny, tmp_path):
    """W + 0.5 D1 - 0.25 D2; the next job without LoRAs has W again, bit for bit; a file trained anew is read anew."""
    one, two = (write_lora(tiny, tmp_path / f"{k}.safetensors", seed=k) for k in (1, 2))
    warm, name = Models(), f"{tiny}+none"
    plain = weight_of(warm.get(name, CPU, extras())).clone()
    deltas = [weight_of(load_model(name, CPU, extras=extras((path, 1.0)))) - plain for path in (one, two)]
    model = warm.get(name, CPU, extras((one, 0.5), (two, -0.25)))
    torch.testing.assert_close(weight_of(model), plain + 0.5 * deltas[0] - 0.25 * deltas[1], rtol=1e-5, atol=1e-5)
    assert model.info["loras"] == [{"name": "1.safetensors", "weight": 0.5}, {"name": "2.safetensors", "weight": -0.25}]
    assert warm.get(name, CPU, extras((one, 0.5), (two, -0.25))) is model
    assert torch.equal(weight_of(warm.get(name, CPU, extras())), plain)
    before = extras((one, 0.5))
    with_text = warm.get(name, CPU, before).text_features(["a red brick"])
    assert (with_text - warm.get(name, CPU, extras()).text_features(["a red brick"])).abs().max() > 1e-4
    write_lora(tiny, tmp_path / "1.safetensors", seed=9)
    assert extras((one, 0.5)) != before


def test_alpha_from_the_header_of_newer_files(tmp_path):
    pairs = matrices(xl_unet(), LAYERS[:1])
    save_file(
        peft(pairs), tmp_path / "a.safetensors", metadata={"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 6})}
    )
    (delta,) = read_lora(tmp_path / "a.safetensors").values()
    assert delta.scale == 2.0  # alpha 6 / rank 3


def test_foreign_broken_and_other_kinds_are_refused_and_change_nothing(tiny, tmp_path):
    unet = UNet2DConditionModel.from_pretrained(tiny / "unet")
    before = {name: weight.clone() for name, weight in unet.state_dict().items()}
    good, text = tmp_path / "good.safetensors", CLIPTextModel.from_pretrained(tiny / "text_encoder")
    write_lora(tiny, good)
    save_file(peft(matrices(xl_unet(), ["add_embedding.linear_1"])), tmp_path / "xl.safetensors")
    save_file({"lora_unet_mid_block_x.hada_w1_a": torch.zeros(2)}, tmp_path / "loha.safetensors")
    save_file({"lora_unet_a.lora_down.weight": torch.zeros(2, 2)}, tmp_path / "half.safetensors")
    save_file({"model.diffusion_model.conv": torch.zeros(2)}, tmp_path / "checkpoint.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(good.read_bytes()[:-1])
    (tmp_path / "old.pt").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    for file, words in (("xl.safetensors", "does not fit"), ("loha.safetensors", "LoHa"), ("half.safetensors", "half"),
                        ("checkpoint.safetensors", "no part of a LoRA"), ("cut.safetensors", "cut short"),
                        ("old.pt", "pickles"), ("none.safetensors", "no LoRA file")):  # fmt: skip
        with pytest.raises(ModelError, match=words) as caught:
            merge_loras([(good, 1.0), (tmp_path / file, 1.0)], {"unet": unet, "text_encoder": text})
        assert caught.value.action
    assert all(torch.equal(weight, before[name]) for name, weight in unet.state_dict().items())


def test_how_they_are_written_in_the_setting():
    assert parse_loras("") == []
    assert parse_loras("a.safetensors:0.8, C:\\loras\\b.safetensors ,c:-1") == [
        ("a.safetensors", 0.8), ("C:\\loras\\b.safetensors", 1.0), ("c", -1.0)]  # fmt: skip
    with pytest.raises(SettingsError, match="-4 to 4"):
        parse_loras("a:9")
