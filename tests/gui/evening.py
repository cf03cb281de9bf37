# SPDX-License-Identifier: Apache-2.0
"""The evening after story.py, in a new window: `python3 evening.py OUT` inside the Debian folder, with the fake engine.

Save, reload, revert; a part of the texture painted anew in Edit Mode; a job of the past put on again; a key that holds
Compare; the views drawn, and one switched off by a click. Raises at the first thing that is not as it should be.
"""

import sys
import time

from window import Window

NOW = "__import__('sys').modules['bl_ext.user_default.tweed.session'].now"
GROUP = "bpy.context.scene.tweed"
NODES = "bpy.data.objects['Cube'].active_material.node_tree.nodes"
IMAGES = f"[n.image.name for n in {NODES} if n.bl_idname == 'ShaderNodeTexImage' and n.image]"
out = sys.argv[1]
gui = Window(out)
gui.py("area_region()[1].spaces.active.shading.__setattr__('color_type', 'TEXTURE')")
gui.sidebar("Tweed")


def picture(name: str) -> None:
    gui.shot(f"{out}/{name}.png")
    assert not gui.errors(), gui.errors()


def generate(prompt: str) -> None:
    gui.py(f"{GROUP}.__setattr__('prompt', {prompt!r})")
    gui.py(f"{NOW}.__setattr__('outcome', None)")
    gui.press("tweed.generate")
    gui.wait(f"{NOW}.run is None and {NOW}.outcome is not None", 60)
    assert gui.py(f"{NOW}.outcome.kind") == "done", gui.py(f"repr({NOW}.outcome)")


def file(operator: str) -> None:
    """Blender's own open and save, as its File menu calls them."""
    gui.py(f"bpy.app.timers.register(lambda: (bpy.ops.wm.{operator}(filepath={out + '/evening.blend'!r}), None)[1])")
    time.sleep(2.0)
    gui.wait("bpy.data.filepath.endswith('evening.blend')", 30)


# a texture survives save and reload, and so does the way back
generate("bricks")
file("save_as_mainfile")
(first,) = gui.py(IMAGES)
file("open_mainfile")
gui.wait("'Cube' in bpy.data.objects", 30)
gui.sidebar("Tweed")
assert gui.py(IMAGES) == [first] and gui.py(f"bpy.data.images[{first!r}].filepath").startswith("//textures")
gui.press("tweed.revert")
gui.wait(f"not {IMAGES}", 10)
assert gui.py("bpy.data.filepath").endswith("evening.blend")
picture("30-reverted-after-reload")

# the job is in the history still
with gui.alone("history"):
    gui.press("tweed.apply_result")
    gui.wait(f"len({IMAGES}) == 1", 20)
    picture("31-applied-from-history")

# two faces, chosen in Edit Mode with the keyboard and the mouse, and only those
gui.move(400, 500)
gui.key("Tab")
gui.wait("bpy.context.mode == 'EDIT_MESH'", 10)
gui.key("3")
gui.wait("tuple(bpy.context.tool_settings.mesh_select_mode) == (False, False, True)", 10)
gui.key("alt+a")
MIDDLE = (
    "(lambda a: (lambda r: (lambda p: [p.x + r.x, p.y + r.y])(__import__('bpy_extras.view3d_utils', fromlist=['x'])"
    ".location_3d_to_region_2d(r, a.spaces.active.region_3d, (0.0, 0.0, 1.0))))"
    "(next(r for r in a.regions if r.type == 'WINDOW')))"
    "(next(a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == 'VIEW_3D'))"
)
x, y = gui.py(MIDDLE)
gui.move(round(x), round(gui.height - y))
gui.x("mousedown", 1, "sleep", "0.06", "mouseup", 1)
CHOSEN = "(bpy.context.object.update_from_editmode(), sum(p.select for p in bpy.context.object.data.polygons))[1]"
gui.wait(f"{CHOSEN} == 1", 10)
with gui.alone("edit"):
    gui.py(f"{GROUP}.__setattr__('start', 'texture')")
    gui.py(f"{GROUP}.__setattr__('region', 'faces')")
    gui.py("area_region()[1].tag_redraw()")
    picture("32-region")
generate("moss")
assert gui.py("bpy.context.mode") == "EDIT_MESH" and gui.py(CHOSEN) == 1, "mode and selection are as they were"
settings = gui.py(f"(lambda e: [e.settings['start'], e.settings['region']])(__import__('sys').modules["
                  f"'bl_ext.user_default.tweed.session'].past()[0])")  # fmt: skip
assert settings == ["texture", "faces"]
gui.move(400, 500)
gui.key("Tab")
gui.wait("bpy.context.mode == 'OBJECT'", 10)
gui.py(f"{GROUP}.property_unset('start')")
gui.py(f"{GROUP}.property_unset('region')")
time.sleep(1.0)
picture("33-part-anew")

# an artist's own key holds Compare
gui.py(
    "bpy.context.window_manager.keyconfigs.addon.keymaps.new(name='3D View', space_type='VIEW_3D')"
    ".keymap_items.new('tweed.compare_hold', 'J', 'PRESS') and None"
)
second = gui.py(IMAGES)
gui.move(400, 500)
gui.x("keydown", "j")
gui.wait(f"{IMAGES} != {second!r}", 10)
assert gui.py("[m.bl_idname for m in bpy.context.window.modal_operators]") == ["TWEED_OT_compare_hold"]
gui.x("keyup", "j")
gui.wait(f"{IMAGES} == {second!r}", 10)
assert not gui.py("len(bpy.context.window.modal_operators)")

# the views, drawn; one switched off by a click on its row is drawn grey
gui.py("area_region()[1].spaces.active.region_3d.__setattr__('view_distance', 18.0)")
with gui.alone("cameras"):
    gui.press("tweed.preview_views")
    gui.move(300, 700)
    picture("34-views")
    gui.hover('look_from(view="top")')
    x, y = next(place for name, place in gui.seen.items() if 'view="top"' in name)
    assert any(gui.move(left, y) or "rows.use_6" in gui.under() for left in range(x - 40, x - 240, -8))
    gui.x("mousedown", 1, "sleep", "0.06", "mouseup", 1)
    gui.wait(f"{GROUP}.skip_views == 'top'", 10)
    gui.move(300, 700)
    picture("35-one-view-off")
    gui.press("tweed.preview_views")
    gui.wait("__import__('sys').modules['bl_ext.user_default.tweed.view_preview'].shown.positions is None", 10)
assert not gui.errors(), gui.errors()
assert gui.quit() == 0
