# SPDX-License-Identifier: Apache-2.0
"""The judge and the report: formulas against closed forms, verdicts by code, and the whole report at toy size."""

import copy
import dataclasses
import json
import random

import pytest
import torch

pytest.importorskip("diffusers")

from PIL import Image

from engine.models.patch_codec import LinearPatchCodec
from training import judge as judging
from training import measures, page, report, scores
from training.export import export, known_words
from training.judge import Judge, Schooling, colour_targets, known_captions
from training.networks import build_networks
from training.pictures import plain_text
from training.recipes import RECIPES
from training.words import COLOURS, MATERIALS, is_held_out, random_spec, spec_for

TOY = report.Size(shapes=4, views=0, prompts=1, seeds=2, subset=20, steps=1,
                  schooling=Schooling(views=4, iterations=2, batch=4, width=8))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def disc(radius, size=64, shift=0):
    line = torch.arange(size) - (size - 1) / 2
    return (((line[:, None] - shift) ** 2 + line[None] ** 2) < radius**2).float()[None, None]


# -- formulas ---------------------------------------------------------------------------------------------------------


def test_kernel_distance_of_two_points_each_is_what_the_formula_says():
    x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [-1.0, 1.0]])
    # k(a, b) = (a·b / 2 + 1)³: within x 1, within y 1, across (1.5³ + 1.5³ + 0.5³ + 1.5³) / 4
    assert measures.discrepancy(x, y) == pytest.approx(1 + 1 - 2 * (3 * 1.5**3 + 0.5**3) / 4)


def test_kernel_distance_is_nothing_between_equal_distributions_and_grows_with_a_shift():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 400, 16, generator=generator)
    same, deviation = measures.kernel_distance(first, second)
    assert abs(same) < 3 * deviation + 5
    near, far = (measures.kernel_distance(first, second + shift)[0] for shift in (0.5, 1.0))
    assert same < near < far


def test_figure_and_ground_are_counted_in_pixels():
    mask = disc(20)
    images = mask.expand(1, 3, -1, -1) * 0.8
    assert measures.figure_error(images, mask).item() < 0.002
    wrong = measures.figure_error(images, disc(20, shift=64)).item()
    assert wrong == pytest.approx((mask.mean() + disc(20, shift=64).mean()).item(), abs=0.02)
    assert measures.overlap(images, mask).item() > 0.9 > 0.1 > measures.overlap(images, disc(20, shift=64)).item()


def test_edges_follow_the_depth_they_were_drawn_from():
    depth = disc(18)[:, 0]
    images = depth[:, None].expand(-1, 3, -1, -1) * 0.7
    assert measures.edge_correlation(images, depth).item() > 0.99
    assert measures.edge_correlation(images, disc(8, shift=15)[:, 0]).item() < 0.3


def test_psnr_and_seams():
    truth, mask = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.5, torch.ones(2, 1, 64, 64)
    assert measures.decibels(truth + 0.2, truth, mask) == pytest.approx(20, abs=0.01)     # an error of 0.1 of the range
    assert measures.seams(truth, truth, mask, 8) == pytest.approx(1)
    blocks = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    blocks = blocks.repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert measures.seams(truth + blocks, truth, mask, 8) > 1.5


def test_shares_count_and_bound():
    found = measures.share([True] * 9 + [False])
    assert (found["right"], found["count"], found["share"]) == (9, 10, 0.9) and 0.1 < found["half"] < 0.25
    assert measures.share([]) is None
    order = measures.shuffled(7)
    assert sorted(order) == list(range(7)) and all(i != k for i, k in enumerate(order))


# -- judge and exam ---------------------------------------------------------------------------------------------------


def test_the_judge_sees_only_the_object():
    torch.manual_seed(0)
    judge, mask = Judge(["brick", "moss"], ["red", "blue"], 8).eval(), disc(20)
    image = torch.rand(1, 3, 64, 64)
    other = torch.where(mask > 0, image, -image)
    assert torch.equal(judge.features(image, mask), judge.features(other, mask))


def test_the_judge_survives_saving(tmp_path):
    torch.manual_seed(0)
    judge = Judge(["brick", "moss"], ["red", "blue"], 8).eval()
    judging.save(judge, dict(fingerprint="x"), tmp_path / "judge")
    again, facts = judging.load(tmp_path / "judge")
    image = torch.rand(1, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(judge(image, disc(20)), again(image, disc(20)), strict=True))
    assert facts == dict(fingerprint="x") and again.materials == ["brick", "moss"]
    assert sorted(p.suffix for p in (tmp_path / "judge").iterdir()) == [".json", ".safetensors"]
    assert judging.load(tmp_path / "none") is None


def test_both_named_colours_are_right():
    rng, names = random.Random(0), list(COLOURS)
    one, two = spec_for("plastic", "red", rng=rng), spec_for("checker", "red", "blue", rng=rng)
    none = spec_for("moss", rng=rng)
    rows = colour_targets([one, two, none], names)
    assert rows.sum(1).tolist() == [1, 1, 0] and rows[1, names.index("blue")] == 0.5


def exam_of(specs, unseen):
    count = len(specs)
    depth = disc(20, 32)[0].expand(count, -1, -1)
    blank = torch.zeros(count, 3, 32, 32)
    mask = depth[:, None]
    return scores.Exam(None, list(range(count)), specs, unseen, depth, mask, blank, blank, blank, mask)


def test_accuracy_is_counted_per_group():
    rng = random.Random(1)
    specs = [spec_for("brick", "red", rng=rng), spec_for("brick", "blue", layer="mossy", rng=rng),
             spec_for("checker", "red", "blue", rng=rng), spec_for("moss", rng=rng)]
    exam = exam_of(specs, [True, True, True, False])
    judge = Judge(["brick", "checker", "moss", "tiles"], ["red", "blue", "green"], 8)
    material = torch.tensor([[9.0, 0, 0, 1], [0, 9, 1, 8], [0, 9, 0, 0], [0, 0, 9, 0]])
    colour = torch.tensor([[9.0, 0, 0], [9, 0, 0], [1, 2, 0], [9, 9, 9]])
    reading = scores.Reading(material, colour, torch.zeros(4, 2))
    found = scores.adherence(judge, exam, dict(swatch=reading))["swatch"]
    right = {kind: {g: (f["right"], f["count"]) for g, f in groups.items()} for kind, groups in found.items()}
    assert right["material"] == dict(unseen=(2, 3), plain=(2, 2), worn=(0, 1), seen=(1, 1), among_three=(2, 3))
    assert right["colour"] == dict(unseen=(2, 3), plain=(2, 2), worn=(0, 1), one=(1, 2), both=(1, 1))


def test_the_exam_asks_only_known_words_and_held_out_pairs_where_there_are_any():
    words = known_words()
    few = [m for m in MATERIALS if MATERIALS[m].colours][:3] + [m for m in MATERIALS if not MATERIALS[m].colours][:1]
    words = words | dict(materials={m: words["materials"][m] for m in few})
    specs, unseen = scores.exam_specs(words, 2, random.Random(0))
    assert sorted(s.material for s in specs) == sorted(few * 2) and all(map(known_captions(words), specs))
    assert unseen == [is_held_out(s.first, s.material) for s in specs] and any(unseen)
    assert not known_captions(words | dict(colours={}))(spec_for(few[0], "red", "blue", rng=random.Random(0)))


def test_a_spec_without_wear_and_tone_is_plain():
    rng = random.Random(2)
    drawn = [random_spec(rng) for _ in range(200)]
    assert {scores.is_plain(s) for s in drawn} == {True, False}
    assert all(s.tone is None and s.layer is None for s in drawn if scores.is_plain(s))


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained model folder at toy size."""
    recipe, folder = RECIPES["smoke"], tmp_path_factory.mktemp("model") / "swatch"
    torch.manual_seed(0)
    codec = LinearPatchCodec(recipe.patch, recipe.channels, recipe.codec_hidden)
    facts = dict(recipe="smoke", seed=7, seconds=5.0, samples=12, device="cpu")
    export(build_networks(recipe, 0), codec, recipe, facts, folder)
    return folder


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return report.report(folder / "work", model, folder / "docs", size=TOY), folder


def test_the_whole_report(made):
    numbers, folder = made
    text, saved = (folder / "docs" / "swatch.md").read_text(), json.loads((folder / "docs" / "swatch.json").read_text())
    assert "$" not in text and "None" not in text and "nan" not in text
    assert len(saved["per_material"]) == len(MATERIALS) and saved["count"] == numbers["count"]
    pictures = sorted((folder / "docs" / "gallery").iterdir())
    assert [p.stem for p in pictures] == ["swatch-codec", "swatch-grid", "swatch-materials", "swatch-unknown"]
    for path in pictures:
        assert f"gallery/{path.name}" in text and path.stat().st_size <= 400_000
        with Image.open(path) as image:
            assert image.width <= 1600


def test_the_judge_is_kept_while_nothing_it_depends_on_changes(made, model):
    _, folder = made
    kept = folder / "work" / "judge" / "judge.safetensors"
    before = kept.stat().st_mtime_ns
    report.train_judge(folder / "work", model, TOY)
    assert kept.stat().st_mtime_ns == before
    longer = dataclasses.replace(TOY, schooling=dataclasses.replace(TOY.schooling, iterations=3))
    report.train_judge(folder / "work", model, longer)
    assert kept.stat().st_mtime_ns != before


def test_a_goal_is_met_or_missed_by_its_number(made):
    numbers = copy.deepcopy(made[0])
    for value, verdict in ((0.91, "met"), (0.89, "**missed**")):
        numbers["adherence"]["swatch"]["colour"]["unseen"]["share"] = value
        row = next(line for line in page.targets(numbers).splitlines() if line.startswith("| Colour, held-out pairs"))
        assert row.endswith(f"| {verdict} |"), row
    for value, met in ((0.019, True), (0.021, False)):
        numbers["depth"]["swatch"]["error"] = value
        assert next(row for row in page.goals(numbers) if row[0].startswith("Figure"))[4] is met


def test_what_works_is_said_by_the_numbers():
    rows = {name: dict(right=right, true_right=true, count=5, unseen=True, taken_for="moss")
            for name, right, true in (("brick", 4, 5), ("tiles", 0, 5), ("dots", 2, 5), ("fur", 0, 1))}
    good, some, bad, untold = page.abilities(rows).splitlines()
    assert "brick" in good and "dots" in some and "tiles" in bad and "fur" in untold


def test_characters_without_a_picture_are_named():
    assert plain_text("röd 🦊") == "röd [fox face]"
