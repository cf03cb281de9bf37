# SPDX-License-Identifier: Apache-2.0
"""Make the patch codec: principal components in closed form, then the null-space decoder by gradient descent.

Latents depend on the closed form only, so the denoiser can start before the decoder is trained.
"""

import random
import time

import torch
import torch.nn.functional as F

from engine.models.patch_codec import LinearPatchCodec

from .painting import paint
from .words import random_spec

OBJECT_PIXELS = 8   # a patch counts when at least this many of its pixels show the object


def painted(pool, rows, rng, device="cpu"):
    """Images (B,3,S,S) of pool rows with fresh random surfaces, and object masks (B,1,S,S)."""
    views = pool.views(rows, device)
    return paint(views, [random_spec(rng) for _ in rows]), (views.depth > 0).float()[:, None]


def fit(recipe, pool, seed, device="cpu"):
    """The codec with its closed-form part set: basis and latent scaling from true patches of the object."""
    rng = random.Random(seed)
    rows = pool.trainable(recipe.held_out_views)[: recipe.codec_views]
    size = 3 * recipe.patch**2
    moment, count = torch.zeros(size, size, dtype=torch.float64, device=device), 0
    for start in range(0, len(rows), 16):
        images, mask = painted(pool, rows[start : start + 16], rng, device)
        patches = F.pixel_unshuffle(images, recipe.patch).permute(0, 2, 3, 1)
        shown = F.pixel_unshuffle(mask, recipe.patch).sum(1) >= OBJECT_PIXELS
        patches = patches[shown].double()
        moment += patches.T @ patches
        count += len(patches)
    power, vectors = torch.linalg.eigh(moment / count)
    power, vectors = power.flip(0)[: recipe.channels], vectors.flip(1)[:, : recipe.channels]
    spread = power.sqrt() ** recipe.whitening
    spread = spread / (spread**2).mean().sqrt()          # mean variance over channels is 1 on the object
    codec = LinearPatchCodec(recipe.patch, recipe.channels, recipe.codec_hidden).to(device)
    codec.basis.copy_(vectors.T)
    codec.deviation.copy_(power.sqrt() / spread)
    return codec


def train_decoder(codec, recipe, pool, seed, minutes, log=print):
    """Learn the decoder's residual on random crops of fresh paintings for `minutes`."""
    rng, generator = random.Random(seed + 1), torch.Generator().manual_seed(seed + 1)
    device = codec.basis.device
    weights = [p for p in codec.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=2e-3, betas=(0.9, 0.98))
    bank, _ = _bank(recipe, pool, rng, device)
    side, start, iteration = recipe.view_size // 2, time.time(), 0
    while (progress := (time.time() - start) / (minutes * 60)) < 1:
        if iteration % 200 == 199:                          # a tenth of the bank gets new paint
            part = torch.randint(0, len(bank), (max(1, len(bank) // 10),), generator=generator)
            bank[part] = _bank(recipe, pool, rng, device, len(part))[0]
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (iteration + 1) / 50) * (1 - 0.97 * progress)
        pick = torch.randint(0, len(bank), (8,), generator=generator)
        y, x = torch.randint(0, side // recipe.patch + 1, (2,), generator=generator) * recipe.patch
        images = bank[pick, :, y : y + side, x : x + side].float() / 127
        with torch.autocast(device.type, torch.bfloat16):
            restored = codec(images)
        error = restored.sample.float() - images
        weight = 0.2 + (images != 0).any(1, keepdim=True)
        loss = (weight * (error.square() + 0.05 * error.abs())).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        iteration += 1
        if iteration % 100 == 0:
            log(f"codec {progress * minutes:.1f} min, iteration {iteration}, loss {loss:.5f}")
    return codec


def _bank(recipe, pool, rng, device, count=None):
    rows = pool.trainable(recipe.held_out_views)
    rows = sorted(rng.sample(list(rows), min(len(rows), count or recipe.codec_views)))
    images, masks = painted(pool, rows, rng, device)
    return (images * 127).round().to(torch.int8), masks


@torch.no_grad()
def quality(codec, recipe, pool, seed=5):
    """PSNR in dB on the object pixels of held-out views, linear and refined, and the round trip's error."""
    images, mask = painted(pool, pool.held_out(recipe.held_out_views), random.Random(seed), codec.basis.device)
    latents = codec.encode(images).latents

    def psnr(restored):
        error = ((restored.clamp(-1, 1) - images).square().mean(1, keepdim=True) * mask).sum() / mask.sum() / 4
        return round(-10 * torch.log10(error).item(), 2)

    refined = codec.decode(latents).sample
    drift = (codec.encode(refined).latents - latents).abs().max().item()
    inside = F.avg_pool2d(mask, recipe.patch).flatten() > 0.99
    spread = latents.permute(0, 2, 3, 1).flatten(0, 2)[inside].std(0)
    return dict(psnr_linear=psnr(codec.decode(latents, refine=False).sample), psnr_refined=psnr(refined), round_trip=drift,
                latent_std=[round(s, 2) for s in spread.tolist()])
