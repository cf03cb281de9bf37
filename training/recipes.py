# SPDX-License-Identifier: Apache-2.0
"""The sizes of a training run. `cpu` made the bundled weights; `smoke` runs the whole recipe in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    # data
    view_size: int = 256            # pixels
    pool_views: int = 2560
    pool_workers: int = 2
    held_out_views: int = 64
    ring_views: int = 20_000        # painted full views kept
    ring_half_views: int = 4_000    # whole views painted at half size
    # codec
    patch: int = 8
    channels: int = 16
    whitening: float = 0.3          # std of latent k is proportional to (principal deviation k) ** whitening
    codec_views: int = 256
    codec_hidden: int = 128
    codec_minutes: float = 4.0      # of decoder training
    # text
    text_width: int = 160
    text_layers: int = 2
    text_length: int = 24
    # denoiser
    widths: tuple = (64, 96, 128)
    heads: tuple = (2, 3, 4)
    control_widths: tuple = (8, 16, 32, 64)
    batch: int = 16                 # windows of half the view's side
    full_batch: int = 4             # whole views
    full_share: float = 0.1         # share of whole-view batches before the last stretch
    half_share: float = 0.12        # share of half-size whole views among windows
    full_from: float = 0.78         # progress at which only whole views remain
    learning_rate: float = 8e-4
    decay_from: float = 0.6
    caption_dropout: float = 0.12
    ema: float = 0.999
    high_noise_lean: float = 2.0    # timesteps are 1 − (1 − u)^lean; 1 is uniform
    background_weight: float = 0.35
    minutes: float = 110.0

    @property
    def latent(self):
        """Side of a full view in latent cells."""
        return self.view_size // self.patch


RECIPES = {
    "cpu": Recipe(codec_minutes=30.0),    # the decoder shares a core with the painter
    "gpu": Recipe(pool_views=20_000, pool_workers=1, held_out_views=256, ring_views=200_000, ring_half_views=20_000, widths=(80, 160, 192),
                  heads=(2, 5, 6), batch=256, full_batch=64, learning_rate=4e-4, ema=0.9995, minutes=25.0),
    "smoke": Recipe(view_size=64, pool_views=16, pool_workers=1, held_out_views=4, ring_views=24, ring_half_views=8, channels=8,
                    codec_views=8, codec_hidden=16, codec_minutes=0.02, text_width=32, text_layers=1, widths=(16, 32, 32),
                    heads=(1, 2, 2), control_widths=(4, 8, 8, 16), batch=4, full_batch=2, minutes=0.05),
}
