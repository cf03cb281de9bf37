# SPDX-License-Identifier: Apache-2.0
"""docs/scripting.md as it stands: every command line, list and script on the page is run."""

import re
import runpy
import shlex
from pathlib import Path

import bpy
import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scripting.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
LINES = [line for kind, text in BLOCKS if not kind for line in text.splitlines()]


@pytest.fixture
def place(tmp_path, cube, monkeypatch):
    """A folder with the files that the page speaks of; in each a cube by each of its names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    cube.name = "Hero"
    for number, name in enumerate(("Shield", "Chair", "Stool")):
        bpy.ops.mesh.primitive_cube_add(location=(3 * number + 3, 0, 0))
        bpy.context.object.name = name
    bpy.ops.object.select_all(action="DESELECT")
    bpy.data.objects["Hero"].select_set(True)
    bpy.context.view_layer.objects.active = bpy.data.objects["Hero"]
    for file in ("hero", "chairs"):
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / f"{file}.blend"))
    for kind, text in BLOCKS:
        if kind in ("toml", "jsonl"):
            (tmp_path / f"jobs.{kind}").write_text(text, "utf-8")
    return tmp_path


def test_the_page_has_what_is_run():
    assert [kind for kind, _ in BLOCKS] == ["", "toml", "jsonl", "python", "python"]
    assert {shlex.split(line.partition("--command tweed ")[2])[0] for line in LINES} == {"texture", "cameras", "batch", "doctor"}


@pytest.mark.parametrize("line", LINES)
def test_command_lines(place, line):
    from bl_ext.tweeddev.tweed import command

    before, _, given = line.partition(" --command tweed ")
    blender, background, *file = shlex.split(before)
    assert (blender, background) == ("blender", "-b")
    if file:
        bpy.ops.wm.open_mainfile(filepath=str(place / file[0]))
    assert command.main(shlex.split(given)) == 0
    words = shlex.split(given)
    for flag in ("--save", "--json"):
        assert flag not in words or (place / words[words.index(flag) + 1]).is_file()


def test_the_list_for_programs(place):
    from bl_ext.tweeddev.tweed import command

    assert command.main(["batch", "jobs.jsonl"]) == 0
    assert (place / "out/rusty.blend").is_file() and (place / "out/marble.blend").is_file()


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "python"])
def test_scripts(place, text, capsys):
    (place / "example.py").write_text(text.replace("bl_ext.user_default", "bl_ext.tweeddev"), "utf-8")
    runpy.run_path(str(place / "example.py"))
    assert "Error" not in capsys.readouterr().err


def test_every_operator_of_the_table_is_there():
    names = [name for row in re.findall(r"^\| (`\w.*?) \|", PAGE.split("| operator |")[1], re.MULTILINE)
             for name in re.findall(r"`(\w+)", row)]  # fmt: skip
    assert len(names) > 20
    for name in names:
        getattr(bpy.ops.tweed, name).get_rna_type()
