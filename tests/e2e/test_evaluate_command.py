"""``zeroflaw evaluate``: what it writes, and what it does with data that cannot be read or named."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command import measured, refused, run
from labelled_set import write_labelled_set
from zeroflaw.detectors import make


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_labelled_set(tmp_path / "set")


@pytest.fixture
def flags(tiny_backbone: Path, tmp_path: Path) -> list[object]:
    """Results go to ``out``."""
    return ["--backbone", f"local-dir:{tiny_backbone}", "-o", tmp_path / "out", "--overwrite"]


@pytest.fixture
def measure(flags: list[object], tmp_path: Path) -> Any:
    """Run evaluate; return the exit code and what was written."""

    def evaluate(*arguments: object) -> tuple[int, dict[str, Any]]:
        code, path = run("evaluate", *arguments, *flags), tmp_path / "out" / "metrics.json"
        return code, json.loads(path.read_text("utf-8")) if path.exists() else {}

    return evaluate


def test_rows_means_and_notes(data: Path, measure: Any, capsys: pytest.CaptureFixture[str]) -> None:
    clip = ["--detector", "clip", "--detector", "clip-ensemble", "--seed", "1", "--seed", "2"]
    (data / "lid" / "ground_truth" / "dent" / "0_mask.png").unlink()
    (data / "lid" / "test" / "good" / "1.png").write_bytes(b"")
    code, found = measure(
        data, *clip, "--corruption", "none", "--corruption", "contrast:3", "--bootstrap", "20"
    )
    assert code == 0
    assert found["schema"] == 4
    assert [(r["category"], r["corruption"], r["detector"], r["seed"]) for r in found["rows"]] == [
        (category, corruption, detector, seed)
        for category in ("cup", "lid")
        for corruption in ("none", "contrast:3")
        for detector in ("clip", "clip-ensemble")
        for seed in (1, 2)
    ]
    assert {(r["category"], r["images"], r["anomalous"]) for r in found["rows"]} == {
        ("cup", 4, 2),
        ("lid", 3, 2),
    }
    assert all(r["image_auroc_interval"][0] <= r["image_auroc"] for r in found["rows"])
    assert found["mean"] is None
    assert [line["seeds"] for line in found["summary"]] == [[1, 2]] * 4
    table = capsys.readouterr().err
    assert "I-AUROC" in table
    assert table.count("95 % interval of the image AUROC: ") == len(found["rows"])
    assert re.search(r" AUROC: [01]\.\d{3} to [01]\.\d{3} \(clip, cup, contrast:3, seed 2\)", table)
    assert "3*" in table
    assert "1 seed" not in table
    assert table.count("note: left out of pixel metrics: it has no mask (lid/test/dent/0.png)") == 1
    assert "the file is empty" in table
    assert "* computed on a part of the images or categories only" in table
    code, found = measure(data, "--detector", "clip")
    values = [row["image_auroc"] for row in found["rows"]]
    assert found["mean"]["image_auroc"] == pytest.approx(np.mean(values))  # one detector has a mean


def test_detectors_of_one_name_stay_apart_and_settings_go_where_they_are_known(
    data: Path, measure: Any, tmp_path: Path, tiny_backbone: Path
) -> None:
    saved = [str(tmp_path / folder / "same") for folder in ("one", "two")]
    for folder in saved:
        make("clip", backbone=f"local-dir:{tiny_backbone}").fit().save(folder)
    code, found = measure(data, "--detector", saved[0], "--detector", saved[1])
    assert (code, [line["detector"] for line in found["summary"]]) == (0, saved)
    both = ["--detector", "rwda", "--detector", "clip", "--set", "n_pairs=40", "--set", "epochs=2"]
    assert measure(data, *both)[0] == 0
    assert measure(data, *both, "--set", "nothing=1")[0] == 2


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


def test_good_photos_are_set_aside_where_there_is_no_training_set(
    tmp_path: Path, measure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_labelled_set(tmp_path / "many", products=("cup",), good=14)
    names = ("clip", "memory", "winclip-plus", "mutual")
    detectors = [word for name in names for word in ("--detector", name)]
    few = ["--set", "words_weight=0.0", "--set", "partners=6"]
    few += ["--shots", "4", "--calibrate", "5", "--corruption", "darker:3"]
    code, found = measure(root, *detectors, *few)
    assert code == 0
    rows = {row["detector"]: row for row in found["rows"]}
    # The most that one of them gets is nine: all are measured on the same five good images.
    assert {(row["images"], row["anomalous"]) for row in rows.values()} == {(7, 2)}
    rules = {"clip": "t", "memory": "t", "winclip-plus": "t", "mutual": "robust"}
    assert {name: row["threshold_rule"] for name, row in rows.items()} == rules
    assert all(0 <= row[name] <= 1 for row in rows.values() for name in ("false_alarms", "recall", "iou"))
    said = capsys.readouterr().err
    assert "false alarms  recall" in said
    assert said.count("set aside are 9 good test images") == 1
    code, found = measure(root, "--detector", "clip")
    assert (code, found["rows"][0]["images"], found["rows"][0]["recall"]) == (0, 16, None)
    assert "false alarms" not in capsys.readouterr().err


def test_a_saved_detector_is_calibrated_where_it_has_no_threshold(
    tmp_path: Path, measure: Any, tiny_backbone: Path
) -> None:
    root = write_labelled_set(tmp_path / "many", good=8)
    detector = make("clip", backbone=f"local-dir:{tiny_backbone}").fit()
    detector.save(tmp_path / "saved")
    saved = str(tmp_path / "saved")
    _, found = measure(root, "--detector", saved, "--calibrate", "5")
    assert len({row["threshold_logit"] for row in found["rows"]}) == 2  # each category has its own
    detector.calibrate([Image.new("RGB", (40, 40), (shade, 90, 90)) for shade in range(40, 240, 40)])
    detector.save(saved)
    assert measure(root, "--detector", saved, "--calibrate", "5")[0] == 2
    assert measure(root, "--detector", "mutual", "--calibrate", "5")[0] == 2
    assert measure(root, "--detector", "clip", "--calibrate", "8")[0] == 2  # one has to stay
    _, found = measure(root, "--detector", saved)
    assert {row["threshold_logit"] for row in found["rows"]} == {detector.calibration_.threshold}


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
    data: Path, flags: list[object], arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, 2, says, "evaluate", data, *arguments, *flags)
    assert not (data.parent / "out").exists()


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
    results = odd.parent / "results"
    assert run("evaluate", os.fspath(odd), "--detector", "clip", "-o", results) == 0
    assert [row["category"] for row in measured(results)] == ["cup\\udcfe", "lid"]
    assert run("benchmark", "objects", "--root", os.fspath(odd), "--plan") == 0
    (results / "mine.txt").touch()
    assert run("evaluate", os.fspath(odd), "--detector", "clip", "-o", results, "--overwrite") == 2
