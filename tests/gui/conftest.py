# SPDX-License-Identifier: Apache-2.0
"""The full Blender application, in a Debian folder (TWEED_BLENDER_ROOT, else .blender-roots/trixie), with our zip.

pytest runs outside; everything of Blender runs inside the folder. Without it, or without root, these tests are skipped.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
PICTURES = os.environ.get("TWEED_PICTURES")  # a folder to copy the screenshots to


@dataclass(frozen=True)
class Application:
    root: Path
    work: Path  # as seen from outside

    def path(self, name: str = "") -> str:
        """A file of the work folder as seen from inside."""
        return f"/var/tmp/{self.work.name}/{name}".rstrip("/")

    def run(self, command: str, seconds: float = 300, **environment: str) -> subprocess.CompletedProcess:
        """A shell command inside, in the work folder, with the fake engine in the environment."""
        variables = {
            "BLENDER_USER_RESOURCES": self.path("blender"),
            "TWEED_ENGINE_ROOT": self.path(),
            "TWEED_ENGINE_PYTHON": "/usr/bin/python3",
            **environment,
        }
        exports = "".join(f"export {name}={value!r}; " for name, value in variables.items())
        return subprocess.run(
            [
                str(HERE / "enter.sh"),
                str(self.root),
                str(REPOSITORY),
                "bash",
                "-c",
                f"{exports} cd {self.path()}; {command}",
            ],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture(scope="session")
def application():
    root = Path(os.environ.get("TWEED_BLENDER_ROOT") or REPOSITORY / ".blender-roots" / "trixie")
    if not (root / "usr/bin/blender").exists():
        pytest.skip("no full Blender application here (TWEED_BLENDER_ROOT)")
    if os.geteuid() != 0:
        pytest.skip("entering the Debian folder needs root")
    (root / "var/cache/tweed").mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="tweed-", dir=root / "var/tmp"))
    application = Application(root, work)
    done = application.run(f"bash /shared/tests/gui/install.sh {application.path()}")
    assert done.returncode == 0, done.stdout + done.stderr
    warnings = [line for line in done.stdout.splitlines() if "WARN" in line and "mounted file-systems" not in line]
    assert not warnings, warnings  # the one left out is of the Debian folder, which has no table of mounts
    yield application
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        for picture in work.glob("*.png"):
            shutil.copy(picture, PICTURES)
    shutil.rmtree(work, ignore_errors=True)
