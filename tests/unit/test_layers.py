# SPDX-License-Identifier: Apache-2.0
"""The architecture as a table, and a reading of every import in the tree against it. A new module needs a line here."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Higher may import lower; equal ranks may not import each other, except in one package and in the add-on's top layer.
ENGINE = {
    "__main__": 12,
    "compare": 11.5,
    "evaluate": 11,
    "trials": 10,
    "serve": 9,
    "remote": 9,
    "texture": 9,
    "run": 8,
    "opening": 7.8,
    "doctor": 8,
    "models_command": 8,
    "warm": 7,
    "measure": 7.5,
    "detail": 7.5,
    "painting": 7.5,
    "made": 7,
    "given": 7, "changed": 7.2,
    "methods": 6,
    "models": 6,
    "finish": 6,
    "sampling": 5,
    "pictures": 5,
    "region": 5,
    "spaces": 5,
    "denoiser": 4,
    "raster": 4,
    "schedule": 3,
    "mesh_io": 3,
    "tiles": 3,
    "mesh_image": 3,
    "prompts": 3,
    "report": 2,
    "pages": 2,
    "memory": 3,
    "mesh": 2,
    "cameras": 2,
    "device": 2,
    "progress": 1,
    "preview": 2, "peak": 3, "turn": 4.5,
    "versions": 1,
    "__init__": 0,
    "setup": 0,
}
TOP = 5
ADDON = {
    "__init__": 9,
    "addon": 8,
    "operators": TOP,
    "job_operators": TOP,
    "preset_operators": TOP,
    "view_operators": TOP, "view_rows": TOP,
    "subpanels": TOP,
    "panels": TOP,
    "properties": TOP,
    "preferences": TOP,
    "session": TOP,
    **dict.fromkeys(("command", "headless", "batch", "cameras_command", "api"), TOP),
    "flow": 4,
    "scene": 3,
    "current": 2.5, "tiled": 2.2, "tile_count": 2.5,
    "material": 3,
    "client": 3,
    "history": 3,
    **dict.fromkeys(("places", "compare", "drawings", "view_preview", "model_panel", "model_operators", "one_view", "coverage_operators", "slot_rows"), TOP),
    **{"rows": 2, "translation": 1.6, "phrases": 1.5, "slots": 2, "paths": 2.7, "models": 4.5, "estimates": 4.6, "ownership": 4.5, "coverage": 4.5},
    "setup": 4,
    "thumbnails": 2,
    "nodes": 2,
    "images": 2,
    "uv": 2, "atlas": 2.3,
    "unwrap": 2,
    "jobs": 1,
}
# In these packages every module is one of several interchangeable things and imports no other, but for the shared ones.
SHARED = {
    "methods": {"__init__", "cases", "synchronized", "task", "trimap", "objectives", "pyramid"},
    "models": {"__init__", "bound", "view_attention", "folders", "hub", "patch_codec", "codec", "controls", "edits", "loading",
               "depot", "flow", "lora", "single_file", "store", "style", "text", "unet", "wishes",
               "multiview", "view_lines"},
    "spaces": {"__init__", "around", "blend"},
    "raster": {"__init__", "jit", "scan", "resolve", "gbuffer", "texels", "visibility", "depth"},
}
BLENDER = {
    "bpy",
    "bpy_extras",
    "bmesh",
    "mathutils",
    "gpu",
    "gpu_extras",
    "bl_ui",
    "bl_operators",
    "addon_utils",
    "bl_ext",
    "blf",
    "aud",
}
MAY_IMPORT_BLENDER = (
    "blender_addon/",
    "tests/blender/",
    "tests/gui/",
    "benchmarks/bench_blender.py",
    "engine/setup/demo_scene.py",
)
# Threads are not supported by Blender's Python, and the job folder needs no sockets.
NOT_IN_ADDON = {
    "threading",
    "_thread",
    "multiprocessing",
    "concurrent",
    "asyncio",
    "socket",
    "socketserver",
    "http",
    "urllib",
    "queue",
}
RELAY = "blender_addon/jobs/relay.py"  # stands in the engine's place: a process of its own, which Blender never imports
PIPELINES = ("engine/models/", "training/", "tests/", "benchmarks/")
NVDIFFRAST = "engine/raster/nvdiffrast_backend.py"
UNSAFE = {"pickle", "cPickle", "_pickle", "shelve", "marshal", "dill", "joblib", "cloudpickle"}
GUI_AGENT = "tests/gui/agent.py"  # inside Blender it answers questions that the test asks in Python
BORDERS = {"engine/serve.py", "blender_addon/operators.py", "blender_addon/session.py", "engine/setup/main.py"}
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
FOLDERS = ("blender_addon", "engine", "training", "benchmarks", "tests")


def sources() -> list[str]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")] + [ROOT / "install.py"]
    return sorted(path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts)


FILES = sources()
TREES = {name: ast.parse((ROOT / name).read_text(encoding="utf-8"), name) for name in FILES}


def module_name(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


KNOWN = {module_name(file) for file in FILES}


def imports(file: str) -> set[str]:
    """Full dotted names of all that a file imports, wherever in it; `from package import module` names the module."""
    package = module_name(file).split(".") if file.endswith("__init__.py") else module_name(file).split(".")[:-1]
    found = set()
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            modules = {f"{base}.{alias.name}" for alias in node.names} & KNOWN
            found |= modules or {base}
    return found


def inside(folder: str) -> list[str]:
    return [file for file in FILES if file.startswith(folder + "/")]


def unit(name: str, package: str) -> str:
    """The part of a dotted name that the rank tables speak of: engine.raster.jit -> raster."""
    rest = name.removeprefix(package).strip(".")
    return rest.split(".")[0] if rest else "__init__"


def wrong_way(files: list[str], package: str, ranks: dict[str, int]) -> list[str]:
    faults = []
    for file in files:
        own = unit(module_name(file), package)
        if own not in ranks:
            faults.append(f"{file}: give {own!r} a rank in tests/unit/test_layers.py")
            continue
        for name in imports(file):
            if name != package and not name.startswith(package + "."):
                continue
            other = unit(name, package)
            free = (
                other == own
                or other == "__init__"
                or (ranks[own] == ranks.get(other) == TOP and package == "blender_addon")
            )
            if not free and ranks.get(other, 99) >= ranks[own]:
                faults.append(f"{file} ({own}, rank {ranks[own]}) imports {name} (rank {ranks.get(other)})")
    return faults


def external(file: str) -> set[str]:
    return {name.split(".")[0] for name in imports(file)} - {
        "engine",
        "blender_addon",
        "training",
        "benchmarks",
        "tests",
        "",
    }


def test_the_table_has_something_to_read():
    assert len(FILES) > 30
    assert "engine.setup.console" in imports("engine/setup/main.py")
    assert any(name.startswith("blender_addon.jobs") for name in imports("blender_addon/client.py"))


def test_engine_layers():
    files = [file for file in inside("engine") if not file.startswith("engine/setup/")]
    assert wrong_way(files, "engine", ENGINE) == []


def test_addon_layers():
    assert wrong_way(inside("blender_addon"), "blender_addon", ADDON) == []


def test_a_wrong_import_is_seen():
    """The rule itself: what a sampler that imports a model would get."""
    assert "engine.methods.cases" in imports("engine/methods/synchronized.py")
    low = {**ENGINE, "methods": 1}
    assert wrong_way(["engine/methods/synchronized.py"], "engine", low)


@pytest.mark.parametrize("package", SHARED)
def test_siblings_do_not_know_each_other(package):
    faults = []
    for file in inside(f"engine/{package}"):
        own = unit(module_name(file), f"engine.{package}")
        if own == "__init__":
            continue
        for name in imports(file):
            if name.startswith(f"engine.{package}."):
                other = unit(name, f"engine.{package}")
                if other != own and other not in SHARED[package]:
                    faults.append(f"{file} imports {name}")
    assert faults == []


def test_engine_reaches_only_the_jobs_of_the_addon():
    faults = [
        f"{file} imports {name}"
        for file in inside("engine")
        for name in imports(file)
        if name.startswith("blender_addon") and not name.startswith("blender_addon.jobs")
    ]
    assert faults == []


def test_nothing_imports_the_tests_or_the_recipe():
    faults = [
        f"{file} imports {name}"
        for file in FILES
        for name in imports(file)
        if (name.split(".")[0] == "training" and not file.startswith(("training/", "tests/", "benchmarks/")))
        or (name.split(".")[0] == "tests" and not file.startswith(("tests/", "benchmarks/")))
    ]
    assert faults == []


def test_jobs_need_only_numpy():
    for file in inside("blender_addon/jobs"):
        assert external(file) <= sys.stdlib_module_names | {"numpy"}, file
        assert all(
            name.startswith("blender_addon.jobs") for name in imports(file) if name.startswith("blender_addon")
        ), file


def test_addon_needs_only_blender():
    for file in inside("blender_addon"):
        assert external(file) <= sys.stdlib_module_names | {"numpy"} | BLENDER, file
        assert not external(file) & (NOT_IN_ADDON - {"threading", "queue"} if file == RELAY else NOT_IN_ADDON), file
    assert [file for file in FILES if "blender_addon.jobs.relay" in imports(file) and not file.startswith("tests/")] == []


def test_installer_needs_only_the_standard_library():
    for file in [*inside("engine/setup"), "install.py"]:
        allowed = sys.stdlib_module_names | (BLENDER if file.endswith("demo_scene.py") else set())
        assert external(file) <= allowed, file
        ours = {name for name in imports(file) if name.startswith(("engine", "blender_addon"))}
        assert all(name.startswith("engine.setup") for name in ours), file


def test_blender_is_imported_only_where_blender_is():
    assert [file for file in FILES if external(file) & BLENDER and not file.startswith(MAY_IMPORT_BLENDER)] == []
    assert [file for file in inside("blender_addon/jobs") if external(file) & BLENDER] == []


def test_package_of_the_addon_imports_without_blender():
    """The engine imports blender_addon.jobs, and with it blender_addon/__init__.py."""
    top_level = [
        node for node in TREES["blender_addon/__init__.py"].body if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    assert top_level == []


def test_pipelines_are_imported_only_by_models():
    assert [
        file for file in FILES if external(file) & {"diffusers", "transformers"} and not file.startswith(PIPELINES)
    ] == []


def test_nvdiffrast_is_imported_in_one_file():
    assert [file for file in FILES if "nvdiffrast" in external(file) and file != NVDIFFRAST] == []


def calls(file: str):
    return (node for node in ast.walk(TREES[file]) if isinstance(node, ast.Call))


def keyword(call: ast.Call, name: str):
    return next((word.value for word in call.keywords if word.arg == name), None)


def is_constant(node, value) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def unsafe(file: str) -> list[str]:
    """What in a file could run code that it reads, or hand a text to a shell."""
    faults = [f"{file} imports {name}" for name in external(file) & UNSAFE]
    for call in calls(file):
        name, where = ast.unparse(call.func), f"{file}:{call.lineno}"
        runs_text = name in ("eval", "exec") and file != GUI_AGENT
        if runs_text or name in ("torch.load", "torch.jit.load", "os.system", "os.popen"):
            faults.append(f"{where}: {name}")
        if is_constant(keyword(call, "shell"), True):
            faults.append(f"{where}: shell=True")
        if name in ("np.load", "numpy.load") and not is_constant(keyword(call, "allow_pickle"), False):
            faults.append(f"{where}: np.load without allow_pickle=False")
    return faults


def test_nothing_runs_what_it_reads():
    assert [fault for file in FILES for fault in unsafe(file)] == []


def test_licence_lines():
    faults = []
    for file in FILES:
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines() or [""]
        first = lines[1] if lines[0].startswith("#!") and len(lines) > 1 else lines[0]
        addon = file.startswith("blender_addon/") and not file.startswith("blender_addon/jobs/")
        if first != f"# SPDX-License-Identifier: {'GPL-3.0-or-later' if addon else 'Apache-2.0'}":
            faults.append(f"{file}: {first[:60]!r}")
    assert faults == []


def long_functions(file: str) -> list[str]:
    faults = []
    for node in ast.walk(TREES[file]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            statements = sum(isinstance(part, ast.stmt) for part in ast.walk(node)) - 1
            if statements >= 60:
                faults.append(f"{file}:{node.lineno} {node.name} has {statements} statements")
    return faults


def test_sizes_and_names():
    lines = {file: (ROOT / file).read_text(encoding="utf-8").count("\n") for file in FILES}
    assert {file: count for file, count in lines.items() if count > 400} == {}
    assert [fault for file in FILES for fault in long_functions(file)] == []
    assert [file for file in FILES if Path(file).stem in EMPTY_NAMES] == []


def swallows_everything(handler: ast.ExceptHandler) -> bool:
    names = {ast.unparse(part) for part in getattr(handler.type, "elts", [handler.type]) if part is not None}
    raises_again = bool(handler.body) and isinstance(handler.body[-1], ast.Raise)
    return (handler.type is None or bool(names & {"Exception", "BaseException"})) and not raises_again


def test_only_borders_catch_everything():
    faults = []
    for file in FILES:
        found = [
            node.lineno
            for node in ast.walk(TREES[file])
            if isinstance(node, ast.ExceptHandler) and swallows_everything(node)
        ]
        if len(found) > (1 if file in BORDERS else 0) and not file.startswith("tests/"):
            faults.append(f"{file}: lines {found}")
    assert faults == []


def test_addon_keeps_its_hands_off_the_import_system():
    """extensions.blender.org refuses packages that change sys.path or sys.modules."""
    for file in inside("blender_addon"):
        text = ast.unparse(TREES[file])
        assert "sys.path" not in text and "sys.modules" not in text, file
