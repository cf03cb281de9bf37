# SPDX-License-Identifier: Apache-2.0
"""The demo's scene and its one button press. Runs inside Blender (`blender -b --python demo_scene.py -- JSON`) or in
the environment with the `bpy` module (`python demo_scene.py -- JSON`); never inside the engine.
"""

import json
import math
import os
import shutil
import sys
from pathlib import Path

import bpy

DEMO_VIEW = 384  # px; swatch was trained at 256 and draws finer at half as much again, for twice the time


def main(wish: dict) -> None:
    """`wish`: zip (the built extension), out (folder), prompt, quality, seed."""
    out = Path(wish["out"])
    bpy.ops.extensions.package_install_files(filepath=wish["zip"], repo="user_default", enable_on_install=True)
    make_scene()
    settings = {name: wish[name] for name in ("prompt", "quality", "seed") if wish.get(name) is not None}
    settings |= {"contact_sheet": True, "view_size": DEMO_VIEW}
    if bpy.ops.tweed.generate("EXEC_DEFAULT", wait=True, **settings) != {"FINISHED"}:
        raise SystemExit("Tweed did not finish; what it said stands above.")
    job = newest_job()
    for name in ("texture.png", "contact.png"):
        if (job / "out" / name).exists():
            shutil.copyfile(job / "out" / name, out / name)
    report = json.loads((job / "result.json").read_text(encoding="utf-8"))["report"]
    report["blender"] = bpy.app.version_string
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    bpy.ops.wm.save_as_mainfile(filepath=str(out / "suzanne.blend"), check_existing=False)


def make_scene() -> None:
    """Suzanne, subdivided, with the UV map she comes with (no overlaps), a light and a camera so that F12 shows her."""
    for thing in list(bpy.data.objects):
        bpy.data.objects.remove(thing)
    bpy.ops.mesh.primitive_monkey_add(size=2, calc_uvs=True)
    suzanne = bpy.context.object
    suzanne.name = "Suzanne"
    bpy.ops.object.shade_smooth()
    smooth = suzanne.modifiers.new("Subdivision", "SUBSURF")
    smooth.levels = smooth.render_levels = 2

    light = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    light.data.energy = 3
    light.rotation_euler = (math.radians(50), 0, math.radians(30))
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.location, camera.rotation_euler = (2.2, -5.2, 1.6), (math.radians(75), 0, math.radians(23))
    for thing in (light, camera):
        bpy.context.collection.objects.link(thing)
    bpy.context.scene.camera = camera
    for screen in bpy.data.screens:
        for area in screen.areas:
            for space in area.spaces:
                if space.type == "VIEW_3D":
                    space.shading.type = "MATERIAL"
    bpy.context.view_layer.objects.active = suzanne
    suzanne.select_set(True)


def newest_job() -> Path:
    """The folder of the job that just ran; the demo's Blender has a settings folder of its own, so there is one."""
    results = list(Path(os.environ["BLENDER_USER_RESOURCES"]).rglob("result.json"))
    if not results:
        raise SystemExit("Tweed finished but left no job folder.")
    return max(results, key=lambda file: file.stat().st_mtime).parent


if __name__ == "__main__":
    code = 1
    try:
        main(json.loads(sys.argv[sys.argv.index("--") + 1]))
        code = 0
    finally:
        if not bpy.app.binary_path:  # the module: Blender 4.5 hangs at exit when a class is still registered
            if code:
                sys.excepthook(*sys.exc_info())
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
