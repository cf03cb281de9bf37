# SPDX-License-Identifier: Apache-2.0
"""The job folder: all that Blender and the engine share. Standard library and numpy only, no bpy.

`folder` reads and writes jobs and results, `events` the progress file, `settings` is the one table of
settings (with `arguments`, `presets` and `reference` derived from it), `rigs` places cameras, `errors`
says what can go wrong. `relay` is a program: it stands where the engine would, for one on another machine
(`frames`, `mirror`, `ssh`).
"""
