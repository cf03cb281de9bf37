# SPDX-License-Identifier: Apache-2.0
"""The methods: how a denoiser that knows single views makes one texture. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from engine.methods import synchronized

Method = Callable[..., Tensor]
"""`run(denoiser, space, levels, settings, generator, codec=None, on_step=None, **more) -> clean views`."""

METHODS: dict[str, Method] = {"synchronized": synchronized.run}
