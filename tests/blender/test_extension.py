# SPDX-License-Identifier: Apache-2.0
"""The package: imports without Blender, registers twice, builds, validates, installs from its zip, goes cleanly."""

import subprocess
import sys
from pathlib import Path

import addon_utils
import bpy
from conftest import ADDON, PACKAGE


def test_package_and_jobs_import_without_blender():
    code = "import sys; sys.modules['bpy'] = None; from blender_addon import client, flow, jobs"
    subprocess.run([sys.executable, "-c", code], cwd=ADDON.parent, check=True, timeout=60)


def test_disable_and_enable_again():
    for _ in range(2):
        addon_utils.disable(PACKAGE, default_set=True)
        assert not hasattr(bpy.types.Scene, "tweed")
        assert not hasattr(bpy.types, "TWEED_PT_main")
        assert addon_utils.enable(PACKAGE, default_set=True)
        assert hasattr(bpy.types.Scene, "tweed")


def test_builds_validates_installs_and_leaves(tmp_path):
    tool = Path(bpy.utils.system_resource("SCRIPTS")) / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py"

    def run(*arguments):
        done = subprocess.run([sys.executable, str(tool), *arguments], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "WARN" not in run("validate", str(ADDON))
    run("build", "--source-dir", str(ADDON), "--output-dir", str(tmp_path))
    archive = next(tmp_path.glob("*.zip"))
    assert archive.name == "tweed-0.1.0.zip"
    assert "WARN" not in run("validate", str(archive))
    addon_utils.disable(PACKAGE, default_set=True)
    try:
        bpy.ops.extensions.package_install_files(filepath=str(archive), repo="user_default", enable_on_install=True)
        module = "bl_ext.user_default.tweed"
        assert module in bpy.context.preferences.addons
        assert bpy.ops.tweed.generate(prompt="x", texture_size=64, objects="Cube") == {"FINISHED"}
        sys.modules[module + ".session"].stop_engine()
        addon_utils.disable(module, default_set=True)
        bpy.ops.extensions.package_uninstall(
            repo_index=next(
                i for i, r in enumerate(bpy.context.preferences.extensions.repos) if r.module == "user_default"
            ),
            pkg_id="tweed",
        )
    finally:
        addon_utils.enable(PACKAGE, default_set=True)


def test_no_module_of_ours_outside_the_package():
    ours = [name for name in sys.modules if name.split(".")[0] in ("tweed", "engine", "jobs")]
    assert ours == []
