"""Evaluation: figures are those of the predictions, and sharing a pass over the images changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from labelled_set import write_holed_category
from zeroflaw.detectors import Detector, Needs, make
from zeroflaw.detectors.check import check_detector
from zeroflaw.errors import DetectorError
from zeroflaw.lab.datasets import Category, open_mvtec
from zeroflaw.lab.evaluation.judging import NamedDetector, evaluate_category
from zeroflaw.lab.evaluation.rows import METRICS, Result, Row, mean_of, summary_of
from zeroflaw.parameters import parameters
from zeroflaw.runtime.features import FeatureRequest
from zeroflaw.runtime.prediction import Prediction

FACTS: dict[str, Any] = {
    **dict.fromkeys(("dataset", "category", "detector"), "x"),
    **dict.fromkeys(("domain", "backbone", "object", "error")),
    **dict.fromkeys(("seed", "unreadable", "without_mask", "missing"), 0),
    "corruption": "none",
    "images": 2,
    "anomalous": 1,
}


@pytest.fixture
def category(tmp_path: Path) -> Category:
    """Four good and four flawed pictures; one flawed picture has no mask."""
    write_holed_category(tmp_path / "set" / "part", np.random.default_rng(0), masks=3)
    (found,) = open_mvtec(tmp_path / "set")
    return found


@parameters
class Darkness(Detector):
    """A detector of somebody else: no backbone, no features, only what the contract asks for."""

    name: ClassVar[str] = "darkness"
    needs: ClassVar[Needs] = Needs(words=False)
    source: ClassVar[str] = "this test"

    fitted = False

    def fit(self, **given: object) -> Any:
        self.fitted = True
        return self

    @property
    def is_fitted(self) -> bool:
        return self.fitted

    def save(self, folder: str | Path) -> None:
        self._require_fit()
        Path(folder).mkdir()

    def _predict_batch(self, images: list[Any], maps: bool) -> list[Prediction]:
        dark = [1 - image.mean(axis=2).astype(np.float32) / 256 for image in images]
        logits = [float(part.mean()) for part in dark]
        return [
            Prediction("", 1 / (1 + np.exp(-logit)), logit, {}, part.shape, map=part if maps else None)
            for logit, part in zip(logits, dark, strict=True)
        ]


@parameters
class Rank(Darkness):
    """The same, but an image is judged by the batch it comes in."""

    name: ClassVar[str] = "rank"
    needs: ClassVar[Needs] = Needs(words=False, whole_batch=True)

    def _predict_all(self, images: Any, *arguments: Any) -> Any:
        found = list(super()._predict_all(images, *arguments))
        logits = [prediction.logit for prediction in found]
        for prediction in found:
            yield replace(prediction, logit=prediction.logit - float(np.mean(logits)))


def fitted(name: str, backbone: Path, seed: int = 0, **parameters: object) -> NamedDetector:
    if name.startswith("rwda"):
        parameters = {"n_pairs": 30, "epochs": 2, **parameters}
    detector = make(name, backbone=f"local-dir:{backbone}", seed=seed, **parameters).fit()
    return NamedDetector(name, seed, detector)


def rows_of(*arguments: Any, **options: Any) -> list[Row]:
    return [result.row for result in evaluate_category(*arguments, **options)]


def test_the_figures_are_those_of_the_predictions(category: Category, tiny_backbone: Path) -> None:
    one = fitted("rwda", tiny_backbone)
    (row,) = rows_of(category, [one], batch_size=3)
    assert one.detector is not None
    found = list(one.detector.predict([r.image for r in category.test], maps=True))
    labels, logits = [r.label for r in category.test], [p.logit for p in found]
    assert row.image_auroc == pytest.approx(roc_auc_score(labels, logits), abs=1e-6)
    assert row.image_aupr == pytest.approx(average_precision_score(labels, logits), abs=1e-6)
    pixels, truth = [], []
    for record, prediction in zip(category.test, found, strict=True):
        if record.label == 0 or record.mask is not None:
            pixels.append(prediction.resized_map().ravel())
            mask = np.zeros((36, 52), dtype=bool)
            mask[8:20, 10:30] = record.label == 1
            truth.append(mask.ravel())
    expected = roc_auc_score(np.concatenate(truth), np.concatenate(pixels))
    assert row.pixel_auroc == pytest.approx(expected, abs=1e-4)
    assert (row.images, row.anomalous, row.without_mask, row.unreadable) == (8, 4, 1, 0)
    assert any("mask" in note for note in row.notes)


def test_sharing_a_pass_changes_nothing(
    category: Category, tiny_backbone: Path, tiny_aligned_backbone: Path
) -> None:
    detectors = [
        fitted("rwda", tiny_backbone),
        fitted("rwda", tiny_aligned_backbone, seed=1),
        fitted("clip", tiny_backbone, window_sizes=(3,)),
        NamedDetector("darkness", 0, Darkness().fit()),
        fitted("rwda-lda", tiny_aligned_backbone, map_from="windows"),
    ]
    together = rows_of(category, detectors)
    for row, one in zip(together, detectors, strict=True):
        (alone,) = rows_of(category, [one])
        for name in METRICS:
            assert row.metric(name) == pytest.approx(alone.metric(name), abs=1e-5), (one.name, name)


@pytest.mark.parametrize("detector", [Darkness, Rank])
def test_a_detector_of_ones_own_is_judged_through_predict(detector: Any, category: Category) -> None:
    if detector is Darkness:
        check_detector(Darkness, load=lambda folder: Darkness().fit())
    first, second = evaluate_category(
        category,
        [NamedDetector("mine", 3, detector().fit()), NamedDetector("again", 4, detector().fit())],
        batch_size=3,
    )
    wanted = list(detector().fit().predict([r.image for r in category.test], maps=True))
    assert [logit for *_, logit in first.scored] == pytest.approx([p.logit for p in wanted], abs=1e-6)
    assert first.scored == second.scored
    assert (first.row.backbone, first.row.object, first.row.seed) == (None, None, 3)
    assert first.row.image_auroc == 1.0
    assert first.row.pixel_auroc is not None


def test_features_wait_for_a_detector_that_needs_all_images(
    category: Category, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, waiting = fitted("clip", tiny_backbone), fitted("clip", tiny_backbone)
    monkeypatch.setattr(waiting.detector, "needs", Needs(whole_batch=True))
    judged: list[int] = []
    whole = waiting.detector.judge  # type: ignore[union-attr]
    monkeypatch.setattr(
        waiting.detector,
        "judge",
        lambda features, *a, **o: judged.append(len(features)) or whole(features, *a, **o),
    )
    more = fitted("clip", tiny_backbone, window_sizes=(3,))  # asks for features that the others do not want
    one, other, _ = rows_of(category, [usual, waiting, more], batch_size=3)
    assert judged == [8]
    for name in METRICS:
        assert one.metric(name) == pytest.approx(other.metric(name), abs=1e-5)
    assert one.without_mask == other.without_mask == 1


def test_domains_are_measured_alone_pooled_and_on_average(
    category: Category, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = tuple(replace(r, domain="ab"[n % 2]) for n, r in enumerate(category.test))
    (result,) = evaluate_category(replace(category, test=parts), [NamedDetector("d", 0, Rank().fit())])
    assert [row.domain for row in result.domains] == ["a", "b"]
    assert result.row.mean_of_domains == mean_of(result.domains)
    assert result.row.images == sum(row.images for row in result.domains) == 8
    (line,) = summary_of([result])
    pooled = roc_auc_score([label for _, label, _ in result.scored], [logit for *_, logit in result.scored])
    assert line.image_auroc_pooled == pytest.approx(pooled)
    broken = Rank().fit()
    monkeypatch.setattr(broken, "_predict_batch", lambda images, maps: 1 / 0 if len(images) > 2 else [])
    both = [NamedDetector("bad", 0, broken), NamedDetector("good", 0, Rank().fit())]
    bad, good = evaluate_category(replace(category, test=parts), both, keep_going=True)
    assert "ZeroDivisionError" in str(bad.row.error)
    assert (bad.row.images, good.row.images) == (0, 8)
    assert line.image_auroc_mean_of_domains == result.row.mean_of_domains["image_auroc"]


def test_undefined_metrics_are_null_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "part" / "test" / "good").mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(tmp_path / "part" / "test" / "good" / "0.png")
    (category,) = open_mvtec(tmp_path)
    (row,) = rows_of(category, [NamedDetector("d", 0, Darkness().fit())], intervals=10)
    assert all(row.metric(name) is None for name in METRICS)
    assert row.image_auroc_interval is None
    assert any(note.startswith("undefined are image_auroc, image_aupr") for note in row.notes)
    assert not row.is_lost
    (tmp_path / "part" / "test" / "good" / "0.png").write_bytes(b"no picture")
    for detector in (Darkness(), Rank()):
        (row,) = rows_of(category, [NamedDetector("d", 0, detector.fit())])
        assert (row.is_lost, row.unreadable) == (True, 1)


def test_summaries_average_categories_first_and_seeds_then() -> None:
    given = [("a", 0, 0.5), ("b", 0, 0.7), ("a", 1, 0.7), ("b", 1, 0.9), ("c", 1, None)]
    rows = [Row(**{**FACTS, "category": c, "seed": s, "image_auroc": v}) for c, s, v in given]
    (line,) = summary_of([Result(row=row, domains=(), scored=()) for row in rows])
    assert line.means["image_auroc"] == pytest.approx((0.7, np.std([0.6, 0.8], ddof=1)))
    assert line.means["pixel_auroc"] == (None, None)
    assert (line.seeds, line.categories, line.incomplete) == ((0, 1), 3, True)
    assert line.to_dict()["image_auroc"]["mean"] == pytest.approx(0.7)
    assert mean_of(rows)["image_auroc"] == pytest.approx(0.7)


def test_a_bad_mask_is_named_and_the_rest_goes_on(category: Category) -> None:
    masks = [record.mask for record in category.test if record.mask is not None]
    masks[0].write_text("no mask")
    Image.new("L", (10, 90)).save(masks[1])
    (row,) = rows_of(category, [NamedDetector("d", 0, Darkness().fit())])
    assert (row.images, row.without_mask) == (8, 3)
    assert row.pixel_auroc is not None
    said = [note for note in row.notes if note.startswith("left out of pixel metrics")]
    assert len(said) == 3
    assert not any(str(masks[0].parent) in note for note in said)


@pytest.mark.parametrize("error", [RuntimeError("out of shape"), MemoryError(), DetectorError("not here")])
@pytest.mark.parametrize("broken", ["judge", "request", "predict"])
def test_one_detector_that_fails_harms_no_other(
    category: Category, tiny_backbone: Path, error: Exception, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = NamedDetector("darkness", 0, Darkness().fit())
    detectors = [fitted("clip", tiny_backbone), fitted("rwda", tiny_backbone), mine]
    victim = detectors[2 if broken == "predict" else 1]
    others = [one for one in detectors if one is not victim]
    alone = evaluate_category(category, others, batch_size=3)
    calls = []

    def fails_later(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if broken == "request" or len(calls) == 3:
            raise error
        return original(*arguments, **options)

    original = getattr(victim.detector, broken)
    monkeypatch.setattr(victim.detector, broken, fails_later)
    found = dict(
        zip(detectors, evaluate_category(category, detectors, batch_size=3, keep_going=True), strict=True)
    )
    for one, before in zip(others, alone, strict=True):
        for name in METRICS:
            assert found[one].row.metric(name) == pytest.approx(before.row.metric(name), abs=1e-5)
    row = found[victim].row
    assert str(error) in str(row.error)
    assert (row.images, row.image_auroc, found[victim].scored, row.is_lost) == (0, None, (), False)
    calls.clear()
    with pytest.raises(type(error)):
        evaluate_category(category, detectors, batch_size=3)


def test_what_one_detector_asks_for_harms_no_other(
    category: Category, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detectors = [fitted("clip", tiny_backbone), fitted("rwda", tiny_backbone)]
    monkeypatch.setattr(detectors[1].detector, "request", lambda maps: FeatureRequest(windows=((99, 1),)))
    good, broken = rows_of(category, detectors, keep_going=True)
    assert good.image_auroc is not None
    assert broken.error


def test_a_score_that_is_no_number_is_a_failure(category: Category, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Darkness().fit()
    whole = detector._predict_batch
    monkeypatch.setattr(
        detector, "_predict_batch", lambda *given: [replace(p, logit=float("nan")) for p in whole(*given)]
    )
    never_made = NamedDetector("e", 0, None, error="no weights", backbone="mini")
    row, other = rows_of(category, [NamedDetector("d", 0, detector), never_made], keep_going=True)
    assert "not a finite number" in str(row.error)
    assert (other.error, other.backbone, other.images, other.image_auroc) == ("no weights", "mini", 0, None)


def test_names_that_are_no_text_can_be_written(category: Category) -> None:
    path = category.test[0].image
    odd = path.parents[2].with_name("bad\udcff")
    try:
        path.rename(path.with_name("bad\udcfe.png"))
        path.parents[2].rename(odd)
    except (OSError, UnicodeError):
        pytest.skip("the file system takes only text")
    (found,) = open_mvtec(odd.parent)
    (result,) = evaluate_category(found, [NamedDetector("d", 0, Darkness().fit())])
    assert Result.model_validate_json(result.model_dump_json()) == result
    json.dumps(result.model_dump(), ensure_ascii=False).encode()
    assert result.row.category == "bad\\udcff"
    assert any("bad\\udcfe" in image for image, *_ in result.scored)
