# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar tab. Draws only; everything it knows comes from session, scene and properties."""

import re

import bpy
from mathutils import Vector

from . import client, current, estimates, history, material, model_panel, properties, scene, session, setup, slots
from . import thumbnails, tile_count, uv
from .jobs.errors import EngineMissing, TweedError, UserError
from .jobs.folder import PREVIEW_FILE
from .jobs.rigs import views_on
from .rows import text_lines
from .translation import shown

_LOOKED_AT = 64  # objects whose places are looked at in every redraw; of more, some are far apart


def engine_usable() -> bool:
    """Whether there is an engine to start, or one that runs."""
    if session.now.engine is not None and session.now.engine.alive:
        return True
    try:
        session.place()
    except EngineMissing:
        return False
    return True


def _short(device: str) -> str:
    """The device without what kind of processor it is and its threads: there is room for a few words."""
    return re.sub(r" \([^)]*\)|, \d+ threads", "", device)


def draw_engine(layout, context, with_settings: bool = True) -> None:
    """The engine line: state, and the remedy where there is one."""
    row = layout.row(align=True)
    engine = session.now.engine
    if engine is not None and engine.alive:
        if engine.info is None:
            host = engine.place.host
            row.label(text=shown(f"Connecting to {host}…" if host else "Starting…"), icon="SORTTIME")
        else:
            host, device = engine.place.host, _short(engine.info.device)
            word = "Busy" if session.running() else "Ready"
            row.label(text=shown(f"Remote: {host}" if host else f"{word} · {device}"), icon="CHECKMARK")
            if host:
                layout.label(text=shown(f"{word} · {device}"), icon="BLANK1")
            if _on_nvdiffrast(engine.info, context.scene.tweed.rasterizer):
                text_lines(layout, context, "Draws with nvdiffrast: for research and evaluation only.", "INFO")
        row.operator("tweed.engine_stop", text="", icon="QUIT", emboss=False)
    else:
        try:
            host = session.place().host
            row.label(text=shown(f"Remote: {host}" if host else "Starts when needed"), icon="RADIOBUT_OFF")
            row.operator("tweed.engine_start", text="", icon="PLAY", emboss=False)
        except EngineMissing as error:
            row = _draw_set_up(layout, context, error)
    if with_settings:
        if engine_usable():
            row.menu("TWEED_MT_presets", text="", icon="PRESET")
        row.operator("preferences.addon_show", text="", icon="PREFERENCES", emboss=False).module = __package__


def _on_nvdiffrast(info, chosen: str) -> bool:
    """Whether the rasterizer is the one whose licence an artist must know of."""
    return "nvdiffrast" in info.rasterizers and chosen in ("auto", "nvdiffrast")


def _draw_set_up(layout, context, error):
    """The box of the first run: what is missing, what it takes, and the ways to get it. Gives its first row."""
    box = layout.box()
    row = box.row()
    going = session.now.installer
    if going is not None and going.state == "running":
        bar = box.row(align=True)
        bar.scale_y = 1.6
        bar.progress(factor=going.fraction, text="Setting up")
        bar.operator("tweed.engine_setup_stop", text="", icon="CANCEL")
        text_lines(box, context, going.heading)
        return row
    alert = row.row()
    alert.alert = True
    alert.label(text="Engine is not set up", icon="ERROR")
    text_lines(box, context, f"{error.message} {error.action}")
    needed, free = setup.NEEDED, setup.free_bytes()
    text_lines(
        box,
        context,
        f"Set Up downloads it: {needed['cpu'] / 1e9:.0f} GB, with an NVIDIA card {needed['cuda'] / 1e9:.0f} GB; "
        f"{free / 1e9:.0f} GB are free here.",
        "INFO",
    )
    big = box.row(align=True)
    big.scale_y = 1.4
    big.operator("tweed.engine_setup", icon="IMPORT")
    others = box.row(align=True)
    others.operator("preferences.addon_show", text="Use Existing…").module = __package__
    others.operator("tweed.engine_remote", text="Remote…")
    return row


class Tab:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Tweed"


class TWEED_PT_main(Tab, bpy.types.Panel):
    bl_idname = "TWEED_PT_main"
    bl_label = "Tweed"

    def draw(self, context):
        group, layout = context.scene.tweed, self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        draw_engine(layout, context)
        if engine_usable():  # before that nothing else would work
            _draw_wishes(layout, group)
            _draw_plan(layout, context, group, scene.chosen(context))


class TWEED_PT_running(Tab, bpy.types.Panel):
    """A panel of its own for the bar: in one with labels, Blender draws a label as the bar once the job ends."""

    bl_idname = "TWEED_PT_running"
    bl_label = "Running"
    bl_parent_id = "TWEED_PT_main"
    bl_options = {"HIDE_HEADER"}

    @classmethod
    def poll(cls, context):
        return session.running() is not None

    def draw(self, context):
        run = session.running()
        if run is not None:
            _draw_progress(self.layout, run)


class TWEED_PT_generate(Tab, bpy.types.Panel):
    bl_idname = "TWEED_PT_generate"
    bl_label = "Generate"
    bl_parent_id = "TWEED_PT_main"
    bl_options = {"HIDE_HEADER"}

    @classmethod
    def poll(cls, context):
        return session.running() is None

    def draw(self, context):
        layout, objects = self.layout, scene.chosen(context)
        if not engine_usable():
            draw_outcome(layout, context)
            return
        row = layout.row()
        row.scale_y = 1.6
        row.enabled = engine_usable() and not (
            _obstacle(context.scene.tweed, objects) or model_panel.obstacle(context.scene.tweed)
        )
        row.operator("tweed.generate", icon="SHADERFX")
        draw_outcome(layout, context)
        if material.textured(objects):
            row = layout.row(align=True)
            row.operator("tweed.revert", icon="LOOP_BACK")
            row.operator("tweed.compare", icon="ARROW_LEFTRIGHT")


def _draw_wishes(layout, group) -> None:
    """What the artist wants: text, quality, size, seed."""
    column = layout.column(align=True)
    column.use_property_split = False
    column.prop(group, "prompt", text="", placeholder="Describe the surface", icon="TEXT")
    column.prop(group, "avoid", text="", placeholder="Avoid (optional)", icon="X")
    row = layout.row(align=True)
    row.use_property_split = False
    row.prop(group, "quality", expand=True)
    layout.prop(group, "size")
    row = layout.row(align=True)
    row.prop(group, "seed")
    row.prop(group, "seed_lock", text="", icon="LOCKED" if group.seed_lock else "UNLOCKED")


def _obstacle(group, objects) -> TweedError | None:
    """Why nothing can be generated now, or None."""
    try:
        client.require_online(session.place(), bpy.app.online_access)
        scene.check(objects)
        current.check_choice(objects, group.region, group.region_mask)
        slots.wanted(objects, group.slots)
        for obj in objects:
            uv.chosen(obj, group.uv_map)
        properties.check_views(group)
    except (EngineMissing, UserError) as error:
        return error
    if not group.prompt.strip() and not (group.method == "edit" and group.instruction.strip()):
        return UserError("Write what the surface should look like.")
    plan = properties.full_values(group)
    return estimates.obstacle(session.past(), plan, _device(), tile_count.textures(objects, plan))


def _draw_plan(layout, context, group, objects) -> None:
    """What will happen, in words, or why it cannot."""
    column = layout.column(align=True)
    obstacle = _obstacle(group, objects)
    if objects and all(o.data.uv_layers for o in objects):
        plan = properties.full_values(group)
        on, views = views_on(plan), plan["views"]
        count = "1 object" if len(objects) == 1 else f"{len(objects)} objects"
        size = properties.size_label(plan["texture_size"])
        words = f"{on if on == views else f'{on} of {views}'} view{'s' if views > 1 else ''}"
        words += f" (up to {plan['extra_views']} more)" if plan["extra_views"] else ""
        textures = tile_count.textures(objects, plan)
        size = f"{textures} × {size}" if textures > 1 else size
        column.label(text=shown(f"{count} · {words} · {size}"), icon="MESH_DATA")
        seconds = history.expected_seconds(session.past(), plan, _device(), textures)
        if seconds is not None and not session.running():
            column.label(text=shown(f"About {session.duration(seconds)}"), icon="TIME")
        memory = estimates.words(session.past(), plan, _device(), textures)
        if memory and not session.running():
            column.label(text=shown(memory), icon="MEMORY")
        for remark in _remarks(objects, plan):
            text_lines(column, context, remark, "INFO")
    if obstacle:
        text_lines(column, context, f"{obstacle.message} {obstacle.action}", "INFO")
        if any(not o.data.uv_layers for o in objects):
            column.operator("tweed.make_uvs", icon="UV")
    model_panel.draw_remedy(column, context, group)


def _device() -> str:
    """What the engine computes on, or nothing while it does not run."""
    engine = session.now.engine
    return engine.info.device if engine is not None and engine.info is not None else ""


def _remarks(objects, plan: dict) -> list[str]:
    """What can be said without evaluating the mesh. plan: the settings."""
    remarks = []
    try:
        painted = slots.wanted(objects, plan["slots"])
    except UserError:  # said as the obstacle
        painted = [None] * len(objects)
    for obj, wanted in zip(objects, painted, strict=True):
        if len(obj.data.uv_layers) > 1:
            remarks.append(f"Uses the UV map '{plan['uv_map'] or obj.data.uv_layers.active.name}'.")
        if obj.matrix_world.determinant() < 0:
            remarks.append(f"The scale of '{obj.name}' is negative; faces are turned outwards.")
        if len(obj.material_slots) > 1:
            remarks.append(slots.words(obj, wanted))
    if _scattered(objects):
        remarks.append("Each object is small in the views, which show all of them; one by one they get finer detail.")
    return remarks


def _scattered(objects) -> bool:
    """Whether the largest of several objects takes less than half of the length that the views must show."""
    if len(objects) < 2 or len(objects) > _LOOKED_AT:
        return len(objects) > 1
    boxes = [[obj.matrix_world @ Vector(corner) for corner in obj.bound_box] for obj in objects]
    return max(map(_extent, boxes)) < 0.5 * _extent([corner for box in boxes for corner in box])


def _extent(corners) -> float:
    """The longest side of the box around the corners."""
    return max(max(corner[axis] for corner in corners) - min(corner[axis] for corner in corners) for axis in range(3))


def _draw_progress(layout, run) -> None:
    row = layout.row(align=True)
    row.scale_y = 1.6
    row.progress(factor=run.fraction, text=shown(run.words))
    row.operator("tweed.cancel", text="", icon="CANCEL")
    icon = thumbnails.icon(run.folder / PREVIEW_FILE)
    if icon:
        layout.template_icon(icon_value=icon, scale=6)
    left = run.remaining
    if left is not None and run.state == "running":
        layout.label(text=shown(f"About {session.duration(left)} left"), icon="TIME")


def draw_outcome(layout, context) -> None:
    """What came of the last run: a line when all is well, a box with the remedy when not."""
    outcome = session.now.outcome
    if outcome is None:
        return
    if outcome.kind in ("done", "cancelled"):
        text_lines(layout, context, outcome.message, "CHECKMARK" if outcome.kind == "done" else "CANCEL")
        for remark in outcome.remarks:
            text_lines(layout, context, remark, "INFO")
        return
    box = layout.box()
    row = box.column()
    row.alert = True
    text_lines(row, context, outcome.message, "ERROR")
    if outcome.action:
        text_lines(box, context, outcome.action, "BLANK1")
    row = box.row(align=True)
    if outcome.kind == "kept":
        row.operator("tweed.apply_result", icon="IMPORT")
        row.operator("wm.path_open", text="Open Folder", icon="FILE_FOLDER").filepath = str(outcome.folder)
    elif outcome.log:
        row.operator("tweed.open_log", icon="TEXT")


CLASSES = (TWEED_PT_main, TWEED_PT_running, TWEED_PT_generate)
