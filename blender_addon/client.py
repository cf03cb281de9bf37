# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine process as Blender sees it: find it, start it once, talk to it, lose it gracefully.

Commands are JSON lines on the engine's standard input; closing that pipe means stop. Answers are files: `engine.json`
in the state folder is the handshake, the job folder's `events.jsonl` and `result.json` are everything else. No
thread, no socket, nothing here waits except `stop`. Imports no bpy.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .jobs import ssh
from .jobs.errors import EngineError, EngineLost, EngineMissing, ProtocolError, TweedError, UserError
from .jobs.folder import PROTO, VERSION

START_SECONDS = 180.0  # a cold start imports torch and compiles kernels
TERMINATE_SECONDS = 5.0  # after a cancel that is not heard: terminate
KILL_SECONDS = 10.0  # and then kill
LOG_LINES = 12


@dataclass(frozen=True)
class EnginePlace:
    """An interpreter and the folder that holds the `engine` package."""

    python: Path
    root: Path
    source: str  # "preferences", "environment", "installation" or "checkout"

    host = ""  # this machine

    def command(self, *arguments: str) -> list[str]:
        """What runs the engine with these arguments, in `folder`."""
        return [str(self.python), "-m", "engine", *arguments]

    def serve(self, state: Path) -> list[str]:
        return self.command("serve", "--state", str(state))

    @property
    def folder(self) -> Path:
        return self.root

    def __str__(self) -> str:
        return f"{self.root} ({self.source}), {self.python}"


@dataclass(frozen=True)
class RemotePlace:
    """An engine on another machine. `far`: where Tweed lies there; "": where its install.py says."""

    host: str
    far: str
    source: str  # "preferences" or "environment"
    package: Path = Path(__file__).parent

    def command(self, *arguments: str) -> list[str]:
        """What runs the far engine with these arguments. Raises EngineMissing."""
        return ssh.command(self.host, self.far, arguments)

    def serve(self, state: Path) -> list[str]:
        """The relay, by Blender's own Python: nothing else is needed here."""
        relay = [sys.executable, "-m", f"{self.package.name}.jobs.relay", "--state", str(state)]
        return [*relay, f"--host={self.host}", f"--folder={self.far}"]

    @property
    def folder(self) -> Path:
        return self.package.parent

    def __str__(self) -> str:
        return f"on {self.host}{f', in {self.far}' if self.far else ''} ({self.source})"


Place = EnginePlace | RemotePlace


@dataclass(frozen=True)
class EngineInfo:
    """What a started engine says of itself in `engine.json`."""

    pid: int
    version: str
    proto: int
    device: str
    rasterizers: tuple[str, ...] = ()  # that can be used there
    models: tuple[str, ...] = ()


def _usable(said) -> tuple[str, ...]:
    """The names in what an engine says of its parts: those with "ok", where it says of each why it cannot be used."""
    if isinstance(said, dict):
        return tuple(str(name) for name, state in said.items() if state == "ok")
    return tuple(map(str, said)) if isinstance(said, list) else ()


def data_folder(environ=os.environ, platform: str = sys.platform) -> Path:
    """The per-user folder where install.py leaves `engine.json`."""
    if platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "tweed"
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "tweed"
    return Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "tweed"


def venv_python(root: Path, platform: str = sys.platform) -> Path:
    """The interpreter of the virtual environment that install.py makes in `root`."""
    return root / ".venv" / ("Scripts/python.exe" if platform == "win32" else "bin/python")


def find_engine(
    python: str = "", root: str = "", environ=os.environ, package: Path = Path(__file__).parent
) -> Place:
    """The engine to use: preferences, then environment, then install.py's pointer file, then the checkout around us.

    A place that was named but is not there is an error and not passed over, so that nobody runs an engine they did not
    choose. Raises EngineMissing.
    """
    if python or root:
        return _place(python, root, "preferences", "Correct the engine's path in Tweed's preferences, or clear it.")
    if environ.get("TWEED_REMOTE"):
        return remote_place(environ["TWEED_REMOTE"], environ.get("TWEED_REMOTE_FOLDER", ""), "environment")
    python, root = environ.get("TWEED_ENGINE_PYTHON", ""), environ.get("TWEED_ENGINE_ROOT", "")
    if python or root:
        return _place(python, root, "environment", "Correct TWEED_ENGINE_PYTHON and TWEED_ENGINE_ROOT, or unset them.")
    pointer = data_folder(environ) / "engine.json"
    if pointer.is_file():
        try:
            found = json.loads(pointer.read_text("utf-8"))
            python, root = str(found["python"]), str(found["root"])
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise EngineMissing(f"{pointer} cannot be read ({fault}).", "Run install.py again.") from None
        return _place(python, root, "installation", "Run install.py again.")
    checkout = package.resolve().parent
    if (checkout / "engine" / "__main__.py").is_file():
        return _place("", str(checkout), "checkout", "Run install.py in that folder.")
    raise EngineMissing(
        "Tweed's engine is not set up on this computer.",
        "Run install.py from Tweed's folder, or set the engine's path in the preferences.",
    )


def remote_place(host: str, folder: str, source: str) -> RemotePlace:
    """Raises EngineMissing for what names no machine."""
    ssh.destination(host.strip())
    return RemotePlace(host.strip(), folder.strip(), source)


def _place(python: str, root: str, source: str, action: str) -> EnginePlace:
    root_path = Path(root).expanduser() if root else Path(python).expanduser().absolute().parent.parent.parent
    python_path = Path(python).expanduser() if python else venv_python(root_path)
    if not (root_path / "engine" / "__main__.py").is_file():
        raise EngineMissing(f"There is no Tweed engine in {root_path} (from the {source}).", action)
    if not python_path.is_file():
        raise EngineMissing(f"The engine's Python is missing: {python_path} (from the {source}).", action)
    return EnginePlace(python_path, root_path, source)


def require_online(place: Place, online: bool) -> None:
    """Raises UserError for an engine elsewhere while Blender is set to stay offline."""
    if place.host and not online:
        raise UserError(
            f"The engine is on {place.host}, and Blender is set to stay offline.",
            "Allow online access in Preferences > System, or choose an engine on this computer in Tweed's preferences.",
        )


def scrubbed_environment(environ=os.environ) -> dict[str, str]:
    """Blender's environment without what would make the engine's Python load Blender's modules."""
    clean = {
        k: v
        for k, v in environ.items()
        if not k.startswith("PYTHON") and k not in ("VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    }
    return clean | {"PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}


class Engine:
    """One warm engine process. `start` returns at once; ask `ready` until it gives the handshake."""

    def __init__(self, place: Place, state: Path, online: bool = True):
        self.place = place
        self.online = online  # else it fetches no models
        self.state = state
        self.log = state / "engine.log"
        self.info: EngineInfo | None = None
        self._process: subprocess.Popen | None = None
        self._started = 0.0
        self._cancelled: float | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process unless it runs. Raises EngineMissing when the system refuses, UserError when offline."""
        if self.alive:
            return
        require_online(self.place, self.online)
        self._hang_up()  # of a process that is gone
        self.info, self._cancelled = None, None
        self.state.mkdir(parents=True, exist_ok=True)
        (self.state / "engine.json").unlink(missing_ok=True)
        if self.log.exists():
            os.replace(self.log, self.state / "engine.previous.log")
        own_group = (
            {"start_new_session": True}
            if os.name == "posix"
            else {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
        )
        try:
            with open(self.log, "wb") as log:
                self._process = subprocess.Popen(
                    self.place.serve(self.state),
                    cwd=self.place.folder,
                    env=scrubbed_environment() | ({} if self.online else {"HF_HUB_OFFLINE": "1"}),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    **own_group,
                )
        except OSError as fault:
            raise EngineMissing(
                f"The engine's Python could not be started: {fault}.", "Run install.py doctor to see what is wrong."
            ) from None
        self._started = time.monotonic()

    def ready(self) -> EngineInfo | None:
        """The handshake, or None while the engine is still starting. Raises EngineLost, ProtocolError."""
        if not self.alive:
            raise self.lost()
        if self.info:
            return self.info
        said = self._said()
        if time.monotonic() - self._started > START_SECONDS:
            self.stop(wait=0)
            raise EngineLost(
                f"The engine was not ready within {START_SECONDS:.0f} seconds.",
                "Open the engine's log.",
                self.log_tail(),
            )
        if not said or "error" in said:  # with an error, its process is about to end
            return None
        if said.get("proto") != PROTO or said.get("version") != VERSION:
            self.stop()
            raise ProtocolError(
                f"The engine is version {said.get('version')} (protocol {said.get('proto')}) "
                f"but this add-on is version {VERSION} (protocol {PROTO}).",
                "Run install.py again so that both come from the same release.",
            )
        if said.get("state") == "starting":  # the right version, and still loading
            return None
        self.info = EngineInfo(
            int(said.get("pid", 0)),
            VERSION,
            PROTO,
            str(said.get("device", "")),
            _usable(said.get("rasterizers")),
            _usable(said.get("models")),
        )
        return self.info

    def run(self, folder: Path) -> None:
        self._cancelled = None
        self._send(op="run", job=str(folder))

    def cancel(self) -> None:
        """Ask the engine to stop its job; `escalate` sees to it that it does."""
        if self._cancelled is None:
            self._cancelled = time.monotonic()
            if self.alive:
                try:
                    self._send(op="cancel")
                except (EngineError, UserError):
                    pass  # a dead engine has cancelled its job

    def escalate(self) -> None:
        """While a cancel is not heard: terminate after 5 seconds, kill after 10."""
        if self._cancelled is None or not self.alive:
            return
        waited = time.monotonic() - self._cancelled
        if waited > KILL_SECONDS:
            self._signal("SIGKILL")
        elif waited > TERMINATE_SECONDS:
            self._signal("SIGTERM")

    def stop(self, wait: float = 3.0) -> None:
        """Ask it to quit, close the lifeline and wait; whatever is left after `wait` seconds is killed."""
        process, self.info = self._process, None
        if process is None:
            return
        if process.poll() is None:
            try:
                process.stdin.write(b'{"op": "quit"}\n')
            except OSError:
                pass  # it closed its end first
        self._hang_up()
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            self._signal("SIGKILL")
            process.wait()
        self._process = None

    def _hang_up(self) -> None:
        """Close the lifeline. What it still holds goes nowhere if the process is gone."""
        if self._process is not None:
            try:
                self._process.stdin.close()
            except OSError:
                pass  # it closed its end first

    def _said(self) -> dict:
        """What the process says of itself; {} while it says nothing."""
        try:
            said = json.loads((self.state / "engine.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def lost(self) -> TweedError:
        """The error for a process that is gone: its own reason, else how it ended; with the end of its log."""
        code = self._process.poll() if self._process else None
        reason = self._said().get("error") if code is not None else None
        if isinstance(reason, dict):
            error = TweedError.from_dict(reason)
            if isinstance(error, TweedError):
                error.log = self.log_tail()
                return error
        how = "The engine is not running." if code is None else f"The engine stopped unexpectedly (exit code {code})."
        return EngineLost(how, "Open the engine's log. Generate starts a new engine.", self.log_tail())

    def log_tail(self) -> str:
        """The last lines of the log, or nothing."""
        try:
            with open(self.log, "rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
                lines = log.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]
        except OSError:
            return ""
        return "\n".join(lines)

    def _send(self, **command) -> None:
        if not self.alive:
            raise self.lost()
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self.lost() from None

    def _signal(self, name: str) -> None:
        """To the process and its children: on POSIX the engine leads a group of its own."""
        try:
            if os.name == "posix":
                os.killpg(self._process.pid, getattr(signal, name))
            elif name == "SIGKILL":
                self._process.kill()
            else:
                self._process.terminate()
        except (ProcessLookupError, PermissionError):
            pass  # it is gone already
