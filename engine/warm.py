# SPDX-License-Identifier: Apache-2.0
"""Models kept in memory between jobs, so that the second texture starts at once."""

from __future__ import annotations

import gc

import torch

from blender_addon.jobs.errors import ModelError
from engine.models import Model, load_model, weights_mark
from engine.models.loading import Extras


class Models:
    """The models loaded so far. One at a time: the next one takes the memory of the last."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, str, Extras], Model] = {}
        self._mark = ""  # of the weights in memory

    def __bool__(self) -> bool:
        return bool(self._loaded)

    def get(self, name: str, device: torch.device, extras: Extras | None = None) -> Model:
        """The model of that name on `device` with these extras, loaded if it is not there yet; ModelError if it cannot be.

        A model with other LoRAs, or without, is another one: what was merged into the last is gone with it. So is one
        whose files were replaced. One whose files are away, on a drive that was unplugged, is used as it is in memory.
        """
        key, mark = (name, str(device), extras or Extras()), _mark(name)
        if key not in self._loaded or (mark and mark != self._mark):
            self.unload()
            self._loaded[key] = load_model(name, device, extras=extras)
            self._mark = mark
        return self._loaded[key]

    def unload(self) -> None:
        """Give the models' memory back."""
        if self._loaded:
            self._loaded.clear()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _mark(name: str) -> str:
    """See `weights_mark`; "" where the files cannot be read, of which loading them says more."""
    try:
        return weights_mark(name)
    except (ModelError, OSError):
        return ""
