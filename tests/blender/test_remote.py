# SPDX-License-Identifier: Apache-2.0
"""An engine on another machine, as an artist meets it: preferences, generate, cancel, failures in words, offline.

ssh is a script that runs the far command here in another home; the folders there have a space and an accent.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import bpy
import pytest
from snapshot import difference, scene_snapshot

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.far import fake_far_root, fake_ssh, far_engine
from tests.programs import fake_program, posix_only

pytestmark = posix_only


def generate(prompt="red bricks", **options):
    return bpy.ops.tweed.generate(
        **({"prompt": prompt, "texture_size": 64, "quality": "draft", "objects": "Cube"} | options)
    )


@pytest.fixture
def online():
    system = bpy.context.preferences.system
    before, system.use_online_access = system.use_online_access, True
    yield
    system.use_online_access = before


@pytest.fixture
def chosen():
    """The preferences, as they were afterwards."""
    from bl_ext.tweeddev.tweed import preferences

    chosen = preferences.get()
    yield chosen
    chosen.engine_where, chosen.remote_host, chosen.remote_folder = "HERE", "", ""


@pytest.fixture
def far(tmp_path, monkeypatch, cold):
    """The far machine's home; "me@box" logs in to it. Its Tweed has the fake engine."""
    home = tmp_path / "far home é"
    monkeypatch.setenv("TWEED_SSH", str(fake_ssh(tmp_path, home)))
    far_engine(home, fake_far_root(home / "Tweed ü here"))
    yield home
    from bl_ext.tweeddev.tweed import session

    session.now.run = None
    session.stop_engine()


@pytest.fixture
def session(monkeypatch, far, online, chosen):
    from bl_ext.tweeddev.tweed import client, session

    monkeypatch.setattr(client, "TERMINATE_SECONDS", 0.4)
    monkeypatch.setattr(client, "KILL_SECONDS", 0.8)
    chosen.engine_where, chosen.remote_host = "REMOTE", "me@box"
    return session


def texts(log):
    return " ".join(str(text) for name, text in log if name in ("label", "progress"))


def left_there(home):
    """Job folders that stay on the far machine once the connection is closed."""
    return sorted(path.name for path in home.glob(".local/share/tweed/remote/*/jobs/*"))


def ends(process_gone, seconds=15):
    end = time.monotonic() + seconds
    while not process_gone() and time.monotonic() < end:
        time.sleep(0.05)
    return process_gone()


def test_preferences_to_texture(session, far, cube, pump, draw, monkeypatch, tmp_path):
    from bl_ext.tweeddev.tweed import panels

    monkeypatch.setenv("TWEED_ENGINE_ROOT", str(tmp_path / "no engine here"))
    assert "Remote: me@box" in texts(draw(panels.CLASSES))
    generate()
    pump.turn()
    assert session.now.outcome.kind == "done", session.now.outcome
    assert tuple(cube.active_material["tweed"].to_dict()) and session.now.engine.info.device == "fake"
    assert "Remote: me@box Ready · fake" in texts(draw(panels.CLASSES))
    folder = session.now.outcome.folder
    assert (folder / "out" / "owner.png").is_file() and (folder / "events.jsonl").is_file()
    state = session.now.engine.state
    bpy.ops.tweed.engine_stop()
    assert not list(folder.glob("**/.*")) and json.loads((state / "engine.json").read_text())["remote"] == "me@box"
    assert ends(lambda: not left_there(far))
    asked = (tmp_path / "asked").read_text()
    assert "BatchMode=yes" in asked and " me@box python3 -c " in asked


def test_environment_and_named_folder_in_background(session, chosen, far, monkeypatch, capsys):
    from bl_ext.tweeddev.tweed import command

    chosen.engine_where = "HERE"
    monkeypatch.setenv("TWEED_REMOTE", "me@box:2222")
    monkeypatch.setenv("TWEED_REMOTE_FOLDER", "~/Tweed ü here")
    (far / ".local/share/tweed/engine.json").unlink()  # only the folder that is named tells where
    assert command.main(["texture", "--object", "Cube", "--prompt", "moss", "--size", "64"]) == 0
    assert command.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "on me@box:2222" in said and '"fake": true' in said


def test_the_operator_of_the_first_run_sets_the_preferences(far, online, chosen, pump, draw, monkeypatch, tmp_path):
    from bl_ext.tweeddev.tweed import panels, session

    monkeypatch.setenv("TWEED_ENGINE_ROOT", str(tmp_path / "nowhere"))
    operators = [name for kind, name in draw(panels.CLASSES) if kind == "operator"]
    assert {"tweed.engine_setup", "preferences.addon_show", "tweed.engine_remote"} <= set(operators)
    for host in ("", "-oProxyCommand=touch /tmp/x", "me@box; ls", "two words"):
        with pytest.raises(RuntimeError, match="user@host"):
            bpy.ops.tweed.engine_remote(host=host)
        assert chosen.engine_where == "HERE"
    assert bpy.ops.tweed.engine_remote(host=" me@box ") == {"FINISHED"}
    assert (chosen.engine_where, chosen.remote_host) == ("REMOTE", "me@box")
    pump.turn()
    assert session.now.engine.info.device == "fake" and session.now.engine.place.host == "me@box"


@pytest.mark.parametrize(
    "said, words",
    [
        ("Host key verification failed.", ("Host key verification failed", "Log in once in a terminal (ssh me@box)")),
        ("me@box: Permission denied (publickey,password).", ("Permission denied", "ssh-copy-id me@box")),
        ("ssh: Could not resolve hostname box: unknown", ("Could not resolve hostname", "Check the name")),
        ("ssh: connect to host box port 22: Connection refused", ("Connection refused", "ssh me@box")),
    ],
)
def test_ssh_fails(session, unchanged, tmp_path, monkeypatch, said, words):
    monkeypatch.setenv("TWEED_SSH", str(fake_program(tmp_path / "bad" / "ssh", f"echo '{said}' >&2", "exit 255")))
    with unchanged("me@box could not be used", *words):
        generate()


def test_ssh_failure_is_drawn_in_the_panel_and_the_preferences(session, pump, draw, tmp_path, monkeypatch, chosen):
    import types

    from bl_ext.tweeddev.tweed import panels
    from conftest import Layout

    program = fake_program(tmp_path / "bad" / "ssh", "echo 'Host key verification failed.' >&2", "exit 255")
    monkeypatch.setenv("TWEED_SSH", str(program))
    bpy.ops.tweed.engine_start()
    pump.turn()
    assert session.now.outcome.kind == "failed"
    assert "Host key verification failed" in texts(draw(panels.CLASSES))
    log = []
    panel = types.SimpleNamespace(layout=Layout(log), bl_rna=chosen.bl_rna, engine_where="REMOTE")
    type(chosen).draw(panel, bpy.context)
    assert "Host key verification failed" in texts(log)
    assert {"remote_host", "remote_folder"} <= {name for kind, name in log if kind == "prop"}


def test_no_ssh_at_all(session, unchanged, monkeypatch):
    monkeypatch.setenv("TWEED_SSH", "/nowhere/ssh")
    with unchanged("/nowhere/ssh could not be started", "Install OpenSSH"):
        generate()


def test_no_engine_there(session, unchanged, far):
    (far / ".local/share/tweed/engine.json").unlink()
    with unchanged("no engine is set up here", "Run install.py on me@box"):
        generate()


def test_offline_is_refused_in_words(session, unchanged, draw):
    from bl_ext.tweeddev.tweed import command, panels

    bpy.context.preferences.system.use_online_access = False
    with unchanged("set to stay offline", "Allow online access"):
        generate()
    with unchanged("set to stay offline"):
        bpy.ops.tweed.engine_start()
    with unchanged("set to stay offline"):
        bpy.ops.tweed.engine_remote(host="you@there")
    assert session.now.engine is None and command.main(["doctor"]) == 3
    bpy.context.scene.tweed.prompt = "moss"
    log = draw(panels.CLASSES)
    assert "stay offline" in texts(log) and ("enabled", False) in log


@pytest.mark.parametrize("phase", ["load", "denoise", "write"])
def test_cancel(session, pump, far, phase):
    before = scene_snapshot()
    generate("x fake:slow")
    pump.turn(until=lambda: session.running().phase == phase)
    bpy.ops.tweed.cancel()
    pump.turn()
    assert session.now.outcome.kind == "cancelled" and session.now.engine.alive
    assert difference(before, scene_snapshot()) == []
    generate()
    pump.turn()
    assert session.now.outcome.kind == "done"


@pytest.mark.parametrize("kind", ["hang", "deaf"])
def test_cancel_of_a_far_engine_that_does_not_listen(session, pump, far, kind):
    generate(f"x fake:{kind}@denoise")
    pump.turn(until=lambda: session.running().phase == "denoise")
    bpy.ops.tweed.cancel()
    pump.turn(timeout=10)
    assert session.now.outcome.kind == "cancelled" and not session.now.engine.alive
    assert ends(lambda: not left_there(far)), "the far side has ended its engine and cleaned up"


@pytest.mark.parametrize(
    "kind, words",
    [
        ("crash@denoise", ("The engine on me@box stopped unexpectedly (exit code 139)", "Segmentation fault")),
        ("nofile", ("no such file",)),
        ("cut", ("is cut off",)),
        ("escape", ("leads out of the folder",)),
        ("badjson", ("result.json", "no valid JSON")),
        ("fail:out_of_memory@denoise", ("on purpose (out_of_memory)",)),
    ],
)
def test_far_engine_that_lies_or_fails(session, unchanged, kind, words):
    with unchanged(*words):
        generate(f"x fake:{kind}")
    assert generate() == {"FINISHED"}


def test_done_without_a_result(session, unchanged, monkeypatch):
    from bl_ext.tweeddev.tweed import flow

    monkeypatch.setattr(flow, "RESULT_SECONDS", 0.3)
    with unchanged("left no result"):
        generate("x fake:noresult")


def test_rubbish_between_the_events_does_no_harm(session, pump):
    generate("x fake:garbled fake:warn")
    pump.turn()
    assert session.now.outcome.kind == "done"
    assert "3 % of the surface" in " ".join(session.now.outcome.remarks)


def test_the_connection_breaks_while_a_job_runs(session, pump, far, tmp_path):
    """What ends ssh: a laptop lid, a cable."""
    before = scene_snapshot()
    generate("x fake:crawl")
    pump.turn(until=lambda: session.running().phase == "denoise")
    relay = session.now.engine._process.pid
    children = Path(f"/proc/{relay}/task/{relay}/children")
    if not children.is_file():
        pytest.skip("no /proc here")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    pump.turn()
    assert session.now.outcome.kind == "failed" and session.now.outcome.log
    assert "The connection to me@box was lost" in session.now.outcome.message
    assert difference(before, scene_snapshot()) == []
    assert ends(lambda: not left_there(far)), "the far side has cancelled the job and cleaned up"


def test_a_model_that_is_only_here_is_named(session, unchanged):
    with unchanged("The remote machine has no /no/such/model (model)", "copy it there"):
        generate(model="/no/such/model")


def test_other_version_there(session, unchanged, far):
    root = fake_far_root(far / "Tweed of another day", version="9.9.9")
    (far / ".local/share/tweed/engine.json").unlink()
    bpy.context.preferences.addons["bl_ext.tweeddev.tweed"].preferences.remote_folder = str(root)
    with unchanged("on me@box is version 9.9.9", "this add-on is version 0.1.0", "Run install.py of the same release"):
        generate()


def test_models_are_got_there_and_their_words_known_here(session, pump, draw, tmp_path):
    from bl_ext.tweeddev.tweed import model_panel, panels

    group = bpy.context.scene.tweed
    group.prompt, group.model = "moss", "someone/model"
    log = draw(panels.CLASSES)
    assert "Looked for on me@box" in texts(log) and ("operator", "tweed.model_add") in log
    assert model_panel.obstacle(group) is None, "only the far machine knows"
    assert bpy.ops.tweed.model_add(name="someone/model") == {"FINISHED"}
    pump.turn()
    assert "models add someone/model" in (tmp_path / "asked").read_text()
    group.model = "swatch"
    assert bpy.ops.tweed.model_words() == {"FINISHED"}


def test_going_offline_ends_the_connection(session, pump):
    generate()
    pump.turn()
    engine = session.now.engine
    assert engine.alive
    session.bpy.app.online_access = False
    with pytest.raises(RuntimeError, match="stay offline"):
        generate()
    assert not engine.alive and session.now.engine is None
