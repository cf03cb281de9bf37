# SPDX-License-Identifier: Apache-2.0
"""The main road: press the button, get a texture."""

import bpy


def test_generate_blocks_in_background_and_textures_the_cube(cube):
    material = cube.active_material
    assert bpy.ops.tweed.generate(prompt="red bricks", seed=7, texture_size=64) == {"FINISHED"}
    assert cube.active_material == material
    principled = next(n for n in material.node_tree.nodes if n.bl_idname == "ShaderNodeBsdfPrincipled")
    texture = principled.inputs["Base Color"].links[0].from_node
    assert tuple(texture.image.size) == (64, 64)
    assert texture.image.packed_file
    assert bpy.context.scene.tweed.seed == 7
