# SPDX-License-Identifier: Apache-2.0
"""Lists of jobs: both kinds of file say the same, paths are beside the list, and what is wrong is named with its place."""

import json

import pytest

from blender_addon.jobs.batch import MOST, read_batch
from blender_addon.jobs.errors import SettingsError, TweedError, UserError

TOML = """
[defaults]
quality = "draft"
views = 6

[[job]]
file = "chairs é.blend"
objects = ["Chair", "Stool"]
each = true
prompt = "oak"
save = "out/a.blend"

[[job]]
objects = "Table"
prompt = "steel"
views = 4
make_uvs = true
preset = "synctweedies"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "chairs é.blend").touch()
    (tmp_path / "out").mkdir()
    return tmp_path


def write(folder, text, name="list.toml"):
    (folder / name).write_text(text, "utf-8")
    return folder / name


def test_what_a_list_says(folder):
    first, second = read_batch(write(folder, TOML))
    assert first.place == "job 1" and first.file == folder / "chairs é.blend" and first.save == folder / "out/a.blend"
    assert first.objects == ("Chair", "Stool") and first.each and not first.make_uvs
    assert first.settings == {"quality": "draft", "views": 6, "prompt": "oak"}
    assert second.file is None and second.save is None and second.objects == ("Table",) and second.make_uvs
    assert second.settings.items() >= {"views": 4, "prompt": "steel", "quality": "draft"}.items()


def test_both_kinds_say_the_same(folder):
    lines = [
        {"quality": "draft", "views": 6, "file": "chairs é.blend", "objects": ["Chair", "Stool"], "each": True,
         "prompt": "oak", "save": "out/a.blend"},
        {"quality": "draft", "objects": "Table", "prompt": "steel", "views": 4, "make_uvs": True, "preset": "synctweedies"},
    ]  # fmt: skip
    path = write(folder, "\n\n".join(json.dumps(line) for line in lines) + "\n", "list.jsonl")
    for one, other in zip(read_batch(path), read_batch(write(folder, TOML)), strict=True):
        assert {**one.__dict__, "place": ""} == {**other.__dict__, "place": ""}
    assert [item.place for item in read_batch(path)] == ["line 1", "line 3"]


def test_a_job_overrides_its_preset(folder):
    (item,) = read_batch(write(folder, '[[job]]\nprompt = "x"\npreset = "synctweedies"\nsteps = 7\n'))
    assert item.settings["steps"] == 7 and len(item.settings) > 3


def test_pictures_are_beside_the_list(folder):
    (item,) = read_batch(write(folder, '[[job]]\nprompt = "x"\nstyle_image = "style.png"\n'))
    assert item.settings["style_image"] == str(folder / "style.png")


@pytest.mark.parametrize(("text", "words"), [
    ("", "holds no job"),
    ("[[job]]\nprompt = ", "no valid TOML"),
    ('[[jobs]]\nprompt = "x"', "unknown part 'jobs'"),
    ('[job]\nprompt = "x"', r"\[\[job\]\] for every job"),
    ('[[job]]\nprompt = "x"\n[[job]]\nprompt = "x"\nviews = 0', "job 2: .*views"),
    ('[[job]]\nviews = 4', "job 1: The prompt is empty"),
    ('[[job]]\nprompt = "x"\nview = 4', "job 1: Unknown setting 'view'"),
    ('[[job]]\nprompt = "x"\npreset = "nothing"', "job 1: There is no preset 'nothing'"),
    ('[[job]]\nprompt = "x"\nfile = "gone.blend"', "job 1: There is no file .*gone.blend"),
    ('[[job]]\nprompt = "x"\nsave = "nowhere/a.blend"', "job 1: .*nowhere is not a folder"),
    ('[[job]]\nprompt = "x"\nobjects = [3]', r"job 1: \[3\] \(objects\)"),
    ('[[job]]\nprompt = "x"\neach = 1', r"job 1: 1 \(each\); allowed: true or false"),
    ('[[job]]\nprompt = "x"\nfile = 3', r"job 1: 3 is no text \(file\)"),
])  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(folder, text, words):
    with pytest.raises(TweedError, match=words):
        read_batch(write(folder, text))


def test_wrong_lines(folder):
    with pytest.raises(UserError, match="line 2: no valid JSON"):
        read_batch(write(folder, '{"prompt": "x"}\n{', "a.jsonl"))
    with pytest.raises(UserError, match="line 1: list; expected an object"):
        read_batch(write(folder, "[]", "a.jsonl"))
    with pytest.raises(UserError, match="unknown kind of list; allowed: .toml, .jsonl"):
        read_batch(write(folder, "", "a.csv"))
    with pytest.raises(UserError, match=f"at most {MOST}"):
        read_batch(write(folder, '{"prompt": "x"}\n' * (MOST + 1), "a.jsonl"))


def test_two_jobs_never_write_the_same_file(folder):
    job = '[[job]]\nprompt = "x"\nfile = "chairs é.blend"\nsave = "out/a.blend"\n'
    with pytest.raises(UserError, match="job 2: .*a.blend is written by job 1 already"):
        read_batch(write(folder, job + job))
    first, second = read_batch(write(folder, job + '[[job]]\nprompt = "y"\nsave = "out/a.blend"\n'))
    assert first.save == second.save, "the second goes on with the first one's file"


def test_a_settings_error_keeps_its_exit_code(folder):
    with pytest.raises(SettingsError) as caught:
        read_batch(write(folder, '[[job]]\nprompt = "x"\nsteps = "many"'))
    assert caught.value.exit_code == 2
