# SPDX-License-Identifier: Apache-2.0
"""Tweed's engine: its own process and virtual environment. It never imports bpy."""

__version__ = "0.1.0"
