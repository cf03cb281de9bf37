# SPDX-License-Identifier: Apache-2.0
"""Painting one view after the other: TEXTure (Richardson et al. 2023) and Text2Tex (Chen et al. 2023)."""

from __future__ import annotations

from ..schema import Setting

USED_BY = ("iterative",)

TABLE: tuple[Setting, ...] = (
    Setting(
        "iterative_style",
        str,
        "texture",
        "What a view does with places that were painted already.",
        "Style",
        "Iterative",
        choices=("texture", "text2tex"),
        choice_help=(
            "Refines what it sees straighter, in the same go as what is new (TEXTure)",
            "Generates what is new, then updates what it sees best; ends with an update pass (Text2Tex)",
        ),
        used_by=USED_BY,
    ),
    Setting(
        "iterative_order",
        str,
        "around",
        "Which view comes next.",
        "Order",
        "Iterative",
        choices=("around", "heat"),
        choice_help=(
            "From the front to both sides in turn, the back, above and below (both papers)",
            "The view with most left to do (Text2Tex's rule, for all turns)",
        ),
        used_by=USED_BY,
    ),
    Setting(
        "refine_margin",
        float,
        0.2,
        "How much straighter a view must look at a place to paint over it (cosine).",
        "Refine Margin",
        "Iterative",
        0.0,
        1.0,
        used_by=USED_BY,
    ),
    Setting(
        "refine_strength",
        float,
        0.5,
        "How far a view may change what was painted when it has nothing new to paint.",
        "Refine Strength",
        "Iterative",
        0.25,
        1.0,
        used_by=USED_BY,
    ),
    Setting(
        "update_views",
        int,
        -1,
        "Views painted over at the end, those with most to do.",
        "Update Pass",
        "Iterative",
        0,
        64,
        special=-1,
        special_help="the style's own: none, or as many as there are views for Text2Tex",
        used_by=USED_BY,
    ),
)
