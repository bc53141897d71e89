"""Large photos cut into overlapping squares, each judged by itself, and what is said of them put together.

A tower sees a photo at some hundred pixels a side: of a web of 4,000 x 60,000 pixels nothing is left at that
size. Tiles of a chosen side keep the scale. A photo is as anomalous as its most anomalous tile: one flaw
makes a part a bad one, however much good surface is around it, and a mean over a longer strip would hide it
the better. The highest of many is higher than one, so that thresholds must come from photos cut alike.

`zeroflaw.runtime.tiles` is another matter: the squares over photos that are not square, of one method.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zeroflaw.bands import Bands
from zeroflaw.runtime.scores import Doubles

OVERLAP = 0.25  # of a tile's side, at least
Size = tuple[int, int]  # height and width in pixels
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Tiling:
    """How one photo is cut.

    Attributes:
        size: height and width of the photo in pixels.
        side: of its tiles in pixels.
        tops, lefts: where rows and columns of tiles begin; the last ones end on the border.
    """

    size: Size
    side: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @classmethod
    def of(cls, size: Size, side: int) -> Tiling:
        """Cut a photo of (height, width) into tiles of a side; smaller ones where the photo is narrower."""
        side = min(side, *size)
        return cls(size, side, _starts(size[0], side), _starts(size[1], side))

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    @property
    def places(self) -> Iterator[tuple[int, int]]:
        """Top and left of each tile, row by row."""
        return ((top, left) for top in self.tops for left in self.lefts)

    def cut(self, bands: Iterable[Pixels]) -> Iterator[Pixels]:
        """Yield the tiles, uint8 (side, side, 3), while going through bands of the photo from the top.

        No more of the photo is kept than a row of tiles and a band.
        """
        parts, first = iter(bands), 0
        rows = np.empty((0, self.size[1], 3), np.uint8)
        for top in self.tops:
            rows, first = rows[top - first :], top
            while len(rows) < self.side:
                rows = np.concatenate([rows, next(parts)]) if len(rows) else next(parts)
            for left in self.lefts:
                yield rows[: self.side, left : left + self.side]
        for _ in parts:  # to its end, for who looks at the bands as well
            pass


def _starts(length: int, side: int) -> tuple[int, ...]:
    steps = math.ceil((length - side) / (side * (1 - OVERLAP)))
    return tuple(round(step * (length - side) / max(steps, 1)) for step in range(steps + 1))


@dataclass
class Mosaic:
    """Maps of tiles joined to one of the photo; where tiles overlap, one fades into the other.

    Attributes:
        tiling: how the photo was cut.
    """

    tiling: Tiling
    _sum: Doubles | None = field(default=None, repr=False)
    _weight: Doubles | None = field(default=None, repr=False)

    def add(self, place: tuple[int, int], tile: Doubles) -> None:
        """Take in the log-odds (rows, columns) of the tile at a place; all tiles have the same shape."""
        height, width = self.tiling.size
        side = self.tiling.side
        if self._sum is None or self._weight is None:
            shape = round(tile.shape[0] * height / side), round(tile.shape[1] * width / side)
            self._sum, self._weight = np.zeros(shape), np.zeros(shape)
        rows = _Along.of(place[0], side, height, self._sum.shape[0], tile.shape[0])
        columns = _Along.of(place[1], side, width, self._sum.shape[1], tile.shape[1])
        seen = columns.sample(rows.sample(tile).T).T
        weight = rows.weight[:, None] * columns.weight
        self._sum[rows.held, columns.held] += weight * seen
        self._weight[rows.held, columns.held] += weight

    def joined(self) -> Doubles:
        """Return the log-odds of the photo, (rows, columns); as many cells a pixel as in a tile."""
        assert self._sum is not None
        assert self._weight is not None
        return np.asarray(self._sum / self._weight)


@dataclass(frozen=True)
class _Along:
    """A tile along one edge: which cells of the photo it holds, where they lie in it, what it weighs."""

    held: slice
    low: npt.NDArray[np.intp]
    high: npt.NDArray[np.intp]
    share: Doubles
    weight: Doubles

    @classmethod
    def of(cls, start: int, side: int, length: int, cells: int, own: int) -> _Along:
        centre = (np.arange(cells) + 0.5) * length / cells - start  # in pixels of the tile
        held = np.flatnonzero((centre >= 0) & (centre <= side))
        inside = centre[held]
        place = np.clip(inside * own / side - 0.5, 0, own - 1)
        low = place.astype(np.intp)
        # Up to full weight over the overlap; never nothing, so that borders of the photo are seen.
        weight = np.clip(np.minimum(inside, side - inside) / (OVERLAP * side), 1e-3, 1)
        span = slice(int(held[0]), int(held[-1]) + 1)
        return cls(span, low, np.minimum(low + 1, own - 1), place - low, weight)

    def sample(self, tile: Doubles) -> Doubles:
        """Return values at the cells, interpolated along the first axis."""
        share = self.share[:, None]
        return np.asarray(tile[self.low] * (1 - share) + tile[self.high] * share)


@dataclass
class Digested:
    """Bands on their way, whose SHA-256 is taken: that of all pixels, as if they were one array."""

    bands: Bands
    sha256: str = ""

    def __iter__(self) -> Iterator[Pixels]:
        seen = hashlib.sha256()
        for band in self.bands:
            seen.update(np.ascontiguousarray(band).tobytes())
            yield band
        self.sha256 = seen.hexdigest()
