# SPDX-License-Identifier: Apache-2.0
"""Presets on the panel: loaded, saved, the artist's own words kept."""

import bpy
import pytest


def test_a_shipped_preset_sets_the_method_and_keeps_prompt_and_seed():
    group = bpy.context.scene.tweed
    group.prompt, group.seed, group.seed_lock, group.steps = "red bricks", 5, True, 50
    bpy.ops.tweed.preset_load(name="syncmvd")
    assert group.case == "canonical-x0" and group.sampler == "ddpm" and group.sharpness_end == 6.0
    assert (group.prompt, group.seed, group.seed_lock) == ("red bricks", 5, True)
    assert group.steps == 20, "what the preset does not name is as by default"


def test_an_own_preset_comes_back_without_the_words():
    group = bpy.context.scene.tweed
    group.prompt, group.eta, group.size = "red bricks", 0.5, "2048"
    bpy.ops.tweed.preset_save(name="Mine 1")
    group.prompt, group.eta, group.size = "blue", 0.0, "AUTO"
    bpy.ops.tweed.preset_load(name="Mine 1")
    assert (group.prompt, group.eta, group.size) == ("blue", 0.5, "2048")


@pytest.mark.parametrize("name", ["", "../evil", "a/b", ".hidden"])
def test_names_that_are_no_names_are_refused(name, unchanged):
    with unchanged("cannot be a preset's name"):
        bpy.ops.tweed.preset_save(name=name)


def test_an_unknown_preset_names_those_there_are(unchanged):
    with unchanged("no preset", "synctweedies"):
        bpy.ops.tweed.preset_load(name="nothing")


def test_the_menu_lists_them(draw):
    from bl_ext.tweeddev.tweed import preset_operators

    log = draw([preset_operators.TWEED_MT_presets])
    assert [name for kind, name in log].count("tweed.preset_load") >= 3
