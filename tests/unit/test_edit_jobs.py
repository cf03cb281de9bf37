# SPDX-License-Identifier: Apache-2.0
"""Whole jobs that follow an instruction, through the job folder, with a small InstructPix2Pix of random weights."""

from __future__ import annotations

import numpy as np
import pytest

from blender_addon.jobs.errors import SettingsError
from blender_addon.jobs.folder import write_job
from blender_addon.jobs.png import png_bytes
from blender_addon.jobs.settings import resolve
from engine.mesh import from_arrays
from engine.pictures import decode_png
from engine.progress import Progress
from engine.raster.texels import rasterize_uv
from engine.run import run_job
from engine.warm import Models
from tests.unit.test_edit_models import tiny  # noqa: F401  a fixture
from tests.unit.test_given import SIZE, chosen, faces_above, icosphere, job_of, random_picture

STEPS, ROUNDS = 2, 2


@pytest.fixture(scope="module")
def models():
    return Models()


@pytest.mark.parametrize(("update", "dtype", "calls"), [("joint", np.uint8, STEPS), ("dataset", np.uint16, ROUNDS * STEPS)])
def test_an_instruction_changes_the_region_and_not_a_bit_beside_it(tmp_path, tiny, models, update, dtype, calls):  # noqa: F811
    """Calls for each view: the steps once, or in each round."""
    picture, region = random_picture(channels=4, dtype=dtype), faces_above(icosphere(2))
    settings = {"model": str(tiny), "method": "edit", "edit_update": update, "edit_rounds": ROUNDS, "steps": STEPS,
                "prompt": "make it rusty", "feather": 2}  # fmt: skip
    job = chosen(job_of(icosphere(2), **settings), region)
    folder = write_job(tmp_path, job, {"base_color": png_bytes(picture)})
    result = run_job(folder, Progress([]), models)
    out = decode_png((folder / result["images"]["base_color"]).read_bytes(), "out")
    texels = rasterize_uv(from_arrays(job.mesh), SIZE)
    inside = np.zeros(SIZE * SIZE, bool)
    inside[texels.index] = region[texels.triangle, 0] > 0
    inside = inside.reshape(SIZE, SIZE)
    assert out.dtype == dtype and np.array_equal(out[~inside], picture[~inside])
    assert (out != picture)[inside].any(1).mean() > 0.8
    report = result["report"]
    assert report["view_denoisings"] == report["view_denoisings_foreseen"] == calls * len(job.cameras)


def test_the_bundled_model_takes_no_orders_and_says_so_before_it_is_loaded(tmp_path):
    """The models are a table that cannot be asked: whoever loads one, fails otherwise."""
    job = job_of(icosphere(1), method="edit", prompt="make it rusty")
    folder = write_job(tmp_path, job, {"base_color": png_bytes(random_picture())})
    with pytest.raises(SettingsError, match="takes no instructions") as caught:
        run_job(folder, Progress([]), None)
    assert caught.value.key == "model" and "InstructPix2Pix" in caught.value.action


@pytest.mark.parametrize(("key", "value"), [
    ("steps", 0), ("views", 0), ("edit_rounds", 0), ("guidance", float("nan")), ("image_guidance", float("nan")),
    ("strength", 0.0), ("strength", float("nan")), ("feather", -1), ("region", "some"), ("edit_update", "all"),
])  # fmt: skip
def test_what_is_no_value_is_refused_by_name(key, value):
    with pytest.raises(SettingsError) as refused:
        resolve({"prompt": "x", "method": "edit", key: value})
    assert refused.value.key == key and key in refused.value.message
