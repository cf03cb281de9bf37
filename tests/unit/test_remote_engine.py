# SPDX-License-Identifier: Apache-2.0
"""The real engine behind the relay paints what it paints here, to the last bit."""

from __future__ import annotations

import time

import numpy as np
from PIL import Image

from blender_addon.jobs.folder import OWNER_FILE, read_result, write_job
from engine.doctor import remote_facts
from engine.progress import Progress
from engine.run import run_job
from engine.warm import Models
from tests.far import ROOT, fake_far_root, fake_ssh, far_engine
from tests.programs import fake_program, posix_only
from tests.unit.test_relay import Relay
from tests.unit.test_run import sphere_job

PATIENCE = 180  # seconds; a busy machine starts torch slowly


@posix_only
def test_a_job_with_the_bundled_model_comes_back_bit_for_bit(tmp_path):
    home, root = tmp_path / "far home é", tmp_path / "Tweed ü here"
    root.symlink_to(ROOT)
    far_engine(home, root)
    relay = Relay(tmp_path, fake_ssh(tmp_path, home), {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"})
    try:
        job = sphere_job("swatch", prompt="rusty blue metal", steps=4, view_size=128, texture_size=128, save_views=True)
        away = write_job(tmp_path / "away", job)
        end = time.monotonic() + PATIENCE
        while relay.said().get("state") != "ready" and time.monotonic() < end and relay.process.poll() is None:
            time.sleep(0.1)
        relay.send(op="run", job=str(away))
        while read_result(away) is None and time.monotonic() < end and relay.process.poll() is None:
            time.sleep(0.1)
        here = write_job(tmp_path / "here", job)
        run_job(here, Progress([]), Models())
        there, known = read_result(away), read_result(here)
        assert there["status"] == "done", (there, relay.log.read_text())
        assert relay.said()["device"].startswith("C") and relay.said()["remote"] == "me@box"
        assert there["images"] == known["images"] and len(known["images"]) > 4
        for name in [*known["images"].values(), OWNER_FILE, "preview.png"]:
            with Image.open(away / name) as one, Image.open(here / name) as other:
                assert np.array_equal(np.asarray(one), np.asarray(other)), name
        with Image.open(away / "out/texture.png") as picture:
            assert np.asarray(picture).std() > 5, "an even picture proves little"
    finally:
        relay.close()


@posix_only
def test_doctor_says_what_the_remote_machine_answers(tmp_path):
    program = fake_ssh(tmp_path, tmp_path / "home")
    environ = {"TWEED_REMOTE": "me@box", "TWEED_SSH": str(program)}
    assert remote_facts({}) is None
    assert "no engine is set up here" in remote_facts(environ)["error"]
    folder = {"TWEED_REMOTE_FOLDER": str(fake_far_root(tmp_path / "Tweed ü here"))}
    chatty = fake_program(tmp_path / "chatty", "echo Welcome", f'exec "{program}" "$@"')
    assert remote_facts(environ | folder | {"TWEED_SSH": str(chatty)}) == {"host": "me@box", "fake": True}
    empty = fake_program(tmp_path / "empty", "echo nothing")
    assert "gave no answer" in remote_facts(environ | {"TWEED_SSH": str(empty)})["error"]
    assert "could not be started" in remote_facts(environ | {"TWEED_SSH": "/nowhere"})["error"]
    assert "names no machine" in remote_facts({"TWEED_REMOTE": "-oX"})["error"]
