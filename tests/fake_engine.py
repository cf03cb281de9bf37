# SPDX-License-Identifier: Apache-2.0
"""An engine that paints a checker, and misbehaves when told to. Standard library only, so any Python runs it.

`serve --state DIR | run JOB | doctor [--json]` as the real one. What it does wrong is said by words of the prompt, or
by the environment variable TWEED_FAKE (all jobs): `fake:KIND` or `fake:KIND@PHASE`.

    slow        each step takes 50 ms (a job about 2 s)        crash@P    the process kills itself
    crawl       … 0.3 s
    hang@P      nothing more is heard, SIGTERM ends it          deaf@P     the same, and only SIGKILL ends it
    fail:CODE@P an error of that code (user, out_of_memory …)   warn       a warning event
    noimage     the result names no picture                     nofile     … a picture that does not exist
    wrongsize   … one of another size                           cut        … one that is cut off
    notpng      … a text file                                   escape     … one outside the job folder
    noresult    says done and writes no result                  badjson    the result is no JSON
    garbled     its events contain half lines and rubbish       full       the disk is full while writing
    tiles:1002,1011  a file for each of these UDIM tiles, each of one of COLOURS; what is wrong is so with the last
                     (of sets of textures: tiles:set1.1001,set2; without it each set of the job gets a plain one)

At start (TWEED_FAKE only): `version` another version, `proto` another protocol, `nostart` dies at once, `silent`
never ready.
"""

import json
import os
import queue
import re
import signal
import struct
import sys
import threading
import time
import zlib
from pathlib import Path

PROTO, VERSION = 1, "0.1.0"
PHASES = ("load", "rasterize", "condition", "denoise", "bake", "fill", "write")
STEPS = 4
COLOURS = ((0xD0, 0x20, 0x20), (0x20, 0xC0, 0x30), (0x20, 0x40, 0xE0))  # of UDIM tiles, in their order


class Cancelled(Exception):
    pass


class Failed(Exception):
    pass


class Wrong(dict):
    """{"crash": "denoise"}: kinds, each with the phase where it happens ("" anywhere)."""

    def __init__(self, text: str):
        for word in re.findall(r"fake:(\S+)", text):
            kind, _, phase = word.partition("@")
            self[kind] = phase

    def at(self, kind: str, phase: str) -> bool:
        return kind in self and self[kind] in ("", phase)


def owner_png(path: Path, size: int, views: int) -> None:
    """The left half belongs to view 1, the right to the last."""
    row = b"\0" + b"\x01" * (size // 2) + bytes([views]) * (size - size // 2)
    write_png(path, size, 0, row * size)


def png(path: Path, size: int) -> None:
    cell = max(1, size // 8)
    light, dark = b"\xd0\x60\x30" * cell, b"\x30\x50\x90" * cell
    rows = [b"\0" + ((light + dark) * 8)[: size * 3], b"\0" + ((dark + light) * 8)[: size * 3]]
    write_png(path, size, 2, b"".join(rows[(y // cell) % 2] for y in range(size)))


def flat_png(path: Path, size: int, colour: tuple[int, int, int]) -> None:
    write_png(path, size, 2, (b"\0" + bytes(colour) * size) * size)


def write_png(path: Path, size: int, kind: int, pixels: bytes) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">2I5B", size, size, 8, kind, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels, 1)) + chunk(b"IEND", b"")
    part = path.with_suffix(".part")
    part.write_bytes(data)
    os.replace(part, path)


class Job:
    def __init__(self, folder: Path, stop: threading.Event):
        self.folder, self.stop = folder, stop
        self.record = json.loads((folder / "job.json").read_text("utf-8"))
        self.settings = self.record["settings"]
        self.wrong = Wrong(os.environ.get("TWEED_FAKE", "") + " " + self.settings["prompt"])
        assert (folder / "mesh.npz").stat().st_size > 0

    def emit(self, ev: str, **fields) -> None:
        line = json.dumps({"t": time.time(), "ev": ev, **fields}).encode() + b"\n"
        with open(self.folder / "events.jsonl", "ab", buffering=0) as events:
            if "garbled" in self.wrong:
                events.write(b"\xff\xfe rubbish\n\n" + line[:9])
                time.sleep(0.02)
                line = line[9:]
            events.write(line)

    def misbehave(self, phase: str) -> None:
        if self.wrong.at("crash", phase):
            print("Segmentation fault (core dumped)", flush=True)
            os._exit(139)
        if self.wrong.at("deaf", phase):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self.wrong.at("hang", phase) or self.wrong.at("deaf", phase):
            while True:
                time.sleep(1)
        for kind in self.wrong:
            if kind.startswith("fail:") and self.wrong.at(kind, phase):
                raise Failed(kind[5:])

    def run(self) -> dict:
        self.emit("started")
        for phase in PHASES:
            self.emit("phase", phase=phase)
            self.misbehave(phase)
            count = self.settings["steps"] if phase == "denoise" else STEPS
            for i in range(count):
                if self.stop.is_set():
                    raise Cancelled
                time.sleep(0.3 if "crawl" in self.wrong else 0.05 if "slow" in self.wrong else 0.002)
                self.emit("step", phase=phase, i=i + 1, n=count)
        if "warn" in self.wrong:
            self.emit("warning", message="3 % of the surface was seen by no camera.")
        return self.write()

    def write(self) -> dict:
        (self.folder / "out").mkdir(exist_ok=True)
        path, size, name = self.folder / "out" / "texture.png", self.settings["texture_size"], "out/texture.png"
        if "full" in self.wrong:
            raise Failed("no_room")
        tiles = next((kind[6:].split(",") for kind in self.wrong if kind.startswith("tiles:")), None)
        if tiles is None:
            numbers = {record["texture"] for record in self.record["objects"] if record.get("texture")}
            tiles = [f"set{number}" for number in sorted(numbers)]
        extra = {f"base_color.{tile}": f"out/base_color.{tile}.png" for tile in tiles}
        for number, file in enumerate(extra.values()):
            path = self.folder / file
            wrong = "wrongsize" in self.wrong and number == len(tiles) - 1
            flat_png(path, size // 2 if wrong else size, COLOURS[number % len(COLOURS)])
            owner_png(self.folder / "out" / f"owner.{tiles[number]}.png", size, len(self.record["cameras"]))
            name = f"out/base_color.{tiles[0]}.png"
        if not tiles:
            png(path, size // 2 if "wrongsize" in self.wrong else size)
            owner_png(self.folder / "out" / "owner.png", size, len(self.record["cameras"]))
        if "cut" in self.wrong:
            path.write_bytes(path.read_bytes()[:-20])
        if "notpng" in self.wrong:
            path.write_text("nothing to see here")
        if "nofile" in self.wrong:
            path.unlink()
        if "escape" in self.wrong:
            png(self.folder.parent / "escaped.png", size)
            name = "../escaped.png"
        images = {} if "noimage" in self.wrong else {"base_color": name, **extra}
        return {
            "status": "done",
            "images": images,
            "report": {"seconds": {}, "coverage": 0.97, "fake": True},
            "error": None,
        }


def run_job(folder: Path, stop: threading.Event) -> int:
    job = Job(folder, stop)
    code = 0
    try:
        result = job.run()
    except Cancelled:
        result, code = {"status": "cancelled", "images": {}, "report": {}, "error": None}, 5
    except Failed as failed:
        error = {"code": str(failed), "message": f"It went wrong on purpose ({failed}).", "action": "Try Draft."}
        result, code = {"status": "failed", "images": {}, "report": {}, "error": error}, 4
    if "badjson" in job.wrong:
        (folder / "result.json").write_text('{"status": "don')
    elif "noresult" not in job.wrong:
        part = folder / "result.part"
        part.write_text(json.dumps({"tweed": VERSION, "proto": PROTO, **result}))
        os.replace(part, folder / "result.json")
    job.emit(result["status"])
    return code


def serve(state: Path) -> int:
    wrong = Wrong(os.environ.get("TWEED_FAKE", ""))
    print("fake engine starts", flush=True)
    if "nostart" in wrong:
        print("ModuleNotFoundError: No module named 'torch'", flush=True)
        return 1
    said = {
        "pid": os.getpid(),
        "version": "9.9.9" if "version" in wrong else VERSION,
        "proto": 99 if "proto" in wrong else PROTO,
        "device": "fake",
        "rasterizers": ["none"],
        "models": ["checker"],
    }

    def announce(word: str) -> None:
        (state / "engine.part").write_text(json.dumps({**said, "state": word}))
        os.replace(state / "engine.part", state / "engine.json")

    announce("starting")
    time.sleep(float(os.environ.get("TWEED_FAKE_START", "0")))
    if "silent" not in wrong:
        announce("ready")
    commands, stop = queue.Queue(), threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            command = json.loads(line)
            if command["op"] == "cancel":
                stop.set()
            else:
                if command["op"] == "quit":
                    stop.set()
                commands.put(command)
        stop.set()
        commands.put({"op": "quit"})

    threading.Thread(target=listen, daemon=True).start()
    while (command := commands.get())["op"] != "quit":
        if command["op"] == "run":
            stop.clear()
            print("job", command["job"], flush=True)
            run_job(Path(command["job"]), stop)
    print("fake engine ends", flush=True)
    return 0


def main(argv: list[str]) -> int:
    if argv[:1] == ["serve"]:
        return serve(Path(argv[argv.index("--state") + 1]))
    if argv[:1] == ["run"]:
        return run_job(Path(argv[1]), threading.Event())
    if argv[:1] == ["doctor"]:
        print(json.dumps({"fake": True}))
        return 0
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
