# SPDX-License-Identifier: Apache-2.0
"""A machine to log in to, for tests: a program in place of ssh that runs the far command here, in another home."""

import json
import sys
from pathlib import Path

from tests.programs import fake_program

ROOT = Path(__file__).resolve().parent.parent

# Takes ssh's options and the host away, notes all of it, and does what sshd does with the rest: a shell in the home
# folder, in a session of its own, whose input ends when the connection does.
SSH = """
import os, subprocess, sys, threading
words, home, asked = sys.argv[3:], sys.argv[1], sys.argv[2]
with open(asked, "a", encoding="utf-8") as file:
    file.write(" ".join(words) + "\\n")
while words[0].startswith("-"):
    words = words[2 if words[0] in ("-o", "-p") else 1:]
environ = {k: v for k, v in os.environ.items() if k not in ("XDG_DATA_HOME", "PYTHONPATH", "TWEED_REMOTE")}
far = subprocess.Popen(["sh", "-c", " ".join(words[1:])], cwd=home, env=environ | {"HOME": home}, bufsize=0,
                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)

def carry(read, write, close):
    try:
        while data := os.read(read, 1 << 16):
            while data:
                data = data[os.write(write, data):]
    except OSError:
        pass
    close()

threading.Thread(target=carry, args=(0, far.stdin.fileno(), far.stdin.close), daemon=True).start()
carry(far.stdout.fileno(), 1, lambda: None)
os._exit(far.wait())
"""


def fake_ssh(folder: Path, home: Path) -> Path:
    """The program; what it is asked is added to `folder/asked`."""
    home.mkdir(parents=True, exist_ok=True)
    (folder / "ssh.py").write_text(SSH, "utf-8")
    return fake_program(folder / "ssh", f'exec "{sys.executable}" "{folder}/ssh.py" "{home}" "{folder}/asked" "$@"')


def far_engine(home: Path, root: Path, python: Path | str = sys.executable) -> Path:
    """Leaves in `home` what install.py leaves: the pointer to the engine in `root`. Gives the data folder."""
    data = home / ("Library/Application Support" if sys.platform == "darwin" else ".local/share") / "tweed"
    data.mkdir(parents=True)
    (data / "engine.json").write_text(json.dumps({"python": str(python), "root": str(root)}), "utf-8")
    return data


def fake_far_root(root: Path, version: str = "") -> Path:
    """A folder whose `engine` package is the fake one, but for `remote`, which is the real one around it."""
    (root / "engine").mkdir(parents=True)
    (root / "engine" / "__init__.py").write_text("")
    lines = (
        "import runpy, sys",
        "if sys.argv[1:] == ['remote']:",
        f"    sys.path.append({str(ROOT)!r})",
        *(("    from blender_addon.jobs import folder", f"    folder.VERSION = {version!r}") if version else ()),
        "    import engine",
        f"    engine.__path__.append({str(ROOT / 'engine')!r})",
        f"    runpy.run_path({str(ROOT / 'engine' / 'remote.py')!r}, run_name='__main__')",
        "else:",
        f"    runpy.run_path({str(ROOT / 'tests' / 'fake_engine.py')!r}, run_name='__main__')",
    )
    (root / "engine" / "__main__.py").write_text("\n".join(lines) + "\n", "utf-8")
    fake_program(root / ".venv" / "bin" / "python", f'exec "{sys.executable}" "$@"')
    return root
