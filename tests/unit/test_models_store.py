# SPDX-License-Identifier: Apache-2.0
"""The model manager against a hub that is a folder: nothing here opens a socket."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from blender_addon.jobs.catalogue import CATALOGUE, ROLES, entry, licence_line
from blender_addon.jobs.errors import ModelError, UserError
from engine.__main__ import main
from engine.models import FAMILIES, _multiview_file, load_model, store
from engine.models.hub import HUB_ID, PINNED, token
from engine.models.multiview import PUBLISHED
from tests.fake_hub import COMMIT, Hub
from tests.tiny_models import write_tiny_model

CPU = torch.device("cpu")
NAME = "org/tiny"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = write_tiny_model(tmp_path_factory.mktemp("hub") / "tiny", control=False)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


@pytest.fixture
def hub(published, tmp_path, monkeypatch):
    fake = Hub(published, tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return fake


def weights(name=NAME):
    return next(store.state_of(name).path.glob("unet/*.safetensors"))


def test_add_then_use_offline_then_remove(hub, capsys):
    assert main(["models", "add", NAME]) == 0
    said = capsys.readouterr().out
    assert "whole" in said and f"{NAME}@{COMMIT}" in said
    asked = len(hub.asked)
    model = load_model(f"{NAME}+none", CPU, torch.float32)
    assert len(hub.asked) == asked and model.info["revision"] == COMMIT and model.info["licence"] == "mit"
    assert main(["models", "verify", NAME]) == 0
    assert main(["models", "remove", NAME]) == 0
    assert store.state_of(NAME) is None and "free again" in capsys.readouterr().out
    assert main(["models", "remove", NAME]) != 0
    assert "not in the cache" in capsys.readouterr().err


def test_a_broken_download_is_named_and_continued(hub, capsys):
    hub.breaks_after = 4
    assert main(["models", "add", NAME]) != 0
    assert "connection lost" in capsys.readouterr().err
    state = store.state_of(NAME)
    assert any("not downloaded to its end" in fault for fault in state.faults)
    hub.breaks_after = None
    assert main(["models", "add", NAME]) == 0 and not store.state_of(NAME, contents=True).faults


@pytest.mark.parametrize("damage", ["byte", "short", "gone", "config"])
def test_what_is_damaged_is_named_and_repaired(hub, capsys, damage):
    main(["models", "add", NAME])
    path = weights()
    if damage == "config":
        path = path.parent / "config.json"
    blob = path.resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    if damage == "gone":
        blob.unlink()
    else:
        blob.write_bytes(bytes(content[:-9] if damage == "short" else content))
    capsys.readouterr()
    assert main(["models", "verify", NAME]) != 0
    assert path.name in capsys.readouterr().out
    assert main(["models", "add", NAME]) == 0
    assert "fetched again" in capsys.readouterr().err
    assert main(["models", "verify", NAME]) == 0
    load_model(f"{NAME}+none", CPU, torch.float32)


def test_no_room_is_said_before_anything_is_fetched(hub, monkeypatch, capsys):
    monkeypatch.setattr(store.shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
    assert main(["models", "add", NAME]) == 4
    assert "are free" in capsys.readouterr().err and store.state_of(NAME) is None


def test_gated_models_and_the_token(hub, monkeypatch, capsys):
    hub.gated = True
    monkeypatch.setattr("engine.models_command.download_size", lambda *what: 0)
    assert main(["models", "add", NAME]) != 0
    said = capsys.readouterr().err
    assert "gated" in said and "HF_TOKEN" in said
    calls = []
    ring = SimpleNamespace(
        get_password=lambda *asked: calls.append(asked) or "hf_secret", errors=SimpleNamespace(KeyringError=KeyError)
    )
    monkeypatch.setattr("engine.models.hub.importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr("engine.models.hub.importlib.import_module", lambda name: ring)
    assert token() == "hf_secret" and calls == [("tweed", "huggingface")]
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert token() is None  # huggingface_hub reads the variable itself


def test_a_folder_from_another_machine(published, hub, tmp_path, capsys):
    stick = shutil.copytree(published, tmp_path / "stick" / "My Model")
    (stick / "unet" / "old.bin").write_bytes(b"cos\nsystem\n")
    assert main(["models", "import", str(stick), "--name", "me/mine"]) == 0
    shutil.rmtree(stick)
    assert load_model("me/mine+none", CPU, torch.float32).name == "me/mine"
    assert not list(store.repository_folder("me/mine").rglob("*.bin")) and hub.asked == []
    assert main(["models", "verify", "me/mine"]) == 0


def test_a_cache_folder_keeps_its_name_and_revision(published, hub, tmp_path):
    main(["models", "add", NAME])
    stick = shutil.copytree(store.repository_folder(NAME), tmp_path / "stick" / "models--org--tiny")
    store.remove(NAME)
    found = store.import_folder(stick)
    assert (found.name, found.revision) == (NAME, COMMIT)
    catalogued = store.import_folder(published, "stabilityai/sdxl-turbo")
    assert len(catalogued.revision) == 40
    pinned, revision = next(iter(PINNED.items()))
    assert store.import_folder(published, pinned).revision == revision  # found again by the name that is pinned


def test_a_multi_view_adapter_by_its_id_and_from_a_stick(hub, tmp_path):
    """One repository holds files for several families: one comes, the other when it is needed, neither twice."""
    stick = tmp_path / "stick"
    stick.mkdir()
    for base in ("sdxl", "sd21"):
        save_file({base: torch.zeros(2)}, stick / f"mvadapter_tg2mv_{base}.safetensors")
    hub.folder = stick
    for base, asked in (("sdxl", 1), ("sdxl", 1), ("sd21", 2), ("sd21", 2)):
        folder, file = _multiview_file("org/views", base)
        assert (folder.path / file).exists() and file == f"mvadapter_tg2mv_{base}.safetensors"
        assert len(hub.asked) == asked
    found = store.import_folder(stick, PUBLISHED)  # no config.json: it is weights alone
    hub.asked.clear()
    folder, file = _multiview_file("auto", "sdxl")
    assert folder.path == found.path and not hub.asked
    with pytest.raises(ModelError, match="no model"):
        store.import_folder(stick, "org/unknown")


def test_folders_that_are_no_models_are_refused_and_leave_nothing(published, hub, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match="no model"):
        store.import_folder(empty, "a/b")
    with pytest.raises(UserError, match="no folder"):
        store.import_folder(tmp_path / "none")
    with pytest.raises(UserError, match="no id"):
        store.import_folder(published, "../../etc")
    cut = shutil.copytree(published, tmp_path / "cut")
    file = next((cut / "vae").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelError, match="cut short"):
        store.import_folder(cut, "a/b")
    assert not store.repository_folder("a/b").exists()
    with pytest.raises(ModelError, match="not in the cache"):
        store.remove("../..")


def test_the_list_for_people_and_for_programs(hub, capsys):
    assert main(["models", "list"]) == 0
    assert "swatch" in capsys.readouterr().out
    assert main(["models", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["swatch"]["state"] == "ready" and rows["stabilityai/sdxl-turbo"]["state"] == "not here"
    assert rows["stabilityai/sdxl-turbo"]["licence"].endswith("no commercial use.")
    assert all(row["verified"] == (name == "swatch" or bool(row["revision"])) for name, row in rows.items())


def test_the_catalogue_is_sound():
    """Names are ids, once each; revisions are commits; settings that go well with a model exist and are allowed."""
    from blender_addon.jobs.settings import check

    names = [one.name for one in CATALOGUE]
    assert len(set(names)) == len(names) and names[0] == "swatch"
    for one in CATALOGUE[1:]:
        assert HUB_ID.fullmatch(one.name) and one.role in ROLES and one.size > 0
        assert one.revision == "" or (len(one.revision) == 40 and int(one.revision, 16))
        assert one.role != "model" or one.memory > one.size
        assert one.role != "lora" or all(one.file_for(family) in one.files for family in one.family.split(", "))
        assert all(entry(need).role == "encoder" and entry(need).files for need in one.needs)
        check(dict(one.settings))
    assert entry("org/none") is None and licence_line("org/none") == "" and entry(f"{names[1]}@main").name == names[1]
    assert licence_line(f"{names[1]}+x/y").startswith("CreativeML")
    assert all(module.startswith("engine.models.") for module in FAMILIES.values())
