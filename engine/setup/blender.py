# SPDX-License-Identifier: Apache-2.0
"""Real Blender: finding the application, installing the extension into it, and the `bpy` wheel where there is none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.setup import pip, venv
from engine.setup.console import SetupProblem, say
from engine.setup.machine import Run, ask, can_use_apt, hidden_window

OLDEST = (4, 2)
WHEELS = {
    (3, 11): "4.5.15",
    (3, 13): "5.2.3",
}  # Python -> the bpy wheel made for it (requirements/blender.txt pins the same)

# Shared libraries that the bpy wheel needs from the system -> Debian's package for each.
LIBRARIES = {
    "libX11": "libx11-6",
    "libXrender": "libxrender1",
    "libXfixes": "libxfixes3",
    "libXi": "libxi6",
    "libXxf86vm": "libxxf86vm1",
    "libxkbcommon": "libxkbcommon0",
    "libSM": "libsm6",
    "libICE": "libice6",
    "libGL": "libgl1",
    "libEGL": "libegl1",
    "libXext": "libxext6",
    "libgomp": "libgomp1",
}


@dataclass(frozen=True)
class Application:
    path: Path
    version: tuple[int, ...]

    @property
    def text(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def usable(self) -> bool:
        return self.version[:2] >= OLDEST

    @property
    def sandboxed(self) -> str:
        """The name of a sandbox that may keep Blender from starting the engine, or ""."""
        text = self.path.as_posix().lower()
        return next(
            (
                name
                for mark, name in (("/snap/", "Snap"), ("flatpak", "Flatpak"), ("windowsapps", "Microsoft Store"))
                if mark in text
            ),
            "",
        )


def candidates(system: str, environment: Mapping[str, str], home: Path) -> Iterable[Path]:
    """Places where a Blender may be, the most wanted first. $BLENDER names one outright."""
    if environment.get("BLENDER"):
        yield Path(environment["BLENDER"])
    on_path = shutil.which("blender", path=environment.get("PATH"))
    if on_path:
        yield Path(on_path)
    if system == "Windows":
        for variable in ("ProgramFiles", "ProgramW6432", "LOCALAPPDATA", "ProgramFiles(x86)"):
            base = Path(environment[variable]) if environment.get(variable) else None
            if base:
                yield from newest(base.glob("Blender Foundation/Blender*/blender.exe"))
                yield from newest(base.glob("Programs/Blender Foundation/Blender*/blender.exe"))
                yield base / "Steam/steamapps/common/Blender/blender.exe"
    elif system == "Darwin":
        for base in (Path("/Applications"), home / "Applications"):
            yield from newest(base.glob("Blender*.app/Contents/MacOS/Blender"))
    else:
        for base in (Path("/opt"), Path("/usr/local"), home, home / "Applications", home / "Downloads", home / "bin"):
            yield from newest(base.glob("[bB]lender*/blender"))
        yield home / ".steam/steam/steamapps/common/Blender/blender"
        yield Path("/snap/bin/blender")
        yield Path("/var/lib/flatpak/exports/bin/org.blender.Blender")
        yield home / ".local/share/flatpak/exports/bin/org.blender.Blender"


def newest(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))], reverse=True)


def version_of(path: Path, run: Run = ask) -> tuple[int, ...] | None:
    found = re.search(r"Blender (\d+)\.(\d+)\.(\d+)", run([str(path), "--version"]) or "")
    return tuple(int(n) for n in found.groups()) if found else None


def find(
    system: str, environment: Mapping[str, str] | None = None, home: Path | None = None, run=ask
) -> list[Application]:
    """The Blenders on this machine, usable ones first; each real file once."""
    found, seen = [], set()
    for path in candidates(system, os.environ if environment is None else environment, home or Path.home()):
        real = path.resolve()
        if real in seen or not path.is_file():
            continue
        seen.add(real)
        version = version_of(path, run)
        if version:
            found.append(Application(path, version))
    return sorted(found, key=lambda app: not app.usable)


def install_extension(app: Application, archive: Path, log: Path) -> None:
    code, output = pip.run(
        [app.path, "--command", "extension", "install-file", "-r", "user_default", "-e", archive], log
    )
    if code:
        last = ([line for line in output.splitlines() if line.strip()] or ["no output"])[-1]
        raise SetupProblem(
            f"Blender {app.text} did not take the extension: {last}",
            f"Drag {archive} into a Blender window instead, or use Preferences > Get Extensions > Install from Disk.",
            code=3,
        )


def has_extension(app: Application) -> bool:
    text = ask([str(app.path), "--command", "extension", "list"], seconds=60) or ""
    return bool(re.search(r"^\s+tweed\b", text, re.MULTILINE))


def wheel_version() -> str | None:
    """The Blender that comes as a wheel for the running Python, or None. Only for x86-64 and Apple silicon."""
    return WHEELS.get(sys.version_info[:2])


def ensure_wheel(wanted: venv.Wanted, log: Path, options=()) -> Path:
    """Set up the environment with Blender as a Python module; returns its Python."""
    if any(line.startswith("bpy") for line in venv.missing(wanted)):
        say(f"  Blender {wheel_version()} as a Python module: about 400 MB to download, 1 GB on the disk")
    if venv.ensure(wanted, log, options):
        check_import(wanted.folder, log)
    return venv.python_of(wanted.folder)


def check_import(folder: Path, log: Path) -> None:
    """bpy needs a few system libraries (OpenGL, X11) even without a screen; get them, or say which."""
    for _ in range(len(LIBRARIES)):
        error = import_error(folder)
        library = re.search(r"(lib[\w+-]+?)\.so[.\d]*: cannot open shared object", error)
        if not error:
            return
        package = LIBRARIES.get(library[1]) if library else None
        if package is None:
            break
        if not can_use_apt():
            raise SetupProblem(
                f"Blender's Python module needs the system library {library[1]}.",
                f"Run: sudo apt install {' '.join(sorted(LIBRARIES.values()))}   then the same command again.",
                code=3,
            )
        say("  installing the system libraries that Blender needs")
        pip.run(["apt-get", "update", "-q"], log)
        pip.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *sorted(LIBRARIES.values())], log)
    (folder / venv.STAMP).unlink(missing_ok=True)
    raise SetupProblem(
        f"Blender's Python module does not start: {error.strip().splitlines()[-1]}",
        f"See {log}; or install Blender itself.",
        code=3,
    )


def import_error(folder: Path) -> str:
    """What `import bpy` says on its way down, or "" when it works."""
    code = "import bpy, os, sys; sys.stdout.flush(); os._exit(0)"
    done = subprocess.run(
        [venv.python_of(folder), "-c", code],
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        env=pip.environment(),
        **hidden_window(),
    )
    return "" if done.returncode == 0 else done.stderr or f"exit code {done.returncode}"
