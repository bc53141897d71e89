"""The one record type of all data sets, what holds records together, and their masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from zeroflaw.errors import DatasetError
from zeroflaw.images import EXTENSIONS, read_image, shown

Split: TypeAlias = Literal["train", "test"]
_LOSSY = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".webp"})


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a data set.

    Attributes:
        dataset: name of the data set.
        category: name of the product.
        split: ``"train"`` (good images only) or ``"test"``.
        label: 0 normal, 1 anomalous.
        defect: kind of defect as the data set calls it; ``"good"`` for a normal image.
        domain: the part of the test set that the image belongs to, in data sets that are measured part by
            part (kind of shift, video, kind of solar cell); else None.
        image: the image file.
        mask: the file that marks the defective pixels, or a folder of files that mark one defect each; None
            where there is none. A normal image needs none: all of it is normal.
    """

    dataset: str
    category: str
    split: Split
    label: int
    defect: str
    domain: str | None
    image: Path
    mask: Path | None

    @property
    def key(self) -> str:
        """Name by its place in the data set: the same on every machine, and so is noise drawn for it."""
        parts = (self.category, self.split, self.defect, self.domain, self.image.name)
        return "/".join(part for part in parts if part is not None)


class LazyRecords(Sequence[Record]):
    """Records that are made when they are asked for, for data sets of more than 100,000 images.

    Args:
        length: number of records.
        make: returns the record with a number in ``0..length - 1``.
    """

    def __init__(self, length: int, make: Callable[[int], Record]) -> None:
        self._numbers, self._make = range(length), make

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> LazyRecords: ...
    def __getitem__(self, index: int | slice) -> Record | LazyRecords:
        if isinstance(index, slice):
            chosen, make = self._numbers[index], self._make
            return LazyRecords(len(chosen), lambda number: make(chosen[number]))
        return self._make(self._numbers[index])

    def __repr__(self) -> str:
        return f"LazyRecords({len(self)})"


@dataclass(frozen=True, slots=True)
class Category:
    """One product of a data set.

    Attributes:
        dataset: name of the data set.
        name: name of the product, as the folder is called.
        train: good images, sorted by path; may be empty.
        test: images to score, sorted by path.
        problems: what was left out or does not fit, one sentence each, to be shown to the user.
        object: what to call the product in a prompt where ``name`` does not say it (``"01"``); else None.
        missing: how many test images a table names, or are published, that are not there; while it is above
            0 every number is one of a part of the category.
    """

    dataset: str
    name: str
    train: Sequence[Record]
    test: Sequence[Record]
    problems: tuple[str, ...] = ()
    object: str | None = None
    missing: int = 0

    @property
    def prompt_name(self) -> str:
        """What to call the product in a prompt: ``object``, or ``name`` with blanks for underscores."""
        return self.object or self.name.replace("_", " ")

    @property
    def object_name(self) -> str:
        """What to tell a detector that knows the product: ``object``, or ``name`` as the folder is called.

        Detectors treat underscores each in their own way.
        """
        return self.object or self.name

    @property
    def domains(self) -> tuple[str, ...]:
        """The parts of the test set that are measured by themselves, sorted; empty where there are none."""
        return tuple(sorted({record.domain for record in self.test if record.domain is not None}))

    @property
    def has_masks(self) -> bool:
        """Whether pixel metrics are defined: at least one defective test image has a mask."""
        return any(record.mask is not None for record in self.test)

    @property
    def pixel_test(self) -> tuple[Record, ...]:
        """The test images that pixel metrics may use: normal ones, and defective ones with a mask.

        Empty where no mask exists at all. What is left out is named in ``problems``.
        """
        if not self.has_masks:
            return ()
        return tuple(record for record in self.test if record.label == 0 or record.mask is not None)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set: iterate over it for its categories.

    Attributes:
        name: name of the data set.
        categories: sorted by name, never empty.
        problems: sentences about what lies beside the categories; each category has its own as well.
        layout: which layout it was read in, one of :data:`zeroflaw.lab.datasets.LAYOUTS`.
    """

    name: str
    categories: tuple[Category, ...]
    problems: tuple[str, ...] = ()
    layout: str = "mvtec"

    def __iter__(self) -> Iterator[Category]:
        return iter(self.categories)

    def __len__(self) -> int:
        return len(self.categories)


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
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a folder may not be entered
        return _fitted(path, shape)
    masks = [file for file in sorted(path.glob("[!.]*")) if file.suffix.lower() in EXTENSIONS]
    if not masks:
        raise DatasetError(
            f"masks are wanted in '{shown(path)}', but there is none; unpack the data set again"
        )
    union: NDArray[np.bool_] = np.logical_or.reduce([_fitted(mask, shape) for mask in masks])
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
