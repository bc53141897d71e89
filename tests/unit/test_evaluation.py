"""Evaluation: figures are those of the predictions, and sharing a pass over the images changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from labelled_set import write_holed_category
from zeroflaw.detectors import make
from zeroflaw.detectors.base import Request
from zeroflaw.errors import DetectorError
from zeroflaw.lab.datasets import Category, open_mvtec
from zeroflaw.lab.evaluation import METRICS, Entry, evaluate_category, mean_of, summary_of


@pytest.fixture
def category(tmp_path: Path) -> Category:
    """Four good and four flawed pictures; one flawed picture has no mask."""
    write_holed_category(tmp_path / "set" / "part", np.random.default_rng(0), masks=3)
    (found,) = open_mvtec(tmp_path / "set")
    return found


def entry(name: str, backbone: Path, seed: int = 0, **parameters: object) -> Entry:
    if name.startswith("rwda"):
        parameters = {"n_pairs": 30, "epochs": 2, **parameters}
    detector = make(name, backbone=f"local-dir:{backbone}", seed=seed, **parameters).fit()
    return Entry(name, seed, detector)  # type: ignore[arg-type]


def rows_of(*arguments: Any, **options: Any) -> list[dict[str, Any]]:
    return [outcome.row for outcome in evaluate_category(*arguments, **options)]


def test_the_figures_are_those_of_the_predictions(category: Category, tiny_backbone: Path) -> None:
    one = entry("rwda", tiny_backbone)
    (row,) = rows_of(category, [one], batch_size=3)
    found = list(one.detector.predict([r.image for r in category.test], maps=True))
    labels = [r.label for r in category.test]
    assert row["image_auroc"] == pytest.approx(roc_auc_score(labels, [p.logit for p in found]), abs=1e-9)
    assert row["image_aupr"] == pytest.approx(
        average_precision_score(labels, [p.logit for p in found]), abs=1e-9
    )
    pixels, truth = [], []
    for record, prediction in zip(category.test, found, strict=True):
        if record.label == 0 or record.mask is not None:
            pixels.append(prediction.resized_map().ravel())
            mask = np.zeros((36, 52), dtype=bool)
            mask[8:20, 10:30] = record.label == 1
            truth.append(mask.ravel())
    expected = roc_auc_score(np.concatenate(truth), np.concatenate(pixels))
    assert row["pixel_auroc"] == pytest.approx(expected, abs=1e-4)
    assert (row["images"], row["anomalous"], row["without_mask"], row["unreadable"]) == (8, 4, 1, 0)
    assert any("mask" in note for note in row["notes"])


def test_sharing_a_pass_changes_nothing(
    category: Category, tiny_backbone: Path, tiny_aligned_backbone: Path
) -> None:
    entries = [
        entry("rwda", tiny_backbone),
        entry("rwda", tiny_aligned_backbone, seed=1),
        entry("clip", tiny_backbone, window_sizes=(3,)),
        entry("rwda-lda", tiny_aligned_backbone, map_from="windows"),
    ]
    together = rows_of(category, entries)
    for row, one in zip(together, entries, strict=True):
        (alone,) = rows_of(category, [one])
        for name in METRICS:
            assert row[name] == pytest.approx(alone[name], abs=1e-6), (one.name, name)


def test_undefined_metrics_are_null_with_a_reason(tmp_path: Path, tiny_backbone: Path) -> None:
    (tmp_path / "part" / "test" / "good").mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(tmp_path / "part" / "test" / "good" / "0.png")
    (category,) = open_mvtec(tmp_path)
    (row,) = rows_of(category, [entry("clip", tiny_backbone)])
    assert all(row[name] is None for name in METRICS)
    assert any(
        note.startswith("undefined are image_auroc, image_aupr") and " of part" in note
        for note in row["notes"]
    )


def test_summaries_average_categories_first_and_seeds_then() -> None:
    def row(category: str, seed: int, value: float | None) -> dict[str, object]:
        rest = dict.fromkeys(METRICS, None)
        facts = {"detector": "d", "backbone": "b", "corruption": "none", "dataset": "s", "error": None}
        facts |= {"category": category, "seed": seed, "unreadable": 0, "without_mask": 0, "missing": 0}
        return {**rest, **facts, "image_auroc": value}

    rows = [row("a", 0, 0.5), row("b", 0, 0.7), row("a", 1, 0.7), row("b", 1, 0.9), row("c", 1, None)]
    (line,) = summary_of(rows)
    assert line["image_auroc"]["mean"] == pytest.approx(0.7)
    assert line["image_auroc"]["std"] == pytest.approx(np.std([0.6, 0.8], ddof=1))
    assert line["pixel_auroc"] == {"mean": None, "std": None}
    assert mean_of(rows)["image_auroc"] == pytest.approx(0.7)


def test_a_bad_mask_is_named_and_the_rest_goes_on(category: Category, tiny_backbone: Path) -> None:
    masks = [record.mask for record in category.test if record.mask is not None]
    masks[0].write_text("no mask")
    Image.new("L", (10, 90)).save(masks[1])
    (row,) = rows_of(category, [entry("clip", tiny_backbone)])
    assert (row["images"], row["without_mask"]) == (8, 3)
    assert row["pixel_auroc"] is not None
    assert sum("left out of pixel metrics" in note for note in row["notes"]) == 3


@pytest.mark.parametrize("error", [RuntimeError("out of shape"), MemoryError(), DetectorError("not here")])
def test_one_detector_that_fails_harms_no_other(
    category: Category, tiny_backbone: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [
        entry("clip", tiny_backbone),
        entry("rwda", tiny_backbone),
        entry("rwda", tiny_backbone, seed=1),
    ]
    alone = evaluate_category(category, [entries[0], entries[2]], batch_size=3)
    whole = entries[1].detector.predict_features

    def fails_later(features: Any, request: Any, sizes: Any, *, maps: bool) -> Any:
        if len(sizes) < 3:  # the last batch
            raise error
        return whole(features, request, sizes, maps=maps)

    monkeypatch.setattr(entries[1].detector, "predict_features", fails_later)
    first, broken, last = evaluate_category(category, entries, batch_size=3, keep_going=True)
    assert [first.row, last.row] == [outcome.row for outcome in alone]
    assert str(error) in broken.row["error"]
    assert type(error).__name__[:6] in broken.row["error"] + "Detector"
    assert (broken.row["images"], broken.row["image_auroc"], broken.scored) == (0, None, [])
    with pytest.raises(type(error)):
        evaluate_category(category, entries, batch_size=3)


def test_what_one_detector_asks_for_harms_no_other(
    category: Category, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [entry("clip", tiny_backbone), entry("rwda", tiny_backbone)]
    (alone,) = evaluate_category(category, entries[:1])
    monkeypatch.setattr(entries[1].detector, "request", lambda maps: Request(windows=((99, 1),)))
    good, broken = evaluate_category(category, entries, keep_going=True)
    assert good.row == alone.row
    assert broken.row["error"]


def test_a_score_that_is_no_number_is_a_failure(
    category: Category, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = entry("clip", tiny_backbone)
    whole = one.detector.predict_features

    def spoilt(*arguments: Any, **options: Any) -> Any:
        return [replace(found, logit=float("nan")) for found in whole(*arguments, **options)]

    monkeypatch.setattr(one.detector, "predict_features", spoilt)
    (row,) = rows_of(category, [one], keep_going=True)
    assert "not a finite number" in row["error"]


def test_names_that_are_no_text_can_be_written(category: Category, tiny_backbone: Path) -> None:
    path = category.test[0].image
    odd = path.with_name("bad\udcff.png")
    try:
        path.rename(odd)
    except (OSError, UnicodeError):
        pytest.skip("the file system takes only text")
    (found,) = open_mvtec(path.parents[3])
    (outcome,) = evaluate_category(found, [entry("clip", tiny_backbone)])
    json.dumps(outcome.row, ensure_ascii=False).encode()
    assert any("bad" in image.image and image.image.encode() for image in outcome.scored)
