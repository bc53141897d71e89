"""Connected regions of a mask, by runs and union-find (Rosenfeld and Pfaltz, 1966), without a pixel loop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def label_regions(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Number the 8-connected regions of a mask.

    Args:
        mask: bool ``(H, W)``.

    Returns:
        int32 ``(H, W)``: 0 outside, 1..R inside, in the order in which a scan by rows meets the regions;
        and the number of regions R.
    """
    starts, ends, stride = _runs(mask)
    roots = _union(len(starts), *_touching(starts, ends, stride))
    names, of_run = np.unique(roots, return_inverse=True)
    labels = np.zeros(mask.shape, dtype=np.int32)
    labels[mask] = np.repeat(of_run.astype(np.int32) + 1, ends - starts)
    return labels, len(names)


def _runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return first and one-past-last positions of the runs of True in each row, and the step between rows.

    Positions count over rows that are padded by one column on either side, so that no run crosses a row
    and runs of different rows that touch only around the edge do not look adjacent.
    """
    padded = np.pad(mask, ((0, 0), (1, 1))).ravel().view(np.int8)
    change = np.diff(padded, prepend=np.int8(0))
    return np.flatnonzero(change == 1), np.flatnonzero(change == -1), mask.shape[1] + 2


def _touching(
    starts: NDArray[np.int64], ends: NDArray[np.int64], stride: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all pairs (run, run of the row above) that touch, corners included, as two index arrays."""
    first = np.searchsorted(ends, starts - stride, side="left")
    beyond = np.searchsorted(starts, ends - stride, side="right")
    count = np.maximum(beyond - first, 0)
    run = np.repeat(np.arange(len(starts)), count)
    within = np.arange(len(run)) - np.repeat(np.cumsum(count) - count, count)
    return run, np.repeat(first, count) + within


def _union(size: int, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the smallest member of each item's class, where ``one[k]`` and ``other[k]`` are of one class."""
    parent = np.arange(size)
    while True:
        a, b = parent[one], parent[other]
        if np.array_equal(a, b):
            return parent
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(parent, grand := parent[parent]):
            parent = grand
