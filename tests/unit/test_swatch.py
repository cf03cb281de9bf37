# SPDX-License-Identifier: Apache-2.0
"""The bundled model as it is committed: whole, offline, and doing what it is told. A broken or swapped file fails here."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blender_addon.jobs.rigs import build_rig
from engine.methods.synchronized import run
from engine.models import BUNDLED, load_model
from engine.models.folders import ModelFolder, verify_manifest
from engine.raster import pick_rasterizer
from engine.raster.depth import control_depth
from engine.raster.gbuffer import render_gbuffer
from engine.sampling import pick_sampler, sample, start
from engine.spaces.uv import UVTexture
from blender_addon.jobs.settings import resolve
from tests.shapes import torus
from engine.mesh import Mesh, corner_normals

COLOURS = {"red plastic": (0.72, 0.10, 0.09), "blue plastic": (0.12, 0.26, 0.75), "green plastic": (0.16, 0.52, 0.16),
           "yellow plastic": (0.93, 0.80, 0.15)}  # fmt: skip
STEPS = 8


@pytest.fixture(scope="module")
def swatch():
    return load_model("swatch", torch.device("cpu"))


@pytest.fixture(scope="module")
def ring():
    made = torus()
    positions, triangles = np.asarray(made.positions, np.float32), np.asarray(made.triangles, np.int32)
    return Mesh(positions, triangles, np.asarray(made.uvs, np.float32), np.asarray(made.triangle_uvs, np.int32),
                corner_normals(positions, triangles))


def depth_and_mask(mesh, cameras, size):
    buffer = render_gbuffer(pick_rasterizer("numba"), mesh, cameras, size, size)
    return torch.from_numpy(control_depth(buffer))[:, None], torch.from_numpy(buffer.mask)


def independent(model, prompts, control, seed=3):
    """One view per prompt, each denoised on its own, RGB 0..1."""
    denoiser = model.denoiser(prompts, [""] * len(prompts), control, model.default_guidance, 0.5)
    levels, side = model.levels(STEPS), control.shape[-1] // model.factor
    noise = torch.randn((1, model.channels, side, side), generator=torch.Generator().manual_seed(seed))
    x0 = sample(denoiser, start(noise.repeat(len(prompts), 1, 1, 1), levels[0]), levels, pick_sampler("ddim"), None, 0.0)
    return (model.decode(x0).clamp(-1, 1) + 1) / 2


def test_every_file_is_the_one_that_was_committed():
    verify_manifest(ModelFolder(BUNDLED["swatch"], "swatch"), contents=True)


def test_it_is_small_and_in_shards_that_travel():
    files = [path for path in BUNDLED["swatch"].rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 45e6
    assert max(path.stat().st_size for path in files) <= 15e6
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".ckpt", ".pkl")]


def test_decoding_what_was_encoded_is_the_same_latents(swatch):
    latents = torch.randn((1, swatch.channels, 8, 8), generator=torch.Generator().manual_seed(0))
    for refine in (False, True):
        assert torch.allclose(swatch.encode(swatch.decode(latents, refine=refine)), latents, atol=1e-3)


def test_it_follows_the_prompts_colour_and_the_depth(swatch, ring):
    """The mean colour of the object is nearer to the colour asked for than to any other, in every view."""
    cameras = build_rig("ring", 1, ring.positions) * len(COLOURS)
    control, mask = depth_and_mask(ring, cameras, swatch.view_size)
    images = independent(swatch, list(COLOURS), control)
    wanted = torch.tensor(list(COLOURS.values()))
    for number, (image, inside) in enumerate(zip(images, mask, strict=True)):
        distance = (wanted - image[:, inside].mean(1)).norm(dim=1)
        assert int(distance.argmin()) == number, (list(COLOURS)[number], image[:, inside].mean(1))
        contrast = (image - 0.5).norm(dim=0)
        assert contrast[inside].mean() > 2 * contrast[~inside].mean(), "the silhouette is not that of the depth image"


def test_unknown_words_are_named_and_do_no_harm(swatch):
    assert "zyzzyva" in " ".join(swatch.prompt_notes("red zyzzyva brick"))
    assert swatch.prompt_notes("red brick") == []
    assert torch.isfinite(swatch.text_features(["zyzzyva ünïcode 漢字 🙂"])).all()


def test_views_denoised_together_agree_and_alone_do_not(swatch, ring):
    cameras = build_rig("ring", 4, ring.positions)
    rasterizer, size = pick_rasterizer("numba"), swatch.view_size
    control, _ = depth_and_mask(ring, cameras, size)
    pixel = UVTexture(ring, cameras, rasterizer, size, channels=3)
    latent = UVTexture(ring, cameras, rasterizer, size // swatch.factor, channels=swatch.channels)
    denoiser = swatch.denoiser(["grey cobblestone"] * 4, [""] * 4, control, swatch.default_guidance, 0.5)

    def disagreement(sync_until):
        settings = resolve({"prompt": "grey cobblestone", "sync_until": sync_until})
        x0 = run(denoiser, latent, swatch.levels(STEPS), settings, torch.Generator().manual_seed(1), swatch, pixel_space=pixel)
        views = swatch.decode(x0, refine=False)
        pixel.sharpen(1.0)
        return float(((views - pixel.sync(views)) * pixel.mask).square().mean())

    assert disagreement(1.0) < 0.5 * disagreement(0.0)
