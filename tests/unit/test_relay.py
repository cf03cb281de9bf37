# SPDX-License-Identifier: Apache-2.0
"""The relay as the add-on sees it, over a stand-in for ssh: a far engine that works, crashes, hangs or lies."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from blender_addon.jobs import ssh
from blender_addon.jobs.errors import EngineMissing, ProtocolError
from blender_addon.jobs.folder import PROTO, VERSION, read_result, write_job
from blender_addon.jobs.frames import BANNER, REMOTE, Frames, encode
from blender_addon.jobs.mirror import files_there, pieces
from engine.remote import Far, Outbound, check_paths
from tests.far import ROOT, fake_far_root, fake_ssh, far_engine
from tests.jobs import small_job
from tests.programs import fake_program, posix_only

pytestmark = posix_only
PATIENCE = 20
JOB = small_job().id


class Relay:
    """The process in the engine's place."""

    def __init__(self, folder: Path, program: Path, environ: dict | None = None):
        self.state, self.jobs = folder / "state", folder / "jobs"
        self.log = folder / "relay.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "blender_addon.jobs.relay", "--state", str(self.state), "--host=me@box"],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "TWEED_SSH": str(program), **(environ or {})},
            )  # fmt: skip

    def send(self, **said):
        self.process.stdin.write(json.dumps(said).encode() + b"\n")
        self.process.stdin.flush()

    def said(self) -> dict:
        try:
            return json.loads((self.state / "engine.json").read_text("utf-8"))
        except FileNotFoundError:
            return {}

    def start(self, **settings) -> Path:
        folder = write_job(self.jobs, small_job(texture_size=64, **settings))
        self.send(op="run", job=str(folder))
        return folder

    def wait(self, seen, what: str):
        end = time.monotonic() + PATIENCE
        while not (found := seen()):
            assert time.monotonic() < end, f"{what} did not happen:\n{self.log.read_text('utf-8', 'replace')[-2000:]}"
            time.sleep(0.02)
        return found

    def ready(self):
        self.wait(lambda: self.said().get("state") == "ready", "the handshake")
        return self

    def error(self) -> dict:
        """What it ended with."""
        self.process.wait(PATIENCE)
        return self.said()["error"]

    def close(self) -> int:
        self.process.stdin.close()
        return self.process.wait(PATIENCE)


@pytest.fixture
def relays():
    """Makes relays that are ended after the test."""
    made: list[Relay] = []

    def make(*arguments, **more) -> Relay:
        made.append(Relay(*arguments, **more))
        return made[-1]

    yield make
    for relay in made:
        if relay.process.poll() is None:
            os.killpg(relay.process.pid, signal.SIGKILL)
            relay.process.wait()
        relay.process.stdin.close()


@pytest.fixture
def far(tmp_path):
    """The home of the machine that "me@box" logs in to, and the program that does."""
    home = tmp_path / "far home é"
    program = fake_ssh(tmp_path, home)
    far_engine(home, fake_far_root(home / "Tweed ü here"))
    return home, program


def left(home: Path) -> list[str]:
    return sorted(path.relative_to(home).as_posix() for path in home.glob(".local/share/tweed/remote/*/**/*"))


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_relayed_life(tmp_path, far, relays):
    home, program = far
    relay = relays(tmp_path, program).ready()
    record = relay.said()
    assert (record["version"], record["proto"]) == (VERSION, PROTO)
    assert (record["device"], record["remote"]) == ("fake", "me@box")
    assert record["pid"] == relay.process.pid and record["models"] == ["checker"]

    relay.process.stdin.write(b"not json\n[1]\n{\"op\": \"fly\"}\n\n")
    job = relay.start()
    relay.wait(lambda: read_result(job), "the result")
    assert read_result(job)["status"] == "done"
    assert files(job) == ["events.jsonl", "job.json", "mesh.npz", "out/owner.png", "out/texture.png", "result.json"]
    assert [json.loads(line)["ev"] for line in (job / "events.jsonl").read_text().splitlines()][-1] == "done"
    relay.wait(lambda: not [name for name in left(home) if "/jobs/" in name], "the end of the delivered folder")

    shutil.rmtree(job)
    again = relay.start(prompt="fake:crawl")  # the same id: it was forgotten there
    relay.wait(lambda: (again / "events.jsonl").exists(), "the first event")
    relay.send(op="cancel")
    relay.wait(lambda: read_result(again), "the cancel")
    assert read_result(again)["status"] == "cancelled"
    relay.send(op="run", job=str(tmp_path / "no job"))
    assert relay.close() == 0
    relay.wait(lambda: not left(home), "the end of the far side")


def test_crash_hang_and_the_end_of_stdin(tmp_path, far, relays):
    home, program = far
    (tmp_path / "a").mkdir()
    relay = relays(tmp_path / "a", program).ready()
    relay.start(prompt="fake:crash@denoise")
    assert relay.error()["code"] == "engine_lost" and relay.process.returncode == 139
    assert "me@box stopped unexpectedly (exit code 139)" in relay.error()["message"]
    assert "Segmentation fault" in relay.log.read_text()

    (tmp_path / "b").mkdir()
    relay = relays(tmp_path / "b", program).ready()
    job = relay.start(prompt="fake:deaf@denoise")
    relay.wait(lambda: (job / "events.jsonl").exists() and "denoise" in (job / "events.jsonl").read_text(), "the hang")
    began = time.monotonic()
    relay.close()  # a Blender that has crashed
    assert time.monotonic() - began < 5, "closing waits for nobody"
    relay.wait(lambda: not left(home), "the end of an engine that listens to nothing but being killed")


def test_the_local_folder_is_taken_away(tmp_path, far, relays):
    home, program = far
    relay = relays(tmp_path, program).ready()
    job = relay.start(prompt="fake:slow")
    relay.wait(lambda: (job / "events.jsonl").exists(), "the first event")
    shutil.rmtree(job)
    assert "cannot be written" in relay.error()["message"]
    relay.wait(lambda: not left(home), "the end of the far side")


def test_a_finished_texture_that_was_not_delivered_is_kept_for_a_week(tmp_path, far):
    """A relay that hears of the result and is gone before it says that it has it."""
    home, program = far
    job = write_job(tmp_path, small_job(texture_size=64))

    def connect():
        side = subprocess.Popen(ssh.command("box", "", ["remote"], {"TWEED_SSH": str(program)}), stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)  # fmt: skip
        frames = Frames(side.stdout.read)
        frames.skip_to_banner()
        side.stdin.write(encode("hello", version=VERSION, proto=PROTO, remote=REMOTE))
        assert frames.next().do == "hello"
        return side, frames

    side, frames = connect()
    side.stdin.write(encode("begin", job=JOB))
    for name in files_there(job):
        for piece in pieces(job, name):
            side.stdin.write(piece)
    side.stdin.write(encode("run", job=JOB))
    while frames.next().fields.get("path") != "result.json":
        pass
    side.kill()
    side.communicate()
    time.sleep(1.0)  # long enough for a clean-up that would be wrong
    assert [read_result(folder)["status"] for folder in kept(home)] == ["done"]

    old = kept(home)[0].parent.parent
    os.utime(old, (time.time() - 8 * 86400,) * 2)
    side, frames = connect()
    while frames.next().do != "state":
        pass
    assert not old.exists()
    side.communicate(timeout=PATIENCE)


def kept(home: Path) -> list[Path]:
    return list(home.glob(".local/share/tweed/remote/*/jobs/*"))


def test_what_the_login_prints_does_no_harm(tmp_path, far, relays):
    _, program = far
    chatty = fake_program(tmp_path / "chatty", "echo 'Welcome to box'", "echo 'motd' >&2", f'exec "{program}" "$@"')
    relay = relays(tmp_path, chatty).ready()
    assert "Welcome to box" in relay.log.read_text()
    relay.close()


def liar(folder: Path, *frames: bytes, hello: bytes | None = None) -> Path:
    """A far side that says hello and these frames, and listens until it is closed."""
    if hello is None:
        hello = encode("hello", version=VERSION, proto=PROTO, remote=REMOTE) + encode(
            "state", record={"state": "ready", "version": VERSION, "proto": PROTO, "device": "liar"}
        )
    (folder / "frames").write_bytes(b"".join(frames))
    (folder / "hello").write_bytes(BANNER + hello)
    (folder / "liar.py").write_text(LIAR, "utf-8")
    return fake_program(folder / "ssh", f'exec "{sys.executable}" "{folder}/liar.py" "{folder}"')


LIAR = """
import os, pathlib, sys
folder, heard = pathlib.Path(sys.argv[1]), b""
os.write(1, (folder / "hello").read_bytes())
while data := os.read(0, 1 << 16):
    before, heard = heard, heard + data
    if b'"do": "run"' in heard and b'"do": "run"' not in before:  # the job has come
        os.write(1, (folder / "frames").read_bytes())
"""


@pytest.mark.parametrize("path", ["../../escaped", "/tmp/escaped", "out/../../escaped", "mesh.npz", "job.json"])
def test_a_far_side_that_reaches_outside(tmp_path, relays, path):
    program = liar(tmp_path, encode("file", b"x", job=JOB, path=path, size=1, at=0))
    relay = relays(tmp_path, program).ready()
    job = relay.start()
    relay.wait(lambda: read_result(job), "the refusal")
    error = read_result(job)["error"]
    assert error["code"] == "job" and "me@box sent what no engine of Tweed sends" in error["action"]
    assert files(job) == ["job.json", "mesh.npz", "result.json"] and not list(tmp_path.rglob("escaped"))
    assert relay.close() == 0


def test_a_far_side_that_sends_for_other_jobs_is_not_heard(tmp_path, relays):
    other = "20200101T000000Z-000000"
    program = liar(tmp_path, encode("file", b"x", job=other, path="out/x", size=1, at=0),
                   encode("file", b"x", job=["a"], path="out/x", size=1, at=0),
                   encode("failed", job=JOB, error={"code": "user", "message": "No."}))  # fmt: skip
    relay = relays(tmp_path, program).ready()
    job = relay.start()
    relay.wait(lambda: read_result(job), "the end")
    assert read_result(job)["error"]["message"] == "No." and not list(tmp_path.rglob("x"))


@pytest.mark.parametrize(
    "frames, code",
    [
        (b"\xff" * 64, "protocol"),
        (encode("fly"), "protocol"),
        (encode("state", record=[1]), "protocol"),
        (encode("file", b"", job=JOB, path="out/a", size=9, at=0), "protocol"),
        (encode("append", b"x", job=JOB, at=5), "protocol"),
        (encode("ended", code=3), "engine_lost"),
        (encode("ended", code="x", error={"code": "no_room", "message": "No room left in /far."}), "no_room"),
    ],
)
def test_a_far_side_that_breaks_the_protocol(tmp_path, relays, frames, code):
    relay = relays(tmp_path, liar(tmp_path, frames)).ready()
    job = relay.start()
    assert relay.error()["code"] == code
    assert files(job) in (["job.json", "mesh.npz"], ["events.jsonl", "job.json", "mesh.npz"])


OLD = encode("hello", version="9.9.9", proto=PROTO, remote=REMOTE)


@pytest.mark.parametrize("hello", [OLD, encode("state"), b"rubbish!"])
def test_another_version_or_none(tmp_path, relays, hello):
    error = relays(tmp_path, liar(tmp_path, hello=hello)).error()
    assert error["code"] in ("protocol", "engine_missing") and error["action"]
    if b"9.9.9" in hello:
        assert "version 9.9.9" in error["message"] and VERSION in error["message"]


def test_a_model_that_is_not_there_is_named(tmp_path):
    for word, text in (("model", "/nowhere/base+/nowhere/net"), ("lora", "/nowhere/a.safetensors:0.5"),
                       ("vae", "C:\\models\\vae")):  # fmt: skip
        values = {word: text}
        folder = write_job(tmp_path / word, small_job(**values))
        with pytest.raises(Exception, match=rf"no .*nowhere.*\({word}\)|no C:.*\({word}\)"):
            check_paths(folder)
    check_paths(write_job(tmp_path / "fine", small_job(model="someone/model@main", vae=str(tmp_path))))


def test_pictures_go_before_the_event_that_announces_them(tmp_path):
    """Else the add-on would wait for a result that is still on its way over a slow line."""
    folder = tmp_path / JOB
    (folder / "out").mkdir(parents=True)
    events = folder / "events.jsonl"
    events.write_bytes(b'{"ev": "started"}\n{"ev": "ste')
    out = Outbound(folder)
    first = b"".join(out.changes())
    assert b"started" in first and b'{"ev": "ste' not in first
    (folder / "out" / "texture.png").write_bytes(b"PICTURE")
    (folder / "result.json").write_bytes(b"RESULT")
    with events.open("ab") as file:
        file.write(b'p"}\n{"ev": "done"}\n')
    rest = b"".join(out.changes())
    assert rest.index(b"step") < rest.index(b"PICTURE") < rest.index(b'"done"') < rest.index(b"RESULT")
    assert out.over


def test_silence_ends_the_far_side(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.remote.SILENCE", 0.3)
    monkeypatch.chdir(fake_far_root(tmp_path / "root"))
    read, write = os.pipe()
    os.write(write, encode("hello", version=VERSION, proto=PROTO, remote=REMOTE))
    with open(tmp_path / "said", "wb", buffering=0) as said:
        side = Far(read, said, tmp_path)
        done = threading.Thread(target=side.run)
        done.start()
        done.join(PATIENCE)
        assert not done.is_alive() and side._engine.returncode is not None
    os.close(read)
    os.close(write)


NONE = ["", " ", "-oProxyCommand=x", "a b", "a;b", "a\nb", "$(x)", "me@-x", "-l@x", "a@b@c", "x" * 300, "me@box:123456",
        "me@[", "`x`", "a/b", "ü"]  # fmt: skip


@pytest.mark.parametrize("host", NONE)
def test_hosts_that_are_none(host):
    with pytest.raises(EngineMissing):
        ssh.command(host, "", ["remote"])


@pytest.mark.parametrize(
    "host, words",
    [
        ("box", ["box"]),
        ("me@box.example.org", ["me@box.example.org"]),
        ("me@box:2222", ["-p", "2222", "me@box"]),
        ("me@[fe80::1]:22", ["-p", "22", "me@fe80::1"]),
    ],
)
def test_hosts(host, words):
    assert ssh.destination(host) == words
    command = ssh.command(host, "", ["remote"], {})
    assert command[0] == "ssh" and "BatchMode=yes" in command and command[-1 - len(words) : -1] == words


@pytest.mark.skipif(not shutil.which("ssh"), reason="there is no ssh")
def test_ssh_itself_understands_the_arguments():
    words = ssh.command("me@box.example:2222", "", ["remote"], {})
    told = subprocess.run([words[0], "-G", *words[1:]], capture_output=True, text=True, timeout=20)
    assert told.returncode == 0, told.stderr
    for line in ("user me", "hostname box.example", "port 2222", "batchmode yes", "requesttty false", "forwardagent no",
                 "clearallforwardings yes"):  # fmt: skip
        assert line in told.stdout.lower().splitlines(), line


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "fish", "ksh"])
@pytest.mark.parametrize("name", ["plain", "two words", "ü'\"é", "$(touch pwned) `x` ; & | * !", "-x"])
def test_the_far_shell_takes_a_folder_as_one_word(tmp_path, shell, name):
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}")
    root = fake_far_root(tmp_path / name)
    (root / "engine" / "__main__.py").write_text("import os, sys\nprint(os.getcwd(), sys.argv[1:])\n")
    far = ssh.command("box", f"./{name}" if name == "-x" else str(root), ["a b", "it's"])[-1]
    told = subprocess.run([shell, "-c", far], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert told.stdout == f"{root} ['a b', \"it's\"]\n", told.stderr
    assert not list(tmp_path.rglob("pwned"))
    assert shlex.split(far)[:2] == ["python3", "-c"] and "'" not in ssh.FINDER and "!" not in ssh.FINDER


def test_a_folder_with_a_line_break_is_refused():
    with pytest.raises(EngineMissing, match="control characters"):
        ssh.command("box", "a\nb", ["remote"])


def test_an_engine_from_before_remote_is_said(tmp_path):
    error = ssh.failure("box", 2, ["usage: …", "argument command: invalid choice: 'remote' (choose from 'serve', …)"])
    assert isinstance(error, ProtocolError) and "install.py on box" in error.action
    assert "exit code 255" in ssh.failure("box", 255, []).message
