"""What verdicts are worth: false alarms, recall, and regions beside masks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zeroflaw.runtime.prediction import Prediction

Drawn = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass
class Verdicts:
    """Counts what a detector calls anomalous, by its own thresholds, image by image.

    Attributes:
        called: label and verdict of each image that has one.
        thresholds: all that occurred, as log-odds.
        hot_good: of each good image with a map, whether any place passes the map's threshold.
        overlaps: of each flawed image with map and mask, intersection over union of hot places and mask.
        areas: of the same images, the shares of the image that are hot, and that are flawed.
    """

    called: list[tuple[int, bool]] = field(default_factory=list)
    thresholds: set[float] = field(default_factory=set)
    hot_good: list[bool] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)
    areas: list[tuple[float, float]] = field(default_factory=list)

    def add(self, label: int, prediction: Prediction, drawn: Drawn | None, mask: Mask | None) -> None:
        """Count an image; ``drawn`` is its map at its own size, as is the mask, all False if it is good."""
        if prediction.label is not None:
            self.called.append((label, prediction.label))
        if prediction.threshold_logit is not None:
            self.thresholds.add(prediction.threshold_logit)
        if drawn is None or mask is None or prediction.map_threshold is None:
            return
        hot = drawn >= prediction.map_threshold
        if label == 0:
            self.hot_good.append(bool(hot.any()))
        elif mask.any():
            self.overlaps.append(float((hot & mask).sum() / (hot | mask).sum()))
            self.areas.append((float(hot.mean()), float(mask.mean())))

    def merge(self, other: Verdicts) -> None:
        """Take over what was counted of other images."""
        self.called += other.called
        self.thresholds |= other.thresholds
        self.hot_good += other.hot_good
        self.overlaps += other.overlaps
        self.areas += other.areas

    def figures(self, images: int) -> dict[str, float | None]:
        """Return the figures of a row of so many images; None where they are undefined.

        Verdicts on some of the images only give none, and a threshold is that of all images.
        """
        called = self.called if len(self.called) == images else []
        hot, flawed = np.median(self.areas, axis=0) if self.areas else (0.0, 0.0)
        return {
            "false_alarms": _mean([verdict for label, verdict in called if label == 0]),
            "recall": _mean([verdict for label, verdict in called if label == 1]),
            "map_false_alarms": _mean(self.hot_good),
            "iou": _mean(self.overlaps),
            "hot_area_ratio": float(hot / flawed) if flawed else None,
            "threshold_logit": min(self.thresholds) if len(self.thresholds) == 1 else None,
        }


def _mean(values: list[bool] | list[float]) -> float | None:
    return float(np.mean(values)) if values else None
