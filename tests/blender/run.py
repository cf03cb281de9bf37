# SPDX-License-Identifier: Apache-2.0
"""`python tests/blender/run.py [pytest arguments]`: pytest inside the bpy module.

Leaves through os._exit: with a timer or a class still registered bpy 4.2 segfaults and bpy 4.5 hangs at interpreter
exit.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

resources = tempfile.mkdtemp(prefix="tweed-blender-")
os.environ["BLENDER_USER_RESOURCES"] = resources  # before bpy is imported: no real preferences, no real extensions
os.environ["XDG_CACHE_HOME"] = resources

import bpy  # noqa: E402, F401
import pytest  # noqa: E402

here = Path(__file__).resolve().parent
code = pytest.main(
    ["-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=error:::bl_ext", *(sys.argv[1:] or [str(here)])]
)
shutil.rmtree(resources, ignore_errors=True)
sys.stdout.flush()
sys.stderr.flush()
os._exit(int(code))
