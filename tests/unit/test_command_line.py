# SPDX-License-Identifier: Apache-2.0
"""`python -m engine` as a person types it: files in and out, exit codes, sentences."""

from __future__ import annotations

import json

import numpy as np
import pytest
import trimesh

from engine.__main__ import main
from tests.tiny_models import SWATCH_SCHEDULER, write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), SWATCH_SCHEDULER)


@pytest.fixture
def ball(tmp_path):
    path = tmp_path / "ball é.obj"
    trimesh.creation.icosphere(2).export(path)
    return path


def texture(mesh, out, model, *more):
    return main(["texture", str(mesh), "--prompt", "red brick", "--out", str(out), "--model", str(model), "--views", "4",
                 "--steps", "2", "--size", "64", "--view-size", "64", "--device", "cpu", *more])  # fmt: skip


def test_texture_writes_what_it_promises(tmp_path, ball, model, capsys):
    out = tmp_path / "out"
    assert texture(ball, out, model, "--case", "2", "--seed", "3") == 0
    assert {"texture.png", "contact.png", "report.json", "ball é.glb"} <= {p.name for p in out.iterdir()}
    assert json.loads((out / "report.json").read_text())["settings"]["case"] == "instance-x0"
    loaded = trimesh.load(out / "ball é.glb", force="mesh")
    assert loaded.visual.uv is not None and loaded.visual.material.baseColorTexture.size == (64, 64)
    assert np.isclose(loaded.extents, 2, atol=0.05).all()
    assert "Look at" in capsys.readouterr().err


def test_run_repeats_a_job_from_its_folder(tmp_path, ball, model):
    texture(ball, tmp_path / "out", model)
    (job,) = (tmp_path / "out" / "jobs").iterdir()
    before = (job / "out" / "texture.png").read_bytes()
    assert main(["run", str(job)]) == 0
    assert (job / "out" / "texture.png").read_bytes() == before


@pytest.mark.parametrize(("more", "words"), [
    (["--size", "0"], "texture_size"), (["--size", "100000"], "texture_size"), (["--case", "9"], "case"),
    (["--quality", "best"], "quality"), (["--no-such-thing", "1"], "no-such-thing"),
])  # fmt: skip
def test_bad_arguments_end_with_2_and_name_the_setting(tmp_path, ball, model, capsys, more, words):
    with pytest.raises(SystemExit) as stopped:
        texture(ball, tmp_path / "out", model, *more)
    assert stopped.value.code == 2 and words.replace("_", "-") in capsys.readouterr().err.replace("_", "-")
    assert not (tmp_path / "out").exists()


def test_bad_input_is_a_sentence_and_no_traceback(tmp_path, ball, model, capsys):
    assert texture(tmp_path / "missing.glb", tmp_path / "out", model) != 0
    assert texture(ball, tmp_path / "out", "no/such/model") != 0
    assert main(["texture", str(ball), "--out", str(tmp_path / "out"), "--prompt", " "]) == 2
    (tmp_path / "notes.obj").write_text("this is no mesh")
    assert texture(tmp_path / "notes.obj", tmp_path / "out", model) != 0
    assert main(["run", str(tmp_path / "no job")]) == 2
    said = capsys.readouterr().err
    assert "missing.glb" in said and "no/such/model" in said and "prompt" in said and "notes.obj" in said
    assert "Traceback" not in said


def test_doctor_speaks_json(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rasterizers"]["reference"] == "ok" and found["torch"] and "swatch" in found["models"]
