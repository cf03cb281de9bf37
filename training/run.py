# SPDX-License-Identifier: Apache-2.0
"""The stages of a run in one working folder: pool → codec → painter + denoiser → export → sheet.

Every stage continues where it stopped. The trainer and its helpers are separate single-threaded processes:
on a CPU that beats one process with many threads.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from engine.models.patch_codec import LinearPatchCodec

from . import checkpoint, evaluation, export
from .batches import Batches
from .codec import fit, quality, train_decoder
from .denoiser import average_of, train
from .networks import build_networks
from .painter import create_rings, run_painter
from .pool import Pool
from .sampling import Swatch
from .tokens import build_tokenizer
from .words import every_word

# glibc gives large tensors back to the system after every step; these keep them
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "67108864"}
EXPORT_EVERY, SHEET_EVERY = 300, 900    # seconds
FIRST_VIEWS = 512                       # painted views before the denoiser starts


def log(text):
    print(time.strftime("%H:%M:%S"), text, flush=True)


class Run:
    """One working folder with its recipe, seed and device."""

    def __init__(self, recipe, name, folder, seed, device, minutes=None, start_from=None):
        self.recipe, self.name, self.seed, self.device = recipe, name, seed, device
        self.folder = Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.minutes = minutes or recipe.minutes
        self.start_from = start_from

    def start(self, stage, *extra, nice=5):
        """Start another stage in its own process, logging to `stage`.log."""
        command = ["nice", "-n", str(nice), sys.executable, "-m", "training", stage, "--recipe", self.name, "--out", str(self.folder),
                   "--seed", str(self.seed), "--device", self.device, "--minutes", str(self.minutes), *extra]
        with open(self.folder / f"{stage}.log", "a") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | ALLOCATOR, cwd=Path(__file__).parent.parent)

    def pool(self, worker=None):
        """Render the geometry pool; without a worker number, with one process per worker of the recipe."""
        pool = Pool.create(self.folder / "pool", self.recipe.pool_views, self.recipe.view_size)
        workers = self.recipe.pool_workers
        others = [self.start("pool", "--worker", str(i), nice=0) for i in range(1, workers)] if worker is None else []
        pool.fill(self.seed, worker or 0, workers, self.device, self.recipe.held_out_views)
        for other in others:
            if other.wait():
                raise RuntimeError(f"a pool worker failed, see {self.folder / 'pool.log'}")
        log(f"pool of {int(pool.ready.sum())} views")

    def all(self):
        """The whole recipe."""
        self.pool()
        self.fit_codec()
        decoder = self.start("decoder")
        self.denoise()
        decoder.wait()
        self.export()
        self.sheet()

    def open_pool(self):
        return Pool(self.folder / "pool")

    def fit_codec(self):
        """The closed-form codec, from the first rendered views; an existing one is kept, latents depend on it."""
        if (self.folder / "codec").exists():
            return
        codec = fit(self.recipe, self.open_pool(), self.seed, self.device)
        export.replace_by(self.folder / "codec", codec.save_pretrained)
        log(f"codec {quality(codec, self.recipe, self.open_pool())}")

    def refine_codec(self):
        """Train the codec's decoder; latents stay the same, so this may run beside the denoiser."""
        codec, pool = self.codec(), self.open_pool()
        before = quality(codec, self.recipe, pool)
        train_decoder(codec, self.recipe, pool, self.seed, self.recipe.codec_minutes, log)
        after = quality(codec, self.recipe, pool)
        log(f"decoder before {before} after {after}")
        if after["psnr_refined"] > before["psnr_refined"]:
            export.replace_by(self.folder / "codec", codec.save_pretrained)
            (self.folder / "codec_quality.json").write_text(json.dumps(after))

    def codec(self):
        return LinearPatchCodec.from_pretrained(self.folder / "codec").to(self.device)

    def paint(self):
        """Paint until the process that asked for it is gone."""
        parent = os.getppid()
        tokenizer = build_tokenizer(every_word(), self.recipe.text_length)
        run_painter(self.recipe, self.open_pool(), self.codec(), tokenizer, self.folder / "ring", self.seed,
                    lambda: os.getppid() == parent, log)

    def denoise(self):
        """Train, with a painter beside; exports and sheets are made by other processes on the way."""
        forget_other_words(self.folder / "ring")
        painter = self.start("paint", nice=10)
        try:
            full, half = create_rings(self.recipe, self.folder / "ring")
            while len(full) < min(FIRST_VIEWS, full.capacity) or not len(half):
                if painter.poll() is not None:
                    raise RuntimeError(f"the painter stopped, see {self.folder / 'paint.log'}")
                time.sleep(0.2)
            batches = Batches(self.recipe, self.open_pool(), full, half, self.device)
            networks = build_networks(self.recipe, self.seed)
            before = []
            if self.start_from and not (self.folder / "checkpoint").exists():
                before = checkpoint.history(self.start_from)
                log(f"{checkpoint.adopt(networks, self.start_from):.1%} of the weights are those of {self.start_from}")
            for module in networks.modules.values():
                module.to(self.device, memory_format=torch.channels_last).train()
            every = [(EXPORT_EVERY, "export"), (SHEET_EVERY, "sheet")]
            train(networks, batches, self.recipe, self.seed, self.folder / "checkpoint", self.minutes, every, self.start, log, before)
        finally:
            painter.terminate()
            painter.wait()

    def trained(self):
        """The averaged networks of the last checkpoint and its facts."""
        networks = average_of(build_networks(self.recipe, self.seed))
        checkpoint.load_weights(networks, self.folder / "checkpoint" / "ema.safetensors")
        return networks, json.loads((self.folder / "checkpoint" / "facts.json").read_text())

    def export(self):
        """Write the averaged weights of the last checkpoint to `swatch`."""
        networks, facts = self.trained()
        facts = dict(recipe=self.name, device=self.device, parameters={k: sum(p.numel() for p in m.parameters()) for k, m in networks.modules.items()}) | facts
        export.export(networks, self.codec(), self.recipe, facts, self.folder / "swatch")
        log(f"exported iteration {facts['iteration']}")

    def sheet(self):
        """Sample sheets and colour metrics of the exported model into `samples`."""
        swatch, pool, samples = Swatch.load(self.folder / "swatch", self.device), self.open_pool(), self.folder / "samples"
        samples.mkdir(exist_ok=True)
        facts = json.loads((self.folder / "swatch" / "swatch.json").read_text())["training"]
        name = f"{int(facts['seconds'] // 60):03d}min"
        evaluation.sheet(swatch, pool, self.recipe, samples / f"{name}.png")
        result = evaluation.metrics(swatch, pool, self.recipe)
        with open(samples / "metrics.jsonl", "a") as file:
            file.write(json.dumps(dict(minutes=round(facts["seconds"] / 60, 1), iteration=facts["iteration"]) | result) + "\n")
        log(f"{name} {result}")


def forget_other_words(ring):
    """Painted views hold token numbers: those made with another vocabulary are thrown away."""
    words, path = json.dumps(every_word()), ring / "words.json"
    if ring.exists() and (not path.exists() or path.read_text() != words):
        shutil.rmtree(ring)
    ring.mkdir(parents=True, exist_ok=True)
    path.write_text(words)
