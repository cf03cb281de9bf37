# SPDX-License-Identifier: Apache-2.0
"""Networks that read pictures for the measures: what adherence and KID are seen through.

The bundled model's own judge is made by the training recipe (`training/judge.py`) and read here from its folder; a CLIP
model from a folder serves models that know all words. Without either, a fixed random network gives features that KID
can still be taken of, but nobody then says whether the prompt was followed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu

from blender_addon.jobs.errors import ModelError

CELL = 16  # pixels per feature cell
TOGETHER = 8  # pictures at a time
JOINING = {"and", "with", "on", "over", "in", "of", "to"}


Words = Mapping[str, Any] | None


class Reader(Protocol):
    """Reads pictures [N,3,H,W] in 0..1 with their object masks [N,1,H,W] in 0..1."""

    name: str  # for reports

    def features(self, images: Tensor, mask: Tensor) -> np.ndarray:
        """f32[N,d]."""
        ...

    def adherence(self, features: np.ndarray, prompt: str, words: Words) -> dict[str, float]:
        """How well pictures with these features follow the prompt, by name of the measure; empty if it cannot tell.

        words: phrases of materials and colours by their names, as in a small model's `swatch.json`; None: any words.
        """
        ...


class Classifier(nn.Module):
    """The judge's network, layer for layer as `training.judge.Judge` saves it."""

    def __init__(self, materials: int, colours: int, width: int):
        super().__init__()
        wide = [width, width * 2, width * 3]
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(4), nn.Conv2d(64, wide[0], 3, padding=1, bias=False), nn.BatchNorm2d(wide[0])
        )
        self.layers = nn.ModuleList([
            Residual(wide[0], wide[0]), Residual(wide[0], wide[1], 2), Residual(wide[1], wide[1]),
            Residual(wide[1], wide[2], 2), Residual(wide[2], wide[2]),
        ])  # fmt: skip
        self.material = nn.Linear(wide[2], materials)
        self.colour = nn.Linear(wide[2], colours)

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """Features [N,d] of images in -1..1: averages over the object."""
        x = self.stem(torch.cat([images * mask, mask], 1))
        for layer in self.layers:
            x = layer(x)
        share = avg_pool2d(mask, CELL)
        return (relu(x) * share).sum((2, 3)) / share.sum((2, 3)).clamp_min(1e-3)


class Residual(nn.Module):
    def __init__(self, before: int, after: int, stride: int = 1):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.norm2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.skip = nn.Conv2d(before, after, 1, stride, bias=False) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = relu(x)
        return self.skip(x) + self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))


class Judge:
    """The judge of a folder with `judge.json` and `judge.safetensors`."""

    def __init__(self, folder: Path):
        try:
            facts = json.loads((folder / "judge.json").read_text(encoding="utf-8"))
            self.materials, self.colours = list(facts["materials"]), list(facts["colours"])
            self.network = Classifier(len(self.materials), len(self.colours), int(facts["width"]))
            self.network.load_state_dict(load_file(folder / "judge.safetensors"))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise ModelError(
                f"The judge in {folder} cannot be read ({error}).", "Make it again or leave --judge out."
            ) from error
        self.network.eval()
        digest = hashlib.sha256((folder / "judge.safetensors").read_bytes()).hexdigest()
        self.name = f"judge {folder.name} {digest[:8]}"

    def features(self, images: Tensor, mask: Tensor) -> np.ndarray:
        return in_parts(lambda part, inside: self.network(part * 2 - 1, inside), images, mask)

    @torch.no_grad()
    def adherence(self, features: np.ndarray, prompt: str, words: Words) -> dict[str, float]:
        """`material`, `colour`: mean probability of what the prompt names; several colours share it."""
        found = {}
        for kind, names, head in (("material", self.materials, self.network.material),
                                  ("colour", self.colours, self.network.colour)):  # fmt: skip
            named = [names.index(name) for name in named_in(prompt, (words or {}).get(kind + "s", {})) if name in names]
            if named:
                chance = head(torch.from_numpy(features)).softmax(1)[:, named].sum(1)
                found[kind] = float(chance.mean())
        return found


def named_in(prompt: str, said: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of which a phrase is in the prompt; longer phrases first and no word twice: "gold leaf" is not "leaf".

    A phrase may leave places open, as "{1} marble with {2} veins": its other words are looked for, joining ones apart.
    """
    rest = f" {' '.join(prompt.lower().replace(',', ' ').split())} "
    found = []
    phrases = ((spoken(phrase), name) for name, all_phrases in said.items() for phrase in all_phrases)
    for pieces, name in sorted(phrases, key=lambda one: -sum(map(len, one[0]))):
        if pieces and all(f" {piece} " in rest for piece in pieces):
            for piece in pieces:
                rest = rest.replace(f" {piece} ", "  ")
            found.append(name)
    return list(dict.fromkeys(found))


def spoken(phrase: str) -> list[str]:
    """What a phrase says between its open places, without words that only join."""
    texts = (" ".join(text.replace(",", " ").split()) for text in re.split(r"\{\d\}", phrase.lower()))
    words = (" ".join(word for word in text.split() if word not in JOINING) for text in texts)
    return [text for text in words if text]


class RandomFeatures:
    """Four convolutions with fixed random weights, averaged over the object: means and deviations of 64 responses, at
    two scales. Sees colours and textures, knows no words."""

    name = "random convolutions"

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(20_240_101)
        shapes = ((24, 3), (32, 24), (64, 32))
        self.kernels = [torch.randn(out, into, 3, 3, generator=generator) * (2 / (9 * into)) ** 0.5
                        for out, into in shapes]  # fmt: skip

    def features(self, images: Tensor, mask: Tensor) -> np.ndarray:
        return in_parts(self._both, images, mask)

    def _both(self, images: Tensor, mask: Tensor) -> Tensor:
        return torch.cat([self._one(images, mask), self._one(avg_pool2d(images, 2), avg_pool2d(mask, 2))], 1)

    def _one(self, images: Tensor, mask: Tensor) -> Tensor:
        x = (images * 2 - 1) * mask
        for stride, kernel in zip((1, 2, 2), self.kernels, strict=True):
            x = relu(torch.nn.functional.conv2d(x, kernel, stride=stride, padding=1))
        share = torch.nn.functional.interpolate(mask, x.shape[-2:], mode="area")
        total = share.sum((2, 3)).clamp_min(1e-3)
        mean = (x * share).sum((2, 3)) / total
        spread = ((x - mean[..., None, None]) ** 2 * share).sum((2, 3)) / total
        return torch.cat([mean, spread.sqrt()], 1)

    def adherence(self, features: np.ndarray, prompt: str, words: Words) -> dict[str, float]:
        return {}


@torch.no_grad()
def in_parts(read, images: Tensor, mask: Tensor) -> np.ndarray:
    """`read(images, mask)` a few pictures at a time, as one array."""
    found = [read(images[at : at + TOGETHER].float().cpu(), mask[at : at + TOGETHER].float().cpu())
             for at in range(0, len(images), TOGETHER)]  # fmt: skip
    return torch.cat(found).numpy()


def reader(folder: Path | None) -> Reader:
    """The judge or CLIP model in `folder`; random features for None. ModelError if the folder holds neither."""
    if folder is None:
        return RandomFeatures()
    if (folder / "judge.json").is_file():
        return Judge(folder)
    if (folder / "config.json").is_file():
        from engine.models.clip import Clip

        return Clip(folder)
    raise ModelError(f"{folder} holds neither a judge (judge.json) nor a CLIP model (config.json).",
                     "Name the folder of one, or leave --judge out.")  # fmt: skip
