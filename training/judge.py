# SPDX-License-Identifier: Apache-2.0
"""The judge: a small classifier that reads material and colours off a view, trained on true renders only.

It sees the object and its mask, never the caption, the depth or the background. Half of its training pictures went
through the codec and back, because every generated view did. It trains on 128-pixel windows and reads whole views:
its features are averages over the object, so both have the same scale.
"""

import dataclasses
import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from .export import known_words, replace_by
from .painting import paint
from .pool import Pool
from .words import COLOURS, MATERIALS, random_spec

SEED = 90_001       # of the shapes, surfaces and weights; training's own seeds are small numbers
WINDOW = 128        # pixels
SHELF = 32          # lessons kept to be learned again
CELL = 16           # pixels per feature cell
HERE = Path(__file__).parent
# The modules that make true renders
MAKERS = ("catalogue", "geometry", "judge", "materials", "noise", "painting", "pool", "shapes", "wear", "words")


@dataclass(frozen=True)
class Schooling:
    """How long the judge learns."""

    views: int = 640            # shapes it sees
    iterations: int = 4000
    batch: int = 32
    learning_rate: float = 1.5e-3
    width: int = 48

    @property
    def samples(self):
        """Different pictures it sees."""
        return self.batch * min(self.iterations, (self.iterations + SHELF) // 2)


def vocabulary(words):
    """All single words of a model; `words` is that part of its `swatch.json`."""
    texts = list(words["tones"])
    for part in ("colours", "materials", "wear", "sizes"):
        texts += [text for spelled in words[part].values() for text in spelled]
    return {w for text in texts for w in text.replace(",", " ").split()}


def known_captions(words):
    """Tells whether a spec uses only what a model knows and says something that no other material is called."""
    known = vocabulary(words)
    named = {p for m in MATERIALS.values() if not m.colours for p in m.phrases}      # "gold" is also a colour

    def is_known(spec):
        colours = [c for c in (spec.first, spec.second) if c]
        return (spec.material in words["materials"] and all(c in words["colours"] for c in colours)
                and set(spec.caption.replace(",", " ").split()) <= known and not (colours and spec.caption in named))

    return is_known


class Judge(nn.Module):
    """Logits over material and colour names, and the features they are read from."""

    def __init__(self, materials, colours, width=64):
        super().__init__()
        self.materials, self.colours, self.width = list(materials), list(colours), width
        wide = [width, width * 2, width * 3]
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(4), nn.Conv2d(64, wide[0], 3, padding=1, bias=False), nn.BatchNorm2d(wide[0]))
        self.layers = nn.ModuleList([
            Residual(wide[0], wide[0]), Residual(wide[0], wide[1], 2), Residual(wide[1], wide[1]),
            Residual(wide[1], wide[2], 2), Residual(wide[2], wide[2])])
        self.material = nn.Linear(wide[2], len(self.materials))
        self.colour = nn.Linear(wide[2], len(self.colours))

    def features(self, images, mask):
        """(B,F) averages over the object of images (B,3,S,S) in −1..1; only pixels of the mask (B,1,S,S) count."""
        x = self.stem(torch.cat([images.clamp(-1, 1) * mask, mask], 1))
        for layer in self.layers:
            x = layer(x)
        share = F.avg_pool2d(mask, CELL)
        return (F.relu(x) * share).sum((2, 3)) / share.sum((2, 3)).clamp_min(1e-3)

    def forward(self, images, mask):
        features = self.features(images, mask)
        return self.material(features), self.colour(features)


class Residual(nn.Module):
    def __init__(self, before, after, stride=1):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.norm2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.skip = nn.Conv2d(before, after, 1, stride, bias=False) if before != after else nn.Identity()

    def forward(self, x):
        x = F.relu(x)
        return self.skip(x) + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))


def through_codec(codec, images):
    """What is left of images after encoding and decoding."""
    return codec.decode(codec.encode(images).latents).sample.clamp(-1, 1)


def windows(pool, rows, rng, side):
    """One window of `side` pixels per pool row around a random object pixel, on the codec's patch grid."""
    views, cut = pool.views(rows), []
    for i in range(len(rows)):
        inside = (views.depth[i] > 0).nonzero()
        y, x = inside[rng.randrange(len(inside))].tolist()
        top, left = (min(max(0, (v - side // 2) // 8 * 8), pool.size - side) for v in (y, x))
        cut.append([v if v.dim() < 2 else v[top : top + side, left : left + side] for v in _fields(views, i)])
    return type(views)(*(torch.stack(column) for column in zip(*cut, strict=True)))


def _fields(views, i):
    return [getattr(views, field.name)[i] for field in dataclasses.fields(views)]


def colour_targets(specs, colours):
    """(B,n) rows that sum to 1 over the named colours; zero where the caption names none."""
    rows = torch.zeros(len(specs), len(colours))
    for row, spec in zip(rows, specs, strict=True):
        named = {c for c in (spec.first, spec.second) if c}
        for colour in named:
            row[colours.index(colour)] = 1 / len(named)
    return rows


def lesson(pool, codec, rng, is_known, count, side):
    """Painted windows, masks and specs; half of them went through the codec, some have pairs the model never saw."""
    views = windows(pool, [rng.randrange(len(pool)) for _ in range(count)], rng, side)
    specs = [draw(rng, is_known, held_out=rng.random() < 0.1) for _ in range(count)]
    images, mask = paint(views, specs), (views.depth > 0).float()[:, None]
    images[: count // 2] = through_codec(codec, images[: count // 2])
    return images, mask, specs


def flipped(images, mask, specs, rng):
    """The same lesson with about half of its pictures mirrored."""
    flip = torch.tensor([rng.random() < 0.5 for _ in specs])[:, None, None, None]
    return torch.where(flip, images.flip(3), images), torch.where(flip, mask.flip(3), mask), specs


def draw(rng, is_known, held_out=False, tries=2000):
    """A random spec of known words; the pair need not be held out where the model knows no such pair."""
    for i in range(tries):
        spec = random_spec(rng, held_out and i < tries // 2, clutter=0)
        if is_known(spec):
            return spec
    raise ValueError("the model knows no caption of this grammar")


def school(pool, codec, words, schooling, log=print):
    """Train a judge for the words of a model."""
    rng, is_known = random.Random(SEED), known_captions(words)
    torch.manual_seed(SEED)
    materials, colours = ([w for w in all_words if w in words[part]] for part, all_words
                          in (("materials", MATERIALS), ("colours", COLOURS)))
    judge = Judge(materials, colours, schooling.width)
    judge.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=schooling.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schooling.learning_rate, schooling.iterations, pct_start=0.1)
    shelf, recent = [], []
    for i in range(schooling.iterations):
        if i % 2 == 0 or len(shelf) < SHELF:            # every second lesson is an old one again
            with torch.no_grad():
                shelf.append(lesson(pool, codec, rng, is_known, schooling.batch, min(WINDOW, pool.size)))
            shelf = shelf[-SHELF:]
        images, mask, specs = flipped(*(shelf[-1] if i % 2 == 0 else rng.choice(shelf)), rng)
        with torch.autocast("cpu", torch.bfloat16):
            material, colour = judge(images.contiguous(memory_format=torch.channels_last), mask)
        material, colour = material.float(), colour.float()
        truth = torch.tensor([judge.materials.index(s.material) for s in specs])
        loss = F.cross_entropy(material, truth, label_smoothing=0.05)
        loss = loss - (colour_targets(specs, judge.colours) * colour.log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(judge.parameters(), 2.0)
        optimizer.step()
        schedule.step()
        recent = [*recent[-49:], (loss.item(), (material.argmax(1) == truth).float().mean().item())]
        if i % 50 == 49:
            loss, right = (sum(column) / len(recent) for column in zip(*recent, strict=True))
            log(f"judge {i + 1} of {schooling.iterations}: loss {loss:.2f}, material {right:.2f}")
    return judge.eval()


@torch.inference_mode()
def read(judge, images, mask, part=8):
    """Material logits, colour logits and features of whole views."""
    pairs = zip(images.split(part), mask.split(part), strict=True)
    features = torch.cat([judge.features(*pair) for pair in pairs])
    return judge.material(features), judge.colour(features), features


def save(judge, facts, folder):
    def write(fresh):
        save_file({k: v.contiguous() for k, v in judge.state_dict().items()}, fresh / "judge.safetensors")
        names = dict(materials=judge.materials, colours=judge.colours, width=judge.width)
        (fresh / "judge.json").write_text(json.dumps(names | dict(facts=facts), indent=1) + "\n")

    replace_by(folder, write)


def load(folder):
    """A saved judge and its facts, or None."""
    folder = Path(folder)
    if not (folder / "judge.json").exists():
        return None
    saved = json.loads((folder / "judge.json").read_text())
    judge = Judge(saved["materials"], saved["colours"], saved["width"])
    judge.load_state_dict(load_file(folder / "judge.safetensors"))
    return judge.eval(), saved["facts"]


def fingerprint(words, codec, schooling):
    """Changes with anything a judge depends on: the words, the shaders, the shapes, the codec, its schooling."""
    digest = hashlib.sha256(json.dumps([words, known_words(), dataclasses.asdict(schooling)], sort_keys=True).encode())
    for path in sorted(HERE.rglob("*.py")):
        if path.stem in MAKERS or path.parent.name == "materials":
            digest.update(path.read_bytes())
    for tensor in codec.state_dict().values():
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def judge_for(folder, words, codec, view_size, schooling, log=print):
    """The judge kept in `folder` if it is of today's grammar and codec, else a new one."""
    mark = fingerprint(words, codec, schooling)
    found = load(Path(folder) / "judge")
    if found and found[1]["fingerprint"] == mark:
        return found[0]
    pool = own_pool(Path(folder) / "judge-pool", schooling.views, view_size, SEED)
    judge = school(pool, codec, words, schooling, log)
    save(judge, dict(fingerprint=mark, schooling=dataclasses.asdict(schooling)), Path(folder) / "judge")
    return judge


def own_pool(folder, count, size, seed):
    """Views of shapes that training never renders: same makers, another seed. A folder of another kind is replaced."""
    folder = Path(folder) / f"{seed}-{count}-{size}"
    pool = Pool.create(folder, count, size)
    pool.fill(seed, held_out=0)
    return pool
