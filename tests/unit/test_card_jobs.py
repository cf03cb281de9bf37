# SPDX-License-Identifier: Apache-2.0
"""Whole jobs on a pretended card: every method and family paints the texture that it paints on the processor, mixes no
two devices on the way, and moves nothing between the two memories from step to step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blender_addon.jobs.errors import OutOfMemory
from blender_addon.jobs.folder import Job, MeshArrays, new_job_id, write_job
from blender_addon.jobs.rigs import views_of
from blender_addon.jobs.settings import resolve
from engine.memory import state_device
from engine.progress import Progress
from engine.run import run_job
from engine.spaces.uv import UVTexture
from engine.warm import Models
from tests.card_models import Shelf
from tests.painted import RASTERIZER, mesh_of, painted_views, seen_by
from tests.pretend_card import CARD, GIB, pretended_card
from tests.shapes import icosphere

CPU = torch.device("cpu")
STEPS = 3
PARALLEL = {"rig": "box", "lens": "parallel", "views": 6}
CHANGES = {"start": "texture", "region": "faces"}
EDIT = {"method": "edit", "region": "faces"}
DISTILLED = {"method": "distilled", "iterations": 4, "distill_views": 2}
# name -> (model of the shelf, settings, how far a colour of the views may be from the processor's). Rounding differs,
# since sums are taken in another order; where a result feeds many steps, or is divided by little, it grows.
JOBS = {
    **{case: ("sd15", {"case": case, "eta": 0.5, "sync_until": 0.7}, 1e-4) for case in (
        "instance-eps", "instance-xt", "canonical-xt")},
    "tiny autoencoder, lcm": ("taesd", {"schedule": "lcm", "sampler": "lcm"}, 1e-4),
    "bands": ("sd15", {"blend": "bands", "sampler": "dpm++2m"}, 1e-4),
    "pixels": ("linear", {"agree_start": 0.5, "preserve_variance": True, "noise": "independent"}, 1e-4),
    "v prediction, ranges": ("sd21", {"guidance_rescale": 0.7, "guidance_end": 0.6, "control_end": 0.6}, 1e-4),
    "depth, from a texture": ("depth", {**CHANGES, "case": "canonical-x0", "strength": 0.9}, 1e-3),
    "instruction": ("edit", EDIT, 1e-4),
    "instruction, view by view": ("edit", {**EDIT, "edit_update": "dataset", "edit_rounds": 1}, 1e-4),
    "xl, views look at views": ("xl", {"view_attention": "neighbours+reference", "view_batch": 2}, 1e-4),
    "union": ("xl union", {"control": "depth, canny:0.5, normal"}, 1e-4),
    "multiview": ("xl deep", {"multiview": "*", "view_attention": "neighbours", **PARALLEL, "steps": 2}, 1e-4),
    "sd3": ("sd3", {}, 1e-4),
    "sd3, style": ("sd3 plain", {"style_image": "*"}, 1e-4),
    "flux": ("flux", {"control": "depth, canny"}, 1e-4),
    "flux, style, reuse": ("flux plain", {"style_image": "*", "reuse": 0.2}, 1e-4),
    "schnell": ("schnell", {}, 1e-4),
    "lora, style, tiny decoder, late as pixels": (
        "sd15", {"lora": "*", "style_image": "*", "preview_vae": "*", "preview_every": 1, "pixel_steps": 1}, 1e-4),
    "one after another": ("linear", {"method": "iterative", "sampler": "euler-ancestral", **CHANGES}, 1e-4),
    "one after another, updated": (
        "sd15", {"method": "iterative", "iterative_style": "text2tex", "iterative_order": "heat", "steps": 2,
                 "update_views": 0}, 1e-3),
    "distilled": ("linear", {**DISTILLED, "objective": "carried"}, 1e-4),
    "distilled, adam": (
        "sd15", {**DISTILLED, "objective": "ism", "inversion_steps": 1, "iterations": 2, **CHANGES}, 1e-3),
    "detail": ("sd15", {"detail": "2x", "steps": 2, "detail_strength": 0.5, "views": 2}, 1e-3),
    "in turns": ("sd15", {"memory": "offload", "preview_every": 1, "style_image": "*"}, 1e-4),
    "xl in turns": ("xl", {"memory": "offload"}, 1e-4),
    "flux in turns": ("flux joined", {"memory": "offload"}, 1e-4),
    "distilled in turns": ("linear", {**DISTILLED, "objective": "sds", "memory": "offload"}, 1e-4),
}  # fmt: skip
# What a step draws is drawn by the processor, so that a seed means the same everywhere, and moved: the steps of these
# jobs move the noise, and nothing else. FirstBlockCache asks in each step how much the first block changed.
NOISY = {"eta", "sampler"}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return Shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(autouse=True)
def no_waiting_for_others(monkeypatch):
    """Other tests beside this one may pretend the same card; jobs on it would take turns."""
    monkeypatch.setattr("engine.opening.card", lambda device: "")


def job_of(shelf, model, settings, device) -> tuple[Job, dict[str, bytes]]:
    """A job of a ball, with a texture to start from where it needs one. "*" in a setting: what the shelf has."""
    filled = {
        "style_image": lambda: {"style_image": str(shelf.picture), "style_adapter": str(shelf.style(model))},
        "multiview": lambda: {"multiview": str(shelf.multiview)},
        "lora": lambda: {"lora": f"{shelf.lora}:0.8"},
        "preview_vae": lambda: {"preview_vae": str(shelf.tiny_vae)},
    }
    found = {key: value for key, value in settings.items() if value != "*"}
    for key in settings.keys() - found.keys():
        found |= filled[key]()
    path = shelf.model(model)
    bare = "" if model in ("depth", "edit") or any(path.glob("controlnet*")) else "+none"
    given = resolve({"prompt": "red brick", "model": f"{path}{bare}", "views": 3, "steps": STEPS, "texture_size": 64,
                     "view_size": 64, "seed": 5, "precision": "float32", "device": device, **found})  # fmt: skip
    shape = icosphere(2)
    positions = np.asarray(shape.positions, np.float32)
    above = positions[shape.triangles].mean(1)[:, 2] > 0
    region = np.repeat(above[:, None], 3, 1).astype(np.float32) if given["region"] == "faces" else None
    mesh = MeshArrays(positions, shape.triangles, shape.uvs, shape.triangle_uvs, region=region)
    starts = given["start"] == "texture" or given["method"] == "edit"
    inputs = {"base_color": shelf.picture.read_bytes()} if starts else {}
    return Job(new_job_id(), given, mesh, views_of(given, positions), [{"name": "Ball"}], {}), inputs


def run(folder, job, inputs, *sinks):
    """What the job made, and its report."""
    kept = []
    return kept, run_job(write_job(folder, job, inputs), Progress(list(sinks)), Models(), kept.append)["report"]


@pytest.mark.parametrize("name", JOBS)
def test_a_job_on_the_card_paints_what_it_paints_on_the_processor(name, shelf, tmp_path):
    model, settings, apart = JOBS[name]
    (there,), _ = run(tmp_path, *job_of(shelf, model, settings, "cpu"))
    told = []
    with pretended_card() as card:
        (found,), report = run(tmp_path, *job_of(shelf, model, settings, "cuda"),
                               lambda event, fields: told.append((event, len(card.moves))))  # fmt: skip
    assert report["device"] == "Pretended card, 24 GB" and "card" in report["memory_gb"]
    assert there.views.std() > 0.01 and (found.views - there.views).abs().max() < apart
    assert np.abs(found.texture - there.texture).max() < apart + 1 / 255
    assert any(move.kind == "to card" for move in card.moves)
    together = settings.get("method", "synchronized") == "synchronized"
    if together and not {"detail", "memory", "preview_every"} & settings.keys():
        marks = [moves for event, moves in told if event == "step"]
        between = card.moves[marks[0] : marks[-1]]
        places = {move.where.partition(":")[0] for move in between}
        drawn = {"engine/spaces/uv/__init__.py", "engine/spaces/around.py"} if NOISY & settings.keys() else set()
        asked = {"engine/models/flux.py"} if "reuse" in settings else set()
        assert len(marks) > 1 and places <= drawn | asked, between


@pytest.mark.parametrize(("model", "precision"), [
    ("sd15", "auto"), ("linear", "auto"), ("sd3", "auto"), ("flux", "auto"), ("xl", "float8"), ("flux joined", "float8"),
])  # fmt: skip
def test_number_formats_of_a_card_meet_nowhere(model, precision, shelf, tmp_path):
    """float16 in U-Nets, bfloat16 in transformers, with weights in them or in float8."""
    settings = {"precision": precision, "steps": 2, "views": 2, **({"pixel_steps": 1} if model == "sd15" else {})}
    with pretended_card():
        (found,), report = run(tmp_path, *job_of(shelf, model, settings, "cuda"))
    assert report["model"]["dtype"] == ("bfloat16" if model in ("sd3", "flux", "flux joined") else "float16")
    assert torch.isfinite(found.views).all() and found.views.std() > 0.01


def test_a_card_that_fills_up_goes_on_with_half_the_views_and_says_so(shelf, tmp_path):
    """The widest tensor of the U-Net is the gated feed-forward of its first level, 2 * 4 * 16 channels at 8 x 8 cells;
    8 views, twice for guidance, need 8 * 2 * 128 * 64 * 4 bytes at once, 4 of them half of that. Where not even those
    fit, there is a remedy."""
    settings = {"views": 8, "steps": 2, "preview_every": 100}
    (there,), _ = run(tmp_path, *job_of(shelf, "sd15", settings, "cpu"))
    whole, warned = 8 * 2 * 128 * 64 * 4, []

    def tight(room):
        card.crowded = "engine/models/"

        def sink(event, fields):
            if event == "phase":
                card.room = room if fields["phase"] == "denoise" else None
            if event == "warning":
                warned.append(fields["message"])
        return sink

    with pretended_card() as card:
        (found,), _ = run(tmp_path, *job_of(shelf, "sd15", settings, "cuda"), tight(whole - 1))
    assert any("8 views at once; going on with 4" in message for message in warned), warned
    assert (found.views - there.views).abs().max() < 1e-4
    with pretended_card() as card, pytest.raises(OutOfMemory, match="Pretended card") as caught:
        run(tmp_path, *job_of(shelf, "sd15", settings, "cuda"), tight(whole // 4))
    assert "fewer views" in caught.value.action
    with pretended_card() as card, pytest.raises(OutOfMemory, match="Painting the views"):
        sink = tight(1000)
        card.crowded = "engine/spaces/"  # between two calls of the networks
        run(tmp_path, *job_of(shelf, "sd15", settings, "cuda"), sink)


def test_view_by_view_and_tile_by_tile(shelf, tmp_path, monkeypatch):
    """With nothing free, one view goes through the networks at a time, and its picture is decoded in tiles."""
    for module in ("bound", "codec"):
        monkeypatch.setattr(f"engine.models.{module}.free_memory", lambda device: 0)
    settings = {"pixel_steps": 1, "preview_every": 1}
    (there,), _ = run(tmp_path, *job_of(shelf, "sd15", settings, "cpu"))
    with pretended_card():
        (found,), _ = run(tmp_path, *job_of(shelf, "sd15", settings, "cuda"))
    assert (found.views - there.views).abs().max() < 1e-4


def test_where_the_state_lives():
    """160 bytes for each of 8 * 1024^2 pixels are 1.25 GB: a quarter of 5 GB."""
    with pretended_card() as card:
        card.free = 5 * GIB
        assert state_device(CARD, 8, 1024) == CARD
        assert state_device(CARD, 8, 1024, turns=True) == CPU  # it is short of memory
        card.free -= 1
        assert state_device(CARD, 8, 1024) == CPU
    assert state_device(torch.device("mps"), 1, 64) == state_device(CPU, 1, 64) == CPU


def test_a_card_too_small_for_the_state_leaves_it_in_main_memory(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.memory.PIXEL", 2**40)
    moved = []
    with pretended_card() as card:
        (found,), _ = run(tmp_path, *job_of(shelf, "sd15", {}, "cuda"),
                          lambda event, fields: moved.append(len(card.moves)) if event == "step" else None)  # fmt: skip
    assert [b - a for a, b in zip(moved, moved[1:], strict=False)] == [2] * (STEPS - 1)  # latents over and back
    monkeypatch.undo()
    (there,), _ = run(tmp_path, *job_of(shelf, "sd15", {}, "cpu"))
    assert (found.views - there.views).abs().max() < 1e-4


# ---- the maps


@pytest.fixture(scope="module")
def cameras():
    return views_of(resolve({"prompt": "x", "views": 5}), icosphere(3).positions)


def spaces(cameras):
    mesh = mesh_of(icosphere(3))
    return (UVTexture(mesh, cameras, RASTERIZER, 48, channels=3, device=device) for device in (CPU, CARD))


@pytest.mark.parametrize("power", [0.0, 1.0, 9.0, 128.0])
def test_maps_on_the_card_are_those_of_main_memory(cameras, power):
    with pretended_card() as card:
        here, there = spaces(cameras)
        views = painted_views(seen_by(here, mesh_of(icosphere(3)), cameras))
        seen = views.to(CARD)
        for space in (here, there, some := here.only([3, 1]), few := there.only([3, 1])):
            space.sharpen(power)
        for one, other, a, b in ((here, there, views, seen), (some, few, views[[3, 1]], seen[[3, 1]])):
            for found, expected in (*zip(other.unproject(b), one.unproject(a), strict=True), (other.mask, one.mask),
                                    (other.sync(b), one.sync(a)), (other.facing(), one.facing())):  # fmt: skip
                assert found.device == CARD
                torch.testing.assert_close(found.cpu(), expected, rtol=2e-4, atol=1e-5)
        z = here.merge(views)
        torch.testing.assert_close(there.project(z.to(CARD)).cpu(), here.project(z), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(there.backproject(seen).cpu(), here.backproject(views), rtol=1e-5, atol=1e-5)
        noise = [space.project_noise(torch.Generator().manual_seed(3)).cpu() for space in (here, there)]
        assert torch.equal(*noise), "a seed means the same noise to the last bit"
        for change in (2.0, 5.0, 128.0, 2.0):  # once they are there, a new sharpness moves nothing
            moves = len(card.moves)
            there.sharpen(change)
            there.sync(seen)
            assert len(card.moves) == moves


def test_a_space_that_nothing_sees_is_empty_on_the_card_too(cameras):
    shape = icosphere(1)
    far = shape._replace(positions=np.asarray(shape.positions) + [0, 900, 900])
    with pretended_card():
        space = UVTexture(mesh_of(far), cameras[:1], RASTERIZER, 16, channels=3, device=CARD)
        z, weight = space.unproject(torch.ones(1, 3, 16, 16, device=CARD))
        assert not space.mask.any() and not z.any() and not weight.any() and not space.project(z + 1).any()
