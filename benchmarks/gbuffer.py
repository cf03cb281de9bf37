# SPDX-License-Identifier: Apache-2.0
"""G-buffers for 8 views of 512 px of a mesh of half a million triangles, over the bare rasterization underneath."""

from __future__ import annotations

from blender_addon.jobs.rigs import build_rig
from engine.cameras import clip_positions
from engine.raster import available_rasterizers, pick_rasterizer
from engine.raster.gbuffer import render_gbuffer

from .keep import in_turns, keep, medians, ratio
from .shapes import bumpy_torus

SIZE = 512


def embree(mesh, cameras):
    """Rays through every pixel centre, built and cast by Embree: what a good ray tracer needs for the same ids."""
    import numpy as np
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene()
    TriangleMesh(scene, mesh.positions, mesh.triangles)
    centre = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    x, y = np.meshgrid(centre, -centre)
    for camera in cameras:
        back = np.linalg.inv(camera.view)
        across = np.stack([x / camera.projection[0, 0], y / camera.projection[1, 1], -np.ones_like(x)], -1)
        rays = (across @ back[:3, :3].T).reshape(-1, 3).astype(np.float32)
        scene.run(np.repeat(back[None, :3, 3], len(rays), 0).astype(np.float32), rays)


def main() -> None:
    mesh = bumpy_torus(1000, 250)
    cameras = build_rig("auto", 8, mesh.positions)
    calls = {}
    for name, state in available_rasterizers().items():
        if state == "ok" and name != "reference":
            backend = pick_rasterizer(name, "cuda" if name == "nvdiffrast" else "cpu")
            calls[f"{name}_ids"] = lambda backend=backend: backend.triangle_ids(
                clip_positions(mesh.positions, cameras), mesh.triangles, SIZE, SIZE)
            calls[f"{name}_gbuffer"] = lambda backend=backend: render_gbuffer(backend, mesh, cameras, SIZE, SIZE)
    calls["embree_ids"] = lambda: embree(mesh, cameras)
    seconds = in_turns(calls, 5)
    answer = {"triangles": len(mesh.triangles), "seconds": medians(seconds)}
    answer["gbuffer_over_bare_ids"] = round(ratio(seconds, "numba_gbuffer", "numba_ids"), 2)
    answer["embree_ids_over_gbuffer"] = round(ratio(seconds, "embree_ids", "numba_gbuffer"), 2)
    keep("gbuffer", "G-buffers of 8 views of 512 px of 500,000 triangles, over finding the triangles alone, in one run",
         answer, "at most 4 times the bare ids", answer["gbuffer_over_bare_ids"] <= 4)  # fmt: skip


if __name__ == "__main__":
    main()
