"""The one record type of all data sets, and what holds records together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, overload

from zeroflaw.masks import mask_files
from zeroflaw.masks import read_mask as read_mask

Split: TypeAlias = Literal["train", "test"]


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
        mask: the file that marks the defective pixels, or several files, or a folder of files, that mark one
            defect each; None where there is none. A normal image needs none: all of it is normal.
    """

    dataset: str
    category: str
    split: Split
    label: int
    defect: str
    domain: str | None
    image: Path
    mask: Path | tuple[Path, ...] | None

    @property
    def masks(self) -> tuple[Path, ...]:
        """The files of the mask; empty where there is none."""
        return () if self.mask is None else mask_files(self.mask)

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
        ignore: the value of pixels in masks of which nothing is known; None where there is none.
    """

    dataset: str
    name: str
    train: Sequence[Record]
    test: Sequence[Record]
    problems: tuple[str, ...] = ()
    object: str | None = None
    missing: int = 0
    ignore: int | None = None

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
