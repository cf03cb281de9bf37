# SPDX-License-Identifier: Apache-2.0
"""The schema is sound, and every wrong setting is answered with its key, what was found and what is allowed."""

import argparse
import math
from pathlib import Path

import numpy as np
import pytest

from blender_addon.jobs.arguments import add_arguments, from_namespace
from blender_addon.jobs.errors import JobError, SettingsError, UserError
from blender_addon.jobs.presets import differences, read_preset, to_toml, write_preset
from blender_addon.jobs.reference import settings_table
from blender_addon.jobs.settings import CASES, QUALITIES, SETTINGS, check, normalise_case, quality_of, resolve

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = """prompt avoid model method case quality views steps texture_size view_size seed guidance guidance_rescale
control_scale sampler eta noise sharpness_start sharpness_end sync_until sync_space rig direction_prompts device
rasterizer preview_every padding""".split()


def parser(names=None):
    made = argparse.ArgumentParser(prog="tweed", exit_on_error=False)
    add_arguments(made, names)
    return made


def test_every_setting_of_the_contract_is_there():
    assert set(CONTRACT) <= set(SETTINGS)
    assert all(name == setting.name for name, setting in SETTINGS.items())


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_setting_is_described_and_its_default_allowed(setting):
    assert setting.type in (bool, int, float, str)
    assert setting.help.endswith(".") and setting.label and setting.group and setting.used_by
    assert type(setting.default) is setting.type and setting.check(setting.default) == setting.default
    if setting.choices:
        assert len(setting.choices) == len(setting.choice_help) == len(set(setting.choices))
    elif setting.type is not bool:
        assert setting.minimum < setting.maximum
        assert setting.type is not int or setting.minimum % setting.multiple == setting.maximum % setting.multiple == 0


def test_defaults_are_those_of_the_default_quality():
    defaults = {name: setting.default for name, setting in SETTINGS.items()}
    assert quality_of(defaults) == defaults["quality"] == "standard"


def test_quality_fills_only_what_is_not_given():
    full = resolve({"prompt": "moss", "quality": "high", "steps": 7})
    assert (full["views"], full["steps"], full["texture_size"]) == (10, 7, 2048)
    assert list(full) == list(SETTINGS)
    assert quality_of(full) == "custom"
    assert all(quality_of(resolve({"quality": name}, require_prompt=False)) == name for name in QUALITIES)


def test_prompt_is_required_unless_said_otherwise():
    for values in ({}, {"prompt": ""}, {"prompt": "  \n"}):
        with pytest.raises(SettingsError, match="prompt is empty") as caught:
            resolve(values)
        assert caught.value.key == "prompt" and caught.value.action
        assert resolve(values, require_prompt=False)["prompt"] == ""


def test_unknown_setting_names_itself_and_those_like_it():
    with pytest.raises(SettingsError) as caught:
        resolve({"prompt": "moss", "txture_size": 512})
    assert "'txture_size'" in str(caught.value) and "allowed: texture_size, " in str(caught.value)
    assert "docs/settings.md" in str(caught.value) and len(str(caught.value)) < 250
    assert caught.value.action == "Did you mean texture_size?" and caught.value.key == "txture_size"


WRONG = [
    ("texture_size", 0, "64 to 8192 px in steps of 8"),
    ("texture_size", 100_000, "64 to 8192 px in steps of 8"),
    ("texture_size", 1001, "in steps of 8"),
    ("texture_size", 512.0, "64 to 8192"),
    ("texture_size", True, "64 to 8192"),
    ("texture_size", "512", "64 to 8192"),
    ("texture_size", None, "64 to 8192"),
    ("texture_size", 10**5000, "too large a number; allowed: 64"),
    ("view_size", 32, "or 0 (the model's own size)"),
    ("views", 0, "1 to 64"),
    ("views", 65, "1 to 64"),
    ("steps", 201, "1 to 200"),
    ("seed", -1, "0 to 2147483647"),
    ("seed", 2**31, "0 to 2147483647"),
    ("guidance", -0.5, "0 to 50, or -1 (the model's own)"),
    ("guidance", math.nan, "nan; allowed: 0 to 50"),
    ("eta", math.inf, "inf; allowed: 0 to 1"),
    ("eta", 10**400, "0 to 1"),
    ("direction_prompts", 1, "true or false"),
    ("direction_prompts", "yes", "true or false"),
    ("model", "", "text of 1 to 1000"),
    ("prompt", 7, "up to 2000 characters"),
    ("prompt", "x" * 2001, "2001 characters; allowed: text of up to 2000"),
    ("prompt", "red\0blue", "not text"),
    ("prompt", "red \ud800", "not text"),
    ("case", "2.5", "instance-eps, instance-x0"),
    ("case", 7, "instance-eps, instance-x0"),
    ("case", 10**5000, "instance-eps"),
    ("quality", "best", "draft, standard, high"),
    ("quality", ["draft"], "draft, standard, high"),
    ("device", "gpu", "auto, cpu, cuda, mps"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(WRONG)])
def test_wrong_value_names_key_found_and_allowed(name, value, allowed):
    with pytest.raises(SettingsError) as caught:
        resolve({"prompt": "moss", name: value})
    assert f"({name})" in str(caught.value) and allowed in str(caught.value)
    assert caught.value.key == name and len(str(caught.value)) < 300


def test_numbers_of_numpy_become_plain_ones():
    full = check({"views": np.int64(4), "eta": np.float32(0.5), "direction_prompts": np.bool_(False), "guidance": 7})
    assert [type(value) for value in full.values()] == [int, float, bool, float]


def test_settings_that_are_no_record_are_refused():
    for values in (None, [], "prompt"):
        with pytest.raises(SettingsError):
            resolve(values)
    with pytest.raises(SettingsError):
        resolve({3: 4})


@pytest.mark.parametrize("number", range(1, 7))
def test_cases_have_numbers(number):
    assert normalise_case(number) == normalise_case(f" {number} ") == CASES[number - 1]
    assert resolve({"prompt": "moss", "case": str(number)})["case"] == CASES[number - 1]


# ---- command line


def test_command_line_gives_only_what_was_given():
    found = from_namespace(
        parser().parse_args(
            ["--prompt", "100 % rust", "--size", "512", "--case", "5", "--no-direction-prompts", "--guidance", "-1"]
        )
    )
    expected = {"prompt": "100 % rust", "texture_size": 512, "case": "canonical-x0", "direction_prompts": False}
    assert found == {**expected, "guidance": -1.0}
    assert resolve({**found, "quality": "draft"})["views"] == 6
    assert from_namespace(parser().parse_args([])) == {}


def test_every_setting_has_its_option():
    text = parser().format_help()
    assert all("--" + name.replace("_", "-") in text for name in SETTINGS)
    assert "--no-direction-prompts" in text and "--size" in text and "1.0" in text


def test_command_line_can_take_a_few_settings():
    few = parser(["prompt", "seed"])
    assert from_namespace(few.parse_args(["--seed", "3"])) == {"seed": 3}
    assert "--views" not in few.format_help()
    with pytest.raises(SettingsError):
        parser(["nonsense"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--texture-size", "0"], "Texture Size (texture_size) is 0; allowed: 64 to 8192"),
        (["--views", "many"], "Views (views) is 'many'; allowed: 1 to 64"),
        (["--eta", "nan"], "allowed: 0 to 1"),
        (["--quality", "best"], "draft, standard, high"),
    ],
)
def test_command_line_refuses_in_the_same_words(arguments, sentence):
    with pytest.raises(argparse.ArgumentError) as caught:
        parser().parse_args(arguments)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("TRUE", True), ("0", False), ("off", False)])
def test_switches_are_read_from_words(text, value):
    assert SETTINGS["direction_prompts"].parse(text) is value
    with pytest.raises(SettingsError):
        SETTINGS["direction_prompts"].parse("perhaps")


# ---- presets and docs


def test_preset_holds_only_differences(tmp_path):
    values = resolve({"prompt": 'say "rust"\\\n\ttab', "quality": "high", "views": 12, "eta": 1e-7})
    write_preset(tmp_path / "mine.toml", values, "My preset\nfor rocks")
    text = (tmp_path / "mine.toml").read_text("utf-8")
    assert text.startswith("# My preset\n# for rocks\nprompt = ") and "steps" not in text
    assert read_preset(tmp_path / "mine.toml") == differences(values)
    assert resolve(read_preset(tmp_path / "mine.toml")) == values


@pytest.mark.parametrize(
    ("data", "kind", "sentence"),
    [
        (b"viws = 3", SettingsError, "Did you mean views"),
        (b"views = 300", SettingsError, "allowed: 1 to 64"),
        (b"[table]\nviews = 3", SettingsError, "table"),
        (b"views = ", JobError, "no valid TOML"),
        (b'prompt = "\xff"', JobError, "no valid TOML"),
        (b"prompt = " + b"[" * 20_000, JobError, "no valid TOML"),
        (b"#" * 100_000, JobError, "longer than"),
    ],
)
def test_bad_preset_names_file_and_fault(tmp_path, data, kind, sentence):
    path = tmp_path / "bad.toml"
    path.write_bytes(data)
    with pytest.raises(kind) as caught:
        read_preset(path)
    assert str(path) in str(caught.value) and sentence in str(caught.value) + caught.value.action


def test_missing_preset_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.toml: the file is missing"):
        read_preset(tmp_path / "none.toml")


def test_default_settings_make_an_empty_preset():
    assert to_toml(differences(resolve({}, require_prompt=False))).strip() == ""


def test_settings_page_is_current():
    page = ROOT / "docs" / "settings.md"
    assert page.read_text("utf-8") == settings_table(), "run: python -m blender_addon.jobs.reference > docs/settings.md"
