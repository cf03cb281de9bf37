# SPDX-License-Identifier: Apache-2.0
"""Some materials of an object painted: the others keep their look, whatever their UVs are like."""

import bpy
import numpy as np
import pytest
from conftest import job_record
from snapshot import difference, scene_snapshot
from test_edit import jobs_folder
from test_uv_tiles import SMALL, SQUARE, awake, exported, generate, shown, trees, uv_edited, wall


def test_only_the_named_materials_are_painted_and_the_others_stay_as_they_are():
    obj = wall((0, 0), (0, 0), (0, 0), materials=3)  # all on the same part of the UV square
    before = scene_snapshot()["materials"]
    assert generate("brick", slots="M1") == {"FINISHED"}
    record = job_record(jobs_folder())["objects"][0]
    assert record["slots"] == [0, 1, 2] and record["paint"] == [1]
    after = scene_snapshot()["materials"]
    assert {name for name in before if before[name] != after[name]} == {"M1"} and set(before) == set(after)
    assert [bool(shown(obj, slot)) for slot in range(3)] == [False, True, False]
    bpy.ops.tweed.revert(objects="Wall")
    assert difference(before, scene_snapshot()["materials"]) == []
    assert exported(obj, slots="M2, M0").remarks == [
        "2 of 3 materials of 'Wall' are painted; the others keep their look.",
        "UVs of 'Wall' overlap: 100% of its texture is shared by several parts.",
    ]


def test_a_material_that_is_also_in_a_slot_that_is_not_painted_is_copied():
    obj = wall((0, 0), (0, 0), materials=2)
    shared = obj.material_slots[1].material = obj.material_slots[0].material
    before = trees()
    assert generate("brick", slots="#2") == {"FINISHED"}
    assert obj.material_slots[0].material == shared and shown(obj, 0) is None
    assert obj.material_slots[1].material != shared and shown(obj, 1)
    assert generate("brick", slots="#2") == {"FINISHED"}
    bpy.ops.tweed.revert(objects="Wall")
    bpy.ops.tweed.revert(objects="Wall")
    assert difference(before, trees()) == []


def test_a_copied_material_still_goes_by_its_first_name():
    obj = wall((0, 0), (0, 0), materials=2)
    other = wall((0, 0), name="Other")
    other.data.materials.append(obj.material_slots[1].material)
    for _ in range(2):
        assert generate("brick", slots="M1") == {"FINISHED"}
    assert obj.material_slots[1].material.name != "M1" and job_record(jobs_folder())["objects"][0]["paint"] == [1]


def test_faces_that_are_not_painted_may_lie_anywhere_in_their_uv_map():
    obj = uv_edited(wall((0, 0), (0, 0), materials=2), SQUARE * 7 - 3, SQUARE)
    assert exported(obj, slots="M1").remarks == ["1 of 2 materials of 'Wall' is painted; the others keep their look."]
    with pytest.raises(RuntimeError, match="across the border"):
        bpy.ops.tweed.coverage(objects="Wall")
    bpy.context.scene.tweed.slots = "M1"
    assert bpy.ops.tweed.coverage(objects="Wall") == {"FINISHED"}
    bpy.ops.tweed.coverage_hide()


@pytest.mark.parametrize(("options", "words"), [
    ({"slots": "Chrome"}, ("no material 'Chrome' on 'Wall'", "M0, M1", "Empty: all")),
    ({"slots": "#3"}, ("no material '#3'",)),
    ({"slots": "Spare"}, ("No face is to be painted", "Choose a material")),
    ({"slots": "M0", "start": "texture"}, ("Base Color of 'M0' is a plain colour", "Generate a texture first")),
])  # fmt: skip
def test_slots_that_cannot_be_painted_are_refused_before_the_engine_starts(cold, unchanged, options, words):
    obj = wall((0, 0), (0, 0), materials=2)
    if "Spare" in options.values():
        obj.data.materials.append(bpy.data.materials.new("Spare"))
    with unchanged(*words):
        generate("brick", **options)
    assert not awake()


def test_ticks_on_the_panel_choose_materials(draw):
    from bl_ext.tweeddev.tweed import panels, subpanels

    obj, group = wall((0, 0), (0, 0), (0, 0), materials=3), bpy.context.scene.tweed
    for other in bpy.context.scene.objects:
        other.select_set(other == obj)
    bpy.context.view_layer.objects.active = obj
    drawn = draw(subpanels.CLASSES)
    assert drawn.count(("operator", "tweed.slot_toggle")) == 3 and ("prop", "slots") in drawn
    assert bpy.ops.tweed.slot_toggle(name="M1") == {"FINISHED"} and group.slots == "M0, M2"
    group.prompt = "brick"
    assert "2 of 3 materials of 'Wall' are painted." in " ".join(str(text) for _, text in draw(panels.CLASSES))
    assert bpy.ops.tweed.slot_toggle(name="M1") == {"FINISHED"} and group.slots == ""
    group.slots = "M1"
    with pytest.raises(RuntimeError, match="At least one"):
        bpy.ops.tweed.slot_toggle(name="M1")
    group.slots = "Chrome"
    said = " ".join(str(text) for _, text in draw(panels.CLASSES))
    assert "no material 'Chrome'" in said


def test_the_command_line_paints_some_materials(tmp_path):
    from bl_ext.tweeddev.tweed import command

    wall((0, 0), (0, 0), materials=2)
    report = tmp_path / "report.json"
    said = ["texture", "--object", "Wall", "--prompt", "brick", "--texture-size", "64", "--json", str(report)]
    assert command.main([*said, "--slots", "M1"]) == 0 and '"M1"' in report.read_text("utf-8")
    assert job_record(jobs_folder())["objects"][0]["paint"] == [1]
    assert command.main([*said, "--slots", "Chrome"]) == 2


def test_the_real_engine_paints_one_material_whose_charts_lie_in_another_tile(real):
    from bl_ext.tweeddev.tweed import api

    obj = uv_edited(wall((0, 0), (0, 0), materials=2), SQUARE * 7 - 3, SQUARE + [4, 2])
    result = api.texture(obj, slots="M1", **SMALL)
    image = bpy.data.images[result.images[0]]
    assert image.source == "FILE" and tuple(image.size) == (80, 80)
    values = np.array(image.pixels[:]).reshape(80, 80, 4)[10:70, 10:70, :3]
    assert values.std() > 0.02 and values.min(2).max() > 0, "a flat or black picture is no texture"
    assert shown(obj, 0) is None and shown(obj, 1).image == image
