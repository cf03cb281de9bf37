# SPDX-License-Identifier: Apache-2.0
"""The pictures of docs/panel.md: `python3 portraits.py OUT` inside the Debian folder, with an engine behind it.

Everything is reached as an artist reaches it. Whole windows are `panel-*.png` of 1400 x 900, the sidebar alone where only
that is meant. Unlike `story.py` this is no test: it shows, and stops at the first fault.
"""

import os
import struct
import sys
import time
import zlib

from window import Window

out = sys.argv[1]
NOW = "__import__('sys').modules['bl_ext.user_default.tweed.session'].now"
PATIENCE = 420
gui = Window(out)


def cut(path: str, left: int, top: int, width: int, height: int) -> None:
    """Replace an 8-bit RGB picture by a part of itself."""
    data = open(path, "rb").read()
    wide, high = struct.unpack(">II", data[16:24])
    at, raw = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IDAT":
            raw += data[at + 8 : at + 8 + length]
        at += 12 + length
    rows, step = zlib.decompress(raw), 3 * wide + 1
    assert len(rows) == step * high and set(rows[::step]) == {0}, "the picture is filtered"
    part = b"".join(b"\0" + rows[y * step + 1 + 3 * left : y * step + 1 + 3 * (left + width)]
                    for y in range(top, min(top + height, high)))  # fmt: skip

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, len(part) // (3 * width + 1), 8, 2, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(part, 9)) + chunk(b"IEND", b""))


def window(name: str) -> None:
    gui.move(300, 850)
    gui.shot(f"{out}/panel-{name}.png", settle=1.0)
    assert not gui.errors(), gui.errors()


def sidebar(name: str, height: int = 900) -> None:
    window(name)
    left, bottom, width, tall = gui.py("(lambda r: (r.x, r.y, r.width, r.height))(area_region()[2])")
    cut(f"{out}/panel-{name}.png", left, 900 - bottom - tall, width, min(height, tall))


def opened(name: str, height: int) -> None:
    with gui.alone(name):
        sidebar(name, height)


def generate(prompt: str, **settings) -> None:
    for key, value in {"prompt": prompt, **settings}.items():
        gui.py(f"bpy.context.scene.tweed.__setattr__({key!r}, {value!r})")
    gui.press("tweed.generate")


gui.py("bpy.ops.mesh.primitive_monkey_add(size=2.4)")
gui.py("bpy.data.objects.remove(bpy.data.objects['Cube'])")
gui.py("bpy.context.object.modifiers.new('Subdivision', 'SUBSURF').__setattr__('levels', 2)")
gui.py("bpy.ops.object.modifier_apply(modifier='Subdivision')")
gui.py("bpy.ops.object.shade_smooth()")
gui.py("area_region()[1].spaces.active.shading.__setattr__('color_type', 'TEXTURE')")
gui.py("area_region()[1].spaces.active.shading.__setattr__('light', 'FLAT')")
gui.py("area_region()[1].spaces.active.region_3d.__setattr__('view_distance', 6.0)")
gui.py("area_region()[1].spaces.active.region_3d.__setattr__('view_rotation', (0.78, 0.55, 0.17, 0.24))")
gui.py("bpy.context.preferences.view.__setattr__('ui_scale', 1.0)")
gui.sidebar("Tweed")
sidebar("idle", 520)
gui.fill("tweed.prompt", "rusty blue metal")
sidebar("described", 480)
generate("rusty blue metal", quality="standard", seed=3)
gui.wait(f"{NOW}.run is not None and {NOW}.run.phase == 'denoise' and {NOW}.run.step > 60", PATIENCE)
window("running")
gui.wait(f"{NOW}.run is None", PATIENCE)
assert gui.py(f"{NOW}.outcome.kind") == "done", gui.py(f"repr({NOW}.outcome)")
time.sleep(2)
window("done")
for name, height in (("cameras", 440), ("method", 440), ("model", 425), ("guidance", 205), ("edit", 350), ("output", 445),
                     ("machine", 150)):  # fmt: skip
    opened(name, height)
gui.py("bpy.ops.tweed.coverage()")
window("coverage")
gui.py("bpy.ops.tweed.coverage_hide()")
DISTANCE = "area_region()[1].spaces.active.region_3d.__setattr__('view_distance', {})"
gui.py(DISTANCE.format(26.0))
gui.py("bpy.ops.tweed.preview_views()")
window("views")
gui.py("bpy.ops.tweed.preview_views()")
gui.py(DISTANCE.format(6.0))
generate("lava", quality="draft")
gui.py("bpy.ops.tweed.queue_add(prompt='white marble with black veins')")
gui.wait(f"{NOW}.run is not None and {NOW}.run.phase == 'denoise'", PATIENCE)
opened("history", 335)
gui.wait(f"{NOW}.run is None and not {NOW}.waiting", 2 * PATIENCE)
time.sleep(2)
window("second")
x, y = gui.py(
    "(lambda r, u: [r.x + r.width - u.width * bpy.context.preferences.system.use_region_overlap - 24, r.y + 24])"
    "(area_region('VIEW_3D', 'WINDOW')[2], area_region()[2])"
)
gui.move(round(x), round(900 - y))
time.sleep(0.5)
gui.x("mousedown", 1)
gui.wait("len(bpy.context.window.modal_operators)", 10)
window("held")
gui.x("mouseup", 1)
gui.wait("not len(bpy.context.window.modal_operators)", 10)
gui.py("bpy.context.preferences.view.__setattr__('language', 'de_DE')")
gui.py("area_region()[1].tag_redraw()")
sidebar("german", 520)
gui.py("bpy.context.preferences.view.__setattr__('language', 'en_US')")
generate("lava", steps=200)
gui.wait(f"{NOW}.run is not None and {NOW}.run.phase == 'denoise'", PATIENCE)
gui.press("tweed.cancel")
gui.wait(f"{NOW}.run is None", PATIENCE)
sidebar("cancelled", 480)
gui.py("bpy.context.scene.tweed.property_unset('steps')")
gui.py("bpy.context.scene.tweed.__setattr__('lora', '/nowhere/rust.safetensors')")
gui.press("tweed.generate")
gui.wait(f"{NOW}.outcome is not None and {NOW}.outcome.kind == 'failed'", PATIENCE)
gui.py("bpy.context.scene.tweed.property_unset('lora')")
gui.py("area_region()[1].tag_redraw()")
sidebar("failed", 560)
gui.py("bpy.ops.tweed.revert()")
gui.py("bpy.ops.object.select_all(action='DESELECT')")
gui.py("area_region()[1].tag_redraw()")
sidebar("nothing-selected", 420)
gui.py("bpy.context.view_layer.objects.active = bpy.data.objects['Suzanne']")
gui.py("bpy.data.objects['Suzanne'].select_set(True)")
gui.py("bpy.data.objects['Suzanne'].data.uv_layers.remove(bpy.data.objects['Suzanne'].data.uv_layers[0])")
gui.py("area_region()[1].tag_redraw()")
sidebar("no-uvs", 420)
gui.py("bpy.ops.tweed.engine_stop()")
gui.py("__import__('os').environ.__setitem__('TWEED_ENGINE_ROOT', '/nowhere')")
gui.py("__import__('os').environ.__setitem__('TWEED_ENGINE_PYTHON', '/nowhere/python')")
gui.py("area_region()[1].tag_redraw()")
sidebar("first-run", 290)
with open(out + "/ssh", "w") as program:
    program.write("#!/bin/sh\necho 'artist@gpu-box: Permission denied (publickey).' >&2\nexit 255\n")
os.chmod(out + "/ssh", 0o755)
gui.py(f"__import__('os').environ.__setitem__('TWEED_SSH', {out + '/ssh'!r})")
gui.py("bpy.context.preferences.system.__setattr__('use_online_access', True)")
gui.py("bpy.ops.tweed.engine_remote(host='artist@gpu-box')")
gui.wait(f"{NOW}.outcome is not None and {NOW}.outcome.kind == 'failed'", PATIENCE)
gui.py("area_region()[1].tag_redraw()")
sidebar("remote", 540)
assert gui.quit() == 0
