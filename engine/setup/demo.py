# SPDX-License-Identifier: Apache-2.0
"""`install.py demo`: set everything up, then the main job in real Blender, watched through its events file.

Blender runs with a settings folder of its own, so the demo neither sees nor changes anybody's preferences.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

from engine.setup import blender, bundle, pip, shapes, steps, venv
from engine.setup.console import Bar, SetupProblem, duration, say, step
from engine.setup.machine import Machine, hidden_window

PROMPT = "lava"
WORDS = {
    "wait": "Waiting for the graphics card",
    "load": "Loading the model",
    "rasterize": "Rasterizing the views",
    "condition": "Preparing depth",
    "denoise": "Denoising all views together",
    "bake": "Baking the texture",
    "fill": "Filling unseen texels",
    "write": "Writing",
}
SHARE_BEFORE = {
    "wait": 0.0,
    "load": 0.0,
    "rasterize": 0.08,
    "condition": 0.18,
    "denoise": 0.20,
    "bake": 0.80,
    "fill": 0.90,
    "write": 0.94,
}
SHARE_OF = {"denoise": 0.60}  # of the phases that count their steps


def blender_wish(place: steps.Layout, develop: bool = False) -> venv.Wanted:
    """Blender as a Python module, with the test tools beside it when `develop`."""
    needs = place.source / "requirements"
    files = (needs / "blender.txt", needs / "test.txt") if develop else (needs / "blender.txt",)
    return venv.Wanted(place.blender, files, None, (), 2.0)


def run(place: steps.Layout, machine: Machine, options) -> int:
    started = time.monotonic()
    out = (options.out or Path("tweed-demo")).expanduser().resolve()
    with venv.only_one(place.setup):
        python = steps.prepare_engine(place, machine, options)
        command, what = blender_command(place, machine, python, options, out)
    step(f'{what}: "{options.prompt}"')
    shutil.rmtree(place.setup / "demo", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    environment = {
        **pip.environment(),
        "BLENDER_USER_RESOURCES": str(place.setup / "demo" / "blender"),
        "TWEED_ENGINE_PYTHON": str(python),
        "TWEED_ENGINE_ROOT": str(place.root),
    }
    watch(command, environment, place, out)
    show_end(out, time.monotonic() - started)
    return 0


def blender_command(place, machine: Machine, python: Path, options, out: Path) -> tuple[list, str]:
    """The program that runs the main job here, and what to call it; sets up what it needs."""
    settings = {"prompt": options.prompt, "quality": options.quality, "seed": options.seed}
    if bundle.is_bundle(place.source):
        raise SetupProblem("The demo runs from a full copy of Tweed.", "In Blender, select a mesh and press Generate.")
    step("Extension")
    archive = bundle.build_zip(place.source, place.work / "dist")
    say(f"  {archive} ({archive.stat().st_size / 1e6:.1f} MB)")
    apps = [] if options.no_blender else steps.prepare_blender(place, machine, archive)
    script = [
        place.source / "engine" / "setup" / "demo_scene.py",
        "--",
        json.dumps({**settings, "zip": str(archive), "out": str(out)}),
    ]
    if apps:
        bundle.write_pointer(place.data, python, place.root)
        return [
            apps[0].path,
            "-b",
            "--factory-startup",
            "--python-exit-code",
            "1",
            "--python",
            *script,
        ], f"Blender {apps[0].text}"
    version = blender.wheel_version()
    if version and not options.engine_only:
        step("Blender as a Python module")
        wheel = blender.ensure_wheel(blender_wish(place), place.log, pip.source_arguments(options.find_links))
        return [wheel, *script], f"Blender {version}"
    if not options.engine_only:
        say(f"  There is no Blender for Python {machine.python_text} on PyPI (only for 3.11 and 3.13), and no Blender")
        say("  application was found: the demo runs the engine alone, on a ring instead of Suzanne.")
    mesh = shapes.write_ring(place.setup / "ring.obj")
    arguments = [f"--{name}={value}" for name, value in settings.items() if value is not None]
    return [python, "-m", "engine", "texture", mesh, "--out", out, *arguments], "The engine alone"


def watch(command: list, environment: dict, place: steps.Layout, out: Path) -> None:
    """Run the job with a progress bar read from its events; raises SetupProblem with the log's end when it fails."""
    log, bar, started = place.setup / "demo.log", Bar(), time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd=place.root,
            **hidden_window(),
        )
        try:
            while process.poll() is None:
                show_progress(bar, newest_event([place.setup / "demo", out], started), time.monotonic() - started)
                time.sleep(0.3)
        except BaseException:  # Ctrl+C: the engine ends with Blender, whose pipe it listens to
            process.terminate()
            process.wait()
            raise
    bar.clear()
    if process.returncode:
        raise failure(log, process.returncode)


def failure(log: Path, code: int) -> SetupProblem:
    """What a job that did not end well said: Tweed's own sentence where there is one, else the end of its log."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = [line.split("Error: ", 2)[-1] for line in lines if line.startswith("RuntimeError: Error: ")]
    if said:
        return SetupProblem(said[-1], f"The full log is {log}. See also: python3 install.py doctor", code=4)
    for line in lines[-6:]:
        say(f"    {line[:300]}")
    return SetupProblem(
        f"The job did not end well (exit code {code}). Full log: {log}", "Run: python3 install.py doctor", 4
    )


def newest_event(folders: list[Path], since: float) -> dict | None:
    """The last whole event of the newest events.jsonl below the folders, written after `since` (monotonic seconds)."""
    clock = time.time() - (time.monotonic() - since)
    files = [(file.stat().st_mtime, file) for folder in folders for file in folder.rglob("events.jsonl")]
    files = [(changed, file) for changed, file in files if changed >= clock - 1]
    if not files:
        return None
    for line in reversed(max(files)[1].read_bytes().split(b"\n")[:-1]):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("phase") in WORDS:
            return event
    return None


def show_progress(bar: Bar, event: dict | None, seconds: float) -> None:
    if event is None:
        bar.show("Starting", 0.0)
        return
    phase, n = event["phase"], event.get("n") or 1
    share = SHARE_BEFORE[phase] + SHARE_OF.get(phase, 0.0) * (event.get("i") or 0) / n
    bar.show(WORDS[phase], share, event.get("eta_s"))


def show_end(out: Path, seconds: float) -> None:
    names = ("contact.png", "texture.png", "suzanne.blend", "report.json")
    there = [name for name in names if (out / name).exists()] + sorted(file.name for file in out.glob("*.glb"))
    if "texture.png" not in there:
        raise SetupProblem(f"The job ended but left no texture in {out}.", "Run: python3 install.py doctor", code=4)
    say(f"\nDone in {duration(seconds)}. Look at {out / 'contact.png'} first.")
    for name in there:
        say(f"  {out / name}")
