# SPDX-License-Identifier: Apache-2.0
"""`evaluate` and `compare` as whole commands on a tiny random model, and what their rows and pages are made of."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import trimesh
from PIL import Image

from blender_addon.jobs.errors import SettingsError, UserError
from blender_addon.jobs.presets import shipped_presets
from blender_addon.jobs.settings import SETTINGS
from engine import compare as comparing
from engine import pages
from engine.__main__ import main
from engine.compare import ablation, best_of, row_from, rows_from, variation
from engine.evaluate import TARGETS, meshes_in, met
from engine.measure.scores import SCORES
from engine.methods import METHODS
from engine.models import weights_mark
from engine.trials import Cell, Row, mean_scores
from tests.tiny_models import SWATCH_SCHEDULER, write_tiny_model

SMALL = ["--views", "6", "--steps", "2", "--size", "128", "--view-size", "64", "--device", "cpu"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny é"), SWATCH_SCHEDULER)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A ball, a file that is no mesh, and a file that is none of ours."""
    found = tmp_path_factory.mktemp("meshes é")
    trimesh.creation.icosphere(2).export(found / "ball.obj")
    (found / "broken.obj").write_text("this is no mesh")
    (found / "notes.txt").write_text("not looked at")
    return found


@pytest.fixture(scope="module")
def evaluated(folder, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated")
    command = ["evaluate", str(folder), "--prompt", "red brick", "--prompt", "<gold>", "--seeds", "1", "--out",
               str(out), "--model", str(model), *SMALL]  # fmt: skip
    assert main(command) == 0
    return out, command


def numbers(out, name="evaluate"):
    return json.loads((out / f"{name}.json").read_text(encoding="utf-8"))


def offline(page: str) -> None:
    """Nothing in the page is fetched from anywhere, and nothing runs."""
    assert "<script" not in page and not re.search(r"""(src|href)=["'](?!data:)""", page) and "@import" not in page
    assert "url(" not in page and "http" not in page.replace("http-equiv", "")


def test_evaluate_measures_what_works_and_reports_what_does_not(evaluated):
    out, _ = evaluated
    found = numbers(out)
    good = [cell for cell in found["cells"] if not cell["error"]]
    bad = [cell for cell in found["cells"] if cell["error"]]
    assert {cell["mesh"] for cell in good} == {"ball"} and {cell["mesh"] for cell in bad} == {"broken"}
    assert len(good) == len(bad) == 2 and "broken.obj" in bad[0]["error"]
    always = {"agreement_db", "render_db", "seam_ratio", "owner_ratio", "sharpness", "coverage", "filled",
              "black_texels", "bleed", "kid", "seconds", "view_denoisings"}  # fmt: skip
    for cell in good:
        assert always <= set(cell["scores"]) <= set(SCORES)
        assert cell["scores"]["view_denoisings"] == 6 * 2 and cell["scores"]["filled"] <= 1
        assert all(np.isfinite(value) for value in cell["scores"].values())
    assert found["mean"]["agreement_db"] == pytest.approx(
        np.mean([c["scores"]["agreement_db"] for c in good]), abs=1e-5
    )
    assert set(found["met"]) <= set(TARGETS) and found["reader"] == "random convolutions"
    assert list((out / "jobs").iterdir()) == [], "job folders of cells that are kept are not"


def test_the_page_needs_nothing_else(evaluated):
    out, _ = evaluated
    page = (out / "evaluate.html").read_text(encoding="utf-8")
    offline(page)
    assert page.count("data:image/jpeg;base64,") == 2 and "&lt;gold&gt;" in page and "<gold>" not in page
    assert "broken" in page and "failed" in page and "random convolutions" in page


def test_evaluate_goes_on_where_it_was(evaluated, capsys):
    """A second run makes nothing new; with one cell gone it makes that one, and it comes out the same."""
    out, command = evaluated
    before = numbers(out)
    cells = sorted((out / "cells").iterdir())
    stamps = {path: path.stat().st_mtime_ns for path in cells}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in cells} == stamps
    lost = next(cell for cell in before["cells"] if not cell["error"])
    (out / "cells" / f"{lost['key']}.json").unlink()
    assert main(command) == 0
    after = next(cell for cell in numbers(out)["cells"] if cell["key"] == lost["key"])
    timed = ("seconds", "denoise_seconds")
    assert {k: v for k, v in after["scores"].items() if k not in timed} == {
        k: v for k, v in lost["scores"].items() if k not in timed}  # fmt: skip
    assert "Traceback" not in capsys.readouterr().err


def test_other_settings_are_other_cells(evaluated, model, folder, tmp_path):
    out, command = evaluated
    here = tmp_path / "copy"
    shutil.copytree(out, here)
    changed = [
        *command[: command.index("--out") + 1],
        str(here),
        *command[command.index("--out") + 2 :],
        "--noise",
        "independent",
    ]
    assert main(changed) == 0
    old, new = ({c["key"] for c in numbers(where)["cells"] if not c["error"]} for where in (out, here))
    assert not old & new


def test_weights_trained_again_are_other_cells(model, tmp_path):
    here = shutil.copytree(model, tmp_path / "model")
    before = weights_mark(str(here))
    assert before == weights_mark(str(model)) and before != weights_mark("swatch")
    weights = here / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert weights_mark(str(here)) != before
    assert weights_mark("someone/model") == "" and weights_mark(f"someone/model+{here / 'unet'}")


def test_compare_puts_rows_side_by_side(folder, model, tmp_path):
    out = tmp_path / "out"
    code = main(["compare", str(folder / "ball.obj"), "--prompt", "red brick", "--seeds", "2", "--out", str(out),
                 "--model", str(model), *SMALL,
                 "--methods", "synchronized,synchronized:case=5,noise=independent"])  # fmt: skip
    assert code == 0
    found = numbers(out, "compare")
    names = [row["name"] for row in found["rows"]]
    assert names == ["synchronized", "synchronized:case=5,noise=independent"]
    assert found["rows"][1]["settings"] == {"method": "synchronized", "case": "canonical-x0", "noise": "independent"}
    assert len(found["cells"]) == 4 and all(not cell["error"] for cell in found["cells"])
    for row in found["rows"]:
        assert row["mean"]["done"] == 2 and row["mean"]["failed"] == 0 and "kid_spread" in row["mean"]
    assert found["rows"][0]["mean"]["agreement_db"] != found["rows"][1]["mean"]["agreement_db"]
    page = (out / "compare.html").read_text(encoding="utf-8")
    offline(page)
    assert page.count("<figure>") == 3, "the single views and the first seed of each row"
    assert len(list((out / "features").glob("reference-*.npz"))) == 1, "rows are compared with the same single views"
    renders = Image.open(next((out / "pictures").iterdir()))
    assert renders.height == 192 and renders.width > 8 * 192


def test_one_row_that_cannot_work_does_not_stop_the_others(folder, model, tmp_path, monkeypatch):
    """A method that fails on a mesh is reported on its own line."""
    from engine.methods.task import Method

    def refuse(task):
        raise UserError("This one cannot.", "Take another.")

    monkeypatch.setitem(METHODS, "iterative", Method(refuse, METHODS["synchronized"].calls))
    out = tmp_path / "out"
    assert main(["compare", str(folder / "ball.obj"), "--prompt", "red brick", "--seeds", "1", "--out", str(out),
                 "--model", str(model), *SMALL, "--methods", "iterative,synchronized"]) == 0  # fmt: skip
    rows = {row["name"]: row["mean"] for row in numbers(out, "compare")["rows"]}
    assert rows["iterative"] == {"done": 0, "failed": 1} and rows["synchronized"]["done"] == 1
    assert "This one cannot." in (out / "compare.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("arguments", "words"), [
    (["--methods", "nonsense"], "nonsense"), (["--methods", "synchronized:cas=5"], "cas"),
    (["--methods", "synchronized:case=9"], "case"), (["--methods", "synchronized:eta"], "no value"),
    (["--methods", ","], "No methods"), (["--seeds", "0"], "seeds"), (["--judge", "/no/such/judge"], "judge"),
])  # fmt: skip
def test_bad_rows_end_before_a_model_is_loaded(folder, tmp_path, capsys, arguments, words, monkeypatch):
    from engine.warm import Models

    monkeypatch.setattr(Models, "get", lambda *_: pytest.fail("a model was loaded"))
    code = main(["compare", str(folder / "ball.obj"), "--prompt", "x", "--out", str(tmp_path / "out"), *arguments])
    said = capsys.readouterr().err
    assert code in (2, 4) and words in said and "Traceback" not in said


def test_no_meshes_is_a_sentence(tmp_path, capsys):
    with pytest.raises(UserError, match="no folder"):
        meshes_in(tmp_path / "missing")
    with pytest.raises(UserError, match="no meshes"):
        meshes_in(tmp_path)
    assert main(["evaluate", str(tmp_path), "--prompt", "x", "--out", str(tmp_path / "out")]) != 0
    assert "no meshes" in capsys.readouterr().err


def test_rows_of_all_methods_and_presets():
    rows = rows_from("all", {"views": 4})
    names = [row.name for row in rows]
    assert "synchronized" in names and set(names) <= {*METHODS, *shipped_presets()}
    assert all(comparing.objection(row, {"views": 4}) is None for row in rows)


def test_rows_can_be_varied(tmp_path):
    (row,) = rows_from("synchronized:sync_until=0.8, eta=1", {})
    assert row == Row("synchronized:sync_until=0.8,eta=1", {"method": "synchronized", "sync_until": 0.8, "eta": 1.0})
    assert variation("case=6") == {"case": "canonical-xt"} and variation("guidance-rescale = 0.5") == {
        "guidance_rescale": 0.5
    }
    (tmp_path / "mine.toml").write_text('case = "instance-xt"\n')
    preset = str(tmp_path / "mine.toml")
    assert row_from(f"{preset}:eta=0.5").settings == {"case": "instance-xt", "eta": 0.5}
    with pytest.raises(SettingsError, match="no method or preset"):
        row_from("synchronised")


def test_ablation_is_every_combination_of_what_there_is():
    rows = ablation()
    noises = len(SETTINGS["noise"].choices)
    assert len(rows) == noises * len(comparing.blends()) * 2 * 2 and len({row.name for row in rows}) == len(rows)
    assert len({json.dumps(dict(row.settings), sort_keys=True) for row in rows}) == len(rows)
    assert all(comparing.objection(row, {}) is None for row in rows)


def test_the_best_of_a_column():
    assert best_of("agreement_db", [30.0, 31.0]) == 31 and best_of("seconds", [3.0, 2.0]) == 2
    assert best_of("seam_ratio", [0.7, 1.2, 1.5]) == 1.2, "nearest to 1, and not the smallest"
    assert best_of("background_like", [0.1, 0.2]) is None
    assert met("seam_ratio", 1.10) and not met("seam_ratio", 1.11) and met("agreement_db", 30.0)


def test_means_leave_out_what_is_missing():
    cells = [Cell("a", "m", "r", "p", 0, {"kid": 1.0, "clip": 3.0}), Cell("b", "m", "r", "p", 1, {"kid": 2.0})]
    assert mean_scores(cells) == {"kid": 1.5, "clip": 3.0} and mean_scores([]) == {}


def test_pages_hold_their_pictures_and_escape_their_words():
    picture = pages.jpeg(np.full((8, 12, 3), 0.5, np.float32))
    page = pages.page(
        "A & B",
        [pages.heading("<h>"), pages.figure(picture, 'a "b"'), pages.table([("x", "why <")], [[("1 < 2", "best")]])],
    )
    offline(page)
    assert "A &amp; B" in page and "&lt;h&gt;" in page and 'class="best">1 &lt; 2' in page and "data:image/jpeg" in page
    strip = pages.strip([np.zeros((10, 20, 3)), np.ones((30, 30, 3))], height=16)
    assert strip.shape == (16, 32 + 4 + 16, 3) and strip[:, :30].max() < 0.1 and strip[:, -14:].min() > 0.9


def test_views_and_maps_are_kept_when_asked_for(tmp_path, model, folder):
    """One picture per view, and maps in which every texel of a chart says what the report's coverage says."""
    out = tmp_path / "out"
    assert main(["texture", str(folder / "ball.obj"), "--prompt", "red brick", "--out", str(out), "--model", str(model),
                 *SMALL, "--save-views"]) == 0  # fmt: skip
    (job,) = (out / "jobs").iterdir()
    views = sorted(path.name for path in (job / "out" / "views").iterdir())
    assert len(views) == 6 and views[0] == "00-front.png"
    maps = {path.stem: np.asarray(Image.open(path)) for path in (job / "out" / "maps").iterdir()}
    assert set(maps) == {"coverage", "ownership", "confidence"}
    covered = (maps["coverage"] == 255).all(2)
    charts = covered | (maps["coverage"] == 0).all(2)
    share = json.loads((out / "report.json").read_text())["coverage"]
    assert covered.sum() / charts.sum() == pytest.approx(share, abs=0.05)
    colours = np.unique(maps["ownership"][covered], axis=0)
    assert 2 <= len(colours) <= 6 and not (maps["ownership"][charts & ~covered]).any()
    assert maps["confidence"][covered].mean() > 100 and (maps["confidence"][charts & ~covered] == 0).all()
