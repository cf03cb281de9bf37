# SPDX-License-Identifier: GPL-3.0-or-later
"""From a texture file to the artist's materials, and back again.

Every result is a new image. The material keeps all its nodes; one labelled frame with a UV Map and an Image Texture
node is added and linked to the Base Color of the Principled node that reaches the output. What was there before is
recorded in `material["tweed"]` (one record per result, each holding the one before as "previous"), so Revert works
after save and reload. A material that others use too, that is linked from a library, or that has no Principled node
is copied and the original kept. `write_back` does all or nothing.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field

import bpy

from . import images, nodes
from .jobs.errors import UserError

RECORD = "tweed"


@dataclass(frozen=True)
class Applied:
    """What a write-back made: the images, the file of the first, and the materials that show them."""

    images: list[str]
    path: str
    materials: list[str]
    remarks: list[str] = field(default_factory=list)


def write_back(sets, size: int, job: str, textures=None) -> Applied:
    """Put textures on the materials of the targets that they are for. Raises UserError; then nothing has changed.

    `sets` are pairs of targets and their pictures: files by UDIM tile, {0: file} for a plain one. They are copied into
    the folder `textures`, or packed into the .blend when that is None.
    """
    with ExitStack() as undo:
        loaded = [images.load(pictures, size, _image_name(targets, job), textures, undo) for targets, pictures in sets]
        shared = [_shared(targets) for targets, _ in sets]  # by what is in the slots before any is filled
        added, fake = _slots_for_each(sets, undo), {m: m.use_fake_user for m in bpy.data.materials}
        remarks, wired = [], {}
        for (targets, _), (image, _, notes), elsewhere in zip(sets, loaded, shared, strict=True):
            remarks += notes
            making = _Making(elsewhere, added, fake, undo)
            for target in targets:
                remarks += target.remarks
                for index in target.slots:
                    making.wired[_own_material(target, index, making)] = target.uv_map
            wired |= {material: (image, uv_map) for material, uv_map in making.wired.items()}
        for material, (image, uv_map) in wired.items():
            _wire(material, image, uv_map, job, undo)
        undo.pop_all()
    return Applied([image.name for image, _, _ in loaded], str(loaded[0][1]), [m.name for m in wired], remarks)


def _image_name(targets, job: str) -> str:
    return f"{targets[0].object.name} Tweed {job.rsplit('-', 1)[-1]}"


def _slots_for_each(sets, undo) -> set:
    """A slot for meshes that have none and whose objects get textures of their own: each fills it for itself.

    Gives those meshes.
    """
    meshes = [{target.object.data for target in targets if not target.object.material_slots} for targets, _ in sets]
    found = {mesh for number, own in enumerate(meshes) for mesh in own & set().union(*meshes[number + 1 :])}
    for mesh in found:
        obj = next(target.object for targets, _ in sets for target in targets if target.object.data == mesh)
        mesh.materials.append(None)
        undo.callback(_remove_slot, obj)
    return found


@dataclass(frozen=True)
class _Making:
    """What is known while materials for one image are chosen.

    elsewhere: those whose change would show elsewhere. added: meshes that got their slot for this. fake: materials with
    their fake user as it was. wired: those that get the image, with their UV map. copies: by what they are copies of.
    """

    elsewhere: set
    added: set
    fake: dict
    undo: ExitStack
    wired: dict = field(default_factory=dict)
    copies: dict = field(default_factory=dict)


def _own_material(target, index: int, making: _Making):
    """The material to change for one slot: the one in it, or a copy where changing it would show elsewhere."""
    obj, wired, copies, undo = target.object, making.wired, making.copies, making.undo
    if not obj.material_slots:
        material = _new_material(obj.name, undo)
        obj.data.materials.append(material)
        undo.callback(_remove_slot, obj)
        material[RECORD] = {"slot": "added"}
        return material
    slot = obj.material_slots[index]
    old = slot.material
    if old in wired and wired[old] == target.uv_map:
        return old
    if (
        old is not None
        and old not in wired
        and _editable(old)
        and old not in making.elsewhere
        and nodes.find_principled(old)
    ):
        return old
    link = slot.link
    key = (old, target.uv_map, link)
    if key not in copies:
        copies[key] = _copy(old, obj.name, undo)
        copies[key][RECORD] = _previous(copies[key]) | {
            "slot": "replaced",
            "link": link,
            **({"material": old, "fake_user": making.fake.get(old, old.use_fake_user)} if old else {}),
            **({"mesh": "added"} if obj.data in making.added else {}),
        }
    _fill_slot(obj, index, copies[key], undo)
    if old is not None and _editable(old) and not old.use_fake_user:
        old.use_fake_user = True
        undo.callback(setattr, old, "use_fake_user", False)
    return copies[key]


def _editable(block) -> bool:
    return block.library is None and block.override_library is None


def _shared(targets) -> set:
    """The materials that other objects use too, or faces of the targets that do not get the texture."""
    objects = [target.object for target in targets]
    beside = (target.object.material_slots[i] for target in targets for i in target.others)
    others = (slot for o in bpy.data.objects if o not in objects for slot in o.material_slots)
    return {slot.material for slot in (*beside, *others)}


def _mesh_shared(obj) -> bool:
    return not _editable(obj.data) or any(o.data == obj.data for o in bpy.data.objects if o != obj)


def _new_material(name: str, undo):
    material = bpy.data.materials.new(name)
    undo.callback(bpy.data.materials.remove, material)
    nodes.ensure_tree(material)
    return material


def _copy(old, name: str, undo):
    """A material of our own that looks like `old` and has a Principled node."""
    if old is None:
        material = _new_material(name, undo)
    else:
        material = old.copy()
        undo.callback(bpy.data.materials.remove, material)
        nodes.ensure_tree(material)
    return material


def _previous(material) -> dict:
    """The record that a copy brought along from its original, to be kept under the new one."""
    record = material.get(RECORD)
    return {"previous": record.to_dict()} if record is not None else {}


def _fill_slot(obj, index: int, material, undo) -> None:
    """Into the mesh's slot, or the object's own where the mesh is not ours alone."""
    slot = obj.material_slots[index]
    before, link = slot.material, slot.link
    if link == "DATA" and _mesh_shared(obj):
        slot.link = "OBJECT"
        undo.callback(_set_slot, obj, index, "OBJECT", slot.material, link)
        slot.material = material
    else:
        slot.material = material
        undo.callback(_set_slot, obj, index, link, before, link)


def _filled(obj) -> bool:
    return len(obj.material_slots) > 1 or any(slot.material for slot in obj.material_slots)


def _remove_slot(obj) -> None:
    """The only slot of an object. `materials.pop` would leave the object's own empty slot behind."""
    with bpy.context.temp_override(object=obj, active_object=obj):
        bpy.ops.object.material_slot_remove()


def _set_slot(obj, index: int, fill: str, material, link: str) -> None:
    slot = obj.material_slots[index]
    slot.link = fill
    slot.material = material
    slot.link = link


def _wire(material, image, uv_map: str, job: str, undo) -> None:
    """Our nodes in the material's tree, linked, with a record of what was there."""
    tree = material.node_tree
    base = material.get(RECORD)
    base = base.to_dict() if base is not None else {}
    record = base if "job" not in base else {"previous": base}
    record["job"], record["image"] = job, image
    texture, uv_node = nodes.find(tree, "image"), nodes.find(tree, "uv")
    if texture and uv_node:
        record["earlier"] = {"uv_map": uv_node.uv_map, **({"image": texture.image} if texture.image else {})}
        undo.callback(setattr, texture, "image", texture.image)
        undo.callback(setattr, uv_node, "uv_map", uv_node.uv_map)
        if texture.image and not texture.image.use_fake_user:
            texture.image.use_fake_user = True
            undo.callback(setattr, texture.image, "use_fake_user", False)
    else:
        principled = nodes.find_principled(material) or [nodes.add_principled(material, undo, record)]
        texture, uv_node = nodes.add_texture(tree, principled[0], undo)
    texture.image, uv_node.uv_map = image, uv_map
    record["links"] = record.get("links", []) + [
        nodes.relink(tree, texture, "Color", node, "Base Color", undo)
        for node in nodes.find_principled(material)
        if not nodes.is_linked(texture, node, "Base Color")
    ]
    if tree.nodes.active:
        record["active"] = tree.nodes.active.name
    record["textured"] = nodes.textured_by(tree)
    undo.callback(nodes.show_texture_of, tree, record["textured"])
    undo.callback(nodes.activate, tree, record.get("active", ""))
    tree.nodes.active = texture  # what Solid view and Texture Paint show
    undo.callback(_set_record, material, base)
    material[RECORD] = record


def _set_record(material, record) -> None:
    if record:
        material[RECORD] = record
    elif RECORD in material:
        del material[RECORD]


def textured(objects) -> list[tuple]:
    """(object, slot index, material) of every slot that carries a texture of ours."""
    return [
        (obj, index, slot.material)
        for obj in objects
        for index, slot in enumerate(obj.material_slots)
        if slot.material and RECORD in slot.material and "job" in slot.material[RECORD]
    ]


def applied_jobs() -> set[str]:
    """The jobs whose textures are on materials of this file, also under later ones."""
    found = set()
    for block in bpy.data.materials:
        record = block.get(RECORD)
        while record:
            found.add(record.get("job", ""))
            record = record.get("previous")
    return found


def revert(objects) -> list[str]:
    """Take the last texture off the objects' materials; gives their names. Raises UserError when there is none."""
    found = textured(objects)
    if not found:
        raise UserError("There is no texture of Tweed's to revert.", "Select the textured object.")
    names = [material.name for _, _, material in found]
    for material in dict.fromkeys(material for _, _, material in found if _editable(material)):
        slots = [(obj, index) for obj, index, other in found if other == material]
        _unwire(material, slots)
    return names


def _unwire(material, slots) -> None:
    tree = material.node_tree
    record = material[RECORD].to_dict()
    for link in record.get("links", ()):
        nodes.restore(tree, link)
    texture, uv_node = nodes.find(tree, "image"), nodes.find(tree, "uv")
    if "earlier" in record and texture and uv_node:
        texture.image = record["earlier"].get("image")
        uv_node.uv_map = record["earlier"]["uv_map"]
    else:
        nodes.remove_ours(tree)
    nodes.activate(tree, record.get("active", ""))
    nodes.show_texture_of(tree, record.get("textured", ""))
    _set_record(material, record.get("previous", {}))
    if record.get("slot") == "added":
        for obj, _ in slots:
            _remove_slot(obj)
    elif record.get("slot") == "replaced":
        old = record.get("material")
        for obj, index in slots:
            fill = obj.material_slots[index].link
            _set_slot(obj, index, fill, old if fill == record["link"] else None, record["link"])
            if record.get("mesh") == "added" and not any(_filled(o) for o in bpy.data.objects if o.data == obj.data):
                _remove_slot(obj)
        if old is not None and _editable(old):
            old.use_fake_user = bool(record["fake_user"])


def compare(objects) -> bool:
    """Show what was there before, or the texture again; gives whether the texture shows now. Raises UserError."""
    found = dict.fromkeys(material for _, _, material in textured(objects) if _editable(material))
    if not found:
        raise UserError("There is no texture of Tweed's to compare.", "Select the textured object.")
    show = not any(_shown(material.node_tree, material[RECORD].to_dict()) for material in found)
    for material in found:
        _show(material.node_tree, material[RECORD].to_dict(), show)
    return show


def _shown(tree, record: dict) -> bool:
    texture = nodes.find(tree, "image")
    return bool(
        texture and texture.image == record["image"] and all(nodes.linked(tree, link) for link in record["links"])
    )


def _show(tree, record: dict, show: bool) -> None:
    texture = nodes.find(tree, "image")
    if texture:  # without an image as long as it is not shown: Solid view would show it, linked or not
        texture.image = record["image"] if show else record.get("earlier", {}).get("image")
    for link in record["links"]:
        (nodes.connect if show else nodes.restore)(tree, link)
    if texture and show:
        tree.nodes.active = texture
    else:
        nodes.activate(tree, record.get("active", ""))
        nodes.show_texture_of(tree, record.get("textured", ""))
