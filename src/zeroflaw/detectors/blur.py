"""Gaussian blur of anomaly maps, measured in pixels but applied to patches.

Published code brings a map to the size of the network's input, bilinearly, and blurs it there. All of that is
linear and goes row by row and column by column, so its effect on the patch grid is one small matrix a side.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 4.0  # standard deviations after which the kernel is cut, as scipy does


def blurred(maps: Tensor, patch_size: int, sigma: float) -> Tensor:
    """Blur maps (B, rows, columns): float64, the values at the centres of the patches.

    The result is what upsampling to ``patch_size`` times the grid (bilinear, pixel centres aligned), a
    Gaussian filter of ``sigma`` pixels with mirrored borders, and a look at each patch's centre give.
    """
    maps = maps.double()
    if sigma == 0:
        return maps
    rows, columns = (_matrix(length, patch_size, float(sigma)) for length in maps.shape[1:])
    return torch.einsum("ry,byx,cx->brc", rows, maps, columns)


@lru_cache(maxsize=16)
def stretching(length: int, pixels: int) -> Tensor:
    """The matrix (pixels, length) that brings ``length`` values to ``pixels`` bilinearly, centres aligned.

    As a product of matrices the way back is the same on every run, which that of CUDA's own resizing is not.
    """
    ones = torch.eye(length, dtype=torch.float64)[:, None]  # each value alone
    return F.interpolate(ones, size=pixels, mode="linear", align_corners=False)[:, 0].T.contiguous()


@lru_cache(maxsize=16)
def _matrix(length: int, patch_size: int, sigma: float) -> Tensor:
    """Blurred patch values from patch values along one side, (length, length); rows sum to one."""
    pixels = length * patch_size
    spread = stretching(length, pixels).T  # (length, pixels)
    reach = int(REACH * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    # numpy mirrors again and again where the kernel reaches further than the side.
    padded = np.pad(spread.numpy(), ((0, 0), (reach, reach)), mode="symmetric")
    smooth = np.stack([np.convolve(row, kernel / kernel.sum(), mode="valid") for row in padded])
    return stretching(pixels, length) @ torch.from_numpy(smooth).T
