"""``evaluate --workers`` and ``benchmark --workers``: the rows of one process, whatever befalls a worker."""

from __future__ import annotations

import json
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.command import measured, run

from labelled_set import write_labelled_set
from zeroflaw.cli.workers import _Workers
from zeroflaw.detectors import open_fitted
from zeroflaw.lab.datasets import Category, open_dataset
from zeroflaw.lab.evaluation.away import judge_part
from zeroflaw.lab.evaluation.judging import NamedDetector, evaluate_category
from zeroflaw.lab.evaluation.rows import Result
from zeroflaw.lab.metrics import PixelMetrics
from zeroflaw.scale.driving import TRIES, Processes

GRID = """
title = "two"
corruptions = ["none", "contrast:3"]
seeds = [0, 1]

[[datasets]]
root = "set"

[[detectors]]
name = "memory"
shots = 2
"""


class Mortal(Processes):
    """Workers of this process: they die of some images, and of the first block whatever it is."""

    def __init__(self, deadly: str) -> None:
        self.workers, self.ahead = 2, 4
        self.deadly, self.submitted = deadly, 0

    def submit(self, *arguments: object) -> Future[Any]:
        block, job = arguments
        future: Future[Any] = Future()
        self.submitted += 1
        names = [record.image.name for _, record in block]  # type: ignore[attr-defined]
        if self.submitted == 1 or self.deadly in names:
            future.set_exception(BrokenProcessPool("killed"))
        else:
            future.set_result(judge_part(block, job))  # type: ignore[arg-type]
        return future

    def restart(self) -> bool:
        return False


@pytest.fixture
def category(tmp_path: Path) -> Category:
    root = write_labelled_set(tmp_path / "set", products=("cup",), good=5, flawed=4)
    (root / "cup" / "test" / "good" / "bad.png").write_bytes(b"no picture")
    (found,) = open_dataset(root)
    return found


def close(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, float):
            assert other[name] == pytest.approx(value, abs=1e-4), name
        else:
            assert other[name] == value, name


def both(category: Category, folder: Path, engine: Processes, *names: str) -> list[list[Result]]:
    """Return the results of this process alone, and those with workers."""
    good = [record.image for record in category.test if record.label == 0][:1]
    given = {"memory": {"reference": good}}
    detectors = [NamedDetector(name, 0, open_fitted(name, {}, **given.get(name, {}))) for name in names]
    counted: list[int] = []
    settings: dict[str, Any] = {"corruption": ("contrast", 3), "batch_size": 2}
    settings["on_image"] = lambda: counted.append(1)
    folder.mkdir()
    ways = (None, _Workers(engine, folder))
    found = [evaluate_category(category, detectors, **settings, spread=way) for way in ways]
    assert len(counted) == 2 * len(category.test)
    return found


def test_rows_of_workers_that_die_once(category: Category, tmp_path: Path) -> None:
    engine = Mortal("none")
    plain, found = both(category, tmp_path / "saved", engine, "rwda", "memory", "mutual")
    for one, other in zip(plain, found, strict=True):
        close(one.row.model_dump(), other.row.model_dump())
        assert [image[:2] for image in one.scored] == [image[:2] for image in other.scored]
    assert found[0].row.unreadable == 1
    assert found[2].row.images == 9  # all images at once, in this process
    assert engine.submitted > 3


def test_an_image_that_no_worker_survives_is_left_out(category: Category, tmp_path: Path) -> None:
    _, found = both(category, tmp_path / "saved", Mortal("3.png"), "rwda")
    row = found[0].row  # a good one and a flawed one go by this name
    assert (row.images, row.unreadable) == (7, 3)
    assert any(f"its worker died {TRIES} times" in note for note in row.notes)


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    root = write_labelled_set(tmp_path / "set", products=("cup", "lid"), good=4, flawed=3)
    for image in list(root.glob("*/test/good/[01].png")):
        (root / image.parts[-4] / "train" / "good").mkdir(parents=True, exist_ok=True)
        image.rename(root / image.parts[-4] / "train" / "good" / image.name)
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path / "grid.toml"


def test_the_commands_write_the_same(grid: Path, tmp_path: Path) -> None:
    for name, more in {"one": (), "two": ("--workers", "2")}.items():
        assert run("benchmark", grid, "-o", tmp_path / name, "-q", *more) == 0
        assert run("evaluate", tmp_path / "set", "-o", tmp_path / f"{name}-set", "-q", *more) == 0
    for suffix, count in (("", 8), ("-set", 2)):
        one, two = (measured(tmp_path / f"{name}{suffix}") for name in ("one", "two"))
        assert len(one) == count
        for row, other in zip(one, two, strict=True):
            close(row, other)
    assert json.loads((tmp_path / "two" / "metrics.json").read_text())["rows"][0]["pixel_auroc"] is not None


def test_what_is_counted_of_pixels_travels_small() -> None:
    draw = np.random.default_rng(0)
    metrics = PixelMetrics()
    mask = np.zeros((20, 30), dtype=bool)
    mask[3:8, 4:9] = True
    metrics.update(draw.random((20, 30), dtype=np.float32), mask)
    state = metrics.__getstate__()
    assert len(state["used"]) <= 600
    other = PixelMetrics.__new__(PixelMetrics)
    other.__setstate__(state)
    assert other.result() == metrics.result()
