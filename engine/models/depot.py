# SPDX-License-Identifier: Apache-2.0
"""The groups of a model's networks, which take turns on a device that is too small for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

HOME = torch.device("cpu")


class Depot:
    """`bring(group)` puts one group on the device and sends the others home, if they take turns at all."""

    def __init__(self, device: torch.device, groups: Mapping[str, Sequence[nn.Module]], turns: bool = False):
        self.device, self.groups, self.turns = device, groups, turns
        self.present: str | None = None

    def bring(self, group: str) -> None:
        if not self.turns or group == self.present:
            return
        for name, modules in self.groups.items():
            if name != group:
                for module in modules:
                    module.to(HOME)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        for module in self.groups.get(group, ()):
            module.to(self.device)
        self.present = group

    def settle(self) -> None:
        """All groups on the device, or, where they take turns, all at home until they are needed."""
        for modules in self.groups.values():
            for module in modules:
                module.to(HOME if self.turns else self.device)
