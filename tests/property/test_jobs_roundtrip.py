# SPDX-License-Identifier: Apache-2.0
"""Whatever is written reads back equal: jobs, results, presets, settings, command lines."""

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from blender_addon.jobs.arguments import add_arguments, from_namespace
from blender_addon.jobs.errors import JobError, SettingsError
from blender_addon.jobs.files import json_text, parse_json
from blender_addon.jobs.folder import (
    Camera,
    Job,
    MeshArrays,
    inside,
    new_job_id,
    read_job,
    read_result,
    write_job,
    write_result,
)
from blender_addon.jobs.presets import differences, read_preset, write_preset
from blender_addon.jobs.rigs import FILL, build_rig
from blender_addon.jobs.settings import SETTINGS, check, resolve
from blender_addon.jobs.view_lists import words_line

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
floats = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
records = st.dictionaries(st.text(max_size=10), plain, max_size=5)


def value_of(setting):
    """Allowed values of one setting."""
    if setting.choices:
        return st.sampled_from(setting.choices)
    if setting.type is bool:
        return st.booleans()
    if setting.name in ("view_prompts", "view_avoids"):
        return st.dictionaries(text.map(str.strip).filter(bool), text, max_size=3).map(words_line)
    if setting.type is str:
        return text.map(str.strip).filter(lambda value: len(value) >= setting.minimum)
    if setting.type is int:
        least, most = setting.minimum // setting.multiple, setting.maximum // setting.multiple
        values = st.integers(least, most).map(lambda value: value * setting.multiple)
    else:
        values = st.floats(setting.minimum, setting.maximum)
    return values if setting.special is None else values | st.just(setting.type(setting.special))


some_settings = st.fixed_dictionaries({}, optional={name: value_of(setting) for name, setting in SETTINGS.items()})
whole_settings = st.builds(
    lambda given_, prompt: {**given_, "prompt": prompt}, some_settings, text.filter(lambda value: value.strip())
)


@st.composite
def meshes(draw):
    vertices, uvs, triangles = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(0, 9))
    anything = st.floats(width=32)

    def indices(count):
        return nps.arrays(np.int32, (triangles, 3), elements=st.integers(0, count - 1))

    per_triangle = nps.arrays(np.int32, triangles)
    return MeshArrays(
        draw(nps.arrays(np.float32, (vertices, 3), elements=anything)),
        draw(indices(vertices)),
        draw(nps.arrays(np.float32, (uvs, 2), elements=anything)),
        draw(indices(uvs)),
        draw(st.none() | nps.arrays(np.float32, (triangles, 3, 3), elements=anything)),
        draw(st.none() | per_triangle),
        draw(st.none() | per_triangle),
    )


@st.composite
def cameras(draw):
    names = draw(st.lists(text.filter(bool), min_size=1, max_size=4, unique=True))
    number = st.floats(-1e6, 1e6)
    made = []
    for name in names:
        view, projection = np.eye(4), np.eye(4)
        view[:3, 3] = draw(st.tuples(number, number, number))
        projection[:2, 2] = draw(st.tuples(number, number))
        made.append(Camera(name, view, projection, draw(text), draw(text)))
    return tuple(made)


@st.composite
def jobs(draw):
    return Job(
        new_job_id(),
        draw(whole_settings),
        draw(meshes()),
        draw(cameras()),
        draw(st.lists(records, max_size=3)),
        draw(records),
    )


@settings(max_examples=40)
@given(jobs())
def test_job_written_reads_back_equal(job):
    with tempfile.TemporaryDirectory() as parent:
        assert read_job(write_job(parent, job)) == job


@given(records, st.sampled_from(["done", "cancelled"]))
def test_result_written_reads_back_equal(report, status):
    with tempfile.TemporaryDirectory() as folder:
        write_result(folder, {"status": status, "report": report})
        assert read_result(folder)["report"] == report


@given(plain)
def test_json_reads_back_equal_in_one_ascii_line(data):
    line = json_text(data)
    assert line.isascii() and "\n" not in line
    assert parse_json(line.encode()) == data


@given(some_settings, text)
def test_preset_gives_the_same_settings(values, comment):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "preset.toml"
        write_preset(path, values, comment)
        back = read_preset(path)
        assert back == differences(values)
        assert resolve(back, require_prompt=False) == resolve(values, require_prompt=False)


@given(some_settings)
def test_command_line_gives_the_same_settings(values):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    line = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            line.append(f"--{'' if value else 'no-'}{flag}")
        else:
            line.append(f"--{flag}={value!r}" if isinstance(value, float) else f"--{flag}={value}")
    assert from_namespace(parser.parse_args(line)) == values


@given(whole_settings)
def test_resolving_twice_changes_nothing(values):
    full = resolve(values)
    assert resolve(full) == full and list(full) == list(SETTINGS)


@given(st.dictionaries(st.sampled_from(list(SETTINGS)) | text, plain | st.floats() | st.binary(max_size=5), max_size=4))
def test_any_settings_are_accepted_or_explained(values):
    try:
        full = check(values)
    except SettingsError as error:
        assert error.message and len(error.message) < 1000
    else:
        assert all(type(full[name]) is SETTINGS[name].type for name in values)


@given(st.text(max_size=30) | st.text(alphabet="./\\:aC~ ", max_size=12))
def test_guarded_path_stays_inside_or_is_refused(relative):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        try:
            path = inside(root, relative)
        except JobError:
            return
        assert path != root and path.resolve().is_relative_to(root)


points = nps.arrays(
    np.float32,
    st.tuples(st.integers(1, 20), st.just(3)),
    elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
)


@given(points, st.sampled_from(["auto", "ring", "box", "sphere"]), st.integers(1, 24), st.sampled_from([1.0, 1.5, 0.6]))
def test_any_points_are_in_every_frame(positions, rig, n, aspect):
    homogeneous = np.concatenate([positions.astype(np.float64), np.ones((len(positions), 1))], axis=1)
    for camera in build_rig(rig, n, positions, aspect):
        x, y, z, w = (homogeneous @ (camera.projection @ camera.view).T).T
        assert math.isfinite(w.sum()) and (w > 0).all()
        assert (np.abs(x) <= (FILL + 0.01) * w).all() and (np.abs(y) <= (FILL + 0.01) * w).all() and (np.abs(z) <= w).all()
