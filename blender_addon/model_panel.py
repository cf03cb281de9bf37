# SPDX-License-Identifier: GPL-3.0-or-later
"""The model's rows: which one, its licence, whether it is here and what to do about it, and what is added to it."""

from . import models, paths, session
from .jobs.catalogue import CATALOGUE, entry
from .jobs.errors import EngineMissing, UserError
from .rows import text_lines
from .translation import shown

_FILES = ("model", "vae", "preview_vae", "style_image", "style_adapter", "multiview", "lora")


def draw(layout, context, names) -> None:
    """Rows for these settings of the group Model; those that are files get a button that opens the file browser."""
    layout.use_property_split = True
    layout.use_property_decorate = False
    group, column = context.scene.tweed, layout.column()
    for name in names:
        row = column.row(align=True)
        row.prop(group, name)
        if name in _FILES:
            row.operator("tweed.pick_path", text="", icon="FILEBROWSER").setting = name
        if name == "model":
            _draw_model(column, context, group)
        if name in ("vae", "preview_vae", "multiview", "lora") or (name == "style_adapter" and group.style_image):
            _draw_absent(column, context, models.absent(name, getattr(group, name), group.model))
        if name == "style_image" and group.style_image:
            words = style_obstacle(group)
            if words:
                text_lines(column, context, words, "ERROR")


def _draw_model(column, context, group) -> None:
    box = column.column(align=True)
    for sentence in models.facts(group.model):
        text_lines(box, context, sentence, "INFO")
    if group.model == models.BUNDLED:
        box.operator("tweed.model_words", icon="TEXT")
    draw_remedy(box, context, group)
    wanted = {name: value for name, value in models.suits(group.model, group.lora).items() if getattr(group, name, value) != value}
    if wanted:
        words = ", ".join(f"{name} {value}" for name, value in wanted.items())
        text_lines(box, context, f"It works best with {words}.", "INFO")
        box.operator("tweed.suit_model", icon="CHECKMARK")


def _draw_absent(column, context, names) -> None:
    """That parts a setting names are not here, with a button for the first; the engine gets them itself if it may."""
    if not names or remote_host() or session.now.download is not None:
        return
    known = entry(names[0])
    size = f" ({known.size:g} GB)" if known else ""
    text_lines(column, context, f"{names[0]}{size} is not on this machine.", "INFO")
    column.operator("tweed.model_add", icon="IMPORT").name = names[0]


def draw_remedy(layout, context, group) -> None:
    """That the model is not here, with a button for getting it; or how far getting it is."""
    going = session.now.download
    if going is not None:
        row = layout.row(align=True)
        row.progress(factor=going.percent / 100, text=shown(going.heading))
        row.operator("tweed.model_add_stop", text="", icon="CANCEL")
        return
    host = remote_host()
    if host and models.is_hub_id(group.model):
        text_lines(layout, context, f"Looked for on {host}.", "INFO")
        layout.operator("tweed.model_add", text="Download There", icon="IMPORT").name = group.model
        return
    found = obstacle(group)
    if found is None:
        return
    text_lines(layout, context, f"{found.message} {found.action}", "ERROR")
    part = next(iter(models.missing(group.model)), "")
    if models.is_hub_id(part):
        layout.operator("tweed.model_add", icon="IMPORT").name = part


def obstacle(group) -> UserError | None:
    """Why the chosen model cannot be used now, or None; what an engine elsewhere has, it says itself."""
    if remote_host():
        return None
    try:
        return models.obstacle(paths.absolute({"model": group.model})["model"])
    except UserError as error:
        return error


def remote_host() -> str:
    """The machine that the engine is on, or "" for this one."""
    try:
        return session.place().host
    except EngineMissing:
        return ""


def style_obstacle(group) -> str:
    """Why the chosen model cannot take a style picture, as far as the catalogue tells; "" if it may."""
    found = entry(group.model.partition("+")[0])
    if found is None or any(one.role == "style" and found.family in one.family.split(", ") for one in CATALOGUE):
        return ""
    return f"{found.family} takes no style picture: leave it empty, or choose a model of SD 1.5, SDXL, SD 3.5 or FLUX."
