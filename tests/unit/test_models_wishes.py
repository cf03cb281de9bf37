# SPDX-License-Identifier: Apache-2.0
"""What the settings ask of a model, and what is refused before anything is read."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from blender_addon.jobs.controls import parse_controls
from blender_addon.jobs.errors import JobError, ModelError, SettingsError
from blender_addon.jobs.settings import resolve
from engine.models.loading import Extras
from engine.models.wishes import extras_of, style_of


def settings(**values):
    return resolve({"prompt": "rust", **values})


def test_defaults_ask_for_nothing():
    assert extras_of(settings()) == Extras()
    assert style_of(settings()) is None


def test_controls_in_words():
    assert parse_controls("depth") == [("depth", 1.0)]
    assert parse_controls(" depth , normal:0.5") == [("depth", 1.0), ("normal", 0.5)]
    for text, words in (
        ("pose", "depth, normal, canny"),
        ("depth, depth", "twice"),
        (" , ", "empty"),
        ("depth:9", "-4 to 4"),
    ):
        with pytest.raises(SettingsError, match=words) as caught:
            parse_controls(text)
        assert caught.value.key == "control"


def test_extras_follow_the_settings(tmp_path):
    file = tmp_path / "rust.safetensors"
    file.write_bytes(b"12345")
    found = extras_of(settings(lora=f"{file}:0.5", vae="a/b", style_image="s.png", control="normal, canny:0.5",
                               schedule="lcm", precision="bfloat16", memory="offload"))  # fmt: skip
    assert found.loras == ((str(file), 0.5),) and found.stamps[0][0] == 5 and hash(found)
    assert (found.vae, found.style, found.kinds, found.schedule) == ("a/b", "auto", ("normal", "canny"), "lcm")
    assert (found.precision, found.memory) == ("bfloat16", "offload")


def test_what_cannot_be_is_refused_with_its_key(tmp_path):
    with pytest.raises(ModelError, match="no LoRA file") as missing:
        extras_of(settings(lora=str(tmp_path / "none.safetensors")))
    assert "lora" in missing.value.action
    for name in ("control", "guidance"):
        with pytest.raises(SettingsError) as caught:
            extras_of(settings(**{f"{name}_start": 0.6, f"{name}_end": 0.6}))
        assert caught.value.key == f"{name}_start"


def test_a_style_picture_becomes_colours_around_zero(tmp_path):
    """White is 1, black -1, and what is transparent counts as grey 0."""
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[0] = 255
    pixels[:, 2, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "style.png")
    picture, strength = style_of(settings(style_image=str(tmp_path / "style.png"), style_scale=0.3))
    assert picture.shape == (1, 3, 2, 3) and strength == 0.3
    assert picture[0, 0].tolist() == [[1, 1, 0], [-1, -1, 0]]
    with pytest.raises(JobError, match=r"none\.png"):
        style_of(settings(style_image=str(tmp_path / "none.png")))
