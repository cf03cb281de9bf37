# SPDX-License-Identifier: Apache-2.0
"""Inside a windowed Blender (`blender --python agent.py`): runs snippets that come over a UNIX socket.

It does so from a timer on the main thread, so that a test outside can look at Blender's state while it drives the
window with real X events."""

import itertools
import json
import os
import socket
import time
import traceback

import bpy

path = os.environ["AGENT_SOCKET"]
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen(1)
server.setblocking(False)
state = {"connection": None, "pending": b""}
ticks = []  # when the timer fired: gaps are stalls of the main thread

bpy.context.preferences.view.show_splash = False
bpy.context.preferences.use_preferences_save = False


def area_region(area_type="VIEW_3D", region_type="UI"):
    window = bpy.context.window_manager.windows[0]
    area = max((a for a in window.screen.areas if a.type == area_type), key=lambda a: a.width * a.height)
    return window, area, next(r for r in area.regions if r.type == region_type)


def hovered() -> str:
    """What the button under the pointer is: an operator call or a data path."""
    window, area, region = area_region()
    manager = bpy.context.window_manager
    manager.clipboard = ""
    asks = (bpy.ops.ui.copy_python_command_button, lambda: bpy.ops.ui.copy_data_path_button(full_path=True))
    with bpy.context.temp_override(window=window, area=area, region=region):
        for ask in asks:
            try:
                ask()
            except RuntimeError:
                continue  # not that kind of button
            if manager.clipboard:
                return manager.clipboard
    return ""


def longest_gap(since: float) -> float:
    """Seconds between two timer calls since that moment (time.monotonic)."""
    late = [t for t in ticks if t >= since]
    return max((b - a for a, b in itertools.pairwise(late)), default=0.0)


NAMES = {"bpy": bpy, "area_region": area_region, "hovered": hovered, "longest_gap": longest_gap, "time": time}


def answer(code: str) -> str:
    try:
        try:
            result = eval(compile(code, "<agent>", "eval"), NAMES)
        except SyntaxError:
            exec(compile(code, "<agent>", "exec"), NAMES)
            result = None
        return json.dumps({"ok": True, "result": result}, default=repr)
    except Exception:  # noqa: BLE001 whatever it was, the test outside is told
        return json.dumps({"ok": False, "result": traceback.format_exc()})


def tick():
    ticks.append(time.monotonic())
    del ticks[:-5000]
    try:
        if state["connection"] is None:
            state["connection"], _ = server.accept()
            state["connection"].setblocking(False)
        received = state["connection"].recv(65536)
        if not received:
            state["connection"] = None
        state["pending"] += received
    except BlockingIOError:
        return 0.01
    while b"\n" in state["pending"]:
        line, state["pending"] = state["pending"].split(b"\n", 1)
        state["connection"].sendall(answer(json.loads(line)).encode() + b"\n")
    return 0.01


bpy.app.timers.register(tick, first_interval=0.3, persistent=True)
