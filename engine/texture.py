# SPDX-License-Identifier: Apache-2.0
"""`python -m engine texture MESH`: a mesh file in, a textured mesh file out, through an ordinary job folder."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from blender_addon.jobs import settings as schema
from blender_addon.jobs.coverage import cameras_for
from blender_addon.jobs.errors import SettingsError, UserError
from blender_addon.jobs.folder import (
    Job,
    MeshArrays,
    edited_size,
    inside,
    needs_texture,
    new_job_id,
    of_tile,
    read_result,
    write_job,
)
from blender_addon.jobs.png import parse_header
from blender_addon.jobs.rigs import names_left
from blender_addon.jobs.uv_tiles import textures_of, tiles_of
from engine.mesh import Mesh
from engine.mesh_image import base_color_of, texture_bytes
from engine.mesh_io import load_mesh, save_glb
from engine.pictures import as_png

UDIM = "<UDIM>"  # stands for the number of a tile in a file's name, as in Blender


def job_from_file(path: Path, values: Mapping) -> tuple[Job, Mesh]:
    """The job that textures the mesh in `path` with these settings, and the mesh itself."""
    settings = schema.resolve(values)
    names_left(settings)
    mesh, notes = load_mesh(path)
    for note in notes:
        print(note, file=sys.stderr)
    arrays = MeshArrays(mesh.positions, mesh.triangles, mesh.uvs, mesh.triangle_uvs, mesh.normals, None, None)
    job = Job(
        id=new_job_id(),
        settings=settings,
        mesh=arrays,
        cameras=cameras_for(settings, arrays),
        objects=[{"name": path.stem}],
        origin={"command": "texture", "file": path.name},
    )
    return job, mesh


@dataclass(frozen=True)
class Pictures:
    """Files named on the command line: the texture to start from (None: the mesh's own), and the mask of the region.

    Their names may have <UDIM> in them: a file for each tile.
    """

    texture: Path | None = None
    region: Path | None = None


def with_pictures(path: Path, values: Mapping, files: Pictures) -> tuple[dict, dict[str, bytes]]:
    """The settings that go with the pictures, and the pictures as the job wants them.

    A texture to start from decides the texture's size. <UDIM> in a file's name stands for the numbers of the tiles that
    the mesh's UVs lie in. Raises UserError for pictures that are missing or do not serve.
    """
    values, inputs = dict(values), {}
    if files.texture is not None:
        values.setdefault("start", "texture")
    if files.region is not None:
        values |= {"region": "mask", "region_mask": files.region.name}
    settings = schema.resolve(values)
    if files.region is not None:
        inputs |= pictures_of(files.region, "region", path, settings)
    if not needs_texture(settings):
        return values, inputs
    name = str(files.texture or path)
    skins = pictures_of(files.texture, "base_color", path, settings) if files.texture else {
        "base_color": as_png(base_color_of(path), name)}  # fmt: skip
    sizes = {}
    for data in skins.values():
        header = parse_header(data, name)
        sizes[edited_size(header.width, header.height, name)] = True
    size, *others = sizes
    if others:
        raise SettingsError(f"The tiles of {name} differ in size: {size} and {others[0]} pixels.", "Scale them to one size.",
                            key="start")
    if values.get("texture_size", size) != size:
        print(f"The texture keeps its size of {size}; texture_size {values['texture_size']} is not used.", file=sys.stderr)
    return {**values, "texture_size": size}, {**skins, **inputs}


def pictures_of(file: Path, kind: str, mesh_file: Path, settings: Mapping) -> dict[str, bytes]:
    """The job's input pictures of a kind from a file, or, with <UDIM> in its name, from one for each tile. UserError."""
    if UDIM not in file.name:
        return {kind: as_png(texture_bytes(file), str(file))}
    mesh, _ = load_mesh(mesh_file)
    textures = textures_of(tiles_of(mesh.uvs, mesh.triangle_uvs), settings["uv_tiles"])
    found = {}
    for name in textures.names:
        number = name or textures.home
        if number is None:
            raise SettingsError(f"{file.name} has a picture for each UDIM tile, and the UVs lie in several or in none of "
                                "them, as if one texture repeats.", "Set uv_tiles to udim.", key="uv_tiles")
        one = file.with_name(file.name.replace(UDIM, str(number)))
        found[of_tile(kind, name)] = as_png(texture_bytes(one), str(one))
    return found


def texture_file(
    path: Path, out: Path, values: Mapping, run: Callable[[Path], int], files: Pictures = Pictures()  # noqa: B008 frozen
) -> int:
    """Texture a mesh file. `run` runs a job folder and returns an exit code, which is passed on.

    `out` receives `texture.png`, `<name>.glb`, `contact.png`, `report.json` and what else was asked for (`turntable.webp`);
    the job itself stays in `out/jobs` so that it can be run again or sent along with a bug report.
    """
    values, pictures = with_pictures(path, values, files)
    job, mesh = job_from_file(path, {"contact_sheet": True, **values})
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {out} cannot be made: {error.strerror}.", "Choose another --out.") from error
    folder = write_job(out / "jobs", job, pictures)
    code = run(folder)
    result = read_result(folder)
    if code != 0 or result is None or result["status"] != "done":
        return code
    for name, relative in result["images"].items():
        kind = Path(relative).suffix
        shutil.copyfile(inside(folder, relative), out / ("texture.png" if name == "base_color" else f"{name}{kind}"))
    (out / "report.json").write_text(json.dumps(result["report"], indent=1), encoding="utf-8")
    tiles = [name for name in result["images"] if name.startswith("base_color.")]
    if tiles:
        print(f"Textured: {out / tiles[0]}.png and the other tiles; a .glb knows no UDIM, so none is written.", file=sys.stderr)
        return code
    save_glb(out / f"{path.stem}.glb", mesh, out / "texture.png")
    print(f"Textured: {out / (path.stem + '.glb')}\nLook at:  {out / 'contact.png'}", file=sys.stderr)
    return code
