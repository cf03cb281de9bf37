# SPDX-License-Identifier: Apache-2.0
"""What Blender says of a model without the engine is what the engine says; and the job's own style picture is used."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from huggingface_hub import constants

from blender_addon import models
from blender_addon.jobs.folder import Job, new_job_id, read_job, write_job
from blender_addon.jobs.png import png_bytes
from blender_addon.jobs.rigs import build_rig
from engine.models import store
from engine.models.wishes import style_of
from engine.opening import with_pictures
from tests.jobs import tetrahedron

NAME, REVISION = "org/some-model", "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("name", [NAME, f"{NAME}@{REVISION}", f"{NAME}@{'f' * 40}", "org/other"])
@pytest.mark.parametrize("stopped", [False, True])
def test_the_panel_and_the_engine_agree(tmp_path, monkeypatch, name, stopped):
    """Of a model that is here, of one whose download stopped, of another revision, of one that is not."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--org--some-model"
    (folder / "snapshots" / REVISION / "unet").mkdir(parents=True)
    (folder / "blobs").mkdir()
    head = json.dumps({}).encode()
    (folder / "snapshots" / REVISION / "unet" / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
    if stopped:
        (folder / "blobs" / "abc.incomplete").write_bytes(b"")
    found = store.state_of(name)
    said = models.state(name, tmp_path)
    if found is None:
        assert said in ("absent", "incomplete") and (said == "absent" or stopped)
    else:
        assert said == ("incomplete" if found.faults else "here")


def test_the_cache_is_where_the_hub_keeps_it(monkeypatch, tmp_path):
    """The four variables, as huggingface_hub documents their order."""
    assert models.cache_folder({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}).as_posix() == "/a"
    assert models.cache_folder({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}).as_posix() == "/b/hub"
    assert models.cache_folder({"XDG_CACHE_HOME": "/c"}).as_posix() == "/c/huggingface/hub"
    assert models.cache_folder({}).as_posix().endswith("/.cache/huggingface/hub")


def test_the_style_picture_of_the_job_is_taken_and_not_the_file_it_came_from(tmp_path):
    mesh = tetrahedron()
    picture = png_bytes(np.full((4, 4, 3), 255, np.uint8))
    settings = {"prompt": "x", "style_image": "/gone/since/then.jpg"}
    folder = write_job(tmp_path, Job(new_job_id(), settings, mesh, build_rig("ring", 1, mesh.positions)), {"style": picture})
    job = with_pictures(read_job(folder), folder)
    image, _ = style_of(job.settings)
    assert image.shape == (1, 3, 4, 4) and (image == 1).all()
    assert with_pictures(replace(job, inputs={}), folder).settings == job.settings, "without a copy the path counts"
