# SPDX-License-Identifier: GPL-3.0-or-later
"""Text in a panel, over as many labels as it takes."""

import textwrap

from .translation import shown

_LETTER = 6.6  # width of an average letter in pixels at interface scale 1


def text_lines(layout, context, text: str, icon: str = "NONE") -> None:
    """Text over as many labels as the region is narrow, in the artist's language."""
    scale = context.preferences.system.ui_scale or 1.0  # 0 without a window
    width = context.region.width if context.region else 260
    letters = max(20, int((width / scale - 60) / _LETTER))
    column = layout.column(align=True)
    column.scale_y = 0.85
    for number, line in enumerate(textwrap.wrap(shown(text), letters, break_on_hyphens=False) or [""]):
        column.label(text=line, icon=icon if number == 0 else ("BLANK1" if icon != "NONE" else "NONE"))
