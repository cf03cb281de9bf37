# SPDX-License-Identifier: Apache-2.0
"""A small valid job for tests to write, damage and read."""

import numpy as np

from blender_addon.jobs.folder import Job, MeshArrays
from blender_addon.jobs.rigs import build_rig


def tetrahedron() -> MeshArrays:
    """Gives four triangles, all optional arrays present."""
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    triangles = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]], dtype=np.int32)
    uvs = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=np.float32)
    normals = np.cross(
        positions[triangles[:, 1]] - positions[triangles[:, 0]], positions[triangles[:, 2]] - positions[triangles[:, 0]]
    )
    corners = np.repeat(normals[:, None] / np.linalg.norm(normals, axis=1)[:, None, None], 3, axis=1)
    return MeshArrays(positions, triangles, uvs, triangles, corners, np.zeros(4, np.int32), np.arange(4) % 2)


def small_job(**settings) -> Job:
    """Gives a job of a tetrahedron and two views."""
    mesh = tetrahedron()
    return Job(
        "20261123T043000Z-1a2b3c",
        {"prompt": "moss", **settings},
        mesh,
        build_rig("auto", 2, mesh.positions),
        [{"name": "Körper", "uid": "7f", "uv_map": "UVMap", "fingerprint": [12, 3405691582], "slots": ["Stein", None]}],
        {"blender": "4.5.4", "file": "C:\\Szenen\\fels.blend"},
    )
