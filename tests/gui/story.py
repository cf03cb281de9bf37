# SPDX-License-Identifier: Apache-2.0
"""An afternoon with Tweed in a real window, with the fake engine: `python3 story.py OUT` inside the Debian folder.

Writes a picture of each state into OUT and prints one JSON line of facts; raises at the first thing that is not as it
should be.
"""

import json
import sys
import time

from window import Window

NOW = "__import__('sys').modules['bl_ext.user_default.tweed.session'].now"
out = sys.argv[1]
facts = {}
gui = Window(out)
facts["blender"] = gui.py("bpy.app.version_string")
gui.py("area_region()[1].spaces.active.shading.__setattr__('color_type', 'TEXTURE')")


def picture(name: str) -> None:
    gui.shot(f"{out}/{name}.png")
    assert not gui.errors(), gui.errors()


gui.sidebar("Tweed")
picture("1-idle")
gui.fill("tweed.prompt", "mossy bricks fake:slow")
assert gui.py("bpy.context.scene.tweed.prompt") == "mossy bricks fake:slow"
picture("2-prompt")

started = time.monotonic()
gui.press("tweed.generate")
gui.wait(f"{NOW}.run is not None", 5)
gui.wait(f"{NOW}.run.phase == 'denoise' and {NOW}.run.step > 2", 20)
facts["first progress after s"] = round(time.monotonic() - started, 2)
picture("3-running")
view = gui.py("list(area_region()[1].spaces.active.region_3d.view_rotation)")
gui.move(400, 500)
gui.x(
    "mousedown",
    2,
    *(word for i in range(6) for word in ("mousemove", 400 + 12 * i, 500 + 5 * i, "sleep", "0.03")),
    "mouseup",
    2,
)
assert gui.py("list(area_region()[1].spaces.active.region_3d.view_rotation)") != view, (
    "the view does not orbit while a job runs"
)
assert not gui.py("len(bpy.context.window.modal_operators)"), "no modal operator, so that autosave goes on"
gui.wait(f"{NOW}.run is None", 60)
assert gui.py(f"{NOW}.outcome.kind") == "done", gui.py(f"repr({NOW}.outcome)")
time.sleep(1.5)
picture("4-done")
NODES = "bpy.data.objects['Cube'].active_material.node_tree.nodes"
TEXTURED = f"[n.image.name for n in {NODES} if n.bl_idname == 'ShaderNodeTexImage']"
assert gui.py(TEXTURED)

gui.press("tweed.compare")
time.sleep(0.5)
picture("5-compare")
gui.press("tweed.compare")
gui.move(400, 500)
gui.key("ctrl+z")
gui.wait(f"not {TEXTURED}", 5)
gui.key("ctrl+shift+z")
gui.wait(TEXTURED, 5)
gui.press("tweed.revert")
gui.wait(f"not {TEXTURED}", 5)
picture("6-reverted")

gui.py("bpy.context.scene.tweed.prompt = 'mossy bricks fake:crawl'")
gui.py("bpy.context.scene.tweed.steps = 200")
gui.press("tweed.generate")
gui.wait(f"{NOW}.run is not None and {NOW}.run.phase == 'denoise'", 60)
gui.press("tweed.cancel")
gui.wait(f"{NOW}.run is None", 20)
gui.py("bpy.context.scene.tweed.property_unset('steps')")
assert gui.py(f"{NOW}.outcome.kind") == "cancelled"
picture("7-cancelled")

gui.py("bpy.context.scene.tweed.__setattr__('prompt', 'x fake:crash@denoise')")
gui.press("tweed.generate")
gui.wait(f"{NOW}.outcome is not None and {NOW}.outcome.kind == 'failed'", 20)
picture("8-failed")

gui.py("bpy.data.objects['Cube'].data.uv_layers.remove(bpy.data.objects['Cube'].data.uv_layers[0])")
gui.py("area_region()[1].tag_redraw()")
picture("9-no-uvs")
gui.press("tweed.make_uvs")
gui.wait("len(bpy.data.objects['Cube'].data.uv_layers) == 1", 10)
gui.py("bpy.context.scene.tweed.__setattr__('prompt', 'checker')")
gui.press("tweed.generate")
gui.wait(f"{NOW}.outcome is not None and {NOW}.outcome.kind == 'done'", 30)
time.sleep(1.5)
picture("10-unwrapped")

TIMED = """
import sys
panels, session = (sys.modules["bl_ext.user_default.tweed." + name] for name in ("panels", "session"))
def timed(module, name):
    call = getattr(module, name)
    def measured(*given, **named):
        began = time.perf_counter()
        try:
            return call(*given, **named)
        finally:
            spent.append(time.perf_counter() - began)
    setattr(module, name, measured)
bpy.app.driver_namespace["spent"] = spent = []
for name in ("draw_engine", "_draw_wishes", "_draw_plan", "_draw_progress", "draw_outcome"):
    timed(panels, name)
timed(session, "_pump")
"""
gui.py(TIMED)  # everything that Tweed itself does on the main thread while a job runs
gui.py("bpy.context.scene.tweed.__setattr__('prompt', 'x fake:slow')")
since = gui.py("time.monotonic()")
gui.py("bpy.ops.tweed.generate()")
gui.wait(f"{NOW}.run is None", 60)
facts["longest call of Tweed's own, s"] = round(gui.py("max(bpy.app.driver_namespace['spent'])"), 4)
assert gui.py("len(bpy.app.driver_namespace['spent'])") > 20, "what was timed was called"
facts["longest gap between timer calls, s"] = round(gui.py(f"longest_gap({since})"), 3)
since = gui.py("time.monotonic()")
for _ in range(40):  # as often as the panel is drawn anew while a job runs, but with nothing to do
    gui.py("area_region()[1].tag_redraw()")
    time.sleep(0.1)
facts["the same with redraws alone, s"] = round(gui.py(f"longest_gap({since})"), 3)


def opened(name: str, number: int) -> None:
    """A picture of a sub-panel as it is when open."""
    with gui.alone(name):
        picture(f"{number}-{name}")


gui.py("bpy.context.scene.tweed.__setattr__('prompt', 'second in line')")
gui.py("bpy.ops.tweed.generate(prompt='first fake:slow')")
gui.py("bpy.ops.tweed.queue_add()")
gui.py("bpy.ops.tweed.queue_add(prompt='third in line')")
gui.wait(f"{NOW}.run is not None and {NOW}.run.phase == 'denoise'", 30)
opened("history", 13)
gui.wait(f"{NOW}.run is None and not {NOW}.waiting", 90)
for number, name in enumerate(("cameras", "method", "guidance", "edit", "output"), 14):
    opened(name, number)
gui.py("bpy.ops.tweed.add_cameras()")
opened("cameras", 19)
gui.py("bpy.context.scene.tweed.property_unset('rig')")

gui.py("bpy.ops.object.select_all(action='DESELECT')")
picture("11-nothing-selected")
gui.py("bpy.data.objects['Cube'].select_set(True)")
gui.py("bpy.context.view_layer.objects.active = bpy.data.objects['Cube']")
gui.py("__import__('os').environ.__setitem__('TWEED_ENGINE_ROOT', '/nowhere')")
gui.py("bpy.ops.tweed.engine_stop()")
gui.py("area_region()[1].tag_redraw()")
picture("12-engine-missing")
assert not gui.errors(), gui.errors()
facts["exit code"] = gui.quit()
assert facts["exit code"] == 0
print(json.dumps(facts))
