"""Metrics against scikit-learn, SciPy and slow, plain re-implementations."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from zeroflaw.errors import UsageError
from zeroflaw.lab.metrics import (
    Interval,
    Metric,
    PixelMetrics,
    bootstrap_interval,
    image_aupr,
    image_auroc,
    image_f1max,
)

IMAGE_METRICS = [image_auroc, image_aupr, image_f1max]
EIGHT = np.ones((3, 3))


def reference_f1max(labels, scores):
    """All thresholds, one by one."""
    return max(
        2 * np.sum(labels[scores >= t]) / (np.sum(scores >= t) + np.sum(labels)) for t in np.unique(scores)
    )


def reference_trapezoid(labels, scores):
    precision, recall, _ = precision_recall_curve(labels, scores)
    return auc(recall, precision)


@st.composite
def labelled_scores(draw, grid=True):
    """At least one image of each class; on a coarse grid of scores there are many ties."""
    size = draw(st.integers(2, 40))
    one = st.integers(-4, 4).map(float) if grid else st.floats(-50, 50)
    scores = np.array(draw(st.lists(one, min_size=size, max_size=size)))
    labels = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    labels[:2] = True, False
    return labels.astype(int), scores


class TestImageMetrics:
    @given(data=st.one_of(labelled_scores(), labelled_scores(grid=False)))
    @settings(max_examples=60, deadline=None)
    def test_equal_to_scikit_learn(self, data):
        labels, scores = data
        assert image_auroc(labels, scores).value == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
        assert image_aupr(labels, scores).value == pytest.approx(
            average_precision_score(labels, scores), abs=1e-9
        )
        assert image_aupr(labels, scores, "trapezoid").value == pytest.approx(
            reference_trapezoid(labels, scores), abs=1e-9
        )
        assert image_f1max(labels, scores).value == pytest.approx(reference_f1max(labels, scores), abs=1e-9)

    def test_equal_to_scikit_learn_on_many_scores(self):
        rng = np.random.default_rng(3)
        labels = (rng.random(5000) < 0.3).astype(int)
        scores = np.round(rng.normal(labels, 1.5), 2)
        assert image_auroc(labels, scores).value == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
        assert image_aupr(labels, scores).value == pytest.approx(
            average_precision_score(labels, scores), abs=1e-9
        )

    @pytest.mark.parametrize("metric", IMAGE_METRICS)
    @given(data=labelled_scores(grid=False), scale=st.floats(0.5, 20), shift=st.floats(-10, 10))
    @settings(max_examples=25, deadline=None)
    def test_bounded_and_blind_to_monotone_transforms(self, metric, data, scale, shift):
        labels, scores = data
        scores = np.round(scores, 3)  # so that scaling cannot make two scores equal
        value = metric(labels, scores).value
        assert 0 <= value <= 1
        assert metric(labels, scores * scale + shift).value == value
        assert metric(labels, np.cbrt(scores)).value == value

    @given(data=labelled_scores())
    @settings(max_examples=25, deadline=None)
    def test_auroc_of_turned_scores_is_the_rest(self, data):
        labels, scores = data
        turned = image_auroc(labels, -scores).value
        assert image_auroc(labels, scores).value == pytest.approx(1 - turned, abs=1e-12)

    @given(data=labelled_scores())
    @settings(max_examples=25, deadline=None)
    def test_f1_is_reached_at_its_threshold(self, data):
        labels, scores = data
        best = image_f1max(labels, scores)
        assert best.threshold in scores
        flagged = scores >= best.threshold
        f1 = 2 * np.sum(labels[flagged]) / (np.sum(flagged) + np.sum(labels))
        assert f1 == pytest.approx(best.value, abs=1e-12)

    def test_known_values(self):
        labels, scores = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]
        assert image_auroc(labels, scores).value == 0.75
        assert image_aupr(labels, scores).value == pytest.approx(5 / 6)
        assert image_f1max(labels, scores) == Metric(pytest.approx(0.8), threshold=0.35)

    def test_logits_that_saturate_as_probabilities_are_ranked(self):
        assert image_auroc([0, 1, 1], [800.0, 801.0, 900.0]).value == 1.0

    @pytest.mark.parametrize("metric", IMAGE_METRICS)
    def test_equal_scores_are_defined(self, metric):
        value = metric([0, 1, 1, 0], [2.0] * 4).value
        assert value == pytest.approx({image_auroc: 0.5, image_aupr: 0.5, image_f1max: 2 / 3}[metric])

    @pytest.mark.parametrize("metric", IMAGE_METRICS)
    @pytest.mark.parametrize(
        ("labels", "reason"),
        [
            ([], "there is neither a normal image nor an anomalous image"),
            ([0, 0], "there is no anomalous image"),
            ([1], "there is no normal image"),
        ],
    )
    def test_undefined_has_a_reason(self, metric, labels, reason):
        assert metric(labels, [0.5] * len(labels)) == Metric(None, reason)

    @pytest.mark.parametrize("metric", IMAGE_METRICS)
    @pytest.mark.parametrize(
        ("labels", "scores", "said"),
        [
            ([0, 1], [0.1, np.nan], "1 of 2 are NaN"),
            ([0, 1], [0.1, np.inf], "finite"),
            ([0, 1], [0.1], "one length"),
            ([[0, 1]], [[0.1, 0.2]], "one length"),
            ([0, 2], [0.1, 0.2], "0 .normal. or 1"),
        ],
    )
    def test_bad_input_is_refused(self, metric, labels, scores, said):
        with pytest.raises(UsageError, match=said):
            metric(labels, scores)

    def test_unknown_convention_is_refused(self):
        with pytest.raises(UsageError, match="'step' or 'trapezoid'"):
            image_aupr([0, 1], [0, 1], "median")

    @pytest.mark.parametrize("parts", [(None, None), (0.5, "why")])
    def test_a_metric_is_a_value_or_a_reason(self, parts):
        with pytest.raises(ValueError, match="either"):
            Metric(*parts)


class TestBootstrap:
    labels = np.arange(60) % 3 == 0
    scores = np.random.default_rng(1).normal(labels * 1.0, 1.0)

    @pytest.mark.parametrize("metric", IMAGE_METRICS)
    def test_surrounds_the_value_and_repeats(self, metric):
        interval = bootstrap_interval(self.labels, self.scores, metric, n=200, seed=5)
        assert 0 <= interval.low < metric(self.labels, self.scores).value < interval.high <= 1
        assert interval == bootstrap_interval(self.labels, self.scores, metric, n=200, seed=5)
        assert interval != bootstrap_interval(self.labels, self.scores, metric, n=200, seed=6)

    def test_width_agrees_with_hanley_and_mcneil(self):
        """Their closed formula for the standard error of the AUROC (Radiology, 1982)."""
        area = image_auroc(self.labels, self.scores).value
        ones, zeros = self.labels.sum(), (~self.labels).sum()
        q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
        spread = area * (1 - area) + (ones - 1) * (q1 - area**2) + (zeros - 1) * (q2 - area**2)
        width = 2 * 1.96 * np.sqrt(spread / (ones * zeros))
        interval = bootstrap_interval(self.labels, self.scores, image_auroc, seed=0)
        assert interval.high - interval.low == pytest.approx(width, rel=0.2)

    def test_higher_level_is_wider(self):
        half, most = (
            bootstrap_interval(self.labels, self.scores, image_auroc, n=200, seed=0, level=level)
            for level in (0.5, 0.99)
        )
        assert most.low < half.low < half.high < most.high

    def test_undefined_has_a_reason(self):
        interval = bootstrap_interval([0, 0], [1.0, 2.0], image_auroc, seed=0)
        assert interval == Interval(None, None, "there is no anomalous image")

    @pytest.mark.parametrize("wrong", [{"n": 0}, {"level": 0.0}, {"level": 1.0}])
    def test_bad_parameters_are_refused(self, wrong):
        with pytest.raises(UsageError, match="at least 1"):
            bootstrap_interval(self.labels, self.scores, image_auroc, seed=0, **wrong)


def made_up(count, side=128, seed=0, contrast=2.0):
    """Smooth maps that go partly with blob-shaped masks, as float32 probabilities."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        defect = ndimage.gaussian_filter(rng.normal(size=(side, side)), 6)
        noise = ndimage.gaussian_filter(rng.normal(size=(side, side)), 3)
        defect, noise = defect / defect.std(), noise / noise.std()
        logit = contrast * defect + noise - 3
        yield (1 / (1 + np.exp(-logit))).astype(np.float32), defect > 1.8


def collected(pairs):
    metrics = PixelMetrics()
    for values, mask in pairs:
        metrics.update(values, mask)
    return metrics


def slow_pro(pairs, limit=0.3):
    """Per-region overlap by sorting, at every value that occurs; regions by SciPy."""
    thresholds = np.unique(np.concatenate([values.ravel() for values, _ in pairs]))[::-1]
    x = flagged(np.concatenate([values[~mask] for values, mask in pairs]), thresholds)
    overlaps = []
    for values, mask in pairs:
        labels, count = ndimage.label(mask, EIGHT)
        overlaps += [flagged(values[labels == k], thresholds) for k in range(1, count + 1)]
    area, before = 0.0, (0.0, 0.0)
    for x1, y1 in zip(x, np.mean(overlaps, axis=0), strict=True):
        x0, y0 = before
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            return (area + (limit - x0) * (y0 + y1) / 2) / limit
        area += (x1 - x0) * (y0 + y1) / 2
        before = x1, y1
    return area / limit


def flagged(values, thresholds):
    return 1 - np.searchsorted(np.sort(values), thresholds) / len(values)


class TestPixelMetrics:
    @pytest.mark.parametrize(
        ("count", "contrast", "within"),
        [
            pytest.param(1, 2.0, 1e-5, id="few pixels"),
            pytest.param(8, 2.0, 1e-6, id="many pixels"),
            pytest.param(8, 9.0, 1e-6, id="saturated"),
        ],
    )
    def test_equal_to_scikit_learn(self, count, contrast, within):
        pairs = list(made_up(count, contrast=contrast))
        scores = np.concatenate([values.ravel() for values, _ in pairs])
        labels = np.concatenate([mask.ravel() for _, mask in pairs])
        result = collected(pairs).result()
        assert result.pixel_auroc.value == pytest.approx(roc_auc_score(labels, scores), abs=within)
        assert result.pixel_aupr.value == pytest.approx(average_precision_score(labels, scores), abs=within)
        precision, recall, _ = precision_recall_curve(labels, scores)
        f1 = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
        assert result.pixel_f1max.value == pytest.approx(f1, abs=within)

    @given(
        data=st.lists(
            st.tuples(
                arrays(
                    np.float32, (5, 6), elements=st.sampled_from([0, 1e-9, 0.25, 0.5, 0.75, 1 - 2**-24, 1])
                ),
                arrays(bool, (5, 6)),
            ),
            min_size=1,
            max_size=3,
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_exact_where_pixels_are_tied(self, data):
        labels = np.concatenate([mask.ravel() for _, mask in data])
        scores = np.concatenate([values.ravel() for values, _ in data])
        result = collected(data).result()
        if labels.all() or not labels.any():
            assert result.pixel_auroc.value is None
            return
        assert result.pixel_auroc.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
        assert result.pixel_aupr.value == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
        assert result.pixel_f1max.value == pytest.approx(reference_f1max(labels, scores), abs=1e-9)
        assert result.pixel_f1max.threshold == pytest.approx(image_f1max(labels, scores).threshold, abs=1e-12)
        assert result.pixel_pro.value == pytest.approx(slow_pro(data), abs=1e-9)

    @given(
        values=arrays(np.float32, (7, 9), elements=st.floats(0, 1, width=32)),
        mask=arrays(bool, (7, 9)),
    )
    @settings(max_examples=60, deadline=None)
    def test_bounded_and_close_whatever_the_values(self, values, mask):
        mask[0, :2] = True, False
        result = collected([(values, mask)]).result()
        figures = [result.pixel_auroc, result.pixel_aupr, result.pixel_f1max, result.pixel_pro]
        assert all(0 <= figure.value <= 1 for figure in figures)

    def test_pro_equal_to_a_loop_over_thresholds(self):
        pairs = list(made_up(4, seed=2))
        metrics = collected(pairs)
        for limit in (0.05, 0.3, 1.0):
            pro = metrics.result(pro_limit=limit).pixel_pro.value
            assert pro == pytest.approx(slow_pro(pairs, limit), abs=2e-6)

    def test_pro_by_hand(self):
        """A small region found at once, a large one missed: half the regions, until it is flagged at 0.5."""
        values = np.full((10, 10), 0.2, dtype=np.float32)
        mask = np.zeros((10, 10), dtype=bool)
        mask[0, 0] = mask[5:, :] = True
        values[0, 0], values[1:3] = 0.9, 0.6  # 20 of the 49 normal pixels outscore the large region
        result = collected([(values, mask)]).result()
        assert result.pixel_pro.value == pytest.approx(0.5)

    def test_pro_of_a_rise_right_at_the_limit(self):
        """The region is found where half the normal pixels are flagged already: no area before that."""
        pair = np.array([[0.9, 0.6, 0.5, 0.1]], dtype=np.float32), np.array([[False, True, True, False]])
        metrics = collected([pair])
        assert metrics.result(pro_limit=0.5).pixel_pro.value == 0
        assert metrics.result(pro_limit=1.0).pixel_pro.value == 0.5

    def test_every_region_counts_alike(self):
        values = np.zeros((40, 40), dtype=np.float32)
        mask = np.zeros((40, 40), dtype=bool)
        mask[:20, :20] = mask[30, 30] = True
        values[:20, :20] = 1
        full = collected([(values, mask)]).result()
        assert full.pixel_auroc.value > 0.99
        assert full.pixel_pro.value == pytest.approx(
            0.5 + 0.5 * 0.3 / 2
        )  # the dot is at the level of the rest

    @pytest.mark.parametrize("power", [0.25, 3.0])
    def test_blind_to_monotone_transforms(self, power):
        pairs = list(made_up(2, side=64))
        plain = collected(pairs).result()
        bent = collected([(values**power, mask) for values, mask in pairs]).result()
        for name in ("pixel_auroc", "pixel_aupr", "pixel_f1max", "pixel_pro"):
            assert getattr(bent, name).value == pytest.approx(getattr(plain, name).value, abs=1e-5)

    @given(cut=st.integers(0, 4))
    @settings(max_examples=5, deadline=None)
    def test_two_collections_put_together_are_one(self, cut):
        """As the domains of a category are: also where one of them is empty or lacks defects."""
        pairs = [*list(made_up(3, side=32)), (np.full((32, 32), 0.3, np.float32), np.zeros((32, 32), bool))]
        one, other = collected(pairs[:cut]), collected(pairs[cut:])
        one.merge(other)
        whole, joined = collected(pairs).result(), one.result()
        for name in ("pixel_auroc", "pixel_aupr", "pixel_f1max", "pixel_pro"):
            assert getattr(joined, name).value == pytest.approx(getattr(whole, name).value, abs=1e-12)
        assert joined.pixel_pro.value == pytest.approx(slow_pro(pairs), abs=1e-5)

    def test_order_of_images_does_not_matter(self):
        pairs = list(made_up(3, side=32))
        assert collected(pairs).result().pixel_auroc == collected(pairs[::-1]).result().pixel_auroc

    @pytest.mark.parametrize("value", [0.0, 1e-30, 2.0**-41, 1e-6, 0.1, 0.4999999, 0.5, 0.9, 0.99999994, 1.0])
    def test_threshold_flags_the_value_it_was_read_from(self, value):
        values = np.array([[0, value]], dtype=np.float32)
        threshold = collected([(values, np.array([[False, True]]))]).result().pixel_f1max.threshold
        assert threshold <= values[0, 1]
        assert threshold == pytest.approx(float(values[0, 1]), abs=2.0**-41)

    def test_smallest_steps_near_both_ends_are_kept_apart(self):
        values = np.array([[0, 2.0**-40, 1 - 2.0**-23, 1 - 2.0**-24, 1]], dtype=np.float32)
        for split in range(1, 5):
            mask = (np.arange(5) >= split)[None, :]
            assert collected([(values, mask)]).result().pixel_auroc.value == 1.0

    @pytest.mark.parametrize(
        ("mask", "reason"), [(False, "there is no anomalous pixel"), (True, "there is no normal pixel")]
    )
    def test_undefined_has_a_reason(self, mask, reason):
        result = collected([(np.zeros((3, 3), np.float32), np.full((3, 3), mask))]).result()
        assert {result.pixel_auroc, result.pixel_aupr, result.pixel_f1max, result.pixel_pro} == {
            Metric(None, reason)
        }

    def test_nothing_added(self):
        reason = PixelMetrics().result().pixel_pro.reason
        assert reason == "there is neither a normal pixel nor an anomalous pixel"

    @pytest.mark.parametrize(
        ("values", "mask", "said"),
        [
            (np.zeros((2, 3), np.float32), np.zeros((3, 2), bool), r"\(2, 3\) and \(3, 2\)"),
            (np.zeros(4, np.float32), np.zeros(4, bool), "one size"),
            (np.full((2, 2), np.nan, np.float32), np.zeros((2, 2), bool), "0..1"),
            (np.full((2, 2), 1.01, np.float32), np.zeros((2, 2), bool), "0..1"),
            (np.full((2, 2), -0.1, np.float32), np.zeros((2, 2), bool), "0..1"),
            (np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8), "bool, not uint8"),
        ],
    )
    def test_bad_input_is_refused_and_changes_nothing(self, values, mask, said):
        metrics = collected(made_up(1, side=32))
        before = metrics.result()
        with pytest.raises(UsageError, match=said):
            metrics.update(values, mask)
        assert metrics.result() == before

    @pytest.mark.parametrize("limit", [0, -0.1, 1.1])
    def test_bad_limit_is_refused(self, limit):
        with pytest.raises(UsageError, match="pro_limit"):
            PixelMetrics().result(pro_limit=limit)

    def test_negative_zero_is_zero(self):
        values = np.array([[-0.0, 0.0]], dtype=np.float32)
        assert collected([(values, np.array([[True, False]]))]).result().pixel_auroc.value == 0.5

    def test_memory_is_constant_and_time_small(self):
        pairs = list(made_up(2, side=256))
        tracemalloc.start()
        try:
            metrics = collected(pairs)
            metrics.result()
            _, few = tracemalloc.get_traced_memory()
            begin = time.process_time()
            for _ in range(30):
                for values, mask in pairs:
                    metrics.update(values, mask)
            metrics.result()
            spent = time.process_time() - begin
            _, many = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert many <= few * 1.05
        assert many < 120e6
        assert spent < 60 * 0.02 + 0.5  # about 0.0015 s an image and 0.05 s for the result without tracing

    @pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux counts it")
    def test_a_thousand_maps_in_a_process_of_their_own(self):
        """Fewer of them here: memory does not depend on their number, and time is in proportion."""
        script = Path(__file__).parents[2] / "benchmarks" / "metrics.py"
        command = [sys.executable, str(script), "--maps", "200"]
        found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        assert found["mib"] < 300
        assert found["seconds"] < 10  # measured: 0.8 s, and 3.6 s for a thousand
        assert 0.6 < found["pixel_auroc"] < 0.7
