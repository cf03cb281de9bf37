# SPDX-License-Identifier: Apache-2.0
"""A file that one process at a time holds. The system releases it when that process ends, however it ends."""

from __future__ import annotations

import os
from typing import IO


def lock(file: IO) -> bool:
    """Take the lock of an open file, without waiting; whether it is ours now. It is released when the file is closed."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
