"""Regions: where a map passes its threshold, as masks, boxes and areas in pixels of the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects, label, maximum, maximum_position, sum_labels

Mask = npt.NDArray[np.bool_]
_TOUCHING = np.ones((3, 3), dtype=int)  # pixels that touch at a corner are one region


@dataclass(frozen=True, slots=True)
class Region:
    """A connected part of an image whose map passes its threshold.

    Attributes:
        box: left, top, width, height in pixels.
        area: pixels.
        share: of the image's pixels, in percent.
        peak: highest value of the map in it, in [0, 1].
        peak_at: column and row of that value.
    """

    box: tuple[int, int, int, int]
    area: int
    share: float
    peak: float
    peak_at: tuple[int, int]

    def to_dict(self) -> dict[str, object]:
        """Return everything as JSON values."""
        return {
            "box": list(self.box),
            "area": self.area,
            "share": round(self.share, 4),
            "peak": round(self.peak, 6),
            "peak_at": list(self.peak_at),
        }


def find_regions(picture: npt.NDArray[np.float32], threshold: float, *, least: int = 1) -> list[Region]:
    """List the regions of a map of the size of its image, the one with the highest peak first.

    Args:
        picture: map (height, width).
        threshold: smallest value that is anomalous.
        least: pixels that a region must have.
    """
    numbered, count = label(picture >= threshold, structure=_TOUCHING)
    if not count:
        return []
    numbers = np.arange(1, count + 1)
    areas = sum_labels(np.ones_like(picture, dtype=np.int64), numbered, numbers).astype(int)
    peaks, places = maximum(picture, numbered, numbers), maximum_position(picture, numbered, numbers)
    found = [
        Region(
            box=(across.start, down.start, across.stop - across.start, down.stop - down.start),
            area=int(area),
            share=100 * int(area) / picture.size,
            peak=float(peak),
            peak_at=(int(place[1]), int(place[0])),
        )
        for (down, across), area, peak, place in zip(find_objects(numbered), areas, peaks, places, strict=True)
        if area >= least
    ]
    return sorted(found, key=lambda region: -region.peak)


def run_lengths(mask: Mask) -> list[int]:
    """Return COCO's uncompressed run lengths of a mask (height, width): column by column, unmarked first."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    ends = np.concatenate([changes, [mask.size]]) if not len(changes) or changes[-1] != mask.size else changes
    return np.diff(ends, prepend=0).astype(int).tolist()
