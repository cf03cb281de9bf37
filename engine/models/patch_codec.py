# SPDX-License-Identifier: Apache-2.0
"""A linear patch codec: the autoencoder of the bundled model, made so that synchronization loses nothing.

The encoder is one orthonormal basis (principal components of 8×8×3 patches), so a weighted average of
images encodes to the average of their latents, and mid-grey encodes to exactly zero. The decoder is the
transpose of that basis plus a learned residual kept in the encoder's null space: encode(decode(z)) = z.
"""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput


@dataclass
class Encoded(BaseOutput):
    latents: torch.Tensor   # (N,C,h,w)


@dataclass
class Decoded(BaseOutput):
    sample: torch.Tensor    # (N,3,H,W) in −1..1, not clamped


class ResidualBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class LinearPatchCodec(ModelMixin, ConfigMixin):
    """Images (N,3,H,W) in −1..1 ↔ latents (N,C,H/p,W/p), ready for the denoiser (scaling_factor is 1)."""

    @register_to_config
    def __init__(self, patch_size: int = 8, latent_channels: int = 16, hidden_channels: int = 128,
                 num_blocks: int = 2, scaling_factor: float = 1.0):
        super().__init__()
        size = 3 * patch_size**2
        self.basis = nn.Parameter(torch.eye(latent_channels, size), requires_grad=False)   # orthonormal rows
        self.deviation = nn.Parameter(torch.ones(latent_channels), requires_grad=False)    # coefficient of latent 1
        self.conv_in = nn.Conv2d(latent_channels, hidden_channels, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(hidden_channels) for _ in range(num_blocks))
        self.conv_out = nn.Conv2d(hidden_channels, size, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def encode(self, x):
        """Latents of images whose sides are multiples of the patch size. Linear."""
        size, (count, _, height, width) = self.config.patch_size, x.shape
        patches = x.permute(0, 2, 3, 1).reshape(count, height // size, size, width // size, size, 3)
        patches = patches.transpose(2, 3).reshape(count, height // size, width // size, -1)
        return Encoded((patches @ self.pixel_basis(1 / self.deviation).t()).permute(0, 3, 1, 2))

    def decode(self, z, refine=True):
        """Images of latents, channels last in memory; `refine=False` is the linear part alone, all that `encode` sees."""
        size, (count, _, height, width) = self.config.patch_size, z.shape
        patches = z.permute(0, 2, 3, 1) @ self.pixel_basis(self.deviation)
        patches = patches.view(count, height, width, size, size, 3).transpose(2, 3)
        image = patches.reshape(count, height * size, width * size, 3).permute(0, 3, 1, 2)
        return Decoded(image + F.pixel_shuffle(self.residual(z), size) if refine else image)

    def pixel_basis(self, scale):
        """Basis (C, p·p·3) with rows times `scale`, reordered from channel-first patches to row, column, colour.

        So the matrix product reads and writes pixels as they lie in memory; shuffling them costs more than it does.
        """
        size = self.config.patch_size
        rows = self.basis.view(-1, 3, size, size).permute(0, 2, 3, 1).reshape(len(self.basis), -1)
        return rows * scale[:, None]

    def residual(self, z):
        """Learned patch detail (N,3p²,h,w) that the encoder cannot see."""
        hidden = self.conv_in(z)
        for block in self.blocks:
            hidden = block(hidden)
        detail = self.conv_out(F.silu(hidden)).to(z.dtype)
        seen = torch.einsum("nphw,cp->nchw", detail, self.basis)
        return detail - torch.einsum("nchw,cp->nphw", seen, self.basis)

    def forward(self, x):
        return self.decode(self.encode(x).latents)
