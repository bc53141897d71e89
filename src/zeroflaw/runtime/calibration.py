"""From scores of photos whose state is known to a threshold, with what it promises said in true numbers.

Two rules need good photos alone. *Conformal* (split conformal prediction, one-sided): with n photos that the
detector was not fitted on, the k-th smallest log-odds with k = ceil((n + 1)(1 - a)) lets at most a share a of
good parts through as false alarms, on average over sets of n photos, whatever their distribution, as long as
the judged photos come from the same. It needs n >= 1 / a - 1 photos. *t*: the upper prediction bound of the
next of n + 1 normally distributed numbers, for fewer photos; no guarantee. The other rules need photos of
both kinds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from zeroflaw.errors import UsageError
from zeroflaw.parameters import Record
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.scores import Doubles, expit

SCHEMA = 1
FEWEST = 4  # good photos of which a spread can be had at all
ABOVE = 1e-6  # how far above a good photo's log-odds a threshold lies: processors differ by less
LOW = 3.0  # eight normally distributed numbers have one so low in 6 sets of 100, and .054 lie above, not .050
CORE = 0.4  # share of photos from which place and spread of the good ones are taken, if most are good
LEAST_SPREAD = 0.3  # of log-odds of good photos: even copies of one part differ by noise
DRAWS = 1000  # of a bootstrap interval

Rule = Literal["conformal", "maximum", "t", "f1", "youden", "cost", "recall", "robust", "given"]
Share = Annotated[float, Field(gt=0, lt=1)]


class Promise(Record):
    """What a threshold promises about good parts, or what it reached on labelled ones.

    Attributes:
        mean: expected share of false alarms; None where nothing is promised.
        below: with 95 % confidence it is lower than this; None as before.
    """

    mean: Share | None = None
    below: Share | None = None


class PhotoFacts(Record):
    """What the good photos look like as photos, to notice another camera, lens or lamp.

    Attributes:
        sizes: heights and widths that occur, the most frequent first, at most five.
        brightness, contrast, sharpness, noise: mean over the photos and standard deviation; see
            `zeroflaw.runtime.drift.photo_facts`.
    """

    sizes: tuple[tuple[int, int], ...]
    brightness: tuple[float, float]
    contrast: tuple[float, float]
    sharpness: tuple[float, float]
    noise: tuple[float, float]


class Calibration(Record):
    """A threshold and where it came from: ``calibration.json`` beside a saved detector.

    Attributes:
        detector: SHA-256 of the head of the detector that gave the log-odds.
        rule: how the threshold was found.
        threshold: log-odds from which a photo is called anomalous.
        good: log-odds of the good photos, rising; p-values are counted in them.
        flawed: those of flawed photos, where there were any.
        false_alarms: the share of false alarms that was asked for, or None.
        promise: what can be expected.
        left_out: the good photos are those that the detector learned from, each judged by what was learned
            from the others, so that the guarantee of a rule is approximate.
        interval: 95 % bootstrap interval of the threshold, for labelled rules.
        map_threshold: log-odds from which a place of a map is called anomalous, or None.
        judged_photos: of the rule "robust", the photos that the threshold was taken from.
        shifts: changes of light and camera that copies of the good photos showed.
        photos: what the good photos look like, or None.
    """

    schema_: Annotated[int, Field(alias="schema", ge=SCHEMA, le=SCHEMA)] = SCHEMA
    detector: str
    rule: Rule
    threshold: float
    good: tuple[float, ...]
    flawed: tuple[float, ...] = ()
    false_alarms: Share | None = None
    promise: Promise = Promise()
    left_out: bool = False
    interval: tuple[float, float] | None = None
    map_threshold: float | None = None
    judged_photos: int = 0
    shifts: tuple[str, ...] = ()
    photos: PhotoFacts | None = None

    def p_value(self, logit: float) -> float:
        """Return (1 + good photos at least as anomalous) / (1 + good photos); small is anomalous."""
        return float(p_values(np.array(self.good), np.array([logit]))[0])

    def judged(self, prediction: Prediction) -> Prediction:
        """Return a prediction with verdict, p-value and the threshold of its map."""
        hot = None if self.map_threshold is None else float(expit(self.map_threshold))
        p_value = self.p_value(prediction.logit) if self.good else None
        return prediction.with_threshold(self.threshold, self.sentence(), p_value=p_value, map_threshold=hot)

    def sentence(self) -> str:
        """Say where the threshold came from and what can be expected of it."""
        n = len(self.good)
        photos = f"{n} good photo{'s' * (n != 1)}"
        if self.rule == "given":
            return "Threshold given by hand."
        if self.rule == "robust":
            return (
                f"Threshold from {self.judged_photos} of the judged photos, most of which must be good: "
                f"about {_percent(self.false_alarms)} of good parts are called anomalous, without guarantee."
            )
        if self.rule in ("f1", "youden", "cost", "recall"):
            low, high = self.interval or (self.threshold, self.threshold)
            return (
                f"Threshold from {photos} and {len(self.flawed)} flawed ones by {_LABELLED[self.rule]}; with "
                f"other photos it would lie between {low:.2f} and {high:.2f} (95 %). Figures on these same "
                "photos flatter it."
            )
        if self.rule == "t":
            return (
                f"Threshold from {photos}, too few for a guarantee: expect about "
                f"{_percent(self.false_alarms)} false alarms, likely 0 to {_percent(_likely(self))}; "
                "photos of one minute are fewer photos than they seem."
            )
        mean, below = self.promise.mean, self.promise.below
        if mean is None or below is None:
            return f"Threshold from {photos}."
        about = ", approximately, since the detector was made from the same photos" if self.left_out else ""
        return (
            f"Threshold from {photos}: expect about 1 false alarm in {1 / mean:.0f} good parts, with 95 % "
            f"confidence fewer than {math.ceil(100 * below)} in 100{about}; photos of one minute are fewer "
            "photos than they seem."
        )


_LABELLED = {
    "f1": "the best F1",
    "youden": "the best sum of recall and specificity (Youden)",
    "cost": "the lowest cost",
    "recall": "the recall asked for",
}


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0):.0f} %"


def _likely(calibration: Calibration) -> float:
    """Return the share that the real rate of a t bound stays below in most single calibrations."""
    a = calibration.false_alarms or 0.05
    # A threshold at a quantile of n photos varies as that of a Beta distribution of the same mean.
    n = len(calibration.good) + 1
    return _beta_quantile(a * n, (1 - a) * n)


def _beta_quantile(a: float, b: float) -> float:
    """Return what 95 % of a Beta distribution lie below."""
    from scipy.special import betaincinv  # slow to import, and of no use where there is a threshold already

    return float(betaincinv(a, b, 0.95))


def _t_quantile(degrees: int, share: float) -> float:
    """Return what ``share`` of Student's t distribution lie below."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, share))


def p_values(good: Doubles, logits: Doubles) -> Doubles:
    """Return the conformal p-values of log-odds (N,), counted in those of good photos."""
    at_least = len(good) - np.searchsorted(np.sort(good), logits, side="left")
    return np.asarray((1 + at_least) / (len(good) + 1))


def promise(n: int, k: int) -> Promise:
    """Return what a threshold just above the k-th smallest of n good photos' log-odds promises.

    The share of good parts above it is Beta(n + 1 - k, k) distributed over sets of n photos.
    """
    return Promise(mean=(n + 1 - k) / (n + 1), below=_beta_quantile(n + 1 - k, k))


def photos_needed(false_alarms: float) -> int:
    """Return the fewest good photos from which a share of false alarms can be guaranteed."""
    return math.ceil(1 / false_alarms - 1 - 1e-9)


def from_good(good: Sequence[float], false_alarms: float) -> tuple[Rule, float, Promise]:
    """Return rule, threshold and promise from the log-odds of good photos.

    The conformal rule where the photos are enough for it, the t bound elsewhere.

    Raises:
        UsageError: there are fewer than `FEWEST` photos, or all log-odds are equal.
    """
    n = len(good)
    if n < FEWEST:
        raise UsageError(
            f"a threshold needs at least {FEWEST} good photos, got {n}; add some, or go without a verdict"
        )
    rising = np.sort(np.asarray(good, np.float64))
    if rising[0] == rising[-1]:
        raise UsageError(
            f"all {n} good photos have the same score, as if they were one photo; give different photos"
        )
    k = math.ceil((n + 1) * (1 - false_alarms) - 1e-9)
    if k <= n:
        return "conformal", float(rising[k - 1]) + ABOVE, promise(n, k)
    return "t", t_bound(rising, false_alarms), Promise()


def t_bound(values: npt.ArrayLike, false_alarms: float) -> float:
    """Return mean + t(1 - a, n - 1) sd sqrt(1 + 1 / n): the upper prediction bound of one more value.

    Values that lie farther below the median than `LOW` times what the highest lies above it do not count: a
    photo that is much like another one says nothing of how far apart good parts are, and would move the bound
    far up.
    """
    numbers = np.asarray(values, np.float64)
    middle = float(np.median(numbers))
    numbers = numbers[numbers >= middle - LOW * (numbers.max() - middle)]
    n = len(numbers)
    quantile = _t_quantile(n - 1, 1 - false_alarms)
    return float(numbers.mean() + quantile * numbers.std(ddof=1) * math.sqrt(1 + 1 / n))


def from_majority(logits: Sequence[float], false_alarms: float) -> float:
    """Return a threshold from photos of which many are good and alike, and flawed ones scattered above them.

    Place and spread are those of the shortest interval that holds `CORE` of the log-odds, which even half of
    the photos, if they are flawed, hardly move; good photos are taken for normally distributed around it.
    """
    values = np.sort(np.asarray(logits, np.float64))
    count = max(3, math.ceil(CORE * len(values)))
    widths = values[count - 1 :] - values[: len(values) - count + 1]
    first = int(widths.argmin())
    middle = float(values[first] + values[first + count - 1]) / 2
    # Of a normal distribution, this many standard deviations hold that share of the values.
    spread = float(widths[first]) / (2 * NormalDist().inv_cdf(0.5 + (count - 1) / len(values) / 2))
    quantile = _t_quantile(max(len(values) - 1, 1), 1 - false_alarms)
    # The shortest of many intervals is too short, the more so the fewer photos there are.
    quantile *= 1 + 10 / len(values)
    return middle + quantile * max(spread, LEAST_SPREAD)


def from_labelled(
    good: Sequence[float],
    flawed: Sequence[float],
    rule: Literal["f1", "youden", "cost", "recall"],
    *,
    cost: tuple[float, float] = (1.0, 1.0),
    recall: float = 0.95,
    seed: int = 0,
) -> tuple[float, tuple[float, float]]:
    """Return a threshold from photos of both kinds, and its 95 % bootstrap interval.

    Args:
        good: log-odds of good photos.
        flawed: log-odds of flawed ones.
        rule: "f1", "youden" (recall + specificity), "cost" (least ``a FP + b FN``) or "recall" (at least this
            share of flawed parts is found, on average over sets of photos: the conformal rule turned round).
        cost: of a false alarm and of a missed flaw.
        recall: for the rule "recall".
        seed: of the bootstrap.

    Raises:
        UsageError: a kind is missing, there are too few flawed photos for the recall, or recall or cost are
            no share and no prices.
    """
    if not 0 < recall < 1:
        raise UsageError(f"recall must be a share between 0 and 1, such as 0.95, got {recall}")
    if not all(0 <= price < math.inf for price in cost) or not any(cost):
        raise UsageError(f"cost wants two numbers from 0, such as 1 20, got {cost[0]:g} {cost[1]:g}")
    g, f = np.asarray(good, np.float64), np.asarray(flawed, np.float64)
    if not len(g) or not len(f):
        raise UsageError(
            f"a labelled calibration needs good and flawed photos, got {len(g)} and {len(f)}; add some"
        )
    if rule == "recall" and (needed := photos_needed(1 - recall)) > len(f):
        raise UsageError(
            f"a recall of {recall:.0%} cannot be promised from {len(f)} flawed photos, it takes {needed}; "
            "give more, or ask for less"
        )
    find = finder(rule, cost, recall)
    random = np.random.default_rng(seed)
    drawn = [find(random.choice(g, len(g)), random.choice(f, len(f))) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return find(g, f), (float(low), float(high))


def calibration_of(
    logits: Sequence[Sequence[float]],
    peaks: Sequence[float],
    *,
    rule: Literal["auto", "f1", "youden", "cost", "recall"] = "auto",
    false_alarms: float = 0.05,
    cost: tuple[float, float] = (1.0, 1.0),
    recall: float = 0.95,
    seed: int = 0,
) -> Calibration:
    """Return a calibration from log-odds of good and of flawed photos.

    Args:
        logits: of the good photos, and of the flawed ones.
        peaks: log-odds of the highest value of each good photo's map.
        rule: "auto" is conformal, or the t bound where photos are too few.
        false_alarms: share of good parts that may be called anomalous.
        cost, recall, seed: see `from_labelled`.

    Raises:
        UsageError: see `from_good` and `from_labelled`.
    """
    if not 0 < false_alarms < 1:
        raise UsageError(f"false_alarms must be a share between 0 and 1, such as 0.05, got {false_alarms}")
    good, flawed = logits
    map_threshold = from_good(peaks, false_alarms)[1] if len(set(peaks)) >= FEWEST else None
    found: Rule
    promised, interval = Promise(), None
    if rule == "auto":
        found, threshold, promised = from_good(good, false_alarms)
    else:
        found = rule
        threshold, interval = from_labelled(good, flawed, rule, cost=cost, recall=recall, seed=seed)
    return Calibration(
        detector="",
        rule=found,
        threshold=threshold,
        good=tuple(sorted(good)),
        flawed=tuple(sorted(flawed)),
        false_alarms=false_alarms if rule == "auto" else None,
        promise=promised,
        interval=interval,
        map_threshold=map_threshold,
    )


def finder(
    rule: str, cost: tuple[float, float] = (1.0, 1.0), recall: float = 0.95
) -> Callable[[Doubles, Doubles], float]:
    """Return what finds the threshold of a labelled rule in log-odds of good and of flawed photos.

    Arguments as those of `from_labelled`, which also says how sure the threshold is.
    """

    def at_recall(good: Doubles, flawed: Doubles) -> float:
        k = math.floor((len(flawed) + 1) * (1 - recall) + 1e-9)
        return float(np.sort(flawed)[k - 1])

    def best(good: Doubles, flawed: Doubles) -> float:
        both = np.unique(np.concatenate([good, flawed]))
        # Half-way between neighbours: as far from both sides as can be.
        cuts = np.concatenate([[both[0] - 1], (both[1:] + both[:-1]) / 2, [both[-1] + 1]])
        false = len(good) - np.searchsorted(np.sort(good), cuts)
        missed = np.searchsorted(np.sort(flawed), cuts)
        found = len(flawed) - missed
        value = {
            "f1": 2 * found / np.maximum(2 * found + false + missed, 1),
            "youden": found / len(flawed) - false / len(good),
            "cost": -(cost[0] * false + cost[1] * missed),
        }[rule]
        highest = np.flatnonzero(value == value.max())  # several, perhaps far apart: the middle one of them
        return float(cuts[highest[len(highest) // 2]])

    return at_recall if rule == "recall" else best
