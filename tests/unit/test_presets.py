# SPDX-License-Identifier: Apache-2.0
"""The presets that come with Tweed: they mean what was published, every way in finds them, and given settings win."""

import argparse
import tomllib

import pytest

from blender_addon.jobs.arguments import add_arguments, from_namespace
from blender_addon.jobs.errors import JobError, SettingsError
from blender_addon.jobs.presets import SHIPPED, find_preset, preset_comment, read_preset, shipped_presets
from blender_addon.jobs.settings import SETTINGS, resolve
from engine.__main__ import main
from engine.__main__ import parser as engine_parser
from engine.methods import Facts, pick_method
from engine.methods.cases import pick_case

# What the papers' code does (research/sync-algorithms.md §1 and §2, canonical-spaces.md §1), in our words.
PUBLISHED = {
    "synctweedies": {"number": 2, "sampler": "ddim", "eta": 0.0, "sync_until": 0.8, "sharpness_start": 1.0,
                     "sharpness_end": 1.0, "sync_space": "latent", "reference_until": 0.2},
    "syncmvd": {"number": 5, "sampler": "ddpm", "sync_until": 0.8, "sharpness_start": 0.0, "sharpness_end": 6.0,
                "noise": "shared", "sync_space": "latent", "reference_until": 0.2},
    "multidiffusion": {"number": 6, "sampler": "ddim", "sync_until": 1.0, "sharpness_start": 0.0, "sharpness_end": 0.0,
                       "view_attention": "off", "sync_space": "latent"},
}  # fmt: skip


def parser():
    made = argparse.ArgumentParser(exit_on_error=False)
    add_arguments(made)
    return made


@pytest.mark.parametrize("name", PUBLISHED)
def test_reference_presets_are_the_published_methods(name):
    settings = resolve({"prompt": "x", **read_preset(find_preset(name))})
    wanted = dict(PUBLISHED[name])
    assert settings["method"] == "synchronized"
    assert pick_case(settings["case"]).number == wanted.pop("number")
    assert {key: settings[key] for key in wanted} == wanted
    ours = ("agree_start", "agree_end", "pixel_steps", "preserve_variance", "blend")
    assert all(settings[key] == SETTINGS[key].default for key in ours)  # none of what was added since


@pytest.mark.parametrize("name", shipped_presets())
def test_every_shipped_preset_is_whole(name):
    """It is labelled, allowed by its method, and leaves alone what a fair comparison keeps the same."""
    path = shipped_presets()[name]
    settings = read_preset(path)
    assert len(preset_comment(path)) > 20
    pick_method(resolve({"prompt": "x", **settings}), Facts(8, starts=False))
    assert not {"prompt", "seed", "views", "steps", "quality", "texture_size", "model", "guidance", "rig"} & set(settings)
    assert set(settings) == set(tomllib.loads(path.read_text(encoding="utf-8")))


def test_the_folder_is_inside_the_extension():
    assert SHIPPED.parent.name == "blender_addon" and set(PUBLISHED) <= set(shipped_presets())


def test_options_win_over_the_preset_and_the_preset_over_defaults():
    found = from_namespace(parser().parse_args(["--sync-until", "0.9", "--preset", "syncmvd", "--prompt", "x"]))
    assert found == {**read_preset(find_preset("syncmvd")), "sync_until": 0.9, "prompt": "x"}
    assert "preset" not in found
    assert resolve(found)["case"] == "canonical-x0"


def test_a_file_of_ones_own(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text("steps = 7\n", encoding="utf-8")
    assert from_namespace(parser().parse_args(["--preset", str(mine)])) == {"steps": 7}
    assert preset_comment(mine) == ""


def test_faults_are_named(tmp_path):
    with pytest.raises(SettingsError, match="synctweedies") as caught:
        find_preset("tweedies")
    assert caught.value.key == "preset" and "tweedies" in caught.value.message
    with pytest.raises(JobError):
        read_preset(find_preset(str(tmp_path / "none.toml")))
    broken = tmp_path / "broken.toml"
    broken.write_text("steps = 0\n", encoding="utf-8")
    for given in ("tweedies", str(tmp_path / "none.toml"), str(broken)):
        with pytest.raises(argparse.ArgumentError, match="preset"):
            parser().parse_args(["--preset", given])


def test_the_engines_command_line_takes_one(capsys):
    arguments = engine_parser().parse_args(["texture", "x.glb", "--out", "y", "--preset", "multidiffusion"])
    assert from_namespace(arguments)["case"] == "canonical-xt"
    with pytest.raises(SystemExit):
        main(["texture", "x.glb", "--out", "y", "--preset", "nothing"])
    assert "synctweedies" in capsys.readouterr().err
