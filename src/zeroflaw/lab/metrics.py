"""How good scores and maps are: exact image metrics, streaming pixel metrics, confidence intervals.

Label 0 is normal, 1 anomalous; higher scores mean more anomalous. Every metric is a `Metric`: a value between
0 and 1, or None with the reason why it is undefined; nothing here ever returns NaN.

Pixel metrics are over all pixels of a category, in constant memory: one pass of histograms, no loop over
thresholds. A map value is put into one of 2**21 bins by the bits of its float32: 2**15 bins for each halving
of p below one half, down to 2**-41, and as many for each halving of 1 - p above it. Both ends of the scale
are so kept apart finely (it is a piecewise linear form of log-odds), in integer arithmetic that cannot break
the order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from zeroflaw.errors import UsageError

Counts: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Convention: TypeAlias = Literal["step", "trapezoid"]

_OCTAVE = 23  # a float32 has 2**23 values between two powers of two
_LOW = 86 << _OCTAVE  # bits of 2**-41, below which values count as zero
_HIGH = 102 << _OCTAVE  # bits of 2**-25; float32 has no value closer to 1 than 2**-24
_TOP = 64 << _OCTAVE  # key of 1.0: 40 octaves up to one half, 24 from there
_HALF = 40 << _OCTAVE  # key of one half
_SHIFT = 8  # 2**29 keys to 2**21 bins
_BINS = (_TOP >> _SHIFT) + 1
_EIGHT = np.ones((3, 3), dtype=bool)  # pixels that touch at a corner are of one region


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
    mixed: NDArray[np.bool_] | bool = False

    def auroc(self) -> Metric:
        """Return the area under the ROC curve by the trapezoid rule: a tie counts half."""
        tp, fp = _rates(self.tp), _rates(self.fp)
        return Metric(_unit(np.sum(np.diff(fp, prepend=0) * (tp + _shift(tp)) / 2)))

    def aupr(self, convention: Convention = "step") -> Metric:
        """Return the area under the precision-recall curve: see `image_aupr`."""
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
        # c - 1; a step of one sample is never mixed.
        more = np.maximum(np.diff(samples, prepend=0) - 1.0, 1.0)
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


# One score per image: exact, ties included


def image_auroc(labels: ArrayLike, scores: ArrayLike) -> Metric:
    """Return the area under the ROC curve: the chance that an anomalous image outscores a normal one.

    A tie counts half. Equal to scikit-learn's ``roc_auc_score``.

    Args:
        labels: 0 (normal) or 1 (anomalous) of each image, ``(N,)``.
        scores: finite scores, ``(N,)``, higher = more anomalous; logits are as good as probabilities.
    """
    return _read_off(Curve.auroc, labels, scores)


def image_aupr(labels: ArrayLike, scores: ArrayLike, convention: Convention = "step") -> Metric:
    """Return the area under the precision-recall curve of the anomalous class.

    Two conventions are in use and differ slightly. ``"step"`` is average precision, the sum of precision
    times gain of recall over all thresholds (scikit-learn's ``average_precision_score``); most papers mean
    this one. ``"trapezoid"`` joins the points of the curve, from recall 0 and precision 1 on, by straight
    lines (``auc(recall, precision)``), as the official evaluation of VisA does; it is a little optimistic.
    """
    return _read_off(lambda curve: curve.aupr(convention), labels, scores)


def image_f1max(labels: ArrayLike, scores: ArrayLike) -> Metric:
    """Return the highest F1 of the anomalous class over all thresholds, with that threshold.

    The threshold is chosen with the labels in hand, so this is an upper bound for any fixed threshold.
    """
    return _read_off(Curve.f1max, labels, scores)


def bootstrap_interval(
    labels: ArrayLike,
    scores: ArrayLike,
    metric: Callable[[NDArray[np.bool_], Floats], Metric],
    *,
    n: int = 1000,
    seed: int,
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of an image metric that is defined (Efron, 1979).

    Images are drawn with replacement within each class, so that every draw has the same balance of normal
    and anomalous images, on which AUPR and F1 depend, and is never undefined.

    Args:
        labels: as `image_auroc`.
        scores: as `image_auroc`.
        metric: one of this module's metrics.
        n: number of draws.
        seed: seed of the draws; the same seed gives the same interval.
    """
    flags, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    generator = np.random.default_rng(seed)
    groups = np.flatnonzero(flags), np.flatnonzero(~flags)
    draws: list[float | None] = []
    for _ in range(n):
        picked = np.concatenate([generator.choice(group, size=group.size) for group in groups])
        draws.append(metric(flags[picked], values[picked]).value)
    low, high = np.quantile(np.array(draws, dtype=np.float64), [0.025, 0.975])
    return float(low), float(high)


def curve_of(labels: ArrayLike, scores: ArrayLike) -> Curve:
    """Return the curve over all distinct scores; arguments of `image_auroc`."""
    flags, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    flags, values = flags[order], values[order]
    last = np.append(values[1:] != values[:-1], True)  # the last of each group of ties ends a step
    tp, fp = np.cumsum(flags, dtype=np.int64), np.cumsum(~flags, dtype=np.int64)
    return Curve(values[last], tp[last], fp[last])


def _read_off(figure: Callable[[Curve], Metric], labels: ArrayLike, scores: ArrayLike) -> Metric:
    """Return a figure of the curve; undefined where a class is missing."""
    positives, size = int(np.count_nonzero(labels)), np.size(labels)
    reason = missing(positives, size - positives, "anomalous image", "normal image")
    return Metric(None, reason) if reason else figure(curve_of(labels, scores))


# Maps


class PixelResult(NamedTuple):
    """The pixel metrics of one category.

    Attributes:
        pixel_auroc: area under the ROC curve over all pixels of all images.
        pixel_aupr: step-wise average precision over all pixels.
        pixel_f1max: highest F1 over all thresholds, with that threshold on the scale of the maps.
        pixel_pro: per-region overlap: recall averaged over 8-connected defect regions, integrated over the
            false-positive rate from 0 to its limit and divided by the limit (Bergmann et al., MVTec AD,
            IJCV 2021), linear between thresholds and at the limit.
    """

    pixel_auroc: Metric
    pixel_aupr: Metric
    pixel_f1max: Metric
    pixel_pro: Metric


class PixelMetrics:
    """Collects maps and masks one image at a time, in 64 MiB whatever their number.

    Agrees with metrics over all pixels at once within 1e-6 from some hundred thousand pixels on, exactly
    where the pixels of a bin are tied. On a few thousand pixels one pair of nearly equal values weighs more
    than that: there the difference can reach 1e-5.
    """

    def __init__(self) -> None:
        self._normal = np.zeros(_BINS, dtype=np.int64)
        self._defective = np.zeros(_BINS, dtype=np.int64)
        self._overlap = np.zeros(_BINS, dtype=np.float64)  # share of its region that each defective pixel is
        self._lowest = np.full(_BINS, _TOP + 1, dtype=np.int32)
        self._highest = np.full(_BINS, -1, dtype=np.int32)
        self._regions = 0

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to know: bins that are in use alone."""
        used = np.flatnonzero(self._highest >= 0)
        arrays = {name: value[used] for name, value in vars(self).items() if name != "_regions"}
        return {"used": used, "regions": self._regions, "arrays": arrays}

    def __setstate__(self, state: dict[str, Any]) -> None:
        PixelMetrics.__init__(self)
        self._regions = state["regions"]
        for name, value in state["arrays"].items():
            getattr(self, name)[state["used"]] = value

    def update(
        self, map: NDArray[np.float32], mask: NDArray[np.bool_], ignored: NDArray[np.bool_] | None = None
    ) -> None:
        """Add one image.

        Args:
            map: float32 ``(H, W)``, values from 0 to 1, higher = more anomalous.
            mask: bool ``(H, W)``, True where the image is defective; all False for a normal image.
            ignored: bool ``(H, W)``, True where nothing is known and nothing is counted, nowhere in the mask.

        Raises:
            UsageError: a value is NaN or outside 0..1.
        """
        if map.size and not (map.min() >= 0 and map.max() <= 1):  # NaN fails both
            raise UsageError(f"map values must lie in 0..1, not {map.min()}..{map.max()}; scale them")
        keys = _keys(np.asarray(map, dtype=np.float32).ravel())
        flags = mask.ravel()
        if ignored is not None:
            keys, flags = keys[~ignored.ravel()], flags[~ignored.ravel()]
        bins = keys >> _SHIFT
        np.minimum.at(self._lowest, bins, keys)
        np.maximum.at(self._highest, bins, keys)
        np.add.at(self._normal, bins[~flags], 1)
        if flags.any():
            labels, count = ndimage.label(mask, _EIGHT)
            areas = np.bincount(labels[mask], minlength=count + 1)
            np.add.at(self._defective, bins[flags], 1)
            np.add.at(self._overlap, bins[flags], 1.0 / areas[labels[mask]])
            self._regions += count

    def merge(self, other: PixelMetrics) -> None:
        """Add all images that another collection was given."""
        self._normal += other._normal
        self._defective += other._defective
        self._overlap += other._overlap
        np.minimum(self._lowest, other._lowest, out=self._lowest)
        np.maximum(self._highest, other._highest, out=self._highest)
        self._regions += other._regions

    def result(self, *, pro_limit: float = 0.3) -> PixelResult:
        """Return the metrics of what was added so far; undefined ones carry their reason.

        ``pro_limit``, in (0, 1], is the highest false-positive rate of PRO.
        """
        positives, negatives = int(self._defective.sum()), int(self._normal.sum())
        reason = missing(positives, negatives, "anomalous pixel", "normal pixel")
        if reason:
            return PixelResult(*[Metric(None, reason)] * 4)
        used = np.flatnonzero(self._highest >= 0)[::-1]  # from the highest bin down
        curve = Curve(
            _values(self._lowest[used]),
            np.cumsum(self._defective[used]),
            np.cumsum(self._normal[used]),
            self._lowest[used] < self._highest[used],
        )
        overlap = np.cumsum(self._overlap[used]) / self._regions
        pro = _area_up_to(curve.fp / negatives, overlap, pro_limit)
        return PixelResult(curve.auroc(), curve.aupr(), curve.f1max(), Metric(pro))


def _keys(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return integers 0..2**29 in the order of float32 values in 0..1."""
    low = values < 0.5
    # 1 - p is exact from one half on (Sterbenz); + 0.0 turns the bits of -0.0 into those of 0.0.
    bits = np.where(low, values + np.float32(0), 1 - values).view(np.int32)
    bits -= np.where(low, np.int32(_LOW), np.int32(_HIGH))
    np.maximum(bits, 0, out=bits)
    return np.where(low, bits, _TOP - bits)


def _values(keys: NDArray[np.int32]) -> Floats:
    """Return the float32 values, as float64, whose keys are given."""
    below = np.where(keys == 0, 0, keys + _LOW).astype(np.int32).view(np.float32)
    above = np.where(keys == _TOP, 0, _TOP - keys + _HIGH).astype(np.int32).view(np.float32)
    return np.where(keys < _HALF, below, 1 - above).astype(np.float64)


def _area_up_to(x: Floats, y: Floats, limit: float) -> float:
    """Return the mean height of the line through (0, 0) and the points, for x from 0 to ``limit``."""
    x, y = np.append(0.0, x), np.append(0.0, y)
    inside = int(np.searchsorted(x, limit, side="right"))
    height = np.interp(limit, x, y)
    x, y = np.append(x[:inside], limit), np.append(y[:inside], height)
    area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
    return min(area / limit, 1.0)
