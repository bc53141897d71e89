"""Reading the masks of data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zeroflaw.errors import DatasetError
from zeroflaw.finding import shown
from zeroflaw.images import read_image
from zeroflaw.listing import is_folder, list_folder

_LOSSY = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".webp"})


def read_mask(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask as bool ``(H, W)``, True where the image is defective.

    Every value above 0 is a defect, so that masks that number the kinds of defect work too; in formats
    that lose quality (JPEG, WebP) it is every value from 128 on, because their black is not quite black.
    A mask of another size but the same proportions (within the rounding of one pixel) takes the value of
    the nearest pixel.

    Args:
        path: the mask file, any mode that :func:`zeroflaw.images.read_image` reads; or a folder of masks of
            single defects, whose union is returned.
        shape: ``(H, W)`` of the image or map that it belongs to.

    Raises:
        ImageError: the file cannot be used.
        DatasetError: the mask has other proportions than ``shape``, or a folder holds none.
    """
    if not is_folder(path):
        return _fitted(path, shape)
    masks = list_folder(path).images
    if not masks:
        raise DatasetError(
            f"masks are wanted in '{shown(path)}', but there is none; unpack the data set again"
        )
    union = np.zeros(shape, dtype=bool)
    for mask in masks:
        union |= _fitted(mask, shape)
    return union


def read_marked(path: Path) -> NDArray[np.bool_]:
    """Return a mask file at its own size, bool ``(H, W)``; see :func:`read_mask`.

    Raises:
        ImageError: the file cannot be used.
    """
    lowest = 128 if path.suffix.lower() in _LOSSY else 1
    marked: NDArray[np.bool_] = np.asarray((read_image(path) >= lowest).any(axis=2))
    return marked


def _fitted(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    mask = read_marked(path)
    if mask.shape == tuple(shape):
        return mask
    if not _same_proportions(mask.shape, shape):
        raise DatasetError(
            f"mask '{shown(path)}' should fit an image of {shape[1]} x {shape[0]} pixels but has "
            f"{mask.shape[1]} x {mask.shape[0]}; use the mask that belongs to the image"
        )
    rows, columns = (_nearest(old, new) for old, new in zip(mask.shape, shape, strict=True))
    return mask[rows[:, None], columns]


def _same_proportions(one: tuple[int, ...], other: tuple[int, int]) -> bool:
    """Whether the smaller size is the larger one scaled down, each side rounded to a whole pixel."""
    (h, w), (tall, wide) = sorted((tuple(one), tuple(other)), key=lambda size: size[0] * size[1])
    if min(h, w) < 1:
        return False
    return abs(h - tall * w / wide) < 1 and abs(w - wide * h / tall) < 1


def _nearest(old: int, new: int) -> NDArray[np.intp]:
    """Return, for each of ``new`` pixel centres, the index of the pixel out of ``old`` that holds it."""
    return ((2 * np.arange(new) + 1) * old // (2 * new)).astype(np.intp)
