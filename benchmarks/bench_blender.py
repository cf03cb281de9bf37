# SPDX-License-Identifier: Apache-2.0
"""How long Blender's main thread is held: `PYTHON_WITH_BPY benchmarks/bench_blender.py > blender.json`.

For one million triangles and a 4K texture: seconds to export, to write the job folder and to write the result back,
and the longest single tick of the timer while a (fake) job runs, with the tick that applies the texture apart.
Seconds of the clock and of the processor are both given: on a busy machine only the second is comparable.
"""

import json
import os
import shutil
import sys
import tempfile
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESOURCES = tempfile.mkdtemp(prefix="tweed-bench-")
os.environ["BLENDER_USER_RESOURCES"] = RESOURCES  # before bpy is imported

import bpy  # noqa: E402
import numpy as np  # noqa: E402

SIDE = 708  # a grid of 707 x 707 quads
REPEATS = 3


def clocked(function, repeats: int = REPEATS) -> dict:
    """Least seconds of the clock and of the processor over some repeats."""
    found = []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        function()
        found.append((time.perf_counter() - wall, time.process_time() - processor))
    return {"seconds": round(min(f[0] for f in found), 3), "processor_seconds": round(min(f[1] for f in found), 3)}


def enable():
    import addon_utils  # bpy puts it on the path

    parent = Path(RESOURCES) / "parent"
    parent.mkdir()
    (parent / "tweed").symlink_to(ROOT / "blender_addon", target_is_directory=True)
    bpy.context.preferences.extensions.repos.new(
        name="bench", module="bench", custom_directory=str(parent), remote_url=""
    )
    addon_utils.enable("bl_ext.bench.tweed", default_set=True)
    root = Path(RESOURCES) / "engine_root"
    (root / "engine").mkdir(parents=True)
    (root / "engine" / "__init__.py").touch()
    (root / "engine" / "__main__.py").write_text(
        f"import runpy\nrunpy.run_path({str(ROOT / 'tests' / 'fake_engine.py')!r}, run_name='__main__')\n"
    )
    os.environ["TWEED_ENGINE_ROOT"], os.environ["TWEED_ENGINE_PYTHON"] = str(root), sys.executable


def noisy_png(path: Path, size: int) -> None:
    """A picture as heavy as a painted one: smooth colours under noise of five bits."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 200, size, dtype=np.float32).astype(np.uint8)
    pixels = random.integers(0, 32, (size, size, 3), np.uint8) + ramp[:, None, None]
    rows = np.concatenate([np.zeros((size, 1), np.uint8), pixels.reshape(size, -1)], axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = size.to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    )


def grid():
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=SIDE, y_subdivisions=SIDE, calc_uvs=True)
    return bpy.context.object


def main() -> dict:
    enable()
    from bl_ext.bench.tweed import flow, material, scene, session
    from bl_ext.bench.tweed.jobs import folder, rigs
    from bl_ext.bench.tweed.jobs.settings import resolve

    work = Path(RESOURCES) / "work"
    obj = grid()
    found = {
        "blender": bpy.app.version_string,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "triangles": 2 * len(obj.data.polygons),
    }
    exported = scene.export(bpy.context, [obj])
    found["export"] = clocked(lambda: scene.export(bpy.context, [obj]))
    views = rigs.build_rig("auto", 8, exported.mesh.positions)

    def write():
        job = folder.Job(
            folder.new_job_id(), resolve({"prompt": "bench"}), exported.mesh, views, exported.records, scene.origin()
        )
        found["job_megabytes"] = round(
            sum(f.stat().st_size for f in folder.write_job(work, job).iterdir() if f.is_file()) / 1e6, 1
        )

    found["write_job"] = clocked(write)
    png = Path(RESOURCES) / "4k.png"
    noisy_png(png, 4096)
    found["texture_megabytes"] = round(png.stat().st_size / 1e6, 1)
    record = exported.records
    for name, textures in (("write_back_packed", None), ("write_back_file", Path(RESOURCES) / "textures")):

        def back(textures=textures):
            targets = scene.find_targets(record, scene.origin())
            material.write_back(targets, png, 4096, "bench-000000", textures)

        found[name] = clocked(back)
    found |= stalls(flow, scene, session)
    session.stop_engine()
    return found


def stalls(flow, scene, session) -> dict:
    """Ticks of the timer while a job on the million triangles runs."""
    session.start_engine()
    while session.now.engine.ready() is None:
        time.sleep(0.05)
    wall = time.perf_counter()
    run = session.begin(
        bpy.context, scene.by_names("Grid"), {"prompt": "fake:slow", "texture_size": 1024, "steps": 40, "seed": 0}
    )
    click = time.perf_counter() - wall
    ticks = []
    while session.now.run is not None:
        wall, processor = time.perf_counter(), time.process_time()
        session._pump()
        ticks.append((time.perf_counter() - wall, time.process_time() - processor))
        time.sleep(session.TICK)
    assert session.now.outcome.kind == "done", session.now.outcome
    return {
        "click_seconds": round(click, 3),
        "ticks": len(ticks),
        "longest_tick_ms": round(1000 * max(t[0] for t in ticks[:-1]), 2),
        "longest_tick_processor_ms": round(1000 * max(t[1] for t in ticks[:-1]), 2),
        "applying_tick_ms": round(1000 * ticks[-1][0], 1),
        "job": run.folder.name,
    }


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
    shutil.rmtree(RESOURCES, ignore_errors=True)
    sys.stdout.flush()
    os._exit(0)  # bpy 4.5 hangs at exit while classes are registered
