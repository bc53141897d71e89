"""Anomaly maps as arrays: bringing one to the size of its image or mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeroflaw.errors import UsageError


def upsample(values: ArrayLike, size: tuple[int, int]) -> NDArray[np.float32]:
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
    grid = np.asarray(values, dtype=np.float32)
    if grid.ndim != 2 or not grid.size or len(size) != 2 or min(size) < 1:
        raise UsageError(
            f"a map (h, w) and a size (H, W) are wanted, not {grid.shape} and {size}; check both"
        )
    return np.ascontiguousarray(_stretch(_stretch(grid, size[1]).T, size[0]).T)


def _stretch(grid: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Resample the last axis to ``length``."""
    old = grid.shape[1]
    centre = np.clip((np.arange(length) + 0.5) * (old / length) - 0.5, 0, old - 1)
    left = centre.astype(np.intp)
    right = np.minimum(left + 1, old - 1)
    share = (centre - left).astype(np.float32)
    # a + (b - a) w, not a (1 - w) + b w: equal neighbours give exactly their value, so 1 stays 1.
    low = grid[:, left]
    stretched: NDArray[np.float32] = low + (grid[:, right] - low) * share
    return stretched
