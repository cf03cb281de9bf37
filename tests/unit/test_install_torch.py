# SPDX-License-Identifier: Apache-2.0
"""What a machine is, and which build of torch suits it, on machines that this one is not."""

from pathlib import Path

import pytest

from engine.setup import machine as machines
from engine.setup import torch_build
from engine.setup.console import SetupProblem
from engine.setup.machine import Machine, Nvidia, data_folder, find_nvidia, find_rocm

PYTHON = (3, 11, 7)
RTX = Nvidia("NVIDIA GeForce RTX 4090", (581, 29), (8, 9))


def linux(**kinds) -> Machine:
    return Machine("Linux", kinds.pop("arch", "x86_64"), PYTHON, **kinds)


def windows(**kinds) -> Machine:
    return Machine("Windows", "x86_64", PYTHON, **kinds)


@pytest.mark.parametrize(
    ("machine", "requirement", "index"),
    [
        (linux(), "torch==2.13.0+cpu", "cpu"),
        (linux(arch="arm64"), "torch==2.13.0+cpu", "cpu"),
        (linux(nvidia=RTX), "torch===2.13.0", "cu130"),
        (linux(nvidia=Nvidia("GTX 1080", (581, 29), (6, 1))), "torch==2.13.0+cu126", "cu126"),
        (linux(nvidia=Nvidia("RTX 3060", (550, 90), (8, 6))), "torch==2.13.0+cu126", "cu126"),
        (linux(nvidia=Nvidia("unknown card", (590,))), "torch===2.13.0", "cu130"),
        (linux(rocm=True), "torch==2.13.0+rocm7.2", "rocm7.2"),
        (windows(), "torch==2.13.0", None),
        (windows(nvidia=RTX), "torch==2.13.0+cu130", "cu130"),
        (Machine("Darwin", "arm64", PYTHON), "torch==2.13.0", None),
    ],
)
def test_build_for_a_machine(machine, requirement, index):
    build = torch_build.choose(machine)
    assert build.requirement == requirement
    assert build.index == (index and f"https://download.pytorch.org/whl/{index}")
    assert build.requirement.split("=")[-1].split("+")[0] == torch_build.VERSION


def test_a_wish_goes_before_the_graphics_card():
    assert torch_build.choose(linux(nvidia=RTX), "cpu").name == "cpu"
    assert torch_build.choose(linux(), "cuda").name == "cu130"
    assert torch_build.choose(linux(nvidia=RTX, rocm=True)).name == "cu130"


@pytest.mark.parametrize(
    ("machine", "wanted", "word"),
    [
        (Machine("Darwin", "x86_64", PYTHON), "auto", "Intel"),
        (Machine("Darwin", "arm64", PYTHON), "cuda", "macOS"),
        (linux(nvidia=Nvidia("GTX 680", (470, 82), (3, 0))), "auto", "driver"),
        (windows(nvidia=Nvidia("GTX 1080", (526, 0), (6, 1))), "auto", "528"),
        (windows(), "rocm", "Linux"),
        (linux(arch="arm64"), "rocm", "x86-64"),
    ],
)
def test_no_build_is_a_sentence_with_a_remedy(machine, wanted, word):
    with pytest.raises(SetupProblem) as problem:
        torch_build.choose(machine, wanted)
    assert word in problem.value.message + problem.value.remedy
    assert problem.value.remedy


def test_requirements_pin_the_same_torch():
    root = Path(__file__).resolve().parents[2]
    assert f"torch=={torch_build.VERSION}\n" in (root / "requirements/engine.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("answer", "card"),
    [
        ("NVIDIA GeForce RTX 4090, 581.29, 8.9\nNVIDIA GeForce GTX 1060, 581.29, 6.1\n", RTX),
        ("Tesla T4, 535.183.01, 7.5\n", Nvidia("Tesla T4", (535, 183, 1), (7, 5))),
        ("Quadro K2000, 470.82\n", Nvidia("Quadro K2000", (470, 82))),
        ("No devices were found\n", None),
        ("", None),
        (None, None),
    ],
)
def test_reading_nvidia_smi(answer, card):
    assert find_nvidia(lambda command: answer) == card


def test_rocm_needs_the_kernel_driver_and_a_card():
    agents = "  Name:                    AMD Ryzen\n  Name:                    gfx1100\n"
    assert find_rocm(lambda command: agents, lambda path: True)
    assert not find_rocm(lambda command: agents, lambda path: False)
    assert not find_rocm(lambda command: "  Name:   AMD Ryzen\n", lambda path: True)
    assert not find_rocm(lambda command: None, lambda path: True)


def test_data_folder_of_each_system():
    home = Path("/home/é x")
    assert data_folder("Linux", {}, home) == home / ".local/share/tweed"
    assert data_folder("Linux", {"XDG_DATA_HOME": "/d"}, home) == Path("/d/tweed")
    assert data_folder("Darwin", {"XDG_DATA_HOME": "/d"}, home) == home / "Library/Application Support/tweed"
    assert data_folder("Windows", {"LOCALAPPDATA": "/l"}, home) == Path("/l/tweed")
    assert data_folder("Windows", {}, home) == home / "AppData/Local/tweed"


def test_the_extension_looks_where_the_installer_writes(monkeypatch):
    from blender_addon import client

    for platform, system in (("linux", "Linux"), ("darwin", "Darwin"), ("win32", "Windows")):
        environment = {"LOCALAPPDATA": "/l", "XDG_DATA_HOME": "/d"}
        assert client.data_folder(environment, platform) == data_folder(system, environment, Path.home())


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path):
    assert machines.free_bytes(tmp_path / "a" / "b") > 0


def test_asking_a_program_that_is_missing_fails_or_hangs():
    import sys

    assert machines.ask(["tweed-no-such-program"]) is None
    assert machines.ask([sys.executable, "-c", "raise SystemExit(3)"]) is None
    assert machines.ask([sys.executable, "-c", "import time; time.sleep(30)"], seconds=0.5) is None
    assert machines.ask([sys.executable, "-c", "print('é')"]).strip() in ("é", "\\xe9", "?")
