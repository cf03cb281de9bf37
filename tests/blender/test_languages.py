# SPDX-License-Identifier: Apache-2.0
"""The panel in German. The bpy module is built without Blender's own translations, so that its language cannot be set:
here stands the text that we translate ourselves; labels and tooltips, which Blender translates, are in tests/gui."""

import json
import sys

import addon_utils
import bpy
import pytest
from conftest import PACKAGE, last_job


@pytest.fixture
def german(monkeypatch):
    from bl_ext.tweeddev.tweed import translation

    assert not bpy.app.build_options.international, "now this can be tested with preferences.view.language"
    monkeypatch.setattr(translation, "locale", lambda: "de_DE")
    return translation


def texts(log):
    return " ".join(" ".join(str(text) for name, text in log if name in ("label", "progress")).split())


@pytest.fixture
def panel():
    from bl_ext.tweeddev.tweed import panels

    return panels.CLASSES


def test_panel_speaks_german_and_english_again(panel, draw, german, monkeypatch, cold):
    said = texts(draw(panel))
    assert "Startet bei Bedarf" in said and "1 Objekt · 8 Ansichten · 1K" in said
    assert "Angeben, wie die Oberfläche aussehen soll." in said
    monkeypatch.setattr(german, "locale", lambda: "")
    assert "Starts when needed" in texts(draw(panel)) and "1 object · 8 views · 1K" in texts(draw(panel))


def test_progress_and_outcome(panel, draw, pump, german, cold):
    from bl_ext.tweeddev.tweed import session

    bpy.ops.tweed.generate(prompt="x fake:slow", texture_size=64, objects="Cube")
    assert "Engine startet" in texts(draw(panel)) and "Startet…" in texts(draw(panel))
    pump.turn(until=lambda: session.running().phase == "denoise" and session.running().step > 4)
    assert "Ansichten entrauschen" in texts(draw(panel)) and "Noch etwa" in texts(draw(panel))
    pump.turn()
    assert "Fertig in" in texts(draw(panel)) and "· Startwert" in texts(draw(panel))


def test_an_error_of_the_engine_with_numbers_in_it(panel, draw, pump, german):
    """Shown in German; what the job's folder and the outcome hold, for scripts and reports, is English."""
    from bl_ext.tweeddev.tweed import session

    bpy.ops.tweed.generate(prompt="x fake:crash", texture_size=64, objects="Cube")
    pump.turn()
    assert "Die Engine hat unerwartet aufgehört (Exit-Code " in texts(draw(panel))
    assert session.now.outcome.message.startswith("The engine stopped unexpectedly (exit code ")
    session.now.outcome = None
    bpy.ops.tweed.generate(prompt="x fake:fail:out_of_memory@denoise", texture_size=64, objects="Cube")
    pump.turn()
    with open(last_job(session.jobs_folder()) / "result.json", encoding="utf-8") as file:
        error = json.load(file)["error"]
    assert session.now.outcome.message == error["message"]


def test_scripts_get_english(german, cube):
    """bpy.ops from a script is no click: its RuntimeError, and api's exceptions, stay what they are everywhere."""
    cube.data.uv_layers.remove(cube.data.uv_layers[0])
    with pytest.raises(RuntimeError, match="'Cube' has no UV map. Press Make UVs"):
        bpy.ops.tweed.generate(prompt="x", objects="Cube")
    from bl_ext.tweeddev.tweed import api

    with pytest.raises(Exception, match="'Cube' has no UV map") as caught:
        api.texture("Cube", "x")
    assert german.shown(f"{caught.value.message} {caught.value.action}") == (
        "„Cube“ hat keine UV-Map. UVs anlegen drücken, oder selbst im UV-Editor abwickeln."
    )


@pytest.mark.parametrize("click, expected", [(True, "Zurückgenommen: A, B"), (False, "Reverted A, B")])
def test_a_click_is_answered_in_german(german, click, expected):
    class Asked:
        class options:
            is_invoke = click

    assert german.told(Asked, "Reverted A, B") == expected


def test_our_words_are_told_from_blenders():
    """Blender says "Feder" for its "Feather"; ours means a soft border, and so it is in a context of ours."""
    group = bpy.context.scene.tweed.bl_rna.properties
    assert {group[name].translation_context for name in ("feather", "rig", "size", "seed_lock", "view_prompt")} == {"Tweed"}
    operator = bpy.ops.tweed.revert.get_rna_type()
    assert (operator.translation_context, operator.properties["objects"].translation_context) == ("Tweed", "Tweed")
    assert bpy.types.TWEED_PT_guidance.bl_rna.translation_context == "Tweed"


def test_nothing_is_left_of_it(german):
    addon_utils.disable(PACKAGE, default_set=True)
    try:
        assert german._spoken == {} and german.shown("Done") == "Done"
    finally:
        assert addon_utils.enable(PACKAGE, default_set=True)
    assert sys.modules[f"{PACKAGE}.translation"]._spoken.keys() == {"de_DE"}


def test_a_damaged_file_leaves_the_interface_english(german, monkeypatch, tmp_path):
    (tmp_path / "fr_FR.json").write_text("{", "utf-8")
    (tmp_path / "it_IT.json").write_text("[]", "utf-8")
    (tmp_path / "ja_JP.json").write_text('{"Cancel": "キャンセル", "{} views": "{} ビュー"}', "utf-8")
    german.unregister()
    monkeypatch.setattr(german, "FOLDER", tmp_path)
    german.register()
    assert german._spoken.keys() == {"ja_JP"}
    german.unregister()
    monkeypatch.undo()
    german.register()
    assert german._spoken.keys() == {"de_DE"}
