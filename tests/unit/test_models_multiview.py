# SPDX-License-Identifier: Apache-2.0
"""MV-Adapter: a tiny random one in the published layout; what it adds is checked against diffusers' T2I-Adapter
pipelines with the paper's attention written out by hand, and against what may not change."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionAdapterPipeline,
    StableDiffusionXLAdapterPipeline,
    T2IAdapter,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import Attention
from safetensors.torch import load_file, save_file

from blender_addon.jobs.errors import ModelError, SettingsError
from blender_addon.jobs.folder import Job, MeshArrays, new_job_id, write_job
from blender_addon.jobs.rigs import views_of
from blender_addon.jobs.settings import resolve
from engine.models import load_model
from engine.models.controls import Control
from engine.models.loading import Extras
from engine.models.multiview import MultiViewGuide, follows_geometry, shifted
from engine.models.view_attention import AcrossViews, ViewAttention
from engine.models.view_lines import AlongLines, Line, SharedLines
from engine.progress import Progress
from engine.run import run_job
from engine.sampling import sample, start
from engine.schedule import alphas_cumprod, levels_from_config
from engine.warm import Models
from tests.shapes import icosphere
from tests.tiny_families import DEEP, XL_SCHEDULER, write_tiny_multiview, write_tiny_xl
from tests.tiny_models import LATENT, SD21_SCHEDULER, write_tiny_model

CPU = torch.device("cpu")
SIDE, STEPS, VIEWS = LATENT * 8, 3, 6
# front, right, back, left share rows; front and back share columns with top and bottom, the front mirrored: in the
# picture from the front +X lies right, in the one from the back left, and so it does in the published top and bottom
SIX = SharedLines((Line((0, 1, 2, 3)), Line((0, 2, 4, 5), True, (True, False, False, False))), VIEWS)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def noise(views=VIEWS):
    return torch.randn(views, 4, LATENT, LATENT, generator=seeded(7))


def guide(lines=SIX):
    return MultiViewGuide(torch.rand(lines.count, 6, SIDE, SIDE, generator=seeded(5)), lines)


class ByHand:
    """The attention of `SIX`, token by token: its row in the views of the ring, its column in those of the circle."""

    def __init__(self, inner, weights, name, size):
        self.inner, self.size = inner, size
        self.w = {key: weights[f"{name}.{key}.weight"] for key in ("to_q_mv", "to_k_mv", "to_v_mv", "to_out_mv.0")}
        self.bias = weights[f"{name}.to_out_mv.0.bias"]

    def __call__(self, attn, x, encoder_hidden_states=None, attention_mask=None, **more):
        side = math.isqrt(x.shape[1])
        q, k, v = (x @ self.w[key].T for key in ("to_q_mv", "to_k_mv", "to_v_mv"))
        out = torch.empty_like(q)
        for part in range(0, len(x), VIEWS):
            for view in range(VIEWS):
                for row in range(side):
                    for column in range(side):
                        out[part + view, row * side + column] = torch.stack([
                            self.one(q[part + view, row * side + column], k, v, seen, attn.heads)
                            for seen in self.seen(part, view, row, column, side)]).mean(0)  # fmt: skip
        return self.inner(attn, x, **more) + out @ self.w["to_out_mv.0"].T + self.bias

    @staticmethod
    def seen(part, view, row, column, side):
        """For each line that the pixel lies on, (view, token) of all its pixels."""
        found = []
        if view in (0, 1, 2, 3):
            found.append([(part + other, row * side + c) for other in (0, 1, 2, 3) for c in range(side)])
        if view in (0, 2, 4, 5):
            plane = side - 1 - column if view == 0 else column  # number of the plane of constant x, from +X
            found.append([(part + other, r * side + (side - 1 - plane if other == 0 else plane))
                          for other in (0, 2, 4, 5) for r in range(side)])  # fmt: skip
        return found

    @staticmethod
    def one(q, k, v, seen, heads):
        rows, tokens = (list(each) for each in zip(*seen, strict=True))
        keys, values = k[rows, tokens].unflatten(-1, (heads, -1)), v[rows, tokens].unflatten(-1, (heads, -1))
        q = q.unflatten(-1, (heads, -1))
        weights = torch.softmax(torch.einsum("hc,nhc->hn", q, keys) / math.sqrt(q.shape[-1]), -1)
        return torch.einsum("hn,nhc->hc", weights, values).flatten()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny SDXL with ControlNet, and its adapter's file."""
    folder = write_tiny_xl(tmp_path_factory.mktemp("xl") / "xl", "one", blocks=DEEP)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    return folder, write_tiny_multiview(folder.parent / "adapter", unet)


def changed(file, folder, change):
    """A copy of the adapter with other tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(change(load_file(file)), folder / file.name)
    return folder / file.name


def mute(weights):
    """The adapter as its training starts: its attention answers nothing."""
    return {key: torch.zeros_like(one) if "to_out_mv" in key else one for key, one in weights.items()}


def deaf(weights):
    """One whose encoder adds nothing."""
    return {key: torch.zeros_like(one) if key.startswith("adapter.") else one for key, one in weights.items()}


def loaded(folder, file, control="+none"):
    return load_model(f"{folder}{control}", CPU, torch.float32, extras=Extras(multiview=str(file)))


def ours(model, told, guidance=4.0, controls=None, **more):
    views = told.lines.count if told else len(more.pop("x"))
    bound = model.denoiser(["a red brick"] * views, ["ugly wall"] * views, controls, guidance, multiview=told, **more)
    levels = levels_from_config({**model.scheduler, "_class_name": "DDIMScheduler"}, STEPS, final="config")
    return sample(bound, start(noise(views), levels[0]), levels, "ddim")


def theirs(folder, file, kind, scheduler, processors=None, guidance=4.0):
    """diffusers' pipeline of a model with a T2I-Adapter, at the published shift of the noise levels."""
    weights, unet = load_file(file), UNet2DConditionModel.from_pretrained(folder / "unet")
    widths, large = tuple(unet.config.block_out_channels), kind is StableDiffusionXLAdapterPipeline
    encoder = T2IAdapter(6, (*widths, widths[-1]) if large else widths, 1, 16 if large else 8,
                         "full_adapter_xl" if large else "full_adapter")  # fmt: skip
    encoder.load_state_dict({key: one for key, one in weights.items() if key.startswith("adapter.")})
    pipeline = kind.from_pretrained(folder, adapter=encoder, unet=unet, local_files_only=True)
    if processors:
        before = pipeline.unet.attn_processors
        pipeline.unet.set_attn_processor({name: processors(inner, weights, name, LATENT) if "attn1" in name else inner
                                          for name, inner in before.items()})  # fmt: skip
    pipeline.scheduler = DDIMScheduler.from_config({**scheduler, "_class_name": "DDIMScheduler"}, clip_sample=False,
                                                   trained_betas=shift_by_hand(scheduler))  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(prompt=["a red brick"] * VIEWS, negative_prompt=["ugly wall"] * VIEWS, image=guide().image, eta=0.0,
                    num_inference_steps=STEPS, guidance_scale=guidance, latents=noise(), output_type="latent",
                    height=SIDE, width=SIDE).images  # fmt: skip


def shift_by_hand(config):
    """log SNR' = log SNR - t / 999 log 8: weights t/999 and 1 - t/999 of the logs of SNR / 8 and SNR."""
    betas = torch.linspace(config["beta_start"] ** 0.5, config["beta_end"] ** 0.5, 1000, dtype=torch.float64) ** 2
    power = torch.cumprod(1 - betas, 0)
    share = torch.arange(1000) / 999
    logs = (power / (1 - power)).log() * (1 - share) + (power / (1 - power) / 8).log() * share
    power = torch.sigmoid(logs)  # SNR / (1 + SNR)
    return (1 - power / torch.cat([torch.ones(1), power[:-1]])).tolist()


def test_all_of_it_equals_the_pipeline_with_the_attention_written_out(tiny):
    folder, file = tiny
    expected = theirs(folder, file, StableDiffusionXLAdapterPipeline, XL_SCHEDULER, ByHand)
    model = loaded(folder, file)
    found = ours(model, guide())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    rows_only = SharedLines((Line((0, 1, 2, 3)), Line((4,)), Line((5,))), VIEWS)
    assert (found - ours(model, guide(rows_only))).abs().max() > 0.02


def test_sd21_has_the_same_layout_with_another_encoder(tmp_path):
    folder = write_tiny_model(tmp_path / "sd21", SD21_SCHEDULER, control=False)
    file = write_tiny_multiview(tmp_path / "adapter", UNet2DConditionModel.from_pretrained(folder / "unet"),
                                "mvadapter_tg2mv_sd21.safetensors")  # fmt: skip
    expected = theirs(folder, file, StableDiffusionAdapterPipeline, SD21_SCHEDULER, ByHand)
    torch.testing.assert_close(ours(loaded(folder, file), guide()), expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(ModelError, match="No multi-view adapter was published"):  # its text is 16 wide, not 1024
        loaded(folder, "auto")


def test_with_muted_projections_only_the_encoder_is_heard(tiny, tmp_path):
    """Then the views are strangers: the first of six is what it is alone, in diffusers' own pipeline too."""
    folder, file = tiny
    quiet = changed(file, tmp_path / "mute", mute)
    found = ours(loaded(folder, quiet), guide())
    expected = theirs(folder, quiet, StableDiffusionXLAdapterPipeline, XL_SCHEDULER)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_that_says_nothing_leaves_the_plain_family_at_its_noise_levels(tiny, tmp_path):
    folder, file = tiny
    silent = loaded(folder, changed(file, tmp_path / "silent", lambda weights: deaf(mute(weights))))
    plain = load_model(f"{folder}+none", CPU, torch.float32)
    level = silent.levels(4)[1]
    assert level != plain.levels(4)[1] and level.timestep == plain.levels(4)[1].timestep
    both = [model.denoiser(["a red brick"] * VIEWS, ["ugly"] * VIEWS, None, 4.0, multiview=told)(noise(), level)
            for model, told in ((silent, guide()), (plain, None), (silent, None))]  # fmt: skip
    torch.testing.assert_close(both[0], both[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(both[2], both[1], rtol=0, atol=0)


def test_noise_levels_are_those_of_diffusers_with_the_published_shift():
    config = shifted(XL_SCHEDULER)
    scheduler = DDIMScheduler.from_config(XL_SCHEDULER, trained_betas=shift_by_hand(XL_SCHEDULER))
    np.testing.assert_allclose(alphas_cumprod(config), scheduler.alphas_cumprod, rtol=1e-4)
    ratio = [power / (1 - power) for power in (alphas_cumprod(XL_SCHEDULER), alphas_cumprod(config))]
    np.testing.assert_allclose((ratio[0] / ratio[1])[[0, -1]], [1, 8], rtol=1e-9)
    with pytest.raises(ModelError, match="3 trained_betas for 1000"):
        levels_from_config({**XL_SCHEDULER, "trained_betas": [0.1, 0.2, 0.3]}, 4)


@pytest.fixture(scope="module")
def attention(tiny):
    model = loaded(*tiny)
    torch.manual_seed(0)
    return Attention(32, heads=2, dim_head=16).eval(), model.multiview.layers[0]


@torch.no_grad()
def test_a_pixel_is_heard_in_its_row_and_column_only(attention):
    """Changed: view 1 (right) in row 2, column 5 of 8, and view 4 (top) in row 3, column 1."""
    attn, layers = attention
    x = torch.randn(2 * VIEWS, 64, 32, generator=seeded(1))
    processor = AlongLines(attn.processor, layers, SIX, (8, 8))
    base = processor(attn, x).unflatten(1, (8, 8))

    def heard(view, row, column):
        other = x.clone()
        other[VIEWS + view, row * 8 + column] += 1  # in the second part
        own = torch.zeros(2 * VIEWS, 8, 8, dtype=torch.bool)
        plain = AcrossViews(attn.processor, ViewAttention(tuple((k,) for k in range(VIEWS))), 1.0)
        own[VIEWS + view] = (plain(attn, other) - plain(attn, x)).abs().amax(-1)[VIEWS + view].view(8, 8) > 1e-6
        return ((processor(attn, other).unflatten(1, (8, 8)) - base).abs().amax(-1) > 1e-6) & ~own

    found, expected = heard(1, 2, 5), torch.zeros(2 * VIEWS, 8, 8, dtype=torch.bool)
    expected[[VIEWS + 0, VIEWS + 2, VIEWS + 3], 2] = True
    assert torch.equal(found, expected)
    found, expected = heard(4, 3, 1), torch.zeros(2 * VIEWS, 8, 8, dtype=torch.bool)
    expected[[VIEWS + 2, VIEWS + 5], :, 1] = True
    expected[VIEWS, :, 6] = True  # mirrored
    assert torch.equal(found, expected)


@torch.no_grad()
def test_it_adds_up_with_attention_across_views(attention):
    """The trained answer comes on top of the untrained one, whose keys it does not change."""
    attn, layers = attention
    x = torch.randn(VIEWS, 64, 32, generator=seeded(2))
    across = AcrossViews(attn.processor, ViewAttention(((0, 1), (1, 0), (2, 3), (3, 2), (4, 0), (5, 2)), 0, 1.0), 900.0)
    both, trained, alone = (
        AlongLines(across, layers, SIX, (8, 8))(attn, x), AlongLines(attn.processor, layers, SIX, (8, 8))(attn, x),
        attn.processor(attn, x))  # fmt: skip
    torch.testing.assert_close(both - across(attn, x), trained - alone, rtol=0, atol=1e-5)


def test_views_outside_of_the_lines_are_by_themselves_and_some_views_go_without_the_others(tiny):
    model = loaded(*tiny)
    lines = SharedLines((Line((0, 2)), Line((1,)), Line((3,))), 4)
    told = guide(lines)
    bound = model.denoiser(["a red brick"] * 4, [""] * 4, None, 3.0, multiview=told)
    level, x = model.levels(4)[1], noise(4)
    base = bound(x, level)
    x[0] += 0.5
    apart = (bound(x, level) - base).abs().amax((1, 2, 3))
    assert apart[2] > 1e-4 and apart[[1, 3]].max() < 1e-5
    some = bound.only([3, 1])
    assert some.network.lines == SharedLines((Line((1,)), Line((0,))), 2)
    torch.testing.assert_close(some(noise(4)[[3, 1]], level), base[[3, 1]], rtol=1e-4, atol=1e-4)
    assert SIX.only([5, 0]).lines == (Line((1,)), Line((1, 0), True, (True, False)))
    assert SIX.only([1, 4]).alone == (0, 1) and SIX.alone == ()


def test_views_are_never_parted(tiny):
    """Six views and two halves are one batch of twelve, whatever the chunk; outside of it the U-Net is as before."""
    model, batches = loaded(*tiny), []
    model.unet.register_forward_hook(lambda module, inputs, output: batches.append(len(output[0])))
    before = dict(model.unet.attn_processors)
    bound = model.denoiser(["a"] * VIEWS, [""] * VIEWS, None, 3.0, chunk=1, multiview=guide())
    bound(noise(), model.levels(4)[0])
    assert batches == [2 * VIEWS] and model.unet.attn_processors == before
    model.denoiser(["a"] * VIEWS, [""] * VIEWS, None, 3.0, chunk=1)(noise(), model.levels(4)[0])
    assert batches[1:] == [2] * VIEWS


def test_controls_are_heard_beside_it(tiny):
    folder, file = tiny
    model = loaded(folder, file, "")
    picture = torch.rand(VIEWS, 1, SIDE, SIDE, generator=seeded(9))
    with_, without = (ours(model, guide(), controls=[Control("depth", picture, k)]) for k in (1.0, 0.0))
    assert (with_ - without).abs().max() > 0.01
    torch.testing.assert_close(without, ours(model, guide()), rtol=0, atol=0)


@pytest.mark.parametrize(("file", "change", "words"), [
    ("missing", lambda w: {k: v for k, v in w.items() if not ("mid_block" in k and "to_k_mv" in k)},
     "lacks mid_block.*to_k_mv"),
    ("alien", lambda w: w | {"adapter.body.9.weight": torch.zeros(1)}, "strange weight adapter.body.9.weight"),
    ("sizes", lambda w: w | {"adapter.conv_in.bias": torch.zeros(7)}, r"conv_in.bias is \(7,\) and should be \(16,\)"),
    ("picture", lambda w: w | {next(k for k in w if "to_q_mv" in k).replace("_mv", "_ref"): torch.zeros(2)},
     "paints from a picture"),
])  # fmt: skip
def test_weights_of_another_make_are_refused_by_name(tiny, tmp_path, file, change, words):
    folder, whole = tiny
    with pytest.raises(ModelError, match=words) as caught:
        loaded(folder, changed(whole, tmp_path / file, change))
    assert "mvadapter_tg2mv" in caught.value.action


def test_files_that_cannot_be_read_or_told_apart(tiny, tmp_path):
    folder, whole = tiny
    short = changed(whole, tmp_path, dict)
    short.write_bytes(short.read_bytes()[:-1])
    with pytest.raises(ModelError, match="cut short"):
        loaded(folder, short)
    with pytest.raises(ModelError, match="no multi-view adapter"):
        loaded(folder, tmp_path / "nowhere")
    with pytest.raises(ModelError, match="swatch takes no multi-view"):
        load_model("swatch", CPU, extras=Extras(multiview=str(whole)))
    assert loaded(folder, whole.parent).multiview is not None  # a folder with one file
    assert follows_geometry("auto") and follows_geometry("huanngzh/mv-adapter") and follows_geometry(str(whole.parent))
    for name, follows in (("mvadapter_t2mv_sdxl", False), ("mine", None), ("mvadapter_i2mv_sdxl", None)):
        (path := tmp_path / f"{name}.safetensors").write_bytes(b"")
        if follows is None:
            with pytest.raises(SettingsError, match="cannot be told") as caught:
                follows_geometry(str(path))
            assert caught.value.key == "multiview"
        else:
            assert follows_geometry(str(path)) is follows
    with pytest.raises(SettingsError, match="holds mine"):
        (tmp_path / "several").mkdir()
        for name in ("mine.safetensors", "yours.safetensors"):
            (tmp_path / "several" / name).write_bytes(b"")
        follows_geometry(str(tmp_path / "several"))


def test_a_guide_needs_an_adapter_and_sides_that_its_encoder_can_halve(tiny):
    folder, file = tiny
    plain = load_model(f"{folder}+none", CPU, torch.float32)
    with pytest.raises(ModelError, match="without a multi-view adapter"):
        plain.denoiser(["a"] * VIEWS, [""] * VIEWS, None, 1.0, multiview=guide())
    odd = replace(guide(), image=torch.rand(VIEWS, 6, 56, 56))
    with pytest.raises(SettingsError, match="multiples of 16 px, not 56") as caught:
        loaded(folder, file).denoiser(["a"] * VIEWS, [""] * VIEWS, None, 1.0, multiview=odd)
    assert caught.value.key == "view_size"


def job_of(model, adapter, **settings):
    shape = icosphere(2)
    positions = np.asarray(shape.positions, np.float32)
    given = resolve({"prompt": "red brick", "model": f"{model}+none", "multiview": str(adapter), "views": 6, "steps": 2,
                     "texture_size": 64, "view_size": 64, "device": "cpu", "rig": "box", "lens": "parallel",
                     "precision": "float32", **settings})  # fmt: skip
    mesh = MeshArrays(positions, shape.triangles, shape.uvs, shape.triangle_uvs, None, None, None)
    return Job(new_job_id(), given, mesh, views_of(given, positions), [{"name": "Ball"}], {})


def test_a_whole_job_with_synchronization_on_top(tiny, tmp_path):
    """The adapter changes the texture; the views agree as well as without, since the synchronizer is the same. A seventh
    view, of a corner, shares lines with none of the six."""
    models, made = Models(), {}
    for name, adapter in (("with", tiny[1]), ("without", "")):
        job = job_of(tiny[0], adapter, views=7)
        made[name] = run_job(write_job(tmp_path / name, job), Progress([]), models)["report"]
        made[name]["picture"] = next((tmp_path / name).rglob("texture.png")).read_bytes()
    assert made["with"]["picture"] != made["without"]["picture"]
    said = [[one for one in report["remarks"] if "look at no other" in one] for report in made.values()]
    assert said == [["The multi-view adapter lets these views look at no other: upper front right."], []]
    assert made["with"]["model"]["multiview"] == str(tiny[1]) and made["with"]["agreement_db"] > 10
    assert abs(made["with"]["agreement_db"] - made["without"]["agreement_db"]) < 6


def test_a_rig_that_does_not_suit_is_refused_before_the_model_is_loaded(tiny, tmp_path):
    """The models are a table that cannot be asked: whoever loads one, fails otherwise."""
    folder = write_job(tmp_path, job_of(*tiny, lens="perspective"))
    with pytest.raises(SettingsError, match="multiview"):
        run_job(folder, Progress([]), None)
