# SPDX-License-Identifier: Apache-2.0
"""`python -m training report`: measure a model folder; write `docs/swatch.md`, `docs/swatch.json` and the pictures.

Nothing here reads what training left behind: shapes, captions and judge come from seeds of their own, so a clean clone
gets the same page. What takes long is kept below the working folder (`judge-pool`, `report-pool`, `judge`).
"""

import json
import random
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import measures, pictures, scores
from .export import known_words
from .judge import SEED as JUDGE_SEED
from .judge import Schooling, judge_for, own_pool, vocabulary
from .page import page
from .sampling import Swatch

SHAPES_SEED, CAPTIONS_SEED, GRID_SEED = 80_001, 31, 5000
CAPTIONS = ("red brick wall", "brown wood planks", "green dragon scales", "blue and yellow plaid",
            "white marble with black veins", "rusty grey metal", "lava", "old grey cobblestone",
            "teal and gold vertical stripes", "red and white checker")
UNKNOWN = ("a zyzzyva", "cyberpunk", "Mona Lisa", "soft kitten fur", "roter Ziegel", "🦊", "red zyzzyva brick",
           "spaceship of blue metal", "gothic cathedral", "a portrait, oil on canvas", "asdf jkl", "not red")
CODEC_VIEWS, GRID_CAPTIONS, GRID_SHAPES, GRID_SEEDS = 6, 6, 4, 2


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    shapes: int = 192
    views: int = 350            # captions in the exam, about; equally many per material
    prompts: int = 12           # for the diversity of seeds
    seeds: int = 4
    subset: int = 100           # features per kernel distance
    steps: int | None = None    # of sampling; the model's own number
    schooling: Schooling = field(default_factory=Schooling)


FULL = Size()
QUICK = Size(shapes=40, views=0, prompts=4, seeds=3, subset=50, steps=10,
             schooling=Schooling(views=80, iterations=200, batch=24))


def train_judge(out, model, size=FULL):
    """The judge alone, kept for the report."""
    words, view_size = (json.loads((Path(model) / "swatch.json").read_text())[key] for key in ("words", "view_size"))
    return judge_for(out, words, Swatch.load(model).vae, view_size, size.schooling, log)


def report(out=".train", model="engine/models/swatch", docs="docs", quick=False, size=None):
    """Measure `model`, write page, numbers and pictures into `docs`, and return the numbers."""
    start, size, docs = time.time(), size or (QUICK if quick else FULL), Path(docs)
    facts = json.loads((Path(model) / "swatch.json").read_text())
    if facts["training"].get("seed") in (SHAPES_SEED, JUDGE_SEED):
        raise ValueError("this model was trained with a seed of the report: its shapes would not be unseen")
    settings = facts["defaults"] | (dict(steps=size.steps) if size.steps else {})
    swatch, words = Swatch.load(model), facts["words"]
    judge = judge_for(out, words, swatch.vae, facts["view_size"], size.schooling, log)
    log("judge ready")
    pool = own_pool(Path(out) / "report-pool", size.shapes, facts["view_size"], SHAPES_SEED)
    exam = scores.set_exam(swatch, words, pool, size.views, CAPTIONS_SEED)
    log(f"{len(exam.specs)} captions, {sum(exam.unseen)} with a held-out pair")
    cost = sizes(Path(model), swatch) | scores.speed(swatch, exam.depth, settings)
    views = generate(swatch, exam, settings)
    numbers = measure(swatch, judge, exam, views, settings, size)
    numbers |= dict(
        quick=quick, model=facts["name"], version=facts["version"], view_size=facts["view_size"], settings=settings,
        cost=cost, training={k: v for k, v in facts["training"].items() if k != "loss"}, sha256=facts["sha256"],
        materials=len(judge.materials), colours=len(judge.colours),
        materials_of_grammar=len(known_words()["materials"]),
        grammar_is_the_models=json.loads(json.dumps(known_words())) == words, shapes=size.shapes, size=asdict(size),
        judge=dict(parameters=sum(p.numel() for p in judge.parameters()), views=size.schooling.views,
                   samples=size.schooling.samples))
    log("pictures")
    (docs / "gallery").mkdir(parents=True, exist_ok=True)
    draw_pictures(docs / "gallery", swatch, exam, views["swatch"], words, settings)
    numbers["seconds"] = time.time() - start
    (docs / "swatch.json").write_text(json.dumps(rounded(numbers), indent=1) + "\n")
    (docs / "swatch.md").write_text(page(numbers, str(model)))
    log(f"{docs / 'swatch.md'} after {numbers['seconds']:.0f} s")
    return numbers


def generate(swatch, exam, settings):
    """The exam's views, with and without guidance."""
    views = {}
    for name, changed in (("swatch", {}), ("unguided", dict(guidance=1.0, guidance_rescale=0.0))):
        views[name] = scores.generate(swatch, exam.captions, exam.depth, settings, **changed)
        log(f"{len(exam.specs)} views, {name}")
    return views


def measure(swatch, judge, exam, views, settings, size):
    found = scores.readings(judge, exam, views | dict(codec=exam.restored, true=exam.truth))
    correlation, rmse = measures.colour_agreement(views["swatch"], exam.truth, exam.mask)
    numbers = dict(
        count=len(exam.specs), unseen=sum(exam.unseen), each=len(exam.specs) // len(judge.materials),
        subset=min(size.subset, len(exam.specs)), figure_threshold=measures.FIGURE, colour_correlation=correlation,
        colour_rmse=rmse, adherence=scores.adherence(judge, exam, found),
        per_material=scores.per_material(judge, exam, found),
        depth=scores.depth_following(exam, views["swatch"]), codec=scores.codec_quality(swatch, exam),
        kernel_distance=scores.distances(found, size.subset))
    log("diversity")
    rng = random.Random(CAPTIONS_SEED)
    numbers["diversity"] = scores.diversity(judge, swatch, exam, settings, size.prompts, size.seeds, rng)
    return numbers


def sizes(folder, swatch):
    """Bytes on disk and parameters of the model."""
    parts = {name: sum(p.numel() for p in getattr(swatch, name).parameters())
             for name in ("vae", "text_encoder", "unet", "controlnet")}
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return dict(bytes=sum(files), largest=max(files), parameters=sum(parts.values()), parts=parts)


def draw_pictures(folder, swatch, exam, views, words, settings):
    """The four grids."""
    known = vocabulary(words)
    captions = [c for c in CAPTIONS if set(c.split()) <= known][:GRID_CAPTIONS]
    captions += list(dict.fromkeys(exam.captions))[: GRID_CAPTIONS - len(captions)]
    order = list(dict.fromkeys(exam.rows))
    shapes = [exam.rows.index(order[k * len(order) // GRID_SHAPES]) for k in range(min(GRID_SHAPES, len(order)))]
    depth = exam.depth[shapes]
    each = depth.repeat_interleave(GRID_SEEDS, 0)
    images = scores.generate(swatch, [c for c in captions for _ in each], each.repeat(len(captions), 1, 1), settings,
                             seed=GRID_SEED)
    images = images.unflatten(0, (len(captions), len(depth), GRID_SEEDS))
    pictures.grid(folder / "swatch-grid.jpg", captions, depth, images)

    shapes = [i % len(exam.depth) for i in range(1, 1 + len(UNKNOWN))]
    images = scores.generate(swatch, list(UNKNOWN), exam.depth[shapes], settings, seed=GRID_SEED + 1000)
    pictures.captioned(folder / "swatch-unknown.jpg", UNKNOWN, [missing_words(c, known) for c in UNKNOWN], images)

    first = [next(i for i, s in enumerate(exam.specs) if s.material == m and (scores.is_plain(s) or i == last))
             for m, last in {s.material: i for i, s in enumerate(exam.specs)}.items()]
    captions = [exam.captions[i] for i in first]
    pictures.pairs(folder / "swatch-materials.jpg", captions, views[first], exam.truth[first])

    busy = sorted(range(len(exam.specs)), key=lambda i: measures.steepness(exam.truth[i : i + 1]).mean().item())
    few = [busy[-1 - k * len(busy) // (2 * CODEC_VIEWS)] for k in range(CODEC_VIEWS)]       # of the busier half
    captions = [exam.captions[i] for i in few]
    pictures.round_trips(folder / "swatch-codec.jpg", captions, exam.truth[few], exam.restored[few], exam.mask[few])


def missing_words(caption, known):
    missing = [w for w in caption.replace(",", " ").split() if w.lower() not in known]
    return f"unknown: {', '.join(missing)}" if missing else "every word is known"


def rounded(value):
    """Four significant digits are more than these measures carry."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def log(text):
    print(time.strftime("%H:%M:%S"), text, flush=True)
