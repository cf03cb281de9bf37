# SPDX-License-Identifier: Apache-2.0
"""How much memory the loop takes with more views: beyond the canonical image and the views themselves, one chunk.

Each number of views runs in a process of its own, on swatch at 128 px, and reports the memory it held at most over what it
held just before. The maps between views and texture are made before and are not counted: they belong to the views. Every
tensor goes back to the system when it is freed, so that the allocator's leftovers are not counted either. Linux.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import threading
import time

COUNTS, SIZE, STEPS, CHUNK = (8, 16, 32, 48), 128, 3, 8
MIB = 2**20


def now() -> int:
    """Bytes of memory this process holds."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


class Peak:
    """The most memory held while this lasts, looked at every 2 ms from another thread."""

    def __enter__(self) -> Peak:
        self.most, self.running = now(), True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while self.running:
            self.most = max(self.most, now())
            time.sleep(0.002)

    def __exit__(self, *_) -> None:
        self.running = False
        self.thread.join()


def measure(views: int, part: str) -> dict[str, float]:
    """MiB held beyond what was held before, by one call of the networks (`part` "networks") or the whole "loop"."""
    import torch

    from blender_addon.jobs.rigs import build_rig
    from blender_addon.jobs.settings import resolve
    from engine.methods.synchronized import run
    from engine.models import load_model
    from engine.raster import pick_rasterizer
    from engine.spaces.uv import UVTexture

    from .shapes import bumpy_torus

    torch.set_num_threads(1)
    model, mesh, rasterizer = load_model("swatch", torch.device("cpu")), bumpy_torus(60, 30), pick_rasterizer("numba")
    settings, levels = resolve({"prompt": "x", "views": views, "steps": STEPS}), model.levels(STEPS)
    cameras = build_rig("auto", views, mesh.positions)
    latent = UVTexture(mesh, cameras, rasterizer, SIZE // model.factor, channels=model.channels)
    pixel = UVTexture(mesh, cameras, rasterizer, SIZE, channels=3)
    denoiser = model.denoiser(["red wood"] * views, [""] * views, torch.zeros(views, 1, SIZE, SIZE), 2.0, chunk=CHUNK)
    x = latent.project_noise(torch.Generator().manual_seed(0))
    model.decode(denoiser.only([0])(x[:1], levels[0]))  # what is allocated once
    pixel.sync(torch.zeros(views, 3, SIZE, SIZE))
    ctypes.CDLL(None).malloc_trim(0)  # or memory freed while making the maps would be used again and not be seen
    before = now()
    with Peak() as peak:
        if part == "networks":
            denoiser(x, levels[0])
        else:
            run(denoiser, latent, levels, settings, torch.Generator().manual_seed(0), model, pixel_space=pixel)
    return {"peak": (peak.most - before) / MIB, "images": views * 3 * SIZE * SIZE * 4 / MIB}


def main() -> None:
    from .keep import keep

    found: dict[str, dict[int, dict[str, float]]] = {"networks": {}, "loop": {}}
    for views in COUNTS:
        for part, table in found.items():
            environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
            done = subprocess.run([sys.executable, "-m", "benchmarks.views", str(views), part], capture_output=True,
                                  text=True, check=True, env=environment)  # fmt: skip
            table[views] = json.loads(done.stdout.splitlines()[-1])
            print(views, part, table[views], flush=True)
    networks, loop = ([table[views]["peak"] for views in COUNTS] for table in found.values())
    images = [found["loop"][views]["images"] for views in COUNTS]
    grown = (loop[-1] - loop[0]) / (images[-1] - images[0])
    answer = {
        "networks_mib": {str(views): round(one, 1) for views, one in zip(COUNTS, networks, strict=True)},
        "loop_mib": {str(views): round(one, 1) for views, one in zip(COUNTS, loop, strict=True)},
        "copies_of_the_images_per_view": round(grown, 2),
    }
    counts = ", ".join(map(str, COUNTS))
    keep("views", f"Memory while {counts} views of {SIZE} px are denoised together, {CHUNK} at a time: one call of the "
         "networks, the whole loop, and by how many copies of the decoded views the loop grows", answer,
         "networks flat (within a tenth); at most 6 copies", networks[-1] <= 1.1 * networks[0] and grown <= 6)  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]), sys.argv[2])))
    else:
        main()
