# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens, in order: export, job folder, engine, progress, checked result, write-back. Imports no bpy.

`scene` and `material` are the modules of that name (or anything with their functions), so this reads and tests without
Blender. Call `start`, then `poll` until `run.finished`, then `apply`.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

from .jobs import rigs
from .jobs.coverage import cameras_for
from .jobs.errors import Cancelled, EngineError, TweedError, UserError, from_dict
from .jobs.events import Tailer
from .jobs.folder import EVENTS_FILE, Job, inside, new_job_id, read_job, read_result, write_job
from .jobs.settings import resolve
from .jobs.uv_tiles import place_of

# Share of a job's time spent in each phase, for the bar only.
PHASES = {
    "wait": 0.0,
    "load": 0.06,
    "rasterize": 0.05,
    "condition": 0.02,
    "denoise": 0.74,
    "bake": 0.06,
    "fill": 0.04,
    "write": 0.03,
}
WORDS = {
    "wait": "Waiting for the graphics card",
    "load": "Loading",
    "rasterize": "Looking at the mesh",
    "condition": "Measuring depth",
    "denoise": "Diffusing views",
    "bake": "Baking",
    "fill": "Filling gaps",
    "write": "Writing",
}
RESULT_SECONDS = 10.0  # from the engine's "done" to its result file


@dataclass(frozen=True)
class Head:
    """A job without its mesh, which would only hold memory while the engine works."""

    id: str
    settings: dict
    objects: list[dict]
    origin: dict

    @staticmethod
    def of(job: Job) -> "Head":
        return Head(job.id, job.settings, job.objects, job.origin)


@dataclass
class Run:
    """One job on its way. `state`: starting, running, cancelling, then one of done, failed, cancelled."""

    head: Head
    folder: Path
    engine: object
    remarks: list[str]
    began: float = field(default_factory=time.monotonic)
    state: str = "starting"
    phase: str = ""
    step: int = 0
    steps: int = 0
    eta: float | None = None
    seconds: float = 0.0
    error: TweedError | Cancelled | None = None
    result: dict | None = None
    ended: float | None = None

    def __post_init__(self):
        self.tailer = Tailer(self.folder / EVENTS_FILE)

    @property
    def finished(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    @property
    def fraction(self) -> float:
        """0..1, for the bar."""
        if self.state == "starting" or self.phase not in PHASES:
            return 0.0
        names = list(PHASES)
        before = sum(PHASES[name] for name in names[: names.index(self.phase)])
        return min(1.0, before + PHASES[self.phase] * (self.step / self.steps if self.steps else 0.0))

    @property
    def words(self) -> str:
        """What is going on, for the bar."""
        if self.state == "starting":
            return "Starting the engine"
        if self.state == "cancelling":
            return "Cancelling"
        count = f" {self.step}/{self.steps}" if self.steps else ""
        return WORDS.get(self.phase, "Waiting for the engine") + count

    @property
    def remaining(self) -> float | None:
        """Seconds to go as the engine sees it, else from the pace so far, else None."""
        if self.eta is not None:
            return self.eta
        spent = time.monotonic() - self.began
        return spent * (1 - self.fraction) / self.fraction if self.fraction > 0.15 else None


@dataclass(frozen=True)
class Part:
    """A part of an earlier texture, to be done anew: by these cameras, where the grey PNG files `region` are white.

    They go by the name of their texture: "", or the number of a UDIM tile. `origin` is added to what the job says of
    where it comes from.
    """

    cameras: tuple
    region: dict[str, bytes]
    origin: dict


def start(scene, context, objects, values: dict, engine, jobs: Path, part: Part | None = None) -> Run:
    """Export `objects`, write the job into the folder `jobs` and wake the engine. Raises TweedErrors; changes nothing.

    `engine()` gives a client.Engine (and raises EngineMissing before anything is exported).
    """
    settings = resolve(values)
    if part is None and settings["rig"] != "scene":
        rigs.names_left(settings)
    scene.check(objects)
    chosen = engine()
    exported = scene.export(context, objects, settings, part.region if part else None)
    remarks = list(exported.remarks)
    if exported.size is not None:
        if values.get("texture_size", exported.size) != exported.size:
            remarks.append(f"The texture keeps its size of {exported.size}; the size that was chosen is not used.")
        settings["texture_size"] = exported.size
    origin = scene.origin(context.scene.name)
    if part is not None:
        views, origin = part.cameras, origin | part.origin
        settings |= {"views": len(views), "extra_views": 0} | dict.fromkeys(rigs.OF_VIEWS, "")
    elif settings["rig"] == "scene":
        views = rigs.wished(scene.cameras(context), settings)
        settings["views"] = len(views)
    else:
        views = cameras_for(settings, exported.mesh)
    job = Job(new_job_id(), settings, exported.mesh, views, exported.records, origin)
    folder = write_job(jobs, job, exported.pictures)
    chosen.start()
    return Run(Head.of(job), folder, chosen, remarks)


def poll(run: Run) -> bool:
    """Take in what the engine has said; gives whether anything changed. Never raises a TweedError, never waits."""
    if run.finished:
        return False
    before = (run.state, run.phase, run.step, len(run.remarks))
    try:
        _advance(run)
    except (TweedError, Cancelled) as error:
        _end(run, error)
    run.seconds = time.monotonic() - run.began
    return before != (run.state, run.phase, run.step, len(run.remarks))


def _advance(run: Run) -> None:
    if run.state == "starting":
        if run.engine.ready() is None:
            return
        run.engine.run(run.folder)
        run.state = "running"
    for event in run.tailer.poll():
        _take(run, event)
    result = read_result(run.folder)
    if result is not None:
        run.result = result
        if result["status"] == "done":
            if run.state == "cancelling":
                raise Cancelled("Cancelled.")
            check_result(run.folder, result)
            _end(run, None)
        else:
            raise from_dict(result["error"]) if result["status"] == "failed" else Cancelled("Cancelled.")
    elif not run.engine.alive:
        raise Cancelled("Cancelled.") if run.state == "cancelling" else run.engine.lost()
    elif run.ended is not None and time.monotonic() - run.ended > RESULT_SECONDS:
        raise EngineError("The engine said that it was done but left no result.", "Open the engine's log.")
    run.engine.escalate()


def _take(run: Run, event: dict) -> None:
    kind = event["ev"]
    if kind in ("phase", "step"):
        if event.get("phase") in PHASES:
            run.phase = event["phase"]
        run.step, run.steps = _count(event, "i"), _count(event, "n")
        eta = event.get("eta_s")
        run.eta = float(eta) if isinstance(eta, (int, float)) and not isinstance(eta, bool) else None
    elif kind in ("warning", "unreadable"):
        text = str(event.get("message", ""))
        if kind == "warning" and text and text not in run.remarks:
            run.remarks.append(text)
    elif kind in ("done", "failed", "cancelled"):
        run.ended = time.monotonic()


def _count(event: dict, key: str) -> int:
    value = event.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _end(run: Run, error) -> None:
    run.error = error
    run.state = "done" if error is None else "cancelled" if isinstance(error, Cancelled) else "failed"


def cancel(run: Run) -> None:
    """Stop the job; `poll` sees to it that the engine obeys."""
    if run.finished or run.state == "cancelling":
        return
    if run.state == "starting":
        _end(run, Cancelled("Cancelled."))  # the engine has not heard of the job
        return
    run.state = "cancelling"
    run.engine.cancel()


def check_result(folder: Path, result: dict) -> dict[int, dict[int, Path]]:
    """The texture files of a finished job by set of textures (0 where all objects have one) and UDIM tile (0: plain).

    Raises EngineError, JobError when the result names none, a tile that UDIM has not, or a file that is missing.
    """
    images = result["images"]
    if not images.get("base_color"):
        raise EngineError("The engine's result names no texture.", "Open the engine's log.")
    named = {name.partition(".")[2]: path for name, path in images.items() if name.startswith("base_color.")}
    found: dict[int, dict[int, Path]] = {}
    for name, path in (named or {"": images["base_color"]}).items():
        place = place_of(name)
        if place is None or (named and not name):
            raise EngineError(f"The engine's result names a texture or UDIM tile {name[:20]!r}.", "Open the engine's log.")
        file = inside(folder, path)
        if not file.is_file():
            raise EngineError(
                f"The engine's result names {path} but there is no such file in {folder}.", "Open the engine's log."
            )
        found.setdefault(place[0], {})[place[1]] = file
    if len(found) > 1 and 0 in found or any(len(tiles) > 1 and 0 in tiles for tiles in found.values()):
        raise EngineError("The engine's result names textures that do not go together.", "Open the engine's log.")
    return {number: dict(sorted(tiles.items())) for number, tiles in sorted(found.items())}


def head_of(folder: Path) -> Head:
    """What a job folder is about, for applying its result later. Raises JobError."""
    return Head.of(read_job(folder))


def apply(scene, material, head: Head, folder: Path, textures: Path | None, *, any_file: bool = False):
    """Put a finished job's textures on its objects. Raises TweedErrors; then nothing has changed and the job is kept."""
    result = read_result(folder)
    if result is None or result["status"] != "done":
        raise UserError(f"{folder} holds no finished texture.", "Choose the folder of a finished job.")
    pictures = check_result(folder, result)
    targets = scene.find_targets(head.objects, head.origin, any_file=any_file)
    return material.write_back(_matched(targets, pictures), head.settings["texture_size"], head.id, textures)


def _matched(targets, pictures: dict[int, dict[int, Path]]) -> list[tuple[list, dict[int, Path]]]:
    """Each set's targets and files. Raises EngineError for files that are nobody's, and targets that have none."""
    whose = {number: [target for target in targets if target.number == number] for number in pictures}
    idle = [target for target in targets if target.number not in pictures]
    if not all(whose.values()) or any(target.slots for target in idle):
        raise EngineError("The engine's result has not the textures that the objects were to get.", "Open the engine's log.")
    first, *rest = [(own, pictures[number]) for number, own in whose.items()]
    return [([*first[0], *idle], first[1]), *rest]


def wait(run: Run, cancelled=lambda: False, report=lambda run: None) -> Run:
    """Poll until the run ends: for scripts and the command line, where no timer fires. Raises what ended it."""
    while not run.finished:
        if cancelled():
            cancel(run)
        if poll(run):
            report(run)
        if not run.finished:
            time.sleep(0.05)
    if run.error is not None:
        raise run.error
    return run
