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
    Metric,
    PixelMetrics,
    bootstrap_interval,
    image_aupr,
    image_auroc,
    image_f1max,
)

IMAGE_METRICS = [image_auroc, image_aupr, image_f1max]


def reference_f1max(labels, scores):
    """All thresholds, one by one."""
    return max(
        2 * np.sum(labels[scores >= t]) / (np.sum(scores >= t) + np.sum(labels)) for t in np.unique(scores)
    )


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
        precision, recall, _ = precision_recall_curve(labels, scores)
        best = image_f1max(labels, scores)
        assert image_auroc(labels, scores).value == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
        step, trapezoid = (image_aupr(labels, scores, kind).value for kind in ("step", "trapezoid"))
        assert step == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
        assert trapezoid == pytest.approx(auc(recall, precision), abs=1e-9)
        assert best.value == pytest.approx(reference_f1max(labels, scores), abs=1e-9)
        assert best.threshold in scores
        flagged = scores >= best.threshold
        f1 = 2 * np.sum(labels[flagged]) / (np.sum(flagged) + np.sum(labels))
        assert f1 == pytest.approx(best.value, abs=1e-12)

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

    def test_known_values(self):
        labels, scores = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]
        assert image_auroc(labels, scores).value == 0.75
        assert image_aupr(labels, scores).value == pytest.approx(5 / 6)
        assert image_f1max(labels, scores) == Metric(pytest.approx(0.8), threshold=0.35)
        assert image_auroc([0, 1, 1], [800.0, 801.0, 900.0]).value == 1.0  # as probabilities they saturate

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


class TestBootstrap:
    labels = np.arange(60) % 3 == 0
    scores = np.random.default_rng(1).normal(labels * 1.0, 1.0)

    @pytest.mark.parametrize("metric", IMAGE_METRICS)
    def test_surrounds_the_value_and_repeats(self, metric):
        low, high = bootstrap_interval(self.labels, self.scores, metric, n=200, seed=5)
        assert 0 <= low < metric(self.labels, self.scores).value < high <= 1
        assert (low, high) == bootstrap_interval(self.labels, self.scores, metric, n=200, seed=5)
        assert (low, high) != bootstrap_interval(self.labels, self.scores, metric, n=200, seed=6)

    def test_width_agrees_with_hanley_and_mcneil(self):
        """Their closed formula for the standard error of the AUROC (Radiology, 1982)."""
        area = image_auroc(self.labels, self.scores).value
        ones, zeros = self.labels.sum(), (~self.labels).sum()
        q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
        spread = area * (1 - area) + (ones - 1) * (q1 - area**2) + (zeros - 1) * (q2 - area**2)
        width = 2 * 1.96 * np.sqrt(spread / (ones * zeros))
        low, high = bootstrap_interval(self.labels, self.scores, image_auroc, seed=0)
        assert high - low == pytest.approx(width, rel=0.2)


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
        labels, count = ndimage.label(mask, np.ones((3, 3)))
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
    def test_ignored_pixels_are_not_counted(self):
        ((values, mask),) = made_up(1)
        ignored = np.zeros_like(mask)
        ignored[: len(mask) // 3] = True
        part = PixelMetrics()
        part.update(values, mask & ~ignored, ignored)
        assert part.result() == collected([(values[~ignored.all(1)], mask[~ignored.all(1)])]).result()

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

    values = st.sampled_from([0, -0.0, 1e-9, 0.25, 0.5, 0.75, 1 - 2**-24, 1])
    picture = st.tuples(arrays(np.float32, (5, 6), elements=values), arrays(bool, (5, 6)))

    @given(data=st.lists(picture, min_size=1, max_size=3))
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

    @given(values=arrays(np.float32, (7, 9), elements=st.floats(0, 1, width=32)), mask=arrays(bool, (7, 9)))
    @settings(max_examples=60, deadline=None)
    def test_bounded_whatever_the_values(self, values, mask):
        mask[0, :2] = True, False
        assert all(0 <= figure.value <= 1 for figure in collected([(values, mask)]).result())

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
        assert collected([(values, mask)]).result().pixel_pro.value == pytest.approx(0.5)

    def test_pro_of_a_rise_right_at_the_limit(self):
        """The region is found where half the normal pixels are flagged already: no area before that."""
        pair = np.array([[0.9, 0.6, 0.5, 0.1]], dtype=np.float32), np.array([[False, True, True, False]])
        metrics = collected([pair])
        assert metrics.result(pro_limit=0.5).pixel_pro.value == 0
        assert metrics.result(pro_limit=1.0).pixel_pro.value == 0.5

    @given(cut=st.integers(0, 4))
    @settings(max_examples=5, deadline=None)
    def test_two_collections_put_together_are_one(self, cut):
        """As the domains of a category are: also where one of them is empty or lacks defects."""
        pairs = [*list(made_up(3, side=32)), (np.full((32, 32), 0.3, np.float32), np.zeros((32, 32), bool))]
        one, other = collected(pairs[:cut]), collected(pairs[cut:])
        one.merge(other)
        whole, joined = collected(pairs).result(), one.result()
        for mine, theirs in zip(whole, joined, strict=True):
            assert mine.value == pytest.approx(theirs.value, abs=1e-12)
        assert joined.pixel_pro.value == pytest.approx(slow_pro(pairs), abs=1e-5)

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
        ("masks", "reason"),
        [
            ([False], "there is no anomalous pixel"),
            ([True], "there is no normal pixel"),
            ([], "there is neither a normal pixel nor an anomalous pixel"),
        ],
    )
    def test_undefined_has_a_reason(self, masks, reason):
        result = collected([(np.zeros((3, 3), np.float32), np.full((3, 3), mask)) for mask in masks]).result()
        assert set(result) == {Metric(None, reason)}

    @pytest.mark.parametrize("value", [np.nan, 1.01, -0.1])
    def test_a_bad_map_is_refused_and_changes_nothing(self, value):
        metrics = collected(made_up(1, side=32))
        before = metrics.result()
        with pytest.raises(UsageError, match=r"0\.\.1"):
            metrics.update(np.full((2, 2), value, np.float32), np.zeros((2, 2), bool))
        assert metrics.result() == before

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
    def test_the_benchmark_of_many_maps_runs(self):
        script = Path(__file__).parents[2] / "benchmarks" / "metrics.py"
        done = subprocess.run([sys.executable, script, "--maps", "40"], capture_output=True, check=True)
        assert json.loads(done.stdout)["mib"] < 300
