"""Thresholds and what they promise, against simulation, brute force and SciPy."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import stats

from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.runtime.calibration import (
    Calibration,
    Promise,
    calibration_of,
    from_good,
    from_labelled,
    from_majority,
    p_values,
    photos_needed,
    promise,
    t_bound,
)
from zeroflaw.runtime.prediction import Prediction


@pytest.mark.parametrize(("n", "share"), [(19, "1/20"), (50, "1/20"), (30, "1/10"), (200, "1/50")])
def test_the_conformal_threshold_keeps_its_promise_on_any_distribution(n: int, share: str) -> None:
    a = Fraction(share)
    good = np.random.default_rng(n).exponential(size=(3000, n)) ** 2  # nothing like a normal distribution
    found = [from_good(row.tolist(), float(a)) for row in good]
    assert {rule for rule, _, _ in found} == {"conformal"}
    rates = stats.expon.sf(np.sqrt([threshold for _, threshold, _ in found]))
    promised = found[0][2]
    assert promised.mean is not None
    slack = a - Fraction(promised.mean).limit_denominator(10_000)
    assert 0 <= slack < Fraction(1, n + 1)  # no lower k would do
    assert rates.mean() == pytest.approx(promised.mean, rel=0.05)
    assert np.quantile(rates, 0.95) == pytest.approx(promised.below, rel=0.05)


@pytest.mark.parametrize("denominator", [2, 3, 4, 5, 10, 20, 50, 100, 1000])
def test_the_fewest_photos_of_a_promise(denominator: int) -> None:
    a = Fraction(1, denominator)
    fewest = next(n for n in range(1, 2000) if math.ceil((n + 1) * (1 - a)) <= n)
    assert photos_needed(1 / denominator) == fewest
    for n in {max(4, fewest - 1), max(4, fewest)}:
        rule, _, _ = from_good(list(range(n)), 1 / denominator)
        assert rule == ("conformal" if n >= fewest else "t")


def test_the_t_bound_is_that_of_scipy_and_keeps_its_share_of_normal_numbers() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(4000, 8))
    bounds = np.array([t_bound(row, 0.05) for row in values])
    scale = values.std(1, ddof=1) * math.sqrt(1 + 1 / 8)
    same = np.isclose(bounds, stats.t.ppf(0.95, 7, loc=values.mean(1), scale=scale))
    assert same.mean() > 0.9  # in the others a low value is cut
    assert stats.norm.sf(bounds).mean() == pytest.approx(0.054, abs=0.004)
    whole = values[same][0]
    assert from_good(whole.tolist(), 0.05) == ("t", t_bound(whole, 0.05), Promise())


@pytest.mark.parametrize("n", [5, 8, 18])
def test_a_photo_that_is_too_much_like_another_does_not_lift_the_t_bound(n: int) -> None:
    values = np.random.default_rng(0).normal(size=(2000, n))
    bounds = [t_bound(row, 0.05) for row in values]
    values[:, 0] = -30
    lifted = [t_bound(row, 0.05) for row in values]
    assert np.median(lifted) == pytest.approx(np.median(bounds), abs=0.3)
    assert stats.norm.sf(lifted).mean() == pytest.approx(0.055, abs=0.01)


def test_p_values_count_good_photos_that_are_as_anomalous() -> None:
    random = np.random.default_rng(1)
    good, judged = random.integers(0, 9, 25).astype(float), random.integers(-2, 12, 60).astype(float)
    counted = [(1 + sum(g >= x for g in good)) / 26 for x in judged]
    np.testing.assert_allclose(p_values(good, judged), counted)


def test_a_majority_of_good_photos_sets_a_threshold() -> None:
    random = np.random.default_rng(2)
    for n in (8, 30):
        clean = [from_majority(random.normal(3, 2, n).tolist(), 0.05) for _ in range(3000)]
        assert 0.03 < stats.norm.sf(clean, 3, 2).mean() < 0.1  # it promises nothing
    for flawed in (0, 8, 24):  # even half of the photos hardly move it
        mixed = [
            from_majority([*random.normal(0, 1, 24), *random.uniform(6, 20, flawed)], 0.05) for _ in range(50)
        ]
        assert 1 < np.median(mixed) < 5
    assert 2 < from_majority([2.0] * 9, 0.05) < 4


# Photos of both kinds


def value(rule: str, threshold: float, good: Any, flawed: Any, cost: tuple[float, float]) -> float:
    false, found = sum(x >= threshold for x in good), sum(x >= threshold for x in flawed)
    missed = len(flawed) - found
    return {
        "f1": 2 * found / (2 * found + false + missed),
        "youden": found / len(flawed) - false / len(good),
        "cost": -(cost[0] * false + cost[1] * missed),
    }[rule]


@pytest.mark.parametrize("rule", ["f1", "youden", "cost"])
@pytest.mark.parametrize("seed", range(8))
def test_no_threshold_is_better_than_the_labelled_rule_finds(rule: Any, seed: int) -> None:
    random = np.random.default_rng(seed)
    good = np.round(random.normal(0, 1, 12), 1).tolist()  # with ties
    flawed = np.round(random.normal(1, 1, 9), 1).tolist()
    cost = (1.0, float(seed))
    threshold, (low, high) = from_labelled(good, flawed, rule, cost=cost)
    every = [min(good) - 1, *(x + d for x in good + flawed for d in (-1e-9, 1e-9))]
    best = max(value(rule, x, good, flawed, cost) for x in every)
    assert value(rule, threshold, good, flawed, cost) == pytest.approx(best)
    assert low <= threshold <= high
    assert from_labelled(good, flawed, rule, cost=cost) == (threshold, (low, high))


def test_of_several_best_thresholds_one_is_taken_and_not_what_lies_between_them() -> None:
    threshold, _ = from_labelled([0, 2], [1, 3], "youden")
    assert threshold in (0.5, 2.5)


@pytest.mark.parametrize(
    ("m", "recall", "k"), [(19, 0.95, 1), (39, 0.95, 2), (38, 0.95, 1), (40, 0.9, 4), (9, 0.9, 1)]
)
def test_a_recall_is_promised_by_the_kth_smallest_flawed_photo(m: int, recall: float, k: int) -> None:
    random = np.random.default_rng(m)
    flawed = random.permutation(m).astype(float).tolist()
    threshold, _ = from_labelled([0.0], flawed, "recall", recall=recall)
    assert threshold == k - 1
    found = [1 - np.sort(row)[k - 1] for row in random.uniform(size=(4000, m))]
    assert np.mean(found) >= recall - 0.003


# Sentences, verdicts, files


def calibration(**changed: Any) -> Calibration:
    said = {"detector": "", "rule": "conformal", "threshold": 1.5, "good": tuple(map(float, range(20)))}
    return Calibration(**{**said, "false_alarms": 0.05, "promise": promise(20, 20), **changed})


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {},
            "expect about 1 false alarm in 21 good parts, with 95 % confidence fewer than 14 in 100",
        ),
        ({"left_out": True}, "in 100, approximately, since the detector was made from the same photos"),
        ({"rule": "t", "good": (1.0,) * 8}, "8 good photos, too few for a guarantee: expect about 5 % false"),
        ({"rule": "cost", "flawed": (2.0,), "interval": (1.0, 2.5)}, "lie between 1.00 and 2.50 (95 %)"),
        ({"rule": "robust", "judged_photos": 30}, "from 30 of the judged photos, most of which must be"),
        ({"rule": "given"}, "given by hand"),
        ({"promise": Promise()}, "Threshold from 20 good photos."),
    ],
)
def test_the_sentence_has_the_true_numbers(changed: dict[str, Any], says: str) -> None:
    assert says in calibration(**changed).sentence()


def test_a_prediction_gets_verdict_p_value_and_the_threshold_of_its_map() -> None:
    prediction = Prediction("a.png", 0.8, 1.5, {}, (4, 4))
    judged = calibration(map_threshold=0.0).judged(prediction)
    assert (judged.label, judged.p_value, judged.map_threshold) == (True, 19 / 21, 0.5)
    assert judged.threshold_from == calibration().sentence()
    assert calibration(threshold=1.6).judged(prediction).label is False
    assert calibration(rule="robust", good=()).judged(prediction).p_value is None


@pytest.mark.parametrize(
    ("logits", "options", "says"),
    [
        ([[1.0, 2.0, 3.0], []], {}, "needs at least 4 good photos, got 3"),
        ([[2.0] * 6, []], {}, "all 6 good photos have the same score"),
        ([[], [1.0]], {"rule": "f1"}, "needs good and flawed photos, got 0 and 1"),
        ([[0.0], [1.0] * 18], {"rule": "recall"}, "cannot be promised from 18 flawed photos, it takes 19"),
        ([[0.0], [1.0] * 9], {"rule": "recall", "recall": 1.0}, "recall must be a share between 0 and 1"),
        ([[0.0], [1.0] * 9], {"rule": "cost", "cost": (1.0, -2.0)}, "cost wants two numbers .* got 1 -2"),
        ([[0.0, 1.0, 2.0, 3.0], []], {"false_alarms": math.nan}, "false_alarms must be a share"),
    ],
)
def test_what_gives_no_threshold_is_refused(logits: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        calibration_of(logits, [], **options)


@pytest.mark.parametrize("wrong", ['{"threshold": 1e999}', '{"promise": {"mean": 7}}', '{"rule": "best"}'])
def test_a_file_that_is_wrong_is_refused(wrong: str) -> None:
    made = json.loads(calibration().model_dump_json(by_alias=True, exclude_none=True))
    assert Calibration.read(made, "calibration.json", DetectorError) == calibration()
    with pytest.raises(DetectorError, match=r"^calibration.json: "):
        Calibration.read({**made, **json.loads(wrong)}, "calibration.json", DetectorError)
