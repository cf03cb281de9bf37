# SPDX-License-Identifier: Apache-2.0
"""What is written, and on what it is computed."""

from __future__ import annotations

from ..schema import Setting

TABLE = (
    Setting(
        "padding",
        int,
        16,
        "How far colours are carried past the borders of UV islands.",
        "Padding",
        "Output",
        0,
        256,
        unit="texels",
    ),
    Setting(
        "contact_sheet",
        bool,
        False,
        "Also render the textured mesh from eight directions into one picture.",
        "Contact Sheet",
        "Output",
    ),
    Setting(
        "save_views",
        bool,
        False,
        "Also keep each painted view, and maps of coverage and ownership.",
        "Views and Maps",
        "Output",
    ),
    Setting(
        "preview_every",
        int,
        4,
        "Steps between two preview images.",
        "Preview Every",
        "Output",
        1,
        200,
        special=0,
        special_help="no previews",
        unit="steps",
    ),
    Setting(
        "device",
        str,
        "auto",
        "What computes.",
        "Device",
        "Machine",
        choices=("auto", "cpu", "cuda", "mps"),
        choice_help=("The best one found", "Processor", "NVIDIA or AMD graphics card", "Apple graphics"),
    ),
    Setting(
        "rasterizer",
        str,
        "auto",
        "What finds the triangle under each pixel.",
        "Rasterizer",
        "Machine",
        choices=("auto", "numba", "nvdiffrast", "reference"),
        choice_help=(
            "The best one allowed",
            "Everywhere, any use",
            "CUDA; research and evaluation only",
            "Slow and exact, for tests",
        ),
    ),
)
