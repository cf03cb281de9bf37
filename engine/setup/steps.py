# SPDX-License-Identifier: Apache-2.0
"""What plain `install.py` does, in order: the engine's environment, the extension's zip, Blender, the pointer file."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from engine.setup import blender, bundle, pip, torch_build, venv
from engine.setup.console import SetupProblem, duration, say, step
from engine.setup.machine import Machine, data_folder, look


@dataclass(frozen=True)
class Layout:
    """Where everything lives. In a checkout all of it is beside install.py; a bundle goes to the per-user folder."""

    source: Path  # the folder of install.py
    root: Path  # the engine's root: what PYTHONPATH must hold
    work: Path  # where environments and logs go
    data: Path  # the per-user folder with the pointer file

    @property
    def engine(self) -> Path:
        return self.work / ".venv"

    @property
    def blender(self) -> Path:
        return self.work / ".venv-blender"

    @property
    def setup(self) -> Path:
        return self.work / ".tweed-setup"

    @property
    def log(self) -> Path:
        return self.setup / "install.log"

    @property
    def python(self) -> Path:
        return venv.python_of(self.engine)


def layout(source: Path, prefix: Path | None, machine: Machine) -> Layout:
    data = data_folder(machine.system, os.environ, Path.home())
    if bundle.is_bundle(source):
        work = prefix or data
        return Layout(source, work / f"engine-{bundle.version(source)}", work, data)
    return Layout(source, source, prefix or source, data)


def engine_wish(place: Layout, build: torch_build.TorchBuild, develop: bool = False) -> venv.Wanted:
    """What the engine's environment must hold. On a CPU any build of the right torch will do."""
    needs = place.source / "requirements"
    extra = () if build.name in ("cpu", "apple") else (build.requirement,)
    files = (needs / "engine.txt", needs / "dev.txt") if develop else (needs / "engine.txt",)
    return venv.Wanted(place.engine, files, needs / "constraints.txt", extra, build.disk_gb)


def prepare_engine(place: Layout, machine: Machine, options, develop: bool = False) -> Path:
    """The engine's environment and root; returns its Python."""
    build = torch_build.choose(machine, options.torch)
    wanted = engine_wish(place, build, develop)
    step(f"Engine: Python {machine.python_text}, torch {torch_build.VERSION} for {build.name} ({build.why})")
    started = time.monotonic()
    sources = pip.source_arguments(options.find_links)
    torch = (f"torch=={torch_build.VERSION}" if sources and build.name == "cpu" else build.requirement, build.index)
    changed = venv.ensure(wanted, place.log, sources, torch)
    if bundle.is_bundle(place.source):
        bundle.unpack_engine(place.source, place.work)
    say(f"  {place.engine} is ready{'' if changed else ' (nothing to do)'}, {duration(time.monotonic() - started)}")
    return place.python


def prepare_blender(place: Layout, machine: Machine, archive: Path) -> list[blender.Application]:
    """Install the extension into every usable Blender found; returns those."""
    step("Blender")
    found = blender.find(machine.system)
    for app in found:
        if not app.usable:
            say(f"  {app.path}: Blender {app.text} is older than 4.2 and cannot run extensions; left alone")
            continue
        blender.install_extension(app, archive, place.log)
        say(f"  {app.path}: extension installed into Blender {app.text}")
        if app.sandboxed:
            say(f"    It comes from {app.sandboxed}, which may keep the engine from starting (blender.org's does not)")
    usable = [app for app in found if app.usable]
    if not usable:
        say("  No Blender 4.2 or newer was found. When you have one, drag the zip into its window or run this again;")
        say("  a Blender in an unusual folder is found with  BLENDER=/path/to/blender python3 install.py")
    return usable


def install_nvdiffrast(place: Layout, machine: Machine, yes: bool) -> None:
    """The optional CUDA rasterizer: only after its licence's restriction was shown and accepted."""
    step("nvdiffrast (optional)")
    say("  nvdiffrast is NVIDIA's rasterizer. Its licence allows use for research or evaluation only: not for")
    say("  commercial work, nor for anything meant to earn money, directly or indirectly. That holds for textures made")
    say("  with it. Everything in Tweed works without it. https://github.com/NVlabs/nvdiffrast/blob/main/LICENSE.txt")
    if not yes:
        if not sys.stdin or not sys.stdin.isatty():
            raise SetupProblem(
                "nvdiffrast was not installed: nobody is there to accept its licence.",
                "Add --yes if your use is research or evaluation.",
            )
        if input("  Is your use research or evaluation, and do you accept this? Type yes: ").strip().lower() != "yes":
            raise SetupProblem(
                "nvdiffrast was not installed.", "Nothing else is missing: Tweed's own rasterizer is used."
            )
    if machine.nvidia is None:
        raise SetupProblem("nvdiffrast needs an NVIDIA graphics card, and none was found.", "Leave --nvdiffrast out.")
    if shutil.which("nvcc") is None:
        raise SetupProblem(
            "nvdiffrast is compiled here and needs NVIDIA's compiler (nvcc), which was not found.",
            "Install the CUDA toolkit of torch's CUDA version, then run this again.",
        )
    pip.install(place.python, ["setuptools", "wheel", "ninja"], place.log)
    pip.install(
        place.python, ["--no-build-isolation", "git+https://github.com/NVlabs/nvdiffrast.git@v0.4.0"], place.log
    )
    say("  nvdiffrast 0.4.0 installed")


def install(place: Layout, machine: Machine, options) -> int:
    if options.dry_run:
        return plan(place, machine, options)
    with venv.only_one(place.setup):
        python = prepare_engine(place, machine, options)
        if options.nvdiffrast:
            install_nvdiffrast(place, machine, options.yes)
        archive = None
        if not bundle.is_bundle(place.source):
            step("Extension")
            archive = bundle.build_zip(place.source, place.work / "dist")
            say(f"  {archive} ({archive.stat().st_size / 1e6:.1f} MB)")
            if not options.no_blender:
                prepare_blender(place, machine, archive)
        pointer = bundle.write_pointer(place.data, python, place.root)
    say(f"\nDone. The extension finds its engine through {pointer}.")
    say("Try it: python3 install.py demo" if archive else "Go back to Blender and press Generate.")
    return 0


def plan(place: Layout, machine: Machine, options) -> int:
    """--dry-run: say what would be done, touch nothing."""
    build = torch_build.choose(machine, options.torch)
    wanted = engine_wish(place, build)
    say(f"Engine environment: {place.engine} ({'ready' if venv.stamped(wanted) else 'to be made or completed'})")
    say(
        f"torch: {build.requirement}, {build.name} ({build.why}); about {build.disk_gb:.0f} GB of disk while installing"
    )
    say(f"Engine root: {place.root}")
    say(f"Pointer file: {place.data / 'engine.json'}")
    if not bundle.is_bundle(place.source):
        say(f"Extension: {place.work / 'dist'}/tweed-{bundle.version(place.source)}.zip")
    for app in [] if options.no_blender else blender.find(machine.system):
        say(f"Blender {app.text}: {app.path}{'' if app.usable else ' (too old)'}")
    return 0


def this_machine(source: Path, prefix: Path | None) -> tuple[Layout, Machine]:
    machine = look()
    return layout(source, prefix.expanduser().resolve() if prefix else None, machine), machine
