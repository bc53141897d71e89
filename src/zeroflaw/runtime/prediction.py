"""What is said about one image."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from zeroflaw.errors import UsageError
from zeroflaw.runtime.regions import Mask, Region, anomalous, confined, find_regions, lower_edge
from zeroflaw.runtime.scores import expit, logit, upsample, upsampled_rows

LARGE = 1 << 25  # pixels of an image whose map is looked at pixel by pixel


def peak(prediction: Prediction) -> float:
    """Return the log-odds of the highest value of a prediction's map."""
    assert prediction.map is not None
    return float(logit(np.clip(prediction.map.max().astype(np.float64), 1e-12, 1 - 1e-12)))


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a detector says about one image; two are equal if all of it is, the map included.

    Attributes:
        source: the path as given, or the index for pictures in memory.
        score: anomaly score in [0, 1]; higher = more anomalous.
        logit: log-odds of ``score``. Scores near 0 and 1 run out of digits, their log-odds do not: rank by
            this.
        scores: the named parts in [0, 1] that ``score`` is made of.
        size: height and width of the image in pixels.
        label: verdict; None until a threshold exists.
        threshold: smallest score that is called anomalous, or None.
        threshold_logit: the same as log-odds, by which verdicts are decided.
        threshold_from: where the threshold came from, in words, or None.
        p_value: share of good photos at least as anomalous, counted as in conformal prediction; None where no
            good photos are known. Small is anomalous.
        map_threshold: smallest value of the map that is anomalous, or None.
        photo: brightness, contrast, sharpness and noise of the photo (`zeroflaw.runtime.drift`), where the
            detector knows those of good photos; else None.
        notes: sentences about how the image was read: what was guessed, or was not looked at.
        map: anomaly of each patch, float32 in [0, 1] of shape (rows, columns), or None where none was asked
            for.
    """

    source: str
    score: float
    logit: float
    scores: Mapping[str, float]
    size: tuple[int, int]
    label: bool | None = None
    threshold: float | None = None
    threshold_logit: float | None = None
    threshold_from: str | None = None
    p_value: float | None = None
    map_threshold: float | None = None
    photo: Mapping[str, float] | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    map: npt.NDArray[np.float32] | None = field(default=None, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prediction):
            return NotImplemented
        return self.to_dict() == other.to_dict() and (
            self.map is other.map
            or (self.map is not None and other.map is not None and np.array_equal(self.map, other.map))
        )

    def __hash__(self) -> int:
        return hash((self.source, self.logit, self.size, self.threshold))

    def resized_map(self) -> npt.NDArray[np.float32]:
        """Return the map at the size of the image, float32 (height, width), interpolated bilinearly.

        Raises:
            UsageError: the prediction was made without a map.
        """
        if self.map is None:
            raise UsageError("a map was wanted but none was computed; predict with maps=True")
        return upsample(self.map, self.size)

    def mask(self) -> npt.NDArray[np.bool_]:
        """Return where the image is anomalous, bool (height, width): the pixels of its regions.

        Raises:
            UsageError: the prediction was made without a map, or no threshold of the map is known.
        """
        line, step = self.require_map_threshold(), self._step()
        if step == 1 or self.map is None:
            return anomalous(self.resized_map(), line)
        kept, least = anomalous(upsample(self.map, self._coarse(step)), line), lower_edge(line)
        rows, columns = (
            np.arange(fine) * coarse // fine for fine, coarse in zip(self.size, kept.shape, strict=True)
        )
        parts, top = [], 0
        for part in upsampled_rows(self.map, self.size, max(1, LARGE // self.size[1])):
            inside = kept[rows[top : top + len(part)]][:, columns]
            parts.append((part >= line) | ((part >= least) & inside))
            top += len(part)
        return np.concatenate(parts)

    def regions(self) -> list[Region]:
        """Return the regions where the map passes its threshold, with what touches, the most anomalous first.

        In images of more than 32 megapixels borders of regions are found to some pixels only, so that memory
        does not grow with the image; the map does not know them better.

        Raises:
            UsageError: see `mask`.
        """
        line, step = self.require_map_threshold(), self._step()
        if step == 1 or self.map is None:
            return find_regions(self.resized_map(), line)
        coarse = self._coarse(step)
        return [region.scaled(coarse, self.size) for region in find_regions(upsample(self.map, coarse), line)]

    def _step(self) -> int:
        """Return of how many rows and columns of a large image one is looked at for regions."""
        height, width = self.size
        return max(1, min(math.ceil(math.sqrt(height * width / LARGE)), height, width))

    def _coarse(self, step: int) -> tuple[int, int]:
        return -(-self.size[0] // step), -(-self.size[1] // step)

    def require_map_threshold(self) -> float:
        """Return the threshold of the map.

        Raises:
            UsageError: none is known.
        """
        if self.map_threshold is None:
            raise UsageError("regions need a threshold of the map; calibrate the detector with good photos")
        return self.map_threshold

    def confined(self, inside: Mask) -> Prediction:
        """Return the same prediction with a map at the size of the image that is 0 outside of a mask.

        Args:
            inside: bool (height, width): what is looked at; regions are found there alone.

        Raises:
            UsageError: the prediction was made without a map.
        """
        return dataclasses.replace(self, map=confined(self.resized_map(), inside))

    def _repr_png_(self) -> bytes:
        """Show the prediction in a notebook: the photo under its map, or the map alone if it is gone."""
        # The drawing knows predictions; that they know it stays within this method.
        from zeroflaw.report.heatmap import prediction_png

        return prediction_png(self)

    def with_threshold(
        self,
        threshold: float,
        origin: str,
        *,
        p_value: float | None = None,
        map_threshold: float | None = None,
    ) -> Prediction:
        """Return the same prediction with the verdict ``self.logit >= threshold``.

        Args:
            threshold: as log-odds.
            origin: where it comes from, in words.
            p_value: see the attribute.
            map_threshold: see the attribute.
        """
        return dataclasses.replace(
            self,
            label=self.logit >= threshold,
            threshold=float(expit(threshold)),
            threshold_logit=threshold,
            threshold_from=origin,
            p_value=p_value,
            map_threshold=map_threshold,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the map, ready for JSON; ``regions`` where the map has a threshold.

        The key ``notes`` is there only where there are some.
        """
        known = self.map is not None and self.map_threshold is not None
        return {
            "source": self.source,
            "score": self.score,
            "logit": self.logit,
            "label": self.label,
            "threshold": self.threshold,
            "threshold_logit": self.threshold_logit,
            "threshold_from": self.threshold_from,
            "p_value": self.p_value,
            "scores": dict(self.scores),
            "size": list(self.size),
            "map_threshold": self.map_threshold,
            "regions": [region.to_dict() for region in self.regions()] if known else None,
            **({"notes": list(self.notes)} if self.notes else {}),
        }
