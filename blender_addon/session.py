# SPDX-License-Identifier: GPL-3.0-or-later
"""The one running Tweed of this Blender: its engine, the current run, what came of the last one, and the timer.

No thread and no modal operator: `bpy.app.timers` calls `_pump` while a run is on its way (autosave keeps working),
and in background, where timers never fire, `finish` waits.
"""

import os
import shutil
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import bpy

from . import client, flow, history, material, models, paths, preferences, properties, scene, setup
from .jobs.errors import Cancelled, TweedError, UserError
from .places import choose_remote, jobs_folder, place, textures_folder, user_folder

TICK = 0.1
BUSY = "A texture is being made; cancel it first"
_OLD_STATE = 7 * 86400.0  # engine logs of Blenders that ended are kept for a week


@dataclass
class Outcome:
    """What became of the last run. `kind`: done, failed, cancelled, or kept (a texture that could not be applied)."""

    kind: str
    message: str
    action: str = ""
    remarks: list[str] = field(default_factory=list)
    folder: Path | None = None
    log: bool = False
    applied: material.Applied | None = None


@dataclass(frozen=True)
class Waiting:
    """A job that waits for its turn."""

    objects: tuple[str, ...]
    values: dict


class _Now:
    engine: client.Engine | None = None
    waking: bool = False  # it was started by hand, and somebody wants to know how that ends
    run: flow.Run | None = None
    outcome: Outcome | None = None
    waiting: list[Waiting]
    entries: list[history.Entry] | None = None  # None: to be read again when somebody looks
    installer: setup.Setup | None = None
    download: setup.Setup | None = None  # of a model

    def __init__(self):
        self.waiting = []


now = _Now()


def running() -> flow.Run | None:
    return now.run


def engine() -> client.Engine:
    """The engine of this Blender, not necessarily started. Raises EngineMissing."""
    found, online = place(), bpy.app.online_access
    if found.host and not online and now.run is None:
        stop_engine()  # a connection that was made before
    client.require_online(found, online)
    if now.engine is None or ((now.engine.place, now.engine.online) != (found, online) and now.run is None):
        stop_engine()
        state = user_folder("engine")
        _forget_old(state)
        now.engine = client.Engine(found, state / str(os.getpid()), online)
    return now.engine


def _forget_old(folder: Path) -> None:
    for old in folder.iterdir():
        if old.is_dir() and time.time() - old.stat().st_mtime > _OLD_STATE:
            shutil.rmtree(old, ignore_errors=True)


def start_engine() -> None:
    """Warm it up. Raises EngineMissing."""
    engine().start()
    now.waking = True
    _watch()


def stop_engine() -> None:
    if now.engine is not None:
        now.engine.stop()
        now.engine, now.waking = None, False


def engine_starting() -> bool:
    return now.engine is not None and now.engine.alive and now.engine.info is None


def begin(context, objects, values: dict, part: flow.Part | None = None) -> flow.Run:
    """Start a run; go on with `finish` (waits) or `follow` (returns). Raises TweedErrors; then nothing has changed."""
    if now.run is not None:
        raise UserError("A texture is being made.", "Wait for it, or cancel it first.")
    chosen = preferences.get()
    if chosen and "device" not in values:
        values = values | {"device": chosen.device}
    if "seed" not in values:
        values = values | {"seed": properties.new_seed()}
    values = paths.absolute(values)
    now.outcome = None
    now.run = flow.start(scene, context, objects, values, engine, jobs_folder(), part)
    return now.run


def wait_in_line(objects, values: dict) -> None:
    """Add a job to those that wait; it starts when the running one has ended. Raises UserError for what cannot work."""
    scene.check(objects)
    now.waiting.append(Waiting(tuple(obj.name for obj in objects), {"seed": properties.new_seed(), **paths.absolute(values)}))
    _watch()
    redraw()


def start_next() -> bool:
    """Begin the first waiting job that can be begun; gives whether one was. What cannot is said in the outcome."""
    while now.waiting and now.run is None:
        job = now.waiting.pop(0)
        try:
            begin(bpy.context, scene.by_names(",".join(job.objects)), job.values)
        except TweedError as error:
            now.outcome = Outcome("failed", f"{', '.join(job.objects)}: {error.message}", error.action)
    return now.run is not None


def past() -> list[history.Entry]:
    """The newest jobs, read when something has changed. What cannot be read at all is an empty list."""
    if now.entries is None:
        try:
            now.entries = history.recent(jobs_folder(), history.ASKED)
        except UserError:
            now.entries = []
    return now.entries


def recover() -> None:
    """Offer a texture that was finished for this file but never put on it, because Blender ended before."""
    if now.run is not None or now.outcome is not None or not bpy.data.filepath:
        return
    newest = next(iter(past()), None)
    if newest and newest.state == "done" and newest.origin.get("blend") == bpy.data.filepath:
        if newest.id not in material.applied_jobs():
            now.outcome = Outcome("kept", "A texture was finished for this file and is not on it.",
                                  "Apply puts it there; the job stays in the history otherwise.",
                                  folder=newest.folder)  # fmt: skip


def set_up() -> None:
    """Start install.py. Raises TweedErrors; then nothing was started."""
    now.installer = setup.begin(user_folder("engine"), bpy.app.online_access)
    if chosen := preferences.get():
        chosen.engine_where = "HERE"
    now.outcome = None
    _watch()


def use_remote(host: str, folder: str) -> None:
    """Choose an engine on another machine and connect to it. Raises TweedErrors; then nothing has changed."""
    choose_remote(host, folder, bpy.app.online_access)
    now.outcome = None
    start_engine()


def stop_set_up() -> None:
    if now.installer is not None:
        now.installer.stop()
        now.installer = None
        redraw()


def get_model(name: str) -> None:
    """Start downloading a model. Raises TweedErrors; then nothing was started."""
    if now.download is not None:
        raise UserError("A model is being downloaded.", "Wait for it, or stop it first.")
    now.download = models.download(place(), name, user_folder("engine"), bpy.app.online_access)
    now.outcome = None
    _watch()
    redraw()


def stop_download() -> None:
    if now.download is not None:
        now.download.stop()
        now.download = None
        models.forget_states()
        redraw()


def follow() -> None:
    """Let the timer do the rest."""
    _watch()
    redraw()


def finish(cancelled=lambda: False, report=lambda run: None, textures: Path | None = None) -> Outcome:
    """Wait for the run and apply its texture. Raises what ended it otherwise."""
    run = now.run
    try:
        flow.wait(run, cancelled, report)
        return _apply(run.head, run.folder, run, textures or textures_folder())
    finally:
        flow.cancel(run)  # does nothing unless Ctrl-C got us here
        now.run = now.entries = None


def cancel() -> None:
    if now.run is not None:
        flow.cancel(now.run)
        redraw()


def apply_folder(folder: Path) -> Outcome:
    """Apply the result of an earlier job to the objects of those names. Raises TweedErrors."""
    now.outcome = _apply(flow.head_of(folder), folder, None, textures_folder(), any_file=True)
    return now.outcome


def _apply(head, folder: Path, run, textures, any_file: bool = False) -> Outcome:
    applied = flow.apply(scene, material, head, folder, textures, any_file=any_file)
    made_in = bpy.data.scenes.get(head.origin.get("scene", ""))
    if made_in:
        made_in.tweed.seed = head.settings["seed"]
    undo_push("Tweed: Apply Texture")
    took = f" in {duration(run.seconds)}" if run else ""
    return Outcome(
        "done",
        f"Done{took} · seed {head.settings['seed']}",
        remarks=(run.remarks if run else []) + applied.remarks,
        folder=folder,
        applied=applied,
    )


def _watch() -> None:
    if not bpy.app.background and not bpy.app.timers.is_registered(_pump):
        bpy.app.timers.register(_pump, first_interval=TICK, persistent=True)


def _pump() -> float | None:
    """One tick; None ends the timer."""
    run = now.run
    if now.download is not None:
        _watch_download()
    if run is None:
        return _idle_tick()
    try:
        changed = flow.poll(run)
        if run.finished:
            if _artist_is_busy():
                return 3 * TICK  # do not change materials under a grab or a brush stroke
            now.run = None
            now.outcome = _conclude(run)
            now.entries = None
            changed = True
    except Exception:  # noqa: BLE001 the border: a bug must not leave the panel stuck on "running"
        traceback.print_exc()
        now.run = None
        now.outcome = Outcome(
            "failed",
            "Something unexpected went wrong; the details are in the system console.",
            folder=run.folder,
            log=True,
        )
        changed = True
    if changed:
        redraw()
    return TICK if now.run or now.waiting or now.download else None


def _idle_tick() -> float | None:
    """Nothing runs: the set-up, the next waiting job, an engine that wakes."""
    if now.installer is not None and now.installer.state == "running":
        if now.installer.poll():
            redraw()
        if now.installer.state == "failed":
            now.outcome = Outcome("failed", now.installer.fault, now.installer.advice)
        if now.installer.state == "done":
            now.installer = None
            start_engine()
        return 3 * TICK
    if now.waiting:
        if _artist_is_busy():
            return 3 * TICK
        start_next()
        redraw()
        return TICK if now.run or now.waiting or now.download else None
    if _engine_wakes():
        return TICK
    return 3 * TICK if now.download is not None else None


def _watch_download() -> None:
    got = now.download
    if got.poll():
        redraw()
    if got.state == "running":
        return
    now.download = None
    models.forget_states()
    name = got.heading.removeprefix("Downloading ")
    if got.state == "failed":
        now.outcome = Outcome("failed", f"{name} was not downloaded: {got.last_words}",
                              "What has come is kept; press Download again to go on.")  # fmt: skip
    else:
        now.outcome = Outcome("done", f"{name} is on this machine now.")
    redraw()


def _engine_wakes() -> bool:
    """Whether an engine that was started by hand is still on its way."""
    if now.engine is None or not (now.waking or engine_starting()):
        redraw()
        return False
    try:
        if now.engine.ready() is None:
            return True
    except TweedError as error:
        now.outcome = _failure(error)
    now.waking = False
    redraw()
    return False


def _conclude(run: flow.Run) -> Outcome:
    if run.error is not None:
        return _failure(run.error, run)
    try:
        return _apply(run.head, run.folder, run, textures_folder())
    except TweedError as error:
        return Outcome("kept", error.message, error.action, run.remarks, run.folder)


def _failure(error, run=None) -> Outcome:
    folder, remarks = (run.folder, run.remarks) if run else (None, [])
    if isinstance(error, Cancelled):
        return Outcome("cancelled", "Cancelled; nothing was changed", remarks=remarks, folder=folder)
    return Outcome("failed", error.message, error.action, remarks, folder, log=not isinstance(error, UserError))


def _artist_is_busy() -> bool:
    return any(len(window.modal_operators) for window in bpy.context.window_manager.windows)


def undo_push(message: str) -> None:
    """An undo step for what a timer or a script has changed."""
    windows = bpy.context.window_manager.windows
    if bpy.context.window is None and len(windows):
        with bpy.context.temp_override(window=windows[0]):
            bpy.ops.ed.undo_push(message=message)
    elif bpy.ops.ed.undo_push.poll():
        bpy.ops.ed.undo_push(message=message)


def redraw() -> None:
    """The sidebars only: redrawing whole 3D views is what makes a window slow."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("VIEW_3D", "PREFERENCES"):
                for region in area.regions:
                    if region.type == "UI" or area.type == "PREFERENCES":
                        region.tag_redraw()


def duration(seconds: float) -> str:
    """100.4 -> "1 min 40 s"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def shutdown() -> None:
    """End of the extension or of Blender."""
    if bpy.app.timers.is_registered(_pump):
        bpy.app.timers.unregister(_pump)
    now.run = None
    now.waiting.clear()
    for process in filter(None, (now.installer, now.download)):
        process.stop()
    stop_engine()
