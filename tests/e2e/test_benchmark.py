"""Grids: a run that is killed and goes on ends with the bytes of one that was left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from command import measured, refused, run
from labelled_set import write_holed_category, write_labelled_set
from zeroflaw.detectors import make
from zeroflaw.lab.benchmark.grid import ready_names

GRID = """
title = "Tiny"
backbones = ["local-dir:{backbone}"]
corruptions = ["none", "gaussian_noise:3"]
seeds = [0, 1]
bootstrap = 50

[[datasets]]
root = "set"

[[detectors]]
name = "rwda"
parameters = {{epochs = 1}}
sweep = {{n_pairs = [20, 40, 400]}}

[[detectors]]
name = "clip"
object = "known"
seeds = [0]
"""


@pytest.fixture
def grid(tmp_path: Path, tiny_backbone: Path) -> Path:
    """A grid file beside a data set of two categories with masks."""
    random = np.random.default_rng(0)
    for category in ("cloth", "nut"):
        write_holed_category(tmp_path / "set" / category, random)
    path = tmp_path / "grid.toml"
    path.write_text(GRID.format(backbone=tiny_backbone))
    return path


def times(out: Path) -> dict[str, int]:
    """When each file of results was written."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "cells").glob("*.json")}


def test_a_grid_writes_its_reports_and_measures_only_what_is_new(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("benchmark", grid, "-o", out) == 0
    rows = measured(out)
    assert len(rows) == 2 * 2 * (3 * 2 + 1)
    assert all(row["image_auroc_interval"][0] <= row["image_auroc"] for row in rows)
    assert {row["object"] for row in rows if row["detector"] == "clip"} == {"cloth", "nut"}
    assert len((out / "metrics.csv").read_text().splitlines()) == 1 + len(rows)
    assert "| rwda n_pairs 40 |" in (out / "table.md").read_text()
    page = (out / "index.html").read_text()
    assert page.count("<svg") == 2 + 4  # means, the sweep, and the curves of four units
    assert "Sweep of n_pairs" in page
    before, fitted = times(out), set((out / "detectors").iterdir())
    assert run("benchmark", grid, "-o", out) == 0
    assert times(out) == before
    assert "28 of 28 results are there already" in capsys.readouterr().err
    grid.write_text(grid.read_text() + '[[detectors]]\nname = "clip-ensemble"\nseeds = [0]\n')
    assert run("benchmark", grid, "-o", out, "-q") == 0
    assert [row for row in measured(out) if row["detector"] != "clip-ensemble"] == rows
    assert len(set((out / "detectors").iterdir()) - fitted) == 1


def test_a_killed_run_goes_on_to_the_same_bytes(grid: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run("benchmark", grid, "-o", whole, "-q") == 0
    command = [sys.executable, "-m", "zeroflaw", "benchmark", str(grid), "-o", str(broken), "-q"]
    for kills in range(3):
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        end = time.monotonic() + 60
        while len(times(broken)) <= kills:
            assert process.poll() is None, "the run ended before it was killed"
            assert time.monotonic() < end
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (broken / "metrics.json").exists()
    assert run("benchmark", grid, "-o", broken, "-q") == 0
    for name in ("metrics.json", "metrics.csv", "table.md", "index.html"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name


def test_what_fails_is_reported_and_the_rest_goes_on(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = grid.read_text().replace('backbones = ["', 'backbones = ["local-dir:nowhere", "')
    grid.write_text(text + '[[datasets]]\nroot = "not-there"\n')
    out = tmp_path / "out"
    assert run("benchmark", grid, "-o", out) == 3
    content = json.loads((out / "metrics.json").read_text())
    failed = [row for row in content["rows"] if row["error"]]
    assert len(failed) == len(content["rows"]) / 2
    assert all("nowhere" in row["error"] and row["image_auroc"] is None for row in failed)
    assert content["missing"][0]["root"] == "not-there"
    assert "failed" in (out / "table.md").read_text()
    assert "not-there" in capsys.readouterr().err
    assert "nowhere" in (out / "index.html").read_text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_pairs = [20", "n_pears = [20", "no parameter 'n_pears'; did you mean 'n_pairs'"),
        ('name = "rwda"', 'name = "rwdb"', "there is no detector 'rwdb'"),
        ("gaussian_noise:3", "gaussian_noise:9", "9"),
        ("seeds = [0, 1]", "seeds = [0.5]", "seeds entry 1 must be a whole number"),
        ("seeds = [0, 1]", "seeds = [99999999999]", "seeds entry 1 must be a whole number"),
        ("seeds = [0, 1]", "seeds = [0, 0]", "seeds lists 0 2 times"),
        ("seeds = [0, 1]", "seed = [0, 1]", "there is no 'seed'; did you mean 'seeds'"),
        ('object = "known"', 'object = "nut"', "detectors.1.object must be 'known' or 'unknown', got 'nut'"),
        ('object = "known"', "shots = 4", "does not use reference"),
        ('object = "known"', "shots = -4", "shots.0 must be greater than or equal to 1, got -4"),
        ('object = "known"', "shots = []", "shots must list at least one"),
        ('object = "known"', "calibrate = 3", "detectors.1.calibrate must be greater than or equal to 4"),
        ('object = "known"', 'object = "known"\nparameters = {object = "nut"}', "is given one by its"),
        ('object = "known"', "parameters = {seed = 3}", "list it in 'seeds'"),
        ('"clip"\nobject = "known"', '"mutual"\ncalibrate = 8', "finds its threshold by itself"),
        ("bootstrap = 50", "bootstrap = 10_000_000", "bootstrap must be a whole number from 0 to 1,000,000"),
        (
            "n_pairs = [20, 40, 400]",
            "n_pairs = []",
            "of detector 'rwda' must list at least one n_pairs",
        ),
        ('name = "clip"', 'name = "clip"\nlabel = " "', "label must not be blank"),
        ('name = "clip"', 'name = "./nowhere"', "takes no 'object'"),
        ('"clip"\nobject = "known"\nseeds = [0]', '"./nowhere"', "'./nowhere' is not a saved detector"),
        ('name = "clip"', 'name = "rwda"\nlabel = "rwda n_pairs 20"', "two detectors of the grid are called"),
        ('"gaussian_noise:3"', "3", "corruptions entry 2 must be text, got 3"),
        ('["none", "gaussian_noise:3"]', "[]", "corruptions must list at least one"),
        ('root = "set"', 'root = "set"\ncategories = [1]', "categories"),
        ('root = "set"', 'root = "set"\nlayout = "mvtek"', "did you mean 'mvtec'"),
    ],
)
def test_a_wrong_grid_is_refused(
    grid: Path, tmp_path: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = grid.read_text()
    assert old in text
    grid.write_text(text.replace(old, new))
    refused(capsys, 2, f"{grid}: ", "benchmark", grid, "-o", tmp_path / "out")
    refused(capsys, 2, message, "benchmark", grid, "-o", tmp_path / "out")


VERDICTS = """
backbones = ["local-dir:{backbone}"]
corruptions = ["none", "contrast:1", "contrast:5", "darker:3"]

[[detectors]]
name = "clip"
calibrate = 4

[[detectors]]
name = "memory-only"
shots = [1, 2, 4]
"""


def test_verdicts_under_shifts_and_the_number_of_good_photos(tmp_path: Path, tiny_backbone: Path) -> None:
    root, out, grid = write_labelled_set(tmp_path / "set", good=9), tmp_path / "out", tmp_path / "grid.toml"
    grid.write_text(VERDICTS.format(backbone=tiny_backbone))
    assert run("benchmark", grid, "--root", root, "-o", out, "-q") == 0
    rows = measured(out)
    assert {row["images"] for row in rows} == {5 + 2}
    known = {(row["category"], row["detector"], row["threshold_logit"]) for row in rows}
    assert len(known) == 2 * 4  # the threshold of clean photos stays
    few = {row["detector"] for row in rows if row["false_alarms"] is None}
    assert few == {"memory-only 1 shot", "memory-only 2 shots"}  # too few for a threshold
    page = (out / "index.html").read_text()
    severity = page[page.index("<h2>Severity") : page.index("<h2>Sweep of shots")]
    assert severity.count(">severity of contrast<") == 2
    assert severity.index(">mean image AUROC<") < severity.index(">mean false alarms<")
    assert "darker" not in severity  # one severity is no curve
    assert "except of false alarms" in page
    assert "## False alarms, mean over categories" in (out / "table.md").read_text()
    head = (out / "metrics.csv").read_text().splitlines()[0]
    assert ",false_alarms,recall,map_false_alarms,iou,hot_area_ratio,threshold_logit,threshold_rule," in head
    before = times(out)
    assert run("benchmark", grid, "--root", root, "-o", out, "-q") == 0
    assert times(out) == before


def test_a_cell_that_lacks_good_photos_fails_alone(tmp_path: Path, tiny_backbone: Path) -> None:
    root, out, grid = write_labelled_set(tmp_path / "set", good=4), tmp_path / "out", tmp_path / "grid.toml"
    grid.write_text(VERDICTS.format(backbone=tiny_backbone).replace("[1, 2, 4]", "[1, 2]"))
    assert run("benchmark", grid, "--root", root, "-o", out, "-q") == 3
    rows = measured(out)
    assert {row["detector"] for row in rows if row["error"]} == {"clip"}
    assert {row["images"] for row in rows if not row["error"]} == {2 + 2}


def test_a_saved_detector_gets_a_threshold(tmp_path: Path, tiny_backbone: Path) -> None:
    root, grid = write_labelled_set(tmp_path / "set", good=6), tmp_path / "grid.toml"
    for name, code in (("clip", 0), ("mutual", 3)):  # the other finds its threshold by itself
        make(name, backbone=f"local-dir:{tiny_backbone}").fit().save(tmp_path / f"my-{name}")
        grid.write_text(f'[[detectors]]\nname = "my-{name}"\ncalibrate = 4\n')
        out = tmp_path / f"out-{name}"
        assert run("benchmark", grid, "--root", root, "-o", out, "-q") == code
        rules = {row["threshold_rule"] for row in measured(out)}
        assert rules == ({"t"} if code == 0 else {None})


def test_the_ready_grids_can_be_read(tmp_path: Path, grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {"pairs", "random-words", "network", "fusion", "objects", "controls"} <= set(ready_names())
    assert {"shift", "anchors"} <= set(ready_names())
    for name in ready_names():
        assert run("benchmark", name, "--root", tmp_path / "set", "--plan") == 0, name
    assert "data set set: cloth, nut" in capsys.readouterr().err
    refused(capsys, 2, "add -o DIR", "benchmark", "pairs", "--root", tmp_path / "set", "-q")
    refused(capsys, 2, "did you mean 'pairs'", "benchmark", "pears", "--plan")
