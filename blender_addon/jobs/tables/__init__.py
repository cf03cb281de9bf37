# SPDX-License-Identifier: Apache-2.0
"""The settings as tables, one file per subject. Their order is that of the panel, the command line and the docs."""

from __future__ import annotations

from . import distilled, edit, general, iterative, method, model, output, synchronized
from .general import QUALITIES
from .synchronized import CASES

__all__ = ["CASES", "QUALITIES", "TABLE"]

TABLE = (
    *general.TABLE,
    *model.TABLE,
    *method.TABLE,
    *synchronized.TABLE,
    *iterative.TABLE,
    *distilled.TABLE,
    *edit.TABLE,
    *output.TABLE,
)
