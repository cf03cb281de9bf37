#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sets Tweed up: `python3 install.py [demo | test | doctor]`. Needs nothing but Python 3.11 to 3.14; -h lists options.

This file is kept to what an old Python can read, so that it says in a sentence what is wrong. The work is done in
engine/setup/.
"""
# ruff: noqa: UP031, RUF005
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
OLDEST, NEWEST = (3, 11), (3, 14)
ASK = "import sys; print('%d.%d' % sys.version_info[:2])"


def suitable(version):
    return OLDEST <= tuple(version[:2]) <= NEWEST


def another_python():
    """The command of a suitable Python elsewhere on this machine, or None."""
    for minor in (13, 12, 11, 14):
        commands = [["python3.%d" % minor]]
        if os.name == "nt":
            commands.append(["py", "-3.%d" % minor])
        for command in commands:
            try:
                answer = subprocess.check_output(command + ["-c", ASK], stderr=subprocess.STDOUT).decode().split(".")
                if suitable((int(answer[0]), int(answer[1]))):
                    return command
            except (OSError, ValueError, IndexError, subprocess.CalledProcessError):
                continue
    return None


def main():
    if not suitable(sys.version_info):
        command = None if os.environ.get("TWEED_OTHER_PYTHON") else another_python()
        here = "%d.%d" % sys.version_info[:2]
        if command is None:
            sys.stderr.write(
                "Tweed needs Python 3.11, 3.12, 3.13 or 3.14; this is Python %s, and no other was found.\n"
                "What to do: install Python 3.13 from python.org or your system's packages, then run\n"
                "    python3.13 install.py\n" % here
            )
            return 2
        print("This is Python %s, which is too %s for Tweed; going on with %s." % (
            here, "old" if sys.version_info[:2] < OLDEST else "new", " ".join(command)))
        sys.stdout.flush()
        environment = dict(os.environ, TWEED_OTHER_PYTHON="1")
        return subprocess.call(command + [os.path.abspath(__file__)] + sys.argv[1:], env=environment)
    sys.path.insert(0, HERE)
    from engine.setup.main import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
