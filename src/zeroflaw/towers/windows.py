"""Token windows: which patches a window holds, and how window scores come back to the patch grid.

A window is a square of ``size x size`` patches (WinCLIP, CVPR 2023, section 4.2). Its embedding is that of an
image tower which sees the class token and the window's tokens only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from zeroflaw.errors import UsageError


@dataclass(frozen=True, slots=True)
class Windows:
    """All windows of one size over a patch grid.

    Attributes:
        index: patches of each window, row-major, int64 of shape (W, size * size).
        cover: 1 where window w holds patch p, float32 of shape (W, P).
    """

    index: Tensor
    cover: Tensor

    @property
    def count(self) -> Tensor:
        """How many windows hold each patch, float32 of shape (P,)."""
        return self.cover.sum(0)


@lru_cache(maxsize=32)
def make_windows(grid: tuple[int, int], size: int, stride: int = 1) -> Windows:
    """List the windows of ``size`` patches over a ``grid`` of (rows, columns).

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
    # The result is shared: made in inference mode it would break the next caller who needs gradients.
    with torch.inference_mode(False):
        return _windows(rows, columns, size, stride)


def _windows(rows: int, columns: int, size: int, stride: int) -> Windows:
    corners = torch.cartesian_prod(_starts(rows, size, stride), _starts(columns, size, stride))  # (W, 2)
    offset = torch.cartesian_prod(torch.arange(size), torch.arange(size))  # (size * size, 2)
    places = corners[:, None] + offset[None]  # (W, size * size, 2)
    index = places[..., 0] * columns + places[..., 1]
    cover = torch.zeros(len(index), rows * columns).scatter_(1, index, 1.0)
    return Windows(index, cover)


def _starts(length: int, size: int, stride: int) -> Tensor:
    starts = list(range(0, length - size + 1, stride))
    if starts[-1] != length - size:
        starts.append(length - size)
    return torch.tensor(starts)


def harmonic_map(logits: Tensor, windows: Windows) -> Tensor:
    """Spread window scores over the patches by the harmonic mean of the windows that hold each patch.

    With probabilities ``p = sigmoid(logit)`` one has ``1 / p = 1 + exp(-logit)``, so the harmonic mean of
    probabilities is ``-logmeanexp(-logit)`` in logits: exact, and free of the saturation of probabilities
    (WinCLIP, section 4.2).

    Args:
        logits: anomaly logits of the windows, (B, W).

    Returns:
        Anomaly logits of the patches, (B, P).
    """
    floor = (-logits).amax(1, keepdim=True)  # a shift per image keeps exp in range
    total = torch.exp(-logits - floor) @ windows.cover.to(logits)
    # A patch whose windows lie far above the image's most normal one underflows: sum it in its own range.
    mean = total / windows.count.to(logits)
    small = mean < torch.finfo(logits.dtype).tiny * 1e6
    result = -(mean.clamp_min(torch.finfo(logits.dtype).tiny).log() + floor)
    return torch.where(small, _harmonic_slowly(logits, windows), result) if bool(small.any()) else result


def _harmonic_slowly(logits: Tensor, windows: Windows) -> Tensor:
    outside = torch.log(windows.cover.to(logits))  # 0 inside, -inf outside
    spread = -logits[:, :, None] + outside[None]  # (B, W, P)
    return -(torch.logsumexp(spread, 1) - torch.log(windows.count.to(logits)))


def harmonic_mean(logits: list[Tensor]) -> Tensor:
    """Return the harmonic mean, in logits, of maps of equal shape; see `harmonic_map`."""
    return -(torch.logsumexp(-torch.stack(logits), 0) - math.log(len(logits)))
