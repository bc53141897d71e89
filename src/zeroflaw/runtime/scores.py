"""Log-odds: means of probabilities that do not saturate, windows back to patches, maps to the size of images.

Everything here is NumPy in double precision: probabilities near 0 and 1 run out of digits, their log-odds do
not, and a double keeps what differs between processors far below anything that is shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from zeroflaw.errors import UsageError

Doubles = npt.NDArray[np.float64]

__all__ = [
    "Doubles",
    "Windows",
    "expit",
    "fuse",
    "harmonic_map",
    "harmonic_mean",
    "log_odds_of_mean",
    "logit",
    "make_windows",
    "upsample",
    "upsampled_rows",
]


# These three are scipy.special's, whose import would take a third of the time to a first verdict.


def expit(logits: ArrayLike) -> Doubles:
    """Return the probabilities that belong to log-odds: ``1 / (1 + exp(-x))``."""
    return np.asarray(np.exp(-np.logaddexp(0, -np.asarray(logits, np.float64))))


def logit(probabilities: ArrayLike) -> Doubles:
    """Return the log-odds of probabilities, which are infinite for 0 and 1."""
    values = np.asarray(probabilities, np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values) - np.log1p(-values))


def _logsumexp(values: Doubles, axis: int, weights: ArrayLike = 1.0) -> Doubles:
    with np.errstate(divide="ignore"):  # a weight of 0 takes no part, whatever the value
        parts = values + np.log(weights)
    most = parts.max(axis, keepdims=True)
    return np.asarray(np.log(np.exp(parts - most).sum(axis)) + most.squeeze(axis))


def log_odds_of_mean(logits: Doubles, weights: ArrayLike, axis: int) -> Doubles:
    """Return the log-odds of a weighted mean of ``sigmoid(logits)`` along an axis; weights sum to one.

    ``log p`` and ``log(1 - p)`` of the mean are log-sum-exps of log-sigmoids, so the ranking survives where
    the probabilities themselves are 0 or 1 to all their digits.
    """
    anomalous = _logsumexp(-np.logaddexp(0, -logits), axis, weights)
    return np.asarray(anomalous - _logsumexp(-np.logaddexp(0, logits), axis, weights))


def fuse(logits: Mapping[str, Doubles], weights: Mapping[str, float]) -> Doubles:
    """Return the log-odds of the weighted mean of named probabilities; all arrays have one shape."""
    if len(weights) == 1:
        return logits[next(iter(weights))]
    stacked = np.stack([logits[name] for name in weights])
    shares = np.array(list(weights.values())).reshape(-1, *[1] * (stacked.ndim - 1))
    return log_odds_of_mean(stacked, shares, 0)


@dataclass(frozen=True)
class Windows:
    """All windows of one size over a patch grid (WinCLIP, CVPR 2023, section 4.2).

    Attributes:
        index: patches of each window, row-major, int64 of shape (W, size * size).
        cover: 1 where window w holds patch p, of shape (W, P).
    """

    index: npt.NDArray[np.int64]
    cover: Doubles

    @property
    def count(self) -> Doubles:
        """How many windows hold each patch, (P,)."""
        return np.asarray(self.cover.sum(0))


@lru_cache(maxsize=32)
def make_windows(grid: tuple[int, int], size: int, stride: int = 1) -> Windows:
    """List the windows of ``size`` x ``size`` patches over a ``grid`` of (rows, columns).

    The last row and column of windows is moved inside where the stride does not end on the border, so that
    every patch is covered.

    Raises:
        UsageError: the size or stride is below one, the window is larger than the grid, or the stride leaves
            gaps.
    """
    rows, columns = grid
    if not (1 <= size <= min(grid) and 1 <= stride <= size):
        raise UsageError(
            f"window size and stride must satisfy 1 <= stride <= size <= {min(grid)} on a {rows} x {columns} "
            f"grid, got size {size}, stride {stride}"
        )
    top, left = (np.array(_starts(length, size, stride)) for length in grid)
    corner = (top[:, None] * columns + left).reshape(-1, 1)  # (W, 1)
    step = np.arange(size)
    index = corner + (step[:, None] * columns + step).reshape(-1)  # (W, size * size)
    cover = np.zeros((len(index), rows * columns))
    np.put_along_axis(cover, index, 1.0, 1)
    return Windows(index, cover)


def _starts(length: int, size: int, stride: int) -> list[int]:
    return sorted({*range(0, length - size + 1, stride), length - size})


def harmonic_map(logits: Doubles, windows: Windows) -> Doubles:
    """Spread window scores over the patches by the harmonic mean of the windows that hold each patch.

    With probabilities ``p = sigmoid(logit)`` one has ``1 / p = 1 + exp(-logit)``, so the harmonic mean of
    probabilities is ``-logmeanexp(-logit)`` in logits: exact, and free of the saturation of probabilities
    (WinCLIP, section 4.2).

    Args:
        logits: anomaly logits of the windows, (B, W).
        windows: which patches they hold.

    Returns:
        Anomaly logits of the patches, (B, P).
    """
    floor = (-logits).max(1, keepdims=True)  # a shift per image keeps exp in range
    mean = np.exp(-logits - floor) @ windows.cover / windows.count
    tiny = np.finfo(np.float64).tiny
    result = -(np.log(np.maximum(mean, tiny)) + floor)
    small = mean < tiny * 1e6
    if not small.any():
        return np.asarray(result)
    # A patch whose windows lie far above the image's most normal one underflows: sum it in its own range.
    slow = _logsumexp(-logits[:, :, None], 1, windows.cover) - np.log(windows.count)
    return np.asarray(np.where(small, -slow, result))


def harmonic_mean(logits: Sequence[Doubles]) -> Doubles:
    """Return the harmonic mean, in logits, of maps of equal shape; see `harmonic_map`."""
    return np.asarray(-(_logsumexp(-np.stack(logits), 0) - math.log(len(logits))))


def upsample(values: ArrayLike, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Resize a map bilinearly, pixel centres aligned, not corners.

    Equal to ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``, without torch. The
    result never leaves the range of the input; no low-pass filter is applied where the map shrinks.

    Args:
        values: ``(h, w)``.
        size: ``(H, W)`` of the result.

    Returns:
        float32 ``(H, W)``.

    Raises:
        UsageError: the map is not a grid or the size is not two positive numbers.
    """
    return np.concatenate(list(upsampled_rows(values, size, size[0] if len(size) == 2 else 0)))


def upsampled_rows(values: ArrayLike, size: tuple[int, int], rows: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield what `upsample` returns, at most so many rows at a time; its arguments and errors."""
    grid = np.asarray(values, dtype=np.float32)
    if grid.ndim != 2 or not grid.size or len(size) != 2 or min(size) < 1:
        raise UsageError(
            f"a map (h, w) and a size (H, W) are wanted, not {grid.shape} and {size}; check both"
        )
    wide = _stretch(grid, size[1], 0, size[1]).T
    for top in range(0, size[0], rows):
        yield np.ascontiguousarray(_stretch(wide, size[0], top, min(top + rows, size[0])).T)


def _stretch(grid: npt.NDArray[np.float32], length: int, start: int, stop: int) -> npt.NDArray[np.float32]:
    """Resample the last axis to ``length``, of which places from ``start`` to ``stop`` are returned."""
    old = grid.shape[1]
    centre = np.clip((np.arange(start, stop) + 0.5) * (old / length) - 0.5, 0, old - 1)
    left = centre.astype(np.intp)
    right = np.minimum(left + 1, old - 1)
    share = (centre - left).astype(np.float32)
    # a + (b - a) w, not a (1 - w) + b w: equal neighbours give exactly their value, so 1 stays 1.
    low = grid[:, left]
    stretched: npt.NDArray[np.float32] = low + (grid[:, right] - low) * share
    return stretched
