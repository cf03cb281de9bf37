# SPDX-License-Identifier: Apache-2.0
"""Real Blender for every test: the extension from its folder, the fake engine, a pump in place of Blender's timers.

Run with tests/blender/run.py; without the bpy module these tests are not collected.
"""

import json
import os
import sys
import tempfile
import time
import types
from pathlib import Path

import pytest

try:
    import bpy
except ImportError:
    collect_ignore_glob = ["test_*.py"]
    bpy = None

TESTS = Path(__file__).resolve().parent.parent
ADDON = TESTS.parent / "blender_addon"
PACKAGE = "bl_ext.tweeddev.tweed"


# The engine that whoever started the tests has set up; every other test uses the fake one.
REAL_ENGINE = {name: os.environ.get(name, "") for name in ("TWEED_ENGINE_PYTHON", "TWEED_ENGINE_ROOT")}


class Pump:
    """bpy.app.timers never fire without a window: this stands in for them and is turned by hand."""

    def __init__(self):
        self.timers = {}

    def register(self, function, *, first_interval=0, persistent=False):
        self.timers[function] = time.monotonic() + first_interval

    def unregister(self, function):
        del self.timers[function]

    def is_registered(self, function):
        return function in self.timers

    def turn(self, until=lambda: False, timeout=20):
        """Fire timers until `until()`, or until none is left."""
        end = time.monotonic() + timeout
        while self.timers and not until():
            assert time.monotonic() < end, "the timers did not come to rest"
            function, due = min(self.timers.items(), key=lambda item: item[1])
            time.sleep(max(0, due - time.monotonic()))
            again = function()
            if function in self.timers:
                if again is None:
                    del self.timers[function]
                else:
                    self.timers[function] = time.monotonic() + again


class Layout:
    """Records what a Panel.draw asks for, and fails on operators and properties that do not exist."""

    def __init__(self, log):
        object.__setattr__(self, "log", log)

    def __setattr__(self, name, value):
        if name == "enabled":
            self.log.append(("enabled", value))

    def __getattr__(self, name):
        if name in ("row", "column", "box", "split"):
            return lambda *a, **k: Layout(self.log)
        return lambda *a, **k: self._record(name, a, k)

    def _record(self, name, args, keywords):
        if name == "operator":
            group, function = args[0].split(".")
            getattr(getattr(bpy.ops, group), function).get_rna_type()
            self.log.append(("operator", args[0]))
            return types.SimpleNamespace()
        if name == "prop":
            assert args[1] in args[0].bl_rna.properties, args[1]
            self.log.append(("prop", args[1]))
            return None
        if name == "prop_search":
            assert args[1] in args[0].bl_rna.properties and args[3] in args[2].bl_rna.properties, args
            self.log.append(("prop", args[1]))
            return None
        self.log.append((name, keywords.get("text", "")))
        return None


@pytest.fixture(scope="session", autouse=True)
def extension(tmp_path_factory):
    parent = tmp_path_factory.mktemp("extensions")
    (parent / "tweed").symlink_to(ADDON, target_is_directory=True)
    import addon_utils

    repos = bpy.context.preferences.extensions.repos
    repo = repos.new(name="Tweed development", module="tweeddev", custom_directory=str(parent), remote_url="")
    assert addon_utils.enable(PACKAGE, default_set=True), "the extension did not register"
    yield sys.modules[PACKAGE]
    addon_utils.disable(PACKAGE, default_set=True)
    repos.remove(repo)


@pytest.fixture(scope="session")
def engine_root():
    """A folder whose `engine` package is the fake one."""
    root = Path(tempfile.mkdtemp(prefix="fake engine é "))
    (root / "engine").mkdir()
    (root / "engine" / "__init__.py").write_text("")
    (root / "engine" / "__main__.py").write_text(
        f"import runpy\nrunpy.run_path({str(TESTS / 'fake_engine.py')!r}, run_name='__main__')\n", "utf-8"
    )
    return root


@pytest.fixture(autouse=True)
def fresh(extension, engine_root, tmp_path, monkeypatch):
    """An empty state for each test: factory file, stopped engine, fake engine found through the environment."""
    monkeypatch.setenv("TWEED_ENGINE_ROOT", str(engine_root))
    monkeypatch.setenv("TWEED_ENGINE_PYTHON", os.environ.get("TWEED_FAKE_PYTHON", sys.executable))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("TWEED_FAKE", raising=False)
    bpy.ops.wm.read_homefile(use_empty=False, use_factory_startup=True)
    from bl_ext.tweeddev.tweed import preferences, session

    preferences.get().jobs_folder = str(tmp_path / "jobs")
    session.now.outcome = None
    yield
    if session.now.run is not None or "TWEED_FAKE" in os.environ:  # else it stays warm for the next test
        session.now.run = None
        session.stop_engine()


@pytest.fixture
def cold():
    """No engine runs yet."""
    from bl_ext.tweeddev.tweed import session

    session.stop_engine()


@pytest.fixture
def pump(monkeypatch):
    """Makes bpy.ops.tweed.generate behave as in a window: it returns at once and the pump does the rest."""
    pump = Pump()
    app = types.SimpleNamespace(
        background=False,
        timers=pump,
        version=bpy.app.version,
        version_string=bpy.app.version_string,
        online_access=True,
    )
    fake = types.SimpleNamespace(app=app)
    from bl_ext.tweeddev.tweed import operators, session

    for module in (session, operators):
        monkeypatch.setattr(module, "bpy", Overlay(bpy, fake))
    return pump


class Overlay:
    """`bpy` with some attributes replaced."""

    def __init__(self, base, over):
        self._base, self._over = base, over

    def __getattr__(self, name):
        return getattr(self._over, name) if hasattr(self._over, name) else getattr(self._base, name)


@pytest.fixture
def draw():
    def run(panels):
        log = []
        for panel in panels:
            if not hasattr(panel, "poll") or panel.poll(bpy.context):
                panel.draw(types.SimpleNamespace(layout=Layout(log)), bpy.context)
        return log

    return run


@pytest.fixture
def cube():
    return bpy.data.objects["Cube"]


def last_job(folder: Path) -> Path:
    return max((f for f in folder.iterdir() if (f / "job.json").is_file()), key=lambda f: f.stat().st_mtime)


def job_record(folder: Path) -> dict:
    return json.loads((last_job(folder) / "job.json").read_text("utf-8"))


@pytest.fixture
def unchanged():
    """`with unchanged("part of the message"): …` : a refusal in words, after which the file is exactly as before."""
    from contextlib import contextmanager

    from snapshot import difference, scene_snapshot

    @contextmanager
    def guard(*words, error=RuntimeError):
        before = scene_snapshot()
        with pytest.raises(error) as caught:
            yield caught
        for word in words:
            assert word in str(caught.value), str(caught.value)
        assert "Traceback" not in str(caught.value)
        assert difference(before, scene_snapshot()) == []

    return guard


@pytest.fixture
def real(monkeypatch, cold):
    """The engine named in the environment, else this checkout's."""
    from bl_ext.tweeddev.tweed import client, session

    root = Path(REAL_ENGINE["TWEED_ENGINE_ROOT"] or TESTS.parent)
    python = Path(REAL_ENGINE["TWEED_ENGINE_PYTHON"] or client.venv_python(root))
    if not python.is_file():
        pytest.skip(f"the engine is not set up: there is no {python}")
    monkeypatch.setenv("TWEED_ENGINE_ROOT", str(root))
    monkeypatch.setenv("TWEED_ENGINE_PYTHON", str(python))
    yield session
    session.stop_engine()
