# SPDX-License-Identifier: Apache-2.0
"""`python -m engine texture MESH`: a mesh file in, a textured mesh file out, through an ordinary job folder."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from blender_addon.jobs import settings as schema
from blender_addon.jobs.errors import UserError
from blender_addon.jobs.folder import Job, MeshArrays, inside, new_job_id, read_result, write_job
from blender_addon.jobs.rigs import build_rig
from engine.mesh import Mesh
from engine.mesh_io import load_mesh, save_glb


def job_from_file(path: Path, values: Mapping) -> tuple[Job, Mesh]:
    """The job that textures the mesh in `path` with these settings, and the mesh itself."""
    settings = schema.resolve(values)
    mesh, notes = load_mesh(path)
    for note in notes:
        print(note, file=sys.stderr)
    arrays = MeshArrays(mesh.positions, mesh.triangles, mesh.uvs, mesh.triangle_uvs, mesh.normals, None, None)
    job = Job(
        id=new_job_id(),
        settings=settings,
        mesh=arrays,
        cameras=build_rig(settings["rig"], settings["views"], mesh.positions),
        objects=[{"name": path.stem}],
        origin={"command": "texture", "file": path.name},
    )
    return job, mesh


def texture_file(path: Path, out: Path, values: Mapping, run: Callable[[Path], int]) -> int:
    """Texture a mesh file. `run` runs a job folder and returns an exit code, which is passed on.

    `out` receives `texture.png`, `<name>.glb`, `contact.png` and `report.json`; the job itself stays in `out/jobs`
    so that it can be run again or sent along with a bug report.
    """
    job, mesh = job_from_file(path, {"contact_sheet": True, **values})
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {out} cannot be made: {error.strerror}.", "Choose another --out.") from error
    folder = write_job(out / "jobs", job)
    code = run(folder)
    result = read_result(folder)
    if code != 0 or result is None or result["status"] != "done":
        return code
    for name, relative in result["images"].items():
        shutil.copyfile(inside(folder, relative), out / ("texture.png" if name == "base_color" else f"{name}.png"))
    (out / "report.json").write_text(json.dumps(result["report"], indent=1), encoding="utf-8")
    save_glb(out / f"{path.stem}.glb", mesh, out / "texture.png")
    print(f"Textured: {out / (path.stem + '.glb')}\nLook at:  {out / 'contact.png'}", file=sys.stderr)
    return code
