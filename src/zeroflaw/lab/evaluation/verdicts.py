"""What is kept of each judged image, and what verdicts are worth: false alarms, recall, regions and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zeroflaw.records import Record
from zeroflaw.runtime.prediction import Prediction
from zeroflaw.runtime.regions import anomalous

from .rows import mean, writable

Drawn = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class Judged(NamedTuple):
    """An image that a detector judged by its own thresholds.

    Attributes:
        key: its place in the data set.
        label: 0 normal, 1 anomalous.
        logit: its score, as log-odds.
        verdict: whether it is called anomalous, or None.
        threshold: of the verdict, as log-odds, or None.
        hot: share of it that lies in regions; None without map, mask or threshold.
        flawed: share of it that the mask marks.
        overlap: intersection over union of regions and mask, where any place is either.
    """

    key: str
    label: int
    logit: float
    verdict: bool | None
    threshold: float | None
    hot: float | None = None
    flawed: float = 0.0
    overlap: float | None = None


def judged(record: Record, prediction: Prediction, drawn: Drawn | None, mask: Mask | None) -> Judged:
    """Return what is kept of an image; ``drawn`` is its map, like the mask at the size of the image."""
    verdict, threshold = prediction.label, prediction.threshold_logit
    kept = Judged(writable(record.key), record.label, prediction.logit, verdict, threshold)
    if drawn is None or mask is None or prediction.map_threshold is None:
        return kept
    hot = anomalous(drawn, prediction.map_threshold)
    either = (hot | mask).sum()
    overlap = float((hot & mask).sum() / either) if either else None
    return kept._replace(hot=float(hot.mean()), flawed=float(mask.mean()), overlap=overlap)


def verdict_figures(found: Sequence[Judged]) -> dict[str, float | None]:
    """Return the figures of a row over the images; None where they are undefined.

    Verdicts on some of the images only give none, and a threshold is that of all images.
    """
    called = found if all(one.verdict is not None for one in found) else ()
    flawed = [one for one in found if one.flawed and one.hot is not None]
    hot, area = np.median([(one.hot, one.flawed) for one in flawed], axis=0) if flawed else (0.0, 0.0)
    thresholds = {one.threshold for one in found if one.threshold is not None}
    return {
        "false_alarms": mean(one.verdict for one in called if not one.label),
        "recall": mean(one.verdict for one in called if one.label),
        "map_false_alarms": mean(one.hot > 0 for one in found if not one.label and one.hot is not None),
        "iou": mean(one.overlap for one in flawed),
        "hot_area_ratio": float(hot / area) if flawed else None,
        "threshold_logit": thresholds.pop() if len(thresholds) == 1 else None,
    }
