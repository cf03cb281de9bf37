# SPDX-License-Identifier: Apache-2.0
"""The parts of the training recipe that must hold whatever the sizes."""

import json
import random
from itertools import combinations

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from engine.models.patch_codec import LinearPatchCodec
from training import checkpoint, networks
from training.batches import Batches
from training.export import model_card
from training.geometry import Views, random_views
from training.networks import build_networks, build_scheduler
from training.painting import curvature, half_size, paint
from training.pool import Pool
from training.recipes import RECIPES
from training.ring import Ring
from training.tokens import build_tokenizer, token_ids
from training.wear import BY_CURVATURE, LAYERS, place_of, weather
from training.words import BEHIND, COLOURS, MATERIALS, base_colour, every_word, is_held_out, random_spec, spec_for

LENGTH = 16


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Several threads on a busy machine wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def views():
    return random_views(2, 64, torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    codec = LinearPatchCodec(8, 16, 16)
    codec.basis.copy_(torch.linalg.qr(torch.randn(192, 16)).Q.T)
    codec.deviation.copy_(torch.rand(16) + 0.5)
    torch.nn.init.normal_(codec.conv_out.weight, std=0.05)
    return codec


def test_depth_is_scaled_per_view_and_zero_behind(views):
    for depth in views.depth:
        assert depth.max() == pytest.approx(1.0) and depth[depth > 0].min() == pytest.approx(0.1, abs=1e-3)
    assert (views.normal.norm(dim=-1)[views.depth > 0] - 1).abs().max() < 1e-3


@pytest.mark.parametrize("kind", ["pile", "creature"])
def test_same_seed_same_views(kind):
    first, second = (random_views(1, 32, torch.Generator().manual_seed(5), kind) for _ in range(2))
    assert torch.equal(first.position, second.position)


@pytest.mark.parametrize("name", list(MATERIALS))
def test_every_material_paints_the_object_and_leaves_the_background_grey(views, name):
    rng = random.Random(3)
    specs = [spec_for(name, "red", "yellow", rng=rng), spec_for(name, "blue", "white", layer="mossy", rng=rng)]
    images = paint(views, specs)
    assert images.isfinite().all() and images.abs().max() <= 1
    assert (images * (views.depth == 0)[:, None]).abs().max() == 0


@pytest.fixture(scope="module")
def block():
    """A rounded block with a groove around its waist, seen at an angle: flat, convex and hollow places in one view."""
    size, half = 96, torch.tensor([0.5, 0.5, 0.6])
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(-line, line, indexing="ij")
    ray = torch.nn.functional.normalize(torch.tensor([1.0, 0.8, -0.7]), dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(ray, torch.tensor([0.0, 0, 1])), dim=0)
    eye = x[..., None] * right + y[..., None] * torch.linalg.cross(right, ray) - 3 * ray

    def gap(p):
        q = p.abs() - half + 0.06
        solid = q.clamp_min(0).norm(dim=-1) + q.amax(-1).clamp_max(0) - 0.06
        groove = torch.stack([p[..., 2], 0.5 - p[..., :2].abs().amax(-1)], -1).norm(dim=-1) - 0.12
        return torch.maximum(solid, -groove)

    reach = torch.zeros(size, size)
    for _ in range(90):
        reach = reach + gap(eye + reach[..., None] * ray).clamp(-1, 1) * 0.8
        reach = reach.clamp_max(8)
    points = eye + reach[..., None] * ray
    hit = gap(points) < 0.004
    normal = torch.stack([gap(points + d) - gap(points - d) for d in torch.eye(3) * 0.004], -1)
    normal = torch.nn.functional.normalize(normal, dim=-1) * hit[..., None]
    depth = torch.where(hit, 1 / reach.clamp_min(1), torch.zeros_like(reach))
    return Views((points * hit[..., None])[None], normal[None], depth[None], torch.tensor([[0.0, 0, 1]]))


def _change_by_curvature(block, name):
    """How much wear changes a surface: (on convex edges, on flats, in the groove)."""
    bend = curvature(block.position[0], block.normal[0], block.depth[0])
    seen = block.depth[0] > 0
    points, normals, bend = block.position[0][seen], block.normal[0][seen], bend[seen]
    total = torch.zeros(3)
    for i in range(6):
        spec = spec_for("metal", "magenta", layer=name, rng=random.Random(i))
        colour = torch.tensor([0.9, 0.1, 0.9]).expand(len(points), 3)
        change = (weather(colour, [name], place_of(points, normals, block.up[0], bend, spec)) - colour).abs().sum(-1)
        total += torch.stack([change[bend > 0.5].mean(), change[bend.abs() < 0.05].mean(), change[bend < -0.4].mean()])
    return total.tolist()


def test_the_language_is_wide():
    assert len(MATERIALS) >= 54 and len(COLOURS) >= 26 and len(LAYERS) >= 10
    assert min(np.linalg.norm(np.subtract(a, b)) for a, b in combinations(COLOURS.values(), 2)) > 0.12
    assert {w for m in MATERIALS.values() for w in m.wear} == set(LAYERS) and set(BEHIND) <= set(LAYERS)
    assert {c for m in MATERIALS.values() for c in m.usual} <= set(COLOURS)


def test_no_two_materials_look_the_same(block):
    seen = block.depth[0] > 0
    points, normals = block.position[0][seen], block.normal[0][seen]
    made = [base_colour(spec_for(m, "red", "blue", rng=random.Random(4)), points, normals) for m in MATERIALS]
    assert all(c.isfinite().all() and c.shape == points.shape and c.min() > -0.6 and c.max() < 2 for c in made)
    made = torch.stack([c.clamp(0, 1) for c in made]).flatten(1)
    apart = torch.cdist(made, made, compute_mode="donot_use_mm_for_euclid_dist") / made.shape[1] ** 0.5
    assert (apart + torch.eye(len(made))).min() > 0.02


@pytest.mark.parametrize("name", list(MATERIALS))
def test_a_point_has_one_colour_in_every_view(views, name):
    """Shuffled pixels, as another camera would list them, and fewer of them."""
    seen = views.depth[0] > 0
    points, normals = views.position[0][seen], views.normal[0][seen]
    spec = spec_for(name, "red", "blue", rng=random.Random(5))
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[: len(points) // 2]
    whole, part = base_colour(spec, points, normals), base_colour(spec, points[order], normals[order])
    assert (whole[order] - part).abs().max() < 1e-4


def test_curvature_tells_edges_from_cavities(block):
    bend = curvature(block.position[0], block.normal[0], block.depth[0])
    x, _, z = block.position[0].unbind(-1)
    seen = block.depth[0] > 0
    assert bend[seen & (z.abs() < 0.05)].mean() < -0.2 and (bend[~seen] == 0).all()
    assert bend[seen & (z > 0.56) & (block.normal[0][..., 2] < 0.9)].mean() > 0.4
    assert bend[seen & (z > 0.59) & (x.abs() < 0.35)].abs().mean() < 0.1


@pytest.mark.parametrize("name", ["rusty", "chipped", "charred"])
def test_edges_wear_first(block, name):
    convex, flat, hollow = _change_by_curvature(block, name)
    assert convex > 1.15 * flat and flat > hollow


def test_dirt_stays_in_cavities(block):
    convex, flat, hollow = _change_by_curvature(block, "dirty")
    assert hollow > 1.15 * flat and flat > convex


@pytest.mark.parametrize("name", ["mossy", "snowy"])
def test_moss_and_snow_lie_on_top(block, name):
    assert name not in BY_CURVATURE
    specs = [spec_for("plastic", "magenta", layer=layer, rng=random.Random(2)) for layer in (None, name)]
    plain, worn = (paint(block, [spec]) for spec in specs)
    change, up = (plain - worn).abs().sum(1)[0], block.normal[0][..., 2]
    assert change[up > 0.9].mean() > 3 * change[(up.abs() < 0.3) & (block.depth[0] > 0)].mean()


def test_held_out_pairs_cover_every_material_and_colour():
    coloured = [m for m in MATERIALS if MATERIALS[m].colours]
    pairs = [(c, m) for c in COLOURS for m in coloured if is_held_out(c, m)]
    assert {c for c, _ in pairs} == set(COLOURS) and {m for _, m in pairs} == set(coloured)
    assert len(pairs) / len(COLOURS) / len(coloured) == pytest.approx(1 / 17, abs=0.01)
    for m in coloured:      # a material whose usual colours are all held out could never be drawn by them
        assert any(not is_held_out(c, m) for c in MATERIALS[m].usual or COLOURS)


def test_people_put_words_in_many_orders():
    captions = [random_spec(random.Random(i)).caption for i in range(4000)]
    assert any(c.startswith("an ") for c in captions) and any(c.startswith("a ") for c in captions)
    assert any(c.endswith((", worn", ", mossy", ", rusty")) for c in captions)
    assert not any("  " in c or " ," in c or "{" in c or c != c.strip() for c in captions)
    assert not any(c.startswith("a ") and c[2] in "aeiou" for c in captions)
    two = spec_for("brick", "red", layer="mossy", under="old", rng=random.Random(1))
    assert any(w in two.caption for w in ("old", "worn", "weathered")) and "moss" in two.caption


def test_the_same_words_and_seed_paint_the_same(views):
    first, second = (paint(views, [random_spec(random.Random(8)) for _ in range(2)]) for _ in range(2))
    assert torch.equal(first, second)


def test_half_size_views_are_the_same_views(views):
    assert half_size(views).depth.shape == (2, 32, 32)


def test_held_out_pairs_never_come_up_in_training():
    rng = random.Random(0)
    assert not any(is_held_out(s.first, s.material) for s in (random_spec(rng) for _ in range(2000)))
    assert all(is_held_out(s.first, s.material) for s in (random_spec(rng, held_out=True) for _ in range(50)))


def test_every_grammar_word_is_one_token_and_others_fall_apart():
    tokenizer = build_tokenizer(every_word(), LENGTH)
    assert [w for w in every_word() if len(tokenizer(w).input_ids) != 3] == []
    unknown = tokenizer("a spaceship of Prüfung 7 🦊").input_ids
    assert tokenizer.unk_token_id not in unknown[1:-1]
    assert token_ids(tokenizer, ["red brick", "", "red " * 99]).shape == (3, LENGTH)


def test_tokenizer_survives_saving(tmp_path):
    from transformers import CLIPTokenizer

    tokenizer = build_tokenizer(every_word(), LENGTH)
    tokenizer.save_pretrained(tmp_path)
    captions = [random_spec(random.Random(i)).caption for i in range(20)]
    assert torch.equal(token_ids(CLIPTokenizer.from_pretrained(tmp_path), captions), token_ids(tokenizer, captions))


def test_captions_fit_the_token_length():
    tokenizer, length = build_tokenizer(every_word(), 99), RECIPES["cpu"].text_length
    assert max(len(tokenizer(random_spec(random.Random(i)).caption).input_ids) for i in range(3000)) <= length


def test_codec_encodes_what_it_decodes_and_grey_is_zero(codec):
    z = torch.randn(2, 16, 4, 4)
    for refine in (True, False):
        assert (codec.encode(codec.decode(z, refine=refine).sample).latents - z).abs().max() < 1e-4
    assert codec.encode(torch.zeros(1, 3, 32, 32)).latents.abs().max() == 0


def test_codec_averages_images_as_it_averages_latents(codec):
    a, b = torch.rand(2, 1, 3, 32, 32)
    mixed = codec.encode(0.3 * a + 0.7 * b).latents
    assert torch.allclose(mixed, 0.3 * codec.encode(a).latents + 0.7 * codec.encode(b).latents, atol=1e-5)


def test_codec_survives_saving(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    z = torch.randn(1, 16, 4, 4)
    assert torch.equal(LinearPatchCodec.from_pretrained(tmp_path).decode(z).sample, codec.decode(z).sample)


def test_the_last_noise_level_has_no_signal():
    scheduler = build_scheduler()
    assert scheduler.alphas_cumprod[-1] == 0
    scheduler.set_timesteps(20)
    assert scheduler.timesteps[0] == 999


def test_windows_see_the_crop_of_the_whole_depth(tmp_path):
    recipe = RECIPES["smoke"]
    pool = Pool.create(tmp_path / "pool", 4, recipe.view_size)
    pool.depth[:] = np.random.default_rng(0).random(pool.depth.shape)
    ring = Ring.create(tmp_path / "full", 4, recipe.channels, recipe.latent, recipe.text_length)
    marks = pool.depth[:, 3::8, 3::8][:, None].repeat(recipe.channels, 1)      # latents that remember their place
    ring.append(marks, np.zeros((4, recipe.text_length)), np.arange(4), np.zeros(4))
    half = Ring.create(tmp_path / "half", 4, recipe.channels, recipe.latent // 2, recipe.text_length)
    batch = Batches(recipe, pool, ring, half).windows(8)
    assert batch.depth.shape == (8, 3, 32, 32) and batch.weight.mean() == pytest.approx(1, abs=1e-5)
    assert torch.equal(batch.depth[:, 0, 3::8, 3::8], batch.latents[:, 0])


def test_ring_overwrites_the_oldest(tmp_path):
    ring = Ring.create(tmp_path, 3, 1, 2, 4)
    for i in range(4):
        ring.append(np.full((1, 1, 2, 2), i), np.zeros((1, 4)), [i], [0])
    assert len(ring) == 3 and sorted(ring.arrays["view"]) == [1, 2, 3]
    assert Ring(tmp_path).written == 4


def test_depth_reaches_the_prediction():
    networks = build_networks(RECIPES["smoke"], 0)
    noisy, tokens = torch.randn(1, 8, 4, 4), token_ids(networks.tokenizer, ["red brick"])
    t = torch.tensor([500])
    near, far = (networks.velocity(noisy, t, tokens, torch.full((1, 3, 32, 32), d)) for d in (1.0, 0.1))
    assert not torch.allclose(near, far)


def test_colours_are_words_of_the_tokenizer():
    assert set(COLOURS) <= set(every_word())


def test_a_wider_vocabulary_starts_from_older_weights(tmp_path, monkeypatch):
    """Words that both know mean the same to the new networks: the same velocity, though their numbers differ."""
    recipe = RECIPES["smoke"]
    monkeypatch.setattr(networks, "every_word", lambda: ["brick", "red"])
    old = networks.build_networks(recipe, 1)
    for name, module in old.modules.items():
        module.save_pretrained(tmp_path / name)
    old.tokenizer.save_pretrained(tmp_path / "tokenizer")
    monkeypatch.setattr(networks, "every_word", lambda: ["apple", "brick", "red", "zebra"])
    new = networks.build_networks(recipe, 2)
    assert 0.9 < checkpoint.adopt(new, tmp_path) < 1
    noise, depth = torch.randn(1, recipe.channels, 4, 4), torch.rand(1, 3, 32, 32)
    found, expected = (nets.velocity(noise, torch.tensor([500]), token_ids(nets.tokenizer, ["red brick"]), depth)
                       for nets in (new, old))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    other = new.velocity(noise, torch.tensor([500]), token_ids(new.tokenizer, ["red zebra"]), depth)
    assert (other - expected).abs().max() > 1e-4


def test_a_model_remembers_the_runs_it_goes_back_to(tmp_path):
    first = dict(recipe="cpu", device="cpu", samples=1000, seconds=600.0, seed=1, loss=[[1, 0.5]])
    (tmp_path / "swatch.json").write_text(json.dumps(dict(training=first)))
    before = checkpoint.history(tmp_path)
    assert before == [dict(recipe="cpu", device="cpu", samples=1000, seconds=600.0, seed=1)]
    second = dict(recipe="gpu", device="cuda", samples=5000, seconds=3000.0, seed=2, before=before)
    (tmp_path / "swatch.json").write_text(json.dumps(dict(training=second)))
    assert [run["recipe"] for run in checkpoint.history(tmp_path)] == ["cpu", "gpu"]
    card = model_card(second)
    assert "1.0 hours" in card and "cpu, on cpu: 10 minutes, 1 thousand" in card and "gpu, on cuda: 50 minutes" in card
    assert "{{" not in card
