# SPDX-License-Identifier: Apache-2.0
"""Train text encoder, U-Net and ControlNet together: v-prediction on the scheduler's own noise table."""

import contextlib
import copy
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from . import checkpoint
from .networks import Networks
from .tokens import token_ids


def train(networks, batches, recipe, seed, folder, minutes, every, start_stage, log=print, before=()):
    """Train for `minutes` in all, resuming from `folder`; `every` lists (seconds, stage) pairs to start on the way.

    Each of them finds a fresh checkpoint. `before`: what is known of the runs that made the first weights. Returns the
    facts: iterations, samples, seconds, loss curve.
    """
    device = torch.device(batches.device)
    averaged = average_of(networks)
    parameters = networks.parameters()
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    facts = checkpoint.load(folder, networks, averaged, optimizer) or dict(
        iteration=0, samples=0, seconds=0.0, loss=[], seed=seed, before=list(before))
    generator = torch.Generator(device).manual_seed(seed + facts["iteration"])
    batches.seed(seed + facts["iteration"])
    empty = token_ids(networks.tokenizer, [""]).to(device)
    alphas = networks.scheduler.alphas_cumprod.to(device)
    began, earlier = time.time(), facts["seconds"]
    due = [time.time() + period for period, _ in every]
    running, counted = 0.0, 0
    while True:
        facts["seconds"] = earlier + time.time() - began
        progress = facts["seconds"] / (minutes * 60)
        if progress >= 1:
            break
        batch = batches.draw(progress)
        timesteps = draw_timesteps(len(batch.latents), len(alphas), recipe.high_noise_lean, generator)
        loss = velocity_loss(networks, batch, timesteps, alphas, empty, recipe.caption_dropout, generator)
        optimizer.zero_grad()
        with attention(device):
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, facts["iteration"], progress)
        optimizer.step()
        facts["iteration"] += 1
        facts["samples"] += len(batch.latents)
        keep = min(recipe.ema, (1 + facts["iteration"]) / (20 + facts["iteration"]))
        with torch.no_grad():
            torch._foreach_lerp_(averaged.parameters(), parameters, 1 - keep)
        running, counted = running + loss.item(), counted + 1
        if counted == 100:
            facts["loss"].append([facts["iteration"], round(running / counted, 4)])
            log(f"{facts['seconds'] / 60:.1f} min, iteration {facts['iteration']}, loss {running / counted:.4f}, "
                f"{facts['samples'] / facts['seconds']:.1f} samples/s, ring {len(batches.full)}+{len(batches.half)}")
            running, counted = 0.0, 0
        for i, (period, stage) in enumerate(every):
            if time.time() >= due[i]:
                checkpoint.save(folder, networks, averaged, optimizer, facts)
                start_stage(stage)
                due[i] = time.time() + period
    checkpoint.save(folder, networks, averaged, optimizer, facts)
    return facts


def draw_timesteps(count, levels, lean, generator):
    """Stratified integer timesteps 0..levels−1; `lean` > 1 prefers high noise, where the caption decides."""
    device = generator.device
    spread = (torch.rand(1, generator=generator, device=device) + torch.arange(count, device=device) / count) % 1
    return ((1 - (1 - spread) ** lean) * levels).long().clamp(max=levels - 1)


def velocity_loss(networks, batch, timesteps, alphas, empty, dropout, generator):
    """Weighted squared error of v, with some captions dropped."""
    count, device = len(batch.latents), batch.latents.device
    signal = alphas[timesteps].sqrt().view(-1, 1, 1, 1)
    sigma = (1 - alphas[timesteps]).sqrt().view(-1, 1, 1, 1)
    noise = torch.randn(batch.latents.shape, generator=generator, device=device)
    noisy, target = signal * batch.latents + sigma * noise, signal * noise - sigma * batch.latents
    dropped = torch.rand(count, 1, generator=generator, device=device) < dropout
    tokens = torch.where(dropped, empty, batch.tokens)
    with torch.autocast(device.type, torch.bfloat16), attention(device):
        predicted = networks.velocity(noisy.to(memory_format=torch.channels_last), timesteps, tokens, batch.depth)
    return ((predicted.float() - target).square() * batch.weight).mean()


def learning_rate(recipe, iteration, progress):
    """Warm up over 100 iterations, hold, then fall linearly to zero at the end."""
    fall = min(1.0, (1 - progress) / (1 - recipe.decay_from))
    return recipe.learning_rate * min(1, (iteration + 1) / 100) * max(0.0, fall)


def attention(device):
    """The plain attention kernel on CPU: at these sizes it trains a quarter faster than the flash one."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()


def average_of(networks):
    """A copy that will hold the exponential moving average."""
    copies = {name: copy.deepcopy(module).eval().requires_grad_(False) for name, module in networks.modules.items()}
    return Networks(**copies, tokenizer=networks.tokenizer, scheduler=networks.scheduler)
