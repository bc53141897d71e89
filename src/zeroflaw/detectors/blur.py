"""Gaussian blur of anomaly maps, measured in pixels but applied to patches.

Published code brings a map to the size of the network's input, bilinearly, and blurs it there. All of that is
linear and goes row by row and column by column, so its effect on the patch grid is one small matrix a side.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter1d

from zeroflaw.runtime.scores import Doubles


def blurred(maps: Doubles, patch_size: int, sigma: float, *, pixels: bool = False) -> Doubles:
    """Blur maps (B, rows, columns) as the whole picture would be blurred.

    Maps are brought to ``patch_size`` times the grid (bilinear, pixel centres aligned) and filtered with a
    Gaussian of ``sigma`` pixels, cut after four of them, with mirrored borders.

    Args:
        maps: one value a patch, float64.
        patch_size: side of a patch in pixels.
        sigma: 0 is no blur.
        pixels: return the whole picture, rather than its values at the centres of the patches.

    Returns:
        float64 (B, rows, columns), or (B, rows * patch_size, columns * patch_size) of ``pixels``.
    """
    if sigma == 0 and not pixels:
        return maps
    rows, columns = (_matrix(length, patch_size, float(sigma), pixels) for length in maps.shape[1:])
    return np.asarray(rows @ maps @ columns.T)


@lru_cache(maxsize=16)
def stretching(length: int, pixels: int) -> Doubles:
    """Return the matrix (pixels, length) that resizes ``length`` values bilinearly, centres aligned."""
    centres = (np.arange(pixels) + 0.5) * length / pixels - 0.5
    return np.stack([np.interp(centres, np.arange(length), alone) for alone in np.eye(length)], axis=1)


@lru_cache(maxsize=16)
def _matrix(length: int, patch_size: int, sigma: float, pixels: bool) -> Doubles:
    """What `blurred` does to one side, (length, length) or (length * patch_size, length)."""
    side = length * patch_size
    picture = stretching(length, side)
    if sigma > 0:
        picture = gaussian_filter1d(picture, sigma, axis=0)
    return picture if pixels else stretching(side, length) @ picture
