# SPDX-License-Identifier: Apache-2.0
"""Judge a model on shapes and captions it never saw: sample sheets and colour metrics."""

import random

import torch
from PIL import Image, ImageDraw

from .painting import paint
from .sampling import sample
from .words import COLOURS, random_spec

CAPTIONS = (
    "red brick", "green tiles", "blue plastic", "brown wood planks", "white marble with black veins", "yellow and black stripes",
    "grey cobblestone", "red and white checker", "mossy grey brick", "snowy brown planks", "rusty blue metal", "pink fabric with white dots",
    "green dragon scales", "yellow honeycomb with black lines", "blue and yellow plaid", "red to yellow gradient", "gold", "purple and white mosaic",
    "black and white zebra", "green and brown camouflage", "lava", "orange leopard with black spots", "old grey concrete", "teal and gold vertical stripes")


def hold_out_depth(pool, recipe, count):
    """Depth maps (B,S,S) of held-out views."""
    rows = pool.held_out(recipe.held_out_views)[:count]
    return torch.from_numpy(pool.depth[rows]).float()


def sheet(swatch, pool, recipe, path, steps=20, guidance=2.5, rescale=0.5, captions=CAPTIONS):
    """Save a labelled grid of fixed captions on held-out shapes."""
    depth = hold_out_depth(pool, recipe, len(captions))
    captions = captions[: len(depth)]
    save_grid(_in_parts(swatch, captions, depth, steps, guidance, rescale), captions, path)


def save_grid(images, captions, path, columns=8, side=224):
    rows = -(-len(images) // columns)
    grid = Image.new("RGB", (columns * side, rows * (side + 13)), "white")
    draw = ImageDraw.Draw(grid)
    for i, image in enumerate(images):
        pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).byte().cpu().numpy()
        x, y = i % columns * side, i // columns * (side + 13)
        grid.paste(Image.fromarray(pixels).resize((side, side), Image.LANCZOS), (x, y + 13))
        draw.text((x + 2, y), captions[i][: side // 6], fill="black")
    grid.save(path)


def metrics(swatch, pool, recipe, count=24, steps=20, guidance=2.5, rescale=0.5, seed=11):
    """Colour following on held-out shapes with colour × material pairs never trained, against the painted truth.

    `correlation` and `rmse` of the object's mean colour, `name` the share whose nearest colour word is the
    truth's, `chroma` and `detail` as (sample, truth), `depth_swapped` the silhouette IoU with the depth of
    the next shape (must be high: the depth decides, not the caption), `background` the rms off the object.
    """
    rng = random.Random(seed)
    rows = pool.held_out(recipe.held_out_views)[-count:]
    views, specs = pool.views(rows), [random_spec(rng, held_out=True, clutter=0) for _ in rows]
    truth, mask = paint(views, specs), (views.depth > 0).float()[:, None]
    images = _in_parts(swatch, [s.caption for s in specs], views.depth, steps, guidance, rescale).clamp(-1, 1)
    names = torch.tensor(list(COLOURS.values()))

    def mean(x):
        return ((x * mask).sum((2, 3)) / mask.sum((2, 3)) + 1) / 2

    def detail(x):
        both = mask[..., 1:] * mask[..., :-1]
        return ((x[..., 1:] - x[..., :-1]).abs() * both).sum().item() / both.sum().item() / 3

    made, true = mean(images), mean(truth)
    shown = (images.abs().amax(1, keepdim=True) > 0.2).float()
    return dict(
        correlation=round(torch.corrcoef(torch.stack([made.flatten(), true.flatten()]))[0, 1].item(), 3),
        rmse=round((made - true).square().mean().sqrt().item(), 3),
        name=round((torch.cdist(made, names).argmin(1) == torch.cdist(true, names).argmin(1)).float().mean().item(), 2),
        chroma=[round((x.amax(1) - x.amin(1)).mean().item(), 3) for x in (made, true)],
        detail=[round(detail(x), 3) for x in (images, truth)],
        silhouette=round(_overlap(shown, mask), 3),
        silhouette_of_another=round(_overlap(shown, mask.roll(1, 0)), 3),
        background=round(((images * (1 - mask)).square().sum() / (1 - mask).sum() / 3).sqrt().item() / 2, 3))


def _overlap(first, second):
    return ((first * second).sum() / torch.maximum(first, second).sum()).item()


def _in_parts(swatch, captions, depth, steps, guidance, rescale, part=4):
    """Sample in small batches; the seed of each is its start."""
    return torch.cat([sample(swatch, captions[i : i + part], depth[i : i + part], steps, guidance, rescale, seed=i)
                      for i in range(0, len(captions), part)])
