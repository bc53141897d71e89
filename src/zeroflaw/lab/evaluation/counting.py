"""What is counted of each detector while images of a category pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zeroflaw.detectors import Detector, Prediction
from zeroflaw.errors import DetectorError, UsageError
from zeroflaw.lab.metrics import PixelMetrics
from zeroflaw.records import Record
from zeroflaw.runtime.features import ImageFeatures

from .verdicts import Judged, Mask, judged


@dataclass(frozen=True)
class NamedDetector:
    """A fitted detector under the name and seed it is reported with.

    Attributes:
        detector: None where it could not be made.
        error: why.
        backbone: that of a detector which could not be made.
        left_out: images that it is not measured on: it learned from them, or another one did.
    """

    name: str
    seed: int
    detector: Detector | None
    error: str | None = None
    backbone: str | None = None
    left_out: frozenset[Path] = frozenset()


class Seen(NamedTuple):
    """An image that was read: height and width, the mask if there is a usable one, what it leaves open."""

    record: Record
    size: tuple[int, int]
    mask: Mask | None
    ignored: Mask | None = None


@dataclass
class Accumulator:
    """What is counted of one detector while images pass; ``failed`` says why it was given up.

    Of what failed nothing is kept: figures of the images before the failure would be those of a part.
    """

    named: NamedDetector
    pixels: PixelMetrics | None
    failed: str | None = None
    judged: list[Judged] = field(default_factory=list)
    waiting: list[ImageFeatures] = field(default_factory=list)  # of a detector that judges all images at once

    @property
    def waits(self) -> bool:
        """Whether the detector judges all images at once."""
        return self.named.detector is not None and self.named.detector.needs.whole_batch

    def measured(self, seen: Sequence[Seen]) -> list[int]:
        """Return which of the images the detector is measured on."""
        return [row for row, one in enumerate(seen) if one.record.image not in self.named.left_out]

    def count(self, seen: Sequence[Seen], found: Iterable[Prediction]) -> None:
        """Count what is said about images."""
        for (record, _, mask, ignored), prediction in zip(seen, list(found), strict=True):
            if not math.isfinite(prediction.logit):
                raise DetectorError(f"the score of {record.key} is not a finite number")
            drawn = None
            if self.pixels is not None and mask is not None:
                drawn = prediction.resized_map()
                self.pixels.update(drawn, mask, ignored)
                drawn = drawn if ignored is None else np.where(ignored, np.float32(0), drawn)
            self.judged.append(judged(record, prediction, drawn, mask))

    def merge(self, other: Accumulator) -> None:
        """Take over what another pass counted."""
        if failed := self.failed or other.failed:
            self.fail(failed)
            return
        self.judged += other.judged
        if self.pixels is not None and other.pixels is not None:
            self.pixels.merge(other.pixels)

    def fail(self, reason: str) -> None:
        """Give the detector up."""
        self.failed, self.judged, self.pixels, self.waiting = reason, [], None, []


def white_of(detectors: Iterable[object]) -> float | None:
    """Return the level of white with which detectors were made, as all of them read the same pixels.

    Raises:
        UsageError: they differ.
    """
    found = (getattr(detector, "white", None) for detector in detectors)
    levels: set[float] = {level for level in found if level is not None}
    if len(levels) > 1:
        said = " and ".join(f"{level:g}" for level in sorted(levels))
        raise UsageError(f"the detectors were made with white {said}; evaluate them one by one")
    return next(iter(levels), None)


@dataclass
class Part:
    """What a pass over some of the images found, small enough to go from one process to another.

    Attributes:
        accumulators: of detectors, which are left out.
        images_left_out, masks_left_out: sentences about what could not be used.
        doubts: sentences about images and masks, and of which.
        images: how many were looked at.
    """

    accumulators: list[Accumulator]
    images_left_out: list[str] = field(default_factory=list)
    masks_left_out: list[str] = field(default_factory=list)
    doubts: dict[str, dict[str, None]] = field(default_factory=dict)
    images: int = 0
