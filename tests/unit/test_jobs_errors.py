# SPDX-License-Identifier: Apache-2.0
"""Errors keep their kind, sentence and advice on the way through result.json."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from blender_addon.jobs import errors
from blender_addon.jobs.errors import Cancelled, EngineError, TweedError, UserError, from_dict

ROOT = Path(__file__).resolve().parents[2]
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TweedError)]


@pytest.mark.parametrize("kind", KINDS)
def test_error_survives_json(kind):
    error = kind("The mesh has no UVs.", "Unwrap it.", "last line of the log")
    back = from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(back) is kind
    assert (back.message, back.action, back.log, str(back)) == (error.message, error.action, error.log, error.message)


def test_codes_are_unique():
    codes = [kind.code for kind in KINDS]
    assert len(codes) == len(set(codes)) and Cancelled.code not in codes


def test_log_is_left_out_when_empty():
    assert UserError("a", "b").to_dict() == {"code": "user", "message": "a", "action": "b"}


def test_cancelled_comes_back_as_cancelled():
    assert isinstance(from_dict(Cancelled().to_dict()), Cancelled)
    assert not issubclass(Cancelled, TweedError)


@pytest.mark.parametrize("values", [{}, {"code": "of_a_newer_version"}, {"code": 7, "message": None, "action": 3}])
def test_unknown_error_is_an_engine_error(values):
    assert type(TweedError.from_dict(values)) is EngineError


def test_exit_codes_are_the_documented_ones():
    found = {kind.__name__: kind.exit_code for kind in (*KINDS, Cancelled) if kind.exit_code != 4}
    assert found == {"SettingsError": 2, "EngineMissing": 3, "Cancelled": 5, "OutOfMemory": 6}


def test_jobs_package_needs_neither_blender_nor_torch():
    names = [path.stem for path in (ROOT / "blender_addon" / "jobs").glob("*.py") if path.stem != "__init__"]
    code = f"import sys\nfor name in {names!r}: __import__('blender_addon.jobs.' + name)\n"
    code += "found = {'bpy', 'torch', 'engine', 'diffusers'} & set(sys.modules)\nassert not found, found"
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True, timeout=60)
