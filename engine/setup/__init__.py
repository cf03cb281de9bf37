# SPDX-License-Identifier: Apache-2.0
"""Setting Tweed up and trying it: what `install.py` does. Standard library only; nothing here imports torch or numpy.

console       sentences, tables, a progress bar, and the one error type
machine       what this computer is: system, GPU, folders, room on the disk
torch_build   which build of torch suits it
venv          virtual environments that survive being interrupted
blender       Blender applications and the `bpy` wheel
bundle        the extension's zip, and unpacking the engine from it
steps         the plain `install.py`: engine, zip, Blender, pointer file
doctor · demo · suite · roots      the other commands; demo_scene runs inside Blender
main          the command line
"""
