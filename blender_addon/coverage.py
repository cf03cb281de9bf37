# SPDX-License-Identifier: GPL-3.0-or-later
"""The colours of how well cameras see a surface, shown over it without touching it; what they see: `jobs.coverage`."""

import numpy as np

from .jobs.coverage import STEEPEST, Coverage, measure

__all__ = ["Coverage", "colours", "measure"]


def colours(best: np.ndarray) -> np.ndarray:
    """f32[F,4]: red where no view sees a triangle, orange to green the straighter the best one looks at it."""
    t = ((best - np.cos(np.radians(STEEPEST))) / (1 - np.cos(np.radians(STEEPEST)))).clip(0, 1)[:, None]
    ramp = np.array([[0.95, 0.45, 0.05], [0.85, 0.85, 0.1], [0.1, 0.7, 0.2]])
    low = np.where(t < 0.5, ramp[0] + 2 * t * (ramp[1] - ramp[0]), ramp[1] + (2 * t - 1) * (ramp[2] - ramp[1]))
    rgb = np.where((best > 0)[:, None], low, np.array([0.8, 0.0, 0.15]))
    return np.concatenate([rgb, np.full((len(best), 1), 0.75)], 1).astype(np.float32)
