# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.card [FAMILY ...]`: everything that only a graphics card can answer, in one command.

For Stable Diffusion 1.5 (768 px, 10 views) and SDXL (1024 px, 8 views), 30 steps, at full size with random weights, which
cost what trained ones do and need no download: the whole job over diffusers' own batched pipeline on the same views, the
share of the card's matrix throughput, memory against views, the smallest card each quality fits (the allocator is
capped), compiling, and the first step cold and warm. About 25 GB of disk and 10 minutes on a data-centre card.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from blender_addon.jobs.errors import OutOfMemory, TweedError
from blender_addon.jobs.folder import MeshArrays, write_job
from blender_addon.jobs.rigs import build_rig
from blender_addon.jobs.settings import QUALITIES, resolve
from engine.device import describe, dtype_for, pick_device
from engine.progress import Progress
from engine.run import run_job
from engine.warm import Models
from tests.full_families import CONTROLNETS, MODELS
from tests.tiny_families import XL_SCHEDULER, write_pipeline
from tests.tiny_models import SD15_SCHEDULER, tokenizer

from .keep import keep
from .shapes import bumpy_torus

ROUNDS = 3
CAPS = (4, 6, 8, 10, 12, 16, 24, 40, 80)  # GB of the cards that artists have
PROMPT = "a red brick wall"


@dataclass(frozen=True)
class Family:
    """A full-size model of random weights, and the job that is measured with it."""

    model: str
    control: str
    pipeline: str  # of diffusers, with a ControlNet
    scheduler: dict
    side: int
    views: int
    tokenizers: tuple[str, ...]
    steps: int = 30


FAMILIES = {
    "sd15": Family("stable-diffusion-v1-5/stable-diffusion-v1-5", "lllyasviel/control_v11f1p_sd15_depth",
                   "StableDiffusionControlNetPipeline", SD15_SCHEDULER, 768, 10, ("tokenizer",)),
    "sdxl": Family("stabilityai/stable-diffusion-xl-base-1.0", "diffusers/controlnet-depth-sdxl-1.0",
                   "StableDiffusionXLControlNetPipeline", XL_SCHEDULER, 1024, 8, ("tokenizer", "tokenizer_2")),
}  # fmt: skip


def write_family(folder: Path, family: Family, device: torch.device) -> Path:
    """A pipeline's folder in half precision, drawn on the device."""
    torch.manual_seed(0)
    parts: dict[str, object] = {}
    with torch.device(device):
        for name, make in {**MODELS[family.model], "controlnet": CONTROLNETS[family.control]}.items():
            parts[name] = _drawn(make).half()
    for name in family.tokenizers:
        parts[name] = tokenizer()
        parts[name].model_max_length = 77  # as published: it is how many tokens the networks are given
    absent = {name: [None, None] for name in ("feature_extractor", "safety_checker", "image_encoder")}
    return write_pipeline(folder, family.pipeline, parts, family.scheduler, **absent, requires_safety_checker=False)


def _drawn(make: Callable[[], nn.Module]) -> nn.Module:
    return make().eval().requires_grad_(False)


class Bench:
    """One family on one device: its folder, its job, and what was measured."""

    def __init__(self, family: Family, model: Path, device: torch.device, work: Path, texture: int = 1024):
        self.family, self.model, self.device, self.work = family, model, device, work
        self.models, self.texture = Models(), texture
        torus = bumpy_torus(texture // 5, texture // 10)
        self.arrays = MeshArrays(torus.positions, torus.triangles, torus.uvs, torus.triangle_uvs, None, None, None)

    def job(self, **settings) -> dict:
        """The report of a job with these settings."""
        from blender_addon.jobs.folder import Job, new_job_id

        given = resolve({"prompt": PROMPT, "model": str(self.model), "device": _name(self.device), "seed": 1,
                         "views": self.family.views, "steps": self.family.steps, "view_size": self.family.side,
                         "texture_size": self.texture, "contact_sheet": False, **settings})  # fmt: skip
        cameras = build_rig("auto", given["views"], self.arrays.positions)
        job = Job(new_job_id(), given, self.arrays, cameras, [{"name": "Torus"}], {})
        return run_job(write_job(self.work, job), Progress([]), self.models)["report"]

    def whole_job(self) -> float:
        """Seconds of a job with its model in memory, from the views' rasterizing to the texture's file."""
        seconds = self.job()["seconds"]
        return sum(seconds.values()) - seconds["load"]

    def plain(self, pipeline) -> float:
        """Seconds of diffusers' own pipeline: the same number of views and steps in one batch, to latents."""
        side, views = self.family.side, self.family.views
        picture = torch.rand(views, 3, side, side, device=self.device, dtype=pipeline.dtype)
        _wait(self.device)
        began = time.perf_counter()
        with torch.no_grad():
            pipeline([PROMPT] * views, image=picture, negative_prompt=[""] * views, num_inference_steps=self.family.steps,
                     height=side, width=side, guidance_scale=7.5, output_type="latent")  # fmt: skip
        _wait(self.device)
        return time.perf_counter() - began

    def over_plain(self) -> dict:
        import diffusers

        whole, rounds = [], []
        self.whole_job()  # the first compiles kernels and fills caches
        for _ in range(ROUNDS):
            whole.append(self.whole_job())
        loaded = self.models
        self.models = Models()
        loaded.unload()
        pipeline = getattr(diffusers, self.family.pipeline).from_pretrained(self.model, torch_dtype=dtype_for(self.device))
        pipeline = pipeline.to(self.device)
        pipeline.set_progress_bar_config(disable=True)
        self.plain(pipeline)
        for _ in range(ROUNDS):
            rounds.append(self.plain(pipeline))
        del pipeline
        _free(self.device)
        ours, theirs = sorted(whole)[ROUNDS // 2], sorted(rounds)[ROUNDS // 2]
        return {"whole_job_s": round(ours, 3), "plain_s": round(theirs, 3), "ratio": round(ours / theirs, 3)}

    def throughput(self, peak: float) -> dict:
        """FLOPs of the networks in the denoising loop over its seconds, as a share of `peak` FLOP/s."""
        steps = 4
        with FlopCounterMode(display=False) as counter:
            self.job(steps=steps)
            many = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            self.job(steps=steps // 2)
            few = counter.get_total_flops()
        a_step = (many - few) / (steps - steps // 2)
        seconds = self.job()["seconds"]["denoise"]
        reached = a_step * self.family.steps / seconds
        return {"tflop_a_step": round(a_step / 1e12, 3), "reached_tflops": round(reached / 1e12, 1),
                "peak_tflops": round(peak / 1e12, 1), "share": round(reached / peak, 3)}  # fmt: skip

    def memory(self) -> dict[str, float]:
        """Peak GB against views and side."""
        found = {}
        for views in (self.family.views // 2, self.family.views, 2 * self.family.views):
            report = self.job(views=views, steps=2)
            found[f"{views} views of {self.family.side}"] = report["memory_gb"].get("card", report["memory_gb"]["main"])
        return found

    def smallest(self) -> dict[str, object]:
        """GB of the smallest card that each quality fits: allocator and planner are told of no more."""
        found: dict[str, object] = {}
        for quality, sets in QUALITIES.items():
            found[quality] = None
            for cap in CAPS:
                if self._fits(cap, {**sets, "steps": 2}):
                    found[quality] = cap
                    break
        return found

    def _fits(self, cap: int, settings: dict) -> bool:
        self.models.unload()
        try:
            with capped(self.device, cap * 1e9):
                self.job(**settings)
        except OutOfMemory:
            return False
        except TweedError as error:
            if error.code == "device":
                return False
            raise
        finally:
            self.models.unload()
            _free(self.device)
        return True

    def compiling(self) -> dict[str, float]:
        """Seconds of the loop as it is and compiled, and of the first compiled loop with its warm-up."""
        plain = self.job()["seconds"]["denoise"]
        first = self.job(compile_model=True)["seconds"]["denoise"]
        second = self.job(compile_model=True)["seconds"]["denoise"]
        return {"eager_s": plain, "first_compiled_s": first, "compiled_s": second, "gain": round(plain / second, 3)}

    def starts(self) -> dict[str, float]:
        """Seconds from the beginning of a job to its first denoised step, with the model to be loaded and loaded."""
        found = {}
        self.models.unload()
        for name in ("cold", "warm"):
            seconds = self.job(steps=1)["seconds"]
            found[name] = round(sum(seconds[phase] for phase in ("load", "rasterize", "condition", "denoise")), 3)
        return found


@contextmanager
def capped(device: torch.device, size: float):
    """While this lasts, the card has `size` bytes: for torch's allocator, and for whoever asks what is free."""
    if device.type != "cuda":
        yield
        return
    total = torch.cuda.get_device_properties(device).total_memory
    share = min(1.0, size / total)
    ask = torch.cuda.mem_get_info

    def info(which=None):
        free, _ = ask(which)
        return max(0, min(free, int(size) - torch.cuda.memory_reserved(device))), int(size)

    with mock.patch.object(torch.cuda, "mem_get_info", info):
        torch.cuda.set_per_process_memory_fraction(share, device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)


def peak_throughput(device: torch.device, side: int = 8192, repeats: int = 20) -> float:
    """FLOP/s of a large product of random matrices in half precision."""
    kind = dtype_for(device)
    a, b = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    for _ in range(3):
        a @ b
    _wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        a @ b
    _wait(device)
    return 2 * side**3 * repeats / (time.perf_counter() - began)


def _name(device: torch.device) -> str:
    return device.type if device.index is None else str(device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


PARTS = ("over_plain", "throughput", "memory", "smallest", "compiling", "starts")


def measure(bench: Bench, parts=PARTS, peak_side: int = 8192) -> dict[str, object]:
    """What was found, by part; a part that fails says why and the others go on."""
    found: dict[str, object] = {}
    for part in parts:
        began = time.perf_counter()
        try:
            with torch.no_grad():
                given = (peak_throughput(bench.device, peak_side),) if part == "throughput" else ()
                found[part] = getattr(bench, part)(*given)
        except (TweedError, RuntimeError) as error:
            found[part] = f"failed: {' '.join(str(error).split())[:300]}"
        print(f"{part} ({time.perf_counter() - began:.0f} s): {json.dumps(found[part])}", flush=True)
    return found


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("families", nargs="*", choices=[[], *FAMILIES], default=[], help="default: all")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--work", type=Path, help="where the weights are written (default: a folder that is deleted)")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tweed-card-")))
        for name in options.families or FAMILIES:
            family, folder = FAMILIES[name], work / name
            print(f"{name} on {describe(device)}: writing random weights", flush=True)
            if not (folder / "model_index.json").is_file():
                write_family(folder, family, device)
            _free(device)
            found = measure(Bench(family, folder, device, work / "jobs"), options.parts)
            plain, reached = found.get("over_plain"), found.get("throughput")
            met = (isinstance(plain, dict) and plain["ratio"] <= 1.10
                   and isinstance(reached, dict) and reached["share"] >= 0.45)  # fmt: skip
            keep(f"card_{name}", f"{name} at full size with random weights, {family.views} views of {family.side} px, "
                 f"{family.steps} steps, on {describe(device)}", found,
                 "whole job at most 1.10 of plain denoising; at least 0.45 of peak", met)  # fmt: skip


if __name__ == "__main__":
    main()
