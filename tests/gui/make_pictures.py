# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.gui.make_pictures`: the pictures of docs/panel.md, from a real Blender window and the real engine.

Blender runs inside the Debian folder (`portraits.py`), the engine outside; the job folders are the same files. As root.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.gui.conftest import HERE, REPOSITORY, Application

GALLERY = REPOSITORY / "docs" / "gallery"


class Outside:
    """The real engine, told what the relay inside was told; folders inside are translated to where they really are."""

    def __init__(self, application: Application):
        self.application, self.asked = application, application.work / "asked.jsonl"
        self.over, self.engine = threading.Event(), None
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def real(self, path: str) -> str:
        return str(self.application.root) + path

    def listen(self) -> None:
        done = 0
        while not self.over.is_set():
            lines = self.asked.read_text("utf-8").splitlines() if self.asked.exists() else []
            for line in lines[done:]:
                self.pass_on(json.loads(line))
            done = len(lines)
            time.sleep(0.05)

    def pass_on(self, command: dict) -> None:
        if command["op"] == "serve":
            state = self.real(command["state"])
            self.engine = subprocess.Popen([sys.executable, "-m", "engine", "serve", "--state", state], cwd=REPOSITORY,
                                           stdin=subprocess.PIPE, text=True)  # fmt: skip
        elif self.engine is not None:
            if "job" in command:
                command = {**command, "job": self.real(command["job"])}
            self.engine.stdin.write(json.dumps(command) + "\n")
            self.engine.stdin.flush()
            if command["op"] == "quit":
                self.engine.stdin.close()
                self.engine.wait(60)
                self.engine = None

    def close(self) -> None:
        self.over.set()
        self.thread.join()
        if self.engine is not None:
            self.engine.terminate()
            self.engine.wait(60)


def main() -> None:
    root = Path(os.environ.get("TWEED_BLENDER_ROOT") or REPOSITORY / ".blender-roots" / "trixie")
    application = Application(root, Path(tempfile.mkdtemp(prefix="portraits-", dir=root / "var/tmp")))
    done = application.run(f"bash /shared/tests/gui/install.sh {application.path()}")
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copy(HERE / "relay.py", application.work / "engine" / "__main__.py")
    outside = Outside(application)
    try:
        done = application.run(f"python3 /shared/tests/gui/portraits.py {application.path()}", seconds=1500)
    finally:
        outside.close()
    print(done.stdout, done.stderr)
    for picture in sorted(application.work.glob("panel-*.png")):
        shutil.copy(picture, GALLERY)
        print(picture.name)
    if done.returncode == 0:
        shutil.rmtree(application.work, ignore_errors=True)
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
