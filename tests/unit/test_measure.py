# SPDX-License-Identifier: Apache-2.0
"""Every measure against a case made by hand, with the number that its definition in docs/metrics.md gives."""

from __future__ import annotations

import json
from math import cos, log10, pi
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from blender_addon.jobs.errors import ModelError
from blender_addon.jobs.folder import Camera
from blender_addon.jobs.rigs import build_rig, look_at
from engine.finish import finish
from engine.finish.agreement import agreement
from engine.measure.agreement import BEST, psnr, with_render
from engine.measure.bleed import backgrounds, count
from engine.measure.coverage import after_fill, black, left_black
from engine.measure.distance import kid, kid_spread
from engine.models import BUNDLED
from engine.measure.judge import RandomFeatures, named_in, reader
from engine.measure.seams import (LEVEL, chart_ratio, chart_step, find_seams, owner_ratio, ratio, seam_edges,
                                  smooth_ratio)  # fmt: skip
from engine.measure.sharpness import fine_band, fine_energy
from engine.measure.stage import BACKGROUND, apart, directions, held_out, stage_for
from engine.raster.texels import rasterize_uv
from engine.spaces.uv import UVTexture
from tests import shapes
from tests.painted import RASTERIZER, flat, mesh_of, rendered_views

SIZE = 128
STEP = 2 / (0.47 * SIZE)  # a wall two units wide takes 47 % of the texture: the world length of a texel


def two_charts():
    """A floor of 4 x 2 units in two squares: charts side by side, the right one turned by a quarter."""
    positions = [[-2, -1, 0], [0, -1, 0], [2, -1, 0], [-2, 1, 0], [0, 1, 0], [2, 1, 0]]
    triangles = [[0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4]]
    left, right = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]), np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    uvs = np.concatenate([left * 0.47 + [0.01, 0.25], right * 0.47 + [0.51, 0.25]])
    return mesh_of(shapes.shape(positions, triangles, uvs, [[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]]))


def painted(texels, colour):
    image = np.full((texels.size**2, 3), np.nan, np.float32)
    image[texels.index] = colour
    return image.reshape(texels.size, texels.size, 3)


def grey(values):
    return np.repeat(np.asarray(values, np.float32)[:, None], 3, 1)


@pytest.fixture(scope="module")
def floor():
    mesh = two_charts()
    texels = rasterize_uv(mesh, SIZE)
    return mesh, texels, find_seams(mesh, texels)


@pytest.mark.parametrize("jump", [0.0, 0.05, 0.3])
def test_seam_ratio_of_a_known_jump(floor, jump):
    """Along x colour rises by k per texel, and by J at the border. A1 and B1 are 2 texels apart, A2 2 from A1:
    (2k + J) / 2k in each channel alike, so the square roots of 3 cancel but for half a level above and below."""
    _, texels, seams = floor
    k = 0.004
    colour = 0.3 + k * texels.position[:, 0] / STEP + jump * (texels.triangle >= 2)
    expected = (3**0.5 * (2 * k + jump) + LEVEL) / (3**0.5 * 2 * k + LEVEL)
    assert len(seams.points) > 40
    assert chart_ratio(painted(texels, grey(colour)), seams) == pytest.approx(expected, rel=0.01)
    assert chart_step(painted(texels, grey(colour)), seams) == pytest.approx(3**0.5 * jump, abs=0.6 * k * 3**0.5)


def test_a_flat_texture_has_no_seams(floor):
    _, texels, seams = floor
    assert chart_ratio(painted(texels, grey(np.full(len(texels.index), 0.4))), seams) == 1.0


def test_seams_only_among_chosen_texels(floor):
    """A jump in one half of the border only: the other half alone shows none."""
    _, texels, seams = floor
    upper = texels.position[:, 1] > 0
    image = painted(texels, grey(0.3 + 0.004 * texels.position[:, 0] / STEP + 0.2 * (upper & (texels.triangle >= 2))))
    chosen = painted(texels, grey(~upper))[..., 0] == 1
    assert chart_ratio(image, seams, chosen) == pytest.approx(1, abs=0.01)
    assert chart_ratio(image, seams) > 6


def test_smooth_seams_are_those_without_a_bend(floor):
    """A floor has no bend; a box has 90 degrees at every border, where A1 and B1 are 0.71 of the way apart; on a torus
    of 32 by 16 faces borders bend by 11 and 23 degrees."""
    box, torus = (find_seams(mesh_of(one), rasterize_uv(mesh_of(one), 128)) for one in (shapes.cube(), shapes.torus()))
    assert floor[2].smooth.all() and len(box.smooth) > 100 and not box.smooth.any()
    assert len(torus.smooth) > 50 and torus.smooth.all()
    assert smooth_ratio(np.full((128, 128, 3), 0.4), box) is None


def test_seam_edges_are_where_uvs_part_and_only_there():
    assert len(seam_edges(two_charts())) == 1
    assert len(seam_edges(mesh_of(shapes.cube()))) == 12
    assert len(seam_edges(mesh_of(shapes.quad()))) == 0
    torus = mesh_of(shapes.torus(32, 16))  # one chart, cut once around and once across
    assert len(seam_edges(torus)) == 32 + 16


def test_a_texture_that_belongs_to_space_has_ratio_one():
    """On a curved surface of several charts, too: the ratio is about borders and not about shape."""
    mesh = mesh_of(shapes.torus(96, 48))
    texels = rasterize_uv(mesh, 256)
    wave = 0.5 + 0.2 * np.sin(4 * texels.position @ np.array([1.0, 0.7, -0.4])) * np.cos(3 * texels.position[:, 1])
    assert chart_ratio(painted(texels, grey(wave)), find_seams(mesh, texels)) == pytest.approx(1, abs=0.02)


def test_owner_ratio_of_a_known_jump(floor):
    """k per texel along x within a view's area, J more where the next view's begins: (k + J) / k at one texel."""
    _, texels, _ = floor
    k, jump = 0.004, 0.02
    right = (texels.position[:, 0] > -0.97).astype(np.int16)
    colour = grey(0.3 + k * texels.position[:, 0] / STEP + jump * right)
    expected = (3**0.5 * (k + jump) + LEVEL) / (3**0.5 * k + LEVEL)
    assert owner_ratio(colour, texels, right) == pytest.approx(expected, rel=0.01)
    assert owner_ratio(colour, texels, np.zeros_like(right)) is None, "one view has no borders"
    assert owner_ratio(colour, texels, np.where(right == 1, 1, -1)) is None, "unseen texels have no owner"


def test_ratio_needs_enough_places():
    lines = np.array([0.0, 0.1, 0.3, 0.4])[None, :, None]
    assert ratio(np.repeat(lines, 29, 0)) is None
    assert ratio(np.repeat(lines, 30, 0)) == pytest.approx((0.2 + LEVEL) / (0.1 + LEVEL))


@pytest.mark.parametrize("cycles", [0.0625, 0.125, 0.25])
def test_fine_band_has_the_transfer_it_claims(cycles):
    """1 - cos(pi f)^4 of a wave's amplitude; its energy is half the amplitude squared. Blurred once before, the wave is
    cos(pi f)^4 as high, and its energy cos(pi f)^8."""
    x = torch.arange(128.0)
    wave = (0.2 * torch.cos(2 * pi * cycles * x)).expand(1, 3, 128, 128)
    edge = np.zeros((1, 128, 128), np.float32)
    edge[:, 8:-8, 16:-16] = 9  # whole waves, away from the picture's own border
    sharp, blur = fine_energy(wave, edge), fine_energy(wave - fine_band(wave), edge)
    transfer = cos(pi * cycles) ** 4
    assert sharp == pytest.approx((0.2 * (1 - transfer)) ** 2 / 2, rel=0.02)
    assert blur / sharp == pytest.approx(transfer**2, rel=0.02)


def test_fine_energy_leaves_edges_out():
    """A step at column 32 reaches 2 pixels: nothing is left once 3 on either side are out."""
    views = torch.zeros(1, 3, 64, 64)
    views[..., 32:] = 1
    edge = np.abs(np.arange(64) - 31.5)[None, None].repeat(64, 1).astype(np.float32)
    assert fine_energy(views, edge) == pytest.approx(0, abs=1e-12) and fine_energy(views, edge + 9) > 1e-3
    assert fine_energy(views, 0 * edge) is None


def test_agreement_of_equal_and_of_shifted_views():
    """Two views that differ by 0.1 everywhere: 20 dB. Equal ones: the cap."""
    mesh = mesh_of(shapes.quad())
    cameras = [Camera(str(i), look_at(np.array([x, -5.0, 0]), np.zeros(3)), flat(1.5)) for i, x in enumerate((-1, 1))]
    space = UVTexture(mesh, cameras, RASTERIZER, 48, channels=3)
    views = torch.full((2, 3, 48, 48), 0.4)
    assert agreement(views, space.pairs) == 100
    views[1] += 0.1
    assert agreement(views, space.pairs) == pytest.approx(20, abs=0.01)


def test_render_agrees_with_its_own_texture():
    mesh = mesh_of(shapes.torus(48, 24))
    stage = stage_for(mesh, held_out(mesh.positions), RASTERIZER, 64)
    texels = rasterize_uv(mesh, 128)
    texture = np.nan_to_num(painted(texels, texels.position * 0.3 + 0.5), nan=0.5)
    views = stage.render(texture)
    assert with_render(views, texture, stage) == BEST
    assert with_render(views - 0.05, texture, stage) == pytest.approx(-20 * log10(0.05), abs=0.01)
    inside, outside = stage.mask[:, 0] > 0.999, stage.mask[:, 0] == 0
    assert (views.permute(0, 2, 3, 1)[outside] == BACKGROUND).all()
    assert 0.1 < float(inside.float().mean()) < 0.9 and stage.buffer.depth.shape == (8, 64, 64)
    assert torch.equal(stage.cut(views)[:, 0][outside], torch.full_like(views[:, 0][outside], BACKGROUND))


def test_rendering_a_fine_texture_filters_it():
    """A chequerboard of single texels, far finer than pixels, renders as its mean and not as noise."""
    mesh = mesh_of(shapes.quad())
    camera = [Camera("front", look_at(np.array([0.0, -5, 0]), np.zeros(3)), flat(1.5))]
    stage = stage_for(mesh, camera, RASTERIZER, 32)
    board = np.indices((1024, 1024)).sum(0)[..., None] % 2 * np.ones(3)
    inside = stage.render(board)[:, 0][stage.mask[:, 0] > 0.999]
    assert float((inside - 0.5).abs().max()) < 1e-3


@pytest.mark.parametrize("views", [1, 4, 6, 8, 10])
def test_held_out_views_are_not_in_the_rig(views):
    points = mesh_of(shapes.torus()).positions
    rig = build_rig("auto", views, points)
    shown = directions(held_out(points, rig))
    assert min(apart(a, b) for a in shown for b in directions(rig)) > 8
    assert [round(abs(rise)) for _, rise in shown] == [20] * 8 and {round(rise) for _, rise in shown} == {-20, 20}
    turns = np.sort([turn % 360 for turn, _ in shown])
    assert np.allclose(np.diff(turns), 45, atol=1e-6)
    assert np.allclose(np.sort([turn % 360 for turn, _ in directions(held_out(points))])[0], 22.5)


def test_kid_of_two_points():
    """All x equal a, all y equal b, d = 1: (a^2 + 1)^3 + (b^2 + 1)^3 - 2 (a b + 1)^3 = 8 + 125 - 2 * 27 = 79."""
    assert kid(np.full((5, 1), 1.0), np.full((7, 1), 2.0)) == pytest.approx(79)
    assert kid(np.ones((5, 3)), np.ones((9, 3))) == pytest.approx(0, abs=1e-9)
    assert kid(np.ones((3, 3)), np.ones((9, 3))) is None


def test_kid_of_the_same_distribution_is_zero_on_average():
    """Unbiased: over 100 draws its mean lies within 4 standard errors of 0; a shift of half a deviation is not."""
    random = np.random.default_rng(0)
    same = [kid(random.normal(size=(16, 8)), random.normal(size=(24, 8))) for _ in range(100)]
    moved = [kid(random.normal(size=(16, 8)), random.normal(0.5, 1, (24, 8))) for _ in range(100)]
    assert abs(np.mean(same)) < 4 * np.std(same) / 10 and min(same) < 0
    assert np.mean(moved) > 8 * np.std(moved) / 10
    assert 0 < kid_spread(random.normal(size=(16, 8)), random.normal(size=(24, 8))) < 10 * np.std(same)


def plane(count_=6400):
    """Red texels on a plane of 80 x 80, grey behind."""
    row, column = np.divmod(np.arange(count_), 80)
    position = np.stack([row, column, 0 * row], 1).astype(np.float32) / 40
    colour = np.repeat(np.float32([[0.8, 0.1, 0.1]]), count_, 0)
    return (
        position,
        np.repeat(np.float32([[0, 0, 1]]), count_, 0),
        colour,
        np.full((count_, 3), 0.5, np.float32),
        column,
    )


def test_bleed_counts_texels_like_the_background():
    """Every eighth texel of the column next to an edge is grey, 10 in 6400; none elsewhere: all of it is excess."""
    position, normal, colour, behind, column = plane()
    grey_ = (column == 79) & (np.arange(6400) // 80 % 8 == 0)
    colour[grey_] = 0.5
    found = count(colour, position, normal, behind, column >= 77, 8000)
    assert found.share == pytest.approx(10 / 8000) and found.excess == pytest.approx(10 / 8000)


def test_a_grey_pattern_is_no_bleeding():
    """One texel in 16 grey wherever it is: 400 look like background, none of them more often near the edge."""
    position, normal, colour, behind, column = plane()
    colour[(column % 4 == 3) & (np.arange(6400) // 80 % 4 == 0)] = 0.5
    found = count(colour, position, normal, behind, column >= 76, 6400)
    assert found.share == pytest.approx(1 / 16) and found.excess == pytest.approx(0, abs=1e-6)


def test_a_background_like_the_surface_says_nothing():
    position, normal, colour, behind, column = plane()
    found = count(colour * 0 + 0.52, position, normal, behind, column >= 77, 6400)
    assert found.share == found.excess == 0


def test_background_is_what_is_off_the_mesh():
    views, mask = torch.full((3, 3, 8, 8), 0.9), np.ones((3, 8, 8), bool)
    views[0, :, :2], mask[0, :2] = 0.25, False
    views[1, :, :2], mask[1, :2] = 0.75, False
    assert np.allclose(backgrounds(views, mask), [[0.25] * 3, [0.75] * 3, [0.5] * 3])


def test_black_is_unpainted_or_no_number():
    colours = np.float32([[0, 0, 0], [1 / 255] * 3, [0, 0, 3 / 255], [np.nan, 1, 1], [0.5] * 3])
    assert black(colours).tolist() == [True, True, False, True, False]


def test_what_a_view_painted_black_was_not_left_black():
    """Views black on the object's left half and red on its right: a hole in the red counts, the black half does not."""
    mesh = mesh_of(shapes.uv_sphere(32, 16))
    cameras = build_rig("auto", 6, mesh.positions)

    def colour(position):
        return np.where(position[..., :1] < 0, 0.0, [0.7, 0.1, 0.1])

    views = rendered_views(mesh, cameras, 96, colour)
    result = finish(views, mesh, cameras, RASTERIZER, 192)
    texels, image = result.texels, result.image
    job = SimpleNamespace(cameras=cameras)
    made = SimpleNamespace(mesh=mesh, views=views, job=job, rasterizer=RASTERIZER, texels=texels, baked=result.baked,
                           colour=image.reshape(-1, 3)[texels.index])  # fmt: skip
    dark = black(made.colour)
    assert dark[texels.position[:, 0] < -0.2].mean() > 0.99 and not dark[texels.position[:, 0] > 0.2].any()
    assert not left_black(image, made)[np.abs(texels.position[:, 0]) > 0.2].any()
    hole = np.linalg.norm(texels.position - [1, 0, 0], axis=1) < 0.3
    image.reshape(-1, 3)[texels.index[hole]] = 0
    assert (left_black(image, made) == hole)[np.abs(texels.position[:, 0]) > 0.2].all()
    assert after_fill(hole, made) < 1
    image.reshape(-1, 3)[texels.index[~hole]] = 0.5  # what is left is all seen
    assert np.array_equal(left_black(image, made), hole)


def test_psnr_is_capped():
    assert psnr(0.0) == BEST and psnr(0.01) == pytest.approx(20)


def test_random_features_see_colour_and_texture_but_no_background():
    sees, mask = RandomFeatures(), torch.zeros(2, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    red = torch.zeros(2, 3, 64, 64)
    red[:, 0] = 0.8
    other = red.clone()
    other[1, :, :8] = 1.0  # background only
    assert np.allclose(*sees.features(other, mask)), "what is off the object counts"
    noisy = red + 0.2 * torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert np.abs(sees.features(noisy, mask) - sees.features(red, mask)).max() > 0.01
    assert np.array_equal(RandomFeatures().features(red, mask), sees.features(red, mask))
    assert sees.adherence(sees.features(red, mask), "red brick", WORDS) == {}


WORDS = {"materials": {"brick": ["brick"], "gold": ["gold", "gold leaf"], "leather": ["leather"]},
         "colours": {"red": ["red"], "gold": ["gold"], "blue": ["blue"]}}  # fmt: skip


def test_the_judge_reads_what_the_recipe_saved(tmp_path):
    """The engine's copy of the network gives the recipe's own features and probabilities."""
    judging = pytest.importorskip("training.judge")
    torch.manual_seed(0)
    network = judging.Judge(["brick", "gold", "leather"], ["red", "gold", "blue"], 8).eval()
    for part in network.modules():  # as after training: every statistic counts
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    judging.save(network, {}, tmp_path / "judge")
    sees = reader(tmp_path / "judge")
    images, mask = torch.rand(3, 3, 64, 64), torch.ones(3, 1, 64, 64)
    mask[..., :20] = 0
    with torch.no_grad():
        theirs = network.features(images * 2 - 1, mask)
        material = network.material(theirs).softmax(1)
    ours = sees.features(images, mask)
    assert np.allclose(ours, theirs.numpy(), atol=1e-5)
    assert sees.adherence(ours, "red, worn brick", WORDS)["material"] == pytest.approx(
        float(material[:, 0].mean()), abs=1e-5
    )
    assert set(sees.adherence(ours, "red", WORDS)) == {"colour"}
    assert sees.adherence(ours, "nothing it knows", WORDS) == sees.adherence(ours, "red brick", None) == {}


def test_prompts_are_read_by_their_longest_phrases():
    assert named_in("Gold leaf, blue", WORDS["materials"]) == ["gold"] and named_in("bricks", WORDS["materials"]) == []
    assert set(named_in("red and blue brick", WORDS["colours"])) == {"red", "blue"}
    open_places = {"marble": ["{1} marble with {2} veins"], "wood": ["{1} wood", "wood, {1}"], "planks": ["{1} wood planks"]}
    assert named_in("white marble with black veins", open_places) == ["marble"]
    assert named_in("white marble", open_places) == [] and named_in("polished wood, brown", open_places) == ["wood"]
    assert named_in("brown wood planks", open_places) == ["planks"]
    swatch = load_words()
    assert named_in("mossy grey brick", swatch["materials"]) == ["brick"], "the bundled model's own words have open places"


def test_clip_from_a_folder(tmp_path):
    """A tiny random CLIP in the published layout: adherence is 100 cos of the embeddings transformers gives."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    from tests.tiny_models import tokenizer

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    words = tokenizer()
    text = CLIPTextConfig(vocab_size=len(words), max_position_embeddings=12, eos_token_id=words.eos_token_id, **small)
    vision = CLIPVisionConfig(image_size=32, patch_size=8, **small)
    model = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)).eval()
    model.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    sees = reader(tmp_path)
    images, mask = torch.rand(2, 3, 48, 48), torch.ones(2, 1, 48, 48)
    mask[..., :10] = 0
    features = sees.features(images, mask)
    score = sees.adherence(features, "red brick wall")["clip"]
    assert features.shape == (2, 8) and -100 <= score <= 100
    assert sees.adherence(features, "old gold")["clip"] != score
    with torch.no_grad():
        tokens = words(["red brick wall"], return_tensors="pt")
        found = model.text_model(**tokens).pooler_output
        embedded = torch.nn.functional.normalize(model.text_projection(found), dim=1)[0]
    own = torch.nn.functional.normalize(torch.from_numpy(features), dim=1)
    assert score == pytest.approx(float(100 * (own @ embedded).mean()), abs=1e-3)
    images[..., :10] = 0.123  # off the object
    assert np.allclose(sees.features(images, mask), features, atol=1e-5)


def test_a_folder_without_a_reader_is_refused(tmp_path):
    with pytest.raises(ModelError, match="neither a judge"):
        reader(tmp_path)
    (tmp_path / "judge.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be read"):
        reader(tmp_path)
    (tmp_path / "judge.json").unlink()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="CLIP"):
        reader(tmp_path)


def load_words():
    return json.loads((BUNDLED["swatch"] / "swatch.json").read_text(encoding="utf-8"))["words"]
