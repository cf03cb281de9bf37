# SPDX-License-Identifier: Apache-2.0
"""The formulas of the report: kernel distance, figure and ground, edges, round trips. Tensors in, numbers out."""

import math
import random

import torch
import torch.nn.functional as F

FIGURE = 0.15       # a pixel is not background when some channel is this far from mid-grey (−1..1)


def kernel_distance(first, second, subset=100, rounds=50, seed=0):
    """Unbiased squared maximum mean discrepancy of two sets of features with the kernel (x·y/d + 1)³, times 1000.

    Mean and deviation over subsets; may be a little below zero when both sets come from one distribution.
    """
    generator = torch.Generator().manual_seed(seed)
    size = min(subset, len(first), len(second))

    def pick(features):
        return features[torch.randperm(len(features), generator=generator)[:size]].double()

    found = torch.tensor([discrepancy(pick(first), pick(second)) for _ in range(rounds)])
    return 1000 * found.mean().item(), 1000 * found.std().item()


def discrepancy(x, y):
    """Unbiased MMD² of samples x (n,d) and y (m,d)."""
    def kernel(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a):
        values, count = kernel(a, a), len(a)
        return ((values.sum() - values.trace()) / (count * (count - 1))).item()

    return within(x) + within(y) - 2 * kernel(x, y).mean().item()


def shown(images):
    """Where the pixels (B,3,S,S) alone show an object, as (B,1,S,S): most of 3×3 are not background."""
    far = (images.abs().amax(1, keepdim=True) > FIGURE).float()
    return (F.avg_pool2d(far, 3, 1, 1, count_include_pad=False) > 0.5).float()


def figure_error(images, mask):
    """(B,) share of pixels on the wrong side of figure and ground."""
    return (shown(images) - mask).abs().mean((1, 2, 3))


def overlap(images, mask):
    """(B,) intersection over union of what the images show and the mask."""
    found = shown(images)
    return torch.minimum(found, mask).sum((1, 2, 3)) / torch.maximum(found, mask).sum((1, 2, 3)).clamp_min(1)


def steepness(images):
    """(B,1,S,S) largest channel's central differences, averaged over 5×5 pixels so that an edge may be a pixel off."""
    across = F.pad(images, (1, 1, 0, 0), "replicate").diff(dim=3)
    down = F.pad(images, (0, 0, 1, 1), "replicate").diff(dim=2)
    across, down = (across[..., 1:] + across[..., :-1]) / 2, (down[:, :, 1:] + down[:, :, :-1]) / 2
    return F.avg_pool2d((across.square() + down.square()).sqrt().amax(1, keepdim=True), 5, 1, 2)


def edge_correlation(images, depth):
    """(B,) Pearson correlation of the steepness of images (B,3,S,S) and of control depth (B,S,S)."""
    first, second = steepness(images).flatten(1), steepness(depth[:, None]).flatten(1)
    first, second = first - first.mean(1, keepdim=True), second - second.mean(1, keepdim=True)
    return (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1)).clamp_min(1e-9)


def decibels(images, truth, mask):
    """PSNR over the pixels of the mask, of images in −1..1 (peak 2)."""
    error = ((images.clamp(-1, 1) - truth).square().mean(1, keepdim=True) * mask).sum() / mask.sum() / 4
    return -10 * math.log10(max(error.item(), 1e-12))


def seams(images, truth, mask, patch):
    """How much steeper images are across patch borders than the truth is there, over the same ratio inside patches.

    1 means that nothing tells a border from the inside; a visible grid is well above.
    """
    def ratio(x):
        steps, inside, size = [], [], x.shape[3]
        for dim in (2, 3):
            both = torch.minimum(mask.narrow(dim, 1, size - 1), mask.narrow(dim, 0, size - 1))
            jump = x.diff(dim=dim).abs().mean(1, keepdim=True) * both
            border = (torch.arange(1, size) % patch == 0).float().view((-1, 1) if dim == 2 else (1, -1))
            steps.append((jump * border).sum() / (both * border).sum())
            inside.append((jump * (1 - border)).sum() / (both * (1 - border)).sum())
        return (sum(steps) / sum(inside)).item()

    return ratio(images) / ratio(truth)


def mean_colours(images, mask):
    """(B,3) in 0..1."""
    return ((images.clamp(-1, 1) * mask).sum((2, 3)) / mask.sum((2, 3)) + 1) / 2


def colour_agreement(images, truth, mask):
    """Correlation and root mean square error of the objects' mean colours."""
    made, true = mean_colours(images, mask), mean_colours(truth, mask)
    correlation = torch.corrcoef(torch.stack([made.flatten(), true.flatten()]))[0, 1]
    return correlation.item(), (made - true).square().mean().sqrt().item()


def spread(features):
    """Mean distance between all pairs of rows (n,d)."""
    return torch.pdist(features.double()).mean().item()


def share(hits):
    """Share of true entries with its 95 % half-width (Wilson) and count; None for an empty list."""
    hits = [bool(h) for h in hits]
    if not hits:
        return None
    n, p, z = len(hits), sum(hits) / len(hits), 1.96
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return dict(share=p, half=half, right=sum(hits), count=n)


def shuffled(count, seed=0):
    """A permutation of range(count) without fixed points: whose caption or depth stands in as the wrong one."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return [order[(order.index(i) + 1) % count] for i in range(count)]
