# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for programs that this machine may not have, such as Blender or nvidia-smi."""

import os
from pathlib import Path

import pytest

posix_only = pytest.mark.skipif(os.name == "nt", reason="the fake programs are shell scripts")


def fake_program(file: Path, *lines: str) -> Path:
    """A shell script of these lines in place of a program."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n", encoding="utf-8")
    file.chmod(0o755)
    return file
