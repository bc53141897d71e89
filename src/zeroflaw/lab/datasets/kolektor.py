"""KolektorSDD (Tabernik et al., J. Intell. Manuf. 2020): cracks in the surface of electrical commutators::

    <root>/kos01/Part0.jpg
    <root>/kos01/Part0_label.bmp       black where there is no defect
    ...
    <root>/kos50/Part7.jpg

An image is defective where its label file has a pixel above black, so that this one data set has its masks
read when it is listed (399 small files). There is no split: all images are test images. Its successor
KolektorSDD2 has another layout.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from zeroflaw.errors import DatasetError, ImageError
from zeroflaw.finding import shown
from zeroflaw.listing import Listing, count, folder_name, found_in, list_folder, names, require_folder, twins
from zeroflaw.masks import read_marked
from zeroflaw.records import Category, Dataset, Record

from .category import GOOD, Reader

OBJECT = "electrical commutator"
_NAME = "commutator"
_ITEM = re.compile(r"kos\d+", re.IGNORECASE)
_ENDING = "_label"


def is_kolektor(folder: Path) -> bool:
    """Whether a folder holds items of KolektorSDD."""
    return bool(_items(list_folder(folder)))


def open_kolektor(root: str | os.PathLike[str]) -> Dataset:
    """List KolektorSDD: one category, every image a test image.

    Raises:
        DatasetError: ``root`` is no folder, has no folder ``kos..``, or no image with a label in them.
    """
    folder = require_folder(root)
    listing, name = list_folder(folder), folder_name(folder)
    items = _items(listing)
    if not items:
        raise DatasetError(
            "KolektorSDD is wanted with kos01/Part0.jpg and kos01/Part0_label.bmp, but "
            f"'{shown(folder)}' holds {found_in(folder)}; check the path"
        )
    reader = _Items(folder, name)
    records = [record for item in items for record in reader.item(item.name)]
    problems = []
    if left_out := [path for path in listing.folders if path not in items]:
        problems.append(f"{name}: folders other than kos.. were left out: {names(left_out)}.")
    if not records:
        raise DatasetError(
            f"images with labels are wanted in the folders of '{shown(folder)}', but there is none; unpack "
            f"the archive again ({' '.join(reader.problems)})"
        )
    reader.note_one_sided("", records)
    category = Category(name, _NAME, (), tuple(records), tuple(reader.problems), OBJECT, reader.missing)
    return Dataset(name, (category,), tuple(problems), "kolektorsdd")


def _items(listing: Listing) -> list[Path]:
    return [path for path in listing.folders if _ITEM.fullmatch(path.name)]


class _Items(Reader):
    """Reads the images of one item after another."""

    def __init__(self, folder: Path, dataset: str) -> None:
        super().__init__(folder, dataset, _NAME)
        self.missing = 0

    def item(self, where: str) -> list[Record]:
        """Return the records of a folder; what lacks a label that can be read is left out."""
        files = self._single(where)
        labels = {path.stem: path for path in files if path.stem.endswith(_ENDING)}
        images = [path for path in files if not path.stem.endswith(_ENDING)]
        pairs = {image: labels.pop(image.stem + _ENDING, None) for image in images}
        if bare := [image for image, label in pairs.items() if label is None]:
            self.missing += len(bare)
            self.note(where, f"left out {count(len(bare), 'image')} without a label: {names(bare)}")
        if labels:
            self.missing += len(labels)
            spare = sorted(labels.values())
            self.note(where, f"{count(len(spare), 'label')} without an image: {names(spare)}")
        judged = [self._judge(where, image, label) for image, label in pairs.items() if label is not None]
        return [record for record in judged if record is not None]

    def _single(self, where: str) -> list[Path]:
        """List the files of a folder without those that share a name, and what belongs to them."""
        listed = self.images(where)
        doubtful = twins(listed)
        stems = {path.stem.removesuffix(_ENDING) for path in doubtful}
        if doubtful:
            self.missing += len(stems)
            self.note(where, f"left out files that share a name but for the extension: {names(doubtful)}")
        return [path for path in listed if path.stem.removesuffix(_ENDING) not in stems]

    def _judge(self, where: str, image: Path, label: Path) -> Record | None:
        try:
            defective = bool(read_marked(label).any())
        except ImageError as error:
            self.missing += 1
            self.note(where, f"left out {shown(image.name)}, whose label cannot be read ({error.reason})")
            return None
        defect, mask = ("defect", label) if defective else (GOOD, None)
        return Record(self.dataset, self.name, "test", int(defective), defect, None, image, mask)
