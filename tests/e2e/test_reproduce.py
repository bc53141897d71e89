"""A published table run again: measured beside published, and a reason wherever nothing was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import picture, run
from trees import plant
from zeroflaw.errors import UsageError
from zeroflaw.lab.benchmark import reproduce as module
from zeroflaw.lab.benchmark.reproduce import Reproduction, Setting, table_names
from zeroflaw.lab.benchmark.results import Results
from zeroflaw.lab.evaluation.rows import Result, Row
from zeroflaw.lab.published import published


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with something that goes by the name of MVTec AD: two of its categories."""
    for category in ("bottle", "leather"):
        for number, name in enumerate(("good/0", "good/1", "good/2", "cut/0", "cut/1", "cut/2")):
            picture(tmp_path / f"data/mvtec_ad/{category}/test/{name}.png", number, size=(30, 40))
    return tmp_path / "data"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out detectors that take long to fit."""
    slow = ("rwda", "shift-words")
    numbers = tuple(n for n in published(table="poster") if n.detector not in slow)
    monkeypatch.setattr(module, "numbers_of", lambda name: numbers)


def test_every_row_is_measured_or_says_why_not(
    root: Path, tiny_backbone: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["--root", root, "--backbone", f"local-dir:{tiny_backbone}", "-o", out]
    assert run("reproduce", "poster", *arguments) == 3  # AeBAD, VisA and some weights are not there
    found = json.loads((out / "comparison.json").read_text())["rows"]
    rows = json.loads((out / "metrics.json").read_text())["rows"]
    assert len(found) == len(module.numbers_of("poster"))
    assert all((row["measured"] is None) != (row["reason"] is None) for row in found)

    def one(**wanted: object) -> dict[str, object]:
        (row,) = (r for r in found if all(r["number"][key] == value for key, value in wanted.items()))
        return row  # type: ignore[no-any-return]

    clean = one(method="clip", dataset="mvtec", corruption=None)
    values = [r["image_auroc"] for r in rows if r["detector"] == "clip" and r["corruption"] == "none"]
    assert clean["measured"] == pytest.approx(100 * np.mean(values))
    assert clean["difference"] == pytest.approx(100 * np.mean(values) - 73.8)
    assert clean["coverage"] == "2 of 15 categories, 12 images"
    mean = one(method="winclip", dataset="mvtec", corruption="mean")
    values = [r["image_auroc"] for r in rows if r["detector"] == "winclip" and r["corruption"] != "none"]
    assert len(values) == 2 * 4
    assert mean["measured"] == pytest.approx(100 * np.mean(values))
    assert "no data: VisA" in str(one(method="clip", dataset="visa", corruption=None)["reason"])
    assert "--autoencoder" in str(one(method="maeday", dataset="mvtec", corruption=None)["reason"])
    assert "--auxiliary" in str(one(method="acr", dataset="mvtec", corruption=None)["reason"])
    page = (out / "comparison.html").read_text()
    measured = sum(row["measured"] is not None for row in found)
    assert page.count("<tr>") == 1 + measured + 1 + len(found)
    worse = sum(row["difference"] is not None and row["difference"] <= -1 for row in found)
    assert page.count('worse">') == 2 * worse > 0
    text = capsys.readouterr().out
    assert "2 of 15 categories" in text
    assert "no data: AeBAD" in text
    assert "| CLIP | MVTec AD, clean | image auroc | 73.8 |" in (out / "comparison.md").read_text()


def measured(**facts: Any) -> Results:
    """Return results of one row, leather of MVTec AD."""
    given = dict.fromkeys(("domain", "backbone", "object", "error"))
    given |= dict.fromkeys(("seed", "unreadable", "without_mask", "missing", "anomalous"), 0)
    given |= {"dataset": "mvtec_ad", "category": "leather", "corruption": "none", "images": 6}
    return Results([Result(row=Row(**{**given, **facts}), domains=(), scored=())])


def test_a_table_of_categories_is_compared_category_by_category(root: Path, tiny_backbone: Path) -> None:
    wanted = Reproduction("winclip-mvtec", Setting((root,), backbone=f"local-dir:{tiny_backbone}"))
    assert [spec.name for spec in wanted.plan().grid.detectors] == ["winclip"]
    compared = wanted.compare(measured(detector="winclip", image_auroc=0.5))
    found = {(c.number.category, c.number.metric): c for c in compared}
    leather = found["leather", "image_auroc"]
    assert (leather.measured, leather.difference, leather.side) == (50.0, -50.0, "worse")
    assert found["leather", "pixel_auroc"].reason == "undefined here"
    assert found["cable", "image_auroc"].reason == "the data set has no category cable"


def test_each_row_gets_its_own_shots(root: Path, tiny_backbone: Path) -> None:
    wanted = Reproduction("winclip-few-shot", Setting((root,), backbone=f"local-dir:{tiny_backbone}"))
    shots = {spec.label: spec.shots for spec in wanted.plan().grid.detectors}
    assert shots == {f"winclip-plus, {n} shot{'s' * (n > 1)}": n for n in (1, 2, 4)}
    values = {1: 0.5, 2: 0.6, 4: 0.7}
    results = [
        # What lies beside the products of the table does not count.
        measured(detector=label, category=category, image_auroc=value).results[0]
        for label, count in shots.items()
        for category, value in (("leather", values[count]), ("my own", 0.0))
    ]
    found = [c for c in wanted.compare(Results(results)) if c.measured is not None]
    assert {c.number.shots: c.measured for c in found} == pytest.approx({1: 50, 2: 60, 4: 70})
    assert {c.coverage for c in found} == {"1 of 15 categories, 6 images"}


def test_domains_are_averaged_with_the_pooled_value_beside(tmp_path: Path, tiny_backbone: Path) -> None:
    base = tmp_path / "AeBAD" / "AeBAD_S" / "test"
    plant(base, "good/same/0.png", "good/view/0.png", "groove/same/0.png", "groove/view/0.png")
    wanted = Reproduction("poster", Setting((tmp_path,), backbone=f"local-dir:{tiny_backbone}"))
    facts = {"detector": "clip", "dataset": "AeBAD", "category": "AeBAD_S", "images": 2}
    domains = tuple(
        measured(**facts, domain=d, image_auroc=v).whole[0] for d, v in (("same", 0.2), ("view", 0.6))
    )
    whole = (
        measured(**{**facts, "images": 4}, image_auroc=0.5).results[0].model_copy(update={"domains": domains})
    )
    (found,) = [c for c in wanted.compare(Results([whole])) if c.measured is not None]
    assert (found.measured, found.pooled) == (pytest.approx(40), pytest.approx(50))
    assert found.coverage == "mean of 2 domains, 4 images"


def test_the_row_clip_ac_of_the_poster_is_the_pair_in_templates() -> None:
    methods = {number.detector for number in module.numbers_of("poster")}
    assert "clip-ac-templates" in methods
    assert "clip-ac" not in methods


def test_a_data_set_that_only_begins_like_another_is_not_taken_for_it(root: Path) -> None:
    for name in ("bottle", "leather"):
        folder = (root / "mvtec_ad" / name).rename(root / "mvtec_ad" / f"{name}_box")
        (folder / "test" / "cut").rename(folder / "test" / "logical_anomalies")
    (root / "mvtec_ad").rename(root / "mvtec_loco")
    with pytest.raises(UsageError, match="no data: MVTec AD"):
        Reproduction("winclip-mvtec", Setting((root,))).plan()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("newer-strict", r"of methods that are not here \(SAA\+"),
        ("postr", r"a published table was wanted \(.*poster.*did you mean 'poster'"),
        ("winclip-visa", "nothing of the table 'winclip-visa' can be measured: no data: VisA"),
    ],
)
def test_what_cannot_be_measured_at_all_is_refused(root: Path, name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Reproduction(name, Setting((root,))).plan()
    assert "poster" in table_names()
    assert run("reproduce", "poster", "--root", root / "nowhere") == 2
