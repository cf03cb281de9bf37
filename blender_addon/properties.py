# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender properties made from the settings schema: `Scene.tweed` for the panel, the same names on operators."""

import random

import bpy

from . import models, translation, view_rows
from .jobs.rigs import OF_VIEWS, names_left
from .jobs.schema import menu_label
from .jobs.settings import QUALITIES, SETTINGS

AUTO = "AUTO"
_SIZES = (512, 1024, 2048, 4096, 8192)
_CATALOGUED = {"model": "model", "vae": "vae", "preview_vae": "preview", "style_adapter": "style",
               "multiview": "multiview", "lora": "lora"}  # setting -> role
_NOT_ON_PANEL = ("texture_size", "device")  # a menu of sizes instead; the device is a preference


def objects_property():
    """Which objects an operator is about; the names are read by `scene.named_or_chosen`."""
    return bpy.props.StringProperty(
        name="Objects", description="Names, separated by commas; empty: the selected ones", options={"SKIP_SAVE"}
    )


def wait_property():
    return bpy.props.BoolProperty(
        name="Wait",
        description="Return when the texture is on the object (always so without a window)",
        options={"SKIP_SAVE"},
    )


def size_label(pixels: int) -> str:
    """1024 -> "1K"."""
    return f"{pixels // 1024}K" if pixels % 1024 == 0 else str(pixels)


def make(setting, **more):
    """The Blender property of one setting."""
    common = {"name": setting.label, "description": setting.help.rstrip("."), **more}
    if setting.type is bool:
        return bpy.props.BoolProperty(default=setting.default, **common)
    if setting.choices:
        helps = setting.choice_help or ("",) * len(setting.choices)
        labels = [menu_label(name) for name in setting.choices]
        items = list(zip(setting.choices, labels, helps, strict=True))
        return bpy.props.EnumProperty(items=items, default=setting.default, **common)
    if setting.name in _CATALOGUED:
        common |= {"search": _search(_CATALOGUED[setting.name]), "search_options": {"SUGGESTION"}}
    if setting.type is str:
        longest = 0 if setting.reads else int(setting.maximum)  # cut off, what is read would be another thing
        return bpy.props.StringProperty(default=setting.default, maxlen=longest, **common)
    least = setting.minimum if setting.special is None else min(setting.minimum, setting.special)
    if setting.type is int:
        return bpy.props.IntProperty(default=setting.default, min=int(least), max=int(setting.maximum), **common)
    return bpy.props.FloatProperty(default=setting.default, min=least, max=setting.maximum, **common)


def _search(role: str):
    """What is offered while a name is typed: the catalogue's entries of that role. Anything else may be typed too.

    Of several LoRAs it is the last, behind those that stand there already.
    """

    def offered(_group, _context, typed: str):
        before, comma, typed = typed.rpartition(",") if role == "lora" else ("", "", typed)
        kept, words = f"{before}, " if comma else "", typed.lower().split()
        known = [(kept + name, translation.shown(what)) for name, what in models.offered(role)]
        found = [pair for pair in known if all(word in " ".join(pair)[len(kept) :].lower() for word in words)]
        return found or known

    return offered


def _view_names(group, context, typed: str):
    from . import one_view  # it knows the jobs, and this module is read before those

    return one_view.offered(group, context, typed)


def operator_annotations() -> dict:
    """Every setting as an operator property. Nothing is remembered from call to call: unset means the panel's value."""
    return {name: make(setting, options={"SKIP_SAVE"}) for name, setting in SETTINGS.items()}


def _scene_annotations() -> dict:
    sizes = [(AUTO, "By Quality", "The size that goes with Draft, Standard or High")]
    sizes += [(str(size), size_label(size), f"{size} x {size} pixels") for size in _SIZES]
    return {name: make(setting) for name, setting in SETTINGS.items() if name not in _NOT_ON_PANEL} | {
        "size": bpy.props.EnumProperty(
            name="Texture", description=SETTINGS["texture_size"].help.rstrip("."), items=sizes
        ),
        "rows": bpy.props.PointerProperty(type=view_rows.TweedViews, name="Views"),
        "view": bpy.props.StringProperty(
            name="View",
            description="A view of the texture, by name, that shall be done anew",
            search=lambda group, context, typed: _view_names(group, context, typed),
            search_options={"SUGGESTION"},
        ),
        "view_prompt": bpy.props.StringProperty(
            name="Words", description="Added to the prompt for this view only", maxlen=2000
        ),
        "view_avoid": bpy.props.StringProperty(
            name="Avoid", description="What this view should not look like", maxlen=2000
        ),
        "save_to": bpy.props.StringProperty(
            name="Save To",
            description="Folder for the texture files; // is where the .blend lies. Empty: a folder textures beside it",
            subtype="DIR_PATH",
            maxlen=1000,
            options={"ANIMATABLE", "PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (4, 5, 0) else {"ANIMATABLE"},
        ),
        "seed_lock": bpy.props.BoolProperty(
            name="Keep Seed", description="Use this seed again instead of a new one each time"
        ),
    }


TweedSettings = type(
    "TweedSettings",
    (bpy.types.PropertyGroup,),
    {
        "__doc__": "What the panel of one scene is set to.",
        "__module__": __name__,
        "__annotations__": _scene_annotations(),
    },
)


def panel_values(group) -> dict:
    """What the artist has set on the panel; the rest is left to the quality and the schema's defaults."""
    values = {
        name: getattr(group, name) for name in SETTINGS if name not in _NOT_ON_PANEL and group.is_property_set(name)
    }
    if group.size != AUTO:
        values["texture_size"] = int(group.size)
    if not group.seed_lock:
        values.pop("seed", None)
    return values


def set_panel(group, settings: dict) -> None:
    """Set the panel to the settings of a job; what it does not name goes back to its default."""
    for name, setting in SETTINGS.items():
        if name in _NOT_ON_PANEL:
            continue
        if name in settings and settings[name] != setting.default:
            setattr(group, name, settings[name])
        else:
            group.property_unset(name)
    size = str(settings.get("texture_size", ""))
    group.size = size if size.isdigit() and int(size) in _SIZES else AUTO
    group.seed_lock = True


def operator_values(properties) -> dict:
    """What a call of an operator has set explicitly."""
    return {name: getattr(properties, name) for name in SETTINGS if properties.is_property_set(name)}


def new_seed() -> int:
    """Short enough to be read out and typed."""
    return random.SystemRandom().randrange(1_000_000)


def wanted(group, given: dict | None = None) -> dict:
    """What a job is asked for: the panel's values, then those given. Of single views only those that it will have count.

    The scene's cameras have a tick and words of their own, so the panel's say nothing of them.
    """
    given = given or {}
    values = panel_values(group) | given
    of_views = {name: values[name] for name in OF_VIEWS if name in values and name not in given}
    if of_views and (names := view_rows.names(values)):
        of_views = {name: text for name, text in view_rows.known_only(of_views, names).items() if name in of_views}
    elif values.get("rig") == "scene":
        of_views = dict.fromkeys(of_views, "")
    return values | of_views


def full_values(group) -> dict:
    """Every setting as it would be used now."""
    given = wanted(group)
    if group.rig == "scene":
        given["views"] = max(1, sum(o.type == "CAMERA" and o.data.tweed.use for o in group.id_data.objects))
    defaults = {name: setting.default for name, setting in SETTINGS.items()}
    return defaults | QUALITIES[given.get("quality", defaults["quality"])] | given


def check_views(group) -> None:
    """Raises SettingsError where the panel's rig cannot have so many views, or where all are left out."""
    if group.rig != "scene":
        names_left(full_values(group))


def planned(group) -> dict:
    """Views, steps and texture size as they would be used now."""
    return QUALITIES[group.quality] | {k: v for k, v in panel_values(group).items() if k in QUALITIES[group.quality]}
