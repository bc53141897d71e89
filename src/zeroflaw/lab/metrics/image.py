"""Metrics of one score per image: exact, ties included, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeroflaw.errors import UsageError

from .curve import Convention, Curve, Floats, Metric, missing


def image_auroc(labels: ArrayLike, scores: ArrayLike) -> Metric:
    """Return the area under the ROC curve: the chance that an anomalous image outscores a normal one.

    A tie counts half. Equal to scikit-learn's ``roc_auc_score``.

    Args:
        labels: 0 (normal) or 1 (anomalous) of each image, ``(N,)``.
        scores: finite scores, ``(N,)``, higher = more anomalous; logits are as good as probabilities.

    Raises:
        UsageError: lengths differ, a label is neither 0 nor 1, or a score is NaN or infinite.
    """
    return _read_off(Curve.auroc, labels, scores)


def image_aupr(labels: ArrayLike, scores: ArrayLike, convention: Convention = "step") -> Metric:
    """Return the area under the precision-recall curve of the anomalous class.

    Two conventions are in use and differ slightly. ``"step"`` is average precision, the sum of precision
    times gain of recall over all thresholds (scikit-learn's ``average_precision_score``); most papers mean
    this one. ``"trapezoid"`` joins the points of the curve, from recall 0 and precision 1 on, by straight
    lines (``auc(recall, precision)``), as the official evaluation of VisA does; it is a little optimistic.

    Args and raises: as :func:`image_auroc`; an unknown convention is a :class:`UsageError` too.
    """
    if convention not in ("step", "trapezoid"):
        raise UsageError(f"convention must be 'step' or 'trapezoid', not {convention!r}; choose one of them")
    return _read_off(lambda curve: curve.aupr(convention), labels, scores)


def image_f1max(labels: ArrayLike, scores: ArrayLike) -> Metric:
    """Return the highest F1 of the anomalous class over all thresholds, with that threshold.

    The threshold is chosen with the labels in hand, so this is an upper bound for any fixed threshold.
    Args and raises: as :func:`image_auroc`.
    """
    return _read_off(Curve.f1max, labels, scores)


class Interval(NamedTuple):
    """A confidence interval; where the metric is undefined no ends, but the reason in words."""

    low: float | None
    high: float | None
    reason: str | None = None


def bootstrap_interval(
    labels: ArrayLike,
    scores: ArrayLike,
    metric: Callable[[NDArray[np.bool_], Floats], Metric],
    *,
    n: int = 1000,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """Return the percentile bootstrap interval of an image metric (Efron, 1979).

    Images are drawn with replacement within each class, so that every draw has the same balance of normal
    and anomalous images, on which AUPR and F1 depend, and is never undefined.

    Args:
        labels: as :func:`image_auroc`.
        scores: as :func:`image_auroc`.
        metric: one of this module's metrics.
        n: number of draws.
        seed: seed of the draws; the same seed gives the same interval.
        level: share of the draws inside the interval, between 0 and 1.

    Raises:
        UsageError: as :func:`image_auroc`, or ``n`` or ``level`` is out of range.
    """
    if n < 1 or not 0 < level < 1:
        raise UsageError(f"n must be at least 1 and level between 0 and 1, not {n} and {level}; change them")
    flags, values = _checked(labels, scores)
    if reason := metric(flags, values).reason:
        return Interval(None, None, reason)
    generator = np.random.default_rng(seed)
    groups = np.flatnonzero(flags), np.flatnonzero(~flags)
    draws: list[float | None] = []
    for _ in range(n):
        picked = np.concatenate([generator.choice(group, size=group.size) for group in groups])
        draws.append(metric(flags[picked], values[picked]).value)
    low, high = np.quantile(np.array(draws, dtype=np.float64), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    given, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if given.ndim != 1 or given.shape != values.shape:
        shapes = f"{given.shape} and {values.shape}"
        raise UsageError(f"labels and scores must be two lists of one length, not {shapes}; give one of each")
    if not np.isin(given, (0, 1)).all():
        raise UsageError("labels must be 0 (normal) or 1 (anomalous); other values were given, convert them")
    if bad := int(np.count_nonzero(~np.isfinite(values))):
        raise UsageError(
            f"scores must be finite, but {bad} of {values.size} are NaN or infinite; leave them out"
        )
    return given.astype(bool), values


def _read_off(figure: Callable[[Curve], Metric], labels: ArrayLike, scores: ArrayLike) -> Metric:
    """Return a figure of the curve over all distinct scores; undefined where a class is missing."""
    flags, values = _checked(labels, scores)
    positives = int(flags.sum())
    if reason := missing(positives, flags.size - positives, "anomalous image", "normal image"):
        return Metric(None, reason)
    order = np.argsort(-values, kind="stable")
    flags, values = flags[order], values[order]
    last = np.append(values[1:] != values[:-1], True)  # the last of each group of ties ends a step
    tp, fp = np.cumsum(flags, dtype=np.int64), np.cumsum(~flags, dtype=np.int64)
    return figure(Curve(values[last], tp[last], fp[last], np.zeros(int(last.sum()), dtype=bool)))
