"""Square tiles over a photo that is not square, and how what is said of them comes back to the photo.

No source says what the WinCLIP paper (Jeong et al., CVPR 2023) does with photos that are not square. One
public implementation covers them with squares: as wide as the short edge, a new one every 0.8 of that along
the long edge, the mean of their probabilities as the score. Maps are put together here in the same manner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

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
    def whole(cls, size: tuple[int, int]) -> Tiles:
        """Take a photo as one tile, whatever its shape."""
        return cls(size, max(size), (0,))

    @classmethod
    def over(cls, size: tuple[int, int]) -> Tiles:
        """Cover a photo of (height, width) with tiles as long as its short edge.

        Strips so long that more than `MOST` tiles would be needed get `MOST` longer ones.
        """
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

    def mean(self, logits: Tensor) -> Tensor:
        """Return the log-odds () of the mean probability of the tiles, whose log-odds are ``logits`` (T,)."""
        if len(self) == 1:
            return logits[0]
        return _log_odds_of_mean(logits, torch.full_like(logits, 1 / len(self)), 0)

    def merge(self, logits: Tensor) -> Tensor:
        """Put the maps of the tiles together: (T, rows, columns) of log-odds to one map of the photo.

        The long edge gets as many more cells as it is longer than a tile. Each cell takes, from every tile
        that holds its centre, the probability there, interpolated linearly, and the mean of these.
        """
        if len(self) == 1:
            return logits[0]
        upright = self.size[0] > self.size[1]
        along = logits if upright else logits.transpose(1, 2)  # (T, cells along, cells across)
        index, weight = self._places(along.shape[1])
        gathered = along.flatten(0, 1)[index]  # (N, K, cells across)
        merged = _log_odds_of_mean(gathered, weight.to(logits)[..., None], 1)
        return merged if upright else merged.T

    def _places(self, cells: int) -> tuple[Tensor, Tensor]:
        """For each of N cells of the photo: places (N, K) among all tiles' cells, and weights (N, K)."""
        long = max(self.size)
        count = round(cells * long / self.length)
        centre = (torch.arange(count).double() + 0.5)[:, None] * long / count  # (N, 1), in pixels
        inside = centre - torch.tensor(self.starts)  # (N, T), pixels from each tile's start
        held = (inside >= 0) & (inside <= self.length)
        place = (inside * cells / self.length - 0.5).clamp(0, cells - 1)
        low = place.floor()
        share = place - low
        each = held / held.sum(1, keepdim=True)
        base = torch.arange(len(self)) * cells
        index = torch.cat([base + low, base + (low + 1).clamp(max=cells - 1)], 1)
        return index.long(), torch.cat([each * (1 - share), each * share], 1)


def _log_odds_of_mean(logits: Tensor, weights: Tensor, dim: int) -> Tensor:
    """Log-odds of a weighted mean of probabilities; logarithms keep apart what probabilities would not."""
    anomalous = torch.logsumexp(weights.log() + F.logsigmoid(logits), dim)
    return anomalous - torch.logsumexp(weights.log() + F.logsigmoid(-logits), dim)
