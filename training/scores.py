# SPDX-License-Identifier: Apache-2.0
"""What is measured for the report: the exam (fixed shapes and captions), the model's answers, and their scores."""

import collections
import random
import time
from dataclasses import dataclass

import torch

from . import measures
from .judge import known_captions, read, through_codec
from .painting import paint
from .pool import Pool
from .sampling import sample
from .words import MATERIALS, random_spec, spec_for

CLEAR = 0.01        # figure and ground are judged where at most this share of the true render's pixels is misjudged


@dataclass
class Exam:
    """Captions with their shapes and true renders; `other` are true renders of other draws on other shapes."""

    pool: Pool
    rows: list
    specs: list
    unseen: list            # per caption: training never shows its pair of colour and material
    depth: torch.Tensor     # (B,S,S)
    mask: torch.Tensor      # (B,1,S,S)
    truth: torch.Tensor     # (B,3,S,S) in −1..1
    restored: torch.Tensor  # the same through the codec and back
    other: torch.Tensor
    other_mask: torch.Tensor

    @property
    def captions(self):
        return [spec.caption for spec in self.specs]

    def repaint(self, i, specs):
        """True renders of view `i` with other surfaces."""
        return paint(self.pool.views([self.rows[i]] * len(specs)), specs)


def set_exam(swatch, words, pool, views, seed):
    """About `views` captions, equally many per material, pairs that training never shows wherever there are any."""
    rng = random.Random(seed)
    each = max(1, round(views / len(words["materials"])))
    specs, unseen = exam_specs(words, each, rng)
    again, _ = exam_specs(words, each, rng)
    rows = [i % len(pool) for i in range(len(specs))]
    truth, mask, depth = _paint(pool, rows, specs)
    other, other_mask, _ = _paint(pool, [(row + len(pool) // 2) % len(pool) for row in rows], again)
    restored = torch.cat([through_codec(swatch.vae, part) for part in truth.split(16)])
    return Exam(pool, rows, specs, unseen, depth, mask, truth, restored, other, other_mask)


def _paint(pool, rows, specs):
    images = torch.cat([paint(pool.views(rows[i : i + 16]), specs[i : i + 16]) for i in range(0, len(rows), 16)])
    depth = torch.from_numpy(pool.depth[rows]).float()
    return images, (depth > 0).float()[:, None], depth


def exam_specs(words, each, rng):
    """`each` specs of every known material, in turns, and whether each one's pair is held out."""
    is_known, found = known_captions(words), {m: [] for m in MATERIALS if m in words["materials"]}
    for unseen in (True, False):
        open_for = [m for m in found if len(found[m]) < each and (MATERIALS[m].colours or not unseen)]
        for _ in range(150 * each * len(open_for)):
            if not open_for:
                break
            spec = random_spec(rng, held_out=unseen, clutter=0)
            if spec.material in open_for and is_known(spec):
                found[spec.material].append((spec, unseen))
                open_for = [m for m in open_for if len(found[m]) < each]
    turns = [one for i in range(each) for pairs in found.values() for one in pairs[i : i + 1]]
    return [spec for spec, _ in turns], [unseen for _, unseen in turns]


def is_plain(spec):
    """Nothing but colours, material and size: no wear, no dark or light."""
    return not any(getattr(spec, part, None) for part in ("tone", "layer", "under"))


def generate(swatch, captions, depth, settings, seed=0, part=8, **changed):
    """Views (B,3,S,S) in −1..1 by plain single-view sampling; `settings` has steps, guidance and guidance_rescale."""
    settings = settings | changed
    how = (settings["steps"], settings["guidance"], settings["guidance_rescale"])
    return torch.cat([sample(swatch, captions[i : i + part], depth[i : i + part], *how, seed=seed + i).clamp(-1, 1)
                      for i in range(0, len(captions), part)])


@dataclass(frozen=True)
class Reading:
    """What the judge says of a set of views."""

    material: torch.Tensor  # logits
    colour: torch.Tensor
    features: torch.Tensor


def readings(judge, exam, images):
    """A reading of each named set of views of the exam's captions, and of its other true renders."""
    found = {name: Reading(*read(judge, views, exam.mask)) for name, views in images.items()}
    return found | dict(other=Reading(*read(judge, exam.other, exam.other_mask)))


def adherence(judge, exam, found):
    """Shares of right answers per group of captions, for each reading."""
    own, order = list(range(len(exam.specs))), measures.shuffled(len(exam.specs))
    result = {name: _shares(judge, exam, one, own) for name, one in found.items() if name != "other"}
    return result | dict(shuffled=_shares(judge, exam, found["swatch"], order))


def _shares(judge, exam, reading, order):
    """`order` says which caption each view is held against."""
    first, hues = best(reading.material, judge.materials, 3), best(reading.colour, judge.colours, 2)
    specs, unseen = [exam.specs[k] for k in order], [exam.unseen[k] for k in order]
    named = [{c for c in (s.first, s.second) if c} for s in specs]
    plain = [is_plain(s) for s in specs]
    groups = dict(unseen=unseen, plain=[u and p for u, p in zip(unseen, plain, strict=True)],
                  worn=[u and not p for u, p in zip(unseen, plain, strict=True)], seen=[not u for u in unseen])

    def share(hits, group):
        return measures.share([h for h, g in zip(hits, group, strict=True) if g])

    right = [guess[0] == s.material for guess, s in zip(first, specs, strict=True)]
    close = [s.material in guess for guess, s in zip(first, specs, strict=True)]
    hit = [guess[0] in names for guess, names in zip(hues, named, strict=True)]
    both = [set(guess) == names for guess, names in zip(hues, named, strict=True)]
    one = [u and len(names) == 1 for u, names in zip(unseen, named, strict=True)]
    two = [u and len(names) == 2 for u, names in zip(unseen, named, strict=True)]
    material = {name: share(right, group) for name, group in groups.items()}
    colour = {name: share(hit, group) for name, group in groups.items() if name != "seen"}
    return dict(material=material | dict(among_three=share(close, unseen)),
                colour=colour | dict(one=share(hit, one), both=share(both, two)))


def best(logits, names, count):
    """The `count` most likely names of each row, best first."""
    return [[names[k] for k in row] for row in logits.topk(min(count, len(names)), 1).indices.tolist()]


def per_material(judge, exam, found):
    """How often the judge names each material, in generated views and in true ones, and what it names instead."""
    guesses, true = ([guess for guess, in best(found[name].material, judge.materials, 1)]
                     for name in ("swatch", "codec"))
    table = {}
    for name in judge.materials:
        mine = [i for i, spec in enumerate(exam.specs) if spec.material == name]
        wrong = collections.Counter(guesses[i] for i in mine if guesses[i] != name).most_common(1)
        right, true_right = (sum(said[i] == name for i in mine) for said in (guesses, true))
        table[name] = dict(right=right, true_right=true_right, count=len(mine),
                           unseen=any(exam.unseen[i] for i in mine), taken_for=wrong[0][0] if wrong else None)
    return table


def depth_following(exam, views):
    """Silhouettes and edges against the control image, against another shape's, and what true renders reach."""
    order = measures.shuffled(len(views))
    clear = measures.figure_error(exam.truth, exam.mask) <= CLEAR
    if not clear.any():
        clear[:] = True
    columns = dict(swatch=(views, exam.mask, exam.depth), another=(views, exam.mask[order], exam.depth[order]),
                   codec=(exam.restored, exam.mask, exam.depth), true=(exam.truth, exam.mask, exam.depth))
    result = dict(count=int(clear.sum()))
    for name, (images, mask, depth) in columns.items():
        error, iou = measures.figure_error(images, mask)[clear], measures.overlap(images, mask)[clear]
        result[name] = dict(error=error.mean().item(), error_median=error.median().item(), overlap=iou.mean().item(),
                            edges=measures.edge_correlation(images, depth).mean().item())
    return result


def distances(found, subset):
    """Kernel distance of each set of views to true renders of other draws on other shapes: (1000 × mean, deviation)."""
    reference = found["other"].features
    mean, deviation = reference.mean(0), reference.std(0).clamp_min(1e-6)

    def standard(features):
        return (features - mean) / deviation

    return {name: measures.kernel_distance(standard(one.features), standard(reference), subset)
            for name, one in found.items() if name != "other"}


def codec_quality(swatch, exam):
    codec, patch = swatch.vae, swatch.vae.config.patch_size
    latents = [codec.encode(part).latents for part in exam.truth.split(16)]
    linear = torch.cat([codec.decode(part, refine=False).sample for part in latents])
    drift = max((codec.encode(codec.decode(part).sample).latents - part).abs().max().item() for part in latents)
    return dict(psnr_linear=measures.decibels(linear, exam.truth, exam.mask), drift=drift,
                psnr_refined=measures.decibels(exam.restored, exam.truth, exam.mask),
                seams_linear=measures.seams(linear, exam.truth, exam.mask, patch),
                seams_refined=measures.seams(exam.restored, exam.truth, exam.mask, patch))


def diversity(judge, swatch, exam, settings, prompts, seeds, rng):
    """Mean distance between the features of views with the same words and shape, against true renders of the words."""
    chosen = [i for i, spec in enumerate(exam.specs) if exam.unseen[i] and is_plain(spec)]
    chosen = chosen or list(range(len(exam.specs)))
    made, true, kept = [], [], []
    for i in chosen[:prompts]:
        spec, mask = exam.specs[i], exam.mask[[i] * seeds]
        views = generate(swatch, [spec.caption] * seeds, exam.depth[[i] * seeds], settings, seed=1000 + i)
        words = (spec.material, spec.first, spec.second, spec.tone, spec.size, None)
        looks = [spec_for(*words, rng) for _ in range(seeds)]
        features = read(judge, views, mask)[2]
        made.append(measures.spread(features))
        true.append(measures.spread(read(judge, through_codec(swatch.vae, exam.repaint(i, looks)), mask)[2]))
        kept.append(features[:1])
    mean = [sum(found) / len(found) for found in (made, true)]
    return dict(swatch=mean[0], true=mean[1], ratio=mean[0] / max(mean[1], 1e-9), prompts=len(made), seeds=seeds,
                other_prompts=measures.spread(torch.cat(kept)) if len(kept) > 1 else None)


def speed(swatch, depth, settings, count=8):
    """Seconds for `count` views, by the clock and of processor time (the clock has all else that the machine does)."""
    captions = ["red brick"] * count
    generate(swatch, captions[:1], depth[:1], settings | dict(steps=1))
    clock, used = time.perf_counter(), time.process_time()
    generate(swatch, captions, depth[:1].expand(count, -1, -1), settings, part=count)
    clock, used = time.perf_counter() - clock, time.process_time() - used
    return dict(views=count, seconds=clock, processor_seconds=used, threads=torch.get_num_threads())
