# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's rasterizer, on CUDA, for those who accepted its licence (research and evaluation only).

The only module that imports nvdiffrast. Its conventions (read in the source of 0.4.0): image rows run bottom-up, so y
is turned over in clip space; ids count from 1 and are floats, those above 2^24 by their bits; pixels are decided at
1/16 pixel, where ours are at 1/4096; which of two equally distant triangles wins is not defined.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

PIXELS = 2**25  # drawn at once: 512 MB of its output
TRIANGLES = 2**22  # drawn at once: from ten million on it fails (issue 197)


@dataclass(frozen=True)
class NvdiffrastRasterizer:
    """See `engine.raster.Rasterizer`. `device` is a CUDA device."""

    device: str = "cuda"
    name: str = "nvdiffrast"
    context: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        import nvdiffrast.torch

        object.__setattr__(self, "context", nvdiffrast.torch.RasterizeCudaContext(device=self.device))

    def triangle_ids(self, clip: np.ndarray, triangles: np.ndarray, height: int, width: int) -> np.ndarray:
        ids = np.empty((len(clip), height, width), np.int32)
        faces = torch.as_tensor(np.ascontiguousarray(triangles, np.int32), device=self.device)
        together = max(1, PIXELS // (height * width))
        for first in range(0, len(clip), together):
            vertices = np.asarray(clip[first : first + together], np.float32) * np.float32([1, -1, 1, 1])
            group = self.nearest(torch.as_tensor(vertices, device=self.device).contiguous(), faces, height, width)
            ids[first : first + together] = group.cpu().numpy()
        return ids

    def nearest(self, vertices: torch.Tensor, faces: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Ids i32[n,H,W] of all triangles, drawn a few million at a time. vertices f32[n,V,4], faces i32[F,3]."""
        import nvdiffrast.torch

        shape = (len(vertices), height, width)
        ids = torch.full(shape, -1, dtype=torch.int32, device=vertices.device)
        depth = torch.full(shape, torch.inf, device=vertices.device)
        for first in range(0, len(faces), TRIANGLES):
            part = faces[first : first + TRIANGLES].contiguous()
            image, _ = nvdiffrast.torch.rasterize(self.context, vertices, part, (height, width), grad_db=False)
            found = decode_ids(image[..., 3])
            closer = (found >= 0) & (image[..., 2] < depth)
            ids = torch.where(closer, found + first, ids)
            depth = torch.where(closer, image[..., 2], depth)
        return ids


def decode_ids(values: torch.Tensor) -> torch.Tensor:
    """Triangle ids i32 from nvdiffrast's float32 (0 is none); the inverse of its `triidx_to_float`, counted from 0."""
    small = values <= 16777216.0
    whole = torch.where(small, values, torch.zeros_like(values)).to(torch.int32)
    return torch.where(small, whole, values.contiguous().view(torch.int32) - 0x4A800000) - 1
