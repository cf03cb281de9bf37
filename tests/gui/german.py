# SPDX-License-Identifier: Apache-2.0
"""The panel in German, in a real window: `python3 german.py OUT` inside the Debian folder.

What the bpy module cannot show: Blender itself finds our words for labels, menus and tooltips. Blender's own translations
are not needed for that, only its list of languages.
"""

import json
import sys
import time

from window import Window

VIEW = "bpy.context.preferences.view"
GROUP = "bpy.context.scene.tweed"
MODULE = "__import__('sys').modules['bl_ext.user_default.tweed.{}']"
NOW = MODULE.format("session") + ".now"
SAY = "bpy.app.translations.pgettext_{}({!r}, {!r})"
out = sys.argv[1]
gui = Window(out)


def picture(name: str) -> None:
    gui.move(300, 850)
    gui.shot(f"{out}/{name}.png", settle=1.0)
    assert not gui.errors(), gui.errors()


gui.sidebar("Tweed")
assert gui.py(SAY.format("iface", "Feather", "Tweed")) == "Feather"
gui.py(f"{VIEW}.__setattr__('language', 'de_DE')")
assert gui.py(f"[bpy.app.translations.locale, {VIEW}.use_translate_interface]") == ["de_DE", True]
assert gui.py(SAY.format("iface", "Feather", "Tweed")) == "Weicher Rand", "and not Blender's word, which is a bird's"
assert gui.py(SAY.format("iface", "Generate Texture", "Tweed")) == "Textur erzeugen"
assert gui.py(SAY.format("tip", "What it should not look like", "*")) == "Wie sie nicht aussehen soll"
gui.py("area_region()[1].tag_redraw()")
picture("30-german")

gui.fill("tweed.prompt", "mossy bricks fake:slow")
gui.press("tweed.generate")
gui.wait(f"{NOW}.run is not None and {NOW}.run.phase == 'denoise' and {NOW}.run.step > 2", 60)
picture("31-german-running")
gui.wait(f"{NOW}.run is None", 60)
time.sleep(1)
picture("32-german-done")
gui.py(f"{GROUP}.__setattr__('prompt', 'x fake:crash@denoise')")
gui.press("tweed.generate")
gui.wait(f"{NOW}.outcome is not None and {NOW}.outcome.kind == 'failed'", 60)
picture("33-german-failed")
SHOWN = MODULE.format("translation") + ".shown"
assert "(Exit-Code " in gui.py(f"{SHOWN}({NOW}.outcome.message)") and "(exit code " in gui.py(f"{NOW}.outcome.message")
for number, name in enumerate(("cameras", "method", "model", "guidance", "edit", "output", "machine", "history"), 34):
    with gui.alone(name):
        picture(f"{number}-german-{name}")
gui.sidebar("Tweed")

gui.py(f"{VIEW}.__setattr__('language', 'en_US')")
assert gui.py(f"{SHOWN}('Done')") == "Done" and gui.py(SAY.format("iface", "Feather", "Tweed")) == "Feather"
gui.py(f"{VIEW}.__setattr__('language', 'de_DE')")
gui.py("__import__('addon_utils').disable('bl_ext.user_default.tweed')")
assert gui.py(SAY.format("iface", "Feather", "Tweed")) == "Feather", "nothing is left"
gui.py("__import__('addon_utils').enable('bl_ext.user_default.tweed')")
assert gui.py(SAY.format("iface", "Feather", "Tweed")) == "Weicher Rand"
assert not gui.errors(), gui.errors()
assert gui.quit() == 0
print(json.dumps({"language": "de_DE"}))
