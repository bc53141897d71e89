"""Verdicts in rows: those of predictions, at the threshold of clean photos, on photos not learned from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_evaluation import Darkness, fitted

from labelled_set import write_holed_category
from zeroflaw.corruptions import corrupt
from zeroflaw.detectors import Detector, make
from zeroflaw.images import read_image
from zeroflaw.lab.benchmark.grid import DetectorSpec
from zeroflaw.lab.benchmark.plan import Cell, Unit
from zeroflaw.lab.datasets import Category, open_mvtec
from zeroflaw.lab.evaluation.judging import NamedDetector, evaluate_category
from zeroflaw.lab.evaluation.rows import VERDICTS
from zeroflaw.lab.evaluation.verdicts import Judged, judged, verdict_figures
from zeroflaw.records import Record
from zeroflaw.runtime.prediction import Prediction


@pytest.fixture
def category(tmp_path: Path) -> Category:
    """Twelve good and eight flawed pictures with masks, in two runs of numbers."""
    for number in range(3):
        write_holed_category(tmp_path / str(number) / "part", np.random.default_rng(number))
    parts = [open_mvtec(tmp_path / str(number)).categories[0] for number in range(3)]
    records = [record for part in parts for record in part.test]
    flawed = [record for record in records if record.label][:8]
    return replace(parts[0], test=[record for record in records if not record.label] + flawed)


def calibrated(backbone: Path, images: list[Path], **parameters: Any) -> NamedDetector:
    one = fitted("clip", backbone, **parameters)
    one.detector.calibrate(images)  # type: ignore[union-attr]
    return one


def good(category: Category) -> list[Record]:
    return [record for record in category.test if record.label == 0]


def rates(category: Category, found: list[Prediction]) -> tuple[Any, Any]:
    verdicts = np.array([prediction.label for prediction in found])
    flawed = np.array([record.label for record in category.test], dtype=bool)
    return pytest.approx(verdicts[~flawed].mean()), pytest.approx(verdicts[flawed].mean())


def test_rows_have_the_verdicts_of_the_predictions(category: Category, tiny_backbone: Path) -> None:
    photos = [record.image for record in good(category)[:5]]
    one = calibrated(tiny_backbone, photos)
    plain = fitted("clip", tiny_backbone, window_sizes=(3,))
    asks_more = calibrated(tiny_backbone, photos, window_sizes=(3,))
    results = evaluate_category(category, [one, plain, asks_more], batch_size=3)
    for named, result in zip((one, asks_more), (results[0], results[2]), strict=True):
        detector: Any = named.detector
        found = list(detector.predict([record.image for record in category.test], maps=True))
        row = result.row
        assert (row.false_alarms, row.recall) == rates(category, found)
        assert row.threshold_logit == found[0].threshold_logit == detector.calibration_.threshold
        assert row.threshold_rule == "t"  # of five photos
        hot = [bool(p.mask().any()) for p, r in zip(found, category.test, strict=True) if not r.label]
        assert row.map_false_alarms == pytest.approx(np.mean(hot))
        assert row.iou is not None
    row = results[1].row
    assert all(row.metric(name) is None for name in VERDICTS)
    assert (row.threshold_logit, row.threshold_rule) == (None, None)


def test_the_threshold_stays_that_of_clean_photos(category: Category, tiny_backbone: Path) -> None:
    one = calibrated(tiny_backbone, [record.image for record in good(category)[:5]])
    (result,) = evaluate_category(category, [one], corruption=("darker", 5))
    pictures = [corrupt(read_image(record.image), "darker", 5) for record in category.test]
    detector: Any = one.detector
    found = list(detector.predict(pictures))
    assert (result.row.false_alarms, result.row.recall) == rates(category, found)
    assert result.row.threshold_logit == detector.calibration_.threshold


@pytest.mark.parametrize("neighbours", [(), (1, 3)])
def test_photos_compared_with_one_another_are_judged_as_by_predict(
    category: Category, tiny_backbone: Path, neighbours: tuple[int, ...]
) -> None:
    options: dict[str, Any] = {"partners": 6, "neighbours": neighbours}
    mutual = make("mutual", backbone=f"local-dir:{tiny_backbone}", seed=3, **options).fit()
    beside = fitted("clip", tiny_backbone)
    result, _ = evaluate_category(category, [NamedDetector("mutual", 3, mutual), beside], batch_size=3)
    found = list(mutual.predict([record.image for record in category.test], maps=True))
    logits = [prediction.logit for prediction in found]
    np.testing.assert_allclose([logit for *_, logit in result.scored], logits, atol=1e-4)
    assert (result.row.false_alarms, result.row.recall) == rates(category, found)
    assert result.row.threshold_logit == pytest.approx(found[0].threshold_logit, abs=1e-4)
    assert result.row.threshold_rule == "robust"
    assert result.row.map_false_alarms is not None


class Sure(Darkness):
    """A detector of somebody else, with verdicts of its own."""

    def _predict_batch(self, images: list[Any], maps: bool) -> list[Prediction]:
        found = super()._predict_batch(images, maps)
        return [p.with_threshold(0.5, "mine", map_threshold=0.9) for p in found]


def test_a_detector_of_ones_own_has_its_own_verdicts(category: Category) -> None:
    detector = Sure().fit()
    (result,) = evaluate_category(category, [NamedDetector("sure", 0, detector)])
    found = list(detector.predict([record.image for record in category.test]))
    assert (result.row.false_alarms, result.row.recall) == rates(category, found)
    assert (result.row.threshold_logit, result.row.threshold_rule) == (0.5, "own")
    # The hole is black and the mask is the hole: all that is hot is flawed, and the other way round.
    assert (result.row.iou, result.row.hot_area_ratio) == pytest.approx((1, 1))
    assert result.row.map_false_alarms == 0


def test_domains_with_thresholds_of_their_own_have_none_together(
    category: Category, tiny_backbone: Path
) -> None:
    parts = [replace(record, domain="ab"[number % 2]) for number, record in enumerate(category.test)]
    mutual = make("mutual", backbone=f"local-dir:{tiny_backbone}", partners=5).fit()
    (result,) = evaluate_category(replace(category, test=parts), [NamedDetector("m", 0, mutual)])
    thresholds = {row.threshold_logit for row in result.domains}
    assert len(thresholds) == 2
    assert None not in thresholds
    assert result.row.threshold_logit is None
    mean = result.row.mean_of_domains
    assert mean is not None
    assert result.row.false_alarms == pytest.approx(mean["false_alarms"])  # both have as many good images


def test_figures_of_regions(category: Category) -> None:
    mask, nothing = np.zeros((2, 4, 5), dtype=bool)
    mask[:2] = True
    drawn = np.zeros((4, 5), dtype=np.float32)
    drawn[1:, :] = 0.8
    flawed, fine = category.test[-1], category.test[0]

    def say(record: Record, label: bool | None, hot: float | None, mask: np.ndarray) -> Judged:
        made = Prediction("", 0.5, 0.0, {}, (4, 5), label=label, map_threshold=hot)
        return judged(record, made, drawn, mask)

    found = [
        say(flawed, True, 0.7, mask),
        say(fine, False, 0.7, nothing),
        say(fine, False, 0.9, nothing),
        say(flawed, False, 0.9, mask),
    ]
    assert verdict_figures(found) == {
        "false_alarms": 0.0,
        "recall": 0.5,
        "map_false_alarms": 0.5,
        "iou": pytest.approx((5 / 20 + 0) / 2),
        "hot_area_ratio": pytest.approx(0.375 / 0.5),
        "threshold_logit": None,
    }
    assert verdict_figures([*found, say(flawed, None, None, mask)])["recall"] is None  # one has no verdict


def test_a_detector_is_not_measured_on_what_is_left_out(category: Category, tiny_backbone: Path) -> None:
    first, second = (frozenset(r.image for r in good(category)[a:b]) for a, b in ((0, 3), (2, 4)))

    def all_with(left_out: frozenset[Path], mine: Category) -> list[Any]:
        detectors: list[Detector] = [
            make("clip", backbone=f"local-dir:{tiny_backbone}").fit(),
            make("mutual", backbone=f"local-dir:{tiny_backbone}", partners=6).fit(),
            Darkness().fit(),
        ]
        named = [NamedDetector(one.name, 0, one, left_out=left_out) for one in detectors]
        return named if left_out else evaluate_category(mine, named, batch_size=2)

    together = evaluate_category(
        category, all_with(first, category) + all_with(second, category), batch_size=2
    )
    for left_out, found in ((first, together[:3]), (second, together[3:])):
        fewer = replace(category, test=[r for r in category.test if r.image not in left_out])
        for one, alone in zip(found, all_with(frozenset(), fewer), strict=True):
            assert [key for key, *_ in one.scored] == [key for key, *_ in alone.scored]
            logits = [[logit for *_, logit in result.scored] for result in (one, alone)]
            np.testing.assert_allclose(*logits, atol=1e-4)
            assert one.row.images == 20 - len(left_out)
            assert any(note.startswith(f"set aside are {len(left_out)} good") for note in one.row.notes)


def unit(category: Category, *wanted: tuple[int, int], seeds: tuple[int, ...] = (0,)) -> Unit:
    specs = [DetectorSpec(name="x", label=str(n), shots=s, calibrate=c) for n, (s, c) in enumerate(wanted)]
    return Unit(category, "none", tuple(Cell(spec, "mini", seed) for seed in seeds for spec in specs))


def test_fewer_photos_are_the_first_of_more_and_all_leave_out_the_same(category: Category) -> None:
    found = unit(category, (0, 0), (1, 0), (4, 0), (2, 4), (12, 0))
    none, one, four, both, many = (found.photos(cell) for cell in found.cells)
    assert (none.reference, len(none.left_out)) == ((), 6)
    assert {photos.left_out for photos in (none, one, four, both, many)} == {none.left_out}
    assert one.reference == four.reference[:1] == both.reference[:1]
    assert not set(both.reference) & set(both.calibration)
    assert {record.label for record in none.left_out} == {0}
    assert "12 good photos were wanted, but there are 0 training images of part" in str(many.lacking)
    seeded = unit(category, (4, 0), seeds=(0, 1))
    assert len({seeded.photos(cell).left_out for cell in seeded.cells}) == 2


def test_training_images_go_first(category: Category) -> None:
    train = tuple(replace(record, split="train") for record in good(category)[:5])
    few = unit(replace(category, train=train), (5, 0), (1, 4))
    assert all(few.photos(cell).left_out == () for cell in few.cells)
    assert set(few.photos(few.cells[0]).reference) == set(train)
    more = unit(replace(category, train=train), (5, 0), (6, 0))
    assert all(len(more.photos(cell).left_out) == 6 for cell in more.cells)
