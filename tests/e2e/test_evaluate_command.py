"""``zeroflaw evaluate``: what it writes, and what it does with data that cannot be read or named."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelled_set import write_labelled_set
from zeroflaw.cli.main import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_labelled_set(tmp_path / "set")


@pytest.fixture
def measure(tiny_backbone: Path, tmp_path: Path) -> Any:
    """Run evaluate with results in ``out``; return the exit code and what was written."""

    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        given = ["--backbone", f"local-dir:{tiny_backbone}", "-o", tmp_path / "out", "--overwrite"]
        with pytest.raises(SystemExit) as left:
            main(["evaluate", *map(str, arguments), *map(str, given)])
        path = tmp_path / "out" / "metrics.json"
        return int(left.value.code or 0), json.loads(path.read_text("utf-8")) if path.exists() else {}

    return run


def test_rows_means_and_notes(data: Path, measure: Any, capsys: pytest.CaptureFixture[str]) -> None:
    clip = ["--detector", "clip", "--detector", "clip-ensemble", "--seed", "1", "--seed", "2"]
    (data / "lid" / "ground_truth" / "dent" / "0_mask.png").unlink()
    code, found = measure(
        data, *clip, "--corruption", "none", "--corruption", "contrast:3", "--bootstrap", "20"
    )
    assert code == 0
    assert [(r["category"], r["corruption"], r["detector"], r["seed"]) for r in found["rows"]] == [
        (category, corruption, detector, seed)
        for category in ("cup", "lid")
        for corruption in ("none", "contrast:3")
        for detector in ("clip", "clip-ensemble")
        for seed in (1, 2)
    ]
    assert all(
        low <= r["image_auroc"] <= high for r in found["rows"] for low, high in [r["image_auroc_interval"]]
    )
    assert found["mean"] is None
    assert len(found["summary"]) == 4
    table = capsys.readouterr().err
    assert "1 seed" not in table
    assert table.count("note: left out of pixel metrics: it has no mask (lid/test/dent/0.png)") == 1
    assert "* computed on a part" in table


def test_known_objects_shots_and_one_category(data: Path, measure: Any, tmp_path: Path) -> None:
    for product in ("cup", "lid"):
        (data / product / "train").mkdir()
        (data / product / "test" / "good").rename(data / product / "train" / "good")
        (data / product / "test" / "good").mkdir()
        Image.new("RGB", (32, 40)).save(data / product / "test" / "good" / "9.png")
    detectors = ["--detector", "clip", "--detector", "winclip-plus"]
    code, found = measure(data, *detectors, "--known-object", "--shots", "1", "--category", "lid")
    assert code == 0
    assert [(r["category"], r["object"]) for r in found["rows"]] == [("lid", "lid")] * 2
    assert measure(data, "--detector", "winclip-plus", "--shots", "3")[0] == 2
    assert measure(data, "--detector", "clip", "--shots", "1")[0] == 2
    assert measure(data, "--detector", "clip", "--category", "nut")[0] == 2


def test_one_detector_has_a_mean(data: Path, measure: Any) -> None:
    code, found = measure(data, "--detector", "clip")
    assert code == 0
    values = [row["image_auroc"] for row in found["rows"]]
    assert found["mean"]["image_auroc"] == pytest.approx(np.mean(values))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--detector", "clip", "--detector", "clip"], "measured once"),
        (["--known-object", "--object", "nut"], "use only one of them"),
        (["--known-object", "--detector", "./saved"], "name a kind of detector"),
        (["--detector", "winclip-plus", "--shots", "1", "--reference", "x"], "use only one of them"),
        (["--corruption", "fog:3"], "there is no corruption 'fog'"),
        (["--detector", "rwda", "--set", "epochs=0"], "epochs"),
    ],
)
def test_options_that_do_not_go_together(
    data: Path, measure: Any, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure(data, *arguments) == (2, {})
    assert says in capsys.readouterr().err


def test_a_category_of_which_nothing_can_be_read_is_an_error(
    data: Path, measure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (data / "cup" / "test").rglob("*.png"):
        path.write_bytes(b"no picture")
    code, found = measure(data, "--detector", "clip")
    assert code == 3
    assert [row["images"] for row in found["rows"]] == [0, 4]
    error = capsys.readouterr().err
    assert "no image of cup could be read" in error
    assert "(4 places: cup/test/dent/0.png, " in error


def test_names_that_are_not_utf_8_lose_no_results(data: Path, measure: Any) -> None:
    odd = data.with_name("set\udcff")
    try:
        (data / "cup").rename(data / "cup\udcfe")
        data.rename(odd)
    except (OSError, UnicodeError):
        pytest.skip("the file system takes only text")
    with pytest.raises(SystemExit) as left:
        main(["evaluate", os.fspath(odd), "--detector", "clip", "-o", os.fspath(odd.parent / "results")])
    assert not left.value.code
    rows = json.loads((odd.parent / "results" / "metrics.json").read_text("utf-8"))["rows"]
    assert [row["category"] for row in rows] == ["cup\\udcfe", "lid"]
    with pytest.raises(SystemExit) as left:
        main(["benchmark", "objects", "--root", os.fspath(odd), "--plan"])
    assert not left.value.code
