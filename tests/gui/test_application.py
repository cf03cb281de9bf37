# SPDX-License-Identifier: Apache-2.0
"""The shipped zip in the full Blender application: the command line with exit codes, an afternoon in a real window."""

import json
import re

import pytest

pytestmark = [pytest.mark.gui, pytest.mark.slow, pytest.mark.timeout(1200)]  # a window on a busy machine
TEXTURE = "blender -b hero.blend --command tweed texture --object Cube --size 64 --json report.json"


@pytest.fixture(scope="module")
def hero(application):
    (application.work / "make.py").write_text(
        f"import bpy\nbpy.ops.wm.save_as_mainfile(filepath={application.path('hero.blend')!r})\n"
    )
    assert application.run("blender -b --python-exit-code 1 --python make.py").returncode == 0
    return application


def test_command_line_textures_saves_and_reports(hero):
    done = hero.run(f"{TEXTURE} --prompt 'red bricks' --seed 7 --save out.blend")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((hero.work / "report.json").read_text())
    assert report["status"] == "done" and report["seed"] == 7
    assert list((hero.work / "textures").glob("Cube_Tweed_*.png"))
    (hero.work / "look.py").write_text(
        "import bpy\n"
        "nodes = bpy.data.materials['Material'].node_tree.nodes\n"
        "image = next(n.image for n in nodes if n.bl_idname == 'ShaderNodeTexImage')\n"
        "print('FOUND', image.filepath, *image.size)\n"
    )
    assert re.search(r"FOUND //textures/\S+ 64 64", hero.run("blender -b out.blend --python look.py").stdout)


@pytest.mark.parametrize(
    "code, arguments, environment",
    [
        (2, "--prompt ''", {}),
        (2, "--prompt x --seed many", {}),
        (3, "--prompt x", {"TWEED_ENGINE_ROOT": "/nowhere"}),
        (4, "--prompt 'x fake:crash@denoise'", {}),
        (6, "--prompt 'x fake:fail:out_of_memory@denoise'", {}),
    ],
)
def test_exit_codes(hero, code, arguments, environment):
    done = hero.run(f"{TEXTURE} {arguments}", **environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_a_signal_cancels(hero, name):
    """The shell waits for the job's first progress, so that the signal meets a running job."""
    script = (
        f"set -m; {TEXTURE} --prompt 'x fake:slow' --steps 200 > out.txt 2>&1 & child=$!; "
        "for i in $(seq 600); do grep -q Diffusing out.txt && break; sleep 0.1; done; "
        f"kill -{name} $child; wait $child; echo code $?; sleep 1; for p in /proc/[0-9]*; do "
        "tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q '[e]ngine serve' && echo outlived; done; true"
    )
    done = hero.run(script)
    assert "code 5" in done.stdout, done.stdout + done.stderr + (hero.work / "out.txt").read_text()
    assert "outlived" not in done.stdout, "the engine outlived Blender"


def test_a_list_of_jobs_and_the_cameras(hero):
    (hero.work / "jobs.jsonl").write_text("".join(
        json.dumps({"file": "hero.blend", "objects": "Cube", "prompt": word, "texture_size": 64, "save": f"{word}.blend"}) + "\n"
        for word in ("oak", "steel")
    ))  # fmt: skip
    done = hero.run("blender -b --command tweed batch jobs.jsonl --json batch.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [job["status"] for job in json.loads((hero.work / "batch.json").read_text())["jobs"]] == ["done", "done"]
    assert (hero.work / "oak.blend").is_file() and (hero.work / "steel.blend").is_file()
    done = hero.run("blender -b hero.blend --command tweed cameras --object Cube --rig box --views 6 --json cameras.json")
    assert done.returncode == 0 and "6 views: 100.0%" in done.stdout, done.stdout + done.stderr
    assert hero.run("blender -b --command tweed batch nothing.toml").returncode == 2


def test_an_afternoon_in_a_window(application):
    done = application.run(f"python3 /shared/tests/gui/story.py {application.path()}", seconds=900)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


def test_coverage_and_a_picked_view_in_a_window(application):
    done = application.run(f"python3 /shared/tests/gui/parts.py {application.path()}", seconds=600)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_panel_in_german(application):
    done = application.run(f"python3 /shared/tests/gui/german.py {application.path()}", seconds=600)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_evening_in_a_window(application):
    done = application.run(f"python3 /shared/tests/gui/evening.py {application.path()}", seconds=600)
    assert done.returncode == 0, done.stdout + done.stderr
