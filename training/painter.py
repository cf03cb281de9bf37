# SPDX-License-Identifier: Apache-2.0
"""The painter process: random pool views × random surfaces → latents in two rings, for as long as training runs."""

import random
import time
from pathlib import Path

import numpy as np
import torch

from .geometry import Views
from .painting import half_size, paint
from .ring import Ring
from .tokens import token_ids
from .words import random_spec

BATCH = 16
HALF_EVERY = 6          # every sixth batch is painted at half size
HALF_DENSITY = 0.6      # fewer repeats there, so that patterns keep about their size in pixels
REST = 8.0              # once the rings are full, rest this many times as long as one batch took


def create_rings(recipe, folder):
    """The ring of whole views and the ring of half-size views under `folder`."""
    folder, side = Path(folder), recipe.latent
    return (Ring.create(folder / "full", recipe.ring_views, recipe.channels, side, recipe.text_length),
            Ring.create(folder / "half", recipe.ring_half_views, recipe.channels, side // 2, recipe.text_length))


@torch.no_grad()
def paint_batch(recipe, pool, codec, tokenizer, rng, half):
    """One batch of ring rows: latents, tokens, view rows, flips."""
    trainable = pool.trainable(recipe.held_out_views)
    rows = np.array(sorted(rng.choice(trainable) for _ in range(min(BATCH, recipe.ring_half_views))))
    flips = np.array([rng.random() < 0.5 for _ in rows])
    views = _flip(pool.views(rows, codec.basis.device), torch.from_numpy(flips))
    specs = [random_spec(rng) for _ in rows]
    images = paint(half_size(views), specs, HALF_DENSITY) if half else paint(views, specs)
    latents = codec.encode(images).latents
    return latents.half().cpu().numpy(), token_ids(tokenizer, [s.caption for s in specs]).numpy(), rows, flips


def run_painter(recipe, pool, codec, tokenizer, folder, seed, keep_going, log=print):
    """Paint until `keep_going()` says no; slow down when the rings are full."""
    full, half = create_rings(recipe, folder)
    turn, start = full.written + half.written, time.time()
    rng = random.Random(seed * 7919 + turn)
    batch = 0
    while keep_going():
        began = time.time()
        ring = half if batch % HALF_EVERY == HALF_EVERY - 1 else full
        ring.append(*paint_batch(recipe, pool, codec, tokenizer, rng, ring is half))
        batch += 1
        if batch % 50 == 0:
            done = full.written + half.written
            log(f"painter {done} views, {(done - turn) / (time.time() - start):.1f}/s")
        if full.written >= full.capacity:
            time.sleep(REST * (time.time() - began))


def _flip(views, flips):
    """Mirror some views left to right."""
    def some(values):
        return torch.where(flips.to(values.device).view(-1, *[1] * (values.dim() - 1)), values.flip(2), values)
    return Views(some(views.position), some(views.normal), some(views.depth), views.up)
