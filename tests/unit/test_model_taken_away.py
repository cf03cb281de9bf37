# SPDX-License-Identifier: Apache-2.0
"""The drive with the model is unplugged, or its files are replaced, at every moment of a job: a texture or a sentence."""

from __future__ import annotations

import shutil

import pytest

from blender_addon.jobs.events import PHASES
from blender_addon.jobs.folder import read_result, write_job
from engine.models import folders
from engine.progress import Progress
from engine.run import run_job
from engine.serve import finish_job
from engine.warm import Models
from tests.tiny_models import SWATCH_SCHEDULER, write_tiny_model
from tests.unit.test_run import pixels, sphere_job


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("kept"), SWATCH_SCHEDULER)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, kept):
    folder = write_job(tmp_path_factory.mktemp("jobs"), sphere_job(kept))
    run_job(folder, Progress([]), Models())
    return pixels(folder)


@pytest.fixture
def model(tmp_path, kept):
    return shutil.copytree(kept, tmp_path / "drive" / "model")


def texture(tmp_path, model, models, at=""):
    """The result of a job during which the model's folder vanishes when the phase `at` begins."""
    folder = write_job(tmp_path / "jobs", sphere_job(model))

    def sink(event, fields):
        if event == "phase" and fields["phase"] == at:
            shutil.rmtree(model)

    finish_job(folder, lambda: run_job(folder, Progress([sink]), models))
    return folder, read_result(folder)


@pytest.mark.parametrize("phase", PHASES[1:])
def test_once_loaded_a_model_is_needed_no_more(tmp_path, model, undisturbed, phase):
    folder, result = texture(tmp_path, model, Models(), at=phase)
    assert not model.exists() and result["status"] == "done", result["error"]
    assert (pixels(folder) == undisturbed).all()


def test_gone_before_it_is_loaded(tmp_path, model, undisturbed):
    models, copy = Models(), shutil.copytree(model, tmp_path / "other")
    _, result = texture(tmp_path, model, models, at="load")
    assert result["status"] == "failed" and result["images"] == {}
    error = result["error"]
    assert error["code"] == "model" and str(model) in error["message"] and error["action"]
    shutil.copytree(copy, model)
    folder, result = texture(tmp_path, model, models)
    assert result["status"] == "done" and (pixels(folder) == undisturbed).all(), "plugged in again, all is well"


def test_gone_while_it_is_being_loaded(tmp_path, model, monkeypatch):
    read, seen = folders._load_module, []

    def unplugged(module_class, where, *rest):
        seen.append(where.name)
        if len(seen) == 2:
            shutil.rmtree(model)
        return read(module_class, where, *rest)

    monkeypatch.setattr(folders, "_load_module", unplugged)
    models = Models()
    _, result = texture(tmp_path, model, models)
    assert len(seen) == 2 and result["status"] == "failed"
    assert result["error"]["code"] == "model" and result["error"]["action"] and seen[1] in result["error"]["message"]
    assert not models, "half a model is not kept"


def test_gone_between_two_jobs(tmp_path, model, undisturbed):
    models = Models()
    texture(tmp_path, model, models, at="write")
    folder, result = texture(tmp_path, model, models)
    assert result["status"] == "done" and (pixels(folder) == undisturbed).all(), "it is still in memory"
    _, result = texture(tmp_path, model, Models())
    assert result["status"] == "failed" and str(model) in result["error"]["message"]


def test_other_weights_in_the_same_place_are_loaded(tmp_path, model, undisturbed):
    models = Models()
    texture(tmp_path, model, models)
    shutil.rmtree(model)
    write_tiny_model(model, SWATCH_SCHEDULER, seed=1)
    folder, result = texture(tmp_path, model, models)
    assert result["status"] == "done" and not (pixels(folder) == undisturbed).all()
