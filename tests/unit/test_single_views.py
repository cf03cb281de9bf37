# SPDX-License-Identifier: Apache-2.0
"""Views left out and views with words of their own, from the command line to the model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from blender_addon.jobs.settings import resolve
from engine.__main__ import main
from engine.progress import Progress
from engine.run import run_job
from engine.texture import job_from_file
from engine.warm import Models
from tests.tiny_models import SWATCH_SCHEDULER, write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), SWATCH_SCHEDULER)


@pytest.fixture
def ball(tmp_path):
    path = tmp_path / "ball.obj"
    trimesh.creation.icosphere(2).export(path)
    return path


SMALL = {"prompt": "brick", "steps": 2, "texture_size": 64, "view_size": 64, "device": "cpu", "rig": "box", "views": 6}
LAST = ["--rig", "box", "--views", "6", "--steps", "2", "--size", "64", "--view-size", "64", "--device", "cpu"]


def test_words_reach_their_view_only_and_views_left_out_are_not_denoised(tmp_path, ball, model, monkeypatch):
    from blender_addon.jobs.folder import write_job

    models, asked, avoided = Models(), [], []
    loaded = models.get(str(model), torch.device("cpu"))
    bind = type(loaded).denoiser

    def spy(self, prompts, avoids, *rest, **more):
        asked.append(prompts)
        avoided.append(avoids)
        return bind(self, prompts, avoids, *rest, **more)

    monkeypatch.setattr(type(loaded), "denoiser", spy)

    def texture(**settings):
        job, _ = job_from_file(ball, {**SMALL, "model": str(model), "direction_prompts": False, **settings})
        folder = write_job(tmp_path / "jobs", job)
        result = run_job(folder, Progress([]), models)
        return result["report"], np.asarray(Image.open(folder / result["images"]["base_color"])).astype(int)

    report, with_words = texture(skip_views="top, left", view_prompts="front = a door; bottom = a drain")
    assert asked[-1] == ["brick, a door", "brick", "brick", "brick, a drain"]  # front, right, back, bottom
    assert report["views"] == 4 and report["view_denoisings"] == 4 * 2 == report["view_denoisings_foreseen"]
    _, without = texture(skip_views="top, left")
    assert asked[-1] == ["brick"] * 4 and not np.array_equal(with_words, without)
    report, _ = texture(avoid="rust", view_avoids="back = windows")
    assert report["view_denoisings"] == 6 * 2
    assert asked[-1] == ["brick"] * 6 and avoided[-1] == ["rust", "rust", "rust, windows", "rust", "rust", "rust"]


def test_from_the_command_line(tmp_path, ball, model):
    out = tmp_path / "out"
    assert main(["texture", str(ball), "--prompt", "brick", "--out", str(out), "--model", str(model), *LAST,
                 "--skip-views", "top", "--skip-views", "bottom", "--view-prompt", "front=a door",
                 "--view-prompt", "back = a face, sad", "--view-avoid", "left=ivy", "--turntable", "3", "--no-contact-sheet"]) == 0  # fmt: skip
    report = json.loads((out / "report.json").read_text())
    assert report["views"] == 4 and report["view_denoisings"] == 8
    (job,) = (out / "jobs").iterdir()
    cameras = json.loads((job / "job.json").read_text())["cameras"]
    assert {camera["name"]: camera["prompt"] for camera in cameras} == {
        "front": "a door", "right": "", "back": "a face, sad", "left": ""}  # fmt: skip
    assert [camera["name"] for camera in cameras if camera["avoid"] == "ivy"] == ["left"]
    with Image.open(out / "turntable.webp") as film:
        assert film.format == "WEBP" and film.n_frames == 3


@pytest.mark.parametrize(("more", "words"), [
    (["--skip-views", "roof"], "no view named 'roof' (skip_views); views are: front, right, back, left, top, bottom"),
    (["--view-prompt", "roof=tiles"], "no view named 'roof' (view_prompts)"),
    (["--skip-views", "front,right,back,left,top,bottom"], "All 6 views are left out"),
    (["--views", "27"], "26 directions"),
])  # fmt: skip
def test_refused_before_anything_is_loaded(tmp_path, capsys, more, words):
    """Neither the mesh nor the model is there: they have not been looked for."""
    code = main(["texture", str(tmp_path / "no mesh.obj"), "--prompt", "brick", "--out", str(tmp_path / "out"),
                 "--model", "no/such/model", *LAST, *more])  # fmt: skip
    said = capsys.readouterr().err
    assert code == 2 and words in said and "Traceback" not in said and not (tmp_path / "out").exists()


def test_a_camera_keeps_its_own_words_where_none_are_given(ball):
    from dataclasses import replace

    from blender_addon.jobs.rigs import wished

    job, _ = job_from_file(ball, SMALL)
    own = tuple(replace(camera, prompt="own") for camera in job.cameras)
    found = wished(own, resolve({**SMALL, "view_prompts": "back = given", "skip_views": "top"}))
    assert [camera.prompt for camera in found] == ["own", "own", "given", "own", "own"]
