# SPDX-License-Identifier: Apache-2.0
"""The first run: one box, an installer that can be stopped, refusals in words."""

import sys

import bpy
import pytest

SCRIPT = """
import sys, time
print("== Engine: Python 3.11, torch for cpu")
for share in (10, 55, 100):
    print(f"   {share}%%  torch about 1 min left")
    sys.stdout.flush()
    time.sleep(0.05)
mode = %r
if mode == "hang":
    time.sleep(60)
if mode == "slow":
    time.sleep(1.5)
if mode == "fail":
    print("Stopped: pip could not reach the package index.")
    print("What to do: Check the network, then run it again.")
    sys.exit(1)
print("Done.")
"""


@pytest.fixture
def installer(monkeypatch, tmp_path):
    """Makes an install.py of the wished kind the one that is found, and lets Blender be online."""
    from bl_ext.tweeddev.tweed import session, setup

    def make(mode):
        path = tmp_path / "install.py"
        path.write_text(SCRIPT % mode, "utf-8")
        monkeypatch.setattr(setup, "script", lambda: path)
        begin = setup.begin
        monkeypatch.setattr(setup, "begin", lambda state, online: begin(state, True, sys.executable))

    session.now.installer = None
    yield make
    session.stop_set_up()


@pytest.fixture
def no_engine(monkeypatch, tmp_path):
    from bl_ext.tweeddev.tweed import session

    session.stop_engine()
    monkeypatch.setenv("TWEED_ENGINE_ROOT", str(tmp_path / "nowhere"))


def texts(log):
    return " ".join(str(text) for name, text in log if name in ("label", "progress"))


def test_first_run_draws_one_box_and_nothing_else(no_engine, draw):
    from bl_ext.tweeddev.tweed import panels, subpanels

    log = draw(panels.CLASSES)
    assert "Engine is not set up" in texts(log) and "free here" in texts(log)
    operators = [name for kind, name in log if kind == "operator"]
    assert "tweed.engine_setup" in operators and "tweed.generate" not in operators
    assert not [name for kind, name in log if kind == "prop"]
    assert not any(panel.poll(bpy.context) for panel in subpanels.CLASSES)


def test_progress_is_read_from_the_installer_and_the_engine_starts(no_engine, installer, draw, pump, monkeypatch):
    from bl_ext.tweeddev.tweed import panels, session

    started = []
    monkeypatch.setattr(session, "start_engine", lambda: started.append(True))
    installer("slow")
    bpy.ops.tweed.engine_setup()
    pump.turn(until=lambda: session.now.installer and session.now.installer.percent >= 55)
    log = draw(panels.CLASSES)
    assert "Setting up" in texts(log) and "torch for cpu" in texts(log)
    pump.turn(until=lambda: bool(started))
    assert session.now.installer is None and started == [True]


def test_a_failed_set_up_says_why_and_what_to_do(no_engine, installer, draw, pump):
    from bl_ext.tweeddev.tweed import panels, session

    installer("fail")
    bpy.ops.tweed.engine_setup()
    pump.turn(until=lambda: session.now.installer.state != "running")
    text = texts(draw(panels.CLASSES))
    assert "could not reach the package index" in text and "Check the network" in text
    assert "tweed.engine_setup" in [name for kind, name in draw(panels.CLASSES) if kind == "operator"]


def test_it_can_be_stopped(no_engine, installer, pump):
    from bl_ext.tweeddev.tweed import session

    installer("hang")
    bpy.ops.tweed.engine_setup()
    process = session.now.installer.process
    bpy.ops.tweed.engine_setup_stop()
    assert process.wait(10) != 0 and session.now.installer is None


def test_offline_is_respected(no_engine, tmp_path):
    from bl_ext.tweeddev.tweed import setup
    from bl_ext.tweeddev.tweed.jobs.errors import UserError

    with pytest.raises(UserError, match="stay offline"):
        setup.begin(tmp_path, online=False)


def test_too_little_room_is_refused_before_anything_is_started(no_engine, tmp_path, monkeypatch):
    from bl_ext.tweeddev.tweed import setup
    from bl_ext.tweeddev.tweed.jobs.errors import NoRoom

    monkeypatch.setattr(setup, "free_bytes", lambda: 1e9)
    with pytest.raises(NoRoom, match="1.0 GB are free"):
        setup.begin(tmp_path, online=True)
    assert not (tmp_path / "setup.log").exists()
