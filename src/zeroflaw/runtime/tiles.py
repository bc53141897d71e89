"""Square tiles over a photo that is not square, and how what is said of them comes back to the photo.

No source says what the WinCLIP paper (Jeong et al., CVPR 2023) does with photos that are not square. One
public implementation covers them with squares: as wide as the short edge, a new one every 0.8 of that along
the long edge, the mean of their probabilities as the score. Maps are put together here in the same manner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeroflaw.runtime.scores import Doubles, log_odds_of_mean
from zeroflaw.runtime.stream import Array

STRIDE = 0.8  # of a tile's side
MOST = 64  # tiles of one photo; a longer strip gets longer tiles, which are squashed


@dataclass(frozen=True, slots=True)
class Tiles:
    """How one photo is cut along its long edge.

    Attributes:
        size: height and width of the photo in pixels.
        length: of a tile along the long edge, in pixels.
        starts: first pixel of each tile along the long edge; the last tile ends on the border.
    """

    size: tuple[int, int]
    length: int
    starts: tuple[int, ...]

    @classmethod
    def of(cls, size: tuple[int, int], *, tile: bool) -> Tiles:
        """Cover a photo of (height, width) with tiles as long as its short edge, or take it as one tile.

        Strips so long that more than `MOST` tiles would be needed get `MOST` longer ones.
        """
        if not tile:
            return cls(size, max(size), (0,))
        short, long = sorted(size)
        length = min(long, max(short, math.ceil(long / (1 + STRIDE * (MOST - 1)))))
        last = long - length
        steps = math.ceil(last / (STRIDE * length))
        starts = [int(step * STRIDE * length) for step in range(steps)]
        return cls(size, length, tuple(dict.fromkeys([*starts, last])))

    def __len__(self) -> int:
        return len(self.starts)

    def cut(self, image: Array) -> list[Array]:
        """Return the tiles of the photo, views of ``image`` (height, width, 3)."""
        if self.size[0] > self.size[1]:
            return [image[start : start + self.length] for start in self.starts]
        return [image[:, start : start + self.length] for start in self.starts]

    def mean(self, logits: Doubles) -> Doubles:
        """Return the log-odds () of the mean probability of the tiles, whose log-odds are ``logits`` (T,)."""
        return log_odds_of_mean(logits, 1 / len(self), 0) if len(self) > 1 else logits[0]

    def merge(self, logits: Doubles) -> Doubles:
        """Put the maps of the tiles together: (T, rows, columns) of log-odds to one map of the photo.

        The long edge gets as many more cells as it is longer than a tile. Each cell takes, from every tile
        that holds its centre, the probability there, interpolated linearly, and the mean of these.
        """
        if len(self) == 1:
            return np.asarray(logits[0])
        upright = self.size[0] > self.size[1]
        along = logits if upright else logits.transpose(0, 2, 1)  # (T, cells along, cells across)
        index, weight = self._places(along.shape[1])
        gathered = along.reshape(-1, along.shape[2])[index]  # (N, K, cells across)
        merged = log_odds_of_mean(gathered, weight[..., None], 1)
        return merged if upright else merged.T

    def _places(self, cells: int) -> tuple[npt.NDArray[np.int64], Doubles]:
        """For each of N cells of the photo: places (N, K) among all tiles' cells, and weights (N, K)."""
        long = max(self.size)
        count = round(cells * long / self.length)
        centre = (np.arange(count) + 0.5)[:, None] * long / count  # (N, 1), in pixels
        inside = centre - np.array(self.starts)  # (N, T), pixels from each tile's start
        held = (inside >= 0) & (inside <= self.length)
        place = np.clip(inside * cells / self.length - 0.5, 0, cells - 1)
        low = np.floor(place)
        share = place - low
        each = held / held.sum(1, keepdims=True)
        base = np.arange(len(self)) * cells
        index = np.concatenate([base + low, base + np.minimum(low + 1, cells - 1)], 1)
        return index.astype(np.int64), np.concatenate([each * (1 - share), each * share], 1)
