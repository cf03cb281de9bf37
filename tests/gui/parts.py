# SPDX-License-Identifier: Apache-2.0
"""What only a window can show: the coverage drawn over the mesh, and a view picked by a click. `python3 parts.py OUT`.

Runs inside the Debian folder like story.py; raises at the first thing that is not as it should be.
"""

import sys
import time

from window import Window

MODULE = "__import__('sys').modules['bl_ext.user_default.tweed.{}']"
NOW = MODULE.format("session") + ".now"
SHOWN = MODULE.format("coverage_operators") + ".shown"
GROUP = "bpy.context.scene.tweed"
out = sys.argv[1]
gui = Window(out)
gui.sidebar("Tweed")


def picture(name: str) -> None:
    gui.shot(f"{out}/{name}.png")
    assert not gui.errors(), gui.errors()


gui.py(f"{GROUP}.__setattr__('rig', 'ring')")
gui.py(f"{GROUP}.__setattr__('views', 1)")
gui.py("bpy.ops.tweed.coverage()")
assert gui.py(f"{SHOWN}.drawn and '1 view:' in {SHOWN}.words")
picture("20-coverage")
gui.py("bpy.data.objects['Cube'].location.__setitem__(0, 1.0)")
gui.py("area_region()[1].tag_redraw()")
picture("21-coverage-moved")
gui.py("bpy.data.objects['Cube'].location.__setitem__(0, 0.0)")
gui.py("bpy.ops.tweed.coverage_hide()")
assert gui.py(f"not {SHOWN}.drawn and {SHOWN}.words == ''")

gui.py(f"{GROUP}.__setattr__('views', 4)")
gui.py(f"{GROUP}.__setattr__('prompt', 'house')")
gui.press("tweed.generate")
gui.wait(f"{NOW}.outcome is not None and {NOW}.outcome.kind == 'done'", 60)
# the middle of the cube on the screen
MIDDLE = (
    "(lambda a: (lambda r: (lambda p: [p.x + r.x, p.y + r.y])(__import__('bpy_extras.view3d_utils', fromlist=['x'])"
    ".location_3d_to_region_2d(r, a.spaces.active.region_3d, bpy.data.objects['Cube'].location)))"
    "(next(r for r in a.regions if r.type == 'WINDOW')))"
    "(next(a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == 'VIEW_3D'))"
)
# held, the button in the corner shows the cube as it was, on the screen and in its material
gui.py("area_region()[1].spaces.active.shading.__setattr__('color_type', 'TEXTURE')")
BASE = (
    "[l.from_node.bl_idname for l in bpy.data.objects['Cube'].active_material.node_tree.links"
    " if l.to_socket.identifier == 'Base Color']"
)
CORNER = (
    "(lambda r, u: [r.x + r.width - u.width * bpy.context.preferences.system.use_region_overlap - 24, r.y + 24])"
    "(area_region('VIEW_3D', 'WINDOW')[2], area_region()[2])"
)
x, y = gui.py(CORNER)
gui.move(round(x), round(gui.height - y))
cube = [round(place) for place in gui.py(MIDDLE)]
cube[1] = gui.height - cube[1] - 30
textured = gui.patch(*cube)


def apart(before: bytes) -> float:
    """Mean difference of what is there now, in 8-bit steps; a redrawn window differs a little in its smoothed edges."""
    return sum(abs(a - b) for a, b in zip(before, gui.patch(*cube), strict=True)) / len(before)


gui.x("mousedown", 1)
gui.wait(f"not {BASE}", 10)
assert apart(textured) > 10, "Solid view shows the texture still"
picture("26-held")
gui.x("mouseup", 1)
gui.wait(BASE, 10)
assert apart(textured) < 3
assert not gui.py("len(bpy.context.window.modal_operators)")

PICK = (
    "(lambda a, r: (lambda o: (o.__enter__(), bpy.ops.tweed.pick_view('INVOKE_DEFAULT'), o.__exit__(None, None, None)))"
    "(bpy.context.temp_override(window=bpy.context.window_manager.windows[0], area=a, region=r)))"
    "(*(lambda a: (a, next(r for r in a.regions if r.type == 'WINDOW')))"
    "(next(a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == 'VIEW_3D')))"
)
gui.py(f"repr({PICK})")
gui.move(40, 300)
gui.x("click", 3)
time.sleep(0.5)
assert gui.py(f"{GROUP}.view") == "", "the right button leaves it"
gui.py(f"repr({PICK})")
x, y = gui.py(MIDDLE)
gui.move(round(x) + 15, round(gui.height - y) + 5)
gui.x("click", 1)
gui.wait(f"{GROUP}.view != ''", 10)
assert gui.py(f"{GROUP}.view") in ("front", "left"), "the fake engine gives every texel to the first or the last view"
assert not gui.py("len(bpy.context.window.modal_operators)")
gui.py("bpy.ops.tweed.regenerate_view()")
gui.wait(f"{NOW}.run is not None or {NOW}.outcome is not None and {NOW}.outcome.kind == 'done'", 60)
gui.wait(f"{NOW}.run is None", 60)
assert gui.py(f"{NOW}.outcome.kind") == "done", gui.py(f"repr({NOW}.outcome)")


def opened(name: str) -> None:
    """A picture of a sub-panel as it is when open."""
    with gui.alone(name):
        picture(f"22-{name}")


gui.py(f"{GROUP}.__setattr__('model', 'stabilityai/sdxl-turbo')")
for name in ("model", "edit", "machine", "cameras"):
    opened(name)

# the views of a rig: a real click on a tick, real typing beside it, and a camera from the 3D view
gui.py(f"{GROUP}.__setattr__('rig', 'box')")
gui.py(f"{GROUP}.__setattr__('views', 6)")


def on_row(view: str, what: str) -> None:
    """The pointer on a button of the view's row: from the row's last button, which the scan finds, to the left."""
    gui.hover(f'look_from(view="{view}")')
    x, y = next(place for name, place in gui.seen.items() if f'view="{view}"' in name)
    assert any(gui.move(left, y) or what in gui.under() for left in range(x - 40, x - 240, -8)), what


with gui.alone("cameras"):
    on_row("top", "rows.use_4")
    gui.x("mousedown", 1, "sleep", "0.06", "mouseup", 1)
    gui.wait(f"{GROUP}.skip_views == 'top'", 10)
    on_row("front", "rows.words_0")
    gui.x("click", "--repeat", 2, "--delay", 60, 1)
    time.sleep(0.4)
    gui.x("type", "--delay", "30", "a door, red")
    gui.key("Return")
    gui.wait(f"{GROUP}.view_prompts != ''", 10)
    assert gui.py(f"[{GROUP}.skip_views, {GROUP}.view_prompts]") == ["top", "front = a door\\, red"]
    picture("23-rows")
    gui.key("ctrl+z")
    gui.wait(f"{GROUP}.view_prompts == ''", 10)
    assert gui.py(f"{GROUP}.skip_views") == "top"
    gui.press("tweed.look_from(view=\"back\")")
    gui.wait("area_region()[1].spaces.active.region_3d.view_matrix[2][1] > 0.999", 10)  # the 3D view's back is +Y
    picture("24-look-from")
    gui.py("area_region()[1].spaces.active.region_3d.view_rotation = __import__('mathutils').Euler((1.1, 0, 0.7)).to_quaternion()")
    gui.py("area_region()[1].spaces.active.region_3d.view_distance = 12")
    gui.press("tweed.camera_from_view")
    gui.wait(f"{GROUP}.rig == 'scene'", 10)
    picture("25-from-view")
gui.py("bpy.context.view_layer.update()")
CLOSE = (
    "(lambda o, s: [max(abs(a - b) for x, y in zip(o.matrix_world.inverted(), s.region_3d.view_matrix) for a, b in zip(x, y)),"
    " 1 / __import__('math').tan(o.data.angle / 2), s.region_3d.window_matrix[0][0]])"
    "(bpy.data.objects['Tweed From View'], area_region()[1].spaces.active)"
)
away, own, shown = gui.py(CLOSE)
assert away < 1e-4, "it stands where the 3D view looks from"
assert own > shown, "the cube is smaller than the window"
FRAME = (
    "(lambda s, r: (lambda reach: [s.region_3d.window_matrix[0][0] * reach * r.width / max(r.width, r.height),"
    " s.region_3d.window_matrix[1][1] * reach * r.height / max(r.width, r.height)])(36 / s.lens))"
    "(area_region()[1].spaces.active, area_region('VIEW_3D', 'WINDOW')[2])"
)
assert all(abs(value - 1) < 1e-3 for value in gui.py(FRAME)), "half the longer side is seen at 36 mm / lens"
assert gui.quit() == 0
