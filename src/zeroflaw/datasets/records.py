"""The one record type of all data sets, and what holds records together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a data set.

    Attributes:
        dataset: name of the data set.
        category: name of the product.
        split: ``"train"`` (good images only) or ``"test"``.
        label: 0 normal, 1 anomalous.
        defect: kind of defect as the data set calls it; ``"good"`` for a normal image.
        domain: kind of shift the image was taken under, in data sets that have shifts; else None.
        image: the image file.
        mask: the file that marks the defective pixels; None where there is none. A normal image needs none:
            all of it is normal.
    """

    dataset: str
    category: str
    split: Literal["train", "test"]
    label: int
    defect: str
    domain: str | None
    image: Path
    mask: Path | None


@dataclass(frozen=True, slots=True)
class Category:
    """One product of a data set.

    Attributes:
        dataset: name of the data set.
        name: name of the product, as the folder is called.
        train: good images, sorted by path; may be empty.
        test: images to score, sorted by path.
        problems: what was left out or does not fit, one sentence each, to be shown to the user.
    """

    dataset: str
    name: str
    train: tuple[Record, ...]
    test: tuple[Record, ...]
    problems: tuple[str, ...] = ()

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
    """

    name: str
    categories: tuple[Category, ...]
    problems: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Category]:
        return iter(self.categories)

    def __len__(self) -> int:
        return len(self.categories)
