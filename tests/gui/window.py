# SPDX-License-Identifier: Apache-2.0
"""Drive a real Blender window as an artist would: Xvfb and xdotool outside, agent.py inside. Standard library only.

    gui = Window(OUT); gui.sidebar("Tweed"); gui.fill("tweed.prompt", "red bricks"); gui.press("tweed.generate");
    gui.shot("a.png")

Buttons are found by moving the real pointer down the sidebar and asking Blender what is under it, so no coordinates are
written down. Pictures come from Xvfb's frame buffer: Blender's own screenshot operator gives black under software GL.
"""

import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import zlib
from contextlib import contextmanager

HERE = os.path.dirname(os.path.abspath(__file__))


def xwd_to_png(source: str, target: str) -> None:
    with open(source, "rb") as file:
        data = file.read()
    head = struct.unpack(">25I", data[:100])
    start, width, height, order, stride, colours = head[0], head[4], head[5], head[7], head[12], head[19]
    assert head[2] == 2 and head[11] == 32, head
    offset, rows = start + colours * 12, bytearray()
    red, green, blue = (2, 1, 0) if order == 0 else (1, 2, 3)
    for y in range(height):
        row = data[offset + y * stride : offset + y * stride + width * 4]
        out = bytearray(width * 3)
        out[0::3], out[1::3], out[2::3] = row[red::4], row[green::4], row[blue::4]
        rows += b"\0" + out

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    with open(target, "wb") as file:
        file.write(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(rows), 6))
            + chunk(b"IEND", b"")
        )


def list_languages(path: str = "/usr/share/locale/languages") -> None:
    """Blender's list of languages, without which it refuses them, and which a Debian folder is made without.

    Blender 4.3 crashes at a list without "Automatic".
    """
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write("0:Complete:\n0:Automatic (Automatic):DEFAULT\n1:English (English):en_US\n5:German (Deutsch):de_DE\n")


class Window:
    def __init__(self, out: str, size=(1400, 900), display=":88", arguments=()):
        """Blender with the extension installed into `out`/blender, and the engine that lies in `out`."""
        list_languages()
        self.width, self.height = size
        self.seen: dict[str, tuple[int, int]] = {}
        self.folder = tempfile.mkdtemp(prefix="gui")
        os.chmod(self.folder, 0o700)
        self.environment = {
            **os.environ,
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "GALLIUM_DRIVER": "llvmpipe",
            "LP_NUM_THREADS": "2",
            "DISPLAY": display,
            "XDG_RUNTIME_DIR": self.folder,
            "AGENT_SOCKET": self.folder + "/socket",
            "BLENDER_USER_RESOURCES": out + "/blender",
            "TWEED_ENGINE_ROOT": out,
            "TWEED_ENGINE_PYTHON": "/usr/bin/python3",
        }
        self.server = subprocess.Popen(
            [
                "Xvfb",
                display,
                "-screen",
                "0",
                f"{self.width}x{self.height}x24",
                "-nolisten",
                "tcp",
                "-noreset",
                "-fbdir",
                self.folder,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._until(lambda: os.path.exists("/tmp/.X11-unix/X" + display[1:]), 10)
        self.log = self.folder + "/blender.log"
        with open(self.log, "wb") as log:
            self.blender = subprocess.Popen(
                [
                    "blender",
                    "--window-geometry",
                    "0",
                    "0",
                    str(self.width),
                    str(self.height),
                    *arguments,
                    "--python",
                    HERE + "/agent.py",
                ],
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(180)
        self._until(self._connect, 180)
        self.answers = self.socket.makefile("rb")
        self.py("1")
        self.x("windowfocus", self.x("search", "--sync", "--onlyvisible", "--class", "Blender").split()[0])

    def _until(self, done, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise TimeoutError(self.output())
            time.sleep(0.1)

    def _connect(self) -> bool:
        if self.blender.poll() is not None:
            raise SystemExit(f"Blender ended ({self.blender.returncode})\n{self.output()}")
        try:
            self.socket.connect(self.environment["AGENT_SOCKET"])
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def output(self) -> str:
        try:
            with open(self.log, errors="replace") as file:
                return file.read()
        except (OSError, AttributeError):
            return ""

    def errors(self) -> list[str]:
        """Tracebacks in Blender's console: a Panel.draw that raises shows nowhere else."""
        return self.output().split("Traceback (most recent call last)")[1:]

    def py(self, code: str):
        """The value of an expression, or the effect of a statement, in Blender."""
        self.socket.sendall(json.dumps(code).encode() + b"\n")
        answer = json.loads(self.answers.readline())
        if not answer["ok"]:
            raise RuntimeError(answer["result"])
        return answer["result"]

    def wait(self, expression: str, seconds: float = 30) -> None:
        self._until(lambda: self.py(expression), seconds)

    def x(self, *arguments) -> str:
        return subprocess.run(
            ["xdotool", *map(str, arguments)], env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def move(self, x: int, y: int) -> None:
        self.x("mousemove", x - 1, y, "sleep", "0.03", "mousemove", x, y)

    def key(self, name: str) -> None:
        self.x("key", name)
        time.sleep(0.15)

    def shot(self, path: str, settle: float = 0.5) -> None:
        time.sleep(settle)
        xwd_to_png(self.folder + "/Xvfb_screen0", path)

    def patch(self, x: int, y: int, side: int = 40, settle: float = 0.7) -> bytes:
        """The pixels of a square around that place, as they are on the screen."""
        time.sleep(settle)
        with open(self.folder + "/Xvfb_screen0", "rb") as file:
            data = file.read()
        head = struct.unpack(">25I", data[:100])
        start, stride, left = head[0] + head[19] * 12, head[12], 4 * (x - side // 2)
        rows = range(y - side // 2, y + side // 2)
        return b"".join(data[start + row * stride + left : start + row * stride + left + 4 * side] for row in rows)

    def sidebar(self, tab: str) -> None:
        """Open the sidebar at that tab, wide enough to read."""
        self.py("area_region()[1].spaces.active.__setattr__('show_region_ui', True)")
        for attempt in range(50):
            time.sleep(0.2)
            try:
                self.py(f"area_region()[2].__setattr__('active_panel_category', {tab!r})")
                break
            except RuntimeError:  # categories exist only once the region was drawn
                if attempt == 49:
                    raise
        self.py("area_region()[1].tag_redraw()")
        self.wait(f"area_region()[2].active_panel_category == {tab!r}")
        time.sleep(0.5)

    def buttons(self) -> dict[str, tuple[int, int]]:
        """Scan the open tab with the real pointer: {'bpy.ops.x.y()' or data path: (x, y)}."""
        left, bottom, width, height = self.py("(lambda r: (r.x, r.y, r.width, r.height))(area_region()[2])")
        top, found, misses = self.height - (bottom + height), {}, 0
        for y in range(top + 30, top + height - 6, 12):
            for part in (0.28, 0.83):
                x = left + int(width * part)
                self.move(x, y)
                name = self.under()
                if name:
                    found.setdefault(name, []).append((x, y))
                    misses = 0
                else:
                    misses += 1
            if found and misses > 24:  # lines of words have no buttons
                break
        return {name: places[len(places) // 2] for name, places in found.items()}

    def under(self) -> str:
        """What is under the pointer, once Blender has seen it move: two equal answers in a row."""
        before, name = None, "?"
        for _ in range(6):
            time.sleep(0.05)
            before, name = name, self.py("hovered()") or ""
            if name == before:
                break
        return name

    def hover(self, what: str) -> None:
        """Put the pointer on a button. Where it was seen last is tried first; then the tab is scanned again."""
        for _ in range(3):
            place = next((place for name, place in self.seen.items() if what in name), None)
            for aside in (0, 1, -9, 9) if place else ():  # a busy machine sees the pointer late in a scan
                self.move(place[0], place[1] + aside)
                if what in self.under():
                    return
            self.seen = self.buttons()
        raise RuntimeError(f"no button {what} among {list(self.seen)}")

    def press(self, what: str) -> None:
        """A real click on the button that calls the operator, or shows the property, `what`."""
        self.hover(what)
        self.x("mousedown", 1, "sleep", "0.06", "mouseup", 1)
        time.sleep(0.2)

    def fill(self, what: str, text: str) -> None:
        self.hover(what)
        self.x("click", "--repeat", 2, "--delay", 60, 1)
        time.sleep(0.4)
        self.key("ctrl+a")
        self.x("type", "--delay", "30", text)
        self.key("Return")
        time.sleep(0.3)

    @contextmanager
    def alone(self, name: str):
        """The add-on's sub-panel TWEED_PT_<name>, open and alone under a tab of its own, while this lasts.

        A copy and no subclass: unregistering a subclass takes its parent away too.
        """
        panels = "__import__('sys').modules['bl_ext.user_default.tweed.subpanels']"
        kept = "__import__('sys').__dict__"
        self.py(
            f"{kept}.__setitem__('_alone', type('TWEED_PT_alone_{name}', {panels}.TWEED_PT_{name}.__bases__, "
            f"{{**{{k: v for k, v in vars({panels}.TWEED_PT_{name}).items() if k in ('draw', 'poll', 'bl_label')}}, "
            f"'bl_idname': 'TWEED_PT_alone_{name}', 'bl_options': set(), 'bl_parent_id': '', 'bl_category': 'Look', "
            f"'__module__': {panels}.__name__}}))"
        )
        self.py(f"bpy.utils.register_class({kept}['_alone'])")
        self.sidebar("Look")
        yield
        self.py(f"bpy.utils.unregister_class({kept}['_alone'])")
        self.sidebar("Tweed")

    def quit(self) -> int:
        """Close Blender as the menu does; gives its exit code."""
        try:
            self.py("bpy.app.timers.register(lambda: bpy.ops.wm.quit_blender() and None, first_interval=0.1)")
            self.blender.wait(30)
        except (OSError, subprocess.TimeoutExpired, ValueError):
            self.blender.kill()
            self.blender.wait()
        self.server.terminate()
        self.server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.blender.returncode
