"""Regions: where a map passes its threshold, and where it is looked at, in pixels of the image."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeroflaw.errors import UsageError, printable
from zeroflaw.masks import read_marked
from zeroflaw.runtime.scores import upsample

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
REACH = 0.5  # log-odds below the threshold down to which a region goes on from a place that passes it
_TOUCHING = np.ones((3, 3), dtype=int)  # pixels that touch at a corner are one region
_POLYGON = re.compile(r"\s*-?[\d.]+\s*,\s*-?[\d.]+(?:\s+-?[\d.]+\s*,\s*-?[\d.]+)*\s*")


@dataclass(frozen=True, slots=True)
class Region:
    """A connected part of an image whose map passes its threshold, with what touches it and nearly does.

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

    def scaled(self, found: tuple[int, int], size: tuple[int, int]) -> Region:
        """Return a region that was found at one (height, width) as it lies in another."""
        down, across = size[0] / found[0], size[1] / found[1]
        left, top, width, height = self.box
        x, y = round(left * across), round(top * down)
        right, low = round((left + width) * across), round((top + height) * down)
        column, row = (
            int((place + 0.5) * by) for place, by in zip(self.peak_at, (across, down), strict=True)
        )
        area = round(self.area * down * across)
        return Region((x, y, right - x, low - y), area, self.share, self.peak, (column, row))

    def to_dict(self) -> dict[str, object]:
        """Return everything as JSON values."""
        return {
            "box": list(self.box),
            "area": self.area,
            "share": round(self.share, 4),
            "peak": round(self.peak, 6),
            "peak_at": list(self.peak_at),
        }


def lower_edge(threshold: float) -> float:
    """Return the value of a map, in [0, 1], down to which regions go on: `REACH` below its threshold."""
    return threshold / (threshold + (1 - threshold) * math.exp(REACH))


def anomalous(picture: Floats, threshold: float) -> Mask:
    """Return which pixels of a map (height, width) lie in its regions; arguments of `find_regions`."""
    from scipy.ndimage import label  # without regions, there is no need to wait for it

    passing: Mask = picture >= threshold
    if not passing.any():
        return passing
    numbered, count = label(picture >= lower_edge(threshold), structure=_TOUCHING)
    kept = np.zeros(count + 1, dtype=bool)
    kept[numbered[passing]] = True
    return np.asarray(kept[numbered])


def find_regions(picture: Floats, threshold: float, *, least: int = 1) -> list[Region]:
    """List the regions of a map of the size of its image, the one with the highest peak first.

    A region begins where the map passes its threshold, so that as many good images have none as the
    threshold promises, and goes on to all that touches and lies at most `REACH` of log-odds below: a flaw
    does not end where its map is highest.

    Args:
        picture: map (height, width), values in [0, 1].
        threshold: smallest value that is anomalous.
        least: pixels that a region must have.
    """
    return [region for region, _ in cut_regions(picture, threshold, least=least)]


def cut_regions(picture: Floats, threshold: float, *, least: int = 1) -> list[tuple[Region, Mask]]:
    """List the regions of a map, each with its mask within its box; arguments and order of `find_regions`."""
    from scipy.ndimage import find_objects, label

    numbered, count = label(anomalous(picture, threshold), structure=_TOUCHING)
    boxes: list[tuple[slice, slice]] = find_objects(numbered, count)
    found = []
    for number, (down, across) in enumerate(boxes, 1):
        inside: Mask = numbered[down, across] == number
        if (area := int(inside.sum())) < least:
            continue
        values = np.where(inside, picture[down, across], -np.inf)
        row, column = np.unravel_index(np.argmax(values), values.shape)
        region = Region(
            box=(across.start, down.start, across.stop - across.start, down.stop - down.start),
            area=area,
            share=100 * area / picture.size,
            peak=float(values[row, column]),
            peak_at=(across.start + int(column), down.start + int(row)),
        )
        found.append((region, inside))
    return sorted(found, key=lambda pair: -pair[0].peak)


def pasted(inside: Mask, box: tuple[int, int, int, int], size: tuple[int, int]) -> Mask:
    """Return the mask of a region at the size (height, width) of its image."""
    left, top, width, height = box
    whole = np.zeros(size, dtype=bool)
    whole[top : top + height, left : left + width] = inside
    return whole


def run_lengths(mask: Mask) -> list[int]:
    """Return COCO's uncompressed run lengths of a mask (height, width): column by column, unmarked first."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    ends = np.concatenate([changes, [mask.size]]) if not len(changes) or changes[-1] != mask.size else changes
    return [int(count) for count in np.diff(ends, prepend=0)]


def from_run_lengths(counts: Sequence[int], size: tuple[int, int]) -> Mask:
    """Return the mask (height, width) that `run_lengths` was given."""
    marked = np.arange(len(counts)) % 2 == 1
    return np.repeat(marked, counts).reshape(size, order="F")


def region_of_interest(spec: str, size: tuple[int, int]) -> Mask:
    """Return which pixels of an image are marked, bool (height, width).

    Args:
        spec: the corners of a polygon, ``"x,y x,y x,y"``, in pixels or, if none is above 1, in shares of
            width and height; or the path of a mask (`zeroflaw.masks`), which is stretched to the image.
        size: height and width of the image.

    Raises:
        UsageError: the polygon has fewer than three corners, or nothing is marked.
        ImageError: the picture cannot be read.
    """
    height, width = size
    if _POLYGON.fullmatch(spec):
        corners = [_corner(pair, spec) for pair in re.findall(r"([^\s,]+)\s*,\s*([^\s,]+)", spec)]
        if len(corners) < 3:
            raise UsageError(f"a polygon has at least three corners, got '{printable(spec)}'; add some")
        if max(max(corner) for corner in corners) <= 1:
            corners = [(x * width, y * height) for x, y in corners]
        marked = _filled(corners, size)
    else:
        picture = read_marked(Path(spec)).marked
        rows, columns = (
            (2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(picture.shape, size, strict=True)
        )
        marked = picture[rows[:, None], columns]
    if not marked.any():
        raise UsageError(
            f"'{printable(spec)}' marks nothing of an image of {width} x {height} pixels; mark a part of it"
        )
    return marked


def _filled(corners: Sequence[tuple[float, float]], size: tuple[int, int]) -> Mask:
    """Return which pixels have their centre in a polygon, by the parity of edges to their right."""
    rows, columns = np.arange(size[0])[:, None] + 0.5, np.arange(size[1]) + 0.5
    inside = np.zeros(size, dtype=bool)
    for (x, y), (right, low) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if y != low:
            inside ^= ((y <= rows) != (low <= rows)) & (columns < x + (rows - y) * (right - x) / (low - y))
    return inside


def _corner(pair: tuple[str, str], spec: str) -> tuple[float, float]:
    try:
        return float(pair[0]), float(pair[1])
    except ValueError:
        raise UsageError(f"corners are numbers, 'x,y', got '{printable(spec)}'; correct them") from None


def confined(values: Floats, inside: Mask) -> Floats:
    """Return a map at the size of its image, outside of a mask (height, width) set to 0.

    Args:
        values: map (rows, columns) of any resolution.
        inside: where it is looked at.
    """
    whole = upsample(values, (inside.shape[0], inside.shape[1]))
    return np.where(inside, whole, np.float32(0))  # below any threshold, however hot all of it is


def patch_mask(mask: Mask, grid: tuple[int, int], *, least: float = 0.5) -> Mask:
    """Return which patches of a grid (rows, columns) a mask holds to the share ``least`` of their pixels.

    If it holds none to that share, those that it holds the largest share of.
    """
    total = np.pad(np.cumsum(np.cumsum(mask, 0, dtype=np.int64), 1), ((1, 0), (1, 0)))
    # Areas below fractional edges: sums are linear between the lines of pixels.
    for axis, parts in enumerate(grid):
        edges = np.linspace(0, mask.shape[axis], parts + 1)
        low = np.minimum(edges.astype(int), mask.shape[axis] - 1)
        share = np.expand_dims(edges - low, 1 - axis)
        total = np.take(total, low, axis) * (1 - share) + np.take(total, low + 1, axis) * share
    held = np.diff(np.diff(total, axis=0), axis=1) * (grid[0] * grid[1] / mask.size)
    return np.asarray(held >= min(least, held.max()) - 1e-9)
