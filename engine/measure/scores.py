# SPDX-License-Identifier: Apache-2.0
"""All measures of one texture, by name: what `evaluate` and `compare` write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from engine.made import Made
from engine.mesh import Mesh
from engine.prompts import wish
from engine.raster import Rasterizer
from engine.raster.texels import TexelMap

from .agreement import between_views, with_render
from .bleed import bleed
from .coverage import after_fill, coverage, left_black
from .distance import kid, kid_spread
from .judge import Reader
from .seams import Seams, chart_ratio, chart_step, find_seams, owner_ratio, smooth_ratio
from .sharpness import fine_energy
from .stage import Stage, stage_for

# name -> (heading, what it is, format, whether more is better; None: neither)
SCORES: dict[str, tuple[str, str, str, bool | None]] = {
    "agreement_db": ("agreement", "PSNR between painted views where two see the same point well", "{:.1f} dB", True),
    "render_db": ("kept", "PSNR between the painted views and renders of the finished texture", "{:.1f} dB", True),
    "seam_ratio": ("chart seams", "colour jump across chart borders over the change beside them", "{:.2f}", False),
    "seam_smooth": ("smooth seams", "the same where the surface bends by less than 36 degrees", "{:.2f}", False),
    "seam_step": ("seam step", "distance of the two colours a chart border shows, 8-bit levels", "{:.1f}", False),
    "owner_ratio": ("view seams", "the same where the view that counts most changes", "{:.2f}", False),
    "sharpness": ("sharpness", "finest detail of renders over that of single views of the same prompt", "{:.2f}", True),
    "coverage": ("coverage", "share of the area that some view painted", "{:.1%}", True),
    "filled": ("filled", "share of the area that has a colour in the end", "{:.1%}", True),
    "black_texels": ("black", "texels of charts left black, where no view painted black", "{:.0f}", False),
    "bleed": ("bleed", "texels more like the background than their surroundings, by edges", "{:.2%}", False),
    "background_like": ("grey-like", "all texels more like the background than their surroundings", "{:.2%}", None),
    "kid": ("KID x 1000", "distance of renders from single views of the prompt; 0: equal", "{:.1f}", False),
    "material": ("material", "the judge's probability of the prompt's material", "{:.0%}", True),
    "colour": ("colour", "the judge's probability of the prompt's colours", "{:.0%}", True),
    "clip": ("CLIP-S", "100 times the cosine between prompt and renders", "{:.1f}", True),
    "seconds": ("seconds", "of the whole job", "{:.1f}", False),
    "denoise_seconds": ("denoising", "seconds of it", "{:.1f}", False),
    "view_denoisings": ("denoisings", "of one view, guidance included", "{:.0f}", False),
}  # fmt: skip


@dataclass
class Place:
    """One mesh on its stage, and what is worth keeping between jobs on it: maps that do not depend on the texture."""

    mesh: Mesh
    rasterizer: Rasterizer
    stage: Stage
    _seams: dict[int, Seams] = field(default_factory=dict)
    _rigs: dict[bytes, Stage] = field(default_factory=dict)

    def seams(self, texels: TexelMap) -> Seams:
        if texels.size not in self._seams:
            self._seams[texels.size] = find_seams(self.mesh, texels)
        return self._seams[texels.size]

    def rig(self, cameras: Sequence, size: int) -> Stage:
        """The stage of the cameras that were painted from; the latest is kept."""
        key = b"".join(camera.view.tobytes() + camera.projection.tobytes() for camera in cameras) + bytes([size % 251])
        if key not in self._rigs:
            self._rigs.clear()
            self._rigs[key] = stage_for(self.mesh, cameras, self.rasterizer, size)
        return self._rigs[key]


@dataclass(frozen=True)
class Reference:
    """Single views of one prompt on one stage, as the measures see them."""

    features: np.ndarray  # f32[n,d]
    energy: float | None  # of their finest band

    @classmethod
    def of(cls, views: Tensor, stage: Stage, reader: Reader) -> Reference:
        """views: f32[n,3,H,H], whole rounds of the stage's cameras, cut out."""
        rounds = len(views) // len(stage.cameras)
        mask, edge = stage.mask.repeat(rounds, 1, 1, 1), np.tile(stage.edge, (rounds, 1, 1))
        return cls(reader.features(views, mask), fine_energy(views, edge))


@torch.no_grad()
def score(made: Made, place: Place, reference: Reference, reader: Reader) -> tuple[dict[str, float], np.ndarray]:
    """Every score of `SCORES` that this texture has, and its renders' features f32[N,d]."""
    stage, texture = place.stage, made.texture
    renders = stage.render(texture)
    features = reader.features(renders, stage.mask)
    energy = fine_energy(renders, stage.edge)
    seams = place.seams(made.texels)
    step = chart_step(texture, seams)
    bleeding, left = bleed(made), left_black(texture, made)
    far = kid(features, reference.features)
    found = {
        "agreement_db": between_views(made),
        "render_db": with_render(made.views, texture, place.rig(made.job.cameras, made.views.shape[-1])),
        "seam_ratio": chart_ratio(texture, seams),
        "seam_smooth": smooth_ratio(texture, seams),
        "seam_step": None if step is None else 255 * step,
        "owner_ratio": owner_ratio(made.colour, made.texels, made.baked.owner),
        "sharpness": energy / reference.energy if energy is not None and reference.energy else None,
        "coverage": coverage(made),
        "filled": after_fill(left, made),
        "black_texels": int(np.count_nonzero(left)),
        "bleed": bleeding.excess,
        "background_like": bleeding.share,
        "kid": None if far is None else 1000 * far,
        **reader.adherence(features, wish(made.job.settings), made.model.known_words),
    }
    return {name: float(value) for name, value in found.items() if value is not None}, features


def pooled_kid(textures: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> dict[str, float]:
    """KID x 1000, and its spread by chance, of all renders' features together against all single views' together."""
    if not textures or not references:
        return {}
    one, other = np.concatenate(textures), np.concatenate(references)
    far, spread = kid(one, other), kid_spread(one, other)
    return {} if far is None or spread is None else {"kid": 1000 * far, "kid_spread": 1000 * spread}
