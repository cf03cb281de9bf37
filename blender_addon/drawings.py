# SPDX-License-Identifier: GPL-3.0-or-later
"""What Tweed draws into the 3D views about objects. A drawing only: no attribute, material or object is made."""

import bpy

from . import session


class Drawing:
    """One such drawing. Where one of its objects has moved since, or is gone, it is not to be drawn."""

    def __init__(self):
        self._handles: list = []
        self._places: dict[str, tuple] = {}

    @property
    def drawn(self) -> bool:
        return bool(self._handles)

    def begin(self, objects, **calls) -> None:
        """Remember where the objects are and let Blender make the calls, by the name of their time (POST_VIEW …)."""
        self.end()
        self._places = {obj.name: _place(obj) for obj in objects}
        if not bpy.app.background:
            self._handles = [bpy.types.SpaceView3D.draw_handler_add(call, (), "WINDOW", when) for when, call in calls.items()]
        redraw()

    def end(self) -> None:
        """Draw nothing any more."""
        for handle in self._handles:
            bpy.types.SpaceView3D.draw_handler_remove(handle, "WINDOW")
        self._handles, self._places = [], {}
        redraw()

    @property
    def stands(self) -> bool:
        """Whether all objects are where they were."""
        there = ((bpy.data.objects.get(name), was) for name, was in self._places.items())
        return all(obj is not None and _place(obj) == was for obj, was in there)


def redraw() -> None:
    """The sidebars, and the 3D views whole."""
    session.redraw()
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


def _place(obj) -> tuple:
    return tuple(value for row in obj.matrix_world for value in row)
