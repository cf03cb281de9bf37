# SPDX-License-Identifier: Apache-2.0
"""The model in the panel: what is offered, what its licence says, whether it is here, getting it; and files in settings."""

import json
import struct
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest
from conftest import TESTS, job_record, last_job

ID = "stabilityai/sdxl-turbo"

SCRIPT = """
import sys, time
assert sys.argv[1:3] == ["models", "add"], sys.argv
sys.stderr.write("Fetching 9 files:  12%|#\\rFetching 9 files:  67%|###")
sys.stderr.flush()
time.sleep(1.0)
if "turbo" in sys.argv[3]:
    sys.stderr.write('\\nModel "x" is gated.\\nAccept its terms first.\\n')
    sys.exit(2)
print("\\nwhole.")
"""


def texts(log):
    return " ".join(str(text) for name, text in log if name in ("label", "progress"))


def names(log, kind):
    return [name for what, name in log if what == kind]


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty hub cache; `cache(id)` puts a model into it, at the revision that is pinned."""
    from bl_ext.tweeddev.tweed import models
    from bl_ext.tweeddev.tweed.jobs.catalogue import entry

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    models.forget_states()

    def put(name, revision="", file="unet/diffusion_pytorch_model.safetensors"):
        known = entry(name)
        revision = revision or (known.revision if known else "") or "main"
        path = tmp_path / "hub" / f"models--{name.replace('/', '--')}" / "snapshots" / revision / file
        path.parent.mkdir(parents=True)
        path.write_bytes(b"weights")
        models.forget_states()
        return path

    yield put
    models.forget_states()


@pytest.fixture
def panel():
    from bl_ext.tweeddev.tweed import panels, subpanels

    return [*panels.CLASSES, subpanels.TWEED_PT_model]


def test_every_model_of_the_catalogue_is_offered_and_found_by_its_words():
    from bl_ext.tweeddev.tweed import properties
    from bl_ext.tweeddev.tweed.jobs.catalogue import CATALOGUE

    search = properties._search("model")
    assert [name for name, _ in search(None, None, "")] == [e.name for e in CATALOGUE if e.role == "model"]
    assert [name for name, _ in search(None, None, "flux depth")] == ["black-forest-labs/FLUX.1-Depth-dev"]
    assert len(search(None, None, "/my/own/folder")) > 3, "what is no catalogue name is not refused"
    group = bpy.context.scene.tweed
    group.model = "/my/own/folder"
    assert group.model == "/my/own/folder"


def test_loras_are_offered_behind_those_that_stand_there():
    from bl_ext.tweeddev.tweed import properties
    from bl_ext.tweeddev.tweed.jobs.catalogue import CATALOGUE

    search, known = properties._search("lora"), [e.name for e in CATALOGUE if e.role == "lora"]
    assert [name for name, _ in search(None, None, "")] == known and "ByteDance/Hyper-SD" in known
    assert [name for name, _ in search(None, None, "hyper")] == ["ByteDance/Hyper-SD"]
    before = "/my/rust.safetensors:0.5, //b.safetensors"
    assert [name for name, _ in search(None, None, f"{before}, hyper")] == [f"{before}, ByteDance/Hyper-SD"]
    assert [name for name, _ in search(None, None, f"{before},")] == [f"{before}, {name}" for name in known]
    group = bpy.context.scene.tweed
    group.lora = f"{before}, ByteDance/Hyper-SD:0.8"
    assert group.lora == f"{before}, ByteDance/Hyper-SD:0.8", "what is typed is taken as it is"


def test_a_lora_by_name_goes_into_the_job_as_it_is(tmp_path, cube):
    from bl_ext.tweeddev.tweed import paths

    text = "latent-consistency/lcm-lora-sdv1-5@main:0.5, ByteDance/Hyper-SD/Hyper-SD15-8steps-lora.safetensors:1"
    assert paths.absolute({"lora": text})["lora"] == text


def test_licence_memory_and_absence_are_said_and_generate_waits(panel, draw, cache):
    group = bpy.context.scene.tweed
    group.prompt, group.model = "bricks", ID
    log = draw(panel)
    assert "Stability AI Non-Commercial: no commercial use." in texts(log)
    assert "about 10 GB of graphics memory" in texts(log)
    assert f"{ID} (6.9 GB) is not on this machine" in texts(log) and f"models add {ID}" in texts(log)
    assert ("enabled", False) in log and "tweed.model_add" in names(log, "operator")
    cache(ID)
    log = draw(panel)
    assert "not on this machine" not in texts(log) and ("enabled", False) not in log
    assert "tweed.model_add" not in names(log, "operator")


def test_a_part_behind_the_plus_sign_and_a_stopped_download(panel, draw, cache):
    group = bpy.context.scene.tweed
    cache(ID)
    group.prompt, group.model = "bricks", f"{ID}+xinsir/controlnet-union-sdxl-1.0"
    said = texts(draw(panel)).replace(" ", "")  # a long name is broken over lines
    assert "xinsir/controlnet-union-sdxl-1.0(2.5GB)isnotonthismachine" in said
    group.model = f"{ID}+none"
    assert "not on this machine" not in texts(draw(panel))
    blob = cache("x/y").parents[3] / "blobs" / "abc.incomplete"
    blob.parent.mkdir()
    blob.write_bytes(b"")
    group.model = "x/y"
    assert "x/y was not downloaded to its end" in texts(draw(panel))


def test_a_pinned_revision_is_the_one_that_counts(cache):
    from bl_ext.tweeddev.tweed import models
    from bl_ext.tweeddev.tweed.jobs.catalogue import entry

    name = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    cache(name, "0123")
    assert models.state(name) == "absent" and models.state(f"{name}@0123") == "here"
    cache(name, entry(name).revision)
    assert models.state(name) == "here"


def test_a_folder_that_is_not_there(panel, draw, tmp_path):
    group = bpy.context.scene.tweed
    group.prompt, group.model = "bricks", str(tmp_path / "none")
    log = draw(panel)
    said = texts(log).replace(" ", "")
    assert f"Thereisnomodel'{tmp_path / 'none'}'" in said and "tweed.model_add" not in names(log, "operator")
    (tmp_path / "none").mkdir()
    from bl_ext.tweeddev.tweed import models

    models.forget_states()
    assert "There is no model" not in texts(draw(panel))
    group.model = "//mine"
    assert "has not been saved" in texts(draw(panel))


def test_what_suits_a_model_is_offered_and_set(panel, draw, cache):
    group = bpy.context.scene.tweed
    group.model = ID
    assert "works best with guidance 1.0, schedule trailing, steps 4, view_size 512" in texts(draw(panel))
    bpy.ops.tweed.suit_model()
    assert (group.guidance, group.schedule, group.steps, group.view_size) == (1.0, "trailing", 4, 512)
    assert "works best" not in texts(draw(panel))


def test_what_is_added_is_offered_for_download_and_what_suits_it(panel, draw, cache):
    """A LoRA by name and the usual style adapter with its image encoder, one after the other."""
    flux, lora = "black-forest-labs/FLUX.1-dev", "latent-consistency/lcm-lora-sdv1-5"
    group = bpy.context.scene.tweed
    cache("stable-diffusion-v1-5/stable-diffusion-v1-5")
    group.model, group.lora = "stable-diffusion-v1-5/stable-diffusion-v1-5", f"/a.safetensors, {lora}:0.8"
    log = draw(panel)
    assert f"{lora}(0.14GB)isnotonthismachine" in texts(log).replace(" ", "")  # a long name is broken over lines
    assert "tweed.model_add" in names(log, "operator")
    assert "works best with schedule lcm, sampler lcm, steps 6, guidance 1.5" in texts(log)
    bpy.ops.tweed.suit_model()
    assert (group.schedule, group.sampler, group.steps, group.guidance) == ("lcm", "lcm", 6, 1.5)
    cache(lora, file="pytorch_lora_weights.safetensors")
    assert "tweed.model_add" not in names(draw(panel), "operator")
    cache(flux, file="vae/diffusion_pytorch_model.safetensors")
    group.model, group.lora, group.style_image = flux, "", "/some/picture.png"
    for name, size in (("XLabs-AI/flux-ip-adapter", 0.98), ("openai/clip-vit-large-patch14", 1.71)):
        log = draw(panel)
        assert f"{name}({size}GB)isnotonthismachine" in texts(log).replace(" ", "")
        assert "tweed.model_add" in names(log, "operator")
        cache(name, file="model.safetensors")
    assert "tweed.model_add" not in names(draw(panel), "operator")


def test_swatch_takes_no_style_picture(panel, draw):
    bpy.context.scene.tweed.style_image = "/some/picture.png"
    assert "swatch takes no style picture" in texts(draw(panel))
    for name in ("black-forest-labs/FLUX.1-dev", "stabilityai/stable-diffusion-3.5-large", ID):
        bpy.context.scene.tweed.model = name
        assert "takes no style picture" not in texts(draw(panel)), name


# ---- downloads


@pytest.fixture
def downloading(monkeypatch, tmp_path, pump):
    """An engine whose `models add` is the script above."""
    from bl_ext.tweeddev.tweed import session

    session.stop_engine()
    root = tmp_path / "root"
    (root / "engine").mkdir(parents=True)
    (root / "engine" / "__init__.py").write_text("")
    (root / "engine" / "__main__.py").write_text(SCRIPT, "utf-8")
    monkeypatch.setenv("TWEED_ENGINE_ROOT", str(root))
    yield session
    session.stop_download()


def test_a_download_shows_how_far_it_is_and_ends(downloading, panel, draw, pump, cache):
    bpy.ops.tweed.model_add(name="x/fine")
    assert not bpy.ops.tweed.model_add.poll()
    pump.turn(until=lambda: downloading.now.download and downloading.now.download.percent == 67)
    assert "Downloading x/fine" in texts(draw(panel)) and "tweed.model_add_stop" in names(draw(panel), "operator")
    pump.turn()
    assert downloading.now.download is None and downloading.now.outcome.message == "x/fine is on this machine now."


def test_a_download_that_fails_says_why(downloading, panel, draw, pump, cache):
    bpy.ops.tweed.model_add(name=ID)
    pump.turn()
    assert "is gated. Accept its terms first." in texts(draw(panel)) and downloading.now.download is None


def test_a_download_can_be_stopped_while_a_texture_is_made(downloading, pump, cache):
    bpy.ops.tweed.model_add(name="x/fine")
    process = downloading.now.download.process
    bpy.ops.tweed.model_add_stop()
    assert process.wait(10) != 0 and downloading.now.download is None
    assert not bpy.ops.tweed.model_add_stop.poll()


def test_offline_is_respected(monkeypatch, unchanged, cold):
    """By the download, and by an engine that is started while Blender is to stay offline."""
    from bl_ext.tweeddev.tweed import client, session

    assert not bpy.app.online_access, "factory settings"
    with unchanged("stay offline", "models import"):
        bpy.ops.tweed.model_add(name=ID)
    seen = []
    popen = client.subprocess.Popen
    monkeypatch.setattr(client.subprocess, "Popen", lambda *a, **k: seen.append(k["env"]) or popen(*a, **k))
    session.engine().start()
    assert seen[0]["HF_HUB_OFFLINE"] == "1"


def test_what_is_no_id_is_not_downloaded(unchanged):
    with unchanged("is no id of the hub"):
        bpy.ops.tweed.model_add(name="/etc")
    with unchanged("is on this machine"):
        bpy.ops.tweed.model_add()


# ---- files in settings


def test_every_setting_that_names_a_file_is_known():
    """A new text setting belongs to one side or the other."""
    from bl_ext.tweeddev.tweed import paths
    from bl_ext.tweeddev.tweed.jobs.settings import SETTINGS

    words = {"prompt", "avoid", "instruction", "control", "region_mask", "view_prompts", "view_avoids", "skip_views", "slots", "uv_map"}  # the mask is the name of an image in the file
    text = {name for name, setting in SETTINGS.items() if setting.type is str and not setting.choices}
    assert text == words | {*paths.PLAIN, *paths.JOINED, *paths.WEIGHTED}


def test_paths_beside_the_blend_become_absolute_in_the_job(tmp_path, cube):
    for name in ("own model", "net", "vae"):
        (tmp_path / name).mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    group = bpy.context.scene.tweed
    group.model, group.vae, group.lora = "//own model+//net", "//vae", "//a.safetensors:0.5, /b.safetensors"
    bpy.ops.tweed.generate(prompt="x", texture_size=64, objects="Cube")
    settings = job_record(tmp_path / "jobs")["settings"]
    assert settings["model"] == f"{tmp_path / 'own model'}+{tmp_path / 'net'}"
    assert settings["vae"] == str(tmp_path / "vae")
    assert settings["lora"] == f"{tmp_path / 'a.safetensors'}:0.5, /b.safetensors:1"
    assert group.vae == "//vae", "the panel keeps what was typed"


def test_relative_paths_are_those_of_the_command_line_and_names_stay(tmp_path, monkeypatch):
    from bl_ext.tweeddev.tweed import paths

    monkeypatch.chdir(tmp_path)
    for name in ("swatch", "stuff"):
        (tmp_path / name).mkdir()
    found = paths.absolute({"model": "swatch", "vae": "stuff", "style_adapter": "auto", "steps": 3})
    assert found == {"model": "swatch", "vae": str(tmp_path / "stuff"), "style_adapter": "auto", "steps": 3}


def test_a_path_beside_an_unsaved_file_is_refused(unchanged):
    with unchanged("//vae (vae)", "Save the file"):
        bpy.ops.tweed.generate(prompt="x", vae="//vae", objects="Cube")
    with unchanged("Save the file"):
        bpy.ops.tweed.queue_add(prompt="x", vae="//vae", objects="Cube")


def picture(path: Path, width, height, kind="PNG"):
    image = bpy.data.images.new("made", width, height)
    values = np.ones((height, width, 4), np.float32)
    values[: height // 2, :, 1:3] = 0  # the lower half is red
    image.pixels.foreach_set(values.ravel())
    image.filepath_raw, image.file_format = str(path), kind
    image.save()
    bpy.data.images.remove(image)


def test_a_small_png_is_copied_as_it_is(tmp_path):
    picture(tmp_path / "style.png", 40, 30)
    bpy.ops.tweed.generate(prompt="x", texture_size=64, objects="Cube", style_image=str(tmp_path / "style.png"))
    folder = last_job(tmp_path / "jobs")
    record = json.loads((folder / "job.json").read_text("utf-8"))
    assert record["inputs"] == {"style": "inputs/style.png"}
    assert (folder / "inputs/style.png").read_bytes() == (tmp_path / "style.png").read_bytes()
    assert record["settings"]["style_image"] == str(tmp_path / "style.png"), "the settings say where it came from"


def test_other_formats_and_sizes_are_turned_into_a_moderate_png(tmp_path, unchanged):
    from snapshot import difference, scene_snapshot

    from bl_ext.tweeddev.tweed import paths

    picture(tmp_path / "style.jpg", 2048, 512, "JPEG")
    before = scene_snapshot()
    data = paths.style_png(str(tmp_path / "style.jpg"))
    assert difference(before, scene_snapshot()) == []
    assert struct.unpack_from(">2I", data, 16) == (1024, 256)
    (tmp_path / "other.png").write_bytes(data)
    image = bpy.data.images.load(str(tmp_path / "other.png"))
    low, high = np.array(image.pixels[:3]), np.array(image.pixels[-image.channels :][:3])
    assert np.allclose(low, (1, 0, 0), atol=0.03) and np.allclose(high, 1, atol=0.03)


def test_a_style_image_that_is_missing_or_no_picture(tmp_path, unchanged):
    with unchanged("There is no style image"):
        bpy.ops.tweed.generate(prompt="x", objects="Cube", style_image=str(tmp_path / "none.png"))
    (tmp_path / "words.png").write_text("words")
    with unchanged("words.png"):
        bpy.ops.tweed.generate(prompt="x", objects="Cube", style_image=str(tmp_path / "words.png"))


def test_choosing_files(unchanged):
    group = bpy.context.scene.tweed
    bpy.ops.tweed.pick_path(setting="model", directory="/models/mine/")
    bpy.ops.tweed.pick_path(setting="lora", filepath="/a.safetensors")
    bpy.ops.tweed.pick_path(setting="lora", filepath="/b.safetensors")
    assert group.model == "/models/mine" and group.lora == "/a.safetensors, /b.safetensors"
    with unchanged("names no file"):
        bpy.ops.tweed.pick_path(setting="prompt", filepath="/a")


def test_the_bundled_models_words_are_told(monkeypatch, cold):
    """The list is that of the model's own folder in the engine; a model of any words says so."""
    from bl_ext.tweeddev.tweed import models

    monkeypatch.setenv("TWEED_ENGINE_ROOT", str(TESTS.parent))
    monkeypatch.setenv("TWEED_ENGINE_PYTHON", sys.executable)
    words = models.words("swatch", TESTS.parent)
    said = json.loads((TESTS.parent / "engine/models/swatch/swatch.json").read_text("utf-8"))["words"]
    assert len(words["Materials"]) == len(said["materials"]) >= 50 and len(words["Colors"]) >= 24
    assert "brick" in words["Materials"] and "red" in words["Colors"] and "mossy" in words["Wear and weather"]
    assert bpy.ops.tweed.model_words() == {"FINISHED"}
    assert models.words("someone/model", TESTS.parent) == {}
    bpy.context.scene.tweed.model = "someone/model"
    with pytest.raises(RuntimeError, match="no list of words"):
        bpy.ops.tweed.model_words()
