# SPDX-License-Identifier: Apache-2.0
"""A CLIP model from a folder, to see pictures and prompts with. It is never downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from blender_addon.jobs.errors import ModelError

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the pictures that OpenAI's CLIP was trained on
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
FAULTS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    ImportError,
)  # what transformers raises on a bad folder
TOGETHER = 8


class Clip:
    """Pictures' and prompts' embeddings; adherence is CLIP-S, 100 times the cosine between them."""

    def __init__(self, folder: Path):
        from transformers import CLIPModel, CLIPTokenizer

        try:
            self.model = CLIPModel.from_pretrained(folder, local_files_only=True).eval()
            self.tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except FAULTS as error:
            raise ModelError(f"{folder} holds no CLIP model ({error}).", "Name the folder of a CLIPModel.") from error
        self.name = f"CLIP {folder.name}"

    @torch.no_grad()
    def features(self, images: Tensor, mask: Tensor) -> np.ndarray:
        """Embeddings f32[N,d], not normalized, of pictures [N,3,H,W] in 0..1 with the object on white."""
        side = self.model.config.vision_config.image_size
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
        found = []
        for at in range(0, len(images), TOGETHER):
            part, inside = images[at : at + TOGETHER].float().cpu(), mask[at : at + TOGETHER].float().cpu()
            small = interpolate(part * inside + 1 - inside, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
            vision = self.model.vision_model(pixel_values=(small - mean) / deviation)
            found.append(self.model.visual_projection(vision.pooler_output))
        return torch.cat(found).numpy()

    @torch.no_grad()
    def adherence(self, features: np.ndarray, prompt: str, words: object = None) -> dict[str, float]:
        limit = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer([prompt], return_tensors="pt", truncation=True, max_length=limit)
        text = self.model.text_projection(self.model.text_model(**tokens).pooler_output)
        return {"clip": float(100 * (normalize(torch.from_numpy(features), dim=1) @ normalize(text, dim=1).T).mean())}
