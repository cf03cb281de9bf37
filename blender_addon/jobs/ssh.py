# SPDX-License-Identifier: Apache-2.0
"""How a remote machine is named and reached: the argument list for ssh, and what its failures mean to an artist.

Nothing here passes through a shell on this side. The far shell is handed one command in which every word is quoted.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence

from .errors import EngineMissing, ProtocolError, TweedError

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}"
_HOST = re.compile(rf"(?:(?P<user>{_NAME})@)?(?P<host>{_NAME}|\[[0-9A-Fa-f:.]{{2,60}}\])(?::(?P<port>\d{{1,5}}))?")
OPTIONS = (
    "-T",
    *("-o", "BatchMode=yes"),  # never ask: nobody could answer
    *("-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=15"),
    *("-o", "ServerAliveCountMax=4"),  # a minute of silence is a lost connection
    *("-o", "ClearAllForwardings=yes"),
    *("-o", "ForwardAgent=no"),
    *("-o", "RemoteCommand=none"),
)
# Runs on any Python 3 of the far machine: finds the engine as install.py left it there (or in the folder that is
# named) and becomes it. One line without single quotes, so that every shell takes it as one quoted word.
FINDER = (
    "import json,os,sys;x=os.path.expanduser;f=sys.argv[1] and os.path.abspath(x(sys.argv[1]));"
    'b=x("~/Library/Application Support") if sys.platform=="darwin" '
    'else os.environ.get("XDG_DATA_HOME") or x("~/.local/share");'
    'q=os.path.join(b,"tweed","engine.json");'
    'f or os.path.isfile(q) or sys.exit("tweed: no engine is set up here: there is no %s" % q);'
    'd={"root":f,"python":os.path.join(f,".venv","bin","python")} if f else json.load(open(q,encoding="utf-8"));'
    'm=os.path.join(d["root"],"engine","__main__.py");'
    'os.path.isfile(m) or sys.exit("tweed: no engine is set up here: there is no %s" % m);'
    'os.path.isfile(d["python"]) or sys.exit("tweed: no engine is set up here: there is no %s" % d["python"]);'
    'os.chdir(d["root"]);os.execv(d["python"],[d["python"],"-m","engine"]+sys.argv[2:])'
)


def destination(host: str) -> list[str]:
    """ "user@host:2222" as arguments of ssh. EngineMissing for what is no name: an option, white space, a command."""
    found = _HOST.fullmatch(host)
    if not found:
        raise EngineMissing(
            f"{host[:80]!r} names no machine." if host.strip() else "No remote machine is named.",
            "Write user@host, or the machine's name in your ssh configuration; user@host:2222 for another port.",
        )
    name = found["host"].strip("[]")
    port = ["-p", found["port"]] if found["port"] else []
    return [*port, f"{found['user']}@{name}" if found["user"] else name]


def command(host: str, folder: str, arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> list[str]:
    """The argument list that runs the far machine's engine with these arguments. Raises EngineMissing.

    `folder` is where Tweed lies there; "": where its install.py says. TWEED_SSH names a program in place of ssh.
    """
    if any(ord(letter) < 32 for letter in folder):
        raise EngineMissing("The remote folder's name contains control characters.", "Write the folder again.")
    far = " ".join(shlex.quote(word) for word in ("python3", "-c", FINDER, folder.strip(), *arguments))
    return [environ.get("TWEED_SSH") or "ssh", *OPTIONS, *destination(host), far]


def no_program(host: str, fault: OSError, environ: Mapping[str, str] = os.environ) -> EngineMissing:
    """The error for an ssh that cannot be started."""
    program = environ.get("TWEED_SSH") or "ssh"
    return EngineMissing(f"{host} cannot be reached: {program} could not be started ({fault.strerror or fault}).",
                         "Install OpenSSH's client on this computer.")  # fmt: skip


# What ssh, the far shell and FINDER say, what it means, and what to do. The first that is found counts.
_MEANINGS: tuple[tuple[str, str], ...] = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "Ask whoever runs it why its key is another one before you log in."),
    ("Host key verification failed", "Log in once in a terminal ({ssh}), compare the machine's key, and accept it."),
    ("Permission denied", "Tweed asks for no password: set up a key ({copy}), unlock it in your ssh agent, and see "
                          "that a login in a terminal ({ssh}) asks for nothing."),
    ("Could not resolve hostname", "Check the name, and that this computer is online."),
    ("no engine is set up here", "Run install.py on {host}, or name the folder where Tweed lies there."),
    ("python3: command not found", "{host} needs a python3 that a login without a terminal finds."),
    ("python3: not found", "{host} needs a python3 that a login without a terminal finds."),
)  # fmt: skip


def _plain(line: str, host: str) -> str:
    """A line without who says it."""
    for who in ("tweed: ", "ssh: ", f"{host}: "):
        line = line.strip().removeprefix(who)
    return line


def failure(host: str, code: int | None, words: Sequence[str]) -> TweedError:
    """The error for a connection that ended before the engine answered, from ssh's exit code and its last words."""
    said, login = "\n".join(words), " ".join(destination(host))
    names = {"host": host, "ssh": f"ssh {login}", "copy": f"ssh-copy-id {login}"}
    if "invalid choice: 'remote'" in said:
        return ProtocolError(
            f"The engine on {host} is too old for remote work.", f"Run install.py on {host} again.", said
        )
    for sign, action in _MEANINGS:
        line = next((line for line in reversed(words) if sign in line), "")
        if line:
            return EngineMissing(f"{host} could not be used: {_plain(line, host)}", action.format(**names), said)
    line = next((line for line in reversed(words) if line.strip()), f"ssh ended with exit code {code}")
    return EngineMissing(
        f"{host} could not be used: {_plain(line, host)}", f"Log in once in a terminal (ssh {login}) to see why.", said
    )
