"""Cumulative counts over falling thresholds, and the figures that image and pixel metrics read off them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Counts: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Convention: TypeAlias = Literal["step", "trapezoid"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure, or why there is none.

    Attributes:
        value: between 0 and 1; None where the metric is undefined.
        reason: why ``value`` is None, in words; None where there is a value.
        threshold: for F1-max, the score at which the maximum is reached: flag what is ``>= threshold``.
    """

    value: float | None
    reason: str | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError("a metric has either a value or a reason why it has none")


@dataclass(frozen=True, slots=True)
class Curve:
    """What is flagged at each threshold, from the highest threshold down to the lowest.

    Attributes:
        thresholds: falling scores, float64 ``(T,)``; flagged is every sample ``>= threshold``.
        tp: anomalous samples flagged, int64 ``(T,)``; the last entry is their number.
        fp: normal samples flagged, int64 ``(T,)``; the last entry is their number.
        mixed: bool ``(T,)``, True where the samples of one step are known to be of different scores whose
            order was not kept (a histogram bin); False where they are tied.
    """

    thresholds: Floats
    tp: Counts
    fp: Counts
    mixed: NDArray[np.bool_]

    def auroc(self) -> Metric:
        """Return the area under the ROC curve by the trapezoid rule: a tie counts half."""
        tp, fp = _rates(self.tp), _rates(self.fp)
        return Metric(_unit(np.sum(np.diff(fp, prepend=0) * (tp + _shift(tp)) / 2)))

    def aupr(self, convention: Convention = "step") -> Metric:
        """Return the area under the precision-recall curve: see :func:`zeroflaw.lab.metrics.image_aupr`."""
        gained = np.diff(_rates(self.tp), prepend=0)
        precision = self.tp / (self.tp + self.fp)
        if convention == "step":
            height = np.where(self.mixed, self._precision_inside(), precision)
        else:
            height = (precision + _shift(precision, first=1.0)) / 2
        return Metric(_unit(np.sum(gained * height)))

    def _precision_inside(self) -> Floats:
        """Return the mean precision at the anomalous samples of each step, were its samples in random order.

        With S samples before the step, T of them anomalous, and c in it, a of them anomalous, the precision
        at the share u of the step is (T + 1 + (a - 1) u) / (S + 1 + (c - 1) u); this is its mean over u.
        Taking the step as one tie instead would put average precision too low by about the width of a bin.
        """
        samples = self.tp + self.fp
        base = 1.0 + _shift(samples)
        hits = 1.0 + _shift(self.tp)
        more = np.maximum(
            np.diff(samples, prepend=0) - 1.0, 1.0
        )  # c - 1; a step of one sample is never mixed
        slope = (np.diff(self.tp, prepend=0) - 1.0) / more
        log_mean = np.log1p(more / base) / more
        inside: Floats = slope * (1 - base * log_mean) + hits * log_mean
        return inside

    def f1max(self) -> Metric:
        """Return the highest F1 = 2 TP / (flagged + anomalous) over all thresholds, and the highest such."""
        f1 = 2 * self.tp / (self.tp + self.fp + self.tp[-1])
        best = int(np.argmax(f1))
        return Metric(_unit(f1[best]), threshold=float(self.thresholds[best]))


def missing(positives: int, negatives: int, anomalous: str, normal: str) -> str | None:
    """Return why no curve exists, in words, or None when both kinds are there."""
    if positives and negatives:
        return None
    if positives or negatives:
        return f"there is no {normal if positives else anomalous}"
    return f"there is neither a {normal} nor an {anomalous}"


def _rates(counts: Counts) -> Floats:
    return counts / np.float64(counts[-1])


def _shift(values: NDArray[np.float64] | Counts, first: float = 0.0) -> Floats:
    """Return each entry's predecessor, ``first`` for the first one."""
    return np.concatenate(([first], values[:-1]))


def _unit(value: float) -> float:
    """Take off what rounding adds beyond 0 and 1."""
    return min(max(float(value), 0.0), 1.0)
