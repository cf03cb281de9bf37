# SPDX-License-Identifier: GPL-3.0-or-later
"""The few node-tree edits that write-back needs. Sockets go by identifier: names and positions change between versions.

Our nodes carry the custom property "tweed" (frame, uv, image, principled), so renaming them does no harm. A link
record is a plain dict: `node`.`socket` is the input, `from_node`.`from_socket` what was linked to it before (absent
when nothing was) and `our_node`.`our_socket` what we link.
"""

import bpy

_MARK = "tweed"
_WIDTH = 600  # room to the left of the Principled node


def ensure_tree(material) -> None:
    """Nodes switched on. Since Blender 5.0 they always are, and asking is deprecated."""
    if bpy.app.version < (5, 0, 0) and not material.use_nodes:
        material.use_nodes = True


def _has_tree(material) -> bool:
    return material.node_tree is not None and (bpy.app.version >= (5, 0, 0) or material.use_nodes)


def find_principled(material) -> list:
    """The Principled nodes that reach the active outputs, nearest first; not those inside node groups."""
    if not _has_tree(material):
        return []
    tree = material.node_tree
    outputs = (tree.get_output_node(target) for target in ("ALL", "EEVEE", "CYCLES"))
    queue = list(dict.fromkeys(node for node in outputs if node))
    feeds = {}
    for link in tree.links:
        feeds.setdefault(link.to_node.name, []).append(link)
    found, seen = [], set()
    while queue:
        node = queue.pop(0)
        if node.name in seen:
            continue
        seen.add(node.name)
        if node.bl_idname == "ShaderNodeBsdfPrincipled":
            found.append(node)
            continue
        for link in feeds.get(node.name, ()):
            if link.to_socket.type == "SHADER" and (
                node.bl_idname != "ShaderNodeOutputMaterial" or link.to_socket.identifier == "Surface"
            ):
                queue.append(link.from_node)
    return found


def source(node, socket: str, groups: tuple = ()) -> tuple:
    """(node, output's identifier, groups around it) that feeds an input, through reroutes and node groups.

    The node is None where nothing is linked. `groups` are the group nodes around `node`, outermost first.
    """
    target = _socket(node.inputs, socket)
    while target is not None and target.is_linked:
        link = target.links[0]
        found, output = link.from_node, link.from_socket.identifier
        if found.bl_idname == "NodeReroute":
            target = found.inputs[0]
        elif found.bl_idname == "ShaderNodeGroup" and found.node_tree is not None:
            ends = [n for n in found.node_tree.nodes if n.bl_idname == "NodeGroupOutput" and n.is_active_output]
            target, groups = (_socket(ends[0].inputs, output) if ends else None), (*groups, found)
        elif found.bl_idname == "NodeGroupInput" and groups:
            target, groups = _socket(groups[-1].inputs, output), groups[:-1]
        else:
            return found, output, groups
    return None, "", groups


def find(tree, role: str):
    """Our node of that role, or None."""
    return next((node for node in tree.nodes if node.get(_MARK) == role), None)


def _add(tree, kind: str, role: str, undo):
    node = tree.nodes.new(kind)
    undo.callback(tree.nodes.remove, node)
    node[_MARK] = role
    return node


def add_texture(tree, principled, undo):
    """A frame "Tweed" with UV Map -> Image Texture, left of everything; gives (texture, uv map)."""
    left = min((node.location.x for node in tree.nodes if node.parent is None), default=0) - _WIDTH
    frame = _add(tree, "NodeFrame", "frame", undo)
    frame.label = "Tweed"
    uv_node = _add(tree, "ShaderNodeUVMap", "uv", undo)
    texture = _add(tree, "ShaderNodeTexImage", "image", undo)
    uv_node.location = (left, principled.location.y - 120)
    texture.location = (left + 200, principled.location.y)
    for node in (uv_node, texture):
        node.parent = frame
    tree.links.new(_socket(uv_node.outputs, "UV"), _socket(texture.inputs, "Vector"))
    return texture, uv_node


def add_principled(material, undo, record: dict):
    """A Principled node in front of the material's output; what fed the output goes into `record["links"]`."""
    tree = material.node_tree
    output = tree.get_output_node("ALL")
    if output is None:
        output = _add(tree, "ShaderNodeOutputMaterial", "output", undo)
    principled = _add(tree, "ShaderNodeBsdfPrincipled", "principled", undo)
    principled.location = (output.location.x - 300, output.location.y + 300)
    record["links"] = [relink(tree, principled, "BSDF", output, "Surface", undo)]
    return principled


def relink(tree, our_node, our_socket: str, node, socket: str, undo) -> dict:
    """Link our output to that input; gives the record of what was linked there."""
    record = {"node": node.name, "socket": socket, "our_node": our_node[_MARK], "our_socket": our_socket}
    target = _socket(node.inputs, socket)
    if target.is_linked:
        before = target.links[0]
        record |= {"from_node": before.from_node.name, "from_socket": before.from_socket.identifier}
    undo.callback(restore, tree, record)
    connect(tree, record)
    return record


def connect(tree, record: dict) -> None:
    """Make our link."""
    source, target = find(tree, record["our_node"]), _input(tree, record)
    if source and target:
        tree.links.new(_socket(source.outputs, record["our_socket"]), target)


def restore(tree, record: dict) -> None:
    """Make the link that was there before, or none; an input that the artist has linked otherwise is left alone."""
    target = _input(tree, record)
    if target is None or (target.is_linked and not linked(tree, record)):
        return
    for link in list(target.links):
        tree.links.remove(link)
    source = tree.nodes.get(record.get("from_node", ""))
    if source:
        socket = _socket(source.outputs, record["from_socket"])
        if socket:
            tree.links.new(socket, target)


def linked(tree, record: dict) -> bool:
    """Whether our link is in place."""
    target = _input(tree, record)
    return bool(target and target.is_linked and target.links[0].from_node.get(_MARK) == record["our_node"])


def activate(tree, name: str) -> None:
    """Make the node of that name the active one again; the tree keeps its own choice where it is gone."""
    node = tree.nodes.get(name)
    if node:
        tree.nodes.active = node


def textured_by(tree) -> str:
    """The name of the image node that Solid view shows and Texture Paint paints on, or ""."""
    return next((node.name for node in tree.nodes if node.show_texture), "")


def show_texture_of(tree, name: str) -> None:
    """Let Solid view show the image of the node of that name; of none where it is "" or gone."""
    for node in tree.nodes:
        if node.show_texture != (node.name == name):
            node.show_texture = node.name == name


def is_linked(source, node, socket: str) -> bool:
    """Whether that input is fed by `source`."""
    target = _socket(node.inputs, socket)
    return bool(target.is_linked and target.links[0].from_node == source)


def remove_ours(tree) -> None:
    for role in ("image", "uv", "principled", "output", "frame"):
        node = find(tree, role)
        if node:
            tree.nodes.remove(node)


def _input(tree, record: dict):
    node = tree.nodes.get(record["node"])
    return _socket(node.inputs, record["socket"]) if node else None


def _socket(sockets, identifier: str):
    return next((s for s in sockets if s.identifier == identifier), None)
