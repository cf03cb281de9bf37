# SPDX-License-Identifier: Apache-2.0
"""What must hold for every method there is: the registry is the test matrix."""

from __future__ import annotations

import pytest
import torch

from blender_addon.jobs.errors import Cancelled
from blender_addon.jobs.settings import SETTINGS
from engine.methods import METHODS, Facts, pick_method
from tests.tasks import toy_task
from tests.toys import EXACT, RandomDenoiser

FREE = [name for name in METHODS if name != "edit"]  # need nothing but a prompt


def task_of(method, name="plane", denoiser=None, **settings):
    return toy_task(denoiser or RandomDenoiser(3), EXACT[name](channels=3), method=method, steps=4, iterations=12, **settings)


def test_every_method_of_the_schema_is_there_and_no_other():
    assert set(METHODS) == set(SETTINGS["method"].choices)


@pytest.mark.parametrize("method", FREE)
@pytest.mark.parametrize("name", sorted(EXACT))
def test_calls_are_foreseen_and_counted(method, name):
    task = task_of(method, name)
    views = len(task.space.mask)
    foreseen = pick_method(task.settings, Facts(views, starts=False)).calls(task.settings, views)
    METHODS[method].paint(task)
    assert task.denoiser.count[0] == foreseen
    assert task.watch.told[-1][:2] == (foreseen, foreseen)
    assert [done for done, _, _ in task.watch.told] == sorted({done for done, _, _ in task.watch.told})


@pytest.mark.parametrize("method", FREE)
@pytest.mark.parametrize("name", sorted(EXACT))
def test_images_have_the_shape_of_the_views_and_no_nan(method, name):
    task = task_of(method, name)
    images = METHODS[method].paint(task)
    assert images.shape == (len(task.space.mask), 3, *task.space.mask.shape[-2:])
    assert torch.isfinite(images).all()


@pytest.mark.parametrize("method", FREE)
def test_the_seed_decides(method):
    first, again = (METHODS[method].paint(task_of(method, seed=5)) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("method", FREE)
def test_a_cancel_is_let_pass(method):
    task = task_of(method)

    def stop(done, total, images):
        raise Cancelled()

    object.__setattr__(task, "watch", stop)
    with pytest.raises(Cancelled):
        METHODS[method].paint(task)


@pytest.mark.parametrize("method", FREE)
@pytest.mark.parametrize("name", sorted(set(EXACT) - {"identity"}))
def test_views_agree_in_the_end(method, name):
    """Where projecting only copies, what is painted is the same seen from everywhere."""
    task = task_of(method, name)
    images = METHODS[method].paint(task)
    assert float((images - task.space.sync(images)).abs().max()) < 1e-5 * float(images.abs().max().clamp_min(1))
