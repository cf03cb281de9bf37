# SPDX-License-Identifier: Apache-2.0
"""The choice of the method."""

from __future__ import annotations

from ..schema import EVERY_METHOD, Setting

TABLE = (
    Setting(
        "method",
        str,
        "synchronized",
        "How the views come to agree on one texture.",
        "Method",
        "Method",
        choices=EVERY_METHOD,
        choice_help=(
            "All views are denoised together and agree at every step",
            "One view after the other continues what is painted already (TEXTure, Text2Tex)",
            "The texture is optimized until every view looks right to the model (SDS)",
            "The current texture is changed by an instruction (Instruct-NeRF2NeRF); needs a model that edits",
        ),
    ),
)
