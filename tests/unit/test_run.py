# SPDX-License-Identifier: Apache-2.0
"""One whole job through the engine, with a tiny random model in Stable Diffusion's layout: every border, no hub."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from blender_addon.jobs.errors import Cancelled, JobError, MeshError, ModelError, SettingsError, UserError
from blender_addon.jobs.events import PHASES, Tailer
from blender_addon.jobs.folder import OWNER_FILE, Job, MeshArrays, new_job_id, read_result, write_job
from blender_addon.jobs.rigs import build_rig
from blender_addon.jobs.settings import CASES, resolve
from engine.progress import Progress, bar_sink, file_sink
from engine.prompts import view_prompts
from engine.run import run_job
from engine.serve import finish_job
from engine.warm import Models
from tests.shapes import icosphere
from tests.tiny_models import SWATCH_SCHEDULER, write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny model é"), SWATCH_SCHEDULER)


@pytest.fixture(scope="module")
def models():
    return Models()


def sphere_job(model, **settings) -> Job:
    shape = icosphere(2)
    given = {"prompt": "red brick", "model": str(model), "views": 4, "steps": 3, "texture_size": 64, "view_size": 64,
             "device": "cpu", "seed": 5, **settings}  # fmt: skip
    positions = np.asarray(shape.positions, np.float32)
    mesh = MeshArrays(positions, shape.triangles, shape.uvs, shape.triangle_uvs, None, None, None)
    cameras = build_rig("auto", given["views"], positions)
    return Job(new_job_id(), resolve(given), mesh, cameras, [{"name": "Ball"}], {})


def run(folder, models, stop=lambda: False):
    return run_job(folder, Progress([file_sink(folder / "events.jsonl")], stop), models)


def pixels(folder, name="out/texture.png"):
    with Image.open(folder / name) as image:
        return np.asarray(image).copy()


def test_a_job_leaves_a_whole_result(tmp_path, model, models):
    folder = write_job(tmp_path, sphere_job(model, contact_sheet=True, views=6))
    result = run(folder, models)
    assert read_result(folder)["images"] == result["images"] == {
        "base_color": "out/texture.png", "contact": "out/contact.png"}  # fmt: skip
    with Image.open(folder / "out" / "texture.png") as texture:
        assert texture.size == (64, 64) and texture.mode == "RGB"
        assert texture.text["Tweed prompt"] == "red brick" and texture.text["Tweed seed"] == "5"
    assert pixels(folder).std() > 5, "an even texture came out of a random model"
    report = result["report"]
    assert set(report["seconds"]) == set(PHASES)
    assert 0.8 < report["coverage"] <= 1 and report["agreement_db"] > 10
    assert report["seed"] == 5 and report["versions"]["torch"] and report["model"]["fingerprint"]
    events = Tailer(folder / "events.jsonl").poll()
    assert [e["phase"] for e in events if e["ev"] == "phase"] == list(PHASES)
    steps = [e for e in events if e["ev"] == "step"]
    assert [(e["i"], e["n"]) for e in steps] == [(6, 18), (12, 18), (18, 18)] and all(e["eta_s"] >= 0 for e in steps)


def test_the_same_job_gives_the_same_bytes_and_another_seed_does_not(tmp_path, model, models):
    made = []
    for number, seed in enumerate((5, 5, 6)):
        folder = write_job(tmp_path / str(number), sphere_job(model, seed=seed))
        run(folder, models)
        made.append(pixels(folder))
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


@pytest.mark.parametrize("case", CASES)
def test_every_case_makes_a_texture(tmp_path, model, models, case):
    folder = write_job(tmp_path, sphere_job(model, case=case))
    run(folder, models)
    assert pixels(folder).shape == (64, 64, 3) and pixels(folder).std() > 5


def test_previews_come_as_often_as_asked(tmp_path, model, models):
    folder = write_job(tmp_path, sphere_job(model, views=6, steps=5, preview_every=2))
    run(folder, models)
    previews = [e for e in Tailer(folder / "events.jsonl").poll() if e["ev"] == "preview"]
    assert [e["i"] for e in previews] == [12, 24]
    assert pixels(folder, "preview.png").shape == (2 * 128, 3 * 128, 3)


@pytest.mark.parametrize("phase", PHASES)
def test_cancel_is_heard_in_every_phase_and_leaves_no_texture(tmp_path, model, models, phase):
    folder = write_job(tmp_path, sphere_job(model))
    reached = []

    def sink(event, fields):
        if event == "phase":
            reached.append(fields["phase"])

    progress = Progress([sink], lambda: phase in reached)
    assert finish_job(folder, lambda: run_job(folder, progress, models)) == "cancelled"
    assert reached[-1] == phase
    result = read_result(folder)
    assert result["status"] == "cancelled" and result["images"] == {}


def test_a_job_that_cannot_run_says_why_in_its_folder(tmp_path, models):
    folder = write_job(tmp_path, sphere_job("no/such model here"))
    assert finish_job(folder, lambda: run(folder, models)) == "failed"
    error = read_result(folder)["error"]
    assert error["code"] == "model" and "no/such model here" in error["message"] and error["action"]
    assert Tailer(folder / "events.jsonl").poll()[-1]["ev"] == "failed"


def test_a_fault_of_our_own_is_reported_as_one(tmp_path, model):
    folder = write_job(tmp_path, sphere_job(model))

    def broken():
        raise ZeroDivisionError("by design of this test")

    assert finish_job(folder, broken) == "failed"
    error = read_result(folder)["error"]
    assert error["code"] == "engine" and "ZeroDivisionError" in error["message"] and "Traceback" in error["traceback"]


def test_damaged_jobs_are_refused_by_name(tmp_path, model, models):
    folder = write_job(tmp_path, sphere_job(model))
    (folder / "mesh.npz").write_bytes((folder / "mesh.npz").read_bytes()[:100])
    with pytest.raises(JobError, match=r"mesh\.npz"):
        run(folder, models)
    (folder / "job.json").write_text(json.dumps({"proto": 1}))
    with pytest.raises(UserError, match=r"job\.json"):
        run(folder, models)


@pytest.mark.parametrize(("harm", "error", "words"), [
    (lambda m: m.positions.__setitem__(3, np.nan), MeshError, "NaN"),
    (lambda m: m.uvs.__imul__(2.5), MeshError, "across the border of the 0-1 square"),
])  # fmt: skip
def test_bad_meshes_are_refused_in_words(tmp_path, model, models, harm, error, words):
    job = sphere_job(model)
    harm(job.mesh)
    with pytest.raises(error, match=words):
        run(write_job(tmp_path, job), models)


def test_udim_tiles_become_a_file_each(tmp_path, model, models):
    job = sphere_job(model, contact_sheet=True, save_views=True)
    right = job.mesh.positions[job.mesh.triangles].mean(1)[:, 0] > 0
    uvs = job.mesh.uvs[job.mesh.triangle_uvs] + np.where(right[:, None, None], np.float32([1, 0]), np.float32([0, 0]))
    mesh = replace(job.mesh, uvs=uvs.reshape(-1, 2), triangle_uvs=np.arange(uvs.size // 2, dtype=np.int32).reshape(-1, 3))
    folder = write_job(tmp_path, replace(job, mesh=mesh))
    images = run(folder, models)["images"]
    assert images["base_color"] == images["base_color.1001"] == "out/base_color.1001.png"
    assert images["base_color.1002"] == "out/base_color.1002.png"
    one, other = (pixels(folder, f"out/base_color.{tile}.png") for tile in (1001, 1002))
    assert one.shape == other.shape == (64, 64, 3) and not np.array_equal(one, other) and one.std() > 3 < other.std()
    assert (folder / images["contact"]).is_file() and (folder / images["ownership"]).is_file()


def test_only_the_chosen_slots_are_painted(tmp_path, model, models):
    job = sphere_job(model)
    slots = (job.mesh.positions[job.mesh.triangles].mean(1)[:, 2] > 0).astype(np.int32)
    mesh = replace(job.mesh, objects=np.zeros(len(slots), np.int32), materials=slots)
    whole = write_job(tmp_path / "whole", replace(job, mesh=mesh))
    run(whole, models)
    half = write_job(tmp_path / "half", replace(job, mesh=mesh, objects=[{"name": "Ball", "slots": [0, 1], "paint": [1]}]))
    assert run(half, models)["images"]["base_color"] == "out/texture.png"
    uv = mesh.uvs[mesh.triangle_uvs].mean(1)
    row, column = ((1 - uv[:, 1]) * 64).astype(int), (uv[:, 0] * 64).astype(int)
    a, b = pixels(whole)[row, column].astype(float), pixels(half)[row, column].astype(float)
    away = np.abs(a - b).max(1)
    assert np.median(away[slots == 1]) < np.median(away[slots == 0])  # the other half is padding now
    bad = write_job(tmp_path / "bad", replace(job, mesh=mesh, objects=[{"paint": "all"}]))
    with pytest.raises(JobError, match="slots"):
        run(bad, models)


def test_sixteen_bits_are_kept(tmp_path, model, models):
    from engine.pictures import read_picture

    folder = write_job(tmp_path, sphere_job(model, texture_depth=16))
    run(folder, models)
    deep = read_picture(folder / "out" / "texture.png")
    assert deep.dtype == np.uint16 and deep.shape == (64, 64, 3) and len(np.unique(deep % 257)) > 100
    plain = write_job(tmp_path, sphere_job(model))
    run(plain, models)
    assert np.abs(deep / 257 - pixels(plain)).max() <= 0.51


def test_the_detail_pass_paints_larger_views_and_is_counted(tmp_path, model, models):
    folder = write_job(tmp_path, sphere_job(model, detail="2x", detail_strength=0.4, steps=5, save_views=True))
    result = run(folder, models)
    assert pixels(folder, result["images"]["view-00-front"]).shape == (128, 128, 3)
    assert result["report"]["view_denoisings"] == result["report"]["view_denoisings_foreseen"] == 4 * (5 + 2)
    with pytest.raises(SettingsError, match="detail"):
        run(write_job(tmp_path, sphere_job(model, detail="2x", view_size=2048)), models)


def test_a_warm_model_is_used_again_and_given_back(model):
    import torch

    kept = Models()
    first = kept.get(str(model), torch.device("cpu"))
    assert kept.get(str(model), torch.device("cpu")) is first
    kept.unload()
    assert not kept
    with pytest.raises(ModelError):
        kept.get("nowhere/at all/", torch.device("cpu"))


def test_views_say_what_side_they_see_to_models_that_know_such_words():
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    cameras = build_rig("auto", 8, corners)
    prompts, avoids = view_prompts(cameras, {"prompt": "gold", "avoid": "rust"}, directions=True)
    assert {"gold, front view", "gold, side view", "gold, back view", "gold, top view"} <= set(prompts)
    assert avoids == ["rust"] * 8
    assert view_prompts(cameras, {"prompt": "gold", "avoid": ""}, directions=False)[0] == ["gold"] * 8


def test_the_bar_writes_plain_lines_into_a_log(tmp_path, model, models, capsys):
    import io

    stream = io.StringIO()
    folder = write_job(tmp_path, sphere_job(model, views=6))
    run_job(folder, Progress([bar_sink(stream)]), models)
    text = stream.getvalue()
    assert "Denoising all views together 18/18" in text and "\r" not in text


def test_stopping_raises_cancelled():
    progress = Progress([], lambda: True)
    with pytest.raises(Cancelled), progress.phase("load"):
        pytest.fail("a cancelled job went on")


def test_a_job_says_which_view_painted_each_texel(tmp_path, model, models):
    """The map is the owners that the maps of `save_views` show, one number per texel; also of a changed texture."""
    folder = write_job(tmp_path, sphere_job(model, save_views=True))
    run(folder, models)
    owner, shown = pixels(folder, OWNER_FILE), pixels(folder, "out/maps/ownership.png")
    seen = (pixels(folder, "out/maps/coverage.png") == 255).all(2)
    assert owner.shape == (64, 64) and set(np.unique(owner)) <= {0, 1, 2, 3, 4} and seen.any()
    assert np.array_equal(owner > 0, seen)
    colours = [np.unique(shown[owner == number], axis=0) for number in np.unique(owner[owner > 0])]
    assert all(len(colour) == 1 for colour in colours) and len(np.unique(np.concatenate(colours), axis=0)) == len(colours)
    picture = (folder / "out/texture.png").read_bytes()
    again = write_job(tmp_path, sphere_job(model, start="texture"), {"base_color": picture})
    run(again, models)
    assert np.array_equal(pixels(again, OWNER_FILE), owner), "the same cameras, the same mesh"
    assert 0.1 < read_result(again)["report"]["memory_gb"]["main"] < 50
