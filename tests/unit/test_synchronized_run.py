# SPDX-License-Identifier: Apache-2.0
"""The run as its callers see it: calls counted, previews shaped, cancelled, through pixels, bad names refused."""

import importlib
from pathlib import Path

import pytest
import torch

from blender_addon.jobs.errors import Cancelled, SettingsError
from engine.methods.cases import CASES, pick_case
from engine.methods import METHODS
from engine.methods.synchronized import Given, Known, denoise_together, run, wants_pixels
from engine.sampling import SAMPLERS, sample
from engine.schedule import levels_from_config
from engine.spaces.around import through_pixels
from tests.tasks import toy_task
from tests.toys import EXACT, SETTINGS, RandomDenoiser, gather_space, plane
from tests.unit.test_synchronized import VP, ZERO, normal, seeded

LEVELS = levels_from_config(ZERO, 6)


class Blocks:
    """A codec of 2x2 blocks: one channel of pixels <-> four of latents, by an orthonormal matrix (or a lossy one)."""

    def __init__(self, cheap: bool = True, kept: int = 4):
        self.cheap_codec = cheap
        self.basis = torch.linalg.qr(normal((4, 4), 11)).Q[:kept]
        self.calls = 0

    def encode(self, rgb):
        return torch.einsum("nphw,cp->nchw", torch.nn.functional.pixel_unshuffle(rgb, 2), self.basis)

    def decode(self, latents, refine=True):
        self.calls += 1
        blocks = torch.einsum("nchw,cp->nphw", latents, self.basis)
        return torch.nn.functional.pixel_shuffle(blocks, 2)


def spaces():
    """One circle of 24 by 2 texels in three crops, as pixels (1 channel) and as a space that gives latent noise."""
    index = (torch.arange(3)[:, None, None] * 8 + torch.arange(12)) % 24 + 24 * torch.arange(2)[:, None]
    pixels = gather_space(index, 48, channels=1)
    latent = gather_space((torch.arange(3)[:, None] * 4 + torch.arange(6))[:, None] % 12, 12, channels=4)
    return latent, pixels


@pytest.mark.parametrize("until", [0.5, 1.0])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("case", CASES)
def test_one_call_and_one_preview_per_step(case, sampler, until):
    calls, told = [], []

    def counting(x, level):
        calls.append((x.shape, level))
        return RandomDenoiser(2)(x, level)
    space = plane()
    space.mask = space.mask.clone()
    space.mask[:, :, 0] = 0.3
    settings = {**SETTINGS, "case": case, "sampler": sampler, "sync_until": until, "eta": 0.5}
    result = run(counting, space, LEVELS, settings, seeded(), on_step=lambda i, n, x0: told.append((i, n, x0.shape)))
    assert calls == [((4, 2, 5, 5), level) for level in LEVELS[:-1]]
    assert told == [(i, 6, (4, 2, 5, 5)) for i in range(1, 7)]
    assert result.shape == (4, 2, 5, 5) and result.isfinite().all()


@pytest.mark.parametrize("case", CASES)
def test_cancelling_stops_between_steps(case):
    def stop(i, n, x0):
        if i == 4:
            raise Cancelled
    calls = []
    with pytest.raises(Cancelled):
        run(lambda x, level: calls.append(1) or x, plane(), LEVELS, {**SETTINGS, "case": case}, seeded(), on_step=stop)
    assert len(calls) == 4


def test_pixels_in_which_nothing_disagrees_change_nothing():
    """x + E(D x) - E(D x), whatever the codec loses."""
    latents = normal((3, 4, 1, 6))
    for codec in (Blocks(), Blocks(kept=3)):
        kept = latents[:, : len(codec.basis)]
        torch.testing.assert_close(through_pixels(lambda images: images, codec)(kept), kept, rtol=0, atol=1e-15)


def test_a_linear_codec_makes_pixel_agreement_exact():
    """E D = 1 and D E = 1: agreeing through pixels is the pixel world's own run, seen through the codec."""
    latent, pixels = spaces()
    codec, network = Blocks(), RandomDenoiser(4)
    x = latent.project_noise(seeded(1))
    found = denoise_together(network, latent, LEVELS, SETTINGS, seeded(), given=Given((codec, pixels), x=x))
    assert codec.calls == 6

    def in_pixels(x, level):
        return codec.decode(network(codec.encode(x), level))
    expected = denoise_together(in_pixels, pixels, LEVELS, SETTINGS, seeded(), given=Given(x=codec.decode(x)))
    torch.testing.assert_close(codec.decode(found), expected, rtol=0, atol=1e-12)
    images = codec.decode(found)
    torch.testing.assert_close(pixels.sync(images), images, rtol=0, atol=1e-12)


def test_the_background_of_the_images_stays_in_pixel_agreement():
    latent, pixels = spaces()
    pixels.mask = torch.zeros_like(pixels.mask)
    x = latent.project_noise(seeded(1))
    found = denoise_together(RandomDenoiser(4), latent, LEVELS, SETTINGS, seeded(),
                             given=Given((Blocks(), pixels), x=x))
    torch.testing.assert_close(found, sample(RandomDenoiser(4), x, LEVELS), rtol=0, atol=1e-12)


def test_known_texels_in_pixels():
    latent, pixels = spaces()
    values, where = normal((1, 48), 5), torch.zeros(1, 48, dtype=torch.float64)
    where[:, 2:20] = 1
    codec = Blocks()
    found = denoise_together(RandomDenoiser(4), latent, LEVELS, SETTINGS, seeded(),
                             given=Given((codec, pixels), Known(values, where)))
    found = codec.decode(found)
    torch.testing.assert_close(pixels.merge(found)[:, 2:20], values[:, 2:20], rtol=0, atol=1e-12)


def test_when_pixels_are_used():
    cheap, dear = Blocks(cheap=True), Blocks(cheap=False)

    def wants(codec, space, case="instance-x0"):
        return wants_pixels({**SETTINGS, "sync_space": space, "case": case}, codec)
    assert wants(cheap, "auto") and wants(cheap, "pixel") and wants(dear, "pixel")
    assert not (wants(dear, "auto") or wants(cheap, "latent") or wants(None, "pixel"))
    assert wants(cheap, "pixel", "1") and wants(cheap, "pixel", "3")
    assert not any(wants(cheap, "auto", case) for case in "13456")
    for codec, case in ((dear, "1"), (dear, "3"), (cheap, "4"), (cheap, "5"), (cheap, "6")):
        with pytest.raises(SettingsError, match="sync_space") as caught:
            wants(codec, "pixel", case)
        assert caught.value.key == "sync_space"


def test_the_entry_goes_by_the_settings():
    """Crops that fall on whole blocks: an orthonormal codec makes agreeing in latents and in pixels the same."""
    latent, pixels = spaces()
    found = {}
    for name, settings, codec, calls in (
        ("asked for", {**SETTINGS, "sync_space": "pixel"}, Blocks(cheap=False), 6),
        ("cheap", {**SETTINGS, "sync_space": "auto"}, Blocks(), 6),
        ("dear", {**SETTINGS, "sync_space": "auto"}, Blocks(cheap=False), 0),
        ("latent", {**SETTINGS, "sync_space": "latent"}, Blocks(), 0),
    ):
        found[name] = run(RandomDenoiser(4), latent, LEVELS, settings, seeded(1), codec, pixel_space=pixels)
        assert codec.calls == calls, name
        torch.testing.assert_close(found[name], found["asked for"], rtol=0, atol=1e-12)


def test_pixels_need_a_space():
    with pytest.raises(ValueError, match="pixel_space"):
        run(RandomDenoiser(4), spaces()[0], LEVELS, {**SETTINGS, "sync_space": "pixel"}, seeded(), Blocks())


@pytest.mark.parametrize("case", CASES)
def test_fresh_noise_shared_on_an_exact_space_makes_stochastic_cases_one(case):
    """Drawn on the canonical image in every case; the order of draws is the same too."""
    space = EXACT["crops"]()
    for sampler in ("ddpm", "euler-ancestral", "tcd"):
        settings = {**SETTINGS, "sampler": sampler, "eta": 0.3}
        found = run(RandomDenoiser(2), space, levels_from_config(VP, 9), {**settings, "case": case}, seeded(4))
        expected = run(RandomDenoiser(2), space, levels_from_config(VP, 9), settings, seeded(4))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_cases_by_name_and_number():
    assert [pick_case(i).number for i in range(1, 7)] == [1, 2, 3, 4, 5, 6]
    assert all(pick_case(name) is pick_case(str(case.number)) for name, case in CASES.items())
    with pytest.raises(SettingsError, match="'7'") as caught:
        pick_case("7")
    assert caught.value.key == "case"


def test_the_method_on_the_page_works(tmp_path, monkeypatch):
    """docs/adding-a-method.md: its first listing is what it says, views that ignore each other."""
    page = Path(__file__).parents[2] / "docs" / "adding-a-method.md"
    listing = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    (tmp_path / "method_on_the_page.py").write_text(listing, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    method = importlib.import_module("method_on_the_page").METHOD
    task = toy_task(RandomDenoiser(3), plane(channels=3), seed=2, steps=4)
    found = method.paint(task)
    expected = METHODS["synchronized"].paint(toy_task(RandomDenoiser(3), plane(channels=3), 2, steps=4, sync_until=0.0))
    assert task.denoiser.count == [method.calls(task.settings, 4)]
    assert torch.equal(found, expected)


def test_names_are_those_of_the_settings():
    from blender_addon.jobs.settings import SETTINGS as schema
    assert set(schema["case"].choices) == set(CASES)
    assert set(schema["sampler"].choices) <= set(SAMPLERS)
    assert set(schema["sync_space"].choices) == {"auto", "latent", "pixel"}
    for name, value in SETTINGS.items():
        if name != "sync_space":
            assert schema[name].default == value, name
