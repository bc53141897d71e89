"""Grids on data, weights and folders that change, are named twice, or are damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command import measured as rows
from command import picture, refused
from command import run as run_command
from labelled_set import write_labelled_set
from zeroflaw.detectors import make

CLIP = '[[detectors]]\nname = "clip"\n'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one data set of two categories."""
    return write_labelled_set(tmp_path / "data" / "set").parent


@pytest.fixture
def write(tmp_path: Path, tiny_backbone: Path) -> Any:
    """Write a grid file on the tiny backbone."""

    def to_file(text: str = CLIP) -> Path:
        path = tmp_path / "grid.toml"
        path.write_text(f'backbones = ["local-dir:{tiny_backbone}"]\n{text}')
        return path

    return to_file


def run(*arguments: object) -> int:
    return run_command("benchmark", *arguments)


def measured(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the categories that the last run looked at."""
    return [line.split()[2] for line in capsys.readouterr().err.splitlines() if line.startswith("[")]


def test_what_changed_is_measured_again_and_nothing_else(
    data: Path, write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, grid = tmp_path / "out", write()
    assert run(grid, "--root", data, "-o", out) == 0
    assert measured(capsys) == ["cup", "lid"]
    assert run(grid, "--root", data, "-o", out) == 0
    assert measured(capsys) == []
    mask = data / "set" / "cup" / "ground_truth" / "dent" / "0_mask.png"
    Image.fromarray(np.eye(40, 32, dtype=np.uint8) * 255).save(mask)
    before = rows(out)
    assert run(grid, "--root", data, "-o", out) == 0
    assert measured(capsys) == ["cup"]
    same = [a["pixel_auroc"] == b["pixel_auroc"] for a, b in zip(before, rows(out), strict=True)]
    assert same == [False, True]
    (data / "set" / "lid" / "test" / "good" / "1.png").unlink()
    assert run(grid, "--root", data, "-o", out) == 0
    assert measured(capsys) == ["lid"]


def test_a_label_that_stays_does_not_keep_results_of_other_parameters(
    data: Path, write: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    lines = 'label = "mine"\nparameters = {epochs = 1, n_pairs = %d}\n'
    figures = []
    for pairs in (10, 50):
        grid = write('[[detectors]]\nname = "rwda-fnn"\n' + lines % pairs)
        assert run(grid, "--root", data, "-o", out, "-q") == 0
        cells = [json.loads(path.read_text()) for path in sorted((out / "cells").glob("*.json"))]
        figures.append([len(found) for found in cells])
        assert {row["detector"] for row in rows(out)} == {"mine"}
    assert figures == [[1, 1], [2, 2]]


def test_a_saved_detector_counts_by_its_content(
    data: Path, write: Any, tmp_path: Path, tiny_backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = tmp_path / "out", tmp_path / "mine"

    def fit(seed: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        settings: dict[str, Any] = {"backbone": f"local-dir:{tiny_backbone}", "seed": seed}
        make("rwda-fnn", n_pairs=20, epochs=1, **settings).fit().save(folder)

    fit(3)
    grid = write('[[detectors]]\nname = "mine"\n')  # beside the grid file
    assert run(grid, "--root", data, "-o", out) == 0
    assert measured(capsys) == ["cup", "lid"]
    assert {(row["detector"], row["seed"]) for row in rows(out)} == {("mine", 3)}
    fit(4)
    assert run(grid, "--root", data, "-o", out) == 0
    assert measured(capsys) == ["cup", "lid"]
    assert {row["seed"] for row in rows(out)} == {4}


def test_a_data_set_that_is_given_twice_is_measured_once(
    data: Path, write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(write(), "--root", data, "--root", data / "set", "--root", data, "-o", out, "-q") == 0
    assert [row["category"] for row in rows(out)] == ["cup", "lid"]
    twice = write('[[datasets]]\nroot = "data/set"\n' * 2 + CLIP)
    assert run(twice, "-o", tmp_path / "twice", "-q") == 0
    assert [row["category"] for row in rows(tmp_path / "twice")] == ["cup", "lid"]
    (data / "half" / "bottle").mkdir(parents=True)
    assert run(write(), "--root", data, "--plan") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "passed over: " in line]
    assert "half" in said[0]
    shutil.copytree(data, tmp_path / "other")
    roots = ("--root", data, "--root", tmp_path / "other", "--plan")
    says = "both called set and both have a category cup"
    refused(capsys, 2, says, "benchmark", write(), *roots)
    refused(capsys, 2, "is a data set or holds one", "benchmark", write(), "--root", data / "half")
    refused(capsys, 2, "--root wants a folder of data sets", "benchmark", write(), "--root", data / "no")


def test_reference_images_are_those_of_the_data_set(data: Path, write: Any, tmp_path: Path) -> None:
    """Two data sets with a category of one name: each has reference images of its own."""
    shutil.copytree(data / "set", data / "two")
    for seed, name in enumerate(("set", "two")):
        for number in range(2):
            picture(data / name / "cup/train/good" / f"{number}.png", 2 * seed + number, size=(40, 32))
    out = tmp_path / "out"
    grid = write('[[detectors]]\nname = "winclip-plus"\nshots = 2\n')
    assert run(grid, "--root", data, "-o", out, "-q") == 3  # of the two good lids one has to stay
    one, other = (json.loads(path.read_text()) for path in sorted((out / "cells").glob("*cup*")))
    scores = [[logit for *_, logit in next(iter(cells.values()))["scored"]] for cells in (one, other)]
    assert not np.allclose(*scores, atol=1e-3)
    found = {(row["dataset"], row["category"]): row["error"] for row in rows(out)}
    assert found["set", "cup"] is found["two", "cup"] is None
    for text in (str(found["set", "lid"]), *((out / f).read_text() for f in ("table.md", "index.html"))):
        assert "training images of lid" in text


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"a": 3}', '{"a": {"row": {}, "domains": [], "scored": []}}']
)
def test_a_damaged_file_of_results_is_named(
    data: Path, write: Any, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, grid = tmp_path / "out", write()
    assert run(grid, "--root", data, "-o", out, "-q") == 0
    path = sorted((out / "cells").iterdir())[0]
    path.write_text(content)
    refused(capsys, 3, str(path), "benchmark", grid, "--root", data, "-o", out, "-q")
    refused(capsys, 3, "delete it to measure it again", "benchmark", grid, "--root", data, "-o", out, "-q")


def test_a_damaged_kept_detector_is_fitted_again(
    data: Path, write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    grid = write('[[detectors]]\nname = "rwda-fnn"\nparameters = {n_pairs = 20, epochs = 1}\n')
    assert run(grid, "--root", data, "-o", out, "-q") == 0
    before = (out / "metrics.json").read_bytes()
    (kept,) = (out / "detectors").iterdir()
    (kept / "head.safetensors").write_bytes(b"torn")
    shutil.rmtree(out / "cells")
    (out / "cells").mkdir()
    assert run(grid, "--root", data, "-o", out) == 0
    assert "is damaged" in (said := capsys.readouterr().err)
    assert "fitted again" in said
    assert (out / "metrics.json").read_bytes() == before


def test_a_folder_of_something_else_is_left_alone(
    data: Path, write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metrics.json").write_text("mine")
    for place in ("file", "file/below", "other"):
        refused(
            capsys, 2, "choose another", "benchmark", write(), "--root", data, "-o", tmp_path / place, "-q"
        )
    assert (tmp_path / "other" / "metrics.json").read_text() == "mine"
    assert len(list((tmp_path / "other").iterdir())) == 1


def test_a_mean_without_a_category_has_a_star(data: Path, write: Any, tmp_path: Path) -> None:
    """Be it that the category is not there, or that its figure is undefined."""
    out = tmp_path / "missing"
    grid = write('[[datasets]]\nroot = "data/set"\ncategories = ["cup", "nut"]\n' + CLIP)
    assert run(grid, "-o", out, "-q") == 3
    shown = next(line for line in (out / "table.md").read_text().splitlines() if line.startswith("| clip"))
    assert shown.endswith("* |")
    shutil.rmtree(data / "set" / "lid" / "test" / "good")
    out = tmp_path / "undefined"
    assert run(write(), "--root", data, "-o", out, "-q") == 0
    text = (out / "table.md").read_text()
    assert next(line for line in text.splitlines() if line.startswith("| clip")).endswith("* |")
    assert "undefined are image_auroc" in text
    lid = rows(out)[1]
    assert lid["image_auroc"] is None
    assert lid["f1max_threshold_logit"] is None
    assert "NaN" not in (out / "metrics.json").read_text() + text + (out / "metrics.csv").read_text()
